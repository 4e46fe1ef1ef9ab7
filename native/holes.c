// SPDX-License-Identifier: Apache-2.0
/*
 * Reads again what changed without a recorded call (docs/decisions/0019).
 *
 * Holes of a round are joined by inode: one DK_HOLE says that from here on the file is in doubt, the readings follow,
 * and a second one (DK_OP_REREAD) says at which instant they were true. DK_F_HOLE on that one: they may not be.
 */
#include "capture.h"

#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { TRIES = 5, REST_FACTOR = 10, MOST_BYTES = 64 << 20, NAMES_BYTES = 1 << 16 };
static const uint64_t MOST_REST_NS = 250000000;
static const uint64_t TICK_NS = 20000000; /* a ctime may lag behind the clock by a tick */

/* Ask the program `describe` where an inode is. */
static bool describe(struct capture *capture, const struct dk_hole *hole)
{
	uint64_t context[3] = {hole->pointer, hole->inode.ino, hole->inode.dev};
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.test.prog_fd = capture->describe_fd;
	attributes.test.ctx_in = (uint64_t)(uintptr_t)context;
	attributes.test.ctx_size_in = sizeof(context);
	return syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attributes, sizeof(attributes)) == 0 &&
	       capture->described->verdict != 0;
}

uint64_t next_sequence(struct capture *capture)
{
	return __atomic_add_fetch(&capture->counters->sequence, 1, __ATOMIC_RELAXED);
}

/* The described path, and where its last part begins. */
static const char *path_of(struct capture *capture, size_t *length, size_t *name)
{
	size_t start = capture->described->path_start > DK_PATH_MAX ? DK_PATH_MAX : capture->described->path_start;
	const char *path = (const char *)capture->described->path + start;

	*length = DK_PATH_MAX - start;
	for (*name = *length; *name && path[*name - 1] != '/'; (*name)--)
		;
	return path;
}

/*
 * Where a file system has no handles that can be made, the path that `describe` gives counts from the file system's own
 * root: each of its ends is tried below the watch roots, and the inode must be the very one.
 */
static int open_by_path(struct capture *capture, const struct dk_inode *inode, int flags)
{
	size_t length, name;
	const char *path = path_of(capture, &length, &name);
	char text[DK_PATH_MAX + 1], link[64];
	struct stat status;

	memcpy(text, path, length);
	text[length] = 0;
	for (int i = 0; i < capture->root_count; i++) {
		for (const char *end = text; end; end = strchr(end, '/')) {
			int found = openat(capture->roots[i].fd, *(end += *end == '/') ? end : ".",
				O_PATH | O_NOFOLLOW | O_CLOEXEC);
			int fd = -1;

			if (found < 0)
				continue;
			if (!fstat(found, &status) && status.st_ino == inode->ino &&
				kernel_device(status.st_dev) == inode->dev) {
				snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
				fd = open(link, flags | O_CLOEXEC);
			}
			close(found);
			if (fd >= 0)
				return fd;
		}
	}
	errno = ESTALE;
	return -1;
}

/* Open a regular file by its inode, or where `describe` says that it stands; `pointer` 0: not known. */
int open_regular(struct capture *capture, const struct dk_inode *inode, uint64_t pointer)
{
	struct dk_hole place = {.inode = *inode, .pointer = pointer};
	int fd = open_inode(capture, inode, O_RDONLY | O_NOATIME | O_NONBLOCK);

	if (fd < 0 && pointer && describe(capture, &place) && S_ISREG(capture->described->inode.mode))
		fd = open_by_path(capture, inode, O_RDONLY | O_NOATIME | O_NONBLOCK);
	return fd;
}

static int open_hole(struct capture *capture, const struct dk_inode *inode, int flags)
{
	int fd = open_inode(capture, inode, flags);

	return fd >= 0 ? fd : open_by_path(capture, inode, flags);
}

/* Put a record of a hole, and bytes behind it, into the journal. */
void write_hole(struct capture *capture, const struct dk_hole *hole, const void *text, size_t length)
{
	size_t size = sizeof(*hole) + ((length + 7) & ~7ul);
	struct dk_hole *record = segments_reserve(&capture->segments, size);

	if (!record) {
		capture->losses.queue++;
		return;
	}
	memset(record, 0, size);
	*record = *hole;
	memcpy(record + 1, text, length);
	record->name_len = length;
	record->pointer = 0;
	record->header.size = size;
	segments_commit(&capture->segments, size);
}

static struct dk_hole begin_reading(struct capture *capture, const struct dk_hole *hole)
{
	struct dk_hole reading = *hole;

	reading.header.op = DK_OP_REREAD;
	reading.header.sequence = next_sequence(capture);
	reading.header.enter_ns = now_ns();
	reading.header.exit_ns = 0; /* when it ends */
	reading.count = 0;
	return reading;
}

/* Write the second record: name, slash, names of extended attributes, each with its NUL. */
static void end_reading(struct capture *capture, struct dk_hole *reading, int error, bool is_true, const void *xattrs,
	size_t xattrs_length)
{
	static char text[256 + NAMES_BYTES];
	size_t length, name;
	const char *path = path_of(capture, &length, &name);

	length -= name;
	if (length > 255)
		length = 0;
	memcpy(text, path + name, length);
	text[length++] = '/';
	memcpy(text + length, xattrs, xattrs_length);
	if (reading->header.exit_ns < reading->header.enter_ns)
		reading->header.exit_ns = now_ns();
	reading->header.t_ns = reading->header.exit_ns;
	reading->header.result = -error;
	if (is_true)
		reading->header.flags &= ~DK_F_HOLE;
	write_hole(capture, reading, text, length + xattrs_length);
}

bool is_unchanged(const struct stat *before, const struct stat *after)
{
	return before->st_ctim.tv_sec == after->st_ctim.tv_sec && before->st_ctim.tv_nsec == after->st_ctim.tv_nsec &&
	       before->st_size == after->st_size;
}

/* Bytes of a file: the extents that were told of, or all of it. Returns whether they were true at the end. */
static bool reread_file(struct capture *capture, const struct pending_hole *pending, int fd)
{
	static char names[NAMES_BYTES];
	struct dk_hole reading = begin_reading(capture, &pending->record);
	struct stat before, after;
	ssize_t names_length = 0;
	bool is_true;

	if (fstat(fd, &before)) {
		end_reading(capture, &reading, errno, false, "", 0);
		return true;
	}
	fill_inode(&reading.inode, &before, reading.inode.generation);
	if (pending->is_touch) {
		reading.offset = 0;
		reading.length = before.st_size;
	}
	if (!may_read(capture, &before) || (pending->is_touch && before.st_size > MOST_BYTES)) {
		end_reading(capture, &reading, may_read(capture, &before) ? EFBIG : EACCES, true, "", 0);
		return true;
	}
	if (reading.length)
		read_extent(capture, &reading.header, &reading.inode, fd, reading.offset, reading.length);
	if (pending->is_touch) {
		names_length = flistxattr(fd, names, sizeof(names));
		reading.count = names_length >= 0;
		read_xattrs(capture, &reading.header, &reading.inode, fd);
	}
	is_true = !fstat(fd, &after) && is_unchanged(&before, &after);
	fill_inode(&reading.inode, &after, reading.inode.generation);
	end_reading(capture, &reading, 0, is_true, names, names_length > 0 ? names_length : 0);
	if (!is_true)
		doubt(capture, &reading.inode, 0, ~0ull, reading.header.pid, true); /* when it rests */
	return true;
}

/* The names of a directory as they stood at one instant, NUL-joined, allocated; NULL where it does not stand still. */
static char *list_names(int fd, struct stat *after, size_t *length)
{
	for (int i = 0; i < TRIES; i++) {
		struct stat before;
		DIR *stream =
			fstat(fd, &before) ? NULL : fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		size_t room = 4096;
		char *names = malloc(room);
		struct dirent *entry;

		*length = 0;
		while (stream && names && (entry = readdir(stream))) {
			size_t name = strlen(entry->d_name) + 1;

			if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
				continue;
			if (*length + name > room)
				names = realloc(names, room = 2 * room + name);
			if (!names)
				break;
			memcpy(names + *length, entry->d_name, name);
			*length += name;
		}
		if (stream)
			closedir(stream);
		if (stream && names && !fstat(fd, after) && is_unchanged(&before, after))
			return names;
		free(names);
	}
	return NULL;
}

/* Entries of a directory: with the bytes of those that changed since its hole began. False: again, later. */
static bool reread_directory(struct capture *capture, const struct pending_hole *pending, int fd)
{
	struct dk_hole reading = begin_reading(capture, &pending->record);
	struct dk_base parent = {
		pending->record.inode.ino, pending->record.inode.dev, pending->record.inode.generation};
	struct timespec real;
	struct stat status, after;
	size_t length;
	char *names = list_names(fd, &status, &length);
	int64_t since_ns;

	if (!names)
		return false;
	reading.header.exit_ns = now_ns();
	clock_gettime(CLOCK_REALTIME, &real);
	since_ns = real.tv_sec * 1000000000LL + real.tv_nsec - (now_ns() - pending->record.header.enter_ns) - TICK_NS;
	fill_inode(&reading.inode, &status, reading.inode.generation);
	for (size_t at = 0; at < length; at += strlen(names + at) + 1) {
		struct dk_inode inode;
		struct stat entry;
		bool is_new = !fstatat(fd, names + at, &entry, AT_SYMLINK_NOFOLLOW) &&
			      entry.st_ctim.tv_sec * 1000000000LL + entry.st_ctim.tv_nsec >= since_ns;
		int below = read_entry(capture, &reading.header, &parent, fd, names + at, &inode, is_new);

		if (below >= 0 && is_new)
			read_subtree(capture, &reading.header, &inode, below);
		else if (below >= 0)
			close(below);
	}
	free(names);
	/* What the names lead to was read after they were: of no use if they have changed since. */
	if (fstat(fd, &after) || !is_unchanged(&status, &after)) {
		end_reading(capture, &reading, EAGAIN, true, "", 0);
		return false;
	}
	end_reading(capture, &reading, 0, true, "", 0);
	return true;
}

/* Anything else than files and directories has nothing but its metadata, which the record holds. */
static bool reread(struct capture *capture, struct pending_hole *pending)
{
	const struct dk_inode *inode = &pending->record.inode;
	struct dk_hole reading;
	bool is_done;
	int fd;

	if (!S_ISREG(inode->mode) && !S_ISDIR(inode->mode)) {
		reading = begin_reading(capture, &pending->record);
		end_reading(capture, &reading, 0, true, "", 0);
		return true;
	}
	fd = open_hole(
		capture, inode, S_ISDIR(inode->mode) ? O_RDONLY | O_DIRECTORY : O_RDONLY | O_NOATIME | O_NONBLOCK);
	if (S_ISDIR(inode->mode))
		fd = refuse_unreadable(capture, fd);
	if (fd < 0) {
		reading = begin_reading(capture, &pending->record);
		end_reading(capture, &reading, errno, true, "", 0);
		return true;
	}
	is_done = S_ISDIR(inode->mode) ? reread_directory(capture, pending, fd) : reread_file(capture, pending, fd);
	close(fd);
	return is_done;
}

/* Say that there is a hole, and read; false: what is outside. */
static bool settle_hole(struct capture *capture, struct pending_hole *pending)
{
	size_t length, name;
	const char *path;

	if (!describe(capture, &pending->record))
		return false;
	pending->record.inode = capture->described->inode;
	pending->record.parent = capture->described->parent;
	if (capture->described->verdict == 2)
		pending->record.header.flags |= DK_F_UNCERTAIN;
	pending->record.header.op = pending->is_touch ? DK_OP_TOUCH : DK_OP_BYTES;
	path = path_of(capture, &length, &name);
	if (pending->record.count)
		write_hole(capture, &pending->record, path + name, length - name);
	pending->record.count = 0;
	return true;
}

static void flush_hole(struct capture *capture, struct pending_hole *pending)
{
	uint64_t from = now_ns(), rest;

	pending->is_waiting = false;
	if (!settle_hole(capture, pending)) {
		pending->record.header.size = 0;
		return;
	}
	if (!reread(capture, pending))
		pending->is_waiting = true;
	rest = REST_FACTOR * (now_ns() - from);
	pending->due_ns = now_ns() + (rest < MOST_REST_NS ? rest : MOST_REST_NS);
}

static struct pending_hole *slot_of(struct capture *capture, const struct dk_hole *hole)
{
	struct pending_hole *oldest = NULL;

	for (int i = 0; i < MAX_HOLES; i++) {
		struct pending_hole *one = &capture->holes[i];

		if (one->record.header.size && one->record.inode.ino == hole->inode.ino &&
			one->record.inode.dev == hole->inode.dev &&
			one->record.inode.generation == hole->inode.generation)
			return one;
		if (!oldest || !one->record.header.size || (oldest->record.header.size && one->due_ns < oldest->due_ns))
			oldest = one;
	}
	if (oldest->record.header.size && oldest->is_waiting)
		flush_hole(capture, oldest);
	memset(oldest, 0, sizeof(*oldest));
	return oldest;
}

void note_hole(struct capture *capture, const struct dk_hole *hole)
{
	struct pending_hole *pending = slot_of(capture, hole);
	uint64_t begin = hole->offset, end = hole->offset + hole->length;

	if (!pending->is_waiting) {
		uint64_t due_ns = pending->due_ns;

		*pending = (struct pending_hole){.record = *hole, .due_ns = due_ns};
	} else {
		struct dk_hole *record = &pending->record;

		if (!record->count)
			record->header = hole->header;
		if (record->length && hole->length) {
			begin = begin < record->offset ? begin : record->offset;
			end = end > record->offset + record->length ? end : record->offset + record->length;
		}
		if (hole->length) {
			record->offset = begin;
			record->length = end - begin;
		}
		record->header.exit_ns = hole->header.t_ns;
		record->count++;
	}
	/* Whoever writes touches first: that is told by the bytes. */
	pending->is_touch = !pending->record.length;
	pending->is_waiting = true;
}

void flush_holes(struct capture *capture, bool is_last)
{
	uint64_t now = now_ns();

	for (int i = 0; i < MAX_HOLES; i++)
		if (capture->holes[i].is_waiting && (is_last || capture->holes[i].due_ns <= now))
			flush_hole(capture, &capture->holes[i]);
}
