// SPDX-License-Identifier: Apache-2.0
/*
 * io_uring: write, writev, write_fixed, at an offset, at the file's position and appending, in every mode: inline or as the
 * kernel pleases, IOSQE_ASYNC, linked, without completion event, fixed files, SQPOLL, DEFER_TASKRUN.
 *
 * A wrong recorder misses: bytes whose buffer is used again as soon as the request has ended; writes that nobody is told
 * of; what a kernel thread submits; the end of a chain.
 *
 * EXPECT: WRITE plain offset=0 length=5
 * EXPECT: WRITE plain offset=5 length=7
 * EXPECT: WRITE async offset=0 length=100000
 * EXPECT: WRITE vector offset=3 length=12
 * EXPECT: WRITE fixed offset=4096 length=6000
 * EXPECT: WRITE linked offset=0 length=1
 * EXPECT: WRITE linked offset=1 length=1
 * EXPECT: WRITE linked offset=2 length=1
 * EXPECT: WRITE quiet offset=8 length=8
 * EXPECT: WRITE poll offset=0 length=4
 * EXPECT: WRITE deferred offset=0 length=8
 * EXPECT: WRITE appended offset=2 length=2
 */
#include "ring.h"

static char large[100000];

static int made(const char *path, int more)
{
	return MUST(open(path, O_RDWR | O_CREAT | more, 0644));
}

static void in_plain_ways(void)
{
	struct iovec parts[3] = {{"four", 4}, {"", 0}, {"eight...", 8}};
	struct ring ring;
	int fd = made("plain", 0);

	open_ring(&ring, 0);
	request(&ring, IORING_OP_WRITE, 0, fd, "first", 5, -1);
	MUST(one(&ring));
	request(&ring, IORING_OP_WRITE, 0, fd, " second", 7, -1);
	MUST(one(&ring));
	memset(large, 'l', sizeof(large));
	request(&ring, IORING_OP_WRITE, IOSQE_ASYNC, made("async", 0), large, sizeof(large), 0);
	MUST(one(&ring));
	memset(large, 'X', sizeof(large));
	request(&ring, IORING_OP_WRITEV, 0, made("vector", 0), parts, 3, 3);
	MUST(one(&ring));
	fd = made("appended", O_APPEND);
	request(&ring, IORING_OP_WRITE, 0, fd, "ab", 2, 0);
	MUST(one(&ring));
	request(&ring, IORING_OP_WRITE, 0, fd, "cd", 2, 0);
	MUST(one(&ring));
}

static void with_what_is_registered(void)
{
	struct iovec buffer = {malloc(16384), 16384};
	int fd = made("fixed", 0), files[2] = {-1, fd};
	struct ring ring;

	open_ring(&ring, 0);
	for (int i = 0; i < 16384; i++)
		((char *)buffer.iov_base)[i] = i * 7;
	MUST(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &buffer, 1));
	MUST(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, files, 2));
	request(&ring, IORING_OP_WRITE_FIXED, IOSQE_FIXED_FILE, 1, (char *)buffer.iov_base + 100, 6000, 4096);
	MUST(one(&ring));
	memset(buffer.iov_base, 0, 16384);
}

static void in_chains(void)
{
	int fd = made("linked", 0), quiet = made("quiet", 0);
	struct ring ring;

	open_ring(&ring, 0);
	request(&ring, IORING_OP_WRITE, IOSQE_IO_LINK, fd, "a", 1, 0);
	request(&ring, IORING_OP_WRITE, IOSQE_IO_LINK, fd, "b", 1, 1);
	request(&ring, IORING_OP_WRITE, 0, fd, "c", 1, 2);
	finish(&ring);
	request(&ring, IORING_OP_WRITE, IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS, quiet, "not told", 8, 8);
	request(&ring, IORING_OP_FSYNC, 0, quiet, NULL, 0, 0);
	finish(&ring);
	request(&ring, IORING_OP_MKDIRAT, IOSQE_CQE_SKIP_SUCCESS, AT_FDCWD, "silent", 0700, 0);
	submit(&ring);
	while (access("silent", F_OK) != 0)
		usleep(1000);
}

static void in_a_mode(unsigned flags, const char *path, const char *text)
{
	int fd = made(path, 0);
	struct ring ring;

	open_ring(&ring, flags);
	for (int i = 0; text[i]; i += 4)
		request(&ring, IORING_OP_WRITE, 0, fd, text + i, 4, i);
	finish(&ring);
	request(&ring, IORING_OP_WRITE, 0, fd, text, strlen(text), 0);
	finish(&ring);
}

int main(void)
{
	in_plain_ways();
	with_what_is_registered();
	in_chains();
	in_a_mode(IORING_SETUP_SQPOLL, "poll", "text by a thread");
	in_a_mode(IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER, "deferred", "deferred");
	return 0;
}
