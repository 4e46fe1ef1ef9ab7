/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Changes of names, placed by the inodes that a call touched.
 */
#ifndef DIFFKEEPER_NAMES_BPF_H
#define DIFFKEEPER_NAMES_BPF_H

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

/* Calls. */

/* What a path starts from: the task's root where it is absolute, else a descriptor or the working directory; or 0. */
__noinline u64 find_base(s32 fd, u32 is_absolute)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fs_struct *fs = 0;
	struct dentry *dentry = 0;
	struct inode *inode = 0;

	if (!is_absolute && fd != AT_FDCWD)
		return (u64)inode_of(file_of(fd));
	read_field(&fs, task, fs);
	if (!fs)
		return 0;
	if (is_absolute)
		read_field(&dentry, fs, root.dentry);
	else
		read_field(&dentry, fs, pwd.dentry);
	if (dentry)
		read_field(&inode, dentry, d_inode);
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
	struct inode *inode = touched_inode(state, i);
	u32 answer;

	if (!inode)
		return 0;
	if (is_directory(mode_of(inode))) {
		answer = verdict_of(inode);
		/* A directory that was replaced has no place any more: it says nothing about where the others stand. */
		return answer == INSIDE ? DIRECTORY_INSIDE : answer == OUTSIDE ? DIRECTORY_OUTSIDE : 0;
	}
	if (op == DK_OP_LINK)
		return FILE_INSIDE * names_inside((u64)inode);
	return verdict_of(inode) != OUTSIDE ? FILE_INSIDE : 0;
}

/*
 * Void the verdict of a touched file; a directory's stays: returns 1 for it. Where inodes have no generations
 * (overlayfs) it goes as well: it may be of another that had the number.
 */
__noinline u32 forget_touched(struct dk_task *state, u32 i)
{
	struct inode *inode = touched_inode(state, i);
	u32 generation = 0, is_folder;

	if (!inode)
		return 0;
	is_folder = is_directory(mode_of(inode));
	read_field(&generation, inode, i_generation);
	if (!is_folder || !generation)
		forget_verdict(inode);
	return is_folder;
}

/* A name is gone: where the other links of its file stand is to be found out. judge() looks whether `moves` has grown
 * when it has put its verdict, so that comes first. */
static __always_inline u32 forget_files(struct dk_task *state)
{
	u32 directories = 0;

	__sync_fetch_and_add(&counters.moves, 1);
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		directories += forget_touched(state, i);
	return directories;
}

/* Verdicts after names moved: void those of files, and all of them where a directory may have moved. True: an import.
 */
static __always_inline int settle_verdicts(struct dk_task *state, u32 op)
{
	u32 directories, sum = 0, inside, outside, files;

	if (!state)
		return 0;
	directories = forget_files(state);
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
	if (got < 0 || is_probe_spoilt())
		lose(DK_LOST_PROBE, DK_NAME);
	else if (got > 1)
		*length = got - 1;
	return at + pad8(*length & 0xfff);
}

/* The descriptor that a path of the caller stands for, as files without a name are linked by; -1: none. */
__noinline s32 descriptor_of(u64 path)
{
	const char prefix[] = "/proc/self/fd/";
	u8 text[sizeof(prefix) - 1 + 8] = {0};
	s32 fd = 0;

	if (bpf_probe_read_user_str(text, sizeof(text), (void *)path) < (long)sizeof(prefix) + 1)
		return -1;
	for (u32 i = 0; i < sizeof(prefix) - 1; i++)
		if (text[i] != prefix[i])
			return -1;
	for (u32 i = sizeof(prefix) - 1; i < sizeof(text) && text[i]; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		fd = fd * 10 + text[i] - '0';
	}
	return fd;
}

/*
 * overlayfs touches no file that it links, only the directory, and forgets the new name at once: what is linked by its
 * descriptor is looked up here, and joins what the call touched; of the others the string is enough.
 */
__noinline int touch_linked(struct dk_task *state, struct name_plan *plan)
{
	struct inode *inode;
	unsigned long ino = 0;
	s32 fd;

	if (!state || !plan || state->touched_count != 1)
		return 0;
	fd = descriptor_of(plan->path);
	inode = fd < 0 ? 0 : inode_of(file_of(fd));
	if (!inode || is_directory(mode_of(inode)) || !is_root_device(device_of(inode)))
		return 0;
	read_field(&ino, inode, i_ino);
	state->touched[1].pointer = (u64)inode;
	state->touched[1].ino = ino;
	state->touched_count = 2;
	return 0;
}

/* Bytes of a file that came in, from the page cache, where the drain thread may not find it: no file is opened by
 * handle. */
static __always_inline void send_import_bytes(struct dk_task *state, u64 sequence)
{
	struct inode *inode;
	s64 size;

	for (u32 i = 0; i < DK_TOUCHED_MAX; i++) {
		if (i >= state->touched_count)
			break;
		inode = touched_inode(state, i);
		if (!inode || !is_regular(mode_of(inode)))
			continue;
		size = 0;
		read_field(&size, inode, i_size);
		if (size > 0)
			send_cached_range((u64)inode, 0, size, sequence);
	}
}

__noinline u32 is_outside_directory(struct dk_task *state, u32 i)
{
	struct inode *inode = touched_inode(state, i);

	return inode && is_directory(mode_of(inode)) && verdict_of(inode) == OUTSIDE;
}

/* Does the touched directory i stand in another one that was touched, and that is not outside? */
__noinline u32 is_in_touched(struct dk_task *state, u32 i, u32 outside)
{
	struct inode *inode = touched_inode(state, i), *above = 0;
	struct dentry *dentry, *parent = 0;

	if (!state || !inode || !is_directory(mode_of(inode)))
		return 0;
	dentry = alias_of(inode);
	if (dentry)
		read_field(&parent, dentry, d_parent);
	if (parent)
		read_field(&above, parent, d_inode);
	for (u32 j = 0; j < DK_TOUCHED_MAX; j++)
		if (j != i && above && touched_inode(state, j) == above)
			return !(outside >> j & 1);
	return 0;
}

/*
 * What came in is told apart from the directory that it came from by where the two stand, and from the one that it came
 * into by what that stands in: now, since it may be moved again before the drain thread looks.
 */
static __always_inline u16 outside_touched(struct dk_task *state)
{
	u16 bits = 0;

	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		bits |= is_outside_directory(state, i) << i;
	for (u32 i = 0; i < DK_TOUCHED_MAX; i++)
		if (!(bits >> i & 1))
			bits |= is_in_touched(state, i, bits & 0xff) << (DK_TOUCHED_MAX + i);
	return bits;
}

/* XFS makes a whiteout as a file without a name, which is in no directory yet when others would inherit from it. */
static __always_inline u32 whiteout_kind(struct dk_task *state, struct name_plan *plan)
{
	struct inode *inode;
	struct super_block *sb = 0;
	unsigned long magic = 0;

	if (plan->op != DK_OP_RENAME || !(plan->flags & RENAME_WHITEOUT))
		return 0;
	inode = touched_inode(state, 0);
	if (inode)
		read_field(&sb, inode, i_sb);
	if (sb)
		read_field(&magic, sb, s_magic);
	return magic == XFS_MAGIC ? DK_INHERITS_NOTHING : 0;
}

static __always_inline int record_name(struct call_args *args, struct dk_task *state, int takes_bytes)
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
	if (plan.op == DK_OP_LINK && counters.upper_offset && !args->request)
		touch_linked(state, &plan);
	if (plan.op == DK_OP_RENAME || plan.op == DK_OP_LINK)
		is_import = settle_verdicts(state, plan.op);
	else if (plan.op == DK_OP_UNLINK || counters.upper_offset)
		forget_files(state);
	if (settings.has_touch_hooks && !any_touched_inside(state))
		return 0;
	fill_header(&record->header, DK_NAME, plan.op, 0);
	record->header.flags = writer_flags(state);
	if (!settings.has_touch_hooks)
		record->header.flags |= DK_F_UNTOUCHED;
	if (is_import)
		record->header.flags |= DK_F_IMPORT;
	fill_times(&record->header, state);
	record->call_flags = plan.flags | whiteout_kind(state, &plan);
	record->outside = is_import ? outside_touched(state) : 0;
	record->touched = fill_touched((struct touched_list *)(record + 1), state);
	end = sizeof(*record) + (record->touched & 15) * sizeof(struct dk_inode);
	path = end;
	end = read_string(space, end, plan.path, plan.room, &length);
	record->path_len = length;
	path2 = end;
	end = read_string(space, end, plan.path2, DK_PATH_MAX, &length);
	record->path2_len = length;
	fill_base(&record->base, plan.base, args->request ? args->request : space->bytes[path & 0xfff]);
	fill_base(&record->base2, plan.base2, args->request ? args->request >> 8 : space->bytes[path2 & 0x1fff]);
	end &= 0x3fff;
	record->header.size = end;
	put(&record->header, end, is_import);
	if (takes_bytes && is_import && settings.has_no_handles)
		send_import_bytes(state, record->header.sequence);
	return 0;
}

__noinline int leave_name(struct call_args *args, struct dk_task *state)
{
	return record_name(args, state, 1);
}

/* The same for a request, whose bytes are left to be read back: the verifier allows 8 calls, one in another. */
__noinline int leave_name_request(struct call_args *args, struct dk_task *state)
{
	return record_name(args, state, 0);
}

#endif
