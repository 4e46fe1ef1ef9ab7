/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the recorder's side and a holder say to each other, on a SOCK_SEQPACKET pair of their own; both ends are this
 * library. Each message of files is answered by one byte a file, each other one by a byte.
 */
#ifndef DIFFKEEPER_LEASE_H
#define DIFFKEEPER_LEASE_H

#include <stdint.h>

enum { FILES_A_MESSAGE = 200, HOLDER_ROOTS = 64 }; /* SCM_MAX_FD is 253 */

enum holder_op {
	HOLD_ROOTS = 1, /* descriptors of the watch roots */
	HOLD_FILES,	/* descriptors of files, and a struct held_file of each */
	HOLD_SETTLED,	/* all files have been given; the answer is how many are mapped, and copied (u64) */
	HOLD_END,	/* the recording has ended: copy what has been removed, and end */
	HOLD_EARLY, /* copy what nobody waits for, the smallest first, and let go; the answer is how many so far (u64)
		     */
};

enum hold_answer {
	HOLD_LEASED = 0,
	HOLD_BUSY,    /* somebody has it open for writing */
	HOLD_REFUSED, /* no leases on this file system, or no right to take them */
	HOLD_CHANGED, /* not as it was indexed */
	HOLD_FULL,    /* this holder has no room for it */
};

struct held_file {
	uint64_t index; /* of the baseline's entry */
	uint64_t size;
	int64_t mtime_ns;
	uint64_t nlink;
};

struct hold_message {
	uint32_t op;
	uint32_t count;
	union {
		struct held_file files[FILES_A_MESSAGE];
		struct {
			uint64_t bytes;
			uint64_t patience_ns; /* until the answer; it goes on after that */
		} early;
	};
};

/* Shared with the helper, which looks at it from outside. */
struct holder_page {
	uint64_t beat_ns; /* CLOCK_MONOTONIC */
	uint64_t held;	  /* leases */
	uint64_t broken;  /* leases that somebody broke */
	uint64_t copied;
	uint64_t copied_bytes;
	uint64_t let_go;     /* without an image */
	uint64_t longest_ns; /* that somebody waited, as far as is known */
};

#endif
