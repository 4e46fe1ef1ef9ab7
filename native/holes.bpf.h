/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Inodes that a task touches, and changes that no record tells of (docs/decisions/0019).
 *
 * What the file system says inside its lock stays in the task's state until a record takes it away. What is left when
 * the call ends is a hole. A task that makes no calls tells at once.
 */
#ifndef DIFFKEEPER_HOLES_BPF_H
#define DIFFKEEPER_HOLES_BPF_H

__noinline int touch_request(u64 pointer); /* workers.bpf.h */

/* The inode behind entry i, or 0: there is none, or it was freed and its memory used again. */
static __always_inline struct inode *touched_inode(struct dk_task *state, u32 i)
{
	struct inode *inode;
	unsigned long ino = 0;

	if (!state || i >= DK_TOUCHED_MAX || i >= state->touched_count)
		return 0;
	inode = (struct inode *)state->touched[i].pointer;
	read_field(&ino, inode, i_ino);
	if (state->touched[i].ino && state->touched[i].ino != ino)
		return 0;
	return inode;
}

/* A write into a fifo changes its time, and nothing else of it: noted here, reported when the write ends. */
static __always_inline void note_fifo(struct inode *inode)
{
	struct dk_task *state;
	unsigned long ino = 0;

	if (!is_root_device(super_device_of(inode)))
		return;
	state = state_of(bpf_get_current_task_btf(), BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state || state->call > CALL_LAST_WRITE)
		return;
	read_field(&ino, inode, i_ino);
	state->fifo.pointer = (u64)inode;
	state->fifo.ino = ino;
	state->fifo_ns = bpf_ktime_get_ns();
}

/* Nobody else tells what these change: threads of the kernel, workers of io_uring, a process that dumps core. */
static __always_inline int has_no_calls(struct task_struct *task)
{
	return (task->flags & (PF_KTHREAD | PF_IO_WORKER | PF_DUMPCORE)) != 0;
}

/* A store through a shared mapping made a page writable: its bytes are for whoever samples mappings. */
static __always_inline void note_mapped_store(struct inode *inode) {}

/*
 * Whether the inode is below a root, and where, the drain thread asks `describe`, once for many holes: what is compiled
 * into each of the hooks costs a millisecond at start.
 */
__noinline int send_hole(u64 pointer, u64 offset, u64 length)
{
	struct inode *inode = (struct inode *)pointer;
	struct dk_hole record = {0};
	u32 dev = device_of(inode);
	unsigned long ino = 0;

	if (!is_root_device(super_device_of(inode)))
		return 0;
	fill_header(&record.header, DK_HOLE, length ? DK_OP_BYTES : DK_OP_TOUCH, sizeof(record));
	record.header.enter_ns = record.header.t_ns;
	record.header.flags = DK_F_HOLE | writer_flags(0);
	read_field(&ino, inode, i_ino);
	record.inode.ino = ino;
	record.inode.dev = dev;
	read_field(&record.inode.generation, inode, i_generation);
	record.offset = offset;
	record.length = length;
	record.pointer = pointer;
	record.count = 1;
	put_of(&record.header, sizeof(record), 0, &record.inode, offset, length);
	return 0;
}

/* A record tells of what the task has changed: nothing is left of it. */
static __always_inline void explain(struct dk_task *state)
{
	state->lock_bytes = 0;
	state->touched_count = 0;
	state->has_touched_directory = 0;
	if (state->is_loose) {
		state->is_loose = 0;
		__sync_fetch_and_add(&counters.loose, -1);
	}
}

/* Does a stacked file system (overlayfs) show this inode? It sets times on behalf of readers as well. */
static __always_inline int is_shown_by_stack(struct inode *inode)
{
	struct super_block *sb = 0;
	int depth = 0;

	if (!counters.upper_offset)
		return 0;
	read_field(&sb, inode, i_sb);
	read_field(&depth, sb, s_stack_depth);
	return depth > 0;
}

/* The touched inode i, unless the run of bytes tells of it; a function of its own, so that the loop is verified once.
 */
__noinline int tell_touched(struct dk_task *state, u32 i)
{
	struct inode *inode = touched_inode(state, i);
	u32 nlink = 0;

	if (!inode)
		return 0;
	/* A file that lost its last name is freed by whoever lets go of it last, in whatever call. */
	read_field(&nlink, inode, i_nlink);
	if (nlink && !(state->lock_bytes && state->lock_inode == (u64)inode) && !is_shown_by_stack(inode))
		send_hole((u64)inode, 0, 0);
	return 0;
}

/* What no record has told of becomes holes. */
__noinline int tell_holes(struct dk_task *state)
{
	if (!state)
		return 0;
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		tell_touched(state, i);
	if (state->lock_bytes)
		send_hole(state->lock_inode, state->lock_offset, state->lock_bytes);
	explain(state);
	return 0;
}

static __always_inline int has_untold(struct dk_task *state)
{
	return state->lock_bytes || state->touched_count;
}

static __always_inline void expect_no_record(struct dk_task *state)
{
	if (state->is_loose)
		return;
	state->is_loose = 1;
	__sync_fetch_and_add(&counters.loose, 1);
}

/* The end of a call that has no record: whatever the task has changed in it is a hole. Costs one load as a rule. */
static __always_inline void leave_unrecorded(void)
{
	struct dk_task *state;

	if (!counters.loose)
		return;
	state = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0);
	if (state && has_untold(state))
		tell_holes(state);
}

static __always_inline u32 read_call_number(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

	return CALL_NUMBER(regs); /* a load, not a helper: each write comes here */
}

/* Is it a plain write, of 64-bit or 32-bit programs? Where the one has it the other has a call that writes nothing. */
static __always_inline int is_write_number(u32 number)
{
	if (number >= CALL_TABLE_SIZE)
		return 0;
	return (u32)(calls[number] - 1) < CALL_LAST_WRITE || (u32)(calls_32[number] - 1) < CALL_LAST_WRITE;
}

/*
 * The first bytes of a run. The number of the call is read from the task's registers, since plain writes have no entry
 * where the file system tells all: only a write's own end takes its run away without being asked.
 */
static __always_inline void begin_run(struct task_struct *task, struct dk_task *state, struct inode *inode, s64 offset)
{
	u32 number = read_call_number(task);

	if (state->lock_bytes)
		send_hole(state->lock_inode, state->lock_offset, state->lock_bytes);
	state->lock_inode = (u64)inode;
	state->lock_offset = offset;
	state->lock_call = number;
	if (!state->call && !is_write_number(number))
		expect_no_record(state);
}

/* May a touch outside of a call that names or sizes be a change? Not of an inode that is read from disk or freed. */
static __always_inline int is_change(struct inode *inode)
{
	struct address_space *mapping = 0;
	struct super_block *sb = 0;
	int depth = 0, writable = 0;
	u32 nlink = 0;

	read_field(&nlink, inode, i_nlink);
	read_field(&sb, inode, i_sb);
	read_field(&depth, sb, s_stack_depth);
	if (!nlink || depth || !alias_of(inode))
		return 0;
	read_field(&mapping, inode, i_mapping);
	read_field(&writable, mapping, i_mmap_writable.counter);
	if (is_regular(mode_of(inode)) && writable > 0) {
		note_mapped_store(inode);
		return 0;
	}
	return 1;
}

static __always_inline void add_touched(struct dk_task *state, struct inode *inode)
{
	unsigned long ino = 0;
	u32 count = state->touched_count;

	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		if (i < count && state->touched[i].pointer == (u64)inode)
			return;
	if (count >= DK_TOUCHED_MAX)
		return;
	read_field(&ino, inode, i_ino);
	state->touched[count].pointer = (u64)inode;
	state->touched[count].ino = ino;
	state->touched_count = count + 1;
}

/* Touched outside of calls that change names or metadata: the record of a write explains it, or nothing does. */
static __always_inline int note_loose_touch(struct task_struct *task, struct dk_task *state, struct inode *inode)
{
	/* No hole, but what a write that fails has changed all the same. */
	if (state && state->call && is_shown_by_stack(inode)) {
		add_touched(state, inode);
		return 0;
	}
	if (!settings.finds_touches || is_fifo(mode_of(inode)) || !is_change(inode))
		return 0;
	if (!state)
		state = state_of(task, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return 0;
	add_touched(state, inode);
	if (has_no_calls(task))
		return tell_holes(state);
	if (!state->call)
		expect_no_record(state);
	return 0;
}

/* Touched in a call, or a request, that changes names, sizes or metadata. */
static __always_inline void note_named_touch(struct dk_task *state, struct inode *inode)
{
	/*
	 * Names change under their directories' locks, all of which are held when the first directory is touched. What
	 * is touched later may be so after they were let go: a file that lost its last name is freed there.
	 */
	if (!state->has_touched_directory)
		state->touched_ns = bpf_ktime_get_ns();
	if (is_directory(mode_of(inode)))
		state->has_touched_directory = 1;
	add_touched(state, inode);
}

static __always_inline int note_touched(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];
	struct task_struct *task = bpf_get_current_task_btf();
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, 0);

	if (is_fifo(mode_of(inode)))
		note_fifo(inode);
	/* Only inodes on a root's file system: below overlayfs its upper inodes are touched as well. */
	if (!is_root_device(super_device_of(inode)))
		return 0;
	if (counters.has_requests && (!state || !state->call) && touch_request(ctx[0]))
		return 0;
	if (!state || state->call <= CALL_LAST_COPY)
		return note_loose_touch(task, state, inode);
	note_named_touch(state, inode);
	return 0;
}

#endif
