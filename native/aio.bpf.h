/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Linux AIO: io_submit is one call that makes many writes; and O_DIRECT writes that end when their call is long over,
 * of io_uring too. Programs included.
 */
#ifndef DIFFKEEPER_AIO_BPF_H
#define DIFFKEEPER_AIO_BPF_H

/* XFS tells a write once, before its bytes: is it a request's? Of AIO the call's end looks at what was asked for. */
__noinline int note_request_whole(u64 pointer, u64 bytes)
{
	struct request *request = bpf_map_lookup_elem(&requests, &pointer);
	struct kiocb *call = (void *)pointer;
	struct dk_task *state;

	if (request) {
		read_field(&request->task.lock_offset, call, ki_pos);
		request->task.lock_bytes = bytes;
		request->task.lock_is_whole = 1;
		request->task.lock_first_ns = request->task.lock_last_ns = bpf_ktime_get_ns();
		return 1;
	}
	state = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0);
	return state && state->call == CALL_SUBMIT;
}

/* ---- O_DIRECT ---- */

/* Send the bytes of a request's buffer, wherever it is; true when a part is missing. */
__noinline int send_iterator(u64 pointer, u64 sequence)
{
	struct iov_iter *from = (void *)pointer;
	u32 zero = 0;
	struct pieces *pieces = bpf_map_lookup_elem(&piece_loops, &zero);
	u64 skip = 0;
	u8 type = 0;

	if (!pieces)
		return 1;
	__builtin_memset(pieces, 0, sizeof(*pieces));
	pieces->sequence = sequence;
	read_field(&type, from, iter_type);
	read_field(&pieces->total, from, count);
	read_field(&skip, from, iov_offset);
	if (type == ITER_UBUF) {
		read_field((void **)&pieces->buffer, from, ubuf);
		pieces->buffer += skip;
		pieces->left = pieces->total;
	} else if (type == ITER_IOVEC || type == ITER_BVEC) {
		read_field((void **)&pieces->iov, from, ubuf); /* one union: __iov, bvec, ubuf */
		pieces->vector = type == ITER_BVEC ? PAGE_VECTOR : KERNEL_VECTOR;
		pieces->skip = skip;
	} else {
		return 1;
	}
	bpf_loop(1026 + (pieces->total >> 16), send_piece, 0, 0);
	return pieces->failed || pieces->total;
}

/* The request of a write that goes past the page cache; AIO's begin here. */
static __always_inline struct request *direct_request(u64 pointer)
{
	struct request *request = bpf_map_lookup_elem(&requests, &pointer);
	struct dk_task *state;

	if (request)
		return request;
	state = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0);
	if (!state || state->call != CALL_SUBMIT || bpf_map_update_elem(&requests, &pointer, &blank_request, BPF_ANY))
		return 0;
	request = bpf_map_lookup_elem(&requests, &pointer);
	if (!request)
		return 0;
	request->is_aio = 1;
	request->task.owner = bpf_get_current_pid_tgid();
	request->task.is_recorded = state->is_recorded;
	request->task.is_announced = state->is_announced;
	return request;
}

__noinline int begin_direct(u64 pointer, u64 iterator)
{
	struct kiocb *call = (void *)pointer;
	struct request *request;
	struct file *file = 0;
	struct inode *inode;
	u64 count = 0;
	u8 is_source = 0;

	read_field(&is_source, (struct iov_iter *)iterator, data_source);
	if (!is_source)
		return 0;
	read_field(&file, call, ki_filp);
	inode = inode_of(file);
	if (!inode || !is_regular(mode_of(inode)) || verdict_of(inode) == OUTSIDE)
		return 0;
	request = direct_request(pointer);
	if (!request)
		return 0;
	writer_flags(&request->task);
	end_announced(request, (u64)inode); /* tried before, in vain */
	request->was_direct = 1;
	request->direct_inode = (u64)inode;
	request->direct_ns = bpf_ktime_get_ns();
	read_field(&request->direct_offset, call, ki_pos);
	read_field(&count, (struct iov_iter *)iterator, count);
	request->direct_sequence = __sync_fetch_and_add(&counters.sequence, 1) + 1;
	request->announced = request->direct_sequence;
	announce_request(request, (u64)inode, request->direct_offset, count);
	request->direct_is_off =
		!is_readable(inode) || !is_inline_possible(count) || send_iterator(iterator, request->direct_sequence);
	return 0;
}

__noinline int end_direct(u64 pointer, s64 result)
{
	struct request *request = bpf_map_lookup_elem(&requests, &pointer);
	struct dk_data record = {0};
	struct inode *inode;
	u32 verdict;

	if (!request || !request->direct_ns)
		return 0;
	inode = (struct inode *)request->direct_inode;
	verdict = verdict_of(inode);
	if (result > 0 && verdict != OUTSIDE) {
		fill_header(&record.header, DK_DATA, DK_OP_WRITE, sizeof(record));
		record.header.flags = DK_F_DIRECT | doubt(verdict) | writer_flags(&request->task);
		fill_owner(&record.header, &request->task);
		record.header.sequence = request->direct_sequence;
		record.header.flags |= DK_F_MORE | (request->direct_is_off ? DK_F_BY_REFERENCE : 0);
		record.header.enter_ns = record.header.t_ns = request->direct_ns;
		record.header.result = record.length = result;
		record.offset = request->direct_offset;
		read_inode(&record.inode, inode);
		put_of(&record.header, sizeof(record), request->direct_is_off, &record.inode, record.offset,
			record.length);
	}
	end_announced(request, (u64)inode);
	request->direct_ns = 0;
	if (request->is_aio)
		bpf_map_delete_elem(&requests, &pointer);
	return 0;
}

/* ---- io_submit ---- */

struct iocb {
	u64 data;
	u32 key, rw_flags;
	u16 opcode;
	u16 priority;
	u32 fd;
	u64 buffer, bytes;
	s64 offset;
};

struct submit_walk {
	u64 list;
	u64 count;
	u64 enter_ns;
	u64 pointer_bytes; /* of a 32-bit task: 4 */
};

/*
 * A write whose file system tells nothing from inside a lock. Its result comes later, in memory of the caller: what the
 * file holds now is the truth, so the bytes are read back.
 */
__noinline int send_submitted(struct iocb *call, u64 enter_ns)
{
	struct file *file;
	struct inode *inode;
	struct super_block *sb = 0;
	struct dk_data record = {0};
	unsigned long magic = 0;
	u32 verdict, file_flags = 0;

	if (!call || (call->opcode != IOCB_CMD_PWRITE && call->opcode != IOCB_CMD_PWRITEV))
		return 0;
	file = file_of(call->fd);
	inode = inode_of(file);
	if (!inode || !is_regular(mode_of(inode)))
		return 0;
	read_field(&sb, inode, i_sb);
	read_field(&magic, sb, s_magic);
	read_field(&file_flags, file, f_flags);
	if (magic == EXT4_MAGIC || ((file_flags & O_DIRECT) && magic != TMPFS_MAGIC))
		return 0;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	fill_header(&record.header, DK_DATA, DK_OP_WRITE, sizeof(record));
	record.header.flags = DK_F_BY_REFERENCE | doubt(verdict) | writer_flags(0);
	record.header.enter_ns = enter_ns;
	read_inode(&record.inode, inode);
	record.offset = call->offset;
	record.length = call->bytes;
	if (call->opcode == IOCB_CMD_PWRITEV) {
		record.length = record.inode.size > record.offset ? record.inode.size - record.offset : 0;
		record.header.flags |= DK_F_AMBIGUOUS;
	}
	if (file_flags & O_APPEND) {
		record.offset = record.inode.size > record.length ? record.inode.size - record.length : 0;
		record.header.flags |= DK_F_AMBIGUOUS | DK_F_FROM_DESCRIPTOR;
	}
	if (record.offset + record.length > record.inode.size) {
		record.length = record.inode.size > record.offset ? record.inode.size - record.offset : 0;
		record.header.flags |= DK_F_AMBIGUOUS;
	}
	record.header.result = record.length;
	if (record.length)
		put_of(&record.header, sizeof(record), 1, &record.inode, record.offset, record.length);
	return 0;
}

static long submit_step(u32 index, void *context)
{
	struct submit_walk *walk = context;
	struct iocb call = {0};
	u64 pointer = 0;

	if (index >= walk->count)
		return 1;
	if (!bpf_probe_read_user(
		    &pointer, walk->pointer_bytes == 4 ? 4 : 8, (void *)(walk->list + walk->pointer_bytes * index)) &&
		!bpf_probe_read_user(&call, sizeof(call), (void *)pointer))
		send_submitted(&call, walk->enter_ns);
	return 0;
}

__noinline int leave_submit(struct call_args *args, struct dk_task *state)
{
	struct submit_walk walk = {0};

	if (!args || !state)
		return 0;
	walk.list = args->a[2];
	walk.count = args->result;
	walk.enter_ns = state->enter_ns;
	walk.pointer_bytes = args->is_compat ? 4 : 8;
	send_locked(state);
	if (args->result > 0 && settings.writes_need_enter)
		bpf_loop(args->result, submit_step, &walk, 0);
	return 0;
}

#endif
