// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See a change, put one event on the ring.
 *
 * A call that changes names or metadata is opened at sys_enter, the inodes whose ctime the task changes meanwhile are
 * noted under the file system's own lock (`touched`), and at sys_exit one record says what was asked for, and in what
 * state each touched inode is. A write needs no entry where the file system tells inode and offset from inside its
 * lock.
 *
 * One translation unit: each *.bpf.h is a step on the way and is included once, in this order, before the programs.
 */
#include "casts.h"
#include "kernel.h"
#include "requests.h"
#include "calls.h"
#include "events.h"
#include "reader.h"
#include "state.bpf.h"
#include "losses.bpf.h"
#include "reading.bpf.h"
#include "calls.bpf.h"
#include "verdicts.bpf.h"
#include "records.bpf.h"
#include "holes.bpf.h"
#include "page_cache.bpf.h"
#include "payload.bpf.h"
#include "writes.bpf.h"
#include "copies.bpf.h"
#include "mapped.bpf.h"
#include "names.bpf.h"
#include "metadata.bpf.h"
#include "mounts.bpf.h"
#include "uring.bpf.h"
#include "workers.bpf.h"
#include "aio.bpf.h"
#include "processes.bpf.h"

/* A copy into a root whose bytes replay cannot take from the tree: they are sent from the page cache. */
static __always_inline int is_copy_from_outside(u32 call, u64 *a)
{
	struct inode *to = inode_of(file_of(call == CALL_SENDFILE ? a[0] : a[2]));
	struct inode *from = inode_of(file_of(call == CALL_SENDFILE ? a[1] : a[0]));

	if (!counters.linear_map || !to || !is_regular(mode_of(to)) || verdict_of(to) == OUTSIDE)
		return 0;
	return !is_known_source((u64)from, (u64)to);
}

/* bind(2) of a Unix socket to a path makes an entry; abstract names and other families make none. */
static __always_inline int is_unix_path(u64 address)
{
	struct {
		u16 family;
		u8 first;
	} head = {0};

	return !bpf_probe_read_user(&head, 3, (void *)address) && head.family == AF_UNIX && head.first;
}

static __always_inline int needs_state(u32 call, u64 *a)
{
	switch (call) {
	case CALL_NONE:
		return 0;
	case CALL_OPEN:
		return (a[1] & (O_CREAT | O_TRUNC | O_TMPFILE_BIT)) != 0;
	case CALL_OPENAT:
		return (a[2] & (O_CREAT | O_TRUNC | O_TMPFILE_BIT)) != 0;
	case CALL_OPEN_BY_HANDLE:
		return (a[2] & O_TRUNC) != 0;
	case CALL_BIND:
		return is_unix_path(a[1]);
	}
	return 1;
}

/* Nothing is to be done at the entry: none of our calls, or a write whose place is told from inside the lock. */
static __always_inline int is_quiet(u32 call)
{
	return !call || (call <= CALL_LAST_WRITE && !settings.writes_need_enter);
}

/*
 * Every system call's start. It opens the state in which touched inodes are noted; plain writes and reads pass at the
 * cost of two table look-ups. Misses calls of x32 programs, whose numbers begin at 1 << 30.
 */
SEC("tp_btf/sys_enter")
int enter(u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	u64 number = ctx[1];
	struct call_args args = {0};
	struct task_struct *task;
	struct dk_task *state;
	u32 call;

	if (number >= CALL_TABLE_SIZE || (is_quiet(calls[number]) && !calls_32[number]))
		return 0;
	task = bpf_get_current_task_btf();
	if (!take_args(&args, regs, number, IS_32_BIT(task, regs)) || is_quiet(args.call))
		return 0;
	call = args.call;
	if (call >= CALL_CLOSE && call <= CALL_LAST_MAPPING) {
		enter_mapping(&args);
		if (call == CALL_CLOSE)
			enter_close(args.a[0]);
		return 0;
	}
	if (!needs_state(call, args.a))
		return 0;
	if (counters.watched)
		send_before(&args);
	if (call == CALL_SUBMIT)
		note_use();
	state = state_of(task, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return 0;
	if (has_untold(state))
		tell_holes(state);
	state->call = call;
	state->has_touched_directory = 0;
	state->enter_ns = bpf_ktime_get_ns();
	state->enter_inode = 0;
	state->copy_sequence = 0;
	state->copy_is_off = call < CALL_SENDFILE || call > CALL_COPY_RANGE || !is_copy_from_outside(call, args.a);
	if (call <= CALL_LAST_WRITE)
		enter_write(&args, state);
	else if (call == CALL_RESERVE)
		enter_reserve(&args, state);
	return 0;
}

/* Whoever records a call of names, sizes or metadata has seen all that it touched. */
static __always_inline void record_call(struct call_args *args, struct dk_task *state)
{
	if (args->call == CALL_SUBMIT) {
		leave_submit(args, state);
		explain(state);
		return;
	}
	if (args->call <= CALL_LAST_COPY) {
		leave_copy(args, state);
		return;
	}
	if (args->call <= CALL_LAST_SIZE)
		leave_size(args, state);
	else if (args->call <= CALL_LAST_OPEN)
		leave_open(args, state);
	else if (args->call <= CALL_LAST_NAME)
		leave_name(args, state);
	else if (args->call > CALL_LAST_ATTR)
		leave_mount(args, state);
	else
		leave_attr(args, state);
	explain(state);
}

/* An open for writing that will not wait fails on a leased file; nothing else makes it fail so, but RESOLVE_CACHED. */
static __always_inline void note_disturbed(u32 call, u64 *a)
{
	u64 flags = call == CALL_OPEN ? a[1] : a[2];

	if ((call == CALL_OPEN || call == CALL_OPENAT) && (flags & O_NONBLOCK) && (flags & O_ACCMODE))
		__sync_fetch_and_add(&counters.disturbed, 1);
}

static __always_inline int leave_known(u64 *ctx, struct pt_regs *regs, u64 number)
{
	struct call_args args = {.result = ctx[1]};
	struct task_struct *task = bpf_get_current_task_btf();
	struct dk_task *state;

	if (!take_args(&args, regs, number, IS_32_BIT(task, regs)) || args.call == CALL_CLOSE) {
		leave_unrecorded();
		return 0;
	}
	if (args.call > CALL_LAST_WRITE && args.call <= CALL_LAST_MAPPING) {
		leave_unrecorded();
		return leave_mapping(&args);
	}
	if (args.result == -EAGAIN)
		note_disturbed(args.call, args.a);
	state = bpf_task_storage_get(&tasks, task, 0, 0);
	if (state && state->lock_bytes && state->lock_call != (u32)number)
		tell_holes(state); /* of an earlier call: none of the bytes are this one's */
	if (args.call <= CALL_LAST_WRITE)
		leave_write(&args, state);
	if (!state)
		return 0;
	if (args.call > CALL_LAST_WRITE && state->call == args.call) {
		if (args.result >= 0)
			record_call(&args, state);
		else if (args.call > CALL_LAST_OPEN && args.call <= CALL_LAST_NAME && state->touched_count)
			leave_failed_name(state);
		state->call = 0;
	}
	if (args.result < 0 && args.call <= CALL_LAST_SIZE && wrote_nothing(state))
		leave_failed(state);
	/* What a call has changed that failed otherwise, or that has no record. */
	if (has_untold(state))
		tell_holes(state);
	return 0;
}

/* Every system call's end: the record is made here, where the result is known and the caller's pages are present. */
SEC("tp_btf/sys_exit")
int leave(u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	u64 number = CALL_NUMBER(regs);

	if (number < CALL_TABLE_SIZE && (calls[number] || calls_32[number]))
		return leave_known(ctx, regs, number);
	leave_unrecorded();
	return 0;
}

/*
 * Each hook has a program of its own, so that the trial at start can tell which of them ran; those that do the same go
 * on to one that is verified once. load.c knows the hooks of these, and fills the table.
 */
static __always_inline int share(u64 *ctx, u32 index)
{
	bpf_tail_call(ctx, &shared_programs, index);
	return 0;
}

/*
 * Inside ext4's lock, once a folio: where a write really went. Bytes of one call sum to its result. Misses O_DIRECT
 * (see below) and DAX, whose position is then taken from the descriptor.
 */
static __always_inline int note_write(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct inode *inode = (void *)ctx[0];
	s64 offset = ctx[1];
	u32 copied = ctx[3];
	struct dk_task *state;
	u64 now;

	if (!copied || (counters.has_requests && note_request_write(ctx[0], offset, copied)))
		return 0;
	state = state_of(task, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return 0;
	now = bpf_ktime_get_ns();
	/* Not always at its end: what could be copied in part only is copied again. */
	if (state->lock_bytes && state->lock_inode == (u64)inode && state->lock_offset <= offset &&
		state->lock_offset + (s64)state->lock_bytes >= offset) {
		state->lock_bytes = offset + copied - state->lock_offset;
	} else {
		if (state->copy_sequence)
			state->copy_is_off = 1; /* its pieces count from where it began */
		begin_run(task, state, inode, offset);
		state->lock_bytes = copied;
		state->lock_is_whole = state->lock_is_direct = 0;
		state->lock_first_ns = now;
	}
	state->lock_last_ns = now;
	if (has_no_calls(task))
		return tell_holes(state);
	if (state->call >= CALL_SENDFILE && state->call <= CALL_COPY_RANGE && !state->copy_is_off)
		send_cached(state, offset, copied);
	return 0;
}

SEC("raw_tp")
int shared_write(u64 *ctx)
{
	return note_write(ctx);
}

SEC("raw_tp")
int ext4_delayed_write(u64 *ctx)
{
	return share(ctx, SHARED_WRITE);
}

SEC("raw_tp")
int ext4_ordered_write(u64 *ctx)
{
	return share(ctx, SHARED_WRITE);
}

SEC("raw_tp")
int ext4_journalled_write(u64 *ctx)
{
	return share(ctx, SHARED_WRITE);
}

/* Inside XFS's lock, once a call, before the bytes are copied: a short write ends below what is told here. */
static __always_inline int note_whole_write(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct kiocb *call = (void *)ctx[0];
	struct iov_iter *bytes = (void *)ctx[1];
	struct dk_task *state;
	struct inode *inode;
	s64 position;

	if (counters.has_requests && note_request_whole(argument(ctx, 0), bytes->count))
		return 0;
	state = state_of(task, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return 0;
	inode = call->ki_filp->f_inode;
	position = call->ki_pos;
	state->lock_last_ns = bpf_ktime_get_ns();
	/* splice and sendfile write piece after piece in one call. */
	if (state->lock_bytes && state->lock_is_whole && state->lock_inode == (u64)inode &&
		state->lock_offset < position && state->lock_offset + (s64)state->lock_bytes >= position) {
		state->lock_bytes = position + bytes->count - state->lock_offset;
	} else {
		begin_run(task, state, inode, position);
		state->lock_bytes = bytes->count;
		state->lock_is_whole = 1;
		state->lock_is_direct = 0;
		state->lock_first_ns = state->lock_last_ns;
	}
	return has_no_calls(task) ? tell_holes(state) : 0;
}

SEC("tp_btf/xfs_file_buffered_write")
int xfs_buffered_write(u64 *ctx)
{
	return note_whole_write(ctx);
}

SEC("tp_btf/xfs_file_direct_write")
int xfs_direct_write(u64 *ctx)
{
	return note_whole_write(ctx);
}

/*
 * O_DIRECT on every file system that uses iomap for it (ext4, XFS, btrfs), since Linux 6.5: inside the inode's lock,
 * but where no size changes that is shared, so that order is known up to the interval between these two. Requests
 * complete elsewhere: see aio.bpf.h.
 */
SEC("tp_btf/iomap_dio_rw_begin")
int direct_began(u64 *ctx)
{
	struct kiocb *call = (void *)ctx[0];
	struct iov_iter *bytes = (void *)ctx[1];
	struct task_struct *task = bpf_get_current_task_btf();
	struct dk_task *state;
	void *completes_elsewhere = 0;
	struct inode *inode;
	struct file *file = 0;
	s64 position = 0;
	u64 count = 0;
	u8 is_write = 0;

	read_field(&is_write, bytes, data_source);
	read_field(&completes_elsewhere, call, ki_complete);
	if (!is_write)
		return 0;
	if (completes_elsewhere)
		return counters.has_requests ? begin_direct(argument(ctx, 0), argument(ctx, 1)) : 0;
	state = state_of(task, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return 0;
	read_field(&file, call, ki_filp);
	read_field(&position, call, ki_pos);
	read_field(&count, bytes, count);
	/* A call that had to fault its buffer in goes on where it was. */
	if (ctx[3] && state->lock_is_direct && state->lock_offset + (s64)ctx[3] == position)
		return 0;
	inode = inode_of(file);
	/* XFS has announced it already, or it is tried again. */
	if (state->lock_is_whole && state->lock_inode == (u64)inode && state->lock_offset == position)
		state->lock_bytes = 0;
	begin_run(task, state, inode, position);
	state->lock_bytes = count;
	state->lock_is_whole = state->lock_is_direct = 1;
	state->lock_first_ns = state->lock_last_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/iomap_dio_complete")
int direct_completed(u64 *ctx)
{
	struct kiocb *call = (void *)ctx[0];
	struct task_struct *task = bpf_get_current_task_btf();
	struct dk_task *state = state_of(task, 0);
	void *completes_elsewhere = 0;
	s64 position = 0;

	read_field(&completes_elsewhere, call, ki_complete);
	if (completes_elsewhere)
		return counters.has_requests ? end_direct(argument(ctx, 0), ctx[2]) : 0;
	if (!state || !state->lock_is_direct)
		return 0;
	read_field(&position, call, ki_pos);
	state->lock_bytes = position > state->lock_offset ? position - state->lock_offset : 0;
	state->lock_is_whole = 0; /* what is left of the call may go on as an ordinary write, right behind */
	state->lock_last_ns = bpf_ktime_get_ns();
	return has_no_calls(task) ? tell_holes(state) : 0;
}

/*
 * Which inodes a call changed, and when, under their lock: ctime goes through these three since Linux 6.13, whatever
 * the file system.
 */
SEC("raw_tp")
int shared_touch(u64 *ctx)
{
	return note_touched(ctx);
}

SEC("raw_tp")
int touch_set(u64 *ctx)
{
	return share(ctx, SHARED_TOUCH);
}

SEC("raw_tp")
int touch_exchange(u64 *ctx)
{
	return share(ctx, SHARED_TOUCH);
}

SEC("raw_tp")
int touch_skip(u64 *ctx)
{
	return share(ctx, SHARED_TOUCH);
}

/* The same for ext4 on kernels before 6.13. */
SEC("raw_tp")
int touch_ext4(u64 *ctx)
{
	return share(ctx, SHARED_TOUCH);
}

char licence[] SEC("license") = "Dual BSD/GPL";
