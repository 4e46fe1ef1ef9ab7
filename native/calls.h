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
	CALL_PWRITEV2,
	CALL_LAST_WRITE = CALL_PWRITEV2,
	CALL_CLOSE,
	/* Shared mappings: what begins one, and what may end what can be seen in one. */
	CALL_MMAP,
	CALL_MPROTECT,
	CALL_MUNMAP,
	CALL_MSYNC,
	CALL_MREMAP,
	CALL_FSYNC,
	CALL_EXEC,
	CALL_LAST_MAPPING = CALL_EXEC,
	/* Bytes from elsewhere in the kernel. */
	CALL_SENDFILE,
	CALL_SPLICE,
	CALL_COPY_RANGE,
	CALL_CLONE,
	CALL_LAST_COPY = CALL_CLONE,
	CALL_TRUNCATE,
	CALL_FTRUNCATE,
	CALL_FALLOCATE,
	CALL_RESERVE,
	CALL_LAST_SIZE = CALL_RESERVE,
	CALL_OPEN,
	CALL_OPENAT,
	CALL_OPENAT2,
	CALL_CREAT,
	CALL_OPEN_BY_HANDLE,
	CALL_LAST_OPEN = CALL_OPEN_BY_HANDLE,
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
	CALL_SETXATTRAT,
	CALL_REMOVEXATTR,
	CALL_REMOVEXATTRAT,
	CALL_SETFLAGS,
	CALL_SETATTR,
	CALL_LAST_ATTR = CALL_SETATTR,
	/* What the number alone does not tell: specify() makes one of the above of it, or none. */
	CALL_IOCTL,
	CALL_SOCKETCALL,
};

#if defined(DK_ARCH_X86_64)
/* clang-format off: the calls in the order of their names above */
/* arch/x86/entry/syscalls/syscall_64.tbl */
#define CALL_NUMBERS \
	[1] = CALL_WRITE, [18] = CALL_PWRITE, [20] = CALL_WRITEV, [296] = CALL_PWRITEV, [328] = CALL_PWRITEV2, \
	[3] = CALL_CLOSE, [40] = CALL_SENDFILE, [275] = CALL_SPLICE, [326] = CALL_COPY_RANGE, [16] = CALL_IOCTL, \
	[76] = CALL_TRUNCATE, [77] = CALL_FTRUNCATE, [285] = CALL_FALLOCATE, [2] = CALL_OPEN, [257] = CALL_OPENAT, \
	[437] = CALL_OPENAT2, [85] = CALL_CREAT, [304] = CALL_OPEN_BY_HANDLE, [83] = CALL_MKDIR, [258] = CALL_MKDIRAT, \
	[133] = CALL_MKNOD, [259] = CALL_MKNODAT, [49] = CALL_BIND, [88] = CALL_SYMLINK, [266] = CALL_SYMLINKAT, \
	[86] = CALL_LINK, [265] = CALL_LINKAT, [87] = CALL_UNLINK, [263] = CALL_UNLINKAT, [84] = CALL_RMDIR, \
	[82] = CALL_RENAME, [264] = CALL_RENAMEAT, [316] = CALL_RENAMEAT2, [90] = CALL_CHMOD, [91] = CALL_CHMOD, \
	[268] = CALL_CHMOD, [452] = CALL_CHMOD, [92] = CALL_CHOWN, [93] = CALL_CHOWN, [94] = CALL_CHOWN, \
	[260] = CALL_CHOWN, [132] = CALL_UTIME, [235] = CALL_UTIME, [261] = CALL_UTIME, [280] = CALL_UTIME, \
	[188] = CALL_SETXATTR, [189] = CALL_SETXATTR, [190] = CALL_SETXATTR, [463] = CALL_SETXATTRAT, \
	[197] = CALL_REMOVEXATTR, [198] = CALL_REMOVEXATTR, [199] = CALL_REMOVEXATTR, [466] = CALL_REMOVEXATTRAT, \
	[469] = CALL_SETATTR, [9] = CALL_MMAP, [10] = CALL_MPROTECT, [329] = CALL_MPROTECT, [11] = CALL_MUNMAP, \
	[26] = CALL_MSYNC, [25] = CALL_MREMAP, [216] = CALL_MREMAP, [74] = CALL_FSYNC, [75] = CALL_FSYNC, \
	[277] = CALL_FSYNC, [59] = CALL_EXEC, [322] = CALL_EXEC
/* Of 32-bit tasks, arch/x86/entry/syscalls/syscall_32.tbl: whoever comes by int 0x80 or sysenter, 64-bit programs too.
 */
#define CALL_NUMBERS_32 \
	[4] = CALL_WRITE, [181] = CALL_PWRITE, [146] = CALL_WRITEV, [334] = CALL_PWRITEV, [379] = CALL_PWRITEV2, \
	[6] = CALL_CLOSE, [187] = CALL_SENDFILE, [239] = CALL_SENDFILE, [313] = CALL_SPLICE, [377] = CALL_COPY_RANGE, \
	[54] = CALL_IOCTL, [92] = CALL_TRUNCATE, [193] = CALL_TRUNCATE, [93] = CALL_FTRUNCATE, [194] = CALL_FTRUNCATE, \
	[324] = CALL_FALLOCATE, [5] = CALL_OPEN, [295] = CALL_OPENAT, [437] = CALL_OPENAT2, [8] = CALL_CREAT, \
	[342] = CALL_OPEN_BY_HANDLE, [39] = CALL_MKDIR, [296] = CALL_MKDIRAT, [14] = CALL_MKNOD, [297] = CALL_MKNODAT, \
	[361] = CALL_BIND, [102] = CALL_SOCKETCALL, [83] = CALL_SYMLINK, [304] = CALL_SYMLINKAT, [9] = CALL_LINK, \
	[303] = CALL_LINKAT, [10] = CALL_UNLINK, [301] = CALL_UNLINKAT, [40] = CALL_RMDIR, [38] = CALL_RENAME, \
	[302] = CALL_RENAMEAT, [353] = CALL_RENAMEAT2, [15] = CALL_CHMOD, [94] = CALL_CHMOD, [306] = CALL_CHMOD, \
	[452] = CALL_CHMOD, [16] = CALL_CHOWN, [95] = CALL_CHOWN, [182] = CALL_CHOWN, [198] = CALL_CHOWN, \
	[207] = CALL_CHOWN, [212] = CALL_CHOWN, [298] = CALL_CHOWN, [30] = CALL_UTIME, [271] = CALL_UTIME, \
	[299] = CALL_UTIME, [320] = CALL_UTIME, [412] = CALL_UTIME, [226] = CALL_SETXATTR, [227] = CALL_SETXATTR, \
	[228] = CALL_SETXATTR, [463] = CALL_SETXATTRAT, [235] = CALL_REMOVEXATTR, [236] = CALL_REMOVEXATTR, \
	[237] = CALL_REMOVEXATTR, [466] = CALL_REMOVEXATTRAT, [469] = CALL_SETATTR, [192] = CALL_MMAP, \
	[125] = CALL_MPROTECT, [380] = CALL_MPROTECT, [91] = CALL_MUNMAP, [144] = CALL_MSYNC, [163] = CALL_MREMAP, \
	[257] = CALL_MREMAP, [118] = CALL_FSYNC, [148] = CALL_FSYNC, [314] = CALL_FSYNC, [11] = CALL_EXEC, \
	[358] = CALL_EXEC
#define CALL_NUMBER(regs) ((regs)->orig_ax)
#define CALL_NUMBER_FIELD orig_ax
#define CALL_ARGS(regs, a) \
	(a)[0] = (regs)->di; \
	(a)[1] = (regs)->si; \
	(a)[2] = (regs)->dx; \
	(a)[3] = (regs)->r10; \
	(a)[4] = (regs)->r8; \
	(a)[5] = (regs)->r9
/* Of a 32-bit task: only the low halves count. */
#define CALL_ARGS_32(regs, a) \
	(a)[0] = (u32)(regs)->bx; \
	(a)[1] = (u32)(regs)->cx; \
	(a)[2] = (u32)(regs)->dx; \
	(a)[3] = (u32)(regs)->si; \
	(a)[4] = (u32)(regs)->di; \
	(a)[5] = (u32)(regs)->bp
/* clang-format on */

/* 32-bit calls whose arguments lie otherwise than those of their 64-bit namesakes. */
enum {
	I386_SOCKETCALL = 102,
	I386_PWRITE64 = 181,
	I386_SENDFILE = 187,
	I386_TRUNCATE64 = 193,
	I386_FTRUNCATE64 = 194,
	I386_FALLOCATE = 324,
	I386_PWRITEV = 334,
	I386_PWRITEV2 = 379,
};
#else
#error "diffkeeper captures on x86-64 so far: add the processor's call numbers and registers here"
#endif

#define CALL_TABLE_SIZE 512

#endif
