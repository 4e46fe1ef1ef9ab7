/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Requests of io_uring: each is a call of its own, opened when it first touches something (docs/decisions/0016).
 * Programs included.
 */
#ifndef DIFFKEEPER_URING_BPF_H
#define DIFFKEEPER_URING_BPF_H

/*
 * By the address of its struct io_kiocb, which is that of its struct kiocb as well; of AIO by that of its kiocb. An
 * entry stays until its completion, or until the kernel uses the address again.
 */
struct request {
	struct dk_task task;
	u64 token; /* unique; 0: it is recorded already */
	u64 ctx;
	u64 a[6];
	u32 opcode;
	u32 strings; /* IS_REQUEST, and the first bytes of its paths */
	u8 is_prepared;
	u8 is_aio;
	u8 was_direct;
	u8 direct_is_off; /* bytes of the write in progress could not be sent */
	u32 zero;
	u64 direct_inode; /* of an O_DIRECT write in progress */
	s64 direct_offset;
	u64 direct_ns;
	u64 direct_sequence;
	u64 inode; /* that a close is about */
	u64 ino;
	u64 announced; /* the sequence of its DK_ASYNC record */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct request);
} requests SEC(".maps");

static const struct request blank_request = {0};

/* What a system call would be that does the same. */
static __always_inline u32 call_of(u32 opcode)
{
	switch (opcode) {
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_WRITEV_FIXED:
		return CALL_PWRITE;
	case IORING_OP_CLOSE:
		return CALL_CLOSE;
	case IORING_OP_SPLICE:
		return CALL_SPLICE;
	case IORING_OP_FTRUNCATE:
		return CALL_FTRUNCATE;
	case IORING_OP_FALLOCATE:
		return CALL_FALLOCATE;
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		return CALL_OPENAT;
	case IORING_OP_MKDIRAT:
		return CALL_MKDIRAT;
	case IORING_OP_SYMLINKAT:
		return CALL_SYMLINKAT;
	case IORING_OP_LINKAT:
		return CALL_LINKAT;
	case IORING_OP_UNLINKAT:
		return CALL_UNLINKAT;
	case IORING_OP_RENAMEAT:
		return CALL_RENAMEAT2;
	case IORING_OP_SETXATTR:
	case IORING_OP_FSETXATTR:
		return CALL_SETXATTR;
	}
	return CALL_NONE;
}

/* The request that a worker of io-wq is at, or 0. */
static __always_inline u64 request_at(void *pointer)
{
	struct task_struct *task = pointer;
	struct io_worker *worker = 0;
	struct io_wq_work *work = 0;
	u32 flags = 0;

	if (!field_exists(((struct io_worker *)0)->cur_work))
		return 0;
	read_field(&flags, task, flags);
	if (!(flags & PF_IO_WORKER))
		return 0;
	read_field((void **)&worker, task, worker_private);
	if (!worker)
		return 0; /* the SQPOLL thread */
	read_field(&work, worker, cur_work);
	return work ? (u64)work - field_offset(((struct io_kiocb *)0)->work) : 0;
}

/* ---- strings: they go ahead, while the kernel has them ---- */

enum { SECOND_STRING = 1 << 16 }; /* where the second one begins among the pieces */

static __always_inline void fill_piece(struct dk_piece *piece, u64 sequence, u64 start, long length)
{
	piece->size = sizeof(*piece) + pad8(length & 0xfff);
	piece->type = DK_PIECE;
	piece->zero = 0;
	piece->flags = 0;
	piece->sequence = sequence;
	piece->start = start;
	piece->payload = length;
	piece->zero2 = 0;
}

/* Send a string of the kernel's as a piece; returns its first byte. */
__noinline u32 send_string(u64 from, u64 sequence, u64 start)
{
	struct dk_piece *piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + 512, 0);
	u32 first;
	long got;

	if (!piece) {
		lose(DK_LOST_RING, DK_PIECE);
		return 0;
	}
	got = bpf_probe_read_kernel_str(piece + 1, 512, (void *)from);
	if (got > 0 && got < 512) {
		fill_piece(piece, sequence, start, got - 1);
		first = *(u8 *)(piece + 1);
		bpf_ringbuf_submit(piece, BPF_RB_NO_WAKEUP);
		return first;
	}
	bpf_ringbuf_discard(piece, BPF_RB_NO_WAKEUP);
	piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + DK_PATH_MAX, 0);
	if (!piece) {
		lose(DK_LOST_RING, DK_PIECE);
		return 0;
	}
	got = bpf_probe_read_kernel_str(piece + 1, DK_PATH_MAX, (void *)from);
	fill_piece(piece, sequence, start, got > 0 ? got - 1 : 0);
	first = got > 0 ? *(u8 *)(piece + 1) : 0;
	bpf_ringbuf_submit(piece, BPF_RB_NO_WAKEUP);
	return first;
}

static __always_inline u32 send_filename(struct filename *from, u64 sequence, u64 start)
{
	const char *name = 0;

	read_field(&name, from, name);
	return send_string((u64)name, sequence, start) & 0xff;
}

__noinline int send_value(u64 from, u64 length, u64 sequence)
{
	u32 zero = 0;
	struct pieces *pieces = bpf_map_lookup_elem(&piece_loops, &zero);

	if (!pieces || !from || !length)
		return 0;
	__builtin_memset(pieces, 0, sizeof(*pieces));
	pieces->is_kernel = 1;
	pieces->buffer = from;
	pieces->left = pieces->total = length;
	pieces->start = SECOND_STRING;
	pieces->sequence = sequence;
	bpf_loop(4, send_piece, 0, 0);
	return 0;
}

/* ---- what a request asks for ---- */

static __always_inline void read_two_paths(struct request *request, u64 pointer)
{
	struct io_rename *rename = (void *)pointer;
	struct io_link *link = (void *)pointer;
	struct filename *old = 0, *new = 0;
	int from = 0, to = 0, flags = 0;
	u64 sequence = request->task.copy_sequence;
	u32 first, second;

	if (request->opcode == IORING_OP_RENAMEAT) {
		read_field(&from, rename, old_dfd);
		read_field(&to, rename, new_dfd);
		read_field(&flags, rename, flags);
		read_field(&old, rename, oldpath);
		read_field(&new, rename, newpath);
	} else {
		read_field(&from, link, old_dfd);
		read_field(&to, link, new_dfd);
		read_field(&flags, link, flags);
		read_field(&old, link, oldpath);
		read_field(&new, link, newpath);
	}
	if (request->opcode == IORING_OP_SYMLINKAT) { /* the new link comes first, what it says second */
		request->a[1] = (s64)to;
		first = send_filename(new, sequence, 0);
		second = send_filename(old, sequence, SECOND_STRING);
	} else {
		request->a[0] = (s64)from;
		request->a[2] = (s64)to;
		request->a[4] = flags;
		first = send_filename(old, sequence, 0);
		second = send_filename(new, sequence, SECOND_STRING);
	}
	request->strings |= first | second << 8;
}

static __always_inline void read_one_path(struct request *request, u64 pointer)
{
	struct io_open *open = (void *)pointer;
	struct io_unlink *unlink = (void *)pointer;
	struct io_mkdir *mkdir = (void *)pointer;
	struct filename *name = 0;
	int base = 0, flags = 0;
	u32 slot = 0;

	switch (request->opcode) {
	case IORING_OP_UNLINKAT:
		read_field(&base, unlink, dfd);
		read_field(&flags, unlink, flags);
		read_field(&name, unlink, filename);
		request->a[2] = flags;
		break;
	case IORING_OP_MKDIRAT:
		read_field(&base, mkdir, dfd);
		read_field(&name, mkdir, filename);
		break;
	default:
		read_field(&base, open, dfd);
		read_field(&name, open, filename);
		read_field(&request->a[2], open, how.flags);
		read_field(&slot, open, file_slot);
		request->a[3] = slot;
	}
	request->a[0] = (s64)base;
	request->strings |= send_filename(name, request->task.copy_sequence, 0);
}

static __always_inline void read_value(struct request *request, u64 pointer)
{
	struct io_xattr *xattr = (void *)pointer;
	struct xattr_name *name = 0;
	void *value = 0;

	read_field(&name, xattr, ctx.kname);
	read_field(&value, xattr, ctx.kvalue);
	read_field((unsigned long *)&request->a[3], xattr, ctx.size);
	send_string((u64)name, request->task.copy_sequence, 0);
	send_value((u64)value, request->a[3], request->task.copy_sequence);
}

static __always_inline void read_size(struct request *request, u64 pointer)
{
	struct io_sync *sync = (void *)pointer;
	struct io_ftrunc *cut = (void *)pointer;
	int mode = 0;

	if (request->opcode == IORING_OP_FTRUNCATE) {
		if (field_exists(cut->len))
			read_field((s64 *)&request->a[1], cut, len);
		return;
	}
	read_field(&mode, sync, mode);
	request->a[1] = mode;
	read_field((s64 *)&request->a[2], sync, off);
	read_field((s64 *)&request->a[3], sync, len);
}

static __always_inline void prepare_write(struct request *request, u64 pointer)
{
	struct file *file = 0;

	request->is_prepared = 1;
	request->task.call = call_of(request->opcode);
	read_field(&file, (struct io_kiocb *)pointer, file);
	request->task.enter_inode = (u64)inode_of(file);
}

/* Read a request's command, once, while it stands in the kernel as it was submitted. */
__noinline int prepare(struct request *request, u64 pointer)
{
	u32 call;

	if (!request || !field_exists(((struct io_kiocb *)0)->opcode))
		return 0;
	call = call_of(request->opcode);
	if (call > CALL_LAST_SIZE) {
		request->is_prepared = 1;
		request->task.call = call;
		request->task.copy_sequence = __sync_fetch_and_add(&counters.sequence, 1) + 1;
		if (call == CALL_SETXATTR)
			read_value(request, pointer);
		else if (call == CALL_RENAMEAT2 || call == CALL_LINKAT || call == CALL_SYMLINKAT)
			read_two_paths(request, pointer);
		else
			read_one_path(request, pointer);
		return 0;
	}
	prepare_write(request, pointer);
	if (call > CALL_LAST_COPY)
		read_size(request, pointer);
	return 0;
}

/* ---- the record ---- */

/* Bytes told from inside the lock, since the last record: they are a write of their own. */
__noinline int send_locked(struct dk_task *state)
{
	struct dk_data record = {0};
	struct inode *inode;
	u32 verdict;

	if (!state || !state->lock_bytes)
		return 0;
	inode = (struct inode *)state->lock_inode;
	if (is_stacked((struct inode *)state->enter_inode, inode))
		inode = (struct inode *)state->enter_inode;
	verdict = verdict_of(inode);
	if (verdict != OUTSIDE) {
		fill_header(&record.header, DK_DATA, state->call == CALL_SPLICE ? DK_OP_SPLICE : DK_OP_WRITE,
			sizeof(record));
		record.header.flags = DK_F_IN_LOCK | doubt(verdict) | writer_flags(state);
		fill_owner(&record.header, state);
		if (state->copy_sequence) {
			record.header.sequence = state->copy_sequence;
			record.header.flags |= DK_F_MORE;
		}
		if (state->copy_is_off || !state->copy_sequence)
			record.header.flags |= DK_F_BY_REFERENCE;
		record.header.enter_ns = state->lock_first_ns;
		record.header.t_ns = state->lock_last_ns;
		record.header.result = record.length = state->lock_bytes;
		record.offset = state->lock_offset;
		read_inode(&record.inode, inode);
		put_of(&record.header, sizeof(record), record.header.flags & DK_F_BY_REFERENCE, &record.inode,
			record.offset, record.length);
	}
	state->lock_bytes = 0;
	state->copy_sequence = 0;
	return 0;
}

/* Add what a folio took, and send it from there. What does not follow on the bytes before is another write. */
__noinline int add_locked(struct dk_task *state, u64 inode, s64 offset, u32 copied)
{
	u64 now = bpf_ktime_get_ns();

	if (!state)
		return 0;
	if (state->lock_bytes && (state->lock_inode != inode || state->lock_offset + (s64)state->lock_bytes != offset))
		send_locked(state);
	if (!state->lock_bytes) {
		state->lock_inode = inode;
		state->lock_offset = offset;
		state->lock_is_whole = 0;
		state->lock_first_ns = now;
		state->copy_sequence = 0;
		state->copy_is_off = !counters.linear_map || verdict_of((struct inode *)inode) == OUTSIDE;
	}
	state->lock_bytes += copied;
	state->lock_last_ns = now;
	if (!state->copy_is_off)
		send_cached(state, offset, copied);
	return 0;
}

/* The file that an open put into a slot of the ring. */
static __always_inline u64 file_in_slot(u64 pointer, u32 slot)
{
	struct io_ring_ctx *ctx = (void *)pointer;
	struct io_rsrc_node **nodes = 0, *node = 0;
	unsigned long file = 0;
	u32 count = 0;

	if (!field_exists(((struct io_rsrc_node *)0)->file_ptr))
		return 0;
	read_field(&count, ctx, file_table.data.nr);
	read_field(&nodes, ctx, file_table.data.nodes);
	if (slot >= count)
		return 0;
	read_at(&node, nodes + slot);
	if (node)
		read_field(&file, node, file_ptr);
	return file & ~7ul;
}

static __always_inline u64 opened_file(struct request *request, s64 result)
{
	u32 slot = request->a[3];
	struct file *file;

	if (!slot)
		file = file_of(result);
	else
		file = (struct file *)file_in_slot(
			request->ctx, slot == IORING_FILE_INDEX_ALLOC ? (u32)result : slot - 1);
	/* Another file may have its number by now. */
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		if (file && i < request->task.touched_count && request->task.touched[i].pointer == (u64)inode_of(file))
			return (u64)file;
	return 0;
}

/* Make the record of a request that has ended. */
__noinline int record_request(struct request *request, s64 result)
{
	struct call_args args = {.result = result};

	if (!request)
		return 0;
	args.call = request->task.call;
	args.request = request->strings | IS_REQUEST;
	args.a[0] = request->a[0];
	args.a[2] = request->a[2];
	args.a[3] = request->a[3];
	args.a[4] = request->a[4];
	if (args.call <= CALL_LAST_COPY)
		return send_locked(&request->task);
	if (result < 0) { /* it failed half way; not tell_holes: the verifier allows 8 calls, one in another */
		for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
			tell_touched(&request->task, i);
		return 0;
	}
	if (args.call <= CALL_LAST_SIZE) {
		args.a[1] = request->a[1];
		return leave_size(&args, &request->task);
	}
	if (args.call <= CALL_LAST_OPEN) {
		args.a[5] = opened_file(request, result);
		return leave_open(&args, &request->task);
	}
	if (args.call == CALL_SYMLINKAT) {
		args.a[1] = request->a[1];
		args.a[2] = 0;
	}
	if (args.call == CALL_SETXATTR)
		return leave_attr(&args, &request->task);
	if (args.call == CALL_LINKAT || args.call == CALL_RENAMEAT2) {
		args.a[1] = args.a[3] = 0;
	}
	return leave_name_request(&args, &request->task);
}

/* Whoever turns the token into 0 makes the record. */
static __always_inline int claim(struct request *request, u64 token)
{
	return token && __sync_val_compare_and_swap(&request->token, token, 0) == token;
}

static __always_inline void begin_request(struct request *request, u64 pointer)
{
	u64 id = bpf_get_current_pid_tgid();
	struct io_kiocb *kernel = (void *)pointer;
	u8 opcode = 0;

	read_field(&opcode, kernel, opcode);
	read_field((struct io_ring_ctx **)&request->ctx, kernel, ctx);
	request->opcode = opcode;
	request->task.owner = id;
	request->task.enter_ns = bpf_ktime_get_ns();
	request->token = __sync_fetch_and_add(&counters.sequence, 1) + 1;
}

/* ---- programs ---- */

/* Tell the drain thread that requests are used. */
static __always_inline void note_use(void)
{
	struct dk_async record = {0};

	if (counters.has_requests)
		return;
	counters.has_requests = 1;
	fill_header(&record.header, DK_ASYNC, 0, sizeof(record));
	put(&record.header, sizeof(record), 1);
}

/* Who a ring's kernel thread works for. */
static __always_inline u64 owner_of(struct io_ring_ctx *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct io_sq_data *thread = 0;
	u32 pid = 0, tid = 0;

	read_field(&thread, ctx, sq_data);
	if (!thread)
		return id;
	read_field((int *)&pid, thread, task_tgid);
	read_field((int *)&tid, thread, task_pid);
	return (u64)pid << 32 | tid;
}

/*
 * From now on the request may write, and no reading of the file is exact. The record of the write has the same
 * sequence. length 0: where is not known.
 */
__noinline int announce_request(struct request *request, u64 pointer, s64 offset, u64 length)
{
	struct dk_async record = {0};

	if (!request)
		return 0;
	fill_header(&record.header, DK_ASYNC, 0, sizeof(record));
	fill_owner(&record.header, &request->task);
	record.header.sequence = request->announced;
	record.header.enter_ns = record.header.t_ns;
	read_inode(&record.inode, (struct inode *)pointer);
	record.offset = offset;
	record.length = length;
	record.of = request->announced;
	put_of(&record.header, sizeof(record), 0, &record.inode, offset, length);
	return 0;
}

/* It writes no more. */
static __always_inline void end_announced(struct request *request, u64 pointer)
{
	struct dk_async record = {0};

	if (!request->announced)
		return;
	fill_header(&record.header, DK_ASYNC, 1, sizeof(record));
	read_inode(&record.inode, (struct inode *)pointer);
	record.of = request->announced;
	put_of(&record.header, sizeof(record), 0, &record.inode, 0, 0);
	request->announced = 0;
}

/* Where nothing is told from inside a lock, a write may happen at any time from its submission on. */
static __always_inline void announce_unlocked(struct request *request, u64 pointer)
{
	struct io_kiocb *kernel = (void *)pointer;
	u32 flags = 0, call = call_of(request->opcode);
	struct super_block *sb = 0;
	unsigned long magic = 0;
	struct inode *inode;
	int fd = 0;

	if (!settings.writes_need_enter || (call != CALL_PWRITE && call != CALL_SPLICE))
		return;
	read_field(&flags, kernel, flags);
	read_field(&fd, kernel, cqe.fd);
	inode = inode_of(flags & REQ_F_FIXED_FILE ? (struct file *)file_in_slot(request->ctx, fd) : file_of(fd));
	if (!inode || !is_regular(mode_of(inode)) || verdict_of(inode) == OUTSIDE)
		return;
	read_field(&sb, inode, i_sb);
	read_field(&magic, sb, s_magic);
	if (magic == EXT4_MAGIC)
		return;
	request->announced = request->token;
	request->direct_inode = (u64)inode;
	announce_request(request, (u64)inode, 0, 0);
}

/* A close is about the file as it is now: when it has ended there is none. */
static __always_inline void note_close(struct request *request, u64 pointer)
{
	struct io_close *close = (void *)pointer;
	struct file *file;
	u32 slot = 0, mode = 0;
	int fd = 0;

	read_field(&fd, close, fd);
	read_field(&slot, close, file_slot);
	file = slot ? (struct file *)file_in_slot(request->ctx, slot - 1) : file_of(fd);
	if (!file)
		return;
	read_field(&mode, file, f_mode);
	if (!(mode & FMODE_WRITE))
		return;
	request->inode = (u64)inode_of(file);
	read_field((unsigned long *)&request->ino, (struct inode *)request->inode, i_ino);
}

static __always_inline int submitted(u64 pointer)
{
	struct io_kiocb *kernel = (void *)pointer;
	struct request *request;
	struct dk_task *state;
	u8 opcode = 0;

	if (!field_exists(kernel->cqe.res))
		return 0;
	read_field(&opcode, kernel, opcode);
	if (!call_of(opcode))
		return 0;
	note_use();
	request = bpf_map_lookup_elem(&requests, &pointer);
	/* It is used again, and its worker has not been seen to leave it: keep what it did under its token. */
	if (request && request->token && request->is_prepared)
		bpf_map_update_elem(&requests, &request->token, request, BPF_ANY);
	if (bpf_map_update_elem(&requests, &pointer, &blank_request, BPF_ANY)) {
		lose(DK_LOST_TABLE, 0);
		return 0;
	}
	request = bpf_map_lookup_elem(&requests, &pointer);
	if (!request)
		return 0;
	begin_request(request, pointer);
	request->task.owner = owner_of((struct io_ring_ctx *)request->ctx);
	state = bpf_task_storage_get(&tasks, bpf_get_current_task_btf()->group_leader, 0, 0);
	if (state) {
		request->task.is_recorded = state->is_recorded;
		request->task.is_announced = state->is_announced;
	}
	if (opcode == IORING_OP_CLOSE)
		note_close(request, pointer);
	announce_unlocked(request, pointer);
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int request_submitted(u64 *ctx)
{
	return submitted(argument(ctx, 0));
}

/* The same before Linux 6.4. */
SEC("tp_btf/io_uring_submit_sqe")
int request_submitted_old(u64 *ctx)
{
	return submitted(argument(ctx, 0));
}

static __always_inline void send_close(struct request *request)
{
	struct inode *inode = (struct inode *)request->inode;
	struct dk_close record = {0};
	unsigned long ino = 0;
	u32 verdict;

	read_field(&ino, inode, i_ino);
	if (!inode || ino != request->ino || !is_regular(mode_of(inode)))
		return;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return;
	fill_header(&record.header, DK_CLOSE, 0, sizeof(record));
	record.header.flags = doubt(verdict) | writer_flags(&request->task);
	fill_owner(&record.header, &request->task);
	read_inode(&record.inode, inode);
	put_of(&record.header, sizeof(record), 0, &record.inode, 0, 0);
}

enum { READ_AT_END_MAX = 1 << 16 };

/*
 * A write of which nothing was told from inside a lock: its end says where it was. The bytes are the submitter's, who
 * must not change them before; of vectors and registered buffers they are read back, from the page cache at once where
 * the drain thread could not open the file (tmpfs).
 */
__noinline int send_unlocked(struct request *request, u64 pointer, s64 result)
{
	struct io_rw *kernel = (void *)pointer;
	struct call_args args = {.result = result, .call = CALL_WRITE};
	struct inode *inode;
	struct dk_data record = {0};
	s64 position = 0;
	u32 verdict;

	if (!request || result <= 0 || !field_exists(kernel->addr))
		return 0;
	if (!request->is_prepared)
		prepare(request, pointer);
	inode = (struct inode *)request->task.enter_inode;
	if (!inode || !is_regular(mode_of(inode)))
		return 0;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	read_field(&position, kernel, kiocb.ki_pos);
	read_field(&args.a[1], kernel, addr);
	fill_header(&record.header, DK_DATA, DK_OP_WRITE, sizeof(record));
	record.header.flags = doubt(verdict) | writer_flags(&request->task);
	request->task.copy_sequence = 0;
	fill_owner(&record.header, &request->task);
	if (request->announced)
		record.header.sequence = request->announced;
	record.header.result = record.length = result;
	record.header.enter_ns = request->task.enter_ns;
	record.offset = position - result;
	if (request->task.lock_is_whole) {
		record.offset = request->task.lock_offset;
		record.header.t_ns = request->task.lock_last_ns;
		record.header.flags |= DK_F_IN_LOCK;
	}
	read_inode(&record.inode, inode);
	record.header.flags |= DK_F_MORE;
	if (request->opcode != IORING_OP_WRITE || !is_readable(inode) || !is_inline_possible(result) ||
		send_pieces(&args, record.header.sequence)) {
		record.header.flags |= DK_F_BY_REFERENCE;
		/* Page by page: of what is longer, replay would have to judge too many readings. */
		if (settings.has_no_handles && result <= READ_AT_END_MAX &&
			send_cached_range((u64)inode, record.offset, record.offset + result, record.header.sequence))
			record.header.flags |= DK_F_READ_AT_EXIT;
	}
	put_of(&record.header, sizeof(record), record.header.flags & DK_F_BY_REFERENCE, &record.inode, record.offset,
		record.length);
	return 0;
}

#endif
