// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See a change, put one event on the ring.
 *
 * A call that changes names or metadata is opened at sys_enter, the inodes whose ctime the task changes meanwhile are
 * noted under the file system's own lock (`touched`), and at sys_exit one record says what was asked for, and in what
 * state each touched inode is. A write needs no entry where the file system tells inode and offset from inside its
 * lock.
 *
 * Program order: includes, settings, maps, globals, reading the kernel, verdicts, records, calls, programs, licence.
 */
#include "kernel.h"
#include "calls.h"
#include "events.h"

/* ---- settings, written before load ---- */

const volatile u8 calls[CALL_TABLE_SIZE] = {CALL_NUMBERS};
const volatile struct dk_settings settings SEC(".rodata.settings") = {.ring_bytes = 1 << 26, .has_touch_hooks = 1};

/* ---- maps ---- */

struct verdict_key {
	u64 ino;
	u32 dev;
	u32 generation;
};
enum { OUTSIDE = 0, INSIDE = 1, UNKNOWN = 2 };

struct verdict {
	u32 epoch;
	u32 answer;
};

struct scratch {
	u8 bytes[24576];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 26);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dk_task);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct dk_place);
	__type(value, u32);
} places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct verdict_key);
	__type(value, struct verdict);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* State of the piece loop: in a map, so that the verifier need not follow its values from turn to turn. */
struct pieces {
	u64 buffer;   /* where the current segment stands */
	u64 left;     /* of the current segment */
	u64 iov;      /* the next struct iovec, 0 for a plain buffer */
	u64 total;    /* bytes still to send */
	u64 start;    /* of the next piece, relative to the write */
	u64 sequence; /* of the record they belong to */
	u32 failed;
	u32 is_kernel; /* buffer is the kernel's: the page cache */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct pieces);
} piece_loops SEC(".maps");

/* ---- globals ---- */

struct dk_counters counters SEC(".data.counters") = {0};

/* ---- reading the kernel ---- */

struct call_args {
	u64 a[6];
	s64 result;
	u32 call;
	u32 flags;
};

static __always_inline struct dk_task *state_of(struct task_struct *task, u64 create)
{
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, create);

	if (!state && create)
		__sync_fetch_and_add(&counters.lost[DK_LOST_TABLE], 1);
	return state;
}

static __always_inline struct scratch *scratch(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/*
 * The open file behind a descriptor of the current task, or 0. A global function, verified once, and without loads
 * through trusted pointers: each of those makes the verifier search the whole of BTF, 2 to 3 ms a place.
 */
__noinline u64 find_file(u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct files_struct *files = 0;
	struct fdtable *table = 0;
	struct file **array = 0, *file = 0;
	u32 count = 0;

	read_field(&files, task, files);
	if (!files)
		return 0;
	read_field(&table, files, fdt);
	read_field(&count, table, max_fds);
	if (fd >= count)
		return 0;
	read_field(&array, table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), array + fd);
	return (u64)file;
}

static __always_inline struct file *file_of(u32 fd)
{
	return (struct file *)find_file(fd);
}

static __always_inline struct inode *inode_of(struct file *file)
{
	struct inode *inode = 0;

	if (file)
		read_field(&inode, file, f_inode);
	return inode;
}

static __always_inline u32 device_of(struct inode *inode)
{
	struct super_block *sb = 0;
	u32 dev = 0;

	read_field(&sb, inode, i_sb);
	read_field(&dev, sb, s_dev);
	return dev;
}

static __always_inline u32 mode_of(struct inode *inode)
{
	u16 mode = 0;

	read_field(&mode, inode, i_mode);
	return mode;
}

static __always_inline int is_directory(u32 mode)
{
	return (mode & S_IFMT) == S_IFDIR;
}

static __always_inline int is_regular(u32 mode)
{
	return (mode & S_IFMT) == S_IFREG;
}

/* mtime on kernels before 6.11. */
static __always_inline void read_mtime(struct dk_inode *to, struct inode *from)
{
	struct inode___private *hidden = (void *)from;
	struct inode___plain *plain = (void *)from;
	struct timespec64 when = {0};

	if (field_exists(hidden->__i_mtime))
		read_field(&when, hidden, __i_mtime);
	else
		read_field(&when, plain, i_mtime);
	to->mtime_sec = when.tv_sec;
	to->mtime_nsec = when.tv_nsec;
}

/*
 * All fields at once: on known kernels they lie in the first bytes of an inode, and one read of those costs as much as
 * one of a single field. What lies behind them is read alone; the verifier removes the branch that is not taken.
 */
enum { INODE_HEAD = 168 };

#define take_field(to, from, field) \
	do { \
		u64 at_ = field_offset((from)->field); \
		if (at_ + sizeof(*(to)) <= INODE_HEAD) \
			__builtin_memcpy((to), head + at_, sizeof(*(to))); \
		else \
			read_field((to), from, field); \
	} while (0)

__noinline int copy_inode(struct dk_inode *to, u64 pointer)
{
	struct inode *from = (struct inode *)pointer;
	struct inode___flat *flat = (void *)from;
	struct super_block *sb = 0;
	unsigned long ino = 0;
	u8 head[INODE_HEAD];
	u16 mode = 0;

	if (!to)
		return 0;
	if (bpf_probe_read_kernel(head, sizeof(head), from))
		__builtin_memset(head, 0, sizeof(head));
	take_field(&ino, from, i_ino);
	take_field(&mode, from, i_mode);
	take_field(&sb, from, i_sb);
	to->ino = ino;
	to->mode = mode;
	to->dev = 0;
	read_field(&to->dev, sb, s_dev);
	take_field(&to->generation, from, i_generation);
	take_field(&to->nlink, from, i_nlink);
	take_field(&to->uid, from, i_uid.val);
	take_field(&to->gid, from, i_gid.val);
	take_field((s64 *)&to->size, from, i_size);
	take_field(&to->rdev, from, i_rdev);
	if (field_exists(flat->i_mtime_sec)) {
		take_field(&to->mtime_sec, flat, i_mtime_sec);
		take_field(&to->mtime_nsec, flat, i_mtime_nsec);
	} else {
		read_mtime(to, from);
	}
	return 0;
}

static __always_inline void read_inode(struct dk_inode *to, struct inode *from)
{
	copy_inode(to, (u64)from);
}

static __always_inline void read_base(struct dk_base *to, struct inode *from)
{
	unsigned long ino = 0;

	read_field(&ino, from, i_ino);
	to->ino = ino;
	to->dev = device_of(from);
	to->generation = 0;
	read_field(&to->generation, from, i_generation);
}

/* The first dentry of an inode: a directory has exactly one. */
static __always_inline struct dentry *alias_of(struct inode *inode)
{
	struct hlist_node *node = 0;

	read_field(&node, inode, i_dentry.first);
	if (!node)
		return 0;
	return (struct dentry *)((char *)node -
				 (u64)__builtin_preserve_access_index(&((struct dentry *)0)->d_u.d_alias));
}

/* ---- verdicts: is an inode below a root? ---- */

struct walk {
	struct dentry *dentry;
	u32 dev;
	u32 answer;
};

static long walk_step(u32 index, void *context)
{
	struct walk *walk = context;
	struct dentry *parent = 0;
	struct inode *inode = 0;
	unsigned long ino = 0;
	struct dk_place place = {0};
	u32 *kind;

	read_field(&inode, walk->dentry, d_inode);
	if (inode)
		read_field(&ino, inode, i_ino);
	place.ino = ino;
	place.dev = walk->dev;
	kind = bpf_map_lookup_elem(&places, &place);
	if (kind) {
		walk->answer = *kind == DK_PLACE_ROOT ? INSIDE : OUTSIDE;
		return 1;
	}
	read_field(&parent, walk->dentry, d_parent);
	if (!parent || parent == walk->dentry) {
		walk->answer = OUTSIDE;
		return 1;
	}
	walk->dentry = parent;
	return 0;
}

__noinline u32 walk_up(u64 dentry, u32 dev)
{
	struct walk walk = {.dentry = (struct dentry *)dentry, .dev = dev, .answer = UNKNOWN};

	bpf_loop(8192, walk_step, &walk, 0);
	return walk.answer;
}

static __always_inline int is_root_device(u32 dev)
{
	for (int i = 0; i < 8; i++) {
		if (!settings.devices[i])
			return 0;
		if (settings.devices[i] == dev)
			return 1;
	}
	return 0;
}

static __always_inline u32 fresh_verdict(struct inode *inode, u32 dev)
{
	struct dentry *dentry = alias_of(inode);
	u32 nlink = 0, answer;

	if (!dentry)
		return UNKNOWN;
	answer = walk_up((u64)dentry, dev);
	if (answer == INSIDE)
		return answer;
	read_field(&nlink, inode, i_nlink);
	/* Another link of it may stand below a root: user space knows. */
	if (nlink > 1 && is_regular(mode_of(inode)))
		return UNKNOWN;
	return answer;
}

static __always_inline void verdict_key(struct verdict_key *key, struct inode *inode, u32 dev)
{
	unsigned long ino = 0;

	read_field(&ino, inode, i_ino);
	key->ino = ino;
	key->dev = dev;
	key->generation = 0;
	read_field(&key->generation, inode, i_generation);
}

__noinline u32 judge(u64 pointer)
{
	struct inode *inode = (struct inode *)pointer;
	struct verdict_key key = {0};
	struct verdict made = {0}, *known;
	u32 dev = device_of(inode);

	if (!is_root_device(dev))
		return OUTSIDE;
	verdict_key(&key, inode, dev);
	known = bpf_map_lookup_elem(&verdicts, &key);
	/* UNKNOWN is asked again each time: it holds while a file has several links, and losing one is no rename. */
	if (known && known->epoch == counters.epoch && known->answer != UNKNOWN)
		return known->answer;
	made.epoch = counters.epoch;
	made.answer = fresh_verdict(inode, dev);
	bpf_map_update_elem(&verdicts, &key, &made, BPF_ANY);
	return made.answer;
}

static __always_inline u32 verdict_of(struct inode *inode)
{
	return judge((u64)inode);
}

/* The flag of a record about an inode that may as well stand outside: replay knows, and ignores it then. */
static __always_inline u16 doubt(u32 verdict)
{
	return verdict == UNKNOWN ? DK_F_UNCERTAIN : 0;
}

static __always_inline void forget_verdict(struct inode *inode)
{
	struct verdict_key key = {0};

	verdict_key(&key, inode, device_of(inode));
	bpf_map_delete_elem(&verdicts, &key);
}

struct alias_count {
	struct hlist_node *node;
	u32 dev;
	u32 inside;
};

static long alias_step(u32 index, void *context)
{
	struct alias_count *count = context;
	struct dentry *dentry;

	if (!count->node)
		return 1;
	dentry = (struct dentry *)((char *)count->node -
				   (u64)__builtin_preserve_access_index(&((struct dentry *)0)->d_u.d_alias));
	if (walk_up((u64)dentry, count->dev) == INSIDE)
		count->inside++;
	read_field(&count->node, count->node, next);
	return count->inside >= 2;
}

/* How many names of an inode, of those the kernel has at hand, stand below a root: 0, 1, or 2 for more. */
__noinline u32 names_inside(u64 pointer)
{
	struct inode *inode = (struct inode *)pointer;
	struct alias_count count = {0};

	count.dev = device_of(inode);
	read_field(&count.node, inode, i_dentry.first);
	bpf_loop(64, alias_step, &count, 0);
	return count.inside;
}

/* ---- records ---- */

static __always_inline u64 pad8(u64 length)
{
	return (length + 7) & ~7ULL;
}

static __always_inline u64 wake(int now)
{
	if (now || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > settings.ring_bytes / 8)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline void count_lost(void)
{
	__sync_fetch_and_add(&counters.lost[DK_LOST_RING], 1);
}

static __always_inline void put(void *record, u64 size, int now)
{
	if (size > sizeof(struct scratch))
		return count_lost();
	if (bpf_ringbuf_output(&ring, record, size, wake(now)))
		count_lost();
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

__noinline int announce(struct dk_task *state)
{
	struct dk_process record = {0};
	struct task_struct *task = bpf_get_current_task_btf();

	if (!state || state->is_announced)
		return 0;
	state->is_announced = 1;
	fill_header(&record.header, DK_PROCESS, 0, sizeof(record));
	record.header.flags = state->is_recorded ? 0 : DK_F_OUTSIDER;
	record.parent = task->real_parent->tgid;
	bpf_get_current_comm(record.comm, sizeof(record.comm));
	put(&record, sizeof(record), 0);
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

static __always_inline void fill_times(struct dk_header *header, struct dk_task *state)
{
	header->enter_ns = state->enter_ns;
	if (state->touched_count) {
		header->t_ns = state->touched_ns;
		header->flags |= DK_F_IN_LOCK;
	}
}

/* ---- payload of writes ---- */

struct iovec {
	u64 base;
	u64 len;
};

#define SEND_PIECE(BUCKET) \
	do { \
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
		if (bpf_probe_read_user(&iov, sizeof(iov), (void *)pieces->iov)) {
			pieces->failed = 1;
			return 1;
		}
		pieces->iov += sizeof(iov);
		pieces->buffer = iov.base;
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
	if (args->call == CALL_WRITEV || args->call == CALL_PWRITEV) {
		pieces->iov = args->a[1];
		times += 1024;
	} else {
		pieces->buffer = args->a[1];
		pieces->left = args->result;
	}
	bpf_loop(times, send_piece, 0, 0);
	return pieces->failed || pieces->total;
}

/* Payload goes inline below half a ring; above, only what is no larger than the record itself; above 90 %, none. */
static __always_inline int is_inline_possible(u64 length)
{
	u64 used = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	if (used < settings.ring_bytes / 2)
		return 1;
	return used < settings.ring_bytes / 10 * 9 && length <= 512;
}

struct target {
	struct inode *inode;
	s64 offset;
	u64 t_ns;
	u64 enter_ns;
	u32 flags;
	u32 zero;
};

static __always_inline void fill_data(struct dk_data *record, struct call_args *args, struct target *target, u16 flags)
{
	fill_header(&record->header, DK_DATA, DK_OP_WRITE, sizeof(*record));
	record->header.flags = flags;
	record->header.result = args->result;
	record->header.enter_ns = target->enter_ns;
	if (target->t_ns)
		record->header.t_ns = target->t_ns;
	record->offset = target->offset;
	record->length = args->result;
	record->payload = 0;
	record->zero = 0;
	read_inode(&record->inode, target->inode);
}

#define SEND_DATA(BUCKET) \
	do { \
		struct dk_data *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + (BUCKET), 0); \
		if (!record) \
			break; \
		fill_data(record, args, target, flags); \
		record->payload = length; \
		record->header.size = sizeof(*record) + pad8(length); \
		if (bpf_probe_read_user(record + 1, length, (void *)buffer)) { \
			record->payload = 0; \
			record->header.size = sizeof(*record); \
			record->header.flags |= DK_F_FAULT | DK_F_BY_REFERENCE; \
			bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP); \
			return 0; \
		} \
		bpf_ringbuf_submit(record, wake(0)); \
		return 0; \
	} while (0)

/* One buffer that fits one record: the common case, one reservation and one copy. */
__noinline int send_data_inline(struct call_args *args, struct target *target, u64 buffer, u16 flags)
{
	u64 length;

	if (!args || !target)
		return 1;
	length = args->result;
	if (length <= 64) {
		barrier_var(length);
		if (length > 64)
			return 1;
		SEND_DATA(64);
	} else if (length <= 512) {
		barrier_var(length);
		if (length > 512)
			return 1;
		SEND_DATA(512);
	} else if (length <= 4096) {
		barrier_var(length);
		if (length > 4096)
			return 1;
		SEND_DATA(4096);
	} else if (length <= 16384) {
		barrier_var(length);
		if (length > 16384)
			return 1;
		SEND_DATA(16384);
	} else {
		barrier_var(length);
		if (length > DK_PIECE_MAX)
			return 1;
		SEND_DATA(DK_PIECE_MAX);
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
			put(record, sizeof(*record), 0);
			return 0;
		}
		record->header.flags |= DK_F_MORE | DK_F_FAULT | DK_F_BY_REFERENCE;
	}
	put(record, sizeof(*record), 1);
	return 0;
}

/* May the owner of the trace read this file? Its bytes are none of theirs otherwise. */
static __always_inline int is_readable(struct inode *inode)
{
	u32 uid = 0, gid = 0, mode = mode_of(inode);

	if (!settings.reader_uid || (mode & 0004))
		return 1;
	read_field(&uid, inode, i_uid.val);
	read_field(&gid, inode, i_gid.val);
	return (uid == settings.reader_uid && (mode & 0400)) || (gid == settings.reader_gid && (mode & 0040));
}

static __always_inline int send_data(struct call_args *args, struct target *target, u16 flags)
{
	int is_vector = args->call == CALL_WRITEV || args->call == CALL_PWRITEV;
	struct iovec iov = {0};
	u64 buffer = args->a[1];

	if (!is_readable(target->inode))
		return send_data_apart(args, target, flags | DK_F_BY_REFERENCE | DK_F_FAULT);
	if (!is_inline_possible(args->result))
		return send_data_apart(args, target, flags | DK_F_BY_REFERENCE);
	if (is_vector) {
		if (args->a[2] != 1 || bpf_probe_read_user(&iov, sizeof(iov), (void *)buffer))
			return send_data_apart(args, target, flags);
		buffer = iov.base;
	}
	if (args->result <= DK_PIECE_MAX && !send_data_inline(args, target, buffer, flags))
		return 0;
	return send_data_apart(args, target, flags);
}

/* ---- writes ---- */

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
		int is_vector = args->call == CALL_WRITEV || args->call == CALL_PWRITEV;

		barrier_var(length);
		if (!is_vector && length <= 4096) {
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
	put(record, record->header.size & 0x3fff, 0);
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

/* The offset where no in-lock tracepoint told it: from the descriptor, which another writer may have moved since. */
static __always_inline void offset_from_file(struct target *target, struct call_args *args, struct file *file)
{
	int is_positioned = args->call == CALL_PWRITE || args->call == CALL_PWRITEV;
	u32 file_flags = 0;
	s64 position = 0;

	read_field(&file_flags, file, f_flags);
	if (is_positioned && (s64)args->a[3] != -1 && !(file_flags & O_APPEND)) {
		target->offset = args->a[3];
		return;
	}
	target->flags |= DK_F_FROM_DESCRIPTOR;
	if (is_positioned && (s64)args->a[3] != -1) {
		read_field(&position, target->inode, i_size);
	} else {
		read_field(&position, file, f_pos);
	}
	target->offset = position - args->result;
	/* Another task has moved the shared position back since: where the bytes went is not known. */
	if (target->offset < 0) {
		target->offset = 0;
		target->flags |= DK_F_AMBIGUOUS;
	}
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

/* Which inode, where and when: from inside the lock if it was told there, else from the descriptor. */
__noinline int find_target(struct target *target, struct call_args *args, struct dk_task *state, u32 fd)
{
	struct file *file = file_of(fd);
	struct inode *seen = inode_of(file), *locked = 0;
	u32 file_flags = 0;

	if (!target || !args)
		return 0;
	if (state && state->lock_bytes == (u64)args->result)
		locked = (struct inode *)state->lock_inode;
	else if (state && state->lock_is_whole && state->lock_bytes > (u64)args->result)
		locked = (struct inode *)state->lock_inode;
	if (!locked && (!seen || !is_regular(mode_of(seen))))
		return 0;
	target->inode = seen;
	if (file)
		read_field(&file_flags, file, f_flags);
	if (file_flags & O_APPEND)
		target->flags |= DK_F_APPEND;
	if (file_flags & O_DIRECT)
		target->flags |= DK_F_DIRECT;
	if (locked) {
		if (!is_stacked(seen, locked))
			target->inode = locked;
		target->offset = state->lock_offset;
		target->t_ns = state->lock_last_ns;
		target->enter_ns = state->lock_first_ns;
		target->flags |= DK_F_IN_LOCK;
		return 1;
	}
	if (state && state->call == args->call) {
		target->enter_ns = state->enter_ns;
		if (state->enter_inode && state->enter_inode != (u64)seen)
			target->flags |= DK_F_AMBIGUOUS;
	}
	offset_from_file(target, args, file);
	return 1;
}

__noinline int leave_write(struct call_args *args)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, 0);
	struct target target = {0};
	u32 stream, verdict;
	int found = 0;

	if (!args)
		return 0;
	if (args->result > 0) {
		stream = output_stream(file_of(args->a[0]), args->a[0]);
		if (stream)
			send_output(args, state, stream);
		found = find_target(&target, args, state, args->a[0]);
	}
	if (state) {
		state->lock_bytes = 0;
		state->call = 0;
	}
	if (!found)
		return 0;
	verdict = verdict_of(target.inode);
	if (verdict == OUTSIDE)
		return 0;
	return send_data(args, &target, target.flags | doubt(verdict) | writer_flags(state));
}

/* ---- the page cache ---- */

struct cache_walk {
	u64 index; /* of the page in the file */
	u64 entry;
};

static long cache_step(u32 level, void *context)
{
	struct cache_walk *walk = context;
	struct xa_node *node = (struct xa_node *)(walk->entry - 2);
	u64 slot, entry = 0;
	u8 shift = 0;

	/* Internal entries end in binary 10; below 4096 they are siblings, which is settled where they are met. */
	if ((walk->entry & 3) != 2 || walk->entry < 4096)
		return 1;
	read_field(&shift, node, shift);
	slot = walk->index >> (shift & 63) & 63;
	bpf_probe_read_kernel(&entry, sizeof(entry), (u8 *)&node->slots + slot * sizeof(void *));
	if ((entry & 3) == 2 && entry < (64 << 2))
		bpf_probe_read_kernel(&entry, sizeof(entry), (u8 *)&node->slots + (entry >> 2) * sizeof(void *));
	walk->entry = entry;
	return shift == 0;
}

/* The folio that holds a page of a file, or 0 (lib/xarray.c's xas_load, without its locks: the caller's task holds it).
 */
__noinline u64 find_folio(u64 pointer, u64 index)
{
	struct inode *inode = (struct inode *)pointer;
	struct address_space *mapping = 0;
	struct cache_walk walk = {.index = index};

	read_field(&mapping, inode, i_mapping);
	read_field((void **)&walk.entry, mapping, i_pages.xa_head);
	bpf_loop(12, cache_step, &walk, 0);
	return walk.entry & 3 ? 0 : walk.entry;
}

/* Where the byte at `offset` of a file stands in the kernel's linear map, or 0. What follows in the folio follows
 * there. */
__noinline u64 find_cached(u64 inode, u64 offset)
{
	u64 folio = find_folio(inode, offset >> 12), page_bytes = counters.page_struct_bytes;
	unsigned long first = 0;

	if (!folio || !page_bytes)
		return 0;
	read_field(&first, (struct folio *)folio, index);
	return counters.linear_map + (((folio - counters.page_array) / page_bytes + (offset >> 12) - first) << 12) +
	       (offset & 4095);
}

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
 * Not attached: run once at start to find the two bases, from two pointers into them and from bytes that are known.
 * ctx: a descriptor, a page of it, an address to read (0: none).
 */
SEC("raw_tp/sys_enter")
int probe(u64 *ctx)
{
	struct inode *inode = inode_of(file_of(ctx[0]));

	counters.probe_task = bpf_get_current_task();
	counters.page_struct_bytes = type_bytes(struct page);
	if (inode)
		counters.probe_folio = find_folio((u64)inode, ctx[1]);
	__builtin_memset(counters.probe_bytes, 0, sizeof(counters.probe_bytes));
	if (ctx[2])
		bpf_probe_read_kernel(counters.probe_bytes, sizeof(counters.probe_bytes), (void *)ctx[2]);
	return 0;
}

/* ---- copies inside the kernel ---- */

static __always_inline s64 user_offset(u64 pointer, struct file *file, s64 result)
{
	s64 position = 0;

	if (pointer)
		bpf_probe_read_user(&position, sizeof(position), (void *)pointer);
	else if (file)
		read_field(&position, file, f_pos);
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
	if ((u32)args->a[1] != FICLONERANGE || bpf_probe_read_user(&range, sizeof(range), (void *)args->a[2]))
		return 0;
	plan->from = range.fd;
	record->source_offset = range.from;
	record->offset = range.to;
	record->length = range.length;
	return 1;
}

__noinline int leave_copy(struct call_args *args, struct dk_task *state)
{
	struct scratch *space = scratch();
	struct dk_copy *record = (void *)space;
	struct copy_plan plan = {0};
	struct target target = {0};
	struct file *from, *to;
	struct inode *source;
	u32 stream, verdict;
	int is_clone;

	if (!space || !args || !state)
		return 0;
	is_clone = args->call == CALL_IOCTL;
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
	if (!find_target(&target, args, state, plan.to))
		return 0;
	verdict = verdict_of(target.inode);
	if (verdict == OUTSIDE)
		return 0;
	source = inode_of(from);
	fill_header(&record->header, DK_COPY, plan.op, sizeof(*record));
	if (state->copy_sequence)
		record->header.sequence = state->copy_sequence;
	record->header.flags = target.flags | doubt(verdict) | writer_flags(state);
	record->header.result = args->result;
	record->header.enter_ns = state->enter_ns;
	if (target.t_ns)
		record->header.t_ns = target.t_ns;
	read_inode(&record->inode, target.inode);
	record->source.ino = 0;
	if (source && is_regular(mode_of(source)))
		read_inode(&record->source, source);
	if (is_clone) {
		if (!record->length)
			record->length = record->source.size - record->source_offset;
	} else {
		record->length = args->result;
		record->offset = target.offset;
		if (!(target.flags & DK_F_IN_LOCK) && plan.to_pointer)
			record->offset = user_offset(plan.to_pointer, to, args->result);
		record->source_offset = user_offset(plan.from_pointer, from, args->result);
	}
	if (state->copy_sequence)
		record->header.flags |= DK_F_MORE;
	if (state->copy_sequence ? state->copy_is_off || !(target.flags & DK_F_IN_LOCK)
				 : !record->source.ino || verdict_of(source) != INSIDE)
		record->header.flags |= DK_F_BY_REFERENCE;
	put(record, sizeof(*record), record->header.flags & DK_F_BY_REFERENCE);
	return 0;
}

/* ---- touched inodes ---- */

static __always_inline int note_touched(struct inode *inode)
{
	struct dk_task *state = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0);
	unsigned long ino = 0;
	u32 count;

	/* Only inodes on a root's file system: below overlayfs its upper inodes are touched as well. */
	if (!state || state->call <= CALL_LAST_COPY || !is_root_device(device_of(inode)))
		return 0;
	count = state->touched_count;
	/*
	 * Names change under their directories' locks, all of which are held when the first directory is touched. What
	 * is touched later may be so after they were let go: a file that lost its last name is freed there.
	 */
	if (!state->has_touched_directory)
		state->touched_ns = bpf_ktime_get_ns();
	if (is_directory(mode_of(inode)))
		state->has_touched_directory = 1;
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		if (i < count && state->touched[i].pointer == (u64)inode)
			return 0;
	if (count >= DK_TOUCHED_MAX)
		return 0;
	read_field(&ino, inode, i_ino);
	state->touched[count].pointer = (u64)inode;
	state->touched[count].ino = ino;
	state->touched_count = count + 1;
	return 0;
}

/* The inode behind entry i, or 0 when it was freed and its memory used again. */
static __always_inline struct inode *touched_inode(struct dk_task *state, u32 i)
{
	struct inode *inode = (struct inode *)state->touched[i].pointer;
	unsigned long ino = 0;

	read_field(&ino, inode, i_ino);
	if (state->touched[i].ino && state->touched[i].ino != ino)
		return 0;
	return inode;
}

/*
 * Does a change of names concern a root? Names stand in directories: what is not known (a file with links elsewhere, a
 * directory just removed) counts only where no directory gives an answer.
 */
__noinline u32 any_touched_inside(struct dk_task *state)
{
	u32 is_unknown = 0, is_outside = 0, answer;
	struct inode *inode;

	if (!state)
		return 0;
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++) {
		if (i >= state->touched_count)
			break;
		inode = touched_inode(state, i);
		if (!inode)
			continue;
		answer = verdict_of(inode);
		if (answer == INSIDE)
			return 1;
		if (answer == UNKNOWN)
			is_unknown = 1;
		else if (is_directory(mode_of(inode)))
			is_outside = 1;
	}
	return is_unknown && !is_outside;
}

struct touched_list {
	struct dk_inode inodes[DK_TOUCHED_MAX];
};

__noinline u32 fill_touched(struct touched_list *list, struct dk_task *state)
{
	struct dk_inode *to;
	struct inode *inode;
	u32 count = 0;

	if (!list || !state)
		return 0;
	to = list->inodes;
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++) {
		if (i >= state->touched_count)
			break;
		inode = touched_inode(state, i);
		if (inode) {
			read_inode(to + i, inode);
		} else {
			__builtin_memset(to + i, 0, sizeof(*to));
			to[i].ino = state->touched[i].ino;
		}
		count = i + 1;
	}
	return count;
}

/* ---- names ---- */

/* What a path starts from: the task's root where it is absolute, else a descriptor or the working directory; or 0. */
__noinline u64 find_base(s32 fd, u32 is_absolute)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct inode *inode = 0;

	if (!is_absolute && fd != AT_FDCWD)
		return (u64)inode_of(file_of(fd));
	if (!task->fs)
		return 0;
	if (is_absolute)
		read_field(&inode, task->fs->root.dentry, d_inode);
	else
		read_field(&inode, task->fs->pwd.dentry, d_inode);
	return (u64)inode;
}

static __always_inline void fill_base(struct dk_base *to, s32 fd, u8 first)
{
	struct inode *inode = (struct inode *)find_base(fd, first == '/');

	to->ino = 0;
	to->dev = to->generation = 0;
	if (inode)
		read_base(to, inode);
}

struct name_plan {
	u64 path;
	u64 path2;
	s32 base;
	s32 base2;
	u32 flags;
	u32 room; /* for path, with its end */
	u8 op;
};

__noinline int plan_name(struct name_plan *plan, struct call_args *args)
{
	u64 *a;

	if (!plan || !args)
		return 0;
	a = args->a;
	plan->base = plan->base2 = AT_FDCWD;
	plan->room = DK_PATH_MAX;
	switch (args->call) {
	case CALL_MKDIR:
	case CALL_MKNOD:
	case CALL_UNLINK:
	case CALL_RMDIR:
		plan->path = a[0];
		plan->op = args->call == CALL_MKDIR    ? DK_OP_MKDIR
			   : args->call == CALL_MKNOD  ? DK_OP_MKNOD
			   : args->call == CALL_UNLINK ? DK_OP_UNLINK
						       : DK_OP_RMDIR;
		return 1;
	case CALL_MKDIRAT:
	case CALL_MKNODAT:
	case CALL_UNLINKAT:
		plan->base = a[0];
		plan->path = a[1];
		plan->op = args->call == CALL_MKDIRAT	? DK_OP_MKDIR
			   : args->call == CALL_MKNODAT ? DK_OP_MKNOD
			   : (a[2] & AT_REMOVEDIR)	? DK_OP_RMDIR
							: DK_OP_UNLINK;
		return 1;
	case CALL_BIND:
		plan->path = a[1] + 2; /* sockaddr_un: family, then a path that need not be ended */
		plan->room = (u32)a[2] - 1;
		plan->op = DK_OP_MKNOD;
		return a[2] > 3 && a[2] <= 110;
	case CALL_SYMLINK:
		plan->path2 = a[0];
		plan->path = a[1];
		plan->op = DK_OP_SYMLINK;
		return 1;
	case CALL_SYMLINKAT:
		plan->path2 = a[0];
		plan->base = a[1];
		plan->path = a[2];
		plan->op = DK_OP_SYMLINK;
		return 1;
	case CALL_LINK:
	case CALL_RENAME:
		plan->path = a[0];
		plan->path2 = a[1];
		plan->op = args->call == CALL_LINK ? DK_OP_LINK : DK_OP_RENAME;
		return 1;
	case CALL_LINKAT:
	case CALL_RENAMEAT:
	case CALL_RENAMEAT2:
		plan->base = a[0];
		plan->path = a[1];
		plan->base2 = a[2];
		plan->path2 = a[3];
		plan->flags = args->call == CALL_RENAMEAT ? 0 : a[4];
		plan->op = args->call == CALL_LINKAT ? DK_OP_LINK : DK_OP_RENAME;
		return 1;
	}
	return 0;
}

/* What a touched inode adds to the sums of settle_verdicts: a global function, whose result the verifier forgets. */
enum { DIRECTORY_INSIDE = 1, DIRECTORY_OUTSIDE = 1 << 8, FILE_INSIDE = 1 << 16 };

__noinline u32 classify_touched(struct dk_task *state, u32 i, u32 op)
{
	struct inode *inode;

	if (!state || i >= DK_TOUCHED_MAX || i >= state->touched_count)
		return 0;
	inode = touched_inode(state, i);
	if (!inode)
		return 0;
	if (is_directory(mode_of(inode)))
		return verdict_of(inode) == INSIDE ? DIRECTORY_INSIDE : DIRECTORY_OUTSIDE;
	if (op == DK_OP_LINK)
		return FILE_INSIDE * names_inside((u64)inode);
	return verdict_of(inode) != OUTSIDE ? FILE_INSIDE : 0;
}

/* Void the verdict of a touched file; a directory's stays: returns 1 for it. */
__noinline u32 forget_touched(struct dk_task *state, u32 i)
{
	struct inode *inode;

	if (!state || i >= DK_TOUCHED_MAX || i >= state->touched_count)
		return 0;
	inode = touched_inode(state, i);
	if (!inode)
		return 0;
	if (is_directory(mode_of(inode)))
		return 1;
	forget_verdict(inode);
	return 0;
}

/* Verdicts after names moved: void those of files, and all of them where a directory may have moved. True: an import.
 */
__noinline int settle_verdicts(struct dk_task *state, u32 op)
{
	u32 directories = 0, sum = 0, inside, outside, files;

	if (!state)
		return 0;
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		directories += forget_touched(state, i);
	if (directories > 1)
		__sync_fetch_and_add(&counters.epoch, 1);
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		sum += classify_touched(state, i, op);
	inside = sum & 0xff;
	outside = sum >> 8 & 0xff;
	files = sum >> 16;
	if (op == DK_OP_LINK)
		return files < 2;
	return inside && outside && (inside > 1 || files);
}

/* A string of the caller, behind `at`; returns the offset behind it, padded, and its length. */
static __always_inline u64 read_string(struct scratch *space, u64 at, u64 from, u32 room, u32 *length)
{
	long got;

	*length = 0;
	at &= 0x1fff;
	if (!from)
		return at;
	if (room > DK_PATH_MAX)
		room = DK_PATH_MAX;
	got = bpf_probe_read_user_str(space->bytes + at, room, (void *)from);
	if (got <= 1)
		return at;
	*length = got - 1;
	return at + pad8((got - 1) & 0xfff);
}

__noinline int leave_name(struct call_args *args, struct dk_task *state)
{
	struct scratch *space = scratch();
	struct dk_name *record = (void *)space;
	struct name_plan plan = {0};
	int is_import = 0;
	u64 end, path, path2;
	u32 length;

	/* Nothing touched where the hooks stand: one hard link renamed onto another, which POSIX calls no change. */
	if (!space || !args || !state || !plan_name(&plan, args) || (settings.has_touch_hooks && !state->touched_count))
		return 0;
	if (plan.op == DK_OP_RENAME || plan.op == DK_OP_LINK)
		is_import = settle_verdicts(state, plan.op);
	if (settings.has_touch_hooks && !any_touched_inside(state))
		return 0;
	fill_header(&record->header, DK_NAME, plan.op, 0);
	record->header.flags = writer_flags(state);
	if (!settings.has_touch_hooks)
		record->header.flags |= DK_F_UNTOUCHED;
	if (is_import)
		record->header.flags |= DK_F_IMPORT;
	fill_times(&record->header, state);
	record->call_flags = plan.flags;
	record->zero = 0;
	record->touched = fill_touched((struct touched_list *)(record + 1), state);
	end = sizeof(*record) + (record->touched & 15) * sizeof(struct dk_inode);
	path = end;
	end = read_string(space, end, plan.path, plan.room, &length);
	record->path_len = length;
	path2 = end;
	end = read_string(space, end, plan.path2, DK_PATH_MAX, &length);
	record->path2_len = length;
	fill_base(&record->base, plan.base, space->bytes[path & 0xfff]);
	fill_base(&record->base2, plan.base2, space->bytes[path2 & 0x1fff]);
	end &= 0x3fff;
	record->header.size = end;
	put(record, end, is_import);
	return 0;
}

/* ---- opens that create or truncate ---- */

static __always_inline u64 open_flags(struct call_args *args)
{
	u64 flags = 0;

	if (args->call == CALL_OPEN)
		return args->a[1];
	if (args->call == CALL_OPENAT)
		return args->a[2];
	if (args->call == CALL_CREAT)
		return O_CREAT | O_TRUNC;
	bpf_probe_read_user(&flags, sizeof(flags), (void *)args->a[2]);
	return flags;
}

__noinline int leave_open(struct call_args *args, struct dk_task *state)
{
	struct file *file;
	struct inode *inode, *parent = 0;
	struct scratch *space = scratch();
	struct dk_open *record = (void *)space;
	struct dentry *dentry = 0, *above = 0;
	const unsigned char *name = 0;
	u64 end, path, flags;
	u32 mode = 0, length = 0, verdict;
	int is_at;

	if (!space || !args || !state)
		return 0;
	flags = open_flags(args);
	file = file_of(args->result);
	inode = inode_of(file);
	if (!inode || !is_regular(mode_of(inode)))
		return 0;
	read_field(&mode, file, f_mode);
	if (!(mode & FMODE_CREATED) && !(flags & (O_TRUNC | O_TMPFILE_BIT)))
		return 0;
	if (mode & FMODE_CREATED)
		forget_verdict(inode);
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	read_field(&dentry, file, f_path.dentry);
	read_field(&above, dentry, d_parent);
	read_field(&parent, above, d_inode);
	fill_header(&record->header, DK_OPEN, 0, 0);
	record->header.flags = doubt(verdict) | writer_flags(state);
	record->header.result = args->result;
	fill_times(&record->header, state);
	read_inode(&record->inode, inode);
	read_inode(&record->parent, parent);
	record->open_flags = flags;
	record->created = (mode & FMODE_CREATED) != 0 || (flags & O_TMPFILE_BIT);
	record->truncated = (flags & O_TRUNC) != 0;
	record->touched = fill_touched((struct touched_list *)(record + 1), state);
	end = sizeof(*record) + (record->touched & 15) * sizeof(struct dk_inode);
	read_field(&length, dentry, d_name.len);
	read_field(&name, dentry, d_name.name);
	length &= 0xff;
	end &= 0xfff;
	bpf_probe_read_kernel(space->bytes + end, length, name);
	record->name_len = length;
	end = (end + pad8(length)) & 0x1fff;
	is_at = args->call == CALL_OPENAT || args->call == CALL_OPENAT2;
	path = end;
	end = read_string(space, end, is_at ? args->a[1] : args->a[0], DK_PATH_MAX, &length);
	record->path_len = length;
	fill_base(&record->base, is_at ? (s32)args->a[0] : AT_FDCWD, space->bytes[path & 0x1fff]);
	end &= 0x3fff;
	record->header.size = end;
	put(record, end, 0);
	return 0;
}

/* ---- sizes and metadata ---- */

__noinline int leave_size(struct call_args *args, struct dk_task *state)
{
	struct dk_size record = {0};
	struct inode *inode = 0;
	u32 verdict;

	if (!args || !state)
		return 0;
	if (args->call != CALL_TRUNCATE)
		inode = inode_of(file_of(args->a[0]));
	if (state->touched_count && (args->call == CALL_TRUNCATE || !inode))
		inode = touched_inode(state, 0);
	if (!inode || !is_regular(mode_of(inode)))
		return 0;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	fill_header(&record.header, DK_SIZE, args->call == CALL_FALLOCATE ? DK_OP_FALLOCATE : DK_OP_TRUNCATE,
		sizeof(record));
	record.header.flags = doubt(verdict) | writer_flags(state);
	fill_times(&record.header, state);
	if (state->touched_count && state->touched[0].pointer != (u64)inode)
		record.header.flags |= DK_F_AMBIGUOUS;
	read_inode(&record.inode, inode);
	if (args->call == CALL_FALLOCATE) {
		record.mode = args->a[1];
		record.offset = args->a[2];
		record.length = args->a[3];
	} else {
		record.length = args->a[1];
	}
	put(&record, sizeof(record), 0);
	return 0;
}

static __always_inline u64 read_xattr(struct scratch *space, struct dk_attr *record, struct call_args *args, u64 end)
{
	u64 length = args->a[3];
	long got;

	end &= 0xff;
	got = bpf_probe_read_user_str(space->bytes + end, DK_XATTR_NAME_MAX, (void *)args->a[1]);
	if (got <= 1)
		return end;
	record->name_len = (got - 1) & 0xff;
	end = (end + pad8((got - 1) & 0xff)) & 0x3ff;
	if (args->call != CALL_SETXATTR)
		return end;
	record->value_full = length;
	barrier_var(length);
	if (length > 16384 || bpf_probe_read_user(space->bytes + end, length, (void *)args->a[2])) {
		record->header.flags |= DK_F_FAULT;
		return end;
	}
	record->value_len = length;
	return end + pad8(length);
}

__noinline int leave_attr(struct call_args *args, struct dk_task *state)
{
	struct scratch *space = scratch();
	struct dk_attr *record = (void *)space;
	struct inode *inode;
	u64 end = sizeof(*record);
	u32 verdict;

	if (!space || !args || !state || !state->touched_count)
		return 0;
	inode = touched_inode(state, 0);
	if (!inode)
		return 0;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	fill_header(&record->header, DK_ATTR, DK_OP_CHMOD + (args->call - CALL_CHMOD), 0);
	record->header.flags = doubt(verdict) | writer_flags(state);
	fill_times(&record->header, state);
	read_inode(&record->inode, inode);
	record->name_len = record->value_len = record->value_full = record->zero = 0;
	if (args->call >= CALL_SETXATTR)
		end = read_xattr(space, record, args, end);
	end &= 0x7fff;
	record->header.size = end;
	put(record, end, 0);
	return 0;
}

static __always_inline void enter_close(u32 fd)
{
	struct file *file = file_of(fd);
	struct inode *inode = inode_of(file);
	struct dk_close record = {0};
	u32 mode = 0, verdict;

	if (!inode)
		return;
	read_field(&mode, file, f_mode);
	if (!(mode & FMODE_WRITE) || !is_regular(mode_of(inode)))
		return;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return;
	fill_header(&record.header, DK_CLOSE, 0, sizeof(record));
	record.header.flags = doubt(verdict) | writer_flags(0);
	read_inode(&record.inode, inode);
	put(&record, sizeof(record), 0);
}

/* ---- programs ---- */

/* A copy into a root whose bytes replay cannot take from the tree: they are sent from the page cache. */
static __always_inline int is_copy_from_outside(u32 call, u64 *a)
{
	struct inode *to = inode_of(file_of(call == CALL_SENDFILE ? a[0] : a[2]));
	struct inode *from = inode_of(file_of(call == CALL_SENDFILE ? a[1] : a[0]));

	if (!counters.linear_map || !to || !is_regular(mode_of(to)) || verdict_of(to) == OUTSIDE)
		return 0;
	return !from || !is_regular(mode_of(from)) || verdict_of(from) != INSIDE;
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
	case CALL_WRITE:
	case CALL_PWRITE:
	case CALL_WRITEV:
	case CALL_PWRITEV:
		return settings.writes_need_enter;
	case CALL_IOCTL:
		return (u32)a[1] == FICLONE || (u32)a[1] == FICLONERANGE;
	case CALL_OPEN:
		return (a[1] & (O_CREAT | O_TRUNC | O_TMPFILE_BIT)) != 0;
	case CALL_OPENAT:
		return (a[2] & (O_CREAT | O_TRUNC | O_TMPFILE_BIT)) != 0;
	case CALL_BIND:
		return is_unix_path(a[1]);
	}
	return 1;
}

/*
 * Every system call's start. It opens the state in which touched inodes are noted; plain writes and reads pass at the
 * cost of one table look-up. Misses 32-bit calls, whose numbers are others.
 */
SEC("tp_btf/sys_enter")
int enter(u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	u64 number = ctx[1], a[6];
	struct task_struct *task;
	struct dk_task *state;
	u32 call;

	if (number >= CALL_TABLE_SIZE)
		return 0;
	call = calls[number];
	if (!call || (call <= CALL_LAST_WRITE && !settings.writes_need_enter))
		return 0;
	task = bpf_get_current_task_btf();
	if (task->thread_info.status & TS_COMPAT)
		return 0;
	CALL_ARGS(regs, a);
	if (call == CALL_CLOSE) {
		enter_close(a[0]);
		return 0;
	}
	if (!needs_state(call, a))
		return 0;
	state = state_of(task, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return 0;
	state->call = call;
	state->touched_count = 0;
	state->has_touched_directory = 0;
	state->lock_bytes = 0;
	state->enter_ns = bpf_ktime_get_ns();
	state->enter_inode = 0;
	state->copy_sequence = 0;
	state->copy_is_off = call < CALL_SENDFILE || call > CALL_COPY_RANGE || !is_copy_from_outside(call, a);
	if (call <= CALL_LAST_WRITE)
		state->enter_inode = (u64)inode_of(file_of(a[0]));
	return 0;
}

/* Every system call's end: the record is made here, where the result is known and the caller's pages are present. */
SEC("tp_btf/sys_exit")
int leave(u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	u64 number = CALL_NUMBER(regs);
	struct call_args args = {.result = ctx[1]};
	struct task_struct *task;
	struct dk_task *state;

	if (number >= CALL_TABLE_SIZE)
		return 0;
	args.call = calls[number];
	if (!args.call || args.call == CALL_CLOSE)
		return 0;
	task = bpf_get_current_task_btf();
	if (task->thread_info.status & TS_COMPAT)
		return 0;
	CALL_ARGS(regs, args.a);
	if (args.call <= CALL_LAST_WRITE)
		return leave_write(&args);
	state = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!state || state->call != args.call)
		return 0;
	if (args.result >= 0) {
		if (args.call <= CALL_LAST_COPY)
			leave_copy(&args, state);
		else if (args.call <= CALL_LAST_SIZE)
			leave_size(&args, state);
		else if (args.call <= CALL_LAST_OPEN)
			leave_open(&args, state);
		else if (args.call <= CALL_LAST_NAME)
			leave_name(&args, state);
		else
			leave_attr(&args, state);
	}
	state->call = 0;
	state->lock_bytes = 0;
	return 0;
}

/*
 * Inside ext4's lock, once a folio: where a write really went. Bytes of one call sum to its result. Misses O_DIRECT and
 * DAX, whose position is then taken from the descriptor.
 */
static __always_inline int note_write(struct inode *inode, s64 offset, u32 copied)
{
	struct dk_task *state;
	u64 now;

	if (!copied)
		return 0;
	state = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state) {
		__sync_fetch_and_add(&counters.lost[DK_LOST_TABLE], 1);
		return 0;
	}
	now = bpf_ktime_get_ns();
	if (state->lock_bytes && state->lock_inode == (u64)inode &&
		state->lock_offset + (s64)state->lock_bytes == offset) {
		state->lock_bytes += copied;
	} else {
		if (state->copy_sequence)
			state->copy_is_off = 1; /* its pieces count from where it began */
		state->lock_inode = (u64)inode;
		state->lock_offset = offset;
		state->lock_bytes = copied;
		state->lock_is_whole = 0;
		state->lock_first_ns = now;
	}
	state->lock_last_ns = now;
	if (state->call >= CALL_SENDFILE && state->call <= CALL_COPY_RANGE && !state->copy_is_off)
		send_cached(state, offset, copied);
	return 0;
}

SEC("tp_btf/ext4_da_write_end")
int ext4_delayed_write(u64 *ctx)
{
	return note_write((void *)ctx[0], ctx[1], ctx[3]);
}

SEC("tp_btf/ext4_write_end")
int ext4_ordered_write(u64 *ctx)
{
	return note_write((void *)ctx[0], ctx[1], ctx[3]);
}

SEC("tp_btf/ext4_journalled_write_end")
int ext4_journalled_write(u64 *ctx)
{
	return note_write((void *)ctx[0], ctx[1], ctx[3]);
}

/* Inside XFS's lock, once a call, before the bytes are copied: a short write ends below what is told here. */
static __always_inline int note_whole_write(struct kiocb *call, struct iov_iter *bytes)
{
	struct dk_task *state =
		bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state) {
		__sync_fetch_and_add(&counters.lost[DK_LOST_TABLE], 1);
		return 0;
	}
	state->lock_inode = (u64)call->ki_filp->f_inode;
	state->lock_offset = call->ki_pos;
	state->lock_bytes = bytes->count;
	state->lock_is_whole = 1;
	state->lock_first_ns = state->lock_last_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/xfs_file_buffered_write")
int xfs_buffered_write(u64 *ctx)
{
	return note_whole_write((void *)ctx[0], (void *)ctx[1]);
}

SEC("tp_btf/xfs_file_direct_write")
int xfs_direct_write(u64 *ctx)
{
	return note_whole_write((void *)ctx[0], (void *)ctx[1]);
}

/*
 * Which inodes a call changed, and when, under their lock: ctime goes through these three since Linux 6.13, whatever
 * the file system.
 */
SEC("tp_btf/inode_set_ctime_to_ts")
int touch_set(u64 *ctx)
{
	return note_touched((void *)ctx[0]);
}

SEC("tp_btf/ctime_ns_xchg")
int touch_exchange(u64 *ctx)
{
	return note_touched((void *)ctx[0]);
}

SEC("tp_btf/ctime_xchg_skip")
int touch_skip(u64 *ctx)
{
	return note_touched((void *)ctx[0]);
}

/* The same for ext4 on kernels before 6.13. */
SEC("tp_btf/ext4_mark_inode_dirty")
int touch_ext4(u64 *ctx)
{
	return note_touched((void *)ctx[0]);
}

/* ---- processes ---- */

SEC("tp_btf/sched_process_fork")
int process_forked(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	struct dk_task *state = bpf_task_storage_get(&tasks, parent, 0, 0), *made;
	struct dk_process record = {0};

	if (!state || !state->is_recorded)
		return 0;
	made = state_of(child, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!made)
		return 0;
	made->is_recorded = 1;
	made->is_announced = 1;
	if (child->pid != child->tgid)
		return 0;
	fill_header(&record.header, DK_PROCESS, 0, sizeof(record));
	record.header.pid = child->tgid;
	record.header.tid = child->pid;
	record.parent = parent->tgid;
	record.is_fork = 1;
	bpf_get_current_comm(record.comm, sizeof(record.comm));
	put(&record, sizeof(record), 0);
	return 0;
}

/* Names of a path are met leaf first: they are written backwards, from the end of a buffer. */
struct climb {
	struct dentry *dentry;
	struct vfsmount *mount;
	u8 *buffer; /* DK_PATH_MAX + 256 bytes */
	u32 at;
	u32 zero;
};

static long climb_step(u32 index, void *context)
{
	struct climb *climb = context;
	struct dentry *root = 0, *parent = 0;
	struct mount *mount, *above = 0;
	struct scratch *space = scratch();
	const unsigned char *name = 0;
	u32 length = 0, at = climb->at;

	if (!space)
		return 1;
	read_field(&root, climb->mount, mnt_root);
	if (climb->dentry == root) {
		mount = (struct mount *)((char *)climb->mount -
					 (u64)__builtin_preserve_access_index(&((struct mount *)0)->mnt));
		read_field(&above, mount, mnt_parent);
		if (!above || above == mount)
			return 1;
		read_field(&climb->dentry, mount, mnt_mountpoint);
		climb->mount = (struct vfsmount *)((char *)above +
						   (u64)__builtin_preserve_access_index(&((struct mount *)0)->mnt));
		return 0;
	}
	read_field(&parent, climb->dentry, d_parent);
	if (!parent || parent == climb->dentry)
		return 1;
	read_field(&length, climb->dentry, d_name.len);
	read_field(&name, climb->dentry, d_name.name);
	length &= 0xff;
	if (at < length + 1 || at > DK_PATH_MAX)
		return 1;
	at -= length;
	at &= 0xfff;
	bpf_probe_read_kernel(space->bytes + 16384 + at, length, name);
	at = (at - 1) & 0xfff;
	space->bytes[16384 + at] = '/';
	climb->at = at;
	climb->dentry = parent;
	return 0;
}

/* The path of the task's working directory, to `end` of the scratch; returns its length. */
__noinline u32 read_cwd(u64 end)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *space = scratch();
	struct climb climb = {.at = DK_PATH_MAX};
	u32 length;

	if (!space || !task->fs)
		return 0;
	climb.dentry = task->fs->pwd.dentry;
	climb.mount = task->fs->pwd.mnt;
	bpf_loop(4096, climb_step, &climb, 0);
	if (climb.at == DK_PATH_MAX) {
		space->bytes[16384 + DK_PATH_MAX - 1] = '/';
		climb.at = DK_PATH_MAX - 1;
	}
	length = (DK_PATH_MAX - climb.at) & 0xfff;
	bpf_probe_read_kernel(space->bytes + (end & 0x3fff), length, space->bytes + 16384 + (climb.at & 0xfff));
	return length;
}

static __always_inline u32 read_argv(struct scratch *space, struct task_struct *task, struct dk_exec *record)
{
	struct mm_struct *mm = task->mm;
	u64 from, length;

	if (!mm)
		return 0;
	from = mm->arg_start;
	length = mm->arg_end - from;
	record->argv_full = length;
	if (length > DK_ARGV_MAX)
		length = DK_ARGV_MAX;
	barrier_var(length);
	if (length > DK_ARGV_MAX || bpf_probe_read_user(space->bytes + sizeof(*record), length, (void *)from))
		return 0;
	return length;
}

SEC("tp_btf/sched_process_exec")
int process_executed(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct linux_binprm *program = (void *)ctx[2];
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, 0);
	struct scratch *space = scratch();
	struct dk_exec *record = (void *)space;
	u64 end;
	long got;

	if (!state || !state->is_recorded || !space)
		return 0;
	if (state->is_command) {
		state->is_command = 0;
		counters.outputs[0] = (u64)file_of(1);
		counters.outputs[1] = (u64)file_of(2);
	}
	state->is_announced = 1;
	fill_header(&record->header, DK_EXEC, 0, 0);
	record->argv_full = record->exe_len = 0;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	record->argv_len = read_argv(space, task, record);
	end = sizeof(*record) + pad8(record->argv_len & 0x1fff);
	end &= 0x3fff;
	got = ((long (*)(void *, u32, const void *))115)(space->bytes + end, DK_PATH_MAX, program->filename);
	if (got > 1) {
		record->exe_len = got - 1;
		end = (end + pad8((got - 1) & 0xfff)) & 0x3fff;
	}
	record->cwd_len = read_cwd(end);
	end = (end + pad8(record->cwd_len & 0xfff)) & 0x3fff;
	record->header.size = end;
	put(record, end, 0);
	return 0;
}

/* The last thread of a process is gone. */
SEC("tp_btf/sched_process_exit")
int process_exited(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, 0);
	struct signal_struct *signal = task->signal;
	struct dk_exit record = {0};

	if (!state || !state->is_recorded || task->pid != task->tgid)
		return 0;
	fill_header(&record.header, DK_EXIT, 0, sizeof(record));
	record.status = signal && (signal->flags & SIGNAL_GROUP_EXIT) ? signal->group_exit_code : task->exit_code;
	put(&record, sizeof(record), 0);
	return 0;
}

char licence[] SEC("license") = "Dual BSD/GPL";
