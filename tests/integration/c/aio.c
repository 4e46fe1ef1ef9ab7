// SPDX-License-Identifier: Apache-2.0
/*
 * Linux AIO: io_submit with IOCB_CMD_PWRITE and PWRITEV, several in one call, to several files; and appending.
 *
 * A wrong recorder misses: everything, since no call but io_submit is made; all writes but the last of one io_submit; where
 * one of them ends and the next begins.
 *
 * EXPECT: WRITE one offset=0 length=5
 * EXPECT: WRITE two offset=4094 length=5000
 * EXPECT: WRITE three offset=1 length=7
 */
#include "must.h"

#include <linux/aio_abi.h>
#include <sys/uio.h>

static char large[5000];

static void fill(struct iocb *call, int op, int fd, const void *from, size_t bytes, long long offset)
{
	memset(call, 0, sizeof(*call));
	call->aio_lio_opcode = op;
	call->aio_fildes = fd;
	call->aio_buf = (uintptr_t)from;
	call->aio_nbytes = bytes;
	call->aio_offset = offset;
}

int main(void)
{
	struct iovec parts[2] = {{"vec", 3}, {"tors", 4}};
	struct iocb calls[5], *list[5];
	struct io_event events[5];
	aio_context_t context = 0;
	int one, two, three;

	if (syscall(SYS_io_setup, 16, &context) != 0)
		return 77;
	one = MUST(open("one", O_RDWR | O_CREAT, 0644));
	two = MUST(open("two", O_RDWR | O_CREAT, 0644));
	three = MUST(open("three", O_RDWR | O_CREAT, 0644));
	memset(large, 'l', sizeof(large));
	fill(&calls[0], IOCB_CMD_PWRITE, one, "first", 5, 0);
	fill(&calls[1], IOCB_CMD_PWRITE, two, large, sizeof(large), 4094);
	fill(&calls[2], IOCB_CMD_PWRITEV, three, parts, 2, 1);
	fill(&calls[3], IOCB_CMD_PWRITE, one, "S", 1, 2);
	fill(&calls[4], IOCB_CMD_FDSYNC, one, NULL, 0, 0);
	for (int i = 0; i < 5; i++)
		list[i] = &calls[i];
	MUST(syscall(SYS_io_submit, context, 5, list) == 5 ? 0 : -1);
	memset(large, 'X', sizeof(large));
	MUST(syscall(SYS_io_getevents, context, 5, 5, events, NULL));
	for (int i = 0; i < 5; i++)
		MUST((long)events[i].res);
	MUST(fcntl(one, F_SETFL, O_APPEND));
	fill(&calls[0], IOCB_CMD_PWRITE, one, "end", 3, 0);
	MUST(syscall(SYS_io_submit, context, 1, list) == 1 ? 0 : -1);
	MUST(syscall(SYS_io_getevents, context, 1, 1, events, NULL));
	return 0;
}
