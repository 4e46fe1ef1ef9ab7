// SPDX-License-Identifier: Apache-2.0
/*
 * O_DIRECT by io_uring and AIO: from one buffer, a vector, a registered buffer; growing a file and over what is there.
 *
 * A wrong recorder misses: bytes that never stand in the page cache, of writes that end when their call is long over; or
 * reads them from buffers that are used again.
 *
 * EXPECT: WRITE ring offset=0 length=8192
 * EXPECT: WRITE ring offset=8192 length=12288
 * EXPECT: WRITE ring offset=4096 length=4096
 * EXPECT: WRITE aio offset=0 length=16384
 * EXPECT: WRITE aio offset=4096 length=4096
 */
#include "ring.h"

#include <linux/aio_abi.h>

enum { PAGE = 4096 };

static char *buffer;

static void fill(int seed)
{
	for (int i = 0; i < 4 * PAGE; i++)
		buffer[i] = i * 31 + seed + (i >> 12);
}

static void by_ring(void)
{
	struct iovec whole, parts[2];
	struct ring ring;
	int fd = open("ring", O_RDWR | O_CREAT | O_DIRECT, 0644);

	if (fd < 0)
		exit(77);
	open_ring(&ring, 0);
	whole = (struct iovec){buffer, 4 * PAGE};
	MUST(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &whole, 1));
	fill(1);
	request(&ring, IORING_OP_WRITE, 0, fd, buffer, 2 * PAGE, 0);
	finish(&ring);
	fill(2);
	parts[0] = (struct iovec){buffer + PAGE, PAGE};
	parts[1] = (struct iovec){buffer, 2 * PAGE};
	request(&ring, IORING_OP_WRITEV, 0, fd, parts, 2, 2 * PAGE);
	finish(&ring);
	fill(3);
	MUST(fsync(fd));
	request(&ring, IORING_OP_WRITE_FIXED, 0, fd, buffer + 2 * PAGE, PAGE, PAGE);
	finish(&ring);
	fill(4);
}

static void by_aio(void)
{
	struct iocb call = {.aio_lio_opcode = IOCB_CMD_PWRITE}, *list[1] = {&call};
	aio_context_t context = 0;
	struct io_event event;
	int fd = MUST(open("aio", O_RDWR | O_CREAT | O_DIRECT, 0644));

	MUST(syscall(SYS_io_setup, 4, &context));
	call.aio_fildes = fd;
	call.aio_buf = (uintptr_t)buffer;
	call.aio_nbytes = 4 * PAGE;
	MUST(syscall(SYS_io_submit, context, 1, list));
	MUST(syscall(SYS_io_getevents, context, 1, 1, &event, NULL));
	MUST(event.res == 4 * PAGE ? 0 : -1);
	MUST(fsync(fd));
	fill(5);
	call.aio_nbytes = PAGE;
	call.aio_offset = PAGE;
	MUST(syscall(SYS_io_submit, context, 1, list));
	MUST(syscall(SYS_io_getevents, context, 1, 1, &event, NULL));
	MUST(event.res == PAGE ? 0 : -1);
	fill(6);
}

int main(void)
{
	buffer = aligned_alloc(PAGE, 4 * PAGE);
	by_ring();
	by_aio();
	return 0;
}
