/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of plain writes (rows.c) and runs of them (runs.c), for processing/plain_rows.py: what the journal holds, in the
 * order of time, as columns of events. Nothing here keeps anything between two calls; all memory is the caller's.
 */
#ifndef DIFFKEEPER_ROWS_H
#define DIFFKEEPER_ROWS_H

#include "events.h"

#include <stdbool.h>
#include <stdint.h>

struct row { /* a plain write; `at` is the address of its record */
	uint64_t t_ns, sequence, at;
};

static inline const struct dk_data *record_of(const struct row *row)
{
	return (const struct dk_data *)(uintptr_t)row->at;
}

static inline uint64_t file_of(const struct dk_inode *inode)
{
	return (uint64_t)inode->generation << 32 | inode->dev;
}

/* Numbers from 0 for what is equal, in the order of first appearance. */
struct numbering {
	uint32_t *slots; /* number + 1 */
	uint64_t mask;
};

/* Makes room for `count` different things; slots are the caller's to free. */
bool numbering_begin(struct numbering *numbering, uint64_t count);
uint64_t hash_of(uint64_t a, uint64_t b, uint64_t c);
/* Puts the numbers of `count` things, of which number_of tells, in an order where equal ones follow each other. */
bool group_up(const uint32_t *number_of, uint64_t count, uint64_t numbers, uint64_t *firsts, uint64_t *order);

#endif
