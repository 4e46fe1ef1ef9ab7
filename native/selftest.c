// SPDX-License-Identifier: Apache-2.0
/*
 * Tries every hook at start (docs/decisions/0019): attached is not working. The operations are done on a file without a
 * name, the records of them taken from the ring before anyone else sees it, and the kernel asked which programs ran.
 */
#include "capture.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 4096, TRIES = 4 };

/* What must have come of the operations: each a bit. */
enum {
	TOLD_WRITE = 1,
	TOLD_IN_LOCK = 2,
	TOLD_COPY = 4,
	TOLD_CACHE = 8,
	TOLD_SIZE = 16,
	TOLD_MODE = 32,
	TOLD_OPEN = 64,
	TOLD_CLOSE = 128,
};
static const struct {
	unsigned bit;
	const char *words;
} told_words[] = {
	{TOLD_WRITE, "writes"},
	{TOLD_IN_LOCK, "places-of-writes"},
	{TOLD_COPY, "copies"},
	{TOLD_CACHE, "bytes-of-copies"},
	{TOLD_SIZE, "truncations"},
	{TOLD_MODE, "modes"},
	{TOLD_OPEN, "opens"},
	{TOLD_CLOSE, "closes"},
};

/* In capture->trial while records go to take_trial_record(). */
struct trial {
	uint64_t ino;
	unsigned told;
	unsigned char *kept; /* records of others, one after another: the journal gets them when it is there */
	size_t kept_bytes;
};

static const char text[] = "diffkeeper tries its hooks";

static bool is_text(const void *data, uint32_t length)
{
	return length == sizeof(text) && !memcmp(data, text, sizeof(text));
}

static void keep(struct trial *trial, const void *data, size_t size)
{
	unsigned char *grown = realloc(trial->kept, trial->kept_bytes + size);

	if (!grown)
		return; /* what was before the baseline is in the baseline */
	trial->kept = grown;
	memcpy(trial->kept + trial->kept_bytes, data, size);
	trial->kept_bytes += size;
}

void take_trial_record(struct capture *capture, const void *data)
{
	struct trial *trial = capture->trial;
	const struct dk_header *header = data;
	const struct dk_inode *inode =
		(const void *)(header + 1); /* where data, copy, size, open, attr, close have it */
	unsigned told = 0;

	if (header->type == DK_PIECE) {
		const struct dk_piece *piece = data;

		if (is_text(piece + 1, piece->payload))
			trial->told |= TOLD_CACHE;
		else
			keep(trial, data, header->size);
		return;
	}
	if (header->type == DK_PROCESS && header->pid == (uint32_t)getpid())
		return;
	switch (header->type) {
	case DK_DATA:
		if (is_text((const struct dk_data *)data + 1, ((const struct dk_data *)data)->payload))
			told = TOLD_WRITE | (header->flags & DK_F_IN_LOCK ? TOLD_IN_LOCK : 0);
		break;
	case DK_COPY:
		told = TOLD_COPY;
		break;
	case DK_SIZE:
		told = TOLD_SIZE;
		break;
	case DK_ATTR:
		told = TOLD_MODE;
		break;
	case DK_OPEN:
		told = TOLD_OPEN;
		break;
	case DK_CLOSE:
		told = TOLD_CLOSE;
		break;
	}
	if (header->type == DK_NAME || header->type >= DK_OUTPUT || inode->ino != trial->ino)
		keep(trial, data, header->size);
	else
		trial->told |= told;
}

static void *do_nothing(void *nothing)
{
	return nothing;
}

/* A file in memory with the text, as the source of a copy from outside. */
static int open_source(void)
{
	int fd = memfd_create("diffkeeper", MFD_CLOEXEC);

	if (fd >= 0 && pwrite(fd, text, sizeof(text), 0) != sizeof(text)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Each hook once. A hook that stands for what happens seldom (a tick of the clock between) is given several chances. */
static void operate(int fd)
{
	int source = open_source(), again, direct;
	char link[64];
	struct stat status;
	pthread_t thread;
	static _Alignas(BLOCK) char block[BLOCK];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (write(fd, text, sizeof(text)) < 0 || lseek(fd, BLOCK, SEEK_SET) < 0)
		errno = 0;
	if (source >= 0) {
		off_t from = 0;

		if (sendfile(fd, source, &from, sizeof(text)) < 0)
			errno = 0;
		close(source);
	}
	for (int i = 0; i < TRIES; i++) {
		/* Who has asked for the time gets a finer one at the next change; who has not may get the same. */
		fstat(fd, &status);
		fchmod(fd, 0640);
		fchmod(fd, 0644);
	}
	if (ftruncate(fd, 16 * BLOCK))
		errno = 0;
	direct = open(link, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (direct >= 0) {
		if (pread(direct, block, BLOCK, 8 * BLOCK) < 0) /* a hole: no disk is asked */
			errno = 0;
		close(direct);
	}
	again = open(link, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (again >= 0)
		close(again);
	if (!pthread_create(&thread, NULL, do_nothing, NULL))
		pthread_join(thread, NULL);
}

/*
 * A file without a name: no directory changes for it. In the trace's own directory, else in the root. The owner of the
 * trace may read it, whatever the mask: else no bytes of it were recorded.
 */
static int open_scratch(struct capture *capture, int root)
{
	int fd = -1;
	struct stat here, there;

	if (capture->scratch_fd >= 0 && !fstat(capture->scratch_fd, &here) && !fstat(root, &there) &&
		here.st_dev == there.st_dev)
		fd = openat(capture->scratch_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		fchmod(fd, 0644);
	return fd;
}

static uint64_t runs_of(struct capture *capture, const struct bpf_program *program)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	return capture->lib.program_info(capture->lib.program_fd(program), &info, &size) ? 0 : info.run_cnt;
}

static void add_silent(struct capture *capture, const char *words)
{
	if (strstr(capture->silent, words) || strlen(capture->silent) + strlen(words) + 2 > sizeof(capture->silent))
		return;
	strcat(strcat(capture->silent, *capture->silent ? " " : ""), words);
}

/* Must a program have run? Others wait for what is not done here: an exec, writing back, another mode of ext4. */
static bool must_run(int root, const char *name)
{
	if (!strncmp(name, "touch_", 6))
		return tells_touches(root) && strcmp(name, "touch_ext4");
	if (!strncmp(name, "direct_", 7))
		return uses_iomap_for_direct(root);
	return !strcmp(name, "enter") || !strcmp(name, "leave") || !strcmp(name, "process_forked") ||
	       !strcmp(name, "process_exited");
}

static void judge_programs(struct capture *capture, int root)
{
	for (int i = 0; i < capture->program_count; i++) {
		const struct bpf_program *program = capture->programs[i];
		const char *name = capture->lib.program_name(program);

		if (must_run(root, name) && !runs_of(capture, program))
			add_silent(capture, name);
	}
}

static void judge_records(struct capture *capture, int root, unsigned told)
{
	unsigned wanted = TOLD_WRITE | TOLD_COPY | TOLD_SIZE | TOLD_MODE | TOLD_OPEN | TOLD_CLOSE;

	if (has_lock_tracepoints(root))
		wanted |= TOLD_IN_LOCK;
	if (has_cache_tracepoints(root) && capture->counters->linear_map)
		wanted |= TOLD_CACHE;
	for (size_t i = 0; i < sizeof(told_words) / sizeof(*told_words); i++)
		if (wanted & ~told & told_words[i].bit)
			add_silent(capture, told_words[i].words);
}

static void try_root(struct capture *capture, const struct root *root, struct trial *trial)
{
	int places = capture->lib.map_fd(capture->lib.find_map(capture->object, "places"));
	struct dk_place place = {.dev = root->dev};
	uint32_t kind = DK_PLACE_ROOT;
	int fd = root->fd < 0 ? -1 : open_scratch(capture, root->fd);
	struct stat status;

	if (fd < 0 || fstat(fd, &status)) {
		capture->is_untried = true; /* a file system without nameless files, or one that is read only */
		if (fd >= 0)
			close(fd);
		return;
	}
	place.ino = trial->ino = status.st_ino;
	trial->told = 0;
	if (!capture->lib.update(places, &place, &kind, BPF_ANY)) {
		__atomic_add_fetch(&capture->counters->epoch, 1, __ATOMIC_RELAXED); /* it was judged when it was made */
		operate(fd);
		take_records(capture);
		capture->lib.remove(places, &place);
		__atomic_add_fetch(&capture->counters->epoch, 1, __ATOMIC_RELAXED);
		judge_programs(capture, root->fd);
		judge_records(capture, root->fd, trial->told);
	}
	close(fd);
	take_records(capture);
}

/* Ask the kernel to count runs while the descriptor is open; -1 where it cannot. */
static int count_runs(void)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.enable_stats.type = BPF_STATS_RUN_TIME;
	return syscall(SYS_bpf, BPF_ENABLE_STATS, &attributes, sizeof(attributes));
}

void try_hooks(struct capture *capture)
{
	struct trial trial = {0};
	int counting = count_runs();

	capture->trial = &trial;
	capture->is_untried = counting < 0;
	for (int i = 0; i < capture->root_count && counting >= 0; i++) {
		bool is_known = false;

		for (int j = 0; j < i; j++)
			is_known |= capture->roots[j].dev == capture->roots[i].dev;
		if (!is_known)
			try_root(capture, &capture->roots[i], &trial);
	}
	capture->trial = NULL;
	capture->kept = trial.kept;
	capture->kept_bytes = trial.kept_bytes;
	if (counting >= 0)
		close(counting);
}

/* What the trial found wanting, and, as bits: 1 nothing could be tried; 2, 4 the hole detector sees touches, bytes. */
const char *dk_silent(struct capture *capture, int *bits)
{
	*bits = capture->is_untried | capture->finds_touches << 1 | capture->finds_bytes << 2;
	return capture->silent;
}
