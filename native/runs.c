// SPDX-License-Identifier: Apache-2.0
/*
 * A run of plain writes, in the order of time: its files and its writers, its bytes, its events in columns.
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

struct run_file { /* a file that a run writes to, as its last write there found it */
	uint64_t ino, file;
	uint64_t count, bytes, first;
	int64_t mode, uid, gid, mtime_ns, nlink, rdev;
};

struct run_writer {
	uint64_t pid, is_outsider, t_ns, count;
};

struct target { /* what is known of a file of a run; moved along as its writes are put in columns */
	int64_t node, blob, path, size, start;
};

static int64_t mtime_of(const struct dk_inode *inode)
{
	return inode->mtime_sec * 1000000000 + inode->mtime_nsec;
}

static uint32_t run_file_of(
	struct numbering *numbering, struct run_file *files, uint64_t *count, const struct dk_inode *inode)
{
	uint64_t file = file_of(inode), slot = hash_of(inode->ino, file, 0);

	for (;; slot++) {
		uint32_t *number = &numbering->slots[slot & numbering->mask];

		if (!*number) {
			*number = ++*count;
			files[*number - 1] = (struct run_file){.ino = inode->ino, .file = file};
			return *number - 1;
		}
		if (files[*number - 1].ino == inode->ino && files[*number - 1].file == file)
			return *number - 1;
	}
}

static uint32_t run_writer_of(
	struct numbering *numbering, struct run_writer *writers, uint64_t *count, const struct dk_header *header)
{
	uint64_t is_outsider = header->flags & DK_F_OUTSIDER, slot = hash_of(header->pid, is_outsider, 0);

	for (;; slot++) {
		uint32_t *number = &numbering->slots[slot & numbering->mask];

		if (!*number) {
			*number = ++*count;
			writers[*number - 1] = (struct run_writer){header->pid, is_outsider, header->t_ns, 0};
			return *number - 1;
		}
		if (writers[*number - 1].pid == header->pid && writers[*number - 1].is_outsider == is_outsider)
			return *number - 1;
	}
}

/* The files and the writers of a run in order of appearance; `order` has the rows of each file together. */
int dk_run_begin(const struct row *rows, uint64_t count, uint32_t *files_of, struct run_file *files, uint64_t *order,
	uint32_t *writers_of, struct run_writer *writers, uint64_t *found)
{
	struct numbering by_file = {0}, by_writer = {0};
	uint64_t *firsts = malloc((count + 1) * sizeof(*firsts)), file_count = 0, writer_count = 0;
	int result = -1;

	if (!firsts || !numbering_begin(&by_file, count) || !numbering_begin(&by_writer, count))
		goto out;
	for (uint64_t i = 0; i < count; i++) {
		const struct dk_data *data = record_of(&rows[i]);
		const struct dk_inode *inode = &data->inode;
		struct run_file *file;

		files_of[i] = run_file_of(&by_file, files, &file_count, inode);
		writers_of[i] = run_writer_of(&by_writer, writers, &writer_count, &data->header);
		file = &files[files_of[i]];
		writers[writers_of[i]].count++;
		file->count++;
		file->bytes += data->length;
		file->mode = inode->mode;
		file->uid = inode->uid;
		file->gid = inode->gid;
		file->mtime_ns = mtime_of(inode);
		file->nlink = inode->nlink;
		file->rdev = inode->rdev;
	}
	if (!group_up(files_of, count, file_count, firsts, order))
		goto out;
	for (uint64_t i = 0; i < file_count; i++)
		files[i].first = firsts[i];
	memcpy(found, (uint64_t[]){file_count, writer_count}, 2 * sizeof(*found));
	result = 0;
out:
	free(by_file.slots);
	free(by_writer.slots);
	free(firsts);
	return result;
}

/* The bytes of a file's rows, one after the other; `ends` gets where each ends. */
void dk_run_bytes(const struct row *rows, const uint64_t *order, uint64_t count, char *out, uint64_t *ends)
{
	uint64_t at = 0;

	for (uint64_t i = 0; i < count; i++) {
		const struct dk_data *data = record_of(&rows[order[i]]);

		memcpy(out + at, data + 1, data->length);
		ends[i] = at += data->length;
	}
}

/* The extents (offset, length, place in the bytes) that a file's rows make, those that follow on each other joined. */
uint64_t dk_run_extents(const struct row *rows, const uint64_t *order, uint64_t count, uint64_t *out)
{
	uint64_t found = 0, at = 0;

	for (uint64_t i = 0; i < count; i++) {
		const struct dk_data *data = record_of(&rows[order[i]]);
		uint64_t *last = out + 3 * (found - 1);

		if (found && last[0] + last[1] == data->offset) {
			last[1] += data->length;
		} else {
			uint64_t *fresh = out + 3 * found++;

			fresh[0] = data->offset;
			fresh[1] = data->length;
			fresh[2] = at;
		}
		at += data->length;
	}
	return found;
}

/* Numbers of the columns that dk_run_columns makes; processing/plain_rows.py names them in this order. */
enum {
	T,
	PID,
	TID,
	PROCESS,
	MARKS,
	NODE,
	PATH,
	OFFSET,
	LENGTH,
	SIZE,
	BLOB,
	START,
	PRESENT,
	MODE,
	UID,
	GID,
	MTIME,
	NLINK,
	RDEV,
	ENTER,
	EXIT,
	COLUMNS
};
enum { HAS_ENTER = 1, HAS_EXIT = 2, HAS_META = 4 }; /* store/eventblock.py */

/* Every column has room for `count` numbers; the last two hold fewer where a row has none. found: how many those hold.
 */
void dk_run_columns(const struct row *rows, uint64_t count, uint64_t start_ns, const uint32_t *files_of,
	struct target *targets, const uint32_t *writers_of, const int64_t *processes, int64_t *out, uint64_t *found)
{
	int64_t *column[COLUMNS];
	uint64_t enters = 0, exits = 0;

	for (int i = 0; i < COLUMNS; i++)
		column[i] = out + i * count;
	for (uint64_t i = 0; i < count; i++) {
		const struct dk_data *data = record_of(&rows[i]);
		const struct dk_header *header = &data->header;
		struct target *target = &targets[files_of[i]];
		int64_t end = data->offset + data->length, t = header->t_ns - start_ns;
		bool has_enter = header->enter_ns > start_ns, has_exit = header->exit_ns > start_ns;

		target->size = end > target->size ? end : target->size;
		column[T][i] = t;
		column[PID][i] = header->pid;
		column[TID][i] = (int64_t)header->tid - header->pid;
		column[PROCESS][i] = processes[writers_of[i]];
		column[MARKS][i] = header->flags & DK_F_OUTSIDER;
		column[NODE][i] = target->node;
		column[PATH][i] = target->path;
		column[OFFSET][i] = data->offset;
		column[LENGTH][i] = data->length;
		column[SIZE][i] = target->size;
		column[BLOB][i] = target->blob;
		column[START][i] = target->start;
		column[PRESENT][i] = HAS_META | (has_enter ? HAS_ENTER : 0) | (has_exit ? HAS_EXIT : 0);
		column[MODE][i] = data->inode.mode;
		column[UID][i] = data->inode.uid;
		column[GID][i] = data->inode.gid;
		column[MTIME][i] = mtime_of(&data->inode);
		column[NLINK][i] = data->inode.nlink;
		column[RDEV][i] = data->inode.rdev;
		if (has_enter)
			column[ENTER][enters++] = header->t_ns - header->enter_ns;
		if (has_exit)
			column[EXIT][exits++] = (int64_t)(header->exit_ns - start_ns) - t;
		target->start += data->length;
	}
	memcpy(found, (uint64_t[]){enters, exits}, 2 * sizeof(*found));
}

static int width_of(int64_t low, int64_t high)
{
	if (low >= 0 && high <= UINT8_MAX)
		return 1;
	if (low >= INT16_MIN && high <= INT16_MAX)
		return 2;
	if (low >= INT32_MIN && high <= INT32_MAX)
		return 4;
	return 8;
}

static void put(char *out, uint64_t i, int width, int64_t value)
{
	memcpy(out + i * width, &value, width); /* little endian, as the format is and all whom we serve are */
}

/*
 * Numbers in as few bytes as hold them all (store/columns.py), or their differences. Returns the bytes of each: 1, 2,
 * 4, 8; 0 if they are all the same as the first, which is put out alone; -1 where a difference does not fit.
 */
int dk_pack(const int64_t *values, uint64_t count, int is_differences, char *out)
{
	int64_t low = INT64_MAX, high = INT64_MIN, before = 0;
	int width;

	for (uint64_t i = 0; i < count; i++) {
		int64_t value = values[i];

		if (is_differences && __builtin_sub_overflow(values[i], before, &value))
			return -1;
		before = values[i];
		low = value < low ? value : low;
		high = value > high ? value : high;
	}
	if (low == high) {
		put(out, 0, 8, low);
		return 0;
	}
	width = width_of(low, high);
	before = 0;
	for (uint64_t i = 0; i < count; i++) {
		put(out, i, width, is_differences ? values[i] - before : values[i]);
		before = values[i];
	}
	return width;
}
