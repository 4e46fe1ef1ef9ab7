/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The system calls that change files, by number, and how each processor passes its arguments.
 */
#ifndef DIFFKEEPER_CALLS_H
#define DIFFKEEPER_CALLS_H

enum call {
	CALL_NONE,
	/* Bytes from a buffer of the caller. */
	CALL_WRITE,
	CALL_PWRITE,
	CALL_WRITEV,
	CALL_PWRITEV,
	CALL_LAST_WRITE = CALL_PWRITEV,
	CALL_CLOSE,
	/* Bytes from elsewhere in the kernel. */
	CALL_SENDFILE,
	CALL_SPLICE,
	CALL_COPY_RANGE,
	CALL_IOCTL,
	CALL_LAST_COPY = CALL_IOCTL,
	CALL_TRUNCATE,
	CALL_FTRUNCATE,
	CALL_FALLOCATE,
	CALL_LAST_SIZE = CALL_FALLOCATE,
	CALL_OPEN,
	CALL_OPENAT,
	CALL_OPENAT2,
	CALL_CREAT,
	CALL_LAST_OPEN = CALL_CREAT,
	CALL_MKDIR,
	CALL_MKDIRAT,
	CALL_MKNOD,
	CALL_MKNODAT,
	CALL_BIND,
	CALL_SYMLINK,
	CALL_SYMLINKAT,
	CALL_LINK,
	CALL_LINKAT,
	CALL_UNLINK,
	CALL_UNLINKAT,
	CALL_RMDIR,
	CALL_RENAME,
	CALL_RENAMEAT,
	CALL_RENAMEAT2,
	CALL_LAST_NAME = CALL_RENAMEAT2,
	CALL_CHMOD,
	CALL_CHOWN,
	CALL_UTIME,
	CALL_SETXATTR,
	CALL_REMOVEXATTR,
};

#if defined(DK_ARCH_X86_64)
/* clang-format off: one line a family of calls */
#define CALL_NUMBERS \
	[1] = CALL_WRITE, [18] = CALL_PWRITE, [20] = CALL_WRITEV, [296] = CALL_PWRITEV, [328] = CALL_PWRITEV, \
	[3] = CALL_CLOSE, [40] = CALL_SENDFILE, [275] = CALL_SPLICE, [326] = CALL_COPY_RANGE, [16] = CALL_IOCTL, \
	[76] = CALL_TRUNCATE, [77] = CALL_FTRUNCATE, [285] = CALL_FALLOCATE, [2] = CALL_OPEN, [257] = CALL_OPENAT, \
	[437] = CALL_OPENAT2, [85] = CALL_CREAT, [83] = CALL_MKDIR, [258] = CALL_MKDIRAT, [133] = CALL_MKNOD, \
	[259] = CALL_MKNODAT, [49] = CALL_BIND, [88] = CALL_SYMLINK, [266] = CALL_SYMLINKAT, [86] = CALL_LINK, \
	[265] = CALL_LINKAT, [87] = CALL_UNLINK, [263] = CALL_UNLINKAT, [84] = CALL_RMDIR, [82] = CALL_RENAME, \
	[264] = CALL_RENAMEAT, [316] = CALL_RENAMEAT2, [90] = CALL_CHMOD, [91] = CALL_CHMOD, [268] = CALL_CHMOD, \
	[452] = CALL_CHMOD, [92] = CALL_CHOWN, [93] = CALL_CHOWN, [94] = CALL_CHOWN, [260] = CALL_CHOWN, \
	[132] = CALL_UTIME, [235] = CALL_UTIME, [261] = CALL_UTIME, [280] = CALL_UTIME, [188] = CALL_SETXATTR, \
	[189] = CALL_SETXATTR, [190] = CALL_SETXATTR, [197] = CALL_REMOVEXATTR, [198] = CALL_REMOVEXATTR, \
	[199] = CALL_REMOVEXATTR
#define CALL_NUMBER(regs) ((regs)->orig_ax)
#define CALL_ARGS(regs, a) \
	(a)[0] = (regs)->di; \
	(a)[1] = (regs)->si; \
	(a)[2] = (regs)->dx; \
	(a)[3] = (regs)->r10; \
	(a)[4] = (regs)->r8; \
	(a)[5] = (regs)->r9
/* clang-format on */
#else
#error "diffkeeper captures on x86-64 so far: add the processor's call numbers and registers here"
#endif

#define CALL_TABLE_SIZE 512

#endif
