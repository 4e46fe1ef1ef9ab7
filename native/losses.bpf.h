/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Losses: counted by channel, and noted in a table: of which file, which bytes, in what time, by whom
 * (docs/decisions/0018). First the table, then the counter: the drain thread reads them the other way round, and takes
 * what is counted and not in the table for a loss of which nothing is known.
 */
#ifndef DIFFKEEPER_LOSSES_BPF_H
#define DIFFKEEPER_LOSSES_BPF_H

/* `range`: start and end of the bytes, and in first_ns when the change was made. */
__noinline int count_loss(struct dk_loss_key *key, struct dk_loss *range)
{
	struct dk_loss *known, made = {0};
	u64 id = bpf_get_current_pid_tgid();

	if (!key || !range)
		return 0;
	known = bpf_map_lookup_elem(&losses, key);
	if (!known) {
		made.start = range->start;
		made.end = range->end;
		made.first_ns = range->first_ns;
		bpf_map_update_elem(&losses, key, &made, 1 /* BPF_NOEXIST */);
		known = bpf_map_lookup_elem(&losses, key);
	}
	if (known) {
		if (range->first_ns < known->first_ns)
			known->first_ns = range->first_ns;
		if (range->start < known->start)
			known->start = range->start;
		if (range->end > known->end)
			known->end = range->end;
		known->last_ns = bpf_ktime_get_ns();
		known->pid = id >> 32;
		known->tid = (u32)id;
		__sync_fetch_and_add(&known->count, 1);
	}
	if (key->channel < DK_LOST_CHANNELS)
		__sync_fetch_and_add(&counters.lost[key->channel], 1);
	return 0;
}

/* Lose something of no file in particular. */
static __always_inline void lose(u32 channel, u32 what)
{
	struct dk_loss_key key = {.channel = channel, .what = what};
	struct dk_loss range = {.first_ns = bpf_ktime_get_ns()};

	count_loss(&key, &range);
}

/* Lose a record, or a part of one, about a file. */
static __always_inline void lose_of(
	u32 channel, const struct dk_header *header, const struct dk_inode *file, u64 offset, u64 length)
{
	struct dk_loss_key key = {.channel = channel, .what = header->type};
	struct dk_loss range = {.first_ns = header->t_ns, .start = offset, .end = offset + length};

	key.file.ino = file->ino;
	key.file.dev = file->dev;
	key.file.generation = file->generation;
	count_loss(&key, &range);
}

/* Tests: does this reading of a caller's memory fail? */
static __always_inline int is_probe_spoilt(void)
{
	return settings.fault_probe && bpf_get_prandom_u32() % settings.fault_probe == 0;
}

#endif
