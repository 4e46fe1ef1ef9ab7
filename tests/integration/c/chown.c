// SPDX-License-Identifier: Apache-2.0
/*
 * chown, fchown, lchown, fchownat.
 *
 * A wrong recorder misses: that -1 leaves an owner as it was; that changing the owner clears set-id bits; that lchown and
 * AT_SYMLINK_NOFOLLOW take the symlink itself. Without root, owners are set to what they are: still changes.
 *
 * EXPECT: CHOWN a
 * EXPECT: CHOWN b
 * EXPECT: CHOWN link
 * EXPECT: CHOWN folder
 */
#include "must.h"

int main(void)
{
	uid_t user = geteuid() == 0 ? 1234 : geteuid();
	gid_t group = geteuid() == 0 ? 4321 : getegid();
	int fd;

	put("a", "a");
	MUST(chmod("a", 06755));
	MUST(chown("a", user, -1));
	MUST(chown("a", -1, group));
	put("b", "b");
	fd = MUST(open("b", O_RDONLY));
	MUST(fchown(fd, user, group));
	MUST(symlink("a", "link"));
	MUST(lchown("link", user, group));
	MUST(symlink("b", "other"));
	MUST(fchownat(AT_FDCWD, "other", -1, group, AT_SYMLINK_NOFOLLOW));
	MUST(fchownat(AT_FDCWD, "other", user, -1, 0));
	MUST(fchownat(fd, "", user, group, AT_EMPTY_PATH));
	MUST(mkdir("folder", 0755));
	MUST(chown("folder", user, group));
	return 0;
}
