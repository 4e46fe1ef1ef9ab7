// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of files as they were, one after another in a file: cloned where the file system can, else copied inside the
 * kernel, a slice at a time, so that whoever waits can be served between two slices.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/fs.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "images.h"
#include "crc.h"

enum { SLICE = 4 << 20 };
#define MOST_BYTES (64ull << 30) /* the list of its chunks has to fit into the store's tables */
#define KEPT_FREE (1ull << 30)	 /* on the trace's disk, or a twentieth of a small one */

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static uint64_t aligned(uint64_t size)
{
	return (size + IMAGE_PAGE - 1) & ~(IMAGE_PAGE - 1ull);
}

static uint64_t begin_of(const struct copy *copy)
{
	return copy->at + IMAGE_PAGE;
}

static void write_head(struct images *images, struct copy *copy)
{
	copy->head.head_crc = crc32_of((void *)&copy->head, offsetof(struct image_head, head_crc), 0);
	if (pwrite(images->fd, copy, sizeof(copy->head), copy->at) != sizeof(copy->head))
		copy->head.state = IMAGE_FAILED;
}

static bool has_room(const struct images *images, uint64_t size)
{
	struct statvfs disk;
	uint64_t kept;

	if (fstatvfs(images->fd, &disk))
		return true; /* writing shows it */
	kept = (uint64_t)disk.f_blocks * disk.f_frsize / 20;
	if (kept > KEPT_FREE)
		kept = KEPT_FREE;
	return (uint64_t)disk.f_bavail * disk.f_frsize >= size + kept;
}

static bool share_blocks(struct images *images, struct copy *copy)
{
	struct file_clone_range range = {.src_fd = copy->fd, .dest_offset = begin_of(copy)};

	return copy->head.size && ioctl(images->fd, FICLONERANGE, &range) == 0;
}

bool image_begin(struct images *images, struct copy *copy, int fd, uint64_t index, uint64_t size)
{
	*copy = (struct copy){
		.at = images->end,
		.fd = fd,
		.head =
			{
				.magic = IMAGE_MAGIC,
				.state = IMAGE_BEGUN,
				.trace_id = images->trace_id,
				.index = index,
				.size = size,
				.span = IMAGE_PAGE,
				.from_ns = monotonic_ns(),
			},
	};
	if (size <= MOST_BYTES)
		copy->head.span += aligned(size);
	images->end += copy->head.span;
	write_head(images, copy);
	if (size > MOST_BYTES)
		copy->head.state = IMAGE_TOO_LARGE;
	else if (share_blocks(images, copy))
		copy->is_clone = true;
	else if (!has_room(images, size))
		copy->head.state = IMAGE_NO_ROOM;
	return copy->head.state == IMAGE_BEGUN;
}

/* Both file systems decide what works: copy_file_range across two of them fails before Linux 5.19 and on some after. */
static ssize_t copy_slice(struct images *images, struct copy *copy, size_t length)
{
	int64_t from = copy->done, to = begin_of(copy) + copy->done;
	off_t at = copy->done;
	ssize_t count = syscall(SYS_copy_file_range, copy->fd, &from, images->fd, &to, length, 0);

	if (count > 0 || (count < 0 && errno == EINTR))
		return count;
	if (lseek(images->fd, begin_of(copy) + copy->done, SEEK_SET) < 0)
		return -1;
	return sendfile(images->fd, copy->fd, &at, length);
}

/* Holes stay holes; returns false at the end of the data. */
static bool skip_hole(struct copy *copy)
{
	off_t data = lseek(copy->fd, copy->done, SEEK_DATA);

	if (data < 0 && errno == ENXIO)
		copy->done = copy->head.size;
	else if (data > (off_t)copy->done)
		copy->done = data;
	return copy->done < copy->head.size;
}

bool image_go_on(struct images *images, struct copy *copy)
{
	uint64_t left;
	ssize_t count;

	if (copy->is_clone || !skip_hole(copy))
		return true;
	left = copy->head.size - copy->done;
	count = copy_slice(images, copy, left < SLICE ? left : SLICE);
	if (count > 0) {
		copy->done += count;
		images->bytes += count;
	} else if (count == 0 || errno != EINTR) {
		copy->head.state = count < 0 && (errno == ENOSPC || errno == EDQUOT) ? IMAGE_NO_ROOM : IMAGE_FAILED;
	}
	return copy->done == copy->head.size;
}

void image_end(struct images *images, struct copy *copy, enum image_state state)
{
	/* A file that ends in a hole, or a clone's last block: the image is as long as the file. */
	if (state == IMAGE_COPIED && ftruncate(images->fd, images->end))
		state = IMAGE_FAILED;
	copy->head.state = state;
	copy->head.to_ns = monotonic_ns();
	if (state != IMAGE_COPIED && copy->at + copy->head.span == images->end) {
		/* The last one takes no room but its page. */
		images->end = copy->at + IMAGE_PAGE;
		copy->head.span = IMAGE_PAGE;
		if (ftruncate(images->fd, images->end))
			copy->head.state = IMAGE_FAILED;
	}
	write_head(images, copy);
}

static bool checksum(struct images *images, struct copy *copy)
{
	static unsigned char buffer[1 << 20];
	uint32_t crc = 0;

	for (uint64_t at = 0; at < copy->head.size;) {
		uint64_t left = copy->head.size - at;
		ssize_t count =
			pread(images->fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer), begin_of(copy) + at);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return false;
		crc = crc32_of(buffer, count, crc);
		at += count;
	}
	copy->head.crc = crc;
	return true;
}

void image_seal(struct images *images, struct copy *copy)
{
	if (copy->is_clone)
		copy->head.state = fdatasync(images->fd) ? IMAGE_COPIED : IMAGE_CLONED;
	else
		copy->head.state = checksum(images, copy) ? IMAGE_SEALED : IMAGE_FAILED;
	write_head(images, copy);
}

void image_clone_is_on_disk(struct images *images, struct copy *copy)
{
	copy->head.state = IMAGE_CLONED;
	write_head(images, copy);
}
