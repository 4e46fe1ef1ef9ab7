// SPDX-License-Identifier: Apache-2.0
/*
 * Looks at a tree where Python has no call for it: the generation of inodes, in batches.
 *
 * Rule: nothing here opens a file or changes one; every name is looked up below a directory descriptor, never through
 * a symlink.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>

#include "walk.h"

/* Handle types, from the kernel's include/linux/exportfs.h (they are part of the user interface). */
enum {
	FILEID_INO32_GEN = 1,
	FILEID_INO32_GEN_PARENT = 2,
	FILEID_BTRFS_WITHOUT_PARENT = 0x4d,
	FILEID_BTRFS_WITH_PARENT = 0x4e,
	FILEID_BTRFS_WITH_PARENT_ROOT = 0x4f,
	FILEID_INO64_GEN = 0x81,
	FILEID_INO64_GEN_PARENT = 0x82,
};

struct roomy_handle {
	struct file_handle head;
	unsigned char room[128]; /* MAX_HANDLE_SZ */
};

static int64_t word_at(const struct file_handle *handle, unsigned offset)
{
	uint32_t word;

	if (handle->handle_bytes < offset + sizeof(word))
		return -1;
	memcpy(&word, handle->f_handle + offset, sizeof(word));
	return word;
}

/* The generation that a handle carries, or -1 when its type is not known here. */
int64_t generation_of_handle(const struct file_handle *handle)
{
	switch (handle->handle_type) {
	case FILEID_INO32_GEN:
	case FILEID_INO32_GEN_PARENT:
		/* ext4, f2fs, XFS: {u32 ino, u32 gen}; tmpfs says the same type with {u32 gen, u64 ino}. */
		if (handle->handle_type == FILEID_INO32_GEN && handle->handle_bytes == 12)
			return word_at(handle, 0);
		return word_at(handle, 4);
	case FILEID_INO64_GEN:
	case FILEID_INO64_GEN_PARENT:
		return word_at(handle, 8); /* {u64 ino, u32 gen} */
	case FILEID_BTRFS_WITHOUT_PARENT:
	case FILEID_BTRFS_WITH_PARENT:
	case FILEID_BTRFS_WITH_PARENT_ROOT:
		return word_at(handle, 16); /* {u64 objectid, u64 root_objectid, u32 gen} */
	default:
		return -1;
	}
}

/*
 * Write the generation of each of count entries of a directory to out, -1 where it is unknown (file system without
 * handles, entry vanished). names holds the names one after another, each ended by NUL; an empty name is dirfd itself.
 * Returns how many are known.
 */
int dk_generations(int dirfd, const char *names_nul_joined, int count, int64_t *out)
{
	const char *name = names_nul_joined;
	int known = 0;

	for (int i = 0; i < count; i++, name += strlen(name) + 1) {
		struct roomy_handle handle = {.head = {.handle_bytes = sizeof(handle.room)}};
		int mount_id;

		out[i] = -1;
		if (name_to_handle_at(dirfd, name, &handle.head, &mount_id, *name ? 0 : AT_EMPTY_PATH) == 0)
			out[i] = generation_of_handle(&handle.head);
		known += out[i] >= 0;
	}
	return known;
}
