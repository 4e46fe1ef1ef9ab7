// SPDX-License-Identifier: Apache-2.0
/* io_uring by its system calls alone: a ring, requests in it, their results. Status 77 where the kernel has none. */
#ifndef RING_H
#define RING_H

#include "must.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { OP_FTRUNCATE = 55, ENTRIES = 64 };
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_FILE_INDEX_ALLOC
#define IORING_FILE_INDEX_ALLOC (~0U)
#endif

struct ring {
	int fd;
	unsigned flags, pending, in_flight;
	uint64_t told; /* user_data of what was reaped last */
	unsigned *sq_tail, *sq_mask, *sq_array, *sq_flags, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static inline void open_ring(struct ring *ring, unsigned flags)
{
	struct io_uring_params params = {.flags = flags, .sq_thread_idle = 1000};
	char *sq, *cq;

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(SYS_io_uring_setup, ENTRIES, &params);
	if (ring->fd < 0)
		exit(77);
	ring->flags = flags;
	sq = mmap(NULL, params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		ring->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_CQ_RING);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	MUST(sq == MAP_FAILED || cq == MAP_FAILED || ring->sqes == MAP_FAILED ? -1 : 0);
	ring->sq_tail = (void *)(sq + params.sq_off.tail);
	ring->sq_mask = (void *)(sq + params.sq_off.ring_mask);
	ring->sq_array = (void *)(sq + params.sq_off.array);
	ring->sq_flags = (void *)(sq + params.sq_off.flags);
	ring->cq_head = (void *)(cq + params.cq_off.head);
	ring->cq_tail = (void *)(cq + params.cq_off.tail);
	ring->cq_mask = (void *)(cq + params.cq_off.ring_mask);
	ring->cqes = (void *)(cq + params.cq_off.cqes);
}

/* The next request, still to be filled further; flags: IOSQE_*. */
static inline struct io_uring_sqe *request(
	struct ring *ring, unsigned op, unsigned flags, int fd, const void *address, unsigned length, uint64_t offset)
{
	unsigned tail = *ring->sq_tail, index = (tail + ring->pending) & *ring->sq_mask;
	struct io_uring_sqe *sqe = &ring->sqes[index];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = op;
	sqe->flags = flags;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)address;
	sqe->len = length;
	sqe->off = offset;
	ring->sq_array[index] = index;
	ring->pending++;
	if (!(flags & IOSQE_CQE_SKIP_SUCCESS))
		ring->in_flight++;
	return sqe;
}

static inline void submit(struct ring *ring)
{
	unsigned count = ring->pending;

	__atomic_store_n(ring->sq_tail, *ring->sq_tail + count, __ATOMIC_RELEASE);
	ring->pending = 0;
	if (!(ring->flags & IORING_SETUP_SQPOLL))
		MUST(syscall(SYS_io_uring_enter, ring->fd, count, 0, 0, NULL, 0));
	else if (__atomic_load_n(ring->sq_flags, __ATOMIC_ACQUIRE) & IORING_SQ_NEED_WAKEUP)
		MUST(syscall(SYS_io_uring_enter, ring->fd, count, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0));
}

/* Wait for one completion and return its result. */
static inline int reap(struct ring *ring)
{
	unsigned head = *ring->cq_head;
	int result;

	while (__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) == head)
		if (syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
			MUST(-1);
	result = ring->cqes[head & *ring->cq_mask].res;
	ring->told = ring->cqes[head & *ring->cq_mask].user_data;
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	ring->in_flight--;
	return result;
}

/* Submit what is pending and wait until nothing is on its way; every request must succeed. */
static inline void finish(struct ring *ring)
{
	if (ring->pending)
		submit(ring);
	while (ring->in_flight) {
		int result = reap(ring);

		if (result < 0) {
			errno = -result;
			MUST(-1);
		}
	}
}

/* Submit one request, wait, and return its result. */
static inline int one(struct ring *ring)
{
	submit(ring);
	return reap(ring);
}

#endif
