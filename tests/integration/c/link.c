// SPDX-License-Identifier: Apache-2.0
/*
 * link, linkat.
 *
 * A wrong recorder misses: that both names are one file, also after the first is gone; that linkat takes a symlink itself
 * unless told to follow it; links made from a descriptor.
 *
 * EXPECT: LINK first -> second
 * EXPECT: LINK first -> sub/third
 * EXPECT: WRITE
 * EXPECT: UNLINK first
 */
#include "must.h"

int main(void)
{
	char path[64];
	int fd, sub;

	put("first", "shared");
	MUST(link("first", "second"));
	MUST(mkdir("sub", 0755));
	sub = MUST(open("sub", O_RDONLY | O_DIRECTORY));
	MUST(linkat(AT_FDCWD, "first", sub, "third", 0));
	fd = MUST(open("second", O_WRONLY | O_APPEND));
	MUST(write(fd, " by second", 10));
	MUST(unlink("first"));
	MUST(write(fd, " after first", 12));
	MUST_FAIL(link("second", "sub/third"));
	MUST_FAIL(link("sub", "folder"));

	MUST(symlink("second", "symlink"));
	MUST(link("symlink", "symlink2"));
	MUST(linkat(AT_FDCWD, "symlink", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(linkat(AT_FDCWD, path, AT_FDCWD, "by descriptor", AT_SYMLINK_FOLLOW));
	if (linkat(fd, "", AT_FDCWD, "by empty path", AT_EMPTY_PATH) != 0 && errno != ENOENT)
		MUST(-1);
	return 0;
}
