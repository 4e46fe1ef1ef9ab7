/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A holder, as its two parts share it: holder.c is the process and what it is asked, lease.c what becomes of leases.
 */
#ifndef DIFFKEEPER_HOLDER_H
#define DIFFKEEPER_HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "images.h"
#include "lease.h"

#define SECOND 1000000000ull
enum { BREAK_SIGNAL = 36, UNSEALED = 256 };

enum held_state { FREE, HELD, BREAKING };

struct held {
	struct held_file file;
	bool is_stacked; /* on overlayfs: the link count is not that of the names seen here */
	uint64_t broken_ns;
	enum held_state state;
};

struct holder {
	int socket, signals;
	struct images images;
	struct holder_page *page;
	struct held *held; /* by descriptor */
	int room, highest;
	uint32_t most; /* leases; 0: as many as there is room for */
	int breaking;  /* how many are */
	int roots[HOLDER_ROOTS];
	int root_count;
	int *early; /* descriptors in the order in which they are copied though nobody waits */
	int early_count, early_next;
	uint64_t early_bytes; /* that may still be copied so */
	struct copy unsealed[UNSEALED];
	int unsealed_count;
	uint64_t next_sweep_ns;
	bool is_ending, is_orphaned;
};

void beat(struct holder *holder);
enum hold_answer lease(struct holder *holder, int fd, const struct held_file *file);
/* Let go of a lease; false if it was no longer there, so that somebody may have come through. */
bool release(int fd);
/* Close a descriptor that was leased. */
void forget(struct holder *holder, int fd);
/* Copy what somebody is about to change; returns when nobody waits. */
void serve_breaks(struct holder *holder);
/* Copy a file that nobody waits for, until a time if one is given, and close it. */
void copy_now(struct holder *holder, int fd, uint64_t deadline);
/* Order what is held by size, to be copied before anybody waits, as far as so many bytes go. */
void plan_early(struct holder *holder, uint64_t bytes);
/* Copy the next of these, and let go of it; false if there is none, or no room for it. */
bool copy_next_early(struct holder *holder);
/* Copy what has lost a name or, at the end, lies outside of the roots; until a time, if one is given. */
void sweep(struct holder *holder, uint64_t deadline);
/* Seal one of the images that are copied, or all clones. */
void seal_some(struct holder *holder);

#endif
