/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journal segments as the drain thread writes them: records gather in a batch, a batch is written with its header
 * (store/journal.py reads it) into the current segment, a segment that has no room left gives way to the next free one.
 */
#ifndef DIFFKEEPER_SEGMENTS_H
#define DIFFKEEPER_SEGMENTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct batch_header {
	uint32_t magic;
	uint16_t kind;
	uint16_t zero;
	uint64_t trace_id;
	uint64_t sequence;
	uint64_t t_ns;
	uint32_t length;
	uint32_t crc;
};

struct segment {
	uint32_t number;
	int fd;
	uint64_t size;
	struct segment *next;
};

struct segments {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint64_t trace_id;
	uint64_t sequence;
	uint64_t bytes;
	uint64_t as_of_ns;	/* a batch's time: what is older is not to come; 0: now */
	uint64_t spoilt, fatal; /* tests: see struct faults */
	struct segment *current;
	uint64_t at; /* where the next batch goes in current */
	struct segment *free_first, *free_last;
	struct segment *filled_first, *filled_last;
	uint64_t free_count;
	unsigned char *buffer; /* header and payload of the batch being filled */
	size_t used;
	bool is_stopping;
	bool is_given_up; /* no more segments will be added */
	bool is_failed;	  /* a segment could not be written: what follows is lost and counted */
};

void segments_init(struct segments *segments, uint64_t trace_id);
int segments_add(struct segments *segments, uint32_t number, int fd);
/* Room for one record, valid until the next call; NULL when nothing can be written any more. */
void *segments_reserve(struct segments *segments, size_t size);
void segments_commit(struct segments *segments, size_t size);
void segments_flush(struct segments *segments);
void segments_end(struct segments *segments);
void segments_wake(struct segments *segments);
void segments_give_up(struct segments *segments);
int segments_progress(struct segments *segments, uint64_t *batches, uint64_t *bytes, uint64_t *free_count,
	uint32_t *filled, int room);
void segments_free(struct segments *segments);

#endif
