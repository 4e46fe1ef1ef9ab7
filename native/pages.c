// SPDX-License-Identifier: Apache-2.0
/*
 * Hashes of pages, and runs of pages.
 */
#include "pages.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 64 };

struct page_slot {
	uint64_t key; /* page + 1; 0: empty */
	struct page_hash hash;
	uint64_t read_ns; /* 0: forgotten */
};

static uint64_t rotate(uint64_t value, int bits)
{
	return value << bits | value >> (64 - bits);
}

/*
 * Four lanes of 64 bits, each a chain of bijections of the words that it is given, so that pages which differ in one
 * word never have one hash; folded to 128 bits. Not for those who would make two pages with one hash on purpose: the
 * verification at the end compares bytes.
 */
struct page_hash hash_page(const unsigned char *bytes, size_t length)
{
	uint64_t lanes[4] = {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0xd6e8feb86659fd93};
	size_t at = 0;

	for (; at + 32 <= length; at += 32)
		for (int i = 0; i < 4; i++) {
			uint64_t word;

			memcpy(&word, bytes + at + 8 * i, 8);
			lanes[i] = rotate((lanes[i] ^ word) * 0x9fb21c651e98df25, 29);
		}
	for (; at < length; at++)
		lanes[at & 3] = rotate((lanes[at & 3] ^ bytes[at]) * 0x9fb21c651e98df25, 29);
	lanes[0] ^= length;
	return (struct page_hash){{
		(lanes[0] ^ rotate(lanes[1], 31) * 0xff51afd7ed558ccd) + rotate(lanes[2], 17),
		(lanes[2] ^ rotate(lanes[3], 31) * 0xc4ceb9fe1a85ec53) + rotate(lanes[1], 43) + lanes[0],
	}};
}

static struct page_slot *find(struct page_table *table, uint64_t key)
{
	size_t at = (key * 0x9e3779b97f4a7c15 >> 20) & (table->room - 1);

	while (table->slots[at].key && table->slots[at].key != key)
		at = (at + 1) & (table->room - 1);
	return &table->slots[at];
}

static bool grow(struct page_table *table)
{
	struct page_table grown = {.room = table->room ? table->room * 2 : FIRST_ROOM};

	grown.slots = calloc(grown.room, sizeof(*grown.slots));
	if (!grown.slots)
		return false;
	for (size_t i = 0; i < table->room; i++)
		if (table->slots[i].key && table->slots[i].read_ns) {
			*find(&grown, table->slots[i].key) = table->slots[i];
			grown.used++;
		}
	free(table->slots);
	*table = grown;
	return true;
}

bool page_table_set(struct page_table *table, uint64_t page, struct page_hash hash, uint64_t read_ns)
{
	struct page_slot *slot;

	if (table->used * 4 >= table->room * 3 && !grow(table))
		return true; /* without memory every page is told each time */
	slot = find(table, page + 1);
	if (slot->key && slot->read_ns && !memcmp(&slot->hash, &hash, sizeof(hash))) {
		if (slot->read_ns > read_ns)
			return true; /* it was so before it was told */
		slot->read_ns = read_ns;
		return false;
	}
	if (slot->key && slot->read_ns > read_ns)
		return true;
	table->used += !slot->key;
	*slot = (struct page_slot){.key = page + 1, .hash = hash, .read_ns = read_ns};
	return true;
}

static void forget(struct page_slot *slot, uint64_t until_ns, struct page_runs *again)
{
	if (!slot->key || !slot->read_ns || slot->read_ns > until_ns)
		return;
	slot->read_ns = 0;
	page_runs_add(again, slot->key - 1, 1);
}

void page_table_forget(
	struct page_table *table, uint64_t first, uint64_t last, uint64_t until_ns, struct page_runs *again)
{
	if (!table->room)
		return;
	if (last - first < table->room) {
		for (uint64_t page = first; page <= last; page++)
			forget(find(table, page + 1), until_ns, again);
		return;
	}
	for (size_t i = 0; i < table->room; i++)
		if (table->slots[i].key > first && table->slots[i].key - 1 <= last)
			forget(&table->slots[i], until_ns, again);
}

void page_table_free(struct page_table *table)
{
	free(table->slots);
	*table = (struct page_table){0};
}

bool page_runs_add(struct page_runs *runs, uint64_t first, uint64_t count)
{
	struct page_run *last = runs->count ? &runs->runs[runs->count - 1] : NULL;

	if (last && last->first + last->count == first) {
		last->count += count;
		return true;
	}
	if (runs->count == runs->room) {
		size_t room = runs->room ? runs->room * 2 : FIRST_ROOM;
		struct page_run *grown = realloc(runs->runs, room * sizeof(*grown));

		if (!grown)
			return false;
		runs->runs = grown;
		runs->room = room;
	}
	runs->runs[runs->count++] = (struct page_run){first, count};
	return true;
}

static int in_order(const void *left, const void *right)
{
	uint64_t a = ((const struct page_run *)left)->first, b = ((const struct page_run *)right)->first;

	return a < b ? -1 : a > b;
}

void page_runs_settle(struct page_runs *runs)
{
	size_t kept = 0;

	if (!runs->count)
		return;
	qsort(runs->runs, runs->count, sizeof(*runs->runs), in_order);
	for (size_t i = 1; i < runs->count; i++) {
		struct page_run *last = &runs->runs[kept], *next = &runs->runs[i];
		uint64_t end = next->first + next->count;

		if (next->first > last->first + last->count)
			runs->runs[++kept] = *next;
		else if (end > last->first + last->count)
			last->count = end - last->first;
	}
	runs->count = kept + 1;
}
