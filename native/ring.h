/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reading end of the kernel's ring (BPF_MAP_TYPE_RINGBUF,
 * kernel/bpf/ringbuf.c).
 */
#ifndef DIFFKEEPER_RING_H
#define DIFFKEEPER_RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring {
	int map;
	size_t size;
	unsigned long *consumer; /* what was taken; we write it */
	unsigned long *producer; /* what was reserved; the bytes follow a page behind it */
	unsigned char *joined;	 /* a record that goes over the end of the ring */
	size_t joined_room;
};

/* Map the ring; false with errno. */
bool ring_open(struct ring *ring, int map, size_t size);
void ring_close(struct ring *ring);
/* Give each record that is complete to `take`, until there is none. */
void ring_take(struct ring *ring, void (*take)(void *context, void *record, size_t size), void *context);

#endif
