// SPDX-License-Identifier: Apache-2.0
/*
 * Takes records from the ring. libbpf does the same, but it maps the bytes
 * twice, 15 ms for 128 MiB, and tells the kernel of each record that it was
 * taken: the line of memory on which it does is then fetched anew by the next
 * writer.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <linux/bpf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TOLD_AT_ONCE = 64 << 10, PARTS = 64, HEAD = BPF_RINGBUF_HDR_SZ };

bool ring_open(struct ring *ring, int map, size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);

	*ring = (struct ring){.map = map, .size = size};
	ring->consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (ring->consumer == MAP_FAILED) {
		ring->consumer = NULL;
		return false;
	}
	ring->producer = mmap(NULL, page + size, PROT_READ, MAP_SHARED, map, page);
	if (ring->producer == MAP_FAILED) {
		ring->producer = NULL;
		ring_close(ring);
		return false;
	}
	return true;
}

void ring_close(struct ring *ring)
{
	size_t page = sysconf(_SC_PAGESIZE);

	if (ring->consumer)
		munmap(ring->consumer, page);
	if (ring->producer)
		munmap(ring->producer, page + ring->size);
	free(ring->joined);
	memset(ring, 0, sizeof(*ring));
}

/* The record at `at`; one that goes on at the start of the ring is put
 * together. */
static void *record_at(struct ring *ring, const unsigned char *bytes, size_t at, size_t size)
{
	size_t first = ring->size - at;

	if (size <= first)
		return (void *)(bytes + at);
	if (size > ring->joined_room) {
		unsigned char *grown = realloc(ring->joined, size);

		if (!grown)
			abort(); /* some kilobytes: nothing else could go on either */
		ring->joined = grown;
		ring->joined_room = size;
	}
	memcpy(ring->joined, bytes + at, first);
	memcpy(ring->joined + first, bytes, size - first);
	return ring->joined;
}

void ring_take(struct ring *ring, void (*take)(void *context, void *record, size_t size), void *context)
{
	const unsigned char *bytes = (const unsigned char *)ring->producer + sysconf(_SC_PAGESIZE);
	unsigned long at = *ring->consumer, told = at, mask = ring->size - 1;
	unsigned long most = ring->size / PARTS < TOLD_AT_ONCE ? ring->size / PARTS : TOLD_AT_ONCE;

	while (at < __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE)) {
		uint32_t head = __atomic_load_n((const uint32_t *)(bytes + (at & mask)), __ATOMIC_ACQUIRE);
		uint32_t size = head & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (head & BPF_RINGBUF_BUSY_BIT)
			break;
		if (!(head & BPF_RINGBUF_DISCARD_BIT))
			take(context, record_at(ring, bytes, (at + HEAD) & mask, size), size);
		at += (size + HEAD + 7) & ~7ul;
		if (at - told >= most) {
			__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
			told = at;
		}
	}
	__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
}
