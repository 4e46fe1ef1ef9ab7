// SPDX-License-Identifier: Apache-2.0
/*
 * Lists a directory and describes each of its entries: metadata, generation, extended attributes, target of a link, and
 * the bytes of small files. In the order of inode numbers, which spares a disk its seeks.
 *
 * Rule: nothing here changes anything, not even times of access where that can be asked for; no symlink is followed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images.h"
#include "walk.h"

enum { ENTRIES_A_CALL = 4096, RECORDS_A_CALL = 1 << 20, CONTENT_A_CALL = 4 << 20, PACK_BYTES = 256 << 10, TRIES = 3 };
enum { METADATA, CONTENT, ATTRIBUTES, OTHER_MOUNT };
enum { NOT_KEPT = 0, UNREADABLE = 3, VANISHED = 4, PROMISED = 6, PACKED = 7, PACKED_CHANGED = 8 };

/* baseline_format.py's _HEAD */
struct __attribute__((packed)) record {
	uint64_t index;
	int64_t parent;
	uint64_t dev, ino;
	int64_t generation;
	uint32_t mode, nlink, uid, gid;
	uint64_t size;
	int64_t mtime_ns;
	uint64_t rdev, seen_ns;
	uint8_t content;
	uint16_t name_length, target_length, xattr_count;
	uint32_t chunk_count;
};

struct listed {
	uint64_t ino;
	uint64_t name_at;
	unsigned char type; /* DT_… */
};

struct walk {
	struct dk_walk_result out;
	uint64_t records_room, content_room, directory_room, large_room, issue_room;
	struct listed *listed;
	uint64_t listed_count, listed_room, next;
	char *names;
	uint64_t names_bytes, names_room;
	dev_t device;
	uint64_t index;
	uint64_t budget;
	uint64_t base;
};

static void *grown(void *items, uint64_t *room, uint64_t wanted, size_t size)
{
	if (wanted <= *room)
		return items;
	*room = wanted * 2 < 64 ? 64 : wanted * 2;
	items = realloc(items, *room * size);
	if (!items)
		abort(); /* some kilobytes */
	return items;
}

static void put(struct walk *walk, const void *bytes, size_t length)
{
	walk->out.records = grown(walk->out.records, &walk->records_room, walk->out.records_bytes + length, 1);
	memcpy(walk->out.records + walk->out.records_bytes, bytes, length);
	walk->out.records_bytes += length;
}

static void note(struct walk *walk, uint64_t index, const char *name, int what, int error)
{
	struct dk_walk_issue *issue;

	walk->out.issues = grown(walk->out.issues, &walk->issue_room, walk->out.issue_count + 1, sizeof(*issue));
	issue = &walk->out.issues[walk->out.issue_count++];
	*issue = (struct dk_walk_issue){
		.index = index,
		.name_at = name - walk->names,
		.name_length = strlen(name),
		.what = what,
		.error = error,
	};
}

/* ---- listing ---- */

static int by_inode(const void *left, const void *right)
{
	uint64_t a = ((const struct listed *)left)->ino, b = ((const struct listed *)right)->ino;

	return a < b ? -1 : a > b;
}

static int list(struct walk *walk, int dirfd)
{
	int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME);
	struct dirent *entry;
	DIR *directory;

	if (copy < 0 && errno == EPERM)
		copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	directory = copy < 0 ? NULL : fdopendir(copy);
	if (!directory)
		return -errno;
	walk->listed_count = walk->names_bytes = walk->next = 0;
	errno = 0;
	while ((entry = readdir(directory))) {
		size_t length = strlen(entry->d_name) + 1;

		if (entry->d_name[0] == '.' && (length == 2 || (entry->d_name[1] == '.' && length == 3)))
			continue;
		walk->listed = grown(walk->listed, &walk->listed_room, walk->listed_count + 1, sizeof(*walk->listed));
		walk->names = grown(walk->names, &walk->names_room, walk->names_bytes + length, 1);
		walk->listed[walk->listed_count++] = (struct listed){entry->d_ino, walk->names_bytes, entry->d_type};
		memcpy(walk->names + walk->names_bytes, entry->d_name, length);
		walk->names_bytes += length;
	}
	closedir(directory);
	qsort(walk->listed, walk->listed_count, sizeof(*walk->listed), by_inode);
	return 0;
}

/* ---- one entry ---- */

static int64_t generation_of(int fd, int dirfd, const char *name)
{
	struct {
		struct file_handle head;
		unsigned char room[128];
	} handle = {.head = {.handle_bytes = sizeof(handle.room)}};
	int mount_id, failed;

	failed = fd >= 0 ? name_to_handle_at(fd, "", &handle.head, &mount_id, AT_EMPTY_PATH)
			 : name_to_handle_at(dirfd, name, &handle.head, &mount_id, 0);
	return failed ? -1 : generation_of_handle(&handle.head);
}

static int open_file(int dirfd, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	int fd = openat(dirfd, name, flags | O_NOATIME);

	return fd < 0 && errno == EPERM ? openat(dirfd, name, flags) : fd;
}

static bool is_same(const struct stat *one, const struct stat *other)
{
	return one->st_size == other->st_size && !memcmp(&one->st_mtim, &other->st_mtim, sizeof(one->st_mtim)) &&
	       !memcmp(&one->st_ctim, &other->st_ctim, sizeof(one->st_ctim));
}

static ssize_t read_whole(int fd, unsigned char *to, size_t room)
{
	size_t at = 0;

	while (at < room) {
		ssize_t got = pread(fd, to + at, room - at, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		at += got;
		if (at < room)
			break; /* only the end of a regular file makes a read short */
	}
	return at;
}

/* The stream of packs is cut at multiples of PACK_BYTES, and no file crosses a cut. */
static uint64_t place_of(struct walk *walk, uint64_t size)
{
	uint64_t at = walk->base + walk->out.content_bytes, end = at + size;

	if (size && at / PACK_BYTES != (end - 1) / PACK_BYTES)
		at = (at + PACK_BYTES - 1) / PACK_BYTES * PACK_BYTES;
	at -= walk->base;
	walk->out.content = grown(walk->out.content, &walk->content_room, at + size + 1, 1);
	if (at > walk->out.content_bytes)
		memset(walk->out.content + walk->out.content_bytes, 0, at - walk->out.content_bytes);
	return at;
}

/* Read a small file; returns its state, with *status as of the reading and *at where its bytes are. */
static int read_small(struct walk *walk, int fd, struct stat *status, uint64_t limit, uint64_t *at)
{
	struct stat before = *status, after;
	ssize_t length = 0;

	for (int i = 0; i < TRIES; i++) {
		uint64_t room = before.st_size;

		if (room > limit)
			return PROMISED;
		*at = place_of(walk, room);
		/* One byte more than there is: a file that grew shows. */
		length = read_whole(fd, walk->out.content + *at, room + 1);
		if (length < 0 || fstat(fd, &after))
			return UNREADABLE;
		if (is_same(&before, &after) && (uint64_t)length == room) {
			*status = after;
			walk->out.content_bytes = *at + length;
			return PACKED;
		}
		before = after;
	}
	if ((uint64_t)length > (uint64_t)before.st_size)
		length = before.st_size;
	*status = after;
	status->st_size = length;
	walk->out.content_bytes = *at + length;
	return PACKED_CHANGED;
}

static unsigned put_xattrs(struct walk *walk, int fd, int dirfd, const char *name, uint64_t index)
{
	static char names[65536], value[65536], path[4096 + 64];
	ssize_t length, got;
	unsigned count = 0;

	if (fd < 0)
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd, name);
	length = fd >= 0 ? flistxattr(fd, names, sizeof(names)) : llistxattr(path, names, sizeof(names));
	if (length < 0 && errno != ENOTSUP && errno != ENODATA && errno != ENOENT && errno != ENOTDIR)
		note(walk, index, name, ATTRIBUTES, errno);
	for (char *one = names; length > 0 && one < names + length; one += strlen(one) + 1) {
		struct __attribute__((packed)) {
			uint16_t name_length;
			uint32_t value_length;
		} head = {strlen(one), 0};

		if (is_second_name(one))
			continue;
		got = fd >= 0 ? fgetxattr(fd, one, value, sizeof(value)) : lgetxattr(path, one, value, sizeof(value));
		if (got < 0) {
			if (errno != ENOTSUP && errno != ENODATA && errno != ENOENT && errno != ENOTDIR)
				note(walk, index, name, ATTRIBUTES, errno);
			continue;
		}
		head.value_length = got;
		put(walk, &head, sizeof(head));
		put(walk, one, head.name_length);
		put(walk, value, got);
		count++;
	}
	return count;
}

static uint64_t kernel_device(dev_t device)
{
	return (uint64_t)major(device) << 20 | minor(device);
}

static bool is_skipped(const struct dk_walk_request *request, const struct stat *status)
{
	for (uint32_t i = 0; i < request->skip_count; i++)
		if (request->skip[i][0] == kernel_device(status->st_dev) && request->skip[i][1] == status->st_ino)
			return true;
	return false;
}

static void add_directory(struct walk *walk, uint64_t index, const struct stat *status, const char *name)
{
	struct dk_walk_result *out = &walk->out;

	out->directories =
		grown(out->directories, &walk->directory_room, out->directory_count + 1, sizeof(*out->directories));
	out->directories[out->directory_count++] =
		(struct dk_walk_directory){index, status->st_ino, name - walk->names, strlen(name), 0};
}

static int64_t mtime_of(const struct stat *status)
{
	__int128 ns = status->st_mtim.tv_sec * (__int128)1000000000 + status->st_mtim.tv_nsec;

	return ns > INT64_MAX ? INT64_MAX : ns < -INT64_MAX ? -INT64_MAX : (int64_t)ns;
}

static void add_large(struct walk *walk, uint64_t index, const struct stat *status, int fd)
{
	struct dk_walk_result *out = &walk->out;

	out->larges = grown(out->larges, &walk->large_room, out->large_count + 1, sizeof(*out->larges));
	out->larges[out->large_count++] = (struct dk_walk_large){
		.fd = fd,
		.index = index,
		.size = status->st_size,
		.nlink = status->st_nlink,
		.ino = status->st_ino,
		.mtime_ns = mtime_of(status),
	};
}

/* Look at an entry: a regular file is opened, what else or cannot be is looked at by its name. False if it is gone. */
static bool look(struct walk *walk, int dirfd, const char *name, unsigned char type, struct stat *status, int *fd)
{
	*fd = type == DT_REG ? open_file(dirfd, name) : -1;
	if (*fd >= 0 && fstat(*fd, status) == 0 && S_ISREG(status->st_mode))
		return true;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	if (fstatat(dirfd, name, status, AT_SYMLINK_NOFOLLOW) == 0) {
		if (type != DT_REG && S_ISREG(status->st_mode))
			return look(walk, dirfd, name, DT_REG, status, fd);
		return true;
	}
	if (errno != ENOENT)
		note(walk, walk->index, name, METADATA, errno);
	return false;
}

/* Take what is wanted of an open regular file. */
static int take_file(
	struct walk *walk, const struct dk_walk_request *request, struct stat *status, int fd, uint64_t *at)
{
	int state = PROMISED;

	if (fd < 0)
		return UNREADABLE;
	if (request->small_bytes && (uint64_t)status->st_size <= request->small_bytes &&
		(uint64_t)status->st_size <= walk->budget) {
		state = read_small(walk, fd, status, request->small_bytes, at);
		if (state == PACKED || state == PACKED_CHANGED)
			walk->budget -= status->st_size;
	}
	return state;
}

static void put_entry(struct walk *walk, const struct dk_walk_request *request, const char *name, unsigned char type)
{
	struct record head = {.parent = request->parent, .generation = -1, .seen_ns = monotonic_ns()};
	uint64_t head_at, at = 0, index = walk->index;
	unsigned char target[4096], chunk[40] = {0};
	ssize_t target_length = 0;
	struct stat status;
	int fd = -1;

	if (!look(walk, request->dirfd, name, type, &status, &fd))
		return;
	if (status.st_dev != walk->device || is_skipped(request, &status)) {
		if (status.st_dev != walk->device)
			note(walk, index, name, OTHER_MOUNT, 0);
		if (fd >= 0)
			close(fd);
		return;
	}
	walk->index++;
	head.generation = generation_of(fd, request->dirfd, name);
	if (S_ISREG(status.st_mode)) {
		head.content = take_file(walk, request, &status, fd, &at);
		if (head.content == UNREADABLE)
			note(walk, index, name, CONTENT, errno ? errno : EIO);
		else if (head.content == PACKED_CHANGED)
			note(walk, index, name, CONTENT, 0);
		walk->out.files++;
		walk->out.kept += head.content >= PACKED || !status.st_size;
	} else if (S_ISLNK(status.st_mode)) {
		target_length = readlinkat(request->dirfd, name, (char *)target, sizeof(target));
	} else if (S_ISDIR(status.st_mode)) {
		add_directory(walk, index, &status, name);
	}
	head.index = index;
	head.dev = kernel_device(status.st_dev);
	head.ino = status.st_ino;
	head.mode = status.st_mode;
	head.nlink = status.st_nlink;
	head.uid = status.st_uid;
	head.gid = status.st_gid;
	head.size = status.st_size;
	head.mtime_ns = mtime_of(&status);
	head.rdev = kernel_device(status.st_rdev);
	head.name_length = strlen(name);
	head.target_length = target_length > 0 ? target_length : 0;
	head.chunk_count = head.content >= PACKED;
	head_at = walk->out.records_bytes;
	put(walk, &head, sizeof(head));
	put(walk, name, head.name_length);
	put(walk, target, head.target_length);
	head.xattr_count = put_xattrs(walk, fd, request->dirfd, name, index);
	memcpy(walk->out.records + head_at, &head, sizeof(head));
	if (head.chunk_count) {
		at += walk->base;
		memcpy(chunk, &at, sizeof(at));
		put(walk, chunk, sizeof(chunk));
	}
	walk->out.entries++;
	if (head.content == PROMISED && status.st_size && request->open_large)
		add_large(walk, index, &status, fd);
	else if (fd >= 0)
		close(fd);
}

static void put_listed(struct walk *walk, const struct dk_walk_request *request)
{
	const struct listed *listed = &walk->listed[walk->next++];

	put_entry(walk, request, walk->names + listed->name_at, listed->type);
}

/* ---- for native.py ---- */

void *dk_walk_new(void)
{
	return calloc(1, sizeof(struct walk));
}

struct dk_walk_result *dk_walk_result(struct walk *walk)
{
	return &walk->out;
}

const char *dk_walk_names(struct walk *walk)
{
	return walk->names;
}

/* List a directory; 0, or what went wrong as a negative errno. */
int dk_walk_begin(struct walk *walk, const struct dk_walk_request *request)
{
	struct stat status;

	if (fstat(request->dirfd, &status))
		return -errno;
	walk->device = status.st_dev;
	return list(walk, request->dirfd);
}

/* Describe some more of its entries; out.is_done says whether that was all. */
void dk_walk_some(struct walk *walk, const struct dk_walk_request *request)
{
	struct dk_walk_result *out = &walk->out;

	out->records_bytes = out->content_bytes = out->directory_count = out->large_count = out->issue_count = 0;
	out->entries = out->files = out->kept = 0;
	walk->index = request->first_index;
	walk->budget = request->budget_bytes;
	walk->base = request->content_base;
	while (walk->next < walk->listed_count && out->entries < ENTRIES_A_CALL &&
		out->records_bytes < RECORDS_A_CALL && out->content_bytes < CONTENT_A_CALL && out->large_count < 200)
		put_listed(walk, request);
	out->is_done = walk->next == walk->listed_count;
}

void dk_walk_free(struct walk *walk)
{
	free(walk->out.records);
	free(walk->out.content);
	free(walk->out.directories);
	free(walk->out.larges);
	free(walk->out.issues);
	free(walk->listed);
	free(walk->names);
	free(walk);
}
