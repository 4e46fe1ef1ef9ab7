// SPDX-License-Identifier: Apache-2.0
/*
 * Leases on files, and copies of the files whose leases are broken (docs/decisions/0014). Whoever breaks a lease waits
 * in the kernel, so nothing here may take long: what cannot be copied in time is let go.
 *
 * The kernel tells a broken lease by a queued signal that names the descriptor. If the queue is full it sends SIGIO
 * instead, and every descriptor is looked at.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "holder.h"
#include "unseen.h"

#define LONGEST_WAIT SECOND
#define LARGEST_COPY (1ull << 30) /* while somebody waits */
#define LARGEST_IDLE_COPY (8ull << 30)
enum { PAUSES_PER_SWEEP = 50 };

void beat(struct holder *holder)
{
	__atomic_store_n(&holder->page->beat_ns, monotonic_ns(), __ATOMIC_RELAXED);
}

static int64_t mtime_of(const struct stat *status)
{
	return status->st_mtim.tv_sec * (int64_t)SECOND + status->st_mtim.tv_nsec;
}

static bool is_as_indexed(int fd, const struct held_file *file)
{
	struct stat status;

	return fstat(fd, &status) == 0 && (uint64_t)status.st_size == file->size && mtime_of(&status) == file->mtime_ns;
}

/* ---- letting go ---- */

void forget(struct holder *holder, int fd)
{
	if (holder->held[fd].state == BREAKING)
		holder->breaking--;
	holder->held[fd].state = FREE;
	holder->page->held--;
	close(fd);
}

bool release(int fd)
{
	return fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

void seal_some(struct holder *holder)
{
	struct copy *last = &holder->unsealed[--holder->unsealed_count];
	int left = 0;

	image_seal(&holder->images, last);
	if (last->head.state != IMAGE_CLONED)
		return;
	for (int i = 0; i < holder->unsealed_count; i++) /* what was synced for one clone was so for all before it */
		if (holder->unsealed[i].is_clone)
			image_clone_is_on_disk(&holder->images, &holder->unsealed[i]);
		else
			holder->unsealed[left++] = holder->unsealed[i];
	holder->unsealed_count = left;
}

static void finish(struct holder *holder, int fd, struct copy *copy)
{
	struct held *held = &holder->held[fd];
	enum image_state state = copy->head.state;
	uint64_t waited;

	if (state == IMAGE_BEGUN)
		state = is_as_indexed(fd, &held->file) ? IMAGE_COPIED : IMAGE_CHANGED;
	if (!release(fd) && state == IMAGE_COPIED)
		state = IMAGE_LET_GO;
	if (held->state == BREAKING && (waited = monotonic_ns() - held->broken_ns) > holder->page->longest_ns)
		holder->page->longest_ns = waited;
	image_end(&holder->images, copy, state);
	if (copy->head.state == IMAGE_COPIED) {
		holder->page->copied++;
		holder->page->copied_bytes += copy->head.size;
		if (holder->unsealed_count == UNSEALED)
			seal_some(holder);
		holder->unsealed[holder->unsealed_count++] = *copy;
	} else {
		holder->page->let_go++;
	}
	forget(holder, fd);
}

/* ---- broken leases ---- */

static void note_break(struct holder *holder, int fd)
{
	struct held *held = fd >= 0 && fd < holder->room ? &holder->held[fd] : NULL;

	if (!held || held->state != HELD)
		return;
	held->state = BREAKING;
	held->broken_ns = monotonic_ns();
	holder->breaking++;
	holder->page->broken++;
}

/* F_GETLEASE says what the lease is being broken to. */
static void note_all_breaks(struct holder *holder)
{
	for (int fd = 0; fd <= holder->highest; fd++)
		if (holder->held[fd].state == HELD && fcntl(fd, F_GETLEASE) == F_UNLCK)
			note_break(holder, fd);
}

static void take_signals(struct holder *holder)
{
	struct signalfd_siginfo infos[64];
	ssize_t got;

	while ((got = read(holder->signals, infos, sizeof(infos))) > 0)
		for (size_t i = 0; i < got / sizeof(infos[0]); i++) {
			if (infos[i].ssi_signo == BREAK_SIGNAL)
				note_break(holder, infos[i].ssi_fd);
			else
				note_all_breaks(holder);
		}
}

/* The smallest first: the sum of the waits is least then. */
static int next_breaking(const struct holder *holder)
{
	int next = -1;

	for (int fd = 0; fd <= holder->highest; fd++) {
		if (holder->held[fd].state != BREAKING)
			continue;
		if (next < 0 || holder->held[fd].file.size < holder->held[next].file.size)
			next = fd;
	}
	return next;
}

static void copy_broken(struct holder *holder, int fd)
{
	const struct held *held = &holder->held[fd];
	uint64_t deadline = held->broken_ns + LONGEST_WAIT;
	struct copy copy;

	if (image_begin(&holder->images, &copy, fd, held->file.index, held->file.size)) {
		if (!copy.is_clone && held->file.size > LARGEST_COPY)
			copy.head.state = IMAGE_TOO_LARGE;
		while (copy.head.state == IMAGE_BEGUN && !image_go_on(&holder->images, &copy)) {
			beat(holder);
			take_signals(holder); /* so that it is known since when others wait */
			if (monotonic_ns() > deadline)
				copy.head.state = IMAGE_TOO_SLOW;
		}
	}
	finish(holder, fd, &copy);
}

void serve_breaks(struct holder *holder)
{
	take_signals(holder);
	while (holder->breaking) {
		copy_broken(holder, next_breaking(holder));
		beat(holder);
		take_signals(holder);
	}
}

/* ---- files that nobody opens for writing, and that go away ---- */

void copy_now(struct holder *holder, int fd, uint64_t deadline)
{
	const struct held *held = &holder->held[fd];
	struct copy copy;

	if (image_begin(&holder->images, &copy, fd, held->file.index, held->file.size)) {
		if (!copy.is_clone && held->file.size > LARGEST_IDLE_COPY)
			copy.head.state = IMAGE_TOO_LARGE;
		while (copy.head.state == IMAGE_BEGUN && !image_go_on(&holder->images, &copy)) {
			beat(holder);
			serve_breaks(holder);
			if (holder->held[fd].state == FREE)
				break; /* it was broken meanwhile, and is done */
			if (deadline && monotonic_ns() > deadline)
				copy.head.state = IMAGE_TOO_SLOW;
		}
	}
	if (holder->held[fd].state != FREE)
		finish(holder, fd, &copy);
}

/* Copy a file if that can be had; if not, its lease stays. */
static bool copy_early(struct holder *holder, int fd)
{
	const struct held *held = &holder->held[fd];
	struct copy copy;

	if (image_begin(&holder->images, &copy, fd, held->file.index, held->file.size))
		while (copy.head.state == IMAGE_BEGUN && !image_go_on(&holder->images, &copy)) {
			beat(holder);
			serve_breaks(holder);
			if (held->state == FREE)
				return true; /* it was broken meanwhile, and is done */
			if (holder->is_ending)
				break;
		}
	if (copy.head.state == IMAGE_BEGUN && (copy.is_clone || copy.done == copy.head.size)) {
		finish(holder, fd, &copy);
		return true;
	}
	image_end(&holder->images, &copy, copy.head.state);
	return false;
}

static const struct holder *sorted; /* qsort takes no context */

static int by_size(const void *left, const void *right)
{
	uint64_t first = sorted->held[*(const int *)left].file.size,
		 second = sorted->held[*(const int *)right].file.size;

	return first < second ? -1 : first > second;
}

void plan_early(struct holder *holder, uint64_t bytes)
{
	holder->early_bytes = bytes;
	holder->early_next = holder->early_count = 0;
	holder->early = calloc(holder->highest + 1, sizeof(*holder->early));
	if (!holder->early)
		return;
	for (int fd = 0; fd <= holder->highest; fd++)
		if (holder->held[fd].state == HELD)
			holder->early[holder->early_count++] = fd;
	sorted = holder;
	qsort(holder->early, holder->early_count, sizeof(*holder->early), by_size);
}

bool copy_next_early(struct holder *holder)
{
	while (holder->early_next < holder->early_count) {
		int fd = holder->early[holder->early_next++];
		uint64_t size = holder->held[fd].file.size;

		if (holder->held[fd].state != HELD)
			continue; /* somebody was about to change it, or it was removed */
		if (size <= holder->early_bytes && copy_early(holder, fd)) {
			holder->early_bytes -= size;
			return true;
		}
		holder->early_next = holder->early_count;
	}
	return false;
}

static bool is_elsewhere(const struct holder *holder, int fd)
{
	char name[32], path[PATH_MAX], root[PATH_MAX];
	ssize_t length, root_length;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	length = readlink(name, path, sizeof(path));
	for (int i = 0; i < holder->root_count; i++) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", holder->roots[i]);
		root_length = readlink(name, root, sizeof(root));
		if (root_length == 1 || (root_length > 0 && length > root_length && path[root_length] == '/' &&
						memcmp(path, root, root_length) == 0))
			return false;
	}
	return true;
}

/* As /proc shows a file whose name is gone; one whose name ends so is copied for nothing. */
static bool is_said_to_be_deleted(int fd)
{
	static const char said[] = " (deleted)";
	char name[32], path[PATH_MAX];
	ssize_t length;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	length = readlink(name, path, sizeof(path)) - (ssize_t)(sizeof(said) - 1);
	return length > 0 && memcmp(path + length, said, sizeof(said) - 1) == 0;
}

static bool is_removed(const struct holder *holder, int fd)
{
	const struct held *held = &holder->held[fd];
	struct stat status;

	if (held->state != HELD || fstat(fd, &status))
		return false;
	if (status.st_nlink < held->file.nlink || (held->is_stacked && is_said_to_be_deleted(fd)))
		return true;
	return holder->is_ending && is_elsewhere(holder, fd);
}

void sweep(struct holder *holder, uint64_t deadline)
{
	uint64_t began = monotonic_ns(), took;

	for (int fd = 0; fd <= holder->highest; fd++) {
		if (is_removed(holder, fd))
			copy_now(holder, fd, deadline);
		if (fd % 1024 == 0) {
			beat(holder);
			serve_breaks(holder);
		}
	}
	took = monotonic_ns() - began;
	holder->next_sweep_ns = began + (took * PAUSES_PER_SWEEP > SECOND ? took * PAUSES_PER_SWEEP : SECOND);
}

enum hold_answer lease(struct holder *holder, int fd, const struct held_file *file)
{
	int flags = fcntl(fd, F_GETFL);

	if (fd >= holder->room || (holder->most && holder->page->held >= holder->most))
		return HOLD_FULL;
	if (is_changed_elsewhere(fd))
		return HOLD_REFUSED;
	if (fcntl(fd, F_SETSIG, BREAK_SIGNAL) || fcntl(fd, F_SETLEASE, F_RDLCK))
		return errno == EAGAIN ? HOLD_BUSY : HOLD_REFUSED;
	if (!is_as_indexed(fd, file)) {
		release(fd);
		return HOLD_CHANGED;
	}
	/* Its owner could open it so; of others' files the time of access would change. */
	if (!(flags & O_NOATIME))
		fcntl(fd, F_SETFL, flags | O_NOATIME);
	holder->held[fd] = (struct held){.file = *file, .is_stacked = may_be_mapped_unseen(fd), .state = HELD};
	holder->page->held++;
	if (fd > holder->highest)
		holder->highest = fd;
	return HOLD_LEASED;
}
