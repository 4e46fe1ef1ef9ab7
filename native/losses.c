// SPDX-License-Identifier: Apache-2.0
/*
 * Turns what the programs counted and noted as lost into records of the journal (docs/decisions/0018): one for each
 * file and kind of change of which something more was lost since the last look, and one for what is known by its number
 * alone.
 */
#include "capture.h"

#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MISSES_EVERY_NS = 500000000 };

/* Misses of every program: it was wanted while it ran on the same processor. */
static uint64_t recursion_misses(struct capture *capture)
{
	uint64_t sum = capture->faults.recursion;

	for (int i = 0; i < capture->program_count; i++) {
		struct bpf_prog_info info = {0};
		uint32_t size = sizeof(info);

		if (!capture->lib.program_info(capture->lib.program_fd(capture->programs[i]), &info, &size))
			sum += info.recursion_misses;
	}
	return sum;
}

void read_lost(struct capture *capture, uint64_t *lost)
{
	for (int i = 0; i < DK_LOST_CHANNELS; i++)
		lost[i] = __atomic_load_n(&capture->counters->lost[i], __ATOMIC_ACQUIRE);
	lost[DK_LOST_QUEUE] += capture->losses.queue;
	lost[DK_LOST_RECURSION] += capture->losses.misses;
}

/* One record, of what has begun to be in doubt or, with count 0, may be trusted from there on if it is written anew. */
static bool tell(struct capture *capture, uint32_t channel, uint64_t count, uint64_t from_ns, uint64_t until_ns,
	const struct dk_loss_key *key, const struct dk_loss *loss)
{
	struct dk_lost *record = segments_reserve(&capture->segments, sizeof(*record));

	if (!record)
		return false;
	*record = (struct dk_lost){
		.header = {.size = sizeof(*record),
			.type = DK_LOST,
			.op = channel,
			.t_ns = from_ns,
			.enter_ns = from_ns,
			.exit_ns = until_ns},
		.count = count,
		.from_ns = from_ns,
	};
	if (key) {
		record->file = key->file;
		record->what = key->what;
		record->offset = loss->start;
		record->length = loss->end - loss->start;
		record->header.pid = loss->pid;
		record->header.tid = loss->tid;
	}
	segments_commit(&capture->segments, sizeof(*record));
	capture->losses.told[channel] += count;
	return true;
}

/* How often the entry was told of; entries of the table are never removed, so that these only become more. */
static uint64_t *told_of(struct losses *losses, const struct dk_loss_key *key)
{
	for (uint32_t i = 0; i < losses->known_count; i++)
		if (!memcmp(&losses->keys[i], key, sizeof(*key)))
			return &losses->counts[i];
	if (losses->known_count == DK_LOSSES_MAX)
		return NULL;
	losses->keys[losses->known_count] = *key;
	return &losses->counts[losses->known_count++];
}

static int read_table(struct capture *capture, struct dk_loss_key *keys, struct dk_loss *values)
{
	union bpf_attr attributes;
	uint64_t cursor = 0;

	memset(&attributes, 0, sizeof(attributes));
	attributes.batch.map_fd = capture->lib.map_fd(capture->lib.find_map(capture->object, "losses"));
	attributes.batch.out_batch = (uint64_t)(uintptr_t)&cursor;
	attributes.batch.keys = (uint64_t)(uintptr_t)keys;
	attributes.batch.values = (uint64_t)(uintptr_t)values;
	attributes.batch.count = DK_LOSSES_MAX;
	/* ENOENT says that the table has ended. Before Linux 5.6 there is no such call: then nothing is known of files.
	 */
	syscall(SYS_bpf, BPF_MAP_LOOKUP_BATCH, &attributes, sizeof(attributes));
	return attributes.batch.count < DK_LOSSES_MAX + 1 ? (int)attributes.batch.count : 0;
}

static void tell_of_files(struct capture *capture)
{
	static struct dk_loss_key keys[DK_LOSSES_MAX];
	static struct dk_loss values[DK_LOSSES_MAX];
	struct losses *losses = &capture->losses;
	int count;

	memset(values, 0, sizeof(values));
	count = read_table(capture, keys, values);
	for (int i = 0; i < count; i++) {
		uint64_t *told = told_of(losses, &keys[i]), from_ns = values[i].first_ns;

		if (!told || *told >= values[i].count || keys[i].channel >= DK_LOST_CHANNELS)
			continue;
		if (*told)
			from_ns = losses->checked_ns;
		if (!tell(capture, keys[i].channel, values[i].count - *told, from_ns, values[i].last_ns, &keys[i],
			    &values[i]))
			return;
		*told = values[i].count;
		doubt_lost(capture, &keys[i], values[i].pid);
		tell(capture, keys[i].channel, 0, values[i].last_ns, values[i].last_ns, &keys[i], &values[i]);
	}
}

void note_losses(struct capture *capture, bool is_last)
{
	struct losses *losses = &capture->losses;
	uint64_t lost[DK_LOST_CHANNELS], now = now_ns();
	bool any = false;

	if (is_last || now - losses->misses_checked_ns > MISSES_EVERY_NS) {
		losses->misses = recursion_misses(capture);
		losses->misses_checked_ns = now;
	}
	read_lost(capture, lost);
	for (int i = 0; i < DK_LOST_CHANNELS; i++)
		any |= lost[i] > losses->told[i];
	if (any) {
		losses->last_ns = now;
		tell_of_files(capture);
	}
	for (int i = 0; any && i < DK_LOST_CHANNELS; i++)
		if (lost[i] > losses->told[i])
			tell(capture, i, lost[i] - losses->told[i], losses->checked_ns, now, NULL, NULL);
	losses->checked_ns = now;
}
