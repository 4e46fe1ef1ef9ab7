// SPDX-License-Identifier: Apache-2.0
/*
 * Change files by io_uring and AIO: SEED PROCESSES ROUNDS. Each process has a ring of another kind and files of its
 * own, and all of them are after the same few names. Buffers are filled anew as soon as nothing is on its way.
 */
#include "ring.h"

#include <linux/aio_abi.h>
#include <linux/openat2.h>
#include <sys/wait.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

enum { FILES = 5, COMMON = 6, ROOM = 1 << 16, BATCH = 12, PAGE = 4096, SLOTS = 8, CALLS = 16 };

static unsigned long chance;
static int self, files[FILES], direct;
static struct ring ring;
static char *room[BATCH], *fixed, *lasting;
static char names[BATCH][2][64];
static struct iovec parts[BATCH][3];
static unsigned used, in_direct;
static aio_context_t context;

static unsigned below(unsigned limit)
{
	chance = chance * 6364136223846793005ul + 1442695040888963407ul;
	return (chance >> 33) % limit;
}

static void fill(char *to, unsigned length)
{
	unsigned start = below(256);

	for (unsigned i = 0; i < length; i++)
		to[i] = (char)(start + i * 7 + (i >> 8));
}

static const char *own(int which)
{
	snprintf(names[used][which], sizeof(names[0][0]), "p%d/n%u", self, below(COMMON));
	return names[used][which];
}

static const char *common(int which)
{
	snprintf(names[used][which], sizeof(names[0][0]), "common/n%u", below(COMMON));
	return names[used][which];
}

static const char *some_name(int which)
{
	return below(3) ? own(which) : common(which);
}

/* Rings know one of the two: requests that wait for all before them, and such that tell nobody when they succeed. */
static int is_quiet(void)
{
	return self % 2;
}

/* How a request is to be run. A chain must not end with what is the last of a batch. */
static unsigned some_flags(int is_last)
{
	unsigned flags = 0;

	if (below(3) == 0)
		flags |= IOSQE_ASYNC;
	if (below(3) == 0 && !is_last)
		flags |= below(2) ? IOSQE_IO_LINK : IOSQE_IO_HARDLINK;
	if (below(12) == 0 && !is_quiet())
		flags |= IOSQE_IO_DRAIN;
	return flags;
}

static unsigned some_length(void)
{
	return below(4) ? 1 + below(6000) : 1 + below(ROOM);
}

static void write_somewhere(unsigned flags)
{
	unsigned length = some_length(), file = below(FILES);
	uint64_t offset = below(5) ? below(100000) : (uint64_t)-1;
	int target = files[file];

	if (below(2)) {
		flags |= IOSQE_FIXED_FILE;
		target = file;
	}
	switch (below(4)) {
	case 0:
		for (int i = 0, at = 0; i < 3; i++) {
			unsigned part = i == 2 ? length - at : below(length - at + 1);

			parts[used][i] = (struct iovec){room[used] + at, part};
			at += part;
		}
		fill(room[used], length);
		request(&ring, IORING_OP_WRITEV, flags, target, parts[used], 3, offset);
		break;
	case 1:
		length = 1 + below(PAGE);
		fill(fixed + used * PAGE, length);
		request(&ring, IORING_OP_WRITE_FIXED, flags, target, fixed + used * PAGE, length, offset);
		break;
	default:
		fill(room[used], length);
		request(&ring, IORING_OP_WRITE, flags, target, room[used], length, offset);
	}
}

/* Nobody is told of these, so their bytes stay as they are. When one fails, what is linked to it is not told of either.
 */
static void write_quietly(int is_chain)
{
	for (unsigned i = 0; i < 1u + is_chain; i++) {
		unsigned length = 1 + below(9000), flags = is_chain && !i ? IOSQE_IO_LINK : below(2) ? IOSQE_ASYNC : 0;
		const char *from = lasting + below(ROOM - 9000);

		request(&ring, IORING_OP_WRITE, flags | IOSQE_CQE_SKIP_SUCCESS, files[below(FILES)], from, length,
			below(100000))
			->user_data = 1;
	}
}

static void reap_all(void)
{
	while (ring.in_flight) {
		reap(&ring);
		ring.in_flight += ring.told; /* it had failed, and was not expected */
	}
}

/* Past the page cache: at places of its own within a batch, since the kernel does not say which of two was the last. */
static void write_directly(unsigned flags)
{
	unsigned pages = 1 + below(3), place = in_direct++;

	fill(room[used], pages * PAGE);
	if (below(2)) {
		parts[used][0] = (struct iovec){room[used], PAGE};
		parts[used][1] = (struct iovec){room[used] + PAGE, (pages - 1) * PAGE};
		request(&ring, IORING_OP_WRITEV, flags, direct, parts[used], pages > 1 ? 2 : 1, place * 3 * PAGE);
	} else {
		request(&ring, IORING_OP_WRITE, flags, direct, room[used], pages * PAGE, place * 3 * PAGE);
	}
}

static void change_size(unsigned flags)
{
	static const int modes[] = {0, 1, 3, 16, 17, 3};
	int target = files[below(FILES)];

	if (below(3))
		request(&ring, IORING_OP_FALLOCATE, flags, target, (void *)(uintptr_t)(1 + below(20000)),
			modes[below(6)], below(100000));
	else
		request(&ring, OP_FTRUNCATE, flags, target, NULL, 0, below(100000));
}

static void change_names(unsigned flags)
{
	struct io_uring_sqe *sqe;

	switch (below(8)) {
	case 0:
		request(&ring, IORING_OP_MKDIRAT, flags, AT_FDCWD, some_name(0), 0700 + below(64), 0);
		break;
	case 1:
		sqe = request(&ring, IORING_OP_UNLINKAT, flags, AT_FDCWD, some_name(0), 0, 0);
		sqe->unlink_flags = below(2) ? AT_REMOVEDIR : 0;
		break;
	case 2:
		request(&ring, IORING_OP_SYMLINKAT, flags, AT_FDCWD, "to somewhere", 0, (uintptr_t)some_name(0));
		break;
	case 3:
		sqe = request(
			&ring, IORING_OP_LINKAT, flags, AT_FDCWD, some_name(0), AT_FDCWD, (uintptr_t)some_name(1));
		break;
	case 4:
		sqe = request(&ring, IORING_OP_OPENAT, flags, AT_FDCWD, some_name(0), 0600 + below(64), 0);
		sqe->open_flags = O_WRONLY | O_CREAT | (below(2) ? O_TRUNC : 0);
		sqe->file_index = FILES + 1 + below(SLOTS - FILES);
		break;
	case 5:
		fill(room[used], 3000);
		request(&ring, IORING_OP_WRITE, flags | IOSQE_FIXED_FILE, FILES + below(SLOTS - FILES), room[used],
			3000, below(9000));
		break;
	default:
		sqe = request(
			&ring, IORING_OP_RENAMEAT, flags, AT_FDCWD, some_name(0), AT_FDCWD, (uintptr_t)some_name(1));
		sqe->rename_flags = below(3) ? 0 : RENAME_EXCHANGE;
	}
}

static void change_values(unsigned flags)
{
	unsigned length = below(60);

	fill(room[used], length);
	request(&ring, IORING_OP_FSETXATTR, flags, files[below(FILES)], below(2) ? "user.a" : "user.b", length,
		(uintptr_t)room[used]);
}

static void splice_in(void)
{
	unsigned length = 1 + below(9000);
	struct io_uring_sqe *sqe;
	int pipes[2];

	MUST(pipe(pipes));
	fill(room[used], length);
	MUST(write(pipes[1], room[used], length));
	sqe = request(&ring, IORING_OP_SPLICE, 0, files[below(FILES)], (void *)-1, length, below(100000));
	sqe->splice_fd_in = pipes[0];
	submit(&ring);
	reap_all();
	close(pipes[0]), close(pipes[1]);
}

/* Results are whatever the kernel says: names may be gone, chains broken off. */
static void by_ring(void)
{
	unsigned count = 1 + below(BATCH);

	in_direct = 0;
	for (used = 0; used < count; used++) {
		unsigned flags = some_flags(used + 1 == count);

		switch (below(10)) {
		case 0 ... 3:
			write_somewhere(flags);
			break;
		case 4:
			if (direct >= 0)
				write_directly(flags);
			break;
		case 5:
			change_size(flags);
			break;
		case 6:
			change_values(flags);
			break;
		default:
			change_names(flags);
		}
	}
	if (is_quiet() && below(3) == 0)
		write_quietly(below(2));
	submit(&ring);
	reap_all();
	used = 0;
}

static void by_submit(void)
{
	struct iocb calls[CALLS] = {0}, *list[CALLS];
	struct io_event events[CALLS];
	int count = 1 + below(BATCH), done;

	for (int i = 0; i < count; i++) {
		struct iocb *call = list[i] = &calls[i];
		unsigned length = some_length();

		call->aio_fildes = files[below(FILES)];
		call->aio_offset = below(100000);
		call->aio_lio_opcode = IOCB_CMD_PWRITE;
		call->aio_buf = (uintptr_t)room[i];
		call->aio_nbytes = length;
		if (direct >= 0 && below(3) == 0) {
			call->aio_fildes = direct;
			call->aio_offset = i * 3 * PAGE;
			call->aio_nbytes = length = PAGE * (1 + below(3));
		} else if (below(3) == 0) {
			parts[i][0] = (struct iovec){room[i], length / 2};
			parts[i][1] = (struct iovec){room[i] + length / 2, length - length / 2};
			call->aio_lio_opcode = IOCB_CMD_PWRITEV;
			call->aio_buf = (uintptr_t)parts[i];
			call->aio_nbytes = 2;
		}
		fill(room[i], length);
	}
	done = MUST(syscall(SYS_io_submit, context, count, list));
	while (done > 0) {
		int got = syscall(SYS_io_getevents, context, 1, CALLS, events, NULL);

		if (got > 0)
			done -= got;
		else if (errno != EINTR)
			MUST(-1);
	}
}

static void prepare(void)
{
	static const unsigned kinds[] = {
		0, IORING_SETUP_SQPOLL, IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER, 0};
	struct iovec buffer = {0};
	int slots[SLOTS];
	char name[64];

	open_ring(&ring, kinds[self % 4]);
	for (int i = 0; i < BATCH; i++)
		MUST(posix_memalign((void **)&room[i], PAGE, ROOM) ? -1 : 0);
	MUST(posix_memalign((void **)&fixed, PAGE, BATCH * PAGE) ? -1 : 0);
	lasting = malloc(ROOM);
	fill(lasting, ROOM);
	snprintf(name, sizeof(name), "p%d", self);
	MUST(mkdir(name, 0755));
	for (int i = 0; i < SLOTS; i++)
		slots[i] = -1;
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "p%d/f%d", self, i);
		slots[i] = files[i] = MUST(open(name, O_RDWR | O_CREAT | (i == 0 ? O_APPEND : 0), 0644));
	}
	files[FILES - 1] = slots[FILES - 1] = MUST(open("shared", O_RDWR | O_CREAT, 0644));
	snprintf(name, sizeof(name), "p%d/direct", self);
	direct = open(name, O_RDWR | O_CREAT | O_DIRECT, 0644);
	buffer = (struct iovec){fixed, BATCH * PAGE};
	MUST(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &buffer, 1));
	MUST(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, slots, SLOTS));
	MUST(syscall(SYS_io_setup, CALLS, &context));
}

static void work(unsigned long seed, int rounds)
{
	chance = seed * 1000 + self;
	prepare();
	for (int round = 0; round < rounds; round++) {
		switch (below(8)) {
		case 0:
			by_submit();
			break;
		case 1:
			splice_in();
			break;
		default:
			by_ring();
		}
	}
	_exit(0);
}

int main(int count, char **words)
{
	int processes = count == 4 ? atoi(words[2]) : 1, worst = 0;

	MUST(mkdir("common", 0755));
	for (self = 0; self < processes; self++)
		if (MUST(fork()) == 0)
			work(strtoul(words[1], NULL, 10), atoi(words[3]));
	for (int i = 0; i < processes; i++) {
		int status;

		MUST(wait(&status));
		if (status)
			worst = 1;
	}
	return worst;
}
