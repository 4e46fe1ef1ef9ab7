/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The system calls that change files: one table of their numbers on each processor, and how it passes arguments.
 */
#ifndef DIFFKEEPER_CALLS_H
#define DIFFKEEPER_CALLS_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "diffkeeper captures on little-endian processors: the records that the kernel half makes are read as such"
#endif

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
	CALL_SUBMIT,
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
	/* What is seen at a path. */
	CALL_MOUNT,
	CALL_MOVE_MOUNT,
	CALL_UMOUNT,
	CALL_LAST_MOUNT = CALL_UMOUNT,
	/* What the number alone does not tell: specify() makes one of the above of it, or none. */
	CALL_IOCTL,
	CALL_SOCKETCALL,
};

/* clang-format off: a table */
/*
 * Name, what it is, and its number on x86-64, i386, arm64 and 32-bit ARM (EABI); 0 where that processor has no such
 * call. From arch/x86/entry/syscalls/syscall_{64,32}.tbl, include/uapi/asm-generic/unistd.h and
 * arch/arm/tools/syscall.tbl; tests/unit/test_calls.py holds it against the C compiler's copy of the kernel's headers.
 * The 32-bit numbers are those of whoever comes by int 0x80 or sysenter, 64-bit programs too, and of AArch32 programs.
 */
#define CALL_TABLE(ROW) \
	ROW(write, CALL_WRITE, 1, 4, 64, 4) \
	ROW(pwrite64, CALL_PWRITE, 18, 181, 68, 181) \
	ROW(writev, CALL_WRITEV, 20, 146, 66, 146) \
	ROW(pwritev, CALL_PWRITEV, 296, 334, 70, 362) \
	ROW(pwritev2, CALL_PWRITEV2, 328, 379, 287, 393) \
	ROW(close, CALL_CLOSE, 3, 6, 57, 6) \
	ROW(mmap, CALL_MMAP, 9, 0, 222, 0) \
	ROW(mmap2, CALL_MMAP, 0, 192, 0, 192) \
	ROW(mprotect, CALL_MPROTECT, 10, 125, 226, 125) \
	ROW(pkey_mprotect, CALL_MPROTECT, 329, 380, 288, 394) \
	ROW(munmap, CALL_MUNMAP, 11, 91, 215, 91) \
	ROW(msync, CALL_MSYNC, 26, 144, 227, 144) \
	ROW(mremap, CALL_MREMAP, 25, 163, 216, 163) \
	ROW(remap_file_pages, CALL_MREMAP, 216, 257, 234, 253) \
	ROW(fsync, CALL_FSYNC, 74, 118, 82, 118) \
	ROW(fdatasync, CALL_FSYNC, 75, 148, 83, 148) \
	ROW(sync_file_range, CALL_FSYNC, 277, 314, 84, 0) \
	ROW(sync_file_range2, CALL_FSYNC, 0, 0, 0, 341) \
	ROW(execve, CALL_EXEC, 59, 11, 221, 11) \
	ROW(execveat, CALL_EXEC, 322, 358, 281, 387) \
	ROW(io_submit, CALL_SUBMIT, 209, 248, 2, 246) \
	ROW(sendfile, CALL_SENDFILE, 40, 187, 71, 187) \
	ROW(sendfile64, CALL_SENDFILE, 0, 239, 0, 239) \
	ROW(splice, CALL_SPLICE, 275, 313, 76, 340) \
	ROW(copy_file_range, CALL_COPY_RANGE, 326, 377, 285, 391) \
	ROW(truncate, CALL_TRUNCATE, 76, 92, 45, 92) \
	ROW(truncate64, CALL_TRUNCATE, 0, 193, 0, 193) \
	ROW(ftruncate, CALL_FTRUNCATE, 77, 93, 46, 93) \
	ROW(ftruncate64, CALL_FTRUNCATE, 0, 194, 0, 194) \
	ROW(fallocate, CALL_FALLOCATE, 285, 324, 47, 352) \
	ROW(open, CALL_OPEN, 2, 5, 0, 5) \
	ROW(openat, CALL_OPENAT, 257, 295, 56, 322) \
	ROW(openat2, CALL_OPENAT2, 437, 437, 437, 437) \
	ROW(creat, CALL_CREAT, 85, 8, 0, 8) \
	ROW(open_by_handle_at, CALL_OPEN_BY_HANDLE, 304, 342, 265, 371) \
	ROW(mkdir, CALL_MKDIR, 83, 39, 0, 39) \
	ROW(mkdirat, CALL_MKDIRAT, 258, 296, 34, 323) \
	ROW(mknod, CALL_MKNOD, 133, 14, 0, 14) \
	ROW(mknodat, CALL_MKNODAT, 259, 297, 33, 324) \
	ROW(bind, CALL_BIND, 49, 361, 200, 282) \
	ROW(symlink, CALL_SYMLINK, 88, 83, 0, 83) \
	ROW(symlinkat, CALL_SYMLINKAT, 266, 304, 36, 331) \
	ROW(link, CALL_LINK, 86, 9, 0, 9) \
	ROW(linkat, CALL_LINKAT, 265, 303, 37, 330) \
	ROW(unlink, CALL_UNLINK, 87, 10, 0, 10) \
	ROW(unlinkat, CALL_UNLINKAT, 263, 301, 35, 328) \
	ROW(rmdir, CALL_RMDIR, 84, 40, 0, 40) \
	ROW(rename, CALL_RENAME, 82, 38, 0, 38) \
	ROW(renameat, CALL_RENAMEAT, 264, 302, 38, 329) \
	ROW(renameat2, CALL_RENAMEAT2, 316, 353, 276, 382) \
	ROW(chmod, CALL_CHMOD, 90, 15, 0, 15) \
	ROW(fchmod, CALL_CHMOD, 91, 94, 52, 94) \
	ROW(fchmodat, CALL_CHMOD, 268, 306, 53, 333) \
	ROW(fchmodat2, CALL_CHMOD, 452, 452, 452, 452) \
	ROW(chown, CALL_CHOWN, 92, 182, 0, 182) \
	ROW(fchown, CALL_CHOWN, 93, 95, 55, 95) \
	ROW(lchown, CALL_CHOWN, 94, 16, 0, 16) \
	ROW(fchownat, CALL_CHOWN, 260, 298, 54, 325) \
	ROW(lchown32, CALL_CHOWN, 0, 198, 0, 198) \
	ROW(fchown32, CALL_CHOWN, 0, 207, 0, 207) \
	ROW(chown32, CALL_CHOWN, 0, 212, 0, 212) \
	ROW(utime, CALL_UTIME, 132, 30, 0, 0) \
	ROW(utimes, CALL_UTIME, 235, 271, 0, 269) \
	ROW(futimesat, CALL_UTIME, 261, 299, 0, 326) \
	ROW(utimensat, CALL_UTIME, 280, 320, 88, 348) \
	ROW(utimensat_time64, CALL_UTIME, 0, 412, 0, 412) \
	ROW(setxattr, CALL_SETXATTR, 188, 226, 5, 226) \
	ROW(lsetxattr, CALL_SETXATTR, 189, 227, 6, 227) \
	ROW(fsetxattr, CALL_SETXATTR, 190, 228, 7, 228) \
	ROW(setxattrat, CALL_SETXATTRAT, 463, 463, 463, 463) \
	ROW(removexattr, CALL_REMOVEXATTR, 197, 235, 14, 235) \
	ROW(lremovexattr, CALL_REMOVEXATTR, 198, 236, 15, 236) \
	ROW(fremovexattr, CALL_REMOVEXATTR, 199, 237, 16, 237) \
	ROW(removexattrat, CALL_REMOVEXATTRAT, 466, 466, 466, 466) \
	ROW(file_setattr, CALL_SETATTR, 469, 469, 469, 469) \
	ROW(mount, CALL_MOUNT, 165, 21, 40, 21) \
	ROW(move_mount, CALL_MOVE_MOUNT, 429, 429, 429, 429) \
	ROW(umount2, CALL_UMOUNT, 166, 52, 39, 52) \
	ROW(ioctl, CALL_IOCTL, 16, 54, 29, 54) \
	ROW(socketcall, CALL_SOCKETCALL, 0, 102, 0, 0)
/* clang-format on */

/* clang-format off: registers in the order of the arguments */
#if defined(DK_ARCH_X86_64)
#define NUMBER_64(name, call, x86_64, i386, arm64, arm) [x86_64] = x86_64 ? call : CALL_NONE,
#define NUMBER_32(name, call, x86_64, i386, arm64, arm) [i386] = i386 ? call : CALL_NONE,
#define NAME_32(name, call, x86_64, i386, arm64, arm) NR32_##name = i386,

struct pt_regs {
	unsigned long bp, bx, r10, r9, r8, ax, cx, dx, si, di, orig_ax;
} __attribute__((preserve_access_index));

#define CALL_NUMBER(regs) ((regs)->orig_ax)
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
#define IS_32_BIT(task, regs) ((task)->thread_info.status & TS_COMPAT)
/* A loff_t of a 32-bit call lies in the next two registers, whichever they are. */
#define LOFF_SKIPS 0

#elif defined(DK_ARCH_ARM64)
#define NUMBER_64(name, call, x86_64, i386, arm64, arm) [arm64] = arm64 ? call : CALL_NONE,
#define NUMBER_32(name, call, x86_64, i386, arm64, arm) [arm] = arm ? call : CALL_NONE,
#define NAME_32(name, call, x86_64, i386, arm64, arm) NR32_##name = arm,

struct pt_regs {
	u64 regs[31];
	u64 pstate;
	u64 orig_x0;
	s32 syscallno;
} __attribute__((preserve_access_index));

/* x0 holds the result at the exit, and r7 of a 32-bit task is not the number of one that goes on after a signal. */
#define CALL_NUMBER(regs) ((u32)(regs)->syscallno)
#define CALL_ARGS(regs, a) \
	(a)[0] = (regs)->orig_x0; \
	(a)[1] = (regs)->regs[1]; \
	(a)[2] = (regs)->regs[2]; \
	(a)[3] = (regs)->regs[3]; \
	(a)[4] = (regs)->regs[4]; \
	(a)[5] = (regs)->regs[5]
#define CALL_ARGS_32(regs, a) \
	(a)[0] = (u32)(regs)->orig_x0; \
	(a)[1] = (u32)(regs)->regs[1]; \
	(a)[2] = (u32)(regs)->regs[2]; \
	(a)[3] = (u32)(regs)->regs[3]; \
	(a)[4] = (u32)(regs)->regs[4]; \
	(a)[5] = (u32)(regs)->regs[5]
/* PSR_MODE32_BIT, which the processor defines; the kernel's own flag of a task has changed its place. */
#define IS_32_BIT(task, regs) ((regs)->pstate & 0x10)
/* A loff_t of a 32-bit call begins in a register of even number (the EABI): after three arguments one is left out. */
#define LOFF_SKIPS 1
#else
#error "diffkeeper captures on x86-64 and arm64: a further processor needs its columns and registers here"
#endif
/* clang-format on */

enum call_name_32 { CALL_TABLE(NAME_32) };

#define CALL_NUMBERS CALL_TABLE(NUMBER_64)
#define CALL_NUMBERS_32 CALL_TABLE(NUMBER_32)
#define CALL_TABLE_SIZE 512

#endif
