/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs keep: settings that are written before load, maps, counters.
 */
#ifndef DIFFKEEPER_STATE_BPF_H
#define DIFFKEEPER_STATE_BPF_H

/* Settings, written before load. */

/* What a processor lacks is number 0 in the table, and CALL_NONE each time. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Winitializer-overrides"
const volatile u8 calls[CALL_TABLE_SIZE] = {CALL_NUMBERS};
const volatile u8 calls_32[CALL_TABLE_SIZE] = {CALL_NUMBERS_32};
#pragma clang diagnostic pop
const volatile struct dk_settings settings SEC(".rodata.settings") = {.ring_bytes = 1 << 26, .has_touch_hooks = 1};

enum { OUTSIDE = 0, INSIDE = 1, UNKNOWN = 2 };

struct scratch {
	u8 bytes[24576];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 26);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dk_task);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct dk_place);
	__type(value, u32);
} places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct dk_verdict_key);
	__type(value, struct dk_verdict);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DK_LOSSES_MAX);
	__type(key, struct dk_loss_key);
	__type(value, struct dk_loss);
} losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SHARED_PROGRAMS);
	__type(key, u32);
	__type(value, u32);
} shared_programs SEC(".maps");

/* State of the piece loop: in a map, so that the verifier need not follow its values from turn to turn. */
struct pieces {
	u64 buffer;    /* where the current segment stands */
	u64 left;      /* of the current segment */
	u64 iov;       /* the next struct iovec, 0 for a plain buffer */
	u64 is_compat; /* of 32-bit pointers and lengths */
	u64 total;     /* bytes still to send */
	u64 start;     /* of the next piece, relative to the write */
	u64 sequence;  /* of the record they belong to */
	u64 skip;      /* of the next segment */
	u32 failed;
	u32 is_kernel; /* buffer is the kernel's: the page cache */
	u32 vector;    /* what iov points to: enum vector_kind */
	u32 zero;
};

enum vector_kind { USER_VECTOR = 0, KERNEL_VECTOR = 1, PAGE_VECTOR = 2 };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct pieces);
} piece_loops SEC(".maps");

struct dk_described described SEC(".data.described") = {0};

struct dk_counters counters SEC(".data.counters") = {0};

#endif
