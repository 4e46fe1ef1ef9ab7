// SPDX-License-Identifier: Apache-2.0
/* Bytes and sizes: every road by which they reach a file through a system call. */
#include "storm.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static long do_write(struct actor *actor)
{
	size_t length = a_length(actor);
	int fd = a_slot(actor);

	note(actor, "fd %d length %zu", fd, length);
	return write(fd, some_bytes(actor, length), length);
}

static long do_pwrite(struct actor *actor)
{
	size_t length = a_length(actor);
	off_t offset = an_offset(actor);
	int fd = a_slot(actor);

	note(actor, "fd %d length %zu offset %ld", fd, length, (long)offset);
	return pwrite(fd, some_bytes(actor, length), length, offset);
}

/* Cut some bytes into pieces, an empty one among them. */
static int vectors(struct actor *actor, struct iovec *pieces)
{
	size_t length = a_length(actor), first = below(actor, (unsigned)length + 1);
	char *bytes = (char *)some_bytes(actor, length);

	pieces[0] = (struct iovec){bytes, first};
	pieces[1] = (struct iovec){bytes + first, 0};
	pieces[2] = (struct iovec){bytes + first, length - first};
	return 3;
}

static long do_writev(struct actor *actor)
{
	struct iovec pieces[3];
	int fd = a_slot(actor);

	return writev(fd, pieces, vectors(actor, pieces));
}

static long do_pwritev(struct actor *actor)
{
	struct iovec pieces[3];
	off_t offset = an_offset(actor);
	int fd = a_slot(actor), count = vectors(actor, pieces);

	note(actor, "fd %d offset %ld", fd, (long)offset);
	return pwritev(fd, pieces, count, offset);
}

static long do_pwritev2(struct actor *actor)
{
	static const int flags[] = {0, RWF_APPEND, RWF_DSYNC, 0x20 /* RWF_NOAPPEND, Linux 6.9 */};
	struct iovec pieces[3];
	off_t offset = once_in(actor, 3) ? -1 : an_offset(actor);
	int fd = a_slot(actor), count = vectors(actor, pieces), flag = flags[below(actor, COUNT(flags))];

	note(actor, "fd %d offset %ld flags %d", fd, (long)offset, flag);
	return pwritev2(fd, pieces, count, offset, flag);
}

/* Each process has a file of its own for this: whose direct write was the last nobody can tell. */
static long do_direct(struct actor *actor)
{
	static char *aligned;
	size_t length = 4096 * (size_t)(1 + below(actor, 8));
	char name[16];
	long result;
	int fd;

	if (!aligned && posix_memalign((void **)&aligned, 4096, 1 << 15) != 0)
		return -1;
	snprintf(name, sizeof(name), "direct%u", actor->number);
	fd = open(name, O_WRONLY | O_CREAT | O_DIRECT, 0644);
	if (fd < 0)
		return -1;
	memcpy(aligned, some_bytes(actor, length), length);
	result = pwrite(fd, aligned, length, 4096 * (off_t)below(actor, 16));
	if (once_in(actor, 4))
		result = ftruncate(fd, 4096 * (off_t)below(actor, 16));
	close(fd);
	return result;
}

static long do_lseek(struct actor *actor)
{
	return lseek(a_slot(actor), once_in(actor, 3) ? 0 : an_offset(actor), once_in(actor, 3) ? SEEK_END : SEEK_SET);
}

static long do_ftruncate(struct actor *actor)
{
	off_t size = once_in(actor, 4) ? 0 : an_offset(actor);
	int fd = a_slot(actor);

	note(actor, "fd %d size %ld", fd, (long)size);
	return ftruncate(fd, size);
}

static long do_truncate(struct actor *actor)
{
	return truncate(a_name(actor), an_offset(actor));
}

static long do_fallocate(struct actor *actor)
{
	static const int modes[] = {0, 1, 3, 16, 17, 8, 32, 0x40 | 1 /* UNSHARE */};
	int mode = modes[below(actor, COUNT(modes))], fd = a_slot(actor);
	off_t offset = once_in(actor, 2) ? 4096 * (off_t)below(actor, 16) : an_offset(actor);
	off_t length = once_in(actor, 2) ? 4096 * (off_t)(1 + below(actor, 8)) : (off_t)a_length(actor);

	note(actor, "fd %d mode %d offset %ld length %ld", fd, mode, (long)offset, (long)length);
	return fallocate(fd, mode, offset, length);
}

static long do_copy_range(struct actor *actor)
{
	off_t from = an_offset(actor), to = an_offset(actor);
	int source = a_slot(actor), target = a_slot(actor);

	note(actor, "fd %d at %ld to fd %d at %ld", source, (long)from, target, (long)to);
	if (once_in(actor, 3))
		return copy_file_range(source, NULL, target, NULL, a_length(actor), 0);
	return copy_file_range(source, &from, target, &to, a_length(actor), 0);
}

static long do_sendfile(struct actor *actor)
{
	off_t from = below(actor, 20000);
	int source = a_slot(actor), target = a_slot(actor);

	note(actor, "fd %d to fd %d", source, target);
	return sendfile(target, source, once_in(actor, 2) ? NULL : &from, a_length(actor));
}

/* Take what is in the pipe out of it and into a file. */
static long from_pipe(struct actor *actor, long count)
{
	off_t to = an_offset(actor);
	int fd = a_slot(actor);
	char rest[65536];
	long result = -1;

	if (count > 0)
		result = splice(actor->pipes[0], NULL, fd, once_in(actor, 2) ? NULL : &to, count,
			SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (count > 0 && result < count) {
		long left = read(actor->pipes[0], rest, count - (result > 0 ? result : 0));

		note(actor, "%ld bytes were left in the pipe", left);
	}
	note(actor, "pipe to fd %d: %ld", fd, result);
	return result;
}

static long do_splice_bytes(struct actor *actor)
{
	size_t length = 1 + below(actor, 60000);

	return from_pipe(actor, write(actor->pipes[1], some_bytes(actor, length), length));
}

static long do_splice_file(struct actor *actor)
{
	loff_t from = an_offset(actor);
	int source = a_slot(actor);

	return from_pipe(
		actor, splice(source, &from, actor->pipes[1], NULL, 1 + below(actor, 60000), SPLICE_F_NONBLOCK));
}

static long do_vmsplice(struct actor *actor)
{
	size_t length = 1 + below(actor, 30000);
	struct iovec piece = {(char *)some_bytes(actor, length), length};

	return from_pipe(actor, vmsplice(actor->pipes[1], &piece, 1, SPLICE_F_NONBLOCK));
}

/* The same bytes twice: through a second pipe by tee, and into two files. */
static long do_tee(struct actor *actor)
{
	size_t length = 1 + below(actor, 30000);
	long count = write(actor->pipes[1], some_bytes(actor, length), length), result;
	int second[2];

	if (pipe(second) != 0)
		return -1;
	count = tee(actor->pipes[0], second[1], count, SPLICE_F_NONBLOCK);
	result = splice(second[0], NULL, a_slot(actor), NULL, count > 0 ? count : 0, SPLICE_F_NONBLOCK);
	close(second[0]), close(second[1]);
	return from_pipe(actor, (long)length) + result;
}

static long do_clone(struct actor *actor)
{
	struct file_clone_range range = {
		a_slot(actor), 4096 * (uint64_t)below(actor, 8), 4096, 4096 * (uint64_t)below(actor, 8)};
	int target = a_slot(actor);

	note(actor, "fd %d to fd %d", (int)range.src_fd, target);
	return once_in(actor, 2) ? ioctl(target, FICLONE, (int)range.src_fd) : ioctl(target, FICLONERANGE, &range);
}

static long do_dedupe(struct actor *actor)
{
	struct {
		struct file_dedupe_range head;
		struct file_dedupe_range_info info;
	} request = {.head = {.src_length = 4096, .dest_count = 1}, .info = {.dest_fd = a_slot(actor)}};

	return ioctl(a_slot(actor), FIDEDUPERANGE, &request);
}

static long do_sync(struct actor *actor)
{
	int fd = a_slot(actor);

	return once_in(actor, 2) ? fdatasync(fd) : sync_file_range(fd, 0, 8192, SYNC_FILE_RANGE_WRITE);
}

static const struct operation operations[] = {
	{"write", 12, do_write},
	{"pwrite", 12, do_pwrite},
	{"writev", 4, do_writev},
	{"pwritev", 4, do_pwritev},
	{"pwritev2", 5, do_pwritev2},
	{"direct", 3, do_direct},
	{"lseek", 6, do_lseek},
	{"ftruncate", 6, do_ftruncate},
	{"truncate", 4, do_truncate},
	{"fallocate", 10, do_fallocate},
	{"copy_file_range", 7, do_copy_range},
	{"sendfile", 5, do_sendfile},
	{"splice bytes", 4, do_splice_bytes},
	{"splice file", 4, do_splice_file},
	{"vmsplice", 3, do_vmsplice},
	{"tee", 2, do_tee},
	{"clone", 2, do_clone},
	{"dedupe", 1, do_dedupe},
	{"sync", 1, do_sync},
};

const struct family bytes_family = {"bytes", operations, COUNT(operations)};
