// SPDX-License-Identifier: Apache-2.0
/*
 * storm SEED PROCESSES STEPS FAMILY…: several processes do whatever may be done to files, on the same few names.
 *
 * In the manner of fsx (bytes and sizes of one file in every way) and fsstress (names and metadata of a tree). What
 * each process does follows from the seed alone; how they interleave is up to the machine. With STORM_LOG=FOLDER each
 * writes down what it did, with the times of CLOCK_MONOTONIC around it.
 */
#include "storm.h"
#include <signal.h>
#include <stdarg.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static const struct family *const families[] = {
	&bytes_family,
	&names_family,
	&metadata_family,
	&sharing_family,
	&outside_family,
	&mapped_family,
};

/* xorshift64*, Vigna 2016: small, and the same everywhere. */
static uint64_t roll(struct actor *actor)
{
	actor->dice ^= actor->dice >> 12;
	actor->dice ^= actor->dice << 25;
	actor->dice ^= actor->dice >> 27;
	return actor->dice * 2685821657736338717ULL;
}

unsigned below(struct actor *actor, unsigned limit)
{
	return (unsigned)((roll(actor) >> 33) % limit);
}

bool once_in(struct actor *actor, unsigned times)
{
	return below(actor, times) == 0;
}

const char *a_folder(struct actor *actor)
{
	static const char *const folders[] = {"x", "y", "x/z", "y/z", "y/w", "x/z/v"};

	return folders[below(actor, COUNT(folders))];
}

const char *a_name(struct actor *actor)
{
	static char names[8][64];
	static unsigned next;
	char *name = names[next++ % COUNT(names)];

	if (once_in(actor, 12))
		return a_folder(actor);
	if (once_in(actor, 3))
		snprintf(name, sizeof(names[0]), "f%u", below(actor, 5));
	else
		snprintf(name, sizeof(names[0]), "%s/f%u", a_folder(actor), below(actor, 4));
	return name;
}

void keep(struct actor *actor, int fd)
{
	int *slot = &actor->slots[below(actor, SLOTS)];

	if (fd < 0)
		return;
	if (*slot >= 0)
		close(*slot);
	*slot = fd;
}

int a_slot(struct actor *actor)
{
	int *slot = &actor->slots[below(actor, SLOTS)];

	if (*slot < 0) {
		const char *name = a_name(actor);

		*slot = open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0644);
		note(actor, "slot %d is %s", *slot, name);
	}
	return *slot;
}

size_t a_length(struct actor *actor)
{
	static const size_t lengths[] = {1, 16, 500, 4096, 5000, 12288, LONGEST};

	return once_in(actor, 3) ? 1 + below(actor, 9000) : lengths[below(actor, COUNT(lengths))];
}

off_t an_offset(struct actor *actor)
{
	if (once_in(actor, 40))
		return below(actor, 1 << 22);
	return once_in(actor, 4) ? 4096 * (off_t)below(actor, 20) : (off_t)below(actor, 80000);
}

const char *some_bytes(struct actor *actor, size_t length)
{
	static char bytes[LONGEST + 16];

	for (size_t at = 0; at <= length; at += 8) {
		uint64_t word = (uint64_t)actor->number << 56 | (uint64_t)actor->step << 24 | at;

		memcpy(bytes + at, &word, sizeof(word));
	}
	return bytes;
}

static unsigned long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

void note(struct actor *actor, const char *format, ...)
{
	va_list values;

	if (!actor->log)
		return;
	fprintf(actor->log, "%llu   ", now_ns());
	va_start(values, format);
	vfprintf(actor->log, format, values);
	va_end(values);
	fputc('\n', actor->log);
}

static void run_one(struct actor *actor, const struct operation *operation)
{
	unsigned long long before = actor->log ? now_ns() : 0;
	long result = operation->run(actor);

	if (actor->log) {
		fprintf(actor->log, "%llu-%llu #%u %s = %ld\n", before, now_ns(), actor->step, operation->name, result);
		fflush(actor->log);
	}
}

/* Folders are moved, removed, and files take their names: without this there would soon be none. */
static void restore_folders(void)
{
	static const char *const folders[] = {"x", "y", "x/z", "y/z", "x/z/v"};
	struct stat status;

	for (size_t i = 0; i < COUNT(folders); i++) {
		if (lstat(folders[i], &status) == 0 && !S_ISDIR(status.st_mode))
			unlink(folders[i]);
		mkdir(folders[i], 0755);
	}
}

static void act(struct actor *actor, const struct family **chosen, size_t count, unsigned steps)
{
	for (actor->step = 0; actor->step < steps; actor->step++) {
		const struct family *family = chosen[below(actor, count)];
		unsigned all = 0, at;
		size_t i;

		if (actor->step % 100 == 0)
			restore_folders();
		for (i = 0; i < family->count; i++)
			all += family->operations[i].weight;
		at = below(actor, all);
		for (i = 0; at >= family->operations[i].weight; i++)
			at -= family->operations[i].weight;
		run_one(actor, &family->operations[i]);
	}
}

static void wake(int number)
{
	(void)number;
}

/* Some calls wait for ever, such as creat() of what is a fifo by now: let none wait longer than this. */
static void interrupt_waiting(void)
{
	struct sigaction action = {.sa_handler = wake}; /* without SA_RESTART */
	struct itimerval often = {{0, 50000}, {0, 50000}};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

static void be_actor(unsigned number, uint64_t seed, const struct family **chosen, size_t count, unsigned steps)
{
	struct actor actor = {
		.dice = (seed + 1) * 0x9E3779B97F4A7C15ULL + number * 0xD1B54A32D192ED03ULL, .number = number};
	const char *logs = getenv("STORM_LOG");
	char path[4096];

	for (size_t i = 0; i < SLOTS; i++)
		actor.slots[i] = -1;
	if (pipe(actor.pipes) != 0)
		exit(1);
	actor.root = open(".", O_RDONLY | O_DIRECTORY);
	if (logs) {
		snprintf(path, sizeof(path), "%s/actor%u", logs, number);
		actor.log = fopen(path, "we");
	}
	interrupt_waiting();
	act(&actor, chosen, count, steps);
	exit(0);
}

static size_t choose(int argc, char **argv, const struct family **chosen)
{
	size_t count = 0;

	for (int at = 4; at < argc; at++)
		for (size_t i = 0; i < COUNT(families); i++)
			if (strcmp(argv[at], families[i]->name) == 0)
				chosen[count++] = families[i];
	return count;
}

int main(int argc, char **argv)
{
	const struct family *chosen[16];
	size_t count = argc > 4 && argc < 20 ? choose(argc, argv, chosen) : 0;
	int failed = 0, status;

	if (count == 0 || count != (size_t)argc - 4) {
		dprintf(2, "usage: storm SEED PROCESSES STEPS FAMILY…: bytes names metadata sharing outside mapped\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	for (int number = 0; number < atoi(argv[2]); number++)
		if (fork() == 0)
			be_actor(number, strtoull(argv[1], NULL, 10), chosen, count, strtoul(argv[3], NULL, 10));
	while (wait(&status) > 0)
		failed |= status;
	return failed != 0;
}
