/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared writable mappings, as the drain thread meets them: the sampler (mapped.c) is a thread of its own, which hands
 * its records over here.
 */
#ifndef DIFFKEEPER_MAPPED_H
#define DIFFKEEPER_MAPPED_H

#include <stdbool.h>
#include <stdint.h>

struct capture;
struct dk_header;

/* Start the sampler thread; without it mappings are only noted. */
int mapped_start(struct capture *capture);
/* Look at a record that was drained; false: it is not for the journal. Mapping records may be changed. */
bool mapped_see(struct capture *capture, struct dk_header *header);
/* Put what was sampled into the journal. */
void mapped_flush(struct capture *capture);
/* Look at everything once more, end the thread, put the rest into the journal. */
void mapped_finish(struct capture *capture);

#endif
