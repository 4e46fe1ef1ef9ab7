/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens that create or truncate, sizes, modes, owners, times, extended attributes, closes.
 */
#ifndef DIFFKEEPER_METADATA_BPF_H
#define DIFFKEEPER_METADATA_BPF_H

static __always_inline u64 open_flags(struct call_args *args)
{
	u64 flags = 0;

	if (args->call == CALL_OPEN)
		return args->a[1];
	if (args->call == CALL_OPENAT || args->request)
		return args->a[2];
	if (args->call == CALL_CREAT)
		return O_CREAT | O_TRUNC;
	if (args->call == CALL_OPEN_BY_HANDLE)
		return args->a[2];
	if (bpf_probe_read_user(&flags, sizeof(flags), (void *)args->a[2]) || is_probe_spoilt())
		lose(DK_LOST_PROBE, DK_OPEN);
	return flags;
}

/* The file that a request made or cut, where its descriptor is not to be had: closed again, or never installed. */
static __always_inline struct inode *touched_file(struct dk_task *state)
{
	struct inode *inode;

	for (u32 i = 0; i < 3; i++) {
		if (i >= state->touched_count)
			break;
		inode = touched_inode(state, i);
		if (inode && is_regular(mode_of(inode)))
			return inode;
	}
	return 0;
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
	file = args->request ? (struct file *)args->a[5] : file_of(args->result);
	inode = inode_of(file);
	if (args->request && !inode)
		inode = touched_file(state);
	if (!inode || !is_regular(mode_of(inode)))
		return 0;
	if (file)
		read_field(&mode, file, f_mode);
	else if (state->has_touched_directory)
		mode = FMODE_CREATED;
	if (!(mode & FMODE_CREATED) && !(flags & (O_TRUNC | O_TMPFILE_BIT)))
		return 0;
	if (mode & FMODE_CREATED)
		forget_verdict(inode);
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	if (file)
		read_field(&dentry, file, f_path.dentry);
	else
		dentry = alias_of(inode);
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
	if (args->call == CALL_OPEN_BY_HANDLE)
		length = 0;
	else
		end = read_string(space, end, is_at ? args->a[1] : args->a[0], DK_PATH_MAX, &length);
	record->path_len = length;
	fill_base(&record->base, is_at ? (s32)args->a[0] : AT_FDCWD,
		args->request ? args->request : space->bytes[path & 0x1fff]);
	end &= 0x3fff;
	record->header.size = end;
	if (record->created)
		put(&record->header, end, 0);
	else
		put_of(&record->header, end, 0, &record->inode, 0, 0);
	return 0;
}

/* struct space_resv as 64-bit programs and as 32-bit ones lay it out, up to what counts. */
struct space {
	u16 type, whence;
	s64 start, length;
};

static __always_inline void read_space(struct space *to, struct call_args *args)
{
	struct {
		u16 type, whence;
		s64 start, length;
	} __attribute__((packed)) narrow = {0};

	if (((u32)args->a[1] & ~0xff) != RESERVE_32) {
		bpf_probe_read_user(to, sizeof(*to), (void *)args->a[2]);
		return;
	}
	bpf_probe_read_user(&narrow, sizeof(narrow), (void *)args->a[2]);
	to->whence = narrow.whence;
	to->start = narrow.start;
	to->length = narrow.length;
}

/* What the range counts from: nothing, the position, or the end, as they are before the call. */
__noinline int enter_reserve(struct call_args *args, struct dk_task *state)
{
	struct space space = {0};
	struct file *file;

	if (!args || !state)
		return 0;
	read_space(&space, args);
	file = file_of(args->a[0]);
	state->lock_offset = 0;
	if (space.whence == SEEK_CUR && file)
		read_field(&state->lock_offset, file, f_pos);
	else if (space.whence == SEEK_END && file)
		read_field(&state->lock_offset, inode_of(file), i_size);
	return 0;
}

__noinline int read_reserve(struct dk_size *record, struct call_args *args, struct dk_task *state)
{
	struct space space = {0};
	u32 number;

	if (!record || !args || !state)
		return 0;
	read_space(&space, args);
	number = args->a[1] & 0xff;
	record->offset = state->lock_offset + space.start;
	record->length = space.length;
	record->mode = FALLOC_FL_KEEP_SIZE;
	if (number == RESERVE_ZERO)
		record->mode |= FALLOC_FL_ZERO_RANGE;
	else if (number & 1)
		record->mode |= FALLOC_FL_PUNCH_HOLE;
	return 0;
}

__noinline int leave_size(struct call_args *args, struct dk_task *state)
{
	struct dk_size record = {0};
	struct inode *inode = 0;
	u32 verdict, is_allocation;

	if (!args || !state)
		return 0;
	if (args->request)
		inode = (struct inode *)state->enter_inode;
	else if (args->call != CALL_TRUNCATE)
		inode = inode_of(file_of(args->a[0]));
	if (state->touched_count && (args->call == CALL_TRUNCATE || !inode))
		inode = touched_inode(state, 0);
	if (!inode || !is_regular(mode_of(inode)))
		return 0;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	is_allocation = args->call == CALL_FALLOCATE || args->call == CALL_RESERVE;
	fill_header(&record.header, DK_SIZE, is_allocation ? DK_OP_FALLOCATE : DK_OP_TRUNCATE, sizeof(record));
	record.header.flags = doubt(verdict) | writer_flags(state);
	fill_times(&record.header, state);
	if (state->touched_count && state->touched[0].pointer != (u64)inode)
		record.header.flags |= DK_F_AMBIGUOUS;
	read_inode(&record.inode, inode);
	if (args->call == CALL_FALLOCATE) {
		record.mode = args->a[1];
		record.offset = args->a[2];
		record.length = args->a[3];
	} else if (args->call == CALL_RESERVE) {
		read_reserve(&record, args, state);
	} else {
		record.length = args->a[1];
	}
	put_of(&record.header, sizeof(record), 0, &record.inode, 0, 0);
	return 0;
}

/*
 * A call that writes or allocates has failed, but not before it had set the file's times and dropped its privileges, or
 * even grown it (ext4, a write of bytes that cannot be read): an allocation of nothing at its end says all that.
 */
__noinline int send_unchanged(struct dk_task *state, u32 i)
{
	struct dk_size record = {0};
	struct inode *inode = touched_inode(state, i);
	u32 verdict;

	if (!inode || !is_regular(mode_of(inode)))
		return 0;
	verdict = verdict_of(inode);
	if (verdict == OUTSIDE)
		return 0;
	fill_header(&record.header, DK_SIZE, DK_OP_FALLOCATE, sizeof(record));
	record.header.flags = doubt(verdict) | writer_flags(state);
	read_inode(&record.inode, inode);
	record.offset = record.inode.size;
	put_of(&record.header, sizeof(record), 0, &record.inode, 0, 0);
	return 0;
}

/* Has a call that failed only touched? What XFS announces as a whole, before the bytes, did not come. */
static __always_inline int wrote_nothing(struct dk_task *state)
{
	return state->touched_count && (!state->lock_bytes || (state->lock_is_whole && !state->lock_is_direct));
}

static __always_inline void leave_failed(struct dk_task *state)
{
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		send_unchanged(state, i);
	explain(state);
}

/*
 * A change of names has failed, and its file system took back what it had done by then, but for the times (ext4, a
 * rename with RENAME_WHITEOUT): the metadata of what it touched, as it is at its end.
 */
__noinline int send_metadata(struct dk_task *state, u32 i)
{
	struct dk_attr record = {0};
	struct inode *inode = touched_inode(state, i);
	u32 verdict, nlink = 0;

	if (!inode)
		return 0;
	read_field(&nlink, inode, i_nlink);
	verdict = nlink ? verdict_of(inode) : OUTSIDE; /* the whiteout that was made and is gone again */
	if (verdict == OUTSIDE)
		return 0;
	fill_header(&record.header, DK_ATTR, DK_OP_UTIME, sizeof(record));
	record.header.flags = doubt(verdict) | writer_flags(state);
	fill_times(&record.header, state);
	read_inode(&record.inode, inode);
	put_of(&record.header, sizeof(record), 0, &record.inode, 0, 0);
	return 0;
}

static __always_inline void leave_failed_name(struct dk_task *state)
{
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		send_metadata(state, i);
	explain(state);
}

static __always_inline u64 read_xattr(struct scratch *space, struct dk_attr *record, struct call_args *args, u64 end)
{
	u64 name = args->a[1], value = args->a[2], length = args->a[3];
	struct {
		u64 value;
		u32 size, flags;
	} more = {0}; /* struct xattr_args */
	long got;

	if (args->request) { /* both went ahead */
		record->value_full = length;
		return end;
	}
	if (args->call == CALL_SETXATTRAT) {
		bpf_probe_read_user(&more, sizeof(more), (void *)args->a[4]);
		value = more.value;
		length = more.size;
	}
	if (args->call == CALL_SETXATTRAT || args->call == CALL_REMOVEXATTRAT)
		name = args->a[3];
	end &= 0xff;
	got = bpf_probe_read_user_str(space->bytes + end, DK_XATTR_NAME_MAX, (void *)name);
	if (got <= 1)
		return end;
	record->name_len = (got - 1) & 0xff;
	end = (end + pad8((got - 1) & 0xff)) & 0x3ff;
	if (args->call != CALL_SETXATTR && args->call != CALL_SETXATTRAT)
		return end;
	record->value_full = length;
	barrier_var(length);
	if (is_half_full() || length > 16384 || bpf_probe_read_user(space->bytes + end, length, (void *)value)) {
		record->header.flags |= DK_F_FAULT;
		return end;
	}
	record->value_len = length;
	return end + pad8(length);
}

static __always_inline u8 op_of(u32 call)
{
	switch (call) {
	case CALL_SETXATTR:
	case CALL_SETXATTRAT:
		return DK_OP_SETXATTR;
	case CALL_REMOVEXATTR:
	case CALL_REMOVEXATTRAT:
		return DK_OP_REMOVEXATTR;
	case CALL_SETFLAGS:
	case CALL_SETATTR:
		return DK_OP_SETFLAGS;
	}
	return DK_OP_CHMOD + (call - CALL_CHMOD);
}

/* Flags of an inode as they were asked for: those of chattr, or the FS_XFLAG ones with a project number. */
static __always_inline u64 read_flags(struct scratch *space, struct dk_attr *record, struct call_args *args, u64 end)
{
	struct dk_inode_flags *to = (void *)(record + 1);
	u32 words[5] = {0}; /* struct fsxattr: flags, extsize, nextents, project; file_attr: its flags have 8 bytes */

	to->is_extended = to->flags = to->project = to->zero = 0;
	if (args->call == CALL_SETATTR) {
		bpf_probe_read_user(words, sizeof(words), (void *)args->a[2]);
		to->is_extended = 1;
		to->project = words[4];
	} else if ((u32)args->a[1] == FS_IOC_FSSETXATTR) {
		bpf_probe_read_user(words, 16, (void *)args->a[2]);
		to->is_extended = 1;
		to->project = words[3];
	} else {
		bpf_probe_read_user(words, 4, (void *)args->a[2]);
	}
	to->flags = words[0];
	record->value_len = record->value_full = sizeof(*to);
	return end + sizeof(*to);
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
	fill_header(&record->header, DK_ATTR, op_of(args->call), 0);
	record->header.flags = doubt(verdict) | writer_flags(state);
	fill_times(&record->header, state);
	read_inode(&record->inode, inode);
	record->name_len = record->value_len = record->value_full = record->zero = 0;
	if (args->call >= CALL_SETFLAGS)
		end = read_flags(space, record, args, end);
	else if (args->call >= CALL_SETXATTR)
		end = read_xattr(space, record, args, end);
	end &= 0x7fff;
	record->header.size = end;
	put_of(&record->header, end, 0, &record->inode, 0, 0);
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
	put_of(&record.header, sizeof(record), 0, &record.inode, 0, 0);
}

#endif
