// SPDX-License-Identifier: Apache-2.0
/*
 * What looks like a change of a file below the root, and is none: memory files, devices, pipes, sockets.
 *
 * A wrong recorder takes bytes that go to a device, or to a memory file, for those of a file; or it misses that a fifo's
 * modification time changes when somebody writes into it.
 *
 * EXPECT: MKNOD fifo
 * EXPECT: UTIME fifo
 * COUNT: WRITE null 0
 * COUNT: WRITE fifo 0
 * COUNT: TRUNCATE null 0
 */
#include "must.h"
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

int main(void)
{
	struct iovec vector = {"vector", 6};
	int memory = MUST(memfd_create("not ours", 0)), pair[2], fifo, source;

	MUST(write(memory, "in memory", 9));
	MUST(pwrite(memory, "x", 1, 100000));
	MUST(ftruncate(memory, 5));
	MUST(fchmod(memory, 0600));
	MUST(fallocate(memory, 0, 0, 100000));

	if (mknod("null", S_IFCHR | 0666, 1 << 8 | 3) == 0) {
		int null = open("null", O_WRONLY | O_TRUNC | O_CREAT, 0644);

		if (null >= 0) { /* not where devices are not allowed */
			MUST(write(null, "nowhere", 7));
			MUST(writev(null, &vector, 1));
		}
	}
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	MUST(write(pair[0], "to a socket", 11));

	MUST(mkfifo("fifo", 0600));
	instant("made");
	fifo = MUST(open("fifo", O_RDWR));
	MUST(write(fifo, "a line", 6));
	instant("written to");
	MUST(writev(fifo, &vector, 1));
	instant("again");
	source = MUST(open("/proc/self/exe", O_RDONLY));
	MUST(sendfile(fifo, source, NULL, 100));
	instant("sent to");
	MUST(unlink("fifo"));
	MUST(mkfifo("fifo", 0600));
	return 0;
}
