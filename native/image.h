/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled programs as they are embedded, an ELF file: twice, reading the kernel by loads and by a helper.
 */
#ifndef DIFFKEEPER_IMAGE_H
#define DIFFKEEPER_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image {
	const unsigned char *data;
	size_t size;
	unsigned char *filled; /* what is to be freed */
};

/* The programs that read by a helper: they load wherever diffkeeper works. */
void image_use_plain(struct image *image);
/* Those that read by loads, with the numbers of the kernel's type and function (casts.h); false: no memory. */
bool image_use_loads(struct image *image, uint32_t type, uint32_t function);
void image_free(struct image *image);

/* The next section behind `at` (0 at first) whose name begins so: its bytes, the rest of its name; false: none. */
bool image_next_section(const struct image *image, size_t *at, const char *beginning, const char **rest,
	const void **data, size_t *size);

#endif
