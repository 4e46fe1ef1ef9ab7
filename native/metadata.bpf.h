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

#endif
