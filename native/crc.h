/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32 as zlib has it: the checksum of batches and of images.
 */
#ifndef DIFFKEEPER_CRC_H
#define DIFFKEEPER_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Once, before the first. */
void crc32_prepare(void);
/* Go on from the checksum of what is before the bytes, 0 at first. */
uint32_t crc32_of(const unsigned char *bytes, size_t length, uint32_t crc);

#endif
