// SPDX-License-Identifier: Apache-2.0
/*
 * Holds the recorded processes while the ring is too full, by the freezer of their cgroup (docs/decisions/0018).
 *
 * It is looked at by the drain thread as it drains, and by the helper's other thread at every tick, since the first may
 * wait for a segment. Nobody is held for longer than a second in which nothing was drained. The guardian, at the other
 * end of a pipe, hears of each beginning and end, and lets go if it hears nothing more.
 */
#include "capture.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PATIENCE_NS = 1000000000, HEARTBEAT_NS = 100000000 };

static void command(struct holding *holding, bool frozen)
{
	const char *word = holding->is_v2 ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED");

	if (pwrite(holding->freezer_fd, word, strlen(word), 0) < 0 && frozen)
		holding->is_off = true;
}

static void tell_guardian(struct holding *holding, char word, uint64_t now)
{
	if (write(holding->guardian_fd, &word, 1) < 0 && errno == EPIPE)
		holding->is_off = true; /* without a guardian nobody is held */
	holding->told_ns = now;
}

static uint64_t load(const volatile unsigned long *position)
{
	return __atomic_load_n(position, __ATOMIC_ACQUIRE);
}

static void hold(struct capture *capture, uint64_t now)
{
	struct holding *holding = &capture->holding;

	tell_guardian(holding, 'F', now);
	if (holding->is_off)
		return;
	command(holding, true);
	if (capture->faults.kill_held)
		raise(SIGKILL);
	holding->is_held = !holding->is_off;
	holding->since_ns = holding->progress_ns = now;
}

static void let_go(struct holding *holding, uint64_t now)
{
	struct dk_span *span = &holding->spans[holding->span_count % DK_SPANS];

	command(holding, false);
	tell_guardian(holding, 'T', now);
	holding->is_held = false;
	*span = (struct dk_span){holding->since_ns, now};
	holding->span_count++;
}

static void look(struct capture *capture, uint64_t now)
{
	struct holding *holding = &capture->holding;
	uint64_t taken = load(holding->consumer), used = load(holding->producer) - taken;

	if (!holding->is_held) {
		if (!holding->is_off && now >= holding->not_before_ns && used > capture->ring_bytes / 8 * 3)
			hold(capture, now);
	} else if (holding->is_off || used < capture->ring_bytes / 16) {
		let_go(holding, now);
	} else if (taken != holding->taken) {
		holding->progress_ns = now;
	} else if (now - holding->progress_ns > PATIENCE_NS) {
		let_go(holding, now);
		holding->not_before_ns = now + PATIENCE_NS;
	}
	if (holding->is_held && now - holding->told_ns > HEARTBEAT_NS)
		tell_guardian(holding, '.', now);
	holding->taken = taken;
}

/* Hold or let go, as the ring is. Who finds the other thread at it leaves it to that one. */
void look_after_holding(struct capture *capture)
{
	struct holding *holding = &capture->holding;

	if (!holding->producer || pthread_mutex_trylock(&holding->mutex))
		return;
	look(capture, now_ns());
	pthread_mutex_unlock(&holding->mutex);
}

/* Let go now, and hold nobody for a while: 0 for ever. */
void dk_let_go(struct capture *capture, uint64_t pause_ns)
{
	struct holding *holding = &capture->holding;
	uint64_t now = now_ns();

	if (!holding->producer)
		return;
	pthread_mutex_lock(&holding->mutex);
	holding->is_off |= !pause_ns;
	holding->not_before_ns = now + pause_ns;
	if (holding->is_held)
		let_go(holding, now);
	pthread_mutex_unlock(&holding->mutex);
}

/* What was held since the last call becomes records. */
void note_holding(struct capture *capture)
{
	struct holding *holding = &capture->holding;

	if (!holding->producer || pthread_mutex_trylock(&holding->mutex))
		return;
	if (holding->span_count - holding->span_noted > DK_SPANS)
		holding->span_noted = holding->span_count - DK_SPANS;
	while (holding->span_noted < holding->span_count) {
		struct dk_span *span = &holding->spans[holding->span_noted % DK_SPANS];
		struct dk_held *record = segments_reserve(&capture->segments, sizeof(*record));

		if (!record)
			break;
		*record = (struct dk_held){
			.header = {.size = sizeof(*record),
				.type = DK_HELD,
				.t_ns = span->until_ns,
				.enter_ns = span->from_ns,
				.exit_ns = span->until_ns},
			.until_ns = span->until_ns,
		};
		segments_commit(&capture->segments, sizeof(*record));
		holding->span_noted++;
	}
	pthread_mutex_unlock(&holding->mutex);
}

/* Begin to hold where needed: once the ring is drained. Takes both descriptors. */
int dk_hold(struct capture *capture, int freezer_fd, int guardian_fd, int is_v2)
{
	struct holding *holding = &capture->holding;
	int map = capture->lib.map_fd(capture->lib.find_map(capture->object, "ring"));
	long page = sysconf(_SC_PAGESIZE);
	void *consumer = mmap(NULL, page, PROT_READ, MAP_SHARED, map, 0);
	void *producer = mmap(NULL, page, PROT_READ, MAP_SHARED, map, page);

	if (consumer == MAP_FAILED || producer == MAP_FAILED)
		return capture_fail(capture, "the positions of the ring cannot be mapped: %s", strerror(errno));
	pthread_mutex_init(&holding->mutex, NULL);
	holding->freezer_fd = freezer_fd;
	holding->guardian_fd = guardian_fd;
	holding->is_v2 = is_v2;
	holding->consumer = consumer;
	__atomic_store_n(&holding->producer, (unsigned long *)producer, __ATOMIC_RELEASE);
	return 0;
}
