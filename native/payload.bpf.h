/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Payload: bytes of a caller, or of the page cache, in the record or as pieces before it.
 */
#ifndef DIFFKEEPER_PAYLOAD_BPF_H
#define DIFFKEEPER_PAYLOAD_BPF_H

struct iovec {
	u64 base;
	u64 len;
};

static __always_inline int is_vector_call(u32 call)
{
	return call >= CALL_WRITEV && call <= CALL_PWRITEV2;
}

static __always_inline long read_iovec(struct iovec *to, u64 from, u64 is_compat)
{
	u32 words[2] = {0};
	long failed;

	if (!is_compat)
		return bpf_probe_read_user(to, sizeof(*to), (void *)from);
	failed = bpf_probe_read_user(words, sizeof(words), (void *)from);
	to->base = words[0];
	to->len = words[1];
	return failed;
}

/* A long write asks again at every piece: it began when there was room. */
#define SEND_PIECE(BUCKET) \
	do { \
		if (is_half_full()) { \
			pieces->failed = 1; \
			return 1; \
		} \
		struct dk_piece *piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + (BUCKET), 0); \
		if (!piece) { \
			pieces->failed = 1; \
			return 1; \
		} \
		piece->size = sizeof(*piece) + pad8(length); \
		piece->type = DK_PIECE; \
		piece->zero = 0; \
		piece->flags = 0; \
		piece->sequence = pieces->sequence; \
		piece->start = pieces->start; \
		piece->payload = length; \
		piece->zero2 = 0; \
		if (pieces->is_kernel ? bpf_probe_read_kernel(piece + 1, length, (void *)pieces->buffer) \
				      : bpf_probe_read_user(piece + 1, length, (void *)pieces->buffer)) { \
			piece->payload = 0; \
			piece->size = sizeof(*piece); \
			pieces->failed = 1; \
		} \
		bpf_ringbuf_submit(piece, BPF_RB_NO_WAKEUP); \
	} while (0)

/* The next segment of a request's buffer, in the kernel's own vector; of registered buffers it is given in pages. */
static __always_inline long read_kernel_segment(struct iovec *iov, struct pieces *pieces)
{
	u64 page_bytes = counters.page_struct_bytes, page = 0;
	struct bio_vec *part = (void *)pieces->iov;
	u32 length = 0, offset = 0;

	if (pieces->vector == KERNEL_VECTOR)
		return bpf_probe_read_kernel(iov, sizeof(*iov), (void *)pieces->iov);
	if (!counters.linear_map || !page_bytes || read_field((struct page **)&page, part, bv_page))
		return 1;
	read_field(&length, part, bv_len);
	read_field(&offset, part, bv_offset);
	iov->base = counters.linear_map + (((page - counters.page_array) / page_bytes) << 12) + offset;
	iov->len = length;
	pieces->is_kernel = 1;
	return 0;
}

static long send_piece(u32 index, void *context)
{
	u32 zero = 0;
	struct pieces *pieces = bpf_map_lookup_elem(&piece_loops, &zero);
	struct iovec iov = {0};
	u64 length;

	if (!pieces)
		return 1;
	if (!pieces->left) {
		if (!pieces->iov)
			return 1;
		if (pieces->vector ? read_kernel_segment(&iov, pieces)
				   : read_iovec(&iov, pieces->iov, pieces->is_compat)) {
			pieces->failed = 1;
			return 1;
		}
		pieces->iov += pieces->is_compat ? sizeof(iov) / 2 : sizeof(iov);
		pieces->buffer = iov.base + pieces->skip;
		iov.len -= pieces->skip;
		pieces->skip = 0;
		pieces->left = iov.len < pieces->total ? iov.len : pieces->total;
		if (!pieces->left)
			return 0;
	}
	length = pieces->left;
	if (length <= 512) {
		barrier_var(length);
		if (length > 512)
			return 1;
		SEND_PIECE(512);
	} else if (length <= 8192) {
		barrier_var(length);
		if (length > 8192)
			return 1;
		SEND_PIECE(8192);
	} else {
		if (length > DK_PIECE_MAX)
			length = DK_PIECE_MAX;
		barrier_var(length);
		if (length > DK_PIECE_MAX)
			return 1;
		SEND_PIECE(DK_PIECE_MAX);
	}
	pieces->buffer += length;
	pieces->left -= length;
	pieces->start += length;
	pieces->total -= length;
	return pieces->total == 0;
}

/* Send the caller's buffer, or its vector, as pieces; true when a part is missing. */
__noinline int send_pieces(struct call_args *args, u64 sequence)
{
	u32 zero = 0, times;
	struct pieces *pieces = bpf_map_lookup_elem(&piece_loops, &zero);

	if (!pieces || !args)
		return 1;
	times = 2 + ((u64)args->result >> 16);
	__builtin_memset(pieces, 0, sizeof(*pieces));
	pieces->total = args->result;
	pieces->sequence = sequence;
	if (is_vector_call(args->call)) {
		pieces->iov = args->a[1];
		pieces->is_compat = args->is_compat;
		times += 1024;
	} else {
		pieces->buffer = args->a[1];
		pieces->left = args->result;
	}
	bpf_loop(times, send_piece, 0, 0);
	return pieces->failed || pieces->total;
}

/* Payload goes inline below half a ring; above, only what is no larger than the record itself; above 90 %, none. */
static __always_inline int has_room_inline(u64 used, u64 length)
{
	if (used < settings.ring_bytes / 2)
		return 1;
	return used < settings.ring_bytes / 10 * 9 && length <= 512;
}

static __always_inline int is_inline_possible(u64 length)
{
	return has_room_inline(used_bytes(), length);
}

struct target {
	struct inode *inode;
	s64 offset;
	u64 t_ns;
	u64 enter_ns;
	u64 exit_ns; /* 0: the call's own */
	u32 flags;
	u32 slack;    /* see dk_data */
	u64 sequence; /* of the record that was made */
	u64 used;     /* bytes of the ring, before it */
};

static __always_inline void fill_data(struct dk_data *record, struct call_args *args, struct target *target, u16 flags)
{
	fill_header(&record->header, DK_DATA, DK_OP_WRITE, sizeof(*record));
	record->header.flags = flags;
	record->header.result = args->result;
	record->header.enter_ns = target->enter_ns;
	if (target->t_ns)
		record->header.t_ns = target->t_ns;
	if (target->exit_ns)
		record->header.exit_ns = target->exit_ns;
	record->offset = target->offset;
	record->length = args->result;
	record->payload = 0;
	record->slack = target->slack;
	target->sequence = record->header.sequence;
	read_inode(&record->inode, target->inode);
}

static __always_inline int is_on_one_page(u64 offset, u64 length)
{
	return counters.linear_map && (offset & 4095) + length <= 4096;
}

/*
 * The caller's page went away between the copy and here (another thread unmapped it, the kernel is moving it): its
 * bytes are read from the file's page at once, as a late reading with its interval. Returns 1 where that failed.
 */
__noinline int send_late(struct target *target, u64 sequence, u64 length)
{
	struct dk_late *late = bpf_ringbuf_reserve(&ring, sizeof(*late) + 4096, 0);
	u64 from;
	int failed;

	if (!late)
		return 1;
	fill_header(&late->header, DK_LATE, 0, sizeof(*late));
	late->header.sequence = sequence;
	late->header.enter_ns = late->read_from_ns = late->header.t_ns;
	late->payload = late->zero = 0;
	late->offset = 0;
	late->header.result = -14;
	if (target && length <= 4096) {
		late->offset = target->offset;
		read_inode(&late->inode, target->inode);
		from = find_cached(real_inode((u64)target->inode), target->offset);
		if (from && !bpf_probe_read_kernel(late + 1, length, (void *)from)) {
			late->payload = length;
			late->header.size = sizeof(*late) + pad8(length);
			late->header.result = 0;
		}
	}
	late->read_to_ns = bpf_ktime_get_ns();
	failed = late->header.result != 0;
	bpf_ringbuf_submit(late, wake(0));
	return failed;
}

/* May the owner of the trace read this file? Its bytes are none of theirs otherwise. */
static __always_inline int is_readable(struct inode *inode)
{
	u32 uid = 0, gid = 0, mode = mode_of(inode);

	if (!settings.reader_uid || (mode & 0444) == 0444)
		return 1;
	read_field(&uid, inode, i_uid.val);
	read_field(&gid, inode, i_gid.val);
	return grants(settings.reader_uid, settings.reader_gid, uid, gid, mode, READS_FILE);
}

/* State of a reading of a file at the end of a call, page by page. */
struct cached_copy {
	u64 inode;
	u64 at;
	u64 end;
	u64 sequence;
	u32 failed;
	u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cached_copy);
} cached_copies SEC(".maps");

static long send_cached_page(u32 index, void *context)
{
	u32 zero = 0;
	struct cached_copy *copy = bpf_map_lookup_elem(&cached_copies, &zero);
	struct target target = {0};
	u64 length;

	if (!copy || copy->failed)
		return 1;
	length = 4096 - (copy->at & 4095);
	if (length > copy->end - copy->at)
		length = copy->end - copy->at;
	target.inode = (struct inode *)copy->inode;
	target.offset = copy->at;
	copy->failed = !is_inline_possible(4096) || send_late(&target, copy->sequence, length);
	copy->at += length;
	return copy->failed || copy->at >= copy->end;
}

/*
 * Where no tracepoint inside the lock told, bytes are read from the page cache before the call returns: a late reading
 * of microseconds, whose interval replay judges. tmpfs has no other way: it opens no file by handle. Returns 1 when all
 * were had; what is left out is for the drain thread.
 */
__noinline u32 send_cached_range(u64 inode, u64 at, u64 end, u64 sequence)
{
	u32 zero = 0;
	struct cached_copy *copy = bpf_map_lookup_elem(&cached_copies, &zero);

	if (!copy || at >= end || !counters.linear_map || !is_readable((struct inode *)inode))
		return 0;
	copy->inode = inode;
	copy->at = at;
	copy->end = end;
	copy->sequence = sequence;
	copy->failed = 0;
	bpf_loop(1 << 20, send_cached_page, 0, 0);
	return !copy->failed && copy->at >= copy->end;
}

/*
 * A few bytes of the caller go by way of the stack: where the kernel checks what user memory is copied to
 * (CONFIG_HARDENED_USERCOPY), it knows its own stack at once, and the ring only after a search, 60 ns.
 */
enum { FEW = 64 };

static __always_inline long read_few(void *to, u32 length, u64 from)
{
	u64 few[FEW / sizeof(u64)] = {0};
	long failed = bpf_probe_read_user(few, length, (void *)from);

	__builtin_memcpy(to, few, sizeof(few));
	return failed;
}

#define READ_USER bpf_probe_read_user(record + 1, length, (void *)buffer)

#define SEND_DATA(BUCKET, READ) \
	do { \
		struct dk_data *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + (BUCKET), 0); \
		if (!record) \
			break; \
		fill_data(record, args, target, flags); \
		record->payload = length; \
		record->header.size = sizeof(*record) + pad8(length); \
		if (READ || is_probe_spoilt()) { \
			record->payload = 0; \
			record->header.size = sizeof(*record); \
			record->header.flags |= DK_F_FAULT | DK_F_BY_REFERENCE; \
			if (is_on_one_page(target->offset, length)) \
				record->header.flags |= DK_F_READ_AT_EXIT; \
			sequence = record->header.sequence; \
			bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP); \
			if (is_on_one_page(target->offset, length)) \
				send_late(target, sequence, length); \
			return 0; \
		} \
		bpf_ringbuf_submit(record, wake_at(target->used)); \
		return 0; \
	} while (0)

/* One buffer that fits one record: the common case, one reservation and one copy. */
__noinline int send_data_inline(struct call_args *args, struct target *target, u64 buffer, u16 flags)
{
	u64 sequence, length;

	if (!args || !target)
		return 1;
	length = args->result;
	if (length <= FEW) {
		barrier_var(length);
		if (length > FEW)
			return 1;
		SEND_DATA(FEW, read_few(record + 1, length, buffer));
	} else if (length <= 512) {
		barrier_var(length);
		if (length > 512)
			return 1;
		SEND_DATA(512, READ_USER);
	} else if (length <= 4096) {
		barrier_var(length);
		if (length > 4096)
			return 1;
		SEND_DATA(4096, READ_USER);
	} else if (length <= 8192) {
		barrier_var(length);
		if (length > 8192)
			return 1;
		SEND_DATA(8192, READ_USER);
	} else if (length <= 16384) {
		barrier_var(length);
		if (length > 16384)
			return 1;
		SEND_DATA(16384, READ_USER);
	} else if (length <= 32768) {
		barrier_var(length);
		if (length > 32768)
			return 1;
		SEND_DATA(32768, READ_USER);
	} else {
		barrier_var(length);
		if (length > DK_PIECE_MAX)
			return 1;
		SEND_DATA(DK_PIECE_MAX, READ_USER);
	}
	return 1;
}

/* A record without payload: pieces follow, or the drain thread reads the bytes back. */
__noinline int send_data_apart(struct call_args *args, struct target *target, u16 flags)
{
	struct scratch *space = scratch();
	struct dk_data *record = (void *)space;
	u64 sequence;

	if (!space || !args || !target)
		return 0;
	fill_data(record, args, target, flags);
	sequence = record->header.sequence;
	if (!(flags & DK_F_BY_REFERENCE)) {
		if (!send_pieces(args, sequence)) {
			record->header.flags |= DK_F_MORE;
			put_of(&record->header, sizeof(*record), 0, &record->inode, record->offset, record->length);
			return 0;
		}
		record->header.flags |= DK_F_MORE | DK_F_FAULT | DK_F_BY_REFERENCE;
	}
	put_of(&record->header, sizeof(*record), 1, &record->inode, record->offset, record->length);
	return 0;
}

static __always_inline int send_data(struct call_args *args, struct target *target, u16 flags)
{
	int is_vector = is_vector_call(args->call);
	struct iovec iov = {0};
	u64 buffer = args->a[1];

	if (!is_readable(target->inode))
		return send_data_apart(args, target, flags | DK_F_BY_REFERENCE | DK_F_FAULT);
	target->used = used_bytes();
	if (!has_room_inline(target->used, args->result))
		return send_data_apart(args, target, flags | DK_F_BY_REFERENCE);
	if (is_vector) {
		if (args->a[2] != 1 || read_iovec(&iov, buffer, args->is_compat))
			return send_data_apart(args, target, flags);
		buffer = iov.base;
	}
	if (args->result <= DK_PIECE_MAX && !send_data_inline(args, target, buffer, flags))
		return 0;
	return send_data_apart(args, target, flags);
}

#endif
