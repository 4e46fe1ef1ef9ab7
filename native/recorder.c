// SPDX-License-Identifier: Apache-2.0
/*
 * Drains the ring into journal segments, in a thread of its own, until the capture is stopped.
 */
#include "capture.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUND_MS = 20, RECORDS_PER_LOOK = 256 };

/* Under load the ring is never empty, and what is done once a round must be done on the way. */
static void look_around(struct capture *capture)
{
	look_after_holding(capture);
	note_losses(capture, false);
}

static void take_record(void *context, void *data, size_t size)
{
	struct capture *capture = context;
	struct dk_header *header = data;
	void *room;

	if (header->size > size) /* cannot be: the programs reserve what they fill */
		return;
	if (!(++capture->taken % RECORDS_PER_LOOK))
		look_around(capture);
	if (capture->trial) {
		take_trial_record(capture, data);
		return;
	}
	if (header->type == DK_HOLE) {
		/* While hooks are being detached there is one call after the other that no record tells of. */
		if (!capture->stopping_ns || header->t_ns < capture->stopping_ns)
			note_hole(capture, data);
		return;
	}
	room = segments_reserve(&capture->segments, header->size);
	if (!room) {
		capture->losses.queue++;
		return;
	}
	memcpy(room, data, header->size);
	if ((capture->mapped || header->type == DK_MAPPED) && !mapped_see(capture, room))
		return;
	segments_commit(&capture->segments, header->size);
	if (header->type == DK_PIECE)
		return;
	capture->segments.as_of_ns = header->exit_ns;
	if (header->type == DK_ASYNC && !((const struct dk_async *)data)->inode.ino)
		attach_for_requests(capture);
	if (header->type == DK_NAME && (header->flags & DK_F_IMPORT))
		read_import(capture, data);
	else if ((header->flags & DK_F_BY_REFERENCE) && !(header->flags & DK_F_READ_AT_EXIT))
		read_what_is_missing(capture, header);
	find_doubts(capture, header);
}

void take_records(struct capture *capture)
{
	ring_take(&capture->ring, take_record, capture);
}

/*
 * Wait for the programs to wake us (edge triggered: not for each record that is there), for a round, or until dk_stop()
 * does: who stops waits for a short command's last records.
 */
static void wait_for_records(struct capture *capture)
{
	struct epoll_event events[2];

	epoll_wait(capture->wait_fd, events, 2, ROUND_MS);
}

static bool open_wait(struct capture *capture)
{
	struct epoll_event ring = {.events = EPOLLIN | EPOLLET}, stop = {.events = EPOLLIN};

	capture->wake_fd = eventfd(0, EFD_CLOEXEC);
	capture->wait_fd = epoll_create1(EPOLL_CLOEXEC);
	return capture->wake_fd >= 0 && capture->wait_fd >= 0 &&
	       !epoll_ctl(capture->wait_fd, EPOLL_CTL_ADD, capture->ring.map, &ring) &&
	       !epoll_ctl(capture->wait_fd, EPOLL_CTL_ADD, capture->wake_fd, &stop);
}

/* Go before ordinary threads, where that is allowed: a ring that is full costs bytes, and a round takes little time. */
static void take_precedence(void)
{
	struct sched_param lowest = {.sched_priority = 1};

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &lowest);
}

/* Tests: leave the ring alone for a while. */
static void stall(struct capture *capture)
{
	uint64_t until;

	while (!capture->is_stopping && capture->faults.stall_ms) {
		until = capture->adopted_ns + capture->faults.stall_ms * 1000000ull;
		if (capture->adopted_ns && now_ns() > until)
			return;
		usleep(1000);
	}
}

static void take_all(struct capture *capture)
{
	take_records(capture);
	capture->segments.as_of_ns = 0; /* nothing older is to come */
}

/* Records of others that came while hooks were tried. */
static void take_kept(struct capture *capture)
{
	for (size_t at = 0; at < capture->kept_bytes;) {
		struct dk_header *header = (void *)(capture->kept + at);

		at += header->size;
		take_record(capture, header, header->size);
	}
	free(capture->kept);
	capture->kept = NULL;
	capture->kept_bytes = 0;
}

static void *drain(void *context)
{
	struct capture *capture = context;

	capture->losses.checked_ns = capture->losses.misses_checked_ns = now_ns();
	take_precedence();
	take_kept(capture);
	stall(capture);
	while (!capture->is_stopping) {
		wait_for_records(capture);
		look_after_holding(capture);
		take_all(capture);
		mapped_flush(capture);
		flush_holes(capture, false);
		flush_doubts(capture);
		look_after_holding(capture);
		note_losses(capture, false);
		note_holding(capture);
		segments_flush(&capture->segments);
	}
	take_all(capture);
	mapped_finish(capture);
	flush_holes(capture, true);
	note_losses(capture, true);
	note_holding(capture);
	segments_flush(&capture->segments);
	segments_end(&capture->segments);
	return NULL;
}

int dk_add_segment(struct capture *capture, uint32_t number, int fd)
{
	if (segments_add(&capture->segments, number, fd))
		return capture_fail(capture, "segment %u cannot be used: %s", number, strerror(errno));
	return 0;
}

void dk_give_up(struct capture *capture)
{
	segments_give_up(&capture->segments);
}

int open_ring(struct capture *capture)
{
	int map = capture->lib.map_fd(capture->lib.find_map(capture->object, "ring"));

	if (ring_open(&capture->ring, map, capture->ring_bytes))
		return 0;
	return capture_fail(capture, "the ring cannot be mapped: %s", strerror(errno));
}

/* Start the drain thread, once. */
int dk_drain(struct capture *capture)
{
	if (capture->is_draining)
		return 0;
	if (!open_wait(capture))
		return capture_fail(capture, "the ring cannot be waited for: %s", strerror(errno));
	if (mapped_start(capture))
		return -1;
	if (pthread_create(&capture->thread, NULL, drain, capture))
		return capture_fail(capture, "the drain thread cannot be started: %s", strerror(errno));
	capture->is_draining = true;
	return 0;
}

struct dk_progress {
	uint64_t batches;
	uint64_t bytes;
	uint64_t free_segments;
	uint64_t late_reads;
	uint64_t late_failures;
	uint64_t lost[DK_LOST_CHANNELS];
	uint64_t disturbed;
};

/* Fill `out`, and up to `room` numbers of segments that became full since the last call; returns how many. */
int dk_progress(struct capture *capture, struct dk_progress *out, uint32_t *filled, int room)
{
	look_after_holding(capture);
	read_lost(capture, out->lost);
	out->late_reads = capture->late_reads;
	out->late_failures = capture->late_failures;
	out->disturbed = __atomic_load_n(&capture->counters->disturbed, __ATOMIC_RELAXED);
	return segments_progress(&capture->segments, &out->batches, &out->bytes, &out->free_segments, filled, room);
}

/* Detach every hook, drain what is left, end the stream. */
int dk_stop(struct capture *capture)
{
	dk_let_go(capture, 0);
	capture->stopping_ns = now_ns();
	for (int i = 0; i < capture->link_count; i++)
		capture->lib.detach(capture->links[i]);
	capture->link_count = 0;
	if (!capture->is_draining)
		return 0;
	capture->is_stopping = true;
	segments_wake(&capture->segments);
	eventfd_write(capture->wake_fd, 1);
	pthread_join(capture->thread, NULL);
	for (int i = 0; i < REQUEST_LINKS; i++) {
		if (capture->request_links[i])
			capture->lib.detach(capture->request_links[i]);
		capture->request_links[i] = NULL;
	}
	close(capture->wake_fd);
	close(capture->wait_fd);
	capture->is_draining = false;
	return 0;
}

void dk_close(struct capture *capture)
{
	dk_stop(capture);
	ring_close(&capture->ring);
	if (capture->counters)
		munmap(capture->counters, COUNTERS_BYTES);
	if (capture->described)
		munmap(capture->described, DESCRIBED_BYTES);
	if (capture->second)
		capture->lib.close(capture->second);
	if (capture->object)
		capture->lib.close(capture->object);
	image_free(&capture->image);
	free(capture->kept);
	segments_free(&capture->segments);
	free(capture);
}
