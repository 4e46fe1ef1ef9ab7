// SPDX-License-Identifier: Apache-2.0
/*
 * fallocate in every mode.
 *
 * A wrong recorder misses: that only some modes change the size; that PUNCH_HOLE and ZERO_RANGE zero bytes within
 * blocks; that COLLAPSE_RANGE and INSERT_RANGE move all that follows; that a call may fail and have changed the
 * modification time all the same, as ext4 does where a range is not aligned, or a buffer not there.
 *
 * EXPECT: FALLOCATE f size=20000
 * EXPECT: FALLOCATE f detail=1
 * EXPECT: FALLOCATE f detail=3
 * EXPECT: WRITE f
 */
#include "must.h"
#include <linux/falloc.h>

/* Not every file system has every mode: what is refused is no change. */
static void maybe(int fd, int mode, off_t offset, off_t length)
{
	if (fallocate(fd, mode, offset, length) != 0 && errno != EOPNOTSUPP)
		MUST(-1);
}

int main(void)
{
	char bytes[64 * 1024];
	int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));

	MUST(fallocate(fd, 0, 0, 20000));
	MUST(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000));
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(1 + i % 250);
	MUST(pwrite(fd, bytes, sizeof(bytes), 0));
	MUST(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 5000));
	maybe(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 9000, 3);
	maybe(fd, FALLOC_FL_ZERO_RANGE, 65000, 5000);
	maybe(fd, FALLOC_FL_COLLAPSE_RANGE, 8192, 4096);
	maybe(fd, FALLOC_FL_INSERT_RANGE, 4096, 8192);
	MUST(pwrite(fd, "marker", 6, 30000));
	maybe(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000000, 5000); /* beyond the end: changes nothing */

	fd = MUST(open("failed", O_RDWR | O_CREAT, 0644));
	MUST(write(fd, bytes, sizeof(bytes)));
	MUST(futimens(fd, (struct timespec[2]){{1, 2}, {3, 4}}));
	if (fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 100, 4096) == 0)
		MUST(-1);
	instant("not aligned");
	MUST(futimens(fd, (struct timespec[2]){{1, 2}, {5, 6}}));
	MUST_FAIL(pwrite(fd, (void *)16, 4096, 0));
	instant("no buffer");
	MUST(futimens(fd, (struct timespec[2]){{1, 2}, {7, 8}}));
	MUST_FAIL(ftruncate(fd, -1));
	instant("no change");
	return 0;
}
