/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory's entries as records of the baseline (baseline_format.py), made in one go: what Python would take some
 * 15 µs for, an entry.
 */
#ifndef DIFFKEEPER_WALK_H
#define DIFFKEEPER_WALK_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct file_handle;

/* XFS shows an access control list a second time under its own name for it, trusted.SGI_ACL_FILE and _DEFAULT. */
static inline bool is_second_name(const char *attribute)
{
	return strncmp(attribute, "trusted.SGI_ACL_", 16) == 0;
}

/* What is asked of dk_walk_some; native.py has the same. */
struct dk_walk_request {
	int32_t dirfd;
	uint32_t skip_count;
	uint64_t parent;
	uint64_t first_index;
	uint64_t content_base; /* where in the stream of all packs the content of this call begins */
	uint64_t small_bytes;  /* files up to here are read, */
	uint64_t budget_bytes; /* as long as this lasts; */
	uint64_t open_large;   /* others are opened, to be leased */
	uint64_t skip[8][2];   /* (st_dev, inode) */
};

struct dk_walk_directory {
	uint64_t index, ino;
	uint64_t name_at; /* in the records */
	uint32_t name_length;
	uint32_t zero;
};

struct dk_walk_large {
	int32_t fd;
	uint32_t zero;
	uint64_t index, size, nlink, ino;
	int64_t mtime_ns;
};

struct dk_walk_issue {
	uint64_t index;
	uint64_t name_at;
	uint32_t name_length;
	int32_t error; /* errno; 0: it changed each time it was read */
	int32_t what;  /* 0 metadata, 1 content, 2 extended attributes, 3 another mount */
	uint32_t zero;
};

/* What came of it; the pointers are valid until the next call. */
struct dk_walk_result {
	unsigned char *records;
	uint64_t records_bytes;
	unsigned char
		*content; /* of the small files, one after another; records say where in the stream theirs begins */
	uint64_t content_bytes;
	struct dk_walk_directory *directories;
	uint64_t directory_count;
	struct dk_walk_large *larges;
	uint64_t large_count;
	struct dk_walk_issue *issues;
	uint64_t issue_count;
	uint64_t entries, files, kept;
	uint64_t is_done;
};

int64_t generation_of_handle(const struct file_handle *handle);

#endif
