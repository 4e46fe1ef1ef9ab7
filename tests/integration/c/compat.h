// SPDX-License-Identifier: Apache-2.0
/* Calls as a 32-bit program makes them, from a 64-bit one: by int 0x80, with all memory below 4 GiB. */
#ifndef COMPAT_H
#define COMPAT_H

#include "must.h"
#include <sys/mman.h>
#include <sys/wait.h>

/* Numbers of arch/x86/entry/syscalls/syscall_32.tbl. */
enum {
	I_WRITE = 4,
	I_OPEN = 5,
	I_CLOSE = 6,
	I_CREAT = 8,
	I_LINK = 9,
	I_UNLINK = 10,
	I_MKNOD = 14,
	I_CHMOD = 15,
	I_LCHOWN = 16,
	I_GETPID = 20,
	I_UTIME = 30,
	I_RENAME = 38,
	I_MKDIR = 39,
	I_RMDIR = 40,
	I_IOCTL = 54,
	I_SYMLINK = 83,
	I_TRUNCATE = 92,
	I_FTRUNCATE = 93,
	I_FCHMOD = 94,
	I_FCHOWN = 95,
	I_SOCKETCALL = 102,
	I_WRITEV = 146,
	I_PWRITE64 = 181,
	I_CHOWN = 182,
	I_SENDFILE = 187,
	I_TRUNCATE64 = 193,
	I_FTRUNCATE64 = 194,
	I_LCHOWN32 = 198,
	I_FCHOWN32 = 207,
	I_CHOWN32 = 212,
	I_SETXATTR = 226,
	I_FSETXATTR = 228,
	I_REMOVEXATTR = 235,
	I_SENDFILE64 = 239,
	I_UTIMES = 271,
	I_OPENAT = 295,
	I_MKDIRAT = 296,
	I_MKNODAT = 297,
	I_FCHOWNAT = 298,
	I_FUTIMESAT = 299,
	I_UNLINKAT = 301,
	I_RENAMEAT = 302,
	I_LINKAT = 303,
	I_SYMLINKAT = 304,
	I_FCHMODAT = 306,
	I_SPLICE = 313,
	I_UTIMENSAT = 320,
	I_FALLOCATE = 324,
	I_PWRITEV = 334,
	I_RENAMEAT2 = 353,
	I_SOCKET = 359,
	I_BIND = 361,
	I_COPY_FILE_RANGE = 377,
	I_PWRITEV2 = 379,
	I_UTIMENSAT_TIME64 = 412,
	I_OPENAT2 = 437,
};

static char *low_at, *low_end;

/* Room below 4 GiB, never given back. */
static inline void *low(size_t size)
{
	size = (size + 15) & ~15ul;
	if (low_at + size > low_end || !low_at) {
		low_at = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		MUST(low_at == MAP_FAILED ? -1 : 0);
		low_end = low_at + (16 << 20);
	}
	low_at += size;
	return low_at - size;
}

static inline long low_copy(const void *bytes, size_t size)
{
	return (long)memcpy(low(size), bytes, size);
}

static inline long low_text(const char *text)
{
	return low_copy(text, strlen(text) + 1);
}

static inline long call32(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long sixth __asm__("r8") = f;

	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpush %%rbp\n\tmov %%r8, %%rbp\n\tint $0x80\n\tpop %%rbp\n\t"
			 "lea 128(%%rsp), %%rsp"
			 : "=a"(result), "+r"(sixth)
			 : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory", "cc", "r9", "r10", "r11");
	result = (int)result;
	if (result < 0 && result > -4096) {
		errno = -result;
		return -1;
	}
	return result;
}

#define CALL32_(number, a, b, c, d, e, f, ...) call32(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define CALL32(...) CALL32_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define MUST32(...) must_(CALL32(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)

/* Does this kernel take 32-bit calls? Where it does not, int 0x80 is a fault. */
static inline int has_compat(void)
{
	pid_t child = MUST(fork());
	int status;

	if (child == 0)
		_exit(CALL32(I_GETPID) == getpid() ? 0 : 1);
	MUST(waitpid(child, &status, 0));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#endif
