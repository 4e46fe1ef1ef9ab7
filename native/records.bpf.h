/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records: their headers, the ring, whose they are.
 */
#ifndef DIFFKEEPER_RECORDS_BPF_H
#define DIFFKEEPER_RECORDS_BPF_H

static __always_inline u64 pad8(u64 length)
{
	return (length + 7) & ~7ULL;
}

static __always_inline u64 used_bytes(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
}

static __always_inline u64 wake_at(u64 used)
{
	return used > settings.ring_bytes / 8 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline u64 wake(int now)
{
	return now ? BPF_RB_FORCE_WAKEUP : wake_at(used_bytes());
}

/* Above half a ring, payload is left to be read back; above 90 %, all that has no fixed size. */
static __always_inline int is_half_full(void)
{
	return used_bytes() >= settings.ring_bytes / 2;
}

static __always_inline int is_crowded(void)
{
	return used_bytes() >= settings.ring_bytes / 10 * 9;
}

/* A record about names or processes: it may take the last of the ring. */
static __always_inline void put(struct dk_header *record, u64 size, int now)
{
	if (size > sizeof(struct scratch) || bpf_ringbuf_output(&ring, record, size, wake(now)))
		lose(DK_LOST_RING, record->type);
}

/* A record about one known file, whose loss spoils that file alone: the last twentieth of the ring is not for it. */
static __always_inline void put_of(
	struct dk_header *record, u64 size, int now, const struct dk_inode *file, u64 offset, u64 length)
{
	u64 used = used_bytes(), wakeup = now || used > settings.ring_bytes / 8;

	if (used >= settings.ring_bytes / 20 * 19 || size > sizeof(struct scratch) ||
		bpf_ringbuf_output(&ring, record, size, wakeup ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		lose_of(DK_LOST_RING, record, file, offset, length);
}

static __always_inline void fill_header(struct dk_header *header, u8 type, u8 op, u32 size)
{
	u64 id = bpf_get_current_pid_tgid();

	header->size = size;
	header->type = type;
	header->op = op;
	header->flags = 0;
	header->sequence = __sync_fetch_and_add(&counters.sequence, 1) + 1;
	header->t_ns = header->exit_ns = bpf_ktime_get_ns();
	header->enter_ns = 0;
	header->pid = id >> 32;
	header->tid = (u32)id;
	header->result = 0;
}

/*
 * A request's writer is the process as a whole: a worker's own name is the kernel's ("iou-wrk-…"). An outsider that was
 * never seen in a call of its own is announced with each of its requests.
 */
static __always_inline void announce_owner(struct dk_task *request)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task(), *leader = 0, *parent = 0;
	struct dk_process record = {0};

	request->is_announced = 1;
	fill_header(&record.header, DK_PROCESS, 0, sizeof(record));
	record.header.pid = record.header.tid = request->owner >> 32;
	record.header.flags = request->is_recorded ? 0 : DK_F_OUTSIDER;
	read_field(&leader, task, group_leader);
	read_field(&parent, leader, real_parent);
	read_field((int *)&record.parent, parent, tgid);
	bpf_probe_read_kernel(record.comm, sizeof(record.comm), &leader->comm);
	put(&record.header, sizeof(record), 0);
}

__noinline int announce(struct dk_task *state)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task(), *parent = 0;
	struct dk_process record = {0};

	if (!state || state->is_announced)
		return 0;
	if (state->owner) {
		announce_owner(state);
		return 0;
	}
	state->is_announced = 1;
	fill_header(&record.header, DK_PROCESS, 0, sizeof(record));
	record.header.flags = state->is_recorded ? 0 : DK_F_OUTSIDER;
	read_field(&parent, task, real_parent);
	read_field((int *)&record.parent, parent, tgid);
	bpf_get_current_comm(record.comm, sizeof(record.comm));
	put(&record.header, sizeof(record), 0);
	return 0;
}

/* Announce the writer and say whether it belongs to the recorded command. */
static __always_inline u16 writer_flags(struct dk_task *state)
{
	if (!state)
		state = state_of(bpf_get_current_task_btf(), BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return DK_F_OUTSIDER;
	if (!state->is_announced)
		announce(state);
	return state->is_recorded ? 0 : DK_F_OUTSIDER;
}

/* Of a request: whose it is, and the sequence under which its strings went ahead. */
static __always_inline void fill_owner(struct dk_header *header, struct dk_task *state)
{
	if (!state->owner)
		return;
	header->pid = state->owner >> 32;
	header->tid = (u32)state->owner;
	header->flags |= DK_F_ASYNC;
	if (state->copy_sequence) {
		header->sequence = state->copy_sequence;
		header->flags |= DK_F_MORE;
	}
}

static __always_inline void fill_times(struct dk_header *header, struct dk_task *state)
{
	fill_owner(header, state);
	header->enter_ns = state->enter_ns;
	if (state->touched_count) {
		header->t_ns = state->touched_ns;
		header->flags |= DK_F_IN_LOCK;
	}
}

#endif
