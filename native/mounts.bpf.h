/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Mounts below a root: what is seen there from now on is another tree, which is not recorded (docs/decisions/0020).
 */
#ifndef DIFFKEEPER_MOUNTS_BPF_H
#define DIFFKEEPER_MOUNTS_BPF_H

/* The mount that a call made: the newest of the task's namespace, or the one that move_mount was given. */
static __always_inline struct mount *find_mount(struct call_args *args)
{
	struct mnt_namespace *mounts = (struct mnt_namespace *)mount_namespace();
	struct rb_node *newest = 0;
	struct vfsmount *moved = 0;
	struct mount *mount = 0;
	struct file *file;

	if (args->call == CALL_MOVE_MOUNT) {
		file = file_of(args->a[0]);
		if (!file || !(args->a[4] & MOVE_MOUNT_F_EMPTY_PATH))
			return 0;
		read_field(&moved, file, f_path.mnt);
		return (struct mount *)((u8 *)moved - field_offset(mount->mnt));
	}
	if (!field_exists(mounts->mnt_last_node))
		return 0;
	read_field(&newest, mounts, mnt_last_node);
	return newest ? (struct mount *)((u8 *)newest - field_offset(mount->mnt_node)) : 0;
}

struct mount_walk {
	struct mount *mount;
	struct inode *point;
};

/* One mount: does it stand below a root? A bind mount may bring others along, which stand on it. */
static long mount_step(u32 index, void *context)
{
	struct mount_walk *walk = context;
	struct dentry *point = 0;
	struct mount *parent = 0;
	struct inode *inode = 0;
	u32 dev;

	if (!walk->mount)
		return 1;
	read_field(&point, walk->mount, mnt_mountpoint);
	read_field(&inode, point, d_inode);
	dev = inode ? device_of(inode) : 0;
	if (inode && is_root_device(dev) && walk_up((u64)point, dev) == INSIDE) {
		walk->point = inode;
		return 1;
	}
	read_field(&parent, walk->mount, mnt_parent);
	walk->mount = parent == walk->mount ? 0 : parent;
	return 0;
}

static __always_inline void describe_mount(struct dk_mount *record, struct mount_walk *walk)
{
	struct super_block *sb = 0;
	struct file_system_type *type = 0;
	struct dentry *top = 0;
	struct inode *inode = 0;
	const char *name = 0;

	read_inode(&record->point, walk->point);
	read_field(&top, walk->mount, mnt.mnt_root);
	read_field(&inode, top, d_inode);
	if (!inode)
		return;
	read_inode(&record->shown, inode);
	if (verdict_of(inode) == INSIDE)
		record->seen |= DK_SEEN_IN_ROOT;
	read_field(&sb, inode, i_sb);
	read_field(&type, sb, s_type);
	read_field(&name, type, name);
	bpf_probe_read_kernel(record->kind, sizeof(record->kind) - 1, name);
}

/* mount(2) for something else than to mount: other options, or how mounts are passed on. */
static __always_inline int is_change_of_mount(struct call_args *args)
{
	return args->call == CALL_MOUNT && (args->a[3] & (MS_REMOUNT | MS_PROPAGATION));
}

__noinline int leave_mount(struct call_args *args, struct dk_task *state)
{
	struct scratch *space = scratch();
	struct dk_mount *record = (void *)space;
	struct mount_walk walk = {0};
	u64 end = sizeof(*record), path;
	s32 base = AT_FDCWD;
	u32 length;

	if (!space || !args || !state || is_change_of_mount(args))
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	if (args->call != CALL_UMOUNT) {
		walk.mount = find_mount(args);
		if (walk.mount)
			bpf_loop(16, mount_step, &walk, 0);
		if (!walk.point)
			return 0;
		describe_mount(record, &walk);
	}
	if (mount_namespace() != counters.mount_namespace)
		record->seen |= DK_SEEN_ELSEWHERE;
	path = args->call == CALL_MOUNT ? args->a[1] : args->call == CALL_UMOUNT ? args->a[0] : args->a[3];
	if (args->call == CALL_MOVE_MOUNT)
		base = args->a[2];
	fill_header(&record->header, DK_MOUNT, args->call == CALL_UMOUNT ? DK_OP_UMOUNT : DK_OP_MOUNT, 0);
	record->header.flags = writer_flags(state);
	record->header.enter_ns = state->enter_ns;
	end = read_string(space, end, path, DK_PATH_MAX, &length);
	record->path_len = length;
	fill_base(&record->base, base, space->bytes[sizeof(*record)]);
	end &= 0x3fff;
	record->header.size = end;
	put(&record->header, end, 0);
	return 0;
}

#endif
