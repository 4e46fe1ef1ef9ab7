// SPDX-License-Identifier: Apache-2.0
/*
 * fork, vfork, exec and exit, and what their processes write.
 *
 * A wrong recorder misses: writes of children through inherited descriptors; the cwd of a child; a process that lives for
 * microseconds; what an orphan writes after its parent has ended.
 *
 * EXPECT: FORK
 * EXPECT: EXEC
 * EXPECT: EXIT
 * EXPECT: WRITE inherited length=6
 * EXPECT: WRITE sub/by child
 * EXPECT: WRITE by shell
 * EXPECT: WRITE by orphan
 */
#include "must.h"
#include <sys/wait.h>

int main(void)
{
	int fd = MUST(open("inherited", O_WRONLY | O_CREAT, 0644)), ends[2];
	char byte;

	MUST(mkdir("sub", 0755));
	if (MUST(fork()) == 0) {
		MUST(write(fd, "child\n", 6));
		MUST(chdir("sub"));
		put("by child", "in its own cwd");
		_exit(3);
	}
	MUST(wait(NULL));
	MUST(write(fd, "parent\n", 7));
	if (MUST(vfork()) == 0) {
		execl("/bin/sh", "sh", "-c", "echo shell > 'by shell'", (char *)NULL);
		_exit(127);
	}
	MUST(wait(NULL));
	MUST(pipe(ends));
	if (MUST(fork()) == 0) {
		if (MUST(fork()) > 0)
			_exit(0);
		put("by orphan", "its parent is gone");
		_exit(0);
	}
	MUST(close(ends[1]));
	MUST(wait(NULL));
	MUST(read(ends[0], &byte, 1)); /* ends when the orphan has: only it holds the other end */
	return 0;
}
