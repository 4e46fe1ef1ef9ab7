/*
 * One system call, or a short run of them, in a loop: micro OP SIZE COUNT PROCESSES [PER_SECOND].
 *
 * Prints how many times it was done, and the nanoseconds of wall and of CPU time that took; making the processes and the
 * file is not counted. C, so that no interpreter hides what a recorder adds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAPPED_BYTES = 16 << 20, PAGE = 4096, MOST_BYTES = 1 << 20, BETWEEN_CLOCKS = 64, MOST_PROCESSES = 64 };

struct work {
	long size, count, per_second;
	int number; /* of the process */
};

static char buffer[MOST_BYTES];

static void must(int is_right, const char *what)
{
	if (!is_right) {
		perror(what);
		exit(1);
	}
}

static long now_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static int open_file(const char *form, int number, int flags)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), form, number);
	fd = open(name, O_RDWR | O_CREAT | flags, 0644);
	must(fd >= 0, "open");
	return fd;
}

static void write_file(struct work *work)
{
	int fd = open_file("written%d", work->number, O_TRUNC);

	for (long i = 0; i < work->count; i++)
		must(write(fd, buffer, work->size) == work->size, "write");
}

/* Write no faster than asked for. */
static void pace(struct work *work)
{
	int fd = open_file("paced%d", work->number, O_TRUNC);
	long began = now_ns(CLOCK_MONOTONIC), ahead;
	struct timespec pause = {0};

	for (long i = 0; i < work->count; i++) {
		must(write(fd, buffer, work->size) == work->size, "write");
		if (i % BETWEEN_CLOCKS)
			continue;
		ahead = began + (long)(1e9 / work->per_second * i) - now_ns(CLOCK_MONOTONIC);
		pause.tv_nsec = ahead % 1000000000L;
		if (ahead > 50000)
			nanosleep(&pause, 0);
	}
}

static void append(struct work *work)
{
	int fd = open_file("appended", 0, O_APPEND);

	for (long i = 0; i < work->count; i++)
		must(write(fd, buffer, work->size) == work->size, "write");
}

static void churn(struct work *work)
{
	char first[64], second[64];
	int fd;

	for (long i = 0; i < work->count; i++) {
		snprintf(first, sizeof(first), "new%d.%ld", work->number, i);
		snprintf(second, sizeof(second), "old%d.%ld", work->number, i);
		fd = open(first, O_WRONLY | O_CREAT | O_EXCL, 0644);
		must(fd >= 0, "open");
		must(write(fd, buffer, work->size) == work->size, "write");
		close(fd);
		must(!rename(first, second), "rename");
		must(!unlink(second), "unlink");
	}
}

static void ask_parent(struct work *work)
{
	for (long i = 0; i < work->count; i++)
		syscall(SYS_getppid);
}

static void read_zeros(struct work *work)
{
	int fd = open("/dev/zero", O_RDONLY);

	for (long i = 0; i < work->count; i++)
		must(read(fd, buffer, work->size) == work->size, "read");
}

/* One word of each page in turn: a store, not a call. */
static void store(struct work *work)
{
	int fd = open_file("mapped%d", work->number, 0);
	volatile char *map;

	must(!ftruncate(fd, MAPPED_BYTES), "ftruncate");
	map = mmap(0, MAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(map != MAP_FAILED, "mmap");
	for (long i = 0; i < work->count; i++)
		*(volatile long *)(map + i * PAGE % MAPPED_BYTES) = i;
}

static const struct {
	const char *name;
	void (*run)(struct work *);
} operations[] = {
	{"write", write_file}, {"pace", pace}, {"append", append}, {"churn", churn}, {"getppid", ask_parent},
	{"zero", read_zeros}, {"store", store},
};

static void run(const char *name, struct work *work)
{
	for (unsigned i = 0; i < sizeof(operations) / sizeof(*operations); i++)
		if (!strcmp(operations[i].name, name)) {
			operations[i].run(work);
			return;
		}
	must(0, name);
}

static void run_all(const char *name, struct work *work, int processes)
{
	int status;

	if (processes == 1) {
		run(name, work);
		return;
	}
	for (work->number = 0; work->number < processes; work->number++)
		if (!fork()) {
			run(name, work);
			_exit(0);
		}
	while (wait(&status) > 0)
		must(!status, "a process");
}

static long cpu_ns(int who)
{
	struct rusage used;

	getrusage(who, &used);
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000L +
	       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000L;
}

int main(int count, char **words)
{
	struct work work = {0};
	int processes;
	long wall, cpu;

	must(count >= 5, "micro OP SIZE COUNT PROCESSES [PER_SECOND]");
	processes = atoi(words[4]);
	work.size = atol(words[2]);
	work.count = atol(words[3]) / processes;
	work.per_second = count > 5 ? atol(words[5]) / processes : 1;
	must(work.size <= MOST_BYTES && processes <= MOST_PROCESSES, "less");
	memset(buffer, 'x', sizeof(buffer));
	cpu = cpu_ns(RUSAGE_SELF);
	wall = now_ns(CLOCK_MONOTONIC);
	run_all(words[1], &work, processes);
	wall = now_ns(CLOCK_MONOTONIC) - wall;
	cpu = cpu_ns(RUSAGE_SELF) + cpu_ns(RUSAGE_CHILDREN) - cpu;
	printf("%ld %ld %ld\n", work.count * processes, wall, cpu);
	return 0;
}
