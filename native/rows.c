// SPDX-License-Identifier: Apache-2.0
/*
 * The plain writes of a batch, told from its other records, summed up and put in the order of time.
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#define SANE (1ull << 62) /* times and places below it can be added and taken from each other */
#define STREAK 8	  /* writes that follow each other in a batch are likely to be a run */
#define SANE_SECONDS (1ll << 33)

struct group {		    /* plain writes of a batch that ended within the same moment, to the same file */
	uint64_t ino, file; /* generation << 32 | dev */
	uint64_t moment, begin, end, enter_ns, exit_ns, locked_ns, first, count;
};

/* A write that needs no word about it but its record: see model/plain.py. */
static bool is_plain(const struct dk_header *header)
{
	const unsigned allowed = DK_F_OUTSIDER | DK_F_IN_LOCK | DK_F_APPEND | DK_F_DIRECT | DK_F_UNCERTAIN;
	const struct dk_data *data = (const void *)header;

	if (header->op != DK_OP_WRITE || header->flags & ~allowed || !(header->flags & DK_F_IN_LOCK))
		return false;
	if (header->size < sizeof(*data) || data->payload > header->size - sizeof(*data))
		return false;
	if (data->slack || !data->length || data->payload != data->length || data->offset >= SANE)
		return false;
	if (!header->enter_ns || header->enter_ns >= SANE || header->exit_ns >= SANE || header->t_ns >= SANE)
		return false;
	return data->inode.mode && data->inode.mtime_sec < SANE_SECONDS && data->inode.mtime_sec > -SANE_SECONDS;
}

/* Whether a record is of a task, whose call has ended by its exit_ns (model/late.py). */
static bool ends_a_call(const struct dk_header *header)
{
	switch (header->type) {
	case DK_PIECE:
	case DK_LATE:
	case DK_ENTRY:
	case DK_LOST:
	case DK_ASYNC:
	case DK_DIRECTORY:
		return false;
	case DK_MAPPED:
		return header->op && !(header->flags & DK_F_MAPPED); /* 0: a sample */
	case DK_HOLE:
		return header->op != DK_OP_REREAD && header->op != DK_OP_SETTLED && !(header->flags & DK_F_MAPPED);
	default:
		return !(header->flags & DK_F_MAPPED);
	}
}

static bool asks_when_its_call_began(const struct dk_header *header)
{
	switch (header->type) {
	case DK_DATA:
	case DK_COPY:
	case DK_SIZE:
	case DK_OPEN:
	case DK_HOLE:
		return !header->enter_ns;
	default:
		return !header->enter_ns && header->flags & DK_F_BY_REFERENCE;
	}
}

struct ends {
	uint64_t *tids, *exits, room, count, last;
};

static bool note_end(struct ends *ends, const struct dk_header *header)
{
	uint64_t i = ends->last;

	if (i >= ends->count || ends->tids[i] != header->tid) {
		for (i = 0; i < ends->count && ends->tids[i] != header->tid; i++)
			;
		if (i == ends->room)
			return false;
	}
	ends->count += i == ends->count;
	ends->tids[i] = header->tid;
	ends->exits[i] = header->exit_ns;
	ends->last = i;
	return true;
}

/*
 * Take a batch apart: plain writes as rows, the places of all other records; and when the last call of each of its
 * tasks ended. found: rows, others, tasks, newest time of a row. Returns -1 where the batch must be decoded record by
 * record.
 */
int dk_rows_scan(const char *payload, uint64_t length, struct row *rows, uint64_t *others, uint64_t *tids,
	uint64_t *exits, uint64_t task_room, uint64_t *found)
{
	struct ends ends = {.tids = tids, .exits = exits, .room = task_room};
	uint64_t row_count = 0, other_count = 0, newest = 0, streak = 0, in_streaks = 0;

	for (uint64_t at = 0; at < length;) {
		const struct dk_header *header = (const void *)(payload + at);

		if (length - at < sizeof(struct dk_piece) || header->size < sizeof(struct dk_piece) ||
			header->size % 8 || header->size > length - at)
			return -1;
		if (header->type != DK_PIECE && header->size < sizeof(*header))
			return -1;
		if (header->type == DK_DATA && is_plain(header)) {
			rows[row_count++] = (struct row){header->t_ns, header->sequence, (uintptr_t)header};
			newest = header->t_ns > newest ? header->t_ns : newest;
			in_streaks += ++streak == STREAK ? STREAK : streak > STREAK;
		} else {
			others[other_count++] = at;
			streak = 0;
			if (header->type != DK_PIECE && asks_when_its_call_began(header))
				return -1;
		}
		if (ends_a_call(header) && !note_end(&ends, header))
			return -1;
		at += header->size;
	}
	memcpy(found, (uint64_t[]){row_count, other_count, ends.count, newest, in_streaks}, 5 * sizeof(*found));
	return 0;
}

uint64_t hash_of(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t mixed = (a * 0x9E3779B97F4A7C15ull ^ b) * 0xC2B2AE3D27D4EB4Full ^ c;

	return (mixed ^ mixed >> 29) * 0x165667B19E3779F9ull >> 20;
}

bool numbering_begin(struct numbering *numbering, uint64_t count)
{
	uint64_t size = 16;

	while (size < 2 * count)
		size *= 2;
	numbering->slots = calloc(size, sizeof(*numbering->slots));
	numbering->mask = size - 1;
	return numbering->slots;
}

bool group_up(const uint32_t *number_of, uint64_t count, uint64_t numbers, uint64_t *firsts, uint64_t *order)
{
	uint64_t *at = calloc(numbers + 1, sizeof(*at));

	if (!at)
		return false;
	for (uint64_t i = 0; i < count; i++)
		at[number_of[i] + 1]++;
	for (uint64_t i = 0; i < numbers; i++) {
		at[i + 1] += at[i];
		firsts[i] = at[i];
	}
	for (uint64_t i = 0; i < count; i++)
		order[at[number_of[i]]++] = i;
	free(at);
	return true;
}

static void widen(struct group *group, const struct dk_data *data, bool is_new)
{
	uint64_t begin = data->offset, end = begin + data->length;
	const struct dk_header *header = &data->header;

	if (is_new || begin < group->begin)
		group->begin = begin;
	if (is_new || end > group->end)
		group->end = end;
	if (is_new || header->enter_ns < group->enter_ns)
		group->enter_ns = header->enter_ns;
	if (is_new || header->exit_ns > group->exit_ns)
		group->exit_ns = header->exit_ns;
	if (is_new || header->t_ns > group->locked_ns)
		group->locked_ns = header->t_ns;
	group->count++;
}

static uint32_t group_of(
	struct numbering *numbering, struct group *groups, uint64_t *count, const struct dk_data *data, uint64_t moment)
{
	uint64_t ino = data->inode.ino, file = file_of(&data->inode), slot = hash_of(ino, file, moment);

	for (;; slot++) {
		uint32_t *number = &numbering->slots[slot & numbering->mask];
		struct group *group = &groups[*number - 1];

		if (!*number) {
			*number = ++*count;
			groups[*number - 1] = (struct group){.ino = ino, .file = file, .moment = moment};
			return *number - 1;
		}
		if (group->ino == ino && group->file == file && group->moment == moment)
			return *number - 1;
	}
}

/*
 * Sum up rows by file and by the moment (exit_ns >> shift) in which they ended; `order` gets their addresses, group by
 * group. Room for as many groups as rows is the caller's. Returns the number of groups, -1 for want of memory.
 */
int64_t dk_rows_changes(const struct row *rows, uint64_t count, unsigned shift, struct group *groups, uint64_t *order)
{
	struct numbering numbering;
	uint32_t *number_of = calloc(count + 1, sizeof(*number_of));
	uint64_t *firsts = malloc((count + 1) * sizeof(*firsts)), found = 0;
	int64_t result = -1;

	if (!numbering_begin(&numbering, count) || !number_of || !firsts)
		goto out;
	for (uint64_t i = 0; i < count; i++) {
		const struct dk_data *data = record_of(&rows[i]);
		uint64_t before = found;

		number_of[i] = group_of(&numbering, groups, &found, data, data->header.exit_ns >> shift);
		widen(&groups[number_of[i]], data, found > before);
	}
	if (!group_up(number_of, count, found, firsts, order))
		goto out;
	for (uint64_t i = 0; i < count; i++)
		order[i] = rows[order[i]].at;
	for (uint64_t i = 0; i < found; i++)
		groups[i].first = firsts[i];
	result = found;
out:
	free(numbering.slots);
	free(number_of);
	free(firsts);
	return result;
}

static int by_time(const void *a, const void *b)
{
	const struct row *one = a, *other = b;

	if (one->t_ns != other->t_ns)
		return one->t_ns < other->t_ns ? -1 : 1;
	return one->sequence < other->sequence ? -1 : one->sequence > other->sequence;
}

/* The number of rows that come before a time and a sequence. */
static uint64_t rows_before(const struct row *rows, uint64_t count, uint64_t t_ns, uint64_t sequence)
{
	const struct row key = {.t_ns = t_ns, .sequence = sequence};
	uint64_t low = 0;

	while (low < count) {
		uint64_t middle = low + (count - low) / 2;

		if (by_time(&rows[middle], &key) < 0)
			low = middle + 1;
		else
			count = middle;
	}
	return low;
}

/* Put rows in the order of time, of which the first `sorted` are. They are nearly in order as they come. */
void dk_rows_sort(struct row *rows, uint64_t sorted, uint64_t count)
{
	uint64_t least = sorted, begin;
	bool is_sorted = true;

	for (uint64_t i = sorted; i < count; i++) {
		if (by_time(&rows[i], &rows[least]) < 0)
			least = i;
		is_sorted = is_sorted && (!i || by_time(&rows[i - 1], &rows[i]) <= 0);
	}
	if (is_sorted)
		return;
	begin = rows_before(rows, sorted, rows[least].t_ns, rows[least].sequence);
	qsort(rows + begin, count - begin, sizeof(*rows), by_time);
}

/* For each key, (time, sequence) in order, how many rows come before it. */
void dk_rows_positions(const struct row *rows, uint64_t count, const uint64_t *keys, uint64_t key_count, uint64_t *out)
{
	for (uint64_t i = 0, at = 0; i < key_count; i++)
		out[i] = at += rows_before(rows + at, count - at, keys[2 * i], keys[2 * i + 1]);
}
