// SPDX-License-Identifier: Apache-2.0
/*
 * setxattr, lsetxattr, fsetxattr, removexattr, lremovexattr, fremovexattr; setxattrat and removexattrat (Linux 6.13).
 *
 * A wrong recorder misses: values with NUL bytes, empty ones, long ones; replaced and removed ones; folders; that the
 * recorded file is the symlink's target.
 *
 * EXPECT: SETXATTR a text=user.one
 * EXPECT: SETXATTR a text=user.two
 * EXPECT: REMOVEXATTR a text=user.gone
 * EXPECT: SETXATTR folder text=user.folder
 */
#include "must.h"
#include <sys/xattr.h>

enum { SETXATTRAT = 463, REMOVEXATTRAT = 466 };

/* struct xattr_args */
struct value {
	uint64_t at;
	uint32_t size, flags;
};

static void by_directory(int folder)
{
	struct value value = {(uintptr_t) "at\0at", 5, 0};
	int fd = MUST(openat(folder, "inside", O_RDONLY | O_CREAT, 0600));

	if (syscall(SETXATTRAT, folder, "inside", 0, "user.at", &value, sizeof(value)) != 0 && errno == ENOSYS)
		return;
	MUST(syscall(SETXATTRAT, fd, "", AT_EMPTY_PATH, "user.gone", &value, sizeof(value)));
	instant("by directory");
	MUST(syscall(REMOVEXATTRAT, folder, "inside", 0, "user.gone"));
	value.size = 0;
	MUST(syscall(SETXATTRAT, AT_FDCWD, "link", 0, "user.at too", &value, sizeof(value)));
	MUST_FAIL(syscall(REMOVEXATTRAT, AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW, "user.at too"));
}

int main(void)
{
	char value[3000];
	int fd, folder;

	memset(value, 'v', sizeof(value));
	put("a", "a");
	fd = MUST(open("a", O_RDONLY));
	if (setxattr("a", "user.one", "1\0\xff", 3, 0) != 0) {
		dprintf(2, "no extended attributes here\n");
		return errno == EOPNOTSUPP ? 77 : 1;
	}
	MUST(fsetxattr(fd, "user.two", "", 0, XATTR_CREATE));
	MUST(fsetxattr(fd, "user.two", value, sizeof(value), XATTR_REPLACE));
	MUST(lsetxattr("a", "user.gone", "x", 1, 0));
	MUST(removexattr("a", "user.gone"));
	MUST(setxattr("a", "user.gone2", "x", 1, 0));
	MUST(fremovexattr(fd, "user.gone2"));
	MUST(symlink("a", "link"));
	MUST(setxattr("link", "user.by link", "y", 1, 0));
	MUST(mkdir("folder", 0755));
	folder = MUST(open("folder", O_RDONLY | O_DIRECTORY));
	MUST(fsetxattr(folder, "user.folder", "f", 1, 0));
	by_directory(folder);
	MUST_FAIL(removexattr("a", "user.none"));
	MUST_FAIL(setxattr("a", "user.one", "2", 1, XATTR_CREATE));
	return 0;
}
