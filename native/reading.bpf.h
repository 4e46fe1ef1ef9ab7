/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading the kernel: open files, inodes, the directories that paths start from.
 */
#ifndef DIFFKEEPER_READING_BPF_H
#define DIFFKEEPER_READING_BPF_H

struct call_args {
	u64 a[6];
	s64 result;
	u32 call;
	u8 is_compat;	     /* a 32-bit task's: vectors and some structures have another form */
	u8 has_short_offset; /* sendfile's offset is an off_t of 4 bytes */
	u8 zero[2];
	u32 request; /* IS_REQUEST, and the first bytes of its two paths, which went ahead as pieces */
	u32 zero2;
};

enum { IS_REQUEST = 1 << 31 };

/* A tracepoint's argument as a number: the verifier lets no pointer pass where a global function takes one. */
static __always_inline u64 argument(u64 *ctx, u32 index)
{
	return as_number(ctx[index]);
}

static __always_inline struct dk_task *state_of(struct task_struct *task, u64 create)
{
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, create);

	if (create && settings.fault_table && bpf_get_prandom_u32() % settings.fault_table == 0)
		state = 0;
	if (!state && create)
		lose(DK_LOST_TABLE, 0);
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
	read_at(&file, array + fd);
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

/*
 * The device number that stat shows: that of the file system or, on btrfs, of the subvolume. Numbers of inodes hold
 * within it. (overlayfs shows that of a layer for some files: baseline_index.py asks for the kernel's there.)
 */
static __always_inline u32 find_device(u64 pointer, u64 super)
{
	struct super_block *sb = (struct super_block *)super;
	unsigned long magic = 0;
	u64 subvolume = 0;
	u32 dev = 0;

	read_field(&dev, sb, s_dev);
	if (!settings.has_subvolumes || !counters.subvolume_device_offset)
		return dev;
	read_field(&magic, sb, s_magic);
	if (magic != BTRFS_MAGIC)
		return dev;
	/* The verifier lets nobody add to a pointer that it knows, as those are that a program is called with. */
	read_at(&subvolume, as_number(pointer) + counters.subvolume_offset);
	read_at(&dev, subvolume + counters.subvolume_device_offset);
	return dev;
}

/* That of the file system, whatever the subvolume. */
static __always_inline u32 super_device_of(struct inode *inode)
{
	struct super_block *sb = 0;
	u32 dev = 0;

	read_field(&sb, inode, i_sb);
	read_field(&dev, sb, s_dev);
	return dev;
}

static __always_inline u32 device_of(struct inode *inode)
{
	struct super_block *sb = 0;
	u32 dev = 0;

	read_field(&sb, inode, i_sb);
	if (settings.has_subvolumes)
		return find_device((u64)inode, (u64)sb);
	read_field(&dev, sb, s_dev);
	return dev;
}

/* Not attached: run once at start where a root is on overlayfs, whose types may be those of a module. */
SEC("raw_tp/sys_enter")
int probe_overlay(u64 *ctx)
{
	struct ovl_inode *inode = 0;

	if (field_exists(inode->__upperdentry))
		counters.upper_offset = (s64)field_offset(inode->__upperdentry) - (s64)field_offset(inode->vfs_inode);
	return 0;
}

/* The inode that holds the bytes: overlayfs passes them on to an upper file. Takes no pointer that the verifier knows.
 */
static __always_inline u64 real_inode(u64 pointer)
{
	struct inode *inode = (struct inode *)pointer, *real = 0;
	struct super_block *sb = 0;
	struct dentry *upper = 0;
	unsigned long magic = 0;

	if (!counters.upper_offset)
		return pointer;
	read_field(&sb, inode, i_sb);
	read_field(&magic, sb, s_magic);
	if (magic != OVERLAY_MAGIC)
		return pointer;
	read_at(&upper, (u8 *)inode + counters.upper_offset);
	if (upper)
		read_field(&real, upper, d_inode);
	return (u64)real;
}

/* Not attached: run once at start where a root is on btrfs, whose types may be those of a module. */
SEC("raw_tp/sys_enter")
int probe_btrfs(u64 *ctx)
{
	struct btrfs_inode *inode = 0;
	struct btrfs_root *subvolume = 0;

	counters.subvolume_offset = (s64)field_offset(inode->root) - (s64)field_offset(inode->vfs_inode);
	counters.subvolume_device_offset = field_offset(subvolume->anon_dev);
	return 0;
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

static __always_inline int is_fifo(u32 mode)
{
	return (mode & S_IFMT) == S_IFIFO;
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
 * By the helper all fields are read at once: on known kernels they lie in the first bytes of an inode, and one read of
 * those costs as much as one of a single field. What lies behind them is read alone; the verifier removes the branch
 * that is not taken.
 */
#ifdef DK_READS_BY_LOADS
#define take_head(from)
#define take_field read_field
#else
enum { INODE_HEAD = 168 };

#define take_head(from) \
	u8 head[INODE_HEAD]; \
	if (bpf_probe_read_kernel(head, sizeof(head), from)) \
		__builtin_memset(head, 0, sizeof(head));

#define take_field(to, from, field) \
	do { \
		u64 at_ = field_offset((from)->field); \
		if (at_ + sizeof(*(to)) <= INODE_HEAD) \
			__builtin_memcpy((to), head + at_, sizeof(*(to))); \
		else \
			read_field((to), from, field); \
	} while (0)
#endif

__noinline int copy_inode(struct dk_inode *to, u64 pointer)
{
	struct inode *from = (struct inode *)pointer;
	struct inode___flat *flat = (void *)from;
	struct super_block *sb = 0;
	unsigned long ino = 0;
	u16 mode = 0;

	if (!to)
		return 0;
	take_head(from);
	take_field(&ino, from, i_ino);
	take_field(&mode, from, i_mode);
	take_field(&sb, from, i_sb);
	to->ino = ino;
	to->mode = mode;
	to->dev = 0;
	if (settings.has_subvolumes)
		to->dev = find_device(pointer, (u64)sb);
	else
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
	from = (struct inode *)real_inode(pointer);
	if (from &&
		(u64)from !=
			pointer) { /* stores into a mapping set the time of the file below alone, which stat shows */
		if (field_exists(flat->i_mtime_sec)) {
			flat = (void *)from;
			read_field(&to->mtime_sec, flat, i_mtime_sec);
			read_field(&to->mtime_nsec, flat, i_mtime_nsec);
		} else {
			read_mtime(to, from);
		}
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

/* The mount namespace of the current task. */
__noinline u64 mount_namespace(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct nsproxy *namespaces = 0;
	struct mnt_namespace *mounts = 0;

	read_field(&namespaces, task, nsproxy);
	read_field(&mounts, namespaces, mnt_ns);
	return (u64)mounts;
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

#endif
