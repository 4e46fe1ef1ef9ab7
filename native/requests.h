/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's side of io_uring requests, as kernel.h has the rest: types with the fields used, opcodes.
 */
#ifndef DIFFKEEPER_REQUESTS_H
#define DIFFKEEPER_REQUESTS_H

#define core __attribute__((preserve_access_index))

struct io_wq_work {
	int cancel_seq;
} core;

struct io_worker {
	struct io_wq_work *cur_work;
} core;

struct io_sq_data {
	int task_pid, task_tgid;
} core;

struct io_rsrc_node {
	unsigned long file_ptr;
} core;

struct io_rsrc_data {
	u32 nr;
	struct io_rsrc_node **nodes;
} core;

struct io_file_table {
	struct io_rsrc_data data;
} core;

struct io_ring_ctx {
	struct io_file_table file_table;
	struct io_sq_data *sq_data;
} core;

struct io_cqe {
	s32 res;
	int fd;
} core;

/* What is particular to a command stands at its start: a request is read as each of the io_… below. */
struct io_kiocb {
	struct file *file;
	u8 opcode;
	u32 flags;
	struct io_cqe cqe;
	struct io_ring_ctx *ctx;
	struct io_wq_work work;
} core;

struct filename {
	const char *name;
} core;

struct open_how {
	u64 flags;
} core;

struct io_rw {
	struct kiocb kiocb;
	u64 addr;
	u32 len;
} core;

struct io_open {
	int dfd;
	u32 file_slot;
	struct filename *filename;
	struct open_how how;
} core;

struct io_close {
	int fd;
	u32 file_slot;
} core;

struct io_rename {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
} core;

struct io_link {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
} core;

struct io_unlink {
	int dfd, flags;
	struct filename *filename;
} core;

struct io_mkdir {
	int dfd;
	struct filename *filename;
} core;

struct io_sync {
	s64 len, off;
	int mode;
} core;

struct io_ftrunc {
	s64 len;
} core;

struct xattr_name {
	char name[256];
} core;

struct kernel_xattr_ctx {
	void *kvalue;
	unsigned long size;
	struct xattr_name *kname;
} core;

struct io_xattr {
	struct kernel_xattr_ctx ctx;
} core;

struct io_splice {
	s64 off_out;
} core;

#undef core

/* include/uapi/linux/io_uring.h, include/uapi/linux/aio_abi.h, include/linux/sched.h */
enum {
	IORING_OP_WRITEV = 2,
	IORING_OP_WRITE_FIXED = 5,
	IORING_OP_FALLOCATE = 17,
	IORING_OP_OPENAT = 18,
	IORING_OP_CLOSE = 19,
	IORING_OP_WRITE = 23,
	IORING_OP_OPENAT2 = 28,
	IORING_OP_SPLICE = 30,
	IORING_OP_RENAMEAT = 35,
	IORING_OP_UNLINKAT = 36,
	IORING_OP_MKDIRAT = 37,
	IORING_OP_SYMLINKAT = 38,
	IORING_OP_LINKAT = 39,
	IORING_OP_FSETXATTR = 41,
	IORING_OP_SETXATTR = 42,
	IORING_OP_FTRUNCATE = 55,
	IORING_OP_WRITEV_FIXED = 61,
	IORING_OPCODES = 64
};
enum { REQ_F_FIXED_FILE = 1, REQ_F_CQE_SKIP = 64, IORING_FILE_INDEX_ALLOC = ~0u };
enum { IOCB_CMD_PWRITE = 1, IOCB_CMD_PWRITEV = 8 };
enum { ITER_UBUF = 0, ITER_IOVEC = 1, ITER_BVEC = 2, ITER_SOURCE = 1 };
enum { EXT4_MAGIC = 0xEF53, IO_URING_ENTER = 426 };

#endif
