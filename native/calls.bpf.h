/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Calls in one form: arguments of 32-bit tasks are put where a 64-bit task has them, and numbers that stand for many
 * calls (ioctl, socketcall) become the one that is meant (docs/decisions/0017).
 */
#ifndef DIFFKEEPER_CALLS_BPF_H
#define DIFFKEEPER_CALLS_BPF_H

enum { SOCKETCALL_BIND = 2 };

/* loff_t stands in two registers, low half first, of little-endian tasks. */
static __always_inline u64 joined(u64 low, u64 high)
{
	return low | high << 32;
}

static __always_inline u32 bound_by_socketcall(u64 *a)
{
	u32 words[3] = {0};

	if (a[0] != SOCKETCALL_BIND || bpf_probe_read_user(words, sizeof(words), (void *)a[1]))
		return CALL_NONE;
	a[0] = words[0];
	a[1] = words[1];
	a[2] = words[2];
	return CALL_BIND;
}

/* Put a 32-bit task's arguments where the rest expects them. What they point to keeps its form: see is_compat. */
__noinline int widen(struct call_args *args, u32 number)
{
	u64 *a;

	if (!args)
		return 0;
	a = args->a;
	args->is_compat = 1;
	if (args->call == CALL_SOCKETCALL)
		args->call = bound_by_socketcall(a);
	switch (number) {
	case NR32_pwrite64:
		a[3] = joined(a[3 + LOFF_SKIPS], a[4 + LOFF_SKIPS]);
		break;
	case NR32_pwritev:
	case NR32_pwritev2:
		a[3] = joined(a[3], a[4]);
		break;
	case NR32_sendfile:
		args->has_short_offset = 1;
		break;
	case NR32_truncate64:
	case NR32_ftruncate64:
		a[1] = joined(a[1 + LOFF_SKIPS], a[2 + LOFF_SKIPS]);
		break;
	case NR32_fallocate:
		a[2] = joined(a[2], a[3]);
		a[3] = joined(a[4], a[5]);
		break;
	}
	return 0;
}

/*
 * The preallocations that XFS brought and every file system has: FS_IOC_RESVSP, UNRESVSP, RESVSP64, UNRESVSP64 and
 * ZERO_RANGE are 'X' 40 to 43 and 57, with a structure of 48 bytes, or of 44 from 32-bit programs.
 */
enum { RESERVE_64 = 0x40305800, RESERVE_32 = 0x402c5800, RESERVE_ZERO = 57 };

static __always_inline int is_reserve(u32 command)
{
	u32 number = command & 0xff, form = command & ~0xff;

	return (form == RESERVE_64 || form == RESERVE_32) && ((number >= 40 && number <= 43) || number == RESERVE_ZERO);
}

/* Which of the calls behind ioctl is it? FIDEDUPERANGE changes neither bytes nor times. */
static __always_inline u32 call_of_ioctl(u32 command)
{
	switch (command) {
	case FICLONE:
	case FICLONERANGE:
		return CALL_CLONE;
	case FS_IOC_SETFLAGS:
	case FS_IOC32_SETFLAGS:
	case FS_IOC_FSSETXATTR:
		return CALL_SETFLAGS;
	}
	return is_reserve(command) ? CALL_RESERVE : CALL_NONE;
}

/* Fill in the call and its arguments; false: it is none that changes files. */
static __always_inline u32 take_args(struct call_args *args, struct pt_regs *regs, u64 number, u32 is_compat)
{
	if (is_compat) {
		args->call = calls_32[number];
		CALL_ARGS_32(regs, args->a);
		widen(args, number);
	} else {
		args->call = calls[number];
		CALL_ARGS(regs, args->a);
	}
	if (args->call == CALL_IOCTL)
		args->call = call_of_ioctl(args->a[1]);
	return args->call;
}

#endif
