// SPDX-License-Identifier: Apache-2.0
/*
 * chmod, fchmod, fchmodat, fchmodat2.
 *
 * A wrong recorder misses: that the argument is not what is left (set-id bits); that chmod follows symlinks; the new call
 * fchmodat2, with an empty path too; folders.
 *
 * EXPECT: CHMOD a mode=0600
 * EXPECT: CHMOD b mode=04711
 * EXPECT: CHMOD folder mode=01777
 * EXPECT: CHMOD folder/c mode=0000
 */
#include "must.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

int main(void)
{
	int fd, folder;

	put("a", "a");
	MUST(chmod("a", 0600));
	put("b", "b");
	fd = MUST(open("b", O_RDONLY));
	MUST(fchmod(fd, 04711));
	MUST(mkdir("folder", 0755));
	folder = MUST(open("folder", O_RDONLY | O_DIRECTORY));
	MUST(fchmod(folder, 01777));
	put("folder/c", "c");
	MUST(symlink("folder/c", "link"));
	MUST(chmod("link", 0000));
	put("folder/d", "d");
	MUST(fchmodat(folder, "d", 0640, 0));
	put("folder/e", "e");
	if (syscall(SYS_fchmodat2, folder, "e", 0604, AT_SYMLINK_NOFOLLOW) != 0 && errno != ENOSYS)
		MUST(-1);
	if (syscall(SYS_fchmodat2, fd, "", 0111, AT_EMPTY_PATH) != 0 && errno != ENOSYS)
		MUST(-1);
	MUST_FAIL(chmod("none", 0600));
	return 0;
}
