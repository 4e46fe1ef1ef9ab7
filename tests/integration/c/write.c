// SPDX-License-Identifier: Apache-2.0
/*
 * write, pwrite64, and where they write to.
 *
 * A wrong recorder misses: the offset of a write through a descriptor that was duplicated, inherited or moved by lseek;
 * that O_APPEND ignores the offset, for pwrite64 too; bytes written after the last name of a file is gone; it takes a
 * write of no bytes, or a failed one, for a change.
 *
 * EXPECT: CREATE plain
 * EXPECT: WRITE plain offset=0 length=5 size=5
 * EXPECT: WRITE plain offset=100 length=3 size=103
 * EXPECT: WRITE plain offset=103 length=4
 * EXPECT: WRITE plain offset=1 length=2
 * EXPECT: WRITE appended offset=6 length=6
 * EXPECT: WRITE appended offset=12 length=5
 * EXPECT: WRITE large offset=0 length=3000000
 * EXPECT: UNLINK gone
 * COUNT: WRITE plain 5
 */
#include "must.h"

int main(void)
{
	char *large = malloc(3000000);
	int fd = MUST(open("plain", O_RDWR | O_CREAT, 0644));
	int copy = MUST(dup(fd));

	MUST(write(fd, "first", 5));
	MUST(write(fd, "", 0));
	MUST(lseek(copy, 100, SEEK_SET));
	MUST(write(fd, "abc", 3));
	MUST(write(copy, "defg", 4));
	MUST(pwrite(fd, "xy", 2, 1));
	MUST(write(copy, "after pwrite", 12));
	MUST_FAIL(write(MUST(open("plain", O_RDONLY)), "no", 2));

	put("appended", "first ");
	fd = MUST(open("appended", O_WRONLY | O_APPEND));
	MUST(lseek(fd, 0, SEEK_SET));
	MUST(write(fd, "second", 6));
	MUST(pwrite(fd, "third", 5, 1)); /* Linux appends whatever the offset says */

	for (int i = 0; i < 3000000; i++)
		large[i] = (char)(i * 7 / 3);
	fd = MUST(open("large", O_WRONLY | O_CREAT, 0600));
	MUST(write(fd, large, 3000000));

	fd = MUST(open("gone", O_RDWR | O_CREAT, 0600));
	MUST(unlink("gone"));
	MUST(write(fd, "nobody reads this", 17));
	return 0;
}
