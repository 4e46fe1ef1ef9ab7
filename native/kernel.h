/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The little of the kernel that recorder.bpf.c reads: types with only the fields used, relocated at load (CO-RE), the
 * helpers by number (include/uapi/linux/bpf.h), and the flags of calls that no BTF carries (uapi headers).
 */
#ifndef DIFFKEEPER_KERNEL_H
#define DIFFKEEPER_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define barrier_var(var) asm volatile("" : "+r"(var))
#define offset_of(type, member) __builtin_offsetof(type, member)

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29
};
enum { BPF_ANY = 0, BPF_F_NO_PREALLOC = 1, BPF_LOCAL_STORAGE_GET_F_CREATE = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2, BPF_RB_AVAIL_DATA = 0 };

static u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_tail_call)(void *context, void *programs, u32 index) = (void *)12;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *to, u32 size) = (void *)16;
static u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static long (*bpf_probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static long (*bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_discard)(void *record, u64 flags) = (void *)133;
static void (*bpf_ringbuf_submit)(void *record, u64 flags) = (void *)132;
static u64 (*bpf_ringbuf_query)(void *ring, u64 flags) = (void *)134;
static void *(*bpf_task_storage_get)(void *map, void *task, void *value, u64 flags) = (void *)156;
static long (*bpf_find_vma)(void *task, u64 address, void *callback, void *context, u64 flags) = (void *)180;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static u64 (*bpf_task_pt_regs)(void *task) = (void *)175;
static long (*bpf_loop)(u32 times, void *callback, void *context, u64 flags) = (void *)181;

#define field_offset(field) __builtin_preserve_field_info(field, 0)
#define type_bytes(type) __builtin_preserve_type_info(*(type *)0, 1)
#define field_exists(field) __builtin_preserve_field_info(field, 2)
/*
 * Read a field through a pointer that the verifier does not know: by a helper, 23 ns each, or, since Linux 6.2, by a
 * load, 1 ns. For that bpf_rdonly_cast() makes a pointer of any number, one whose loads give 0 where nothing is mapped.
 * No libbpf of today finds that function without reading all of the kernel's BTF: native/casts.c replaces the two
 * numbers below, and where the kernel has no such function the object is used that was compiled without.
 */
#define read_by_helper(to, pointer, field) \
	({ \
		typeof(pointer) from_ = (pointer); \
		bpf_probe_read_kernel((to), sizeof(*(to)), &from_->field); \
	})

#ifdef DK_READS_BY_LOADS
/* As what the number is seen then: struct timespec64, two words that hold no pointer. */
static __always_inline u64 seen_as_words(u64 address)
{
	register u64 seen asm("r0");
	register u64 from asm("r1") = address;

	asm("r2 = %2\n\tcall %3"
		: "=r"(seen), "+r"(from)
		: "i"(DK_CAST_TYPE), "i"(DK_CAST_CALL)
		: "r2", "r3", "r4", "r5");
	return seen;
}

/* Read what stands at an address; at most two words. */
#define read_at(to, address) \
	({ \
		*(to) = *(volatile typeof(*(to)) *)seen_as_words((u64)(address)); \
		0; \
	})

#define read_field(to, pointer, field) \
	({ \
		typeof(pointer) at_ = (pointer); \
		_Static_assert(sizeof(at_->field) <= 2 * sizeof(u64), "what is seen ends there"); \
		*(to) = *(volatile typeof(at_->field) *)seen_as_words((u64)at_ + field_offset(at_->field)); \
		0; \
	})

/* A pointer that the verifier knows, as a number: the difference to one that is 0. */
static __always_inline u64 as_number(u64 pointer)
{
	asm("r1 = 0\n\tr2 = %1\n\tcall %2\n\t%0 -= r0"
		: "+r"(pointer)
		: "i"(DK_CAST_TYPE), "i"(DK_CAST_CALL)
		: "r0", "r1", "r2", "r3", "r4", "r5");
	return pointer;
}
#else
#define read_field read_by_helper
#define read_at(to, address) bpf_probe_read_kernel((to), sizeof(*(to)), (void *)(address))

static __always_inline u64 as_number(u64 pointer)
{
	u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}
#endif

#define enum_value(type, value) __builtin_preserve_enum_value(*(type *)value, 1)

enum pageflags { PG_uptodate = 3 };

#define core __attribute__((preserve_access_index))

typedef struct {
	int counter;
} atomic_t;

struct btrfs_root {
	u32 anon_dev;
} core;

struct qstr {
	u32 len;
	const unsigned char *name;
} core;

struct hlist_node {
	struct hlist_node *next;
} core;

struct hlist_head {
	struct hlist_node *first;
} core;

struct hlist_bl_node {
	struct hlist_bl_node *next, **pprev;
} core;

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	union {
		struct hlist_node d_alias;
	} d_u;
} core;

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
	int s_stack_depth;
	struct file_system_type *s_type;
} core;

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
} core;

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

struct inode {
	u16 i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	struct super_block *i_sb;
	struct address_space *i_mapping;
	unsigned long i_ino;
	u32 i_nlink;
	u32 i_rdev;
	s64 i_size;
	u32 i_generation;
	atomic_t i_count;
	struct hlist_head i_dentry;
} core;

struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
} core;

struct btrfs_inode {
	struct btrfs_root *root;
	struct inode vfs_inode;
} core;

/* mtime: two fields since Linux 6.11, __i_mtime in 6.7 to 6.10, i_mtime before. */
struct inode___flat {
	s64 i_mtime_sec;
	u32 i_mtime_nsec;
} core;

struct inode___private {
	struct timespec64 __i_mtime;
} core;

struct inode___plain {
	struct timespec64 i_mtime;
} core;

struct xarray {
	void *xa_head;
} core;

struct xa_node {
	u8 shift;
	void *slots[64];
	unsigned long marks[3]; /* dirty, in writeback, to be written */
} core;

struct address_space {
	struct xarray i_pages;
	atomic_t i_mmap_writable;
} core;

struct folio {
	unsigned long index;
} core;

struct page {
	unsigned long flags;
} core;

struct vfsmount {
	struct dentry *mnt_root;
} core;

struct rb_node {
	struct rb_node *rb_left;
} core;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct rb_node mnt_node;
} core;

struct mnt_namespace {
	struct rb_node *mnt_last_node;
} core;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
} core;

struct file_system_type {
	const char *name;
} core;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} core;

struct file {
	u32 f_mode;
	u32 f_flags;
	struct inode *f_inode;
	struct path f_path;
	s64 f_pos;
	atomic_t f_ref;
} core;

struct vm_area_struct {
	unsigned long vm_start, vm_end;
	unsigned long vm_flags;
	struct file *vm_file;
} core;

struct kiocb {
	struct file *ki_filp;
	s64 ki_pos;
	void *ki_complete;
} core;

struct bio_vec {
	struct page *bv_page;
	u32 bv_len;
	u32 bv_offset;
} core;

struct iov_iter {
	u8 iter_type;
	u8 data_source; /* 0: bytes go into the memory that it describes */
	u64 iov_offset;
	void *ubuf;
	u64 count;
	u64 nr_segs;
} core;

struct fdtable {
	u32 max_fds;
	struct file **fd;
} core;

struct files_struct {
	atomic_t count;
	struct fdtable *fdt;
} core;

struct fs_struct {
	struct path root;
	struct path pwd;
} core;

struct mm_struct {
	unsigned long arg_start, arg_end;
} core;

struct signal_struct {
	atomic_t live; /* threads that have not begun to exit */
	int group_exit_code;
	u32 flags;
} core;

struct thread_info {
	u32 status;
} core;

struct task_struct {
	struct thread_info thread_info;
	u32 flags;
	void *worker_private;
	struct task_struct *group_leader;
	int pid;
	int tgid;
	int exit_code;
	char comm[16];
	struct task_struct *real_parent;
	struct files_struct *files;
	struct fs_struct *fs;
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct nsproxy *nsproxy;
} core;

struct linux_binprm {
	const char *filename;
} core;

#undef core

enum { FMODE_WRITE = 2, FMODE_CREATED = 1 << 20 };
enum { O_ACCMODE = 3, O_NONBLOCK = 04000, EAGAIN = 11 };
enum { O_CREAT = 0100, O_TRUNC = 01000, O_APPEND = 02000, O_TMPFILE_BIT = 020000000 };
#if defined(DK_ARCH_ARM64)
enum { O_DIRECT = 0200000 }; /* arch/arm64/include/uapi/asm/fcntl.h; the other flags that are used are generic */
#else
enum { O_DIRECT = 040000 };
#endif
enum { AT_FDCWD = -100, AT_REMOVEDIR = 0x200, RENAME_WHITEOUT = 4 };
enum { AF_UNIX = 1 };
enum { SEEK_CUR = 1, SEEK_END = 2 };
enum { MS_REMOUNT = 32, MS_PROPAGATION = 15 << 17, MOVE_MOUNT_F_EMPTY_PATH = 4 };
enum { BTRFS_MAGIC = 0x9123683E, OVERLAY_MAGIC = 0x794c7630, XFS_MAGIC = 0x58465342 };
enum { PROT_WRITE = 2, MAP_SHARED = 1, MAP_ANONYMOUS = 0x20, VM_WRITE = 2, VM_SHARED = 8 };
enum { S_IFMT = 0170000, S_IFDIR = 0040000, S_IFREG = 0100000, S_IFIFO = 0010000 };
enum { FICLONE = 0x40049409, FICLONERANGE = 0x4020940d };
enum { FS_IOC_SETFLAGS = 0x40086602, FS_IOC32_SETFLAGS = 0x40046602, FS_IOC_FSSETXATTR = 0x401c5820 };
enum { RWF_APPEND = 0x10, RWF_NOAPPEND = 0x20 };
enum { FALLOC_FL_KEEP_SIZE = 1, FALLOC_FL_PUNCH_HOLE = 2, FALLOC_FL_ZERO_RANGE = 0x10 };
enum { TMPFS_MAGIC = 0x01021994 };
enum { SIGNAL_GROUP_EXIT = 4, TS_COMPAT = 2 };
enum { PF_IO_WORKER = 0x10, PF_DUMPCORE = 0x200, PF_KTHREAD = 0x200000 };

#endif
