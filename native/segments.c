// SPDX-License-Identifier: Apache-2.0
/*
 * Writes batches into the segment files that were handed over, and nothing else.
 */
#define _GNU_SOURCE
#include "segments.h"
#include "crc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x31424b44, KIND_RECORDS = 1, KIND_END = 4 };
enum { HEADER = sizeof(struct batch_header), BATCH = 256 << 10, LARGEST = (4 << 20) - 4096 };
enum { SECONDS_FOR_A_SEGMENT = 5 };

_Static_assert(HEADER == 40, "store/journal.py reads 40 bytes");

void segments_init(struct segments *segments, uint64_t trace_id)
{
	pthread_condattr_t clock;

	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_mutex_init(&segments->mutex, NULL);
	pthread_cond_init(&segments->changed, &clock);
	segments->trace_id = trace_id;
	segments->used = HEADER;
	segments->buffer = malloc(HEADER + LARGEST + BATCH);
	segments->is_failed = !segments->buffer;
	crc32_prepare();
}

static void append(struct segment **first, struct segment **last, struct segment *segment)
{
	segment->next = NULL;
	if (*last)
		(*last)->next = segment;
	else
		*first = segment;
	*last = segment;
}

static struct segment *take(struct segment **first, struct segment **last)
{
	struct segment *segment = *first;

	if (!segment)
		return NULL;
	*first = segment->next;
	if (!*first)
		*last = NULL;
	return segment;
}

int segments_add(struct segments *segments, uint32_t number, int fd)
{
	struct segment *segment = calloc(1, sizeof(*segment));
	struct stat status;

	if (!segment || fstat(fd, &status)) {
		free(segment);
		return -1;
	}
	segment->number = number;
	segment->fd = fd;
	segment->size = status.st_size;
	pthread_mutex_lock(&segments->mutex);
	append(&segments->free_first, &segments->free_last, segment);
	segments->free_count++;
	pthread_cond_signal(&segments->changed);
	pthread_mutex_unlock(&segments->mutex);
	return 0;
}

/* Wait for a free segment; the ring holds what comes meanwhile. At the end of the recording, not for ever. */
static struct segment *next_segment(struct segments *segments)
{
	struct segment *segment;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += SECONDS_FOR_A_SEGMENT;
	pthread_mutex_lock(&segments->mutex);
	while (!(segment = take(&segments->free_first, &segments->free_last))) {
		if (!segments->is_stopping)
			pthread_cond_wait(&segments->changed, &segments->mutex);
		else if (segments->is_given_up ||
			 pthread_cond_timedwait(&segments->changed, &segments->mutex, &until) == ETIMEDOUT)
			break;
	}
	if (segment)
		segments->free_count--;
	pthread_mutex_unlock(&segments->mutex);
	return segment;
}

/* Give up a full segment and take another; the old descriptor is closed: a reused file comes with a new one. */
static bool change_segment(struct segments *segments)
{
	struct segment *full = segments->current;

	if (full) {
		close(full->fd);
		pthread_mutex_lock(&segments->mutex);
		append(&segments->filled_first, &segments->filled_last, full);
		pthread_mutex_unlock(&segments->mutex);
	}
	segments->current = next_segment(segments);
	segments->at = 0;
	return segments->current != NULL;
}

static bool write_all(int fd, const unsigned char *bytes, size_t length, uint64_t at)
{
	while (length) {
		ssize_t wrote = pwrite(fd, bytes, length, at);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return false;
		bytes += wrote;
		length -= wrote;
		at += wrote;
	}
	return true;
}

/* Tests: a batch that cannot be decoded, or that is never written. */
static void commit_faults(struct segments *segments, const struct batch_header *header)
{
	if (segments->spoilt && header->sequence == segments->spoilt && header->length > 4)
		segments->buffer[HEADER + 4] = 0xff; /* the first record's type */
	if (segments->fatal && header->sequence == segments->fatal)
		raise(SIGKILL);
}

static void write_batch(struct segments *segments, uint16_t kind)
{
	struct batch_header *header = (void *)segments->buffer;
	size_t length = segments->used, padded = (length + 7) & ~7ul;
	struct timespec now;

	if (segments->is_failed)
		return;
	if (!segments->current || segments->at + padded > segments->current->size)
		if (!change_segment(segments) || padded > segments->current->size) {
			segments->is_failed = true;
			return;
		}
	clock_gettime(CLOCK_MONOTONIC, &now);
	*header = (struct batch_header){
		.magic = MAGIC,
		.kind = kind,
		.trace_id = segments->trace_id,
		.sequence = segments->sequence + 1,
		.t_ns = segments->as_of_ns ? segments->as_of_ns : now.tv_sec * 1000000000ull + now.tv_nsec,
		.length = length - HEADER,
	};
	commit_faults(segments, header);
	header->crc = crc32_of(segments->buffer, length, 0);
	if (!write_all(segments->current->fd, segments->buffer, length, segments->at)) {
		segments->is_failed = true;
		return;
	}
	segments->at += padded;
	__atomic_store_n(&segments->bytes, segments->bytes + length, __ATOMIC_RELAXED);
	__atomic_store_n(&segments->sequence, segments->sequence + 1, __ATOMIC_RELAXED);
}

void segments_flush(struct segments *segments)
{
	if (segments->used > HEADER)
		write_batch(segments, KIND_RECORDS);
	segments->used = HEADER;
}

void *segments_reserve(struct segments *segments, size_t size)
{
	if (segments->is_failed || size > LARGEST)
		return NULL;
	if (segments->used >= BATCH || segments->used + size > HEADER + LARGEST)
		segments_flush(segments);
	return segments->is_failed ? NULL : segments->buffer + segments->used;
}

void segments_commit(struct segments *segments, size_t size)
{
	segments->used += size;
}

/* The last batch of the stream says that there is no more. */
void segments_end(struct segments *segments)
{
	segments->used = HEADER;
	write_batch(segments, KIND_END);
}

void segments_wake(struct segments *segments)
{
	pthread_mutex_lock(&segments->mutex);
	segments->is_stopping = true;
	pthread_cond_signal(&segments->changed);
	pthread_mutex_unlock(&segments->mutex);
}

void segments_give_up(struct segments *segments)
{
	pthread_mutex_lock(&segments->mutex);
	segments->is_given_up = true;
	pthread_cond_signal(&segments->changed);
	pthread_mutex_unlock(&segments->mutex);
}

int segments_progress(
	struct segments *segments, uint64_t *batches, uint64_t *bytes, uint64_t *free_count, uint32_t *filled, int room)
{
	int count = 0;

	pthread_mutex_lock(&segments->mutex);
	*batches = __atomic_load_n(&segments->sequence, __ATOMIC_RELAXED);
	*bytes = __atomic_load_n(&segments->bytes, __ATOMIC_RELAXED);
	*free_count = segments->free_count;
	while (count < room) {
		struct segment *segment = take(&segments->filled_first, &segments->filled_last);

		if (!segment)
			break;
		filled[count++] = segment->number;
		free(segment);
	}
	pthread_mutex_unlock(&segments->mutex);
	return count;
}

static void free_list(struct segment *segment)
{
	while (segment) {
		struct segment *next = segment->next;

		free(segment);
		segment = next;
	}
}

void segments_free(struct segments *segments)
{
	for (struct segment *segment = segments->free_first; segment; segment = segment->next)
		close(segment->fd);
	if (segments->current)
		close(segments->current->fd);
	free(segments->current);
	free_list(segments->free_first);
	free_list(segments->filled_first);
	free(segments->buffer);
}
