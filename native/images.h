/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image file of one holder: a row of images, each a page that says what it is, followed by the bytes of one file.
 * store/images.py reads it. Images begin at multiples of 4,096 bytes, so that a file system can share blocks with
 * the file that is copied.
 */
#ifndef DIFFKEEPER_IMAGES_H
#define DIFFKEEPER_IMAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { IMAGE_MAGIC = 0x31494b44, IMAGE_PAGE = 4096 }; /* "DKI1" */

/* Part of the trace format (store/images.py). */
enum image_state {
	IMAGE_BEGUN = 1, /* the holder ended before it had all of it */
	IMAGE_COPIED,	 /* whole, and without a checksum: not to be trusted after a crash of the machine */
	IMAGE_SEALED,	 /* whole, with the checksum of its bytes */
	IMAGE_CLONED,	 /* whole, shares its blocks with the file, and is on disk: no checksum */
	IMAGE_TOO_SLOW,	 /* could not be copied before somebody had waited for too long */
	IMAGE_TOO_LARGE,
	IMAGE_NO_ROOM, /* on the trace's disk */
	IMAGE_LET_GO,  /* the lease was gone before the copy was whole */
	IMAGE_CHANGED, /* the file was not as indexed */
	IMAGE_FAILED,  /* could not be read or written */
};

struct image_head {
	uint32_t magic;
	uint32_t state;
	uint64_t trace_id;
	uint64_t index; /* of the baseline's entry */
	uint64_t size;
	uint64_t span;		 /* to the next image */
	uint64_t from_ns, to_ns; /* CLOCK_MONOTONIC, around the copy */
	uint32_t crc;		 /* of the bytes */
	uint32_t head_crc;	 /* of all before it */
};

struct images {
	int fd;
	uint64_t trace_id;
	uint64_t end; /* where the next image goes */
	uint64_t bytes;
};

/* One copy on its way. */
struct copy {
	struct image_head head;
	uint64_t at; /* of the head */
	uint64_t done;
	int fd;
	bool is_clone;
};

/* Begin an image of an open file; false, with the state in head, where that cannot be. */
bool image_begin(struct images *images, struct copy *copy, int fd, uint64_t index, uint64_t size);
/* Copy some more; true when all is there. On failure head.state says why. */
bool image_go_on(struct images *images, struct copy *copy);
/* Write what came of it. */
void image_end(struct images *images, struct copy *copy, enum image_state state);
/* Give a copied image its checksum, or bring a clone to the disk, and say so in its head. */
void image_seal(struct images *images, struct copy *copy);

/* Say of a clone that a later one was brought to the disk. */
void image_clone_is_on_disk(struct images *images, struct copy *copy);

uint64_t monotonic_ns(void);

#endif
