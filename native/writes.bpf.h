/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writes: which inode, where, when; output of the command.
 */
#ifndef DIFFKEEPER_WRITES_BPF_H
#define DIFFKEEPER_WRITES_BPF_H

enum { ANYWHERE = 1 << 30 }; /* as many bytes as are read again at once */

__noinline int send_output(struct call_args *args, struct dk_task *state, u32 stream)
{
	struct scratch *space = scratch();
	struct dk_output *record = (void *)space;
	u64 length;

	if (!space || !args)
		return 0;
	length = args->result;
	fill_header(&record->header, DK_OUTPUT, 0, sizeof(*record));
	record->header.flags = writer_flags(state);
	record->header.result = args->result;
	record->length = args->result;
	record->stream = stream;
	record->payload = 0;
	if (args->call <= CALL_LAST_WRITE) {
		int is_vector = is_vector_call(args->call);

		barrier_var(length);
		if (!is_vector && length <= 4096 && !is_crowded()) {
			if (!bpf_probe_read_user(record + 1, length, (void *)args->a[1])) {
				record->payload = length;
				record->header.size += pad8(length);
			}
		} else if (is_inline_possible(length)) {
			record->header.flags |= DK_F_MORE;
			if (send_pieces(args, record->header.sequence))
				record->header.flags |= DK_F_FAULT;
		}
	}
	if (used_bytes() >= settings.ring_bytes / 20 * 19)
		lose(DK_LOST_RING, DK_OUTPUT);
	else
		put(&record->header, record->header.size & 0x3fff, 0);
	return 0;
}

/* On a terminal both streams are one open file: then the descriptor tells them apart. */
static __always_inline u32 output_stream(struct file *file, u64 fd)
{
	if (!file)
		return 0;
	if ((u64)file == counters.outputs[0])
		return fd == 2 && (u64)file == counters.outputs[1] ? 2 : 1;
	return (u64)file == counters.outputs[1] ? 2 : 0;
}

/* pwritev2 says for each call anew whether it appends. */
static __always_inline int does_append(struct call_args *args, u32 file_flags)
{
	if (args->call == CALL_PWRITEV2 && (args->a[5] & RWF_APPEND))
		return 1;
	return (file_flags & O_APPEND) && !(args->call == CALL_PWRITEV2 && (args->a[5] & RWF_NOAPPEND));
}

/* Does a write go where the caller said? Else at the descriptor's position, or at the end of the file. */
static __always_inline int has_own_place(struct call_args *args, int appends)
{
	int is_positioned = args->call == CALL_PWRITE || args->call == CALL_PWRITEV || args->call == CALL_PWRITEV2;

	return is_positioned && (s64)args->a[3] != -1 && !appends;
}

/* Nobody else has this descriptor: one reference to the open file, one task with these descriptors. Since Linux 6.13.
 */
static __always_inline int is_private(struct file *file)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct files_struct *files = 0;
	int sharers = 0, references = 1;

	if (!field_exists(file->f_ref))
		return 0;
	read_field(&files, task, files);
	if (files)
		read_field(&sharers, files, count.counter);
	read_at(&references, (u8 *)file + field_offset(file->f_ref));
	return sharers == 1 && references == 0; /* file_ref_t counts from 0 */
}

/*
 * The offset where no in-lock tracepoint told it: from the descriptor, which another writer may have moved since. Where
 * it stands at the end as far from where it stood at entry as this call has moved it, nobody has.
 */
static __always_inline void offset_from_file(
	struct target *target, struct call_args *args, struct dk_task *state, struct file *file)
{
	int is_positioned = args->call == CALL_PWRITE || args->call == CALL_PWRITEV || args->call == CALL_PWRITEV2;
	int is_sized = is_positioned && (s64)args->a[3] != -1;
	s64 position = 0, before;

	if (has_own_place(args, target->flags & DK_F_APPEND)) {
		target->offset = args->a[3];
		return;
	}
	if (is_sized)
		read_field(&position, target->inode, i_size);
	else
		read_field(&position, file, f_pos);
	target->offset = position - args->result;
	before = state && state->call == args->call ? (s64)state->enter_position : -1;
	if (target->offset == before || (!is_sized && is_private(file)))
		return;
	target->flags |= DK_F_FROM_DESCRIPTOR;
	if (before >= 0 && target->offset > before && target->offset - before < 1 << 20)
		target->slack = target->offset - before;
	/* Another task has moved the shared position back since: where the bytes went is not known. */
	if (target->offset < 0) {
		target->offset = 0;
		target->flags |= DK_F_AMBIGUOUS;
	}
}

/* What offset_from_file() compares with, at entry. */
static __always_inline u64 position_at_entry(struct call_args *args, struct file *file)
{
	struct inode *inode = inode_of(file);
	u32 flags = 0;
	s64 position = 0;

	if (!inode)
		return -1;
	read_field(&flags, file, f_flags);
	if (does_append(args, flags))
		read_field(&position, inode, i_size);
	else
		read_field(&position, file, f_pos);
	return position;
}

__noinline int enter_write(struct call_args *args, struct dk_task *state)
{
	struct file *file;

	if (!args || !state)
		return 0;
	file = file_of(args->a[0]);
	state->enter_inode = (u64)inode_of(file);
	state->enter_position = position_at_entry(args, file);
	return 0;
}

/* Is `outer` an inode of a stacked file system (overlayfs) that passed this write on to `inner`? */
static __always_inline int is_stacked(struct inode *outer, struct inode *inner)
{
	struct super_block *sb = 0;
	int depth = 0;

	if (!outer || outer == inner || !is_regular(mode_of(outer)))
		return 0;
	read_field(&sb, outer, i_sb);
	read_field(&depth, sb, s_stack_depth);
	return depth > 0;
}

/*
 * The inode of the bytes that were told inside the lock, as the root shows it. On overlayfs that is the one that the
 * write has touched and whose upper file was locked: the descriptor may have been turned, at either end of the call.
 */
static __always_inline struct inode *shown_inode(struct dk_task *state, struct inode *seen, struct inode *locked)
{
	struct inode *touched;

	for (u32 i = 0; counters.upper_offset && i < 3; i++) {
		touched = touched_inode(state, i);
		if (touched && touched != locked && real_inode((u64)touched) == (u64)locked)
			return touched;
	}
	return is_stacked(seen, locked) && is_root_device(device_of(seen)) ? seen : locked;
}

/*
 * The descriptor led to another file when the call began: that one may have got the bytes. As a hole, its extent is
 * read whatever its times say, since those are also what another write to it has told.
 */
static __always_inline void doubt_earlier(struct call_args *args, struct dk_task *state, int appends)
{
	if (has_own_place(args, appends))
		send_hole(state->enter_inode, args->a[3], args->result);
	else
		send_hole(state->enter_inode, 0, ANYWHERE);
}

/* Which inode, where and when: from inside the lock if it was told there, else from the descriptor. */
__noinline int find_target(struct target *target, struct call_args *args, struct dk_task *state, u64 pointer)
{
	struct file *file = (struct file *)pointer;
	struct inode *seen = inode_of(file), *locked = 0;
	u32 file_flags = 0;

	if (!target || !args)
		return 0;
	/* A clone returns 0 and writes no bytes: what is left in the state is of an earlier call. */
	if (state && state->lock_bytes && state->lock_bytes == (u64)args->result)
		locked = (struct inode *)state->lock_inode;
	else if (state && args->result && state->lock_is_whole && state->lock_bytes > (u64)args->result)
		locked = (struct inode *)state->lock_inode;
	if (!locked && (!seen || !is_regular(mode_of(seen))))
		return 0;
	target->inode = seen;
	if (file)
		read_field(&file_flags, file, f_flags);
	if (does_append(args, file_flags))
		target->flags |= DK_F_APPEND;
	if (file_flags & O_DIRECT)
		target->flags |= DK_F_DIRECT;
	if (locked) {
		target->inode = shown_inode(state, seen, locked);
		target->offset = state->lock_offset;
		target->t_ns = state->lock_last_ns;
		target->enter_ns = state->lock_first_ns;
		if (state->lock_is_direct)
			target->exit_ns = state->lock_last_ns;
		else
			target->flags |= DK_F_IN_LOCK;
		return 1;
	}
	if (state && state->call == args->call) {
		target->enter_ns = state->enter_ns;
		if (state->enter_inode && state->enter_inode != (u64)seen) {
			target->flags |= DK_F_AMBIGUOUS;
			doubt_earlier(args, state, target->flags & DK_F_APPEND); /* or the bytes went there */
		}
	}
	offset_from_file(target, args, state, file);
	if (target->flags & DK_F_AMBIGUOUS)
		target->slack = 0;
	return 1;
}

__noinline int leave_fifo(struct dk_task *state)
{
	struct dk_attr record = {0};
	struct inode *inode;
	unsigned long ino = 0;
	u32 verdict;

	if (!state)
		return 0;
	inode = (struct inode *)state->fifo.pointer;
	state->fifo.pointer = 0;
	read_field(&ino, inode, i_ino);
	verdict = ino == state->fifo.ino ? verdict_of(inode) : OUTSIDE;
	if (verdict == OUTSIDE)
		return 0;
	fill_header(&record.header, DK_ATTR, DK_OP_UTIME, sizeof(record));
	record.header.t_ns = state->fifo_ns;
	record.header.flags = DK_F_IN_LOCK | doubt(verdict) | writer_flags(state);
	read_inode(&record.inode, inode);
	put_of(&record.header, sizeof(record), 0, &record.inode, 0, 0);
	return 0;
}

/*
 * A write has been recorded, or is outside: what it did inside the lock is told by that, as far as it is about the same
 * file and the bytes are those that were recorded.
 */
static __always_inline void settle_write(struct dk_task *state, struct target *target, u64 length)
{
	u64 told = state->lock_is_whole ? 0 : state->lock_bytes;

	if (target->flags & DK_F_IN_LOCK)
		state->lock_bytes = 0;
	else if (state->lock_inode == (u64)target->inode && state->lock_offset >= target->offset &&
		 state->lock_offset + told <= target->offset + length)
		state->lock_bytes = 0;
	if (state->touched_count == 1 && state->touched[0].pointer == (u64)target->inode)
		state->touched_count = 0;
	if (!has_untold(state))
		explain(state);
}

__noinline int leave_write(struct call_args *args, struct dk_task *state)
{
	struct target target = {0};
	u32 stream, verdict = OUTSIDE;
	struct file *file;

	if (!args)
		return 0;
	if (args->result > 0) {
		file = file_of(args->a[0]);
		stream = output_stream(file, args->a[0]);
		if (stream)
			send_output(args, state, stream);
		if (find_target(&target, args, state, (u64)file))
			verdict = state ? remembered_verdict(state, target.inode) : verdict_of(target.inode);
		if (verdict != OUTSIDE)
			send_data(args, &target, target.flags | doubt(verdict) | writer_flags(state));
		if (verdict != OUTSIDE && target.slack && target.sequence)
			send_cached_range((u64)target.inode, target.offset - target.slack, target.offset + args->result,
				target.sequence);
	}
	if (!state)
		return 0;
	if (has_untold(state))
		settle_write(state, &target, args->result);
	state->call = 0;
	if (state->fifo.pointer)
		leave_fifo(state);
	return 0;
}

#endif
