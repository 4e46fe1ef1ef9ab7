// SPDX-License-Identifier: Apache-2.0
/*
 * io_uring: fallocate, ftruncate, setxattr, fsetxattr, splice, tee.
 *
 * A wrong recorder misses: sizes and extents changed with no system call; values of attributes, of 60,000 bytes too; bytes
 * from a pipe.
 *
 * EXPECT: FALLOCATE space offset=4096 length=8192
 * EXPECT: TRUNCATE short size=3
 * EXPECT: TRUNCATE short size=10
 * EXPECT: SETXATTR named text=user.one
 * EXPECT: WRITE spliced offset=2 length=9
 */
#include "ring.h"

int main(void)
{
	static char value[3000];
	int pipes[2], copies[2], fd;
	struct io_uring_sqe *sqe;
	struct ring ring;

	open_ring(&ring, 0);
	fd = MUST(open("space", O_RDWR | O_CREAT, 0644));
	sqe = request(&ring, IORING_OP_FALLOCATE, 0, fd, (void *)8192, 0, 4096);
	MUST(one(&ring));
	put("short", "longer than that");
	fd = MUST(open("short", O_RDWR));
	request(&ring, OP_FTRUNCATE, 0, fd, NULL, 0, 3);
	if (one(&ring) < 0)
		exit(77);
	request(&ring, OP_FTRUNCATE, 0, fd, NULL, 0, 10);
	MUST(one(&ring));
	put("named", "n");
	sqe = request(&ring, IORING_OP_SETXATTR, 0, 0, "user.one", 1, (uintptr_t) "1");
	sqe->addr3 = (uintptr_t) "named";
	if (one(&ring) == -EOPNOTSUPP)
		exit(77);
	memset(value, 'v', sizeof(value));
	request(&ring, IORING_OP_FSETXATTR, 0, MUST(open("named", O_RDWR)), "user.two", sizeof(value), (uintptr_t)value);
	MUST(one(&ring));
	MUST(pipe(pipes));
	MUST(pipe(copies));
	MUST(write(pipes[1], "from pipe", 9));
	sqe = request(&ring, IORING_OP_TEE, 0, copies[1], NULL, 9, 0);
	sqe->splice_fd_in = pipes[0];
	MUST(one(&ring));
	fd = MUST(open("spliced", O_RDWR | O_CREAT, 0644));
	sqe = request(&ring, IORING_OP_SPLICE, 0, fd, (void *)-1, 9, 2);
	sqe->splice_fd_in = pipes[0];
	MUST(one(&ring));
	return 0;
}
