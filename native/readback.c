// SPDX-License-Identifier: Apache-2.0
/*
 * Reads back at once what had no buffer to copy from: bytes by reference, files and folders that came in from outside.
 * Every reading carries its interval; whether it is exact is for replay to judge.
 */
#include "capture.h"
#include "reader.h"
#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { LATE_CHUNK = 1 << 20 };

bool may_read(struct capture *capture, const struct stat *status)
{
	return grants(capture->reader_uid, capture->reader_gid, status->st_uid, status->st_gid, status->st_mode,
		S_ISDIR(status->st_mode) ? LISTS_FOLDER : READS_FILE);
}

int refuse_unreadable(struct capture *capture, int fd)
{
	struct stat status;

	if (fd < 0 || (!fstat(fd, &status) && may_read(capture, &status)))
		return fd;
	close(fd);
	errno = EACCES;
	return -1;
}

/* Fill the handle of an inode after the pattern of its root's; false where the form is not known here. */
static bool make_handle(struct root *root, const struct dk_inode *inode)
{
	unsigned char *bytes = root->handle.room; /* f_handle, which is declared as none long */
	uint32_t low = inode->ino, high = inode->ino >> 32;

	switch (root->handle.head.handle_type) {
	case 1: /* ext4 {ino, gen}; tmpfs {gen, ino, ino >> 32} */
		if (root->handle.head.handle_bytes == 12) {
			memcpy(bytes, &inode->generation, 4);
			memcpy(bytes + 4, &low, 4);
			memcpy(bytes + 8, &high, 4);
			return true;
		}
		memcpy(bytes, &low, 4);
		memcpy(bytes + 4, &inode->generation, 4);
		return true;
	case 0x81: /* XFS {ino, gen} */
	case 0x4d: /* btrfs {objectid, root_objectid, gen} */
		memcpy(bytes, &inode->ino, 8);
		memcpy(bytes + (root->handle.head.handle_type == 0x81 ? 8 : 16), &inode->generation, 4);
		return true;
	}
	return false;
}

/*
 * Subvolumes of btrfs by the device number that stat shows. Which object number each has is not told: those in use are
 * few and low, and are tried once (fs/btrfs/export.c decodes {objectid, root_objectid, gen}).
 */
enum {
	BTRFS_HANDLE = 0x4d,
	FIRST_SUBVOLUME = 256,
	LAST_SUBVOLUME = FIRST_SUBVOLUME + 4096,
	FS_TREE = 5,
	SUBVOLUMES = 64
};

static int try_subvolume(struct root *root, const struct dk_inode *inode, uint64_t subvolume, int flags)
{
	struct stat status;
	int fd;

	memcpy(root->handle.head.f_handle + 8, &subvolume, 8);
	fd = open_by_handle_at(root->fd, &root->handle.head, flags | O_CLOEXEC);
	if (fd < 0 || (!fstat(fd, &status) && kernel_device(status.st_dev) == inode->dev))
		return fd;
	close(fd);
	errno = ESTALE;
	return -1;
}

static int open_in_subvolume(struct root *root, const struct dk_inode *inode, int flags)
{
	static struct {
		uint32_t dev;
		uint64_t subvolume;
	} known[SUBVOLUMES];
	struct root handle = *root;
	int free = 0, fd;

	for (; free < SUBVOLUMES && known[free].dev; free++)
		if (known[free].dev == inode->dev)
			return try_subvolume(&handle, inode, known[free].subvolume, flags);
	for (uint64_t subvolume = FS_TREE; subvolume < LAST_SUBVOLUME; subvolume++) {
		if (subvolume == FS_TREE + 1)
			subvolume = FIRST_SUBVOLUME;
		fd = try_subvolume(&handle, inode, subvolume, flags);
		if (fd < 0)
			continue;
		if (free < SUBVOLUMES) {
			known[free].dev = inode->dev;
			known[free].subvolume = subvolume;
		}
		return fd;
	}
	return -1;
}

int open_inode(struct capture *capture, const struct dk_inode *inode, int flags)
{
	for (int i = 0; i < capture->root_count; i++) {
		struct root *root = &capture->roots[i];

		if (root->dev != inode->dev || !root->has_handle || !make_handle(root, inode))
			continue;
		return open_by_handle_at(root->fd, &root->handle.head, flags | O_CLOEXEC);
	}
	for (int i = 0; i < capture->root_count; i++) {
		struct root *root = &capture->roots[i];

		if (root->has_handle && root->handle.head.handle_type == BTRFS_HANDLE && make_handle(root, inode))
			return open_in_subvolume(root, inode, flags);
	}
	errno = EOPNOTSUPP;
	return -1;
}

void fill_inode(struct dk_inode *to, const struct stat *status, uint32_t generation)
{
	*to = (struct dk_inode){
		.ino = status->st_ino,
		.dev = kernel_device(status->st_dev),
		.generation = generation,
		.mode = status->st_mode,
		.nlink = status->st_nlink,
		.uid = status->st_uid,
		.gid = status->st_gid,
		.size = status->st_size,
		.mtime_sec = status->st_mtim.tv_sec,
		.mtime_nsec = status->st_mtim.tv_nsec,
		.rdev = kernel_device(status->st_rdev),
	};
}

static struct dk_late *begin_late(struct capture *capture, const struct dk_header *cause, uint64_t room)
{
	struct dk_late *late = segments_reserve(&capture->segments, sizeof(*late) + room);

	if (!late)
		return NULL;
	memset(late, 0, sizeof(*late));
	late->header = *cause;
	late->header.type = DK_LATE;
	late->header.flags = 0;
	late->header.op = 0;
	late->header.size = sizeof(*late);
	late->read_from_ns = now_ns();
	return late;
}

static void end_late(struct capture *capture, struct dk_late *late, int64_t got)
{
	late->read_to_ns = now_ns();
	late->header.t_ns = late->header.exit_ns = late->read_to_ns;
	late->header.enter_ns = late->read_from_ns;
	late->header.result = got < 0 ? got : 0;
	late->payload = got > 0 ? got : 0;
	late->header.size = sizeof(*late) + ((late->payload + 7) & ~7u);
	capture->late_reads++;
	capture->late_failures += got < 0;
	segments_commit(&capture->segments, late->header.size);
}

/* Copy [offset, offset + length) of an open file into the journal; what lies behind the end of the file is left out. */
void read_extent(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd,
	uint64_t offset, uint64_t length)
{
	do {
		uint64_t part = length < LATE_CHUNK ? length : LATE_CHUNK;
		struct dk_late *late = begin_late(capture, cause, part);
		ssize_t got;

		if (!late)
			return;
		late->inode = *inode;
		late->offset = offset;
		got = pread(fd, late + 1, part, offset);
		end_late(capture, late, got < 0 ? -errno : got);
		if (got <= 0)
			return;
		offset += got;
		length -= got;
	} while (length);
}

static void note_failure(
	struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int error)
{
	struct dk_late *late = begin_late(capture, cause, 0);

	if (!late)
		return;
	late->inode = *inode;
	end_late(capture, late, -error);
}

static void note_xattr(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode,
	const char *path, const char *name)
{
	size_t name_len = strlen(name), padded = (name_len + 7) & ~7ul;
	ssize_t length = getxattr(path, name, NULL, 0), got;
	struct dk_attr *record;

	if (length < 0)
		return;
	record = segments_reserve(&capture->segments, sizeof(*record) + padded + length + 8);
	if (!record)
		return;
	memset(record, 0, sizeof(*record) + padded + length + 8);
	got = getxattr(path, name, (char *)(record + 1) + padded, length);
	record->header = *cause;
	record->header.type = DK_ATTR;
	record->header.op = DK_OP_SETXATTR;
	record->header.flags = cause->flags & (DK_F_OUTSIDER | DK_F_HOLE);
	record->header.result = 0;
	record->header.sequence = __atomic_add_fetch(&capture->counters->sequence, 1, __ATOMIC_RELAXED);
	record->header.enter_ns = record->header.exit_ns = now_ns();
	/* It came in with the attribute; what no call explains is known as of now only. */
	record->header.t_ns = cause->flags & DK_F_HOLE ? record->header.exit_ns : cause->t_ns;
	record->inode = *inode;
	memcpy(record + 1, name, name_len);
	record->name_len = name_len;
	record->value_len = got > 0 ? got : 0;
	record->value_full = length;
	record->header.size = sizeof(*record) + padded + ((record->value_len + 7) & ~7u);
	segments_commit(&capture->segments, record->header.size);
}

/*
 * Extended attributes of what came in: the tree has gained them by the call that brought it. By the descriptor's path
 * in /proc, which leads to a link, a device or a fifo itself, and opens nothing.
 */
void read_xattrs(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd)
{
	static char names[1 << 16]; /* XATTR_LIST_MAX */
	struct stat status;
	ssize_t length;
	char path[64];

	if (fstat(fd, &status) || !may_read(capture, &status))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = listxattr(path, names, sizeof(names));
	for (ssize_t at = 0; at < length; at += strlen(names + at) + 1)
		if (!is_second_name(names + at))
			note_xattr(capture, cause, inode, path, names + at);
}

/* Read through a descriptor, which is closed; fd < 0: the inode could not be opened. */
static void read_open_file(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd,
	uint64_t offset, uint64_t length)
{
	struct stat status;

	if (fd < 0)
		return note_failure(capture, cause, inode, errno);
	if (fstat(fd, &status) == 0 && may_read(capture, &status))
		read_extent(capture, cause, inode, fd, offset, length);
	else
		note_failure(capture, cause, inode, EACCES);
	close(fd);
}

/* What is asked is the file that was opened: another one may stand at the name by then, and not be for this reader. */
static void read_named_file(struct capture *capture, const struct dk_header *cause, int dirfd, const char *name,
	const struct dk_inode *inode)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK | O_CLOEXEC);
	struct stat status;

	fd = refuse_unreadable(capture, fd);
	if (fd < 0)
		return note_failure(capture, cause, inode, errno);
	if (fstat(fd, &status) || status.st_ino != inode->ino) {
		note_failure(capture, cause, inode, ESTALE);
	} else {
		read_xattrs(capture, cause, inode, fd);
		if (status.st_size)
			read_extent(capture, cause, inode, fd, 0, status.st_size);
	}
	close(fd);
}

/* One entry of a subtree that came in, and its content. Returns a descriptor to descend into, or -1. */
int read_entry(struct capture *capture, const struct dk_header *cause, const struct dk_base *parent, int dirfd,
	const char *name, struct dk_inode *inode, bool with_content)
{
	size_t name_len = strlen(name), padded = (name_len + 7) & ~7ul;
	struct dk_entry *entry;
	struct stat status;
	int64_t generation = 0;
	uint64_t from = now_ns();
	char target[4096];
	ssize_t target_len = 0;
	char *text;
	int fd;

	if (fstatat(dirfd, name, &status, AT_SYMLINK_NOFOLLOW))
		return -1;
	dk_generations(dirfd, name, 1, &generation);
	fill_inode(inode, &status, generation < 0 ? 0 : generation);
	if (S_ISLNK(status.st_mode))
		target_len = readlinkat(dirfd, name, target, sizeof(target));
	target_len = target_len < 0 ? 0 : target_len;
	entry = segments_reserve(&capture->segments, sizeof(*entry) + padded + target_len + 8);
	if (!entry)
		return -1;
	memset(entry, 0, sizeof(*entry));
	entry->header = *cause;
	entry->header.type = DK_ENTRY;
	entry->header.flags = 0;
	entry->parent = *parent;
	entry->inode = *inode;
	entry->read_from_ns = entry->header.enter_ns = from;
	entry->read_to_ns = entry->header.exit_ns = entry->header.t_ns = now_ns();
	entry->name_len = name_len;
	entry->target_len = target_len;
	text = (char *)(entry + 1);
	memcpy(text, name, name_len);
	memcpy(text + padded, target, target_len);
	entry->header.size = sizeof(*entry) + padded + ((target_len + 7) & ~7ul);
	segments_commit(&capture->segments, entry->header.size);
	if (S_ISDIR(status.st_mode)) {
		fd = refuse_unreadable(capture, openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
		if (fd < 0)
			note_failure(capture, cause, inode, errno);
		return fd;
	}
	if (!with_content)
		return -1;
	if (!S_ISREG(status.st_mode)) {
		fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0) {
			read_xattrs(capture, cause, inode, fd);
			close(fd);
		}
		return -1;
	}
	read_named_file(capture, cause, dirfd, name, inode);
	return -1;
}

/* Everything below a directory that came in; takes the descriptor. */
void read_subtree(struct capture *capture, const struct dk_header *cause, const struct dk_inode *directory, int fd)
{
	struct dk_base parent = {.ino = directory->ino, .dev = directory->dev, .generation = directory->generation};
	DIR *stream = fdopendir(fd);
	struct dirent *entry;

	if (!stream) {
		close(fd);
		return note_failure(capture, cause, directory, errno);
	}
	read_xattrs(capture, cause, directory, fd);
	while ((entry = readdir(stream))) {
		struct dk_inode inode;
		int below;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		below = read_entry(capture, cause, &parent, fd, entry->d_name, &inode, true);
		if (below >= 0)
			read_subtree(capture, cause, &inode, below);
	}
	closedir(stream);
}

/* Is it by the last component of a path that a directory stands in the one above it? However deep that is. */
static bool has_name(int fd, const char *path, size_t path_len)
{
	struct stat own, named;
	char name[NAME_MAX + 4] = "../";
	size_t start;

	while (path_len && path[path_len - 1] == '/')
		path_len--;
	for (start = path_len; start && path[start - 1] != '/'; start--)
		;
	if (path_len - start > NAME_MAX)
		return false;
	memcpy(name + 3, path + start, path_len - start);
	name[3 + path_len - start] = 0;
	return !fstat(fd, &own) && !fstatat(fd, name, &named, AT_SYMLINK_NOFOLLOW) && own.st_ino == named.st_ino &&
	       own.st_dev == named.st_dev;
}

static void read_back(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode,
	uint64_t offset, uint64_t length)
{
	int fd = open_inode(capture, inode, O_RDONLY | O_NOATIME | O_NONBLOCK);

	read_open_file(capture, cause, inode, fd, offset, length);
}

/*
 * Open what came in: by handle, or, where the file system has none that can be made (tmpfs knows only those it gave
 * out), by the path that its task used. A path may lead elsewhere by now: only the very inode that was touched will do.
 */
static int open_import(struct capture *capture, const struct dk_name *record, const char *path2,
	const struct dk_inode *inode, int flags)
{
	int fd = open_inode(capture, inode, flags), found = -1;
	char path[64 + DK_PATH_MAX];
	struct stat status;

	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%u/%s/%.*s", record->header.pid,
		record->path2_len && *path2 == '/' ? "root" : "cwd", (int)record->path2_len, path2);
	/* Without opening it for anything: to open a device or a fifo that stands there by now would have effects. */
	found = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (found < 0)
		return -1;
	if (!fstat(found, &status) && status.st_ino == inode->ino && kernel_device(status.st_dev) == inode->dev) {
		if (flags & O_PATH)
			return found;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
		fd = open(path, flags | O_CLOEXEC);
	} else {
		errno = ESTALE;
	}
	close(found);
	return fd;
}

/* Does a directory stand in one of those that the call touched? (The one that something left may have the same name.)
 */
static bool is_below_touched(const struct dk_name *record, int fd)
{
	const struct dk_inode *touched = (const struct dk_inode *)(record + 1);
	struct stat above;

	if (fstatat(fd, "..", &above, 0))
		return false;
	for (int i = 0; i < record->touched; i++)
		if (touched[i].ino == above.st_ino && touched[i].dev == kernel_device(above.st_dev))
			return true;
	return false;
}

/* A symbolic link, a device, a fifo or a socket that came in: where the link leads, as an entry without a place. */
static void read_special(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd)
{
	struct dk_entry *entry = NULL;
	char target[4096];
	ssize_t length;

	if (fd < 0)
		return;
	read_xattrs(capture, cause, inode, fd);
	length = S_ISLNK(inode->mode) ? readlinkat(fd, "", target, sizeof(target)) : -1;
	if (length > 0)
		entry = segments_reserve(&capture->segments, sizeof(*entry) + length + 8);
	if (entry) {
		memset(entry, 0, sizeof(*entry));
		entry->header = *cause;
		entry->header.type = DK_ENTRY;
		entry->header.flags = 0;
		entry->inode = *inode;
		entry->read_from_ns = entry->read_to_ns = now_ns();
		entry->header.enter_ns = entry->header.exit_ns = entry->header.t_ns = entry->read_from_ns;
		entry->target_len = length;
		memcpy(entry + 1, target, length);
		entry->header.size = sizeof(*entry) + ((length + 7) & ~7l);
		segments_commit(&capture->segments, entry->header.size);
	}
	close(fd);
}

/* Is this the directory that came in? The kernel has looked at once, unless somebody had moved it by then. */
static bool has_come_in(const struct dk_name *record, const char *path2, int i, int fd)
{
	if (record->outside >> DK_TOUCHED_MAX)
		return record->outside >> (DK_TOUCHED_MAX + i) & 1;
	return has_name(fd, path2, record->path2_len) && is_below_touched(record, fd);
}

/* A directory has come in, and which one it was is not known: what is in them was not read. */
static void tell_unread(struct capture *capture, const struct dk_name *record)
{
	const struct dk_inode *touched = (const struct dk_inode *)(record + 1);
	int directories = 0;

	for (int i = 0; i < record->touched; i++) {
		if (touched[i].mode && !S_ISDIR(touched[i].mode) && touched[i].nlink)
			return;
		directories += S_ISDIR(touched[i].mode) && !(record->outside >> i & 1);
	}
	for (int i = 0; directories > 1 && i < record->touched; i++)
		if (S_ISDIR(touched[i].mode) && !(record->outside >> i & 1))
			note_failure(capture, &record->header, &touched[i], ENOENT);
}

/* Something came in by rename or link: its bytes, or all that is below it. */
void read_import(struct capture *capture, const struct dk_name *record)
{
	const struct dk_inode *touched = (const struct dk_inode *)(record + 1);
	const char *path = (const char *)(touched + record->touched);
	const char *path2 = path + ((record->path_len + 7) & ~7u);
	bool is_read = false;

	for (int i = 0; i < record->touched; i++) {
		int fd;

		if (S_ISREG(touched[i].mode) && touched[i].nlink) {
			fd = open_import(capture, record, path2, &touched[i], O_RDONLY | O_NOATIME | O_NONBLOCK);
			if (fd >= 0)
				read_xattrs(capture, &record->header, &touched[i], fd);
			read_open_file(capture, &record->header, &touched[i], fd, 0, touched[i].size);
		} else if (!S_ISDIR(touched[i].mode) && touched[i].nlink) {
			fd = open_import(capture, record, path2, &touched[i], O_PATH | O_NOFOLLOW);
			read_special(capture, &record->header, &touched[i], fd);
		}
		if (!S_ISDIR(touched[i].mode))
			continue;
		fd = refuse_unreadable(
			capture, open_import(capture, record, path2, &touched[i], O_RDONLY | O_DIRECTORY));
		if (fd >= 0 && has_come_in(record, path2, i, fd)) {
			is_read = true;
			read_subtree(capture, &record->header, &touched[i], fd);
		} else if (fd >= 0) {
			close(fd);
		}
	}
	if (!is_read && !(record->outside >> DK_TOUCHED_MAX))
		tell_unread(capture, record);
}

void read_what_is_missing(struct capture *capture, const struct dk_header *header)
{
	if (header->type == DK_DATA) {
		const struct dk_data *data = (const void *)header;

		read_back(capture, header, &data->inode, data->offset, data->length);
	} else if (header->type == DK_COPY) {
		const struct dk_copy *copy = (const void *)header;

		read_back(capture, header, &copy->inode, copy->offset, copy->length);
	}
}
