/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sampler keeps of a file's pages: a hash of the last bytes that were told, and ranges of pages to read.
 */
#ifndef DIFFKEEPER_PAGES_H
#define DIFFKEEPER_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE_BYTES = 4096 };

struct page_hash {
	uint64_t words[2];
};

/* Hashes by page number, with open addressing; 40 bytes a page at most. */
struct page_table {
	struct page_slot *slots;
	size_t room; /* a power of two, or 0 */
	size_t used;
};

struct page_run {
	uint64_t first;
	uint64_t count;
};

/* Runs of pages, in any order until they are put in order. */
struct page_runs {
	struct page_run *runs;
	size_t count;
	size_t room;
};

struct page_hash hash_page(const unsigned char *bytes, size_t length);
/* Remember what a page held at a time; false if it was known to hold just that, or if something newer is known. */
bool page_table_set(struct page_table *table, uint64_t page, struct page_hash hash, uint64_t read_ns);
/* Forget pages [first, last] that were read no later than a time, and add them to `again`. */
void page_table_forget(
	struct page_table *table, uint64_t first, uint64_t last, uint64_t until_ns, struct page_runs *again);
void page_table_free(struct page_table *table);

bool page_runs_add(struct page_runs *runs, uint64_t first, uint64_t count);
/* Sort, and join what meets. */
void page_runs_settle(struct page_runs *runs);

#endif
