// SPDX-License-Identifier: Apache-2.0
/*
 * truncate, ftruncate, and opening with O_TRUNC by open, creat and openat2.
 *
 * A wrong recorder misses: that growing leaves zeros where old bytes once stood; O_TRUNC that openat2 keeps in a
 * structure; O_TRUNC on a file that was just created, which is no second change; truncation through a symlink.
 *
 * EXPECT: TRUNCATE a size=3
 * EXPECT: TRUNCATE a size=20
 * EXPECT: TRUNCATE b size=1
 * EXPECT: TRUNCATE opened size=0
 * EXPECT: TRUNCATE created size=0
 * EXPECT: TRUNCATE how size=0
 * COUNT: CREATE fresh 1
 */
#include "must.h"

struct how {
	uint64_t flags, mode, resolve;
};

int main(void)
{
	struct how how = {.flags = O_WRONLY | O_TRUNC};
	int fd;

	put("a", "0123456789");
	MUST(truncate("a", 3));
	MUST(truncate("a", 20));
	put("b", "0123456789");
	MUST(symlink("b", "link"));
	MUST(truncate("link", 1));
	fd = MUST(open("b", O_RDWR));
	MUST(ftruncate(fd, 5000));
	MUST(write(fd, "head", 4));
	MUST_FAIL(ftruncate(fd, -1));

	put("opened", "old bytes");
	MUST(write(MUST(open("opened", O_WRONLY | O_TRUNC)), "new", 3));
	put("created", "old bytes");
	MUST(write(MUST(creat("created", 0600)), "new", 3));
	put("how", "old bytes");
	fd = syscall(SYS_openat2, AT_FDCWD, "how", &how, sizeof(how));
	MUST(fd);
	MUST(write(fd, "n", 1));
	MUST(open("fresh", O_WRONLY | O_CREAT | O_TRUNC, 0644));
	put("to nothing", "xyz");
	MUST(open("to nothing", O_WRONLY | O_TRUNC));
	return 0;
}
