/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies inside the kernel, whose bytes are taken from the page cache.
 */
#ifndef DIFFKEEPER_COPIES_BPF_H
#define DIFFKEEPER_COPIES_BPF_H

/*
 * Bytes that a copy inside the kernel has just put into a folio, which the task still holds locked: they are sent from
 * there, so that nobody needs to read them back later, when the file may be another or gone.
 */
__noinline int send_cached(struct dk_task *state, u64 offset, u64 length)
{
	u32 zero = 0;
	struct pieces *pieces = bpf_map_lookup_elem(&piece_loops, &zero);
	u64 from, inode;

	if (!pieces || !state || state->copy_is_off)
		return 0;
	inode = state->lock_inode;
	state->copy_is_off = 1;
	from = find_cached(inode, offset);
	if (!from || !is_inline_possible(length) || !is_readable((struct inode *)inode))
		return 0;
	if (!state->copy_sequence)
		state->copy_sequence = __sync_fetch_and_add(&counters.sequence, 1) + 1;
	__builtin_memset(pieces, 0, sizeof(*pieces));
	pieces->is_kernel = 1;
	pieces->buffer = from;
	pieces->left = pieces->total = length;
	pieces->start = offset - state->lock_offset;
	pieces->sequence = state->copy_sequence;
	bpf_loop(2 + (length >> 16), send_piece, 0, 0);
	state->copy_is_off = pieces->failed || pieces->total;
	return 0;
}

/*
 * Will replay know the bytes that a copy reads? Not of what is outside; nor of a file that is stored to through a
 * mapping, which nobody sees; nor where a file is copied onto itself: it may read what it has just written.
 */
__noinline u32 is_known_source(u64 from, u64 to)
{
	struct inode *source = (struct inode *)from;
	struct address_space *mapping = 0;
	int writable = 0;

	if (!source || from == to || !is_regular(mode_of(source)) || verdict_of(source) != INSIDE)
		return 0;
	read_field(&mapping, source, i_mapping);
	read_field(&writable, mapping, i_mmap_writable.counter);
	return writable <= 0;
}

/* Calls. */

static __always_inline s64 user_offset(u64 pointer, struct file *file, s64 result, u32 is_short)
{
	s64 position = 0;
	s32 narrow = 0;

	if (pointer && is_short) {
		if (bpf_probe_read_user(&narrow, sizeof(narrow), (void *)pointer) || is_probe_spoilt()) {
			lose(DK_LOST_PROBE, DK_COPY);
			return 0;
		}
		position = narrow;
	} else if (pointer) {
		if (bpf_probe_read_user(&position, sizeof(position), (void *)pointer) || is_probe_spoilt()) {
			lose(DK_LOST_PROBE, DK_COPY);
			return 0;
		}
	} else if (file) {
		read_field(&position, file, f_pos);
	}
	return position - result;
}

struct copy_plan {
	u32 from;
	u32 to;
	u64 from_pointer;
	u64 to_pointer;
	u8 op;
};

static __always_inline void plan_copy(struct copy_plan *plan, struct call_args *args)
{
	if (args->call == CALL_SENDFILE) {
		plan->to = args->a[0];
		plan->from = args->a[1];
		plan->from_pointer = args->a[2];
		plan->op = DK_OP_SENDFILE;
		return;
	}
	plan->from = args->a[0];
	plan->from_pointer = args->a[1];
	plan->to = args->a[2];
	plan->to_pointer = args->a[3];
	plan->op = args->call == CALL_SPLICE ? DK_OP_SPLICE : DK_OP_COPY_RANGE;
}

/* FICLONE (whole file) and FICLONERANGE: result becomes the number of bytes cloned. */
static __always_inline int read_clone(struct dk_copy *record, struct call_args *args, struct copy_plan *plan)
{
	struct {
		s64 fd;
		u64 from, length, to;
	} range = {0};

	plan->op = DK_OP_CLONE;
	plan->to = args->a[0];
	if ((u32)args->a[1] == FICLONE) {
		plan->from = args->a[2];
		return 1;
	}
	if ((u32)args->a[1] != FICLONERANGE)
		return 0;
	if (bpf_probe_read_user(&range, sizeof(range), (void *)args->a[2]) || is_probe_spoilt()) {
		lose(DK_LOST_PROBE, DK_COPY);
		return 0;
	}
	plan->from = range.fd;
	record->source_offset = range.from;
	record->offset = range.to;
	record->length = range.length;
	return 1;
}

__noinline int send_copy(struct call_args *args, struct dk_task *state, struct target *target)
{
	struct scratch *space = scratch();
	struct dk_copy *record = (void *)space;
	struct copy_plan plan = {0};
	struct file *from, *to;
	struct inode *source;
	u32 stream, verdict;
	int is_clone;

	if (!space || !args || !state || !target)
		return 0;
	is_clone = args->call == CALL_CLONE;
	if (!is_clone && args->result <= 0)
		return 0;
	record->source_offset = record->offset = record->length = 0;
	if (is_clone) {
		if (!read_clone(record, args, &plan))
			return 0;
	} else {
		plan_copy(&plan, args);
	}
	to = file_of(plan.to);
	from = file_of(plan.from);
	stream = is_clone ? 0 : output_stream(to, plan.to);
	if (stream)
		send_output(args, state, stream);
	if (!find_target(target, args, state, (u64)to))
		return 0;
	verdict = verdict_of(target->inode);
	if (verdict == OUTSIDE)
		return 0;
	source = inode_of(from);
	fill_header(&record->header, DK_COPY, plan.op, sizeof(*record));
	if (state->copy_sequence)
		record->header.sequence = state->copy_sequence;
	record->header.flags = target->flags | doubt(verdict) | writer_flags(state);
	record->header.result = args->result;
	record->header.enter_ns = state->enter_ns;
	if (target->t_ns)
		record->header.t_ns = target->t_ns;
	read_inode(&record->inode, target->inode);
	record->source.ino = 0;
	if (source && is_regular(mode_of(source)))
		read_inode(&record->source, source);
	if (is_clone) {
		record->header.flags &= ~(DK_F_FROM_DESCRIPTOR | DK_F_AMBIGUOUS); /* the caller says where to */
		if (!record->length)
			record->length = record->source.size - record->source_offset;
	} else {
		record->length = args->result;
		record->offset = target->offset;
		if (!(target->flags & DK_F_IN_LOCK) && plan.to_pointer) {
			record->offset = user_offset(plan.to_pointer, to, args->result, 0);
			record->header.flags &= ~(DK_F_FROM_DESCRIPTOR | DK_F_AMBIGUOUS); /* the caller's own offset */
		}
		record->source_offset = user_offset(plan.from_pointer, from, args->result, args->has_short_offset);
	}
	if (state->copy_sequence)
		record->header.flags |= DK_F_MORE;
	if (state->copy_sequence ? state->copy_is_off || !(target->flags & DK_F_IN_LOCK)
				 : !is_known_source((u64)source, is_clone ? 0 : (u64)target->inode))
		record->header.flags |= DK_F_BY_REFERENCE;
	if (record->header.flags & DK_F_BY_REFERENCE && !is_clone &&
		send_cached_range(
			(u64)target->inode, record->offset, record->offset + record->length, record->header.sequence))
		record->header.flags |= DK_F_READ_AT_EXIT;
	put_of(&record->header, sizeof(*record), record->header.flags & DK_F_BY_REFERENCE, &record->inode,
		record->offset, record->length);
	return 0;
}

static __always_inline int leave_copy(struct call_args *args, struct dk_task *state)
{
	struct target target = {0};

	if (!args || !state)
		return 0;
	send_copy(args, state, &target);
	if (has_untold(state))
		settle_write(state, &target, args->result);
	return 0;
}

#endif
