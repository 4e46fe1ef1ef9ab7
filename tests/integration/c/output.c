// SPDX-License-Identifier: Apache-2.0
/*
 * Standard output and error, whoever writes to them and through whatever descriptor.
 *
 * A wrong recorder misses: output through a duplicate, of a child, by vectors; and takes for output what goes to a pipe of
 * the command's own, or to a descriptor 1 that is something else by now.
 *
 * EXPECT: OUTPUT detail=1 length=4
 * EXPECT: OUTPUT detail=2 length=5
 * EXPECT: OUTPUT detail=1 length=7
 * EXPECT: OUTPUT detail=1 length=6
 * EXPECT: WRITE redirected length=10
 */
#include "must.h"
#include <sys/uio.h>
#include <sys/wait.h>

int main(void)
{
	struct iovec two[2] = {{"abc", 3}, {"def\n", 4}};
	int out = MUST(dup(1)), ends[2];

	MUST(write(1, "out\n", 4));
	MUST(write(2, "err!\n", 5));
	MUST(writev(out, two, 2));
	if (MUST(fork()) == 0) {
		MUST(write(1, "child\n", 6));
		_exit(0);
	}
	MUST(wait(NULL));
	MUST(pipe(ends));
	MUST(write(ends[1], "not output", 10));
	MUST(dup2(MUST(open("redirected", O_WRONLY | O_CREAT, 0644)), 1));
	MUST(write(1, "redirected", 10));
	return 0;
}
