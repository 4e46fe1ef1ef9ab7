// SPDX-License-Identifier: Apache-2.0
/* Names: made, moved, exchanged, linked and removed, with files open behind them. */
#include "storm.h"
#include <linux/fs.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static long do_open(struct actor *actor)
{
	static const int more[] = {0, 0, O_TRUNC, O_EXCL, O_APPEND, O_APPEND, O_NOFOLLOW};
	int flags = O_RDWR | O_CREAT | O_NONBLOCK | more[below(actor, COUNT(more))];
	const char *name = a_name(actor);
	int fd = open(name, flags, 0600 | below(actor, 0100));

	note(actor, "%s flags %o: fd %d", name, flags, fd);
	keep(actor, fd);
	return fd;
}

static long do_creat(struct actor *actor)
{
	int fd = creat(a_name(actor), 0640);

	keep(actor, fd);
	return fd;
}

/* By the descriptor of a folder that may have been renamed or removed since. */
static long do_openat(struct actor *actor)
{
	int folder = open(a_folder(actor), O_RDONLY | O_DIRECTORY), fd;
	char name[8];

	if (folder < 0)
		return -1;
	snprintf(name, sizeof(name), "f%u", below(actor, 4));
	if (once_in(actor, 4))
		sched_yield();
	fd = openat(folder, name, O_RDWR | O_CREAT | O_NONBLOCK, 0644);
	if (once_in(actor, 4))
		unlinkat(folder, name, 0);
	keep(actor, fd);
	close(folder);
	return fd;
}

static long do_from_within(struct actor *actor)
{
	char name[24];
	long result;

	if (chdir(a_folder(actor)) != 0)
		return -1;
	snprintf(name, sizeof(name), once_in(actor, 3) ? "../f%u" : "f%u", below(actor, 4));
	result = open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0644);
	keep(actor, (int)result);
	if (fchdir(actor->root) != 0)
		abort();
	return result;
}

static long do_unlink(struct actor *actor)
{
	const char *name = a_name(actor);

	note(actor, "%s", name);
	return unlink(name);
}

static long do_rename(struct actor *actor)
{
	const char *one = a_name(actor), *two = a_name(actor);

	note(actor, "%s to %s", one, two);
	return rename(one, two);
}

static long do_rename_folder(struct actor *actor)
{
	const char *one = a_folder(actor), *two = a_folder(actor);

	note(actor, "%s to %s", one, two);
	return rename(one, two);
}

static long do_renameat2(struct actor *actor)
{
	static const unsigned flags[] = {RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT,
		RENAME_WHITEOUT | RENAME_NOREPLACE};
	unsigned flag = flags[below(actor, COUNT(flags))];
	const char *one = a_name(actor), *two = a_name(actor);

	note(actor, "%s to %s flags %u", one, two, flag);
	return syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, two, flag);
}

static long do_exchange_folders(struct actor *actor)
{
	return syscall(SYS_renameat2, AT_FDCWD, a_folder(actor), AT_FDCWD, a_folder(actor), RENAME_EXCHANGE);
}

static long do_link(struct actor *actor)
{
	const char *one = a_name(actor), *two = a_name(actor);

	note(actor, "%s to %s", one, two);
	return linkat(AT_FDCWD, one, AT_FDCWD, two, once_in(actor, 2) ? AT_SYMLINK_FOLLOW : 0);
}

static long do_link_open(struct actor *actor)
{
	const char *name = a_name(actor);
	int fd = a_slot(actor);

	note(actor, "fd %d to %s", fd, name);
	return linkat(fd, "", AT_FDCWD, name, AT_EMPTY_PATH);
}

static long do_symlink(struct actor *actor)
{
	char target[80];

	snprintf(target, sizeof(target), once_in(actor, 4) ? "../%s" : "%s", a_name(actor));
	return symlink(target, a_name(actor));
}

static long do_mkdir(struct actor *actor)
{
	return mkdir(once_in(actor, 8) ? a_name(actor) : a_folder(actor), 0700 | below(actor, 0100));
}

static long do_rmdir(struct actor *actor)
{
	return rmdir(once_in(actor, 3) ? a_name(actor) : a_folder(actor));
}

static long do_mknod(struct actor *actor)
{
	static const mode_t types[] = {S_IFREG, S_IFIFO, S_IFCHR, S_IFSOCK};
	mode_t type = types[below(actor, COUNT(types))];

	return mknod(a_name(actor), type | 0644, type == S_IFCHR ? makedev(1, 3) : 0);
}

static long do_bind(struct actor *actor)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	long result;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", a_name(actor));
	result = bind(fd, (struct sockaddr *)&address, sizeof(address));
	close(fd);
	return result;
}

/* A file without a name is written, and may get one later, or never. */
static long do_tmpfile(struct actor *actor)
{
	const char *folder = once_in(actor, 2) ? "." : a_folder(actor);
	int fd = open(folder, O_TMPFILE | O_RDWR, 0644);
	char path[40];
	size_t length = a_length(actor);
	long result;

	if (fd < 0)
		return -1;
	result = write(fd, some_bytes(actor, length), length);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!once_in(actor, 3))
		result = linkat(AT_FDCWD, path, AT_FDCWD, a_name(actor), AT_SYMLINK_FOLLOW);
	keep(actor, fd);
	return result;
}

/* As editors save: beside, then over. */
static long do_save(struct actor *actor)
{
	size_t length = a_length(actor);
	char beside[80];
	const char *name = a_name(actor);
	int fd;

	snprintf(beside, sizeof(beside), "%s.%u", name, actor->number);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		return -1;
	if (write(fd, some_bytes(actor, length), length) < 0)
		note(actor, "errno %d", errno);
	close(fd);
	if (rename(beside, name) == 0)
		return 0;
	return unlink(beside);
}

static const struct operation operations[] = {
	{"open", 14, do_open},
	{"creat", 4, do_creat},
	{"openat", 6, do_openat},
	{"from within", 4, do_from_within},
	{"unlink", 10, do_unlink},
	{"rename", 10, do_rename},
	{"rename folder", 3, do_rename_folder},
	{"renameat2", 8, do_renameat2},
	{"exchange folders", 2, do_exchange_folders},
	{"link", 7, do_link},
	{"link open", 3, do_link_open},
	{"symlink", 4, do_symlink},
	{"mkdir", 6, do_mkdir},
	{"rmdir", 4, do_rmdir},
	{"mknod", 3, do_mknod},
	{"bind", 2, do_bind},
	{"tmpfile", 5, do_tmpfile},
	{"save", 5, do_save},
};

const struct family names_family = {"names", operations, COUNT(operations)};
