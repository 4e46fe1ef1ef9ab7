// SPDX-License-Identifier: Apache-2.0
/*
 * utimensat, futimens, and the older utime, utimes, futimesat.
 *
 * A wrong recorder misses: nanoseconds; UTIME_NOW and UTIME_OMIT; times of symlinks and folders; times before 1970.
 *
 * EXPECT: UTIME a mtime_ns=1000000007000000009
 * EXPECT: UTIME b mtime_ns=5000000000
 * EXPECT: UTIME c mtime_ns=3000004000
 * EXPECT: UTIME d mtime_ns=9000008000
 * EXPECT: UTIME link mtime_ns=11
 * EXPECT: UTIME folder mtime_ns=12000000013
 * EXPECT: UTIME old mtime_ns=-86400000000000
 */
#include "must.h"
#include <sys/time.h>
#include <utime.h>

int main(void)
{
	struct timespec fine[2] = {{1, 2}, {1000000007, 9}}, kept[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
	struct timespec symlinked[2] = {{0, 10}, {0, 11}}, folder[2] = {{0, 0}, {12, 13}}, old[2] = {{0, 0}, {-86400, 0}};
	struct timeval coarse[2] = {{1, 2}, {3, 4}}, other[2] = {{1, 2}, {9, 8}};
	struct utimbuf seconds = {4, 5};

	for (const char *name = "abcdefg"; *name; name++)
		put((char[2]){*name, 0}, name);
	put("old", "old");
	MUST(utimensat(AT_FDCWD, "a", fine, 0));
	MUST(syscall(SYS_utimensat, AT_FDCWD, "e", NULL, 0));
#ifdef SYS_utime
	MUST(syscall(SYS_utime, "b", &seconds));
	MUST(syscall(SYS_utimes, "c", coarse));
	MUST(syscall(SYS_futimesat, AT_FDCWD, "d", other));
#else
	MUST(utime("b", &seconds));
	MUST(utimes("c", coarse));
	MUST(futimesat(AT_FDCWD, "d", other));
#endif
	MUST(futimens(MUST(open("f", O_RDONLY)), fine));
	MUST(utimensat(AT_FDCWD, "f", kept, 0));
	MUST(futimens(MUST(open("g", O_WRONLY)), NULL));
	MUST(symlink("a", "link"));
	MUST(utimensat(AT_FDCWD, "link", symlinked, AT_SYMLINK_NOFOLLOW));
	MUST(mkdir("folder", 0755));
	put("folder/file", "x");
	MUST(utimensat(AT_FDCWD, "folder", folder, 0));
	MUST(utimensat(AT_FDCWD, "old", old, 0));
	return 0;
}
