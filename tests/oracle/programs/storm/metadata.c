// SPDX-License-Identifier: Apache-2.0
/* Metadata: modes, owners, times, extended attributes, access control lists, flags. */
#include "storm.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

static mode_t a_mode(struct actor *actor)
{
	return below(actor, 010000);
}

static long do_chmod(struct actor *actor)
{
	return once_in(actor, 2) ? chmod(a_name(actor), a_mode(actor))
				 : fchmodat(AT_FDCWD, a_name(actor), a_mode(actor), 0);
}

static long do_fchmod(struct actor *actor)
{
	return fchmod(a_slot(actor), a_mode(actor));
}

static uid_t an_owner(struct actor *actor)
{
	return once_in(actor, 4) ? (uid_t)-1 : below(actor, 4) * 1000;
}

static long do_chown(struct actor *actor)
{
	uid_t user = an_owner(actor), group = an_owner(actor);

	return once_in(actor, 2) ? lchown(a_name(actor), user, group) : chown(a_name(actor), user, group);
}

static long do_fchown(struct actor *actor)
{
	uid_t user = an_owner(actor), group = an_owner(actor);
	int fd = a_slot(actor);

	return once_in(actor, 2) ? fchown(fd, user, group) : fchownat(fd, "", user, group, AT_EMPTY_PATH);
}

static struct timespec a_time(struct actor *actor)
{
	struct timespec time = {below(actor, 2000000000), below(actor, 1000000000)};

	if (once_in(actor, 4))
		time.tv_nsec = once_in(actor, 2) ? UTIME_NOW : UTIME_OMIT;
	return time;
}

static long do_utimensat(struct actor *actor)
{
	struct timespec times[2] = {a_time(actor), a_time(actor)};

	return utimensat(AT_FDCWD, a_name(actor), times, once_in(actor, 2) ? AT_SYMLINK_NOFOLLOW : 0);
}

static long do_futimens(struct actor *actor)
{
	struct timespec times[2] = {a_time(actor), a_time(actor)};

	return futimens(a_slot(actor), times);
}

static long do_utime(struct actor *actor)
{
	struct utimbuf old = {5, 1 + below(actor, 1000000000)};
	struct timeval times[2] = {{1, 2}, {below(actor, 1000000000), 999999}};

	return once_in(actor, 2) ? utime(a_name(actor), once_in(actor, 3) ? NULL : &old) : utimes(a_name(actor), times);
}

static const char *an_attribute(struct actor *actor)
{
	static const char *const names[] = {"user.a", "user.b", "user.a rather longer name", "trusted.t"};

	return names[below(actor, COUNT(names))];
}

static long do_setxattr(struct actor *actor)
{
	static const int flags[] = {0, 0, 0, XATTR_CREATE, XATTR_REPLACE};
	size_t length = below(actor, 200);
	const char *value = some_bytes(actor, length), *name = an_attribute(actor);
	int flag = flags[below(actor, COUNT(flags))];

	switch (below(actor, 3)) {
	case 0:
		return setxattr(a_name(actor), name, value, length, flag);
	case 1:
		return lsetxattr(a_name(actor), name, value, length, flag);
	default:
		return fsetxattr(a_slot(actor), name, value, length, flag);
	}
}

static long do_removexattr(struct actor *actor)
{
	switch (below(actor, 3)) {
	case 0:
		return removexattr(a_name(actor), an_attribute(actor));
	case 1:
		return lremovexattr(a_name(actor), an_attribute(actor));
	default:
		return fremovexattr(a_slot(actor), an_attribute(actor));
	}
}

/* The form is that of linux/posix_acl_xattr.h: a version, then (tag, permissions, id) in ascending order. */
struct entry {
	uint16_t tag, permissions;
	uint32_t id;
};

static long do_acl(struct actor *actor)
{
	struct {
		uint32_t version;
		struct entry entries[5];
	} list = {2, {{1, below(actor, 8), -1}, {2, below(actor, 8), 1000 + below(actor, 3)}, {4, below(actor, 8), -1},
			     {0x10, below(actor, 8), -1}, {0x20, below(actor, 8), -1}}};
	size_t size = sizeof(list);

	if (once_in(actor, 3)) { /* without named users and mask: no more than a mode */
		list.entries[1] = list.entries[2];
		list.entries[2] = list.entries[4];
		size = sizeof(uint32_t) + 3 * sizeof(struct entry);
	}
	if (once_in(actor, 3))
		return setxattr(a_folder(actor), "system.posix_acl_default", &list, size, 0);
	return setxattr(a_name(actor), "system.posix_acl_access", &list, size, 0);
}

static long do_remove_acl(struct actor *actor)
{
	if (once_in(actor, 2))
		return removexattr(a_folder(actor), "system.posix_acl_default");
	return removexattr(a_name(actor), "system.posix_acl_access");
}

/* A file capability (linux/capability.h, revision 2): gone with the next write or chown. */
static long do_capability(struct actor *actor)
{
	uint32_t value[5] = {0x02000000, 1 << below(actor, 20), 0, 0, 0};

	return setxattr(a_name(actor), "security.capability", value, sizeof(value), 0);
}

static long do_flags(struct actor *actor)
{
	int fd = a_slot(actor);
	long flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0)
		return -1;
	flags ^= FS_NODUMP_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static const struct operation operations[] = {
	{"chmod", 6, do_chmod},
	{"fchmod", 4, do_fchmod},
	{"chown", 5, do_chown},
	{"fchown", 3, do_fchown},
	{"utimensat", 5, do_utimensat},
	{"futimens", 3, do_futimens},
	{"utime", 3, do_utime},
	{"setxattr", 8, do_setxattr},
	{"removexattr", 4, do_removexattr},
	{"acl", 4, do_acl},
	{"remove acl", 2, do_remove_acl},
	{"capability", 1, do_capability},
	{"flags", 1, do_flags},
};

const struct family metadata_family = {"metadata", operations, COUNT(operations)};
