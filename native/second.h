/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Half of the programs is loaded by a second thread: the kernel verifies each alone, which takes longer than all else
 * at start. They are of the same object, opened once more, and use the maps of the first.
 */
#ifndef DIFFKEEPER_SECOND_H
#define DIFFKEEPER_SECOND_H

#include <stdbool.h>

struct capture;

/* Is a program of the second half? Both take about as long to verify. */
bool is_of_second_half(const char *program);
/* Start the thread, once the first half has been chosen; types: as for the first. False: it could not be started. */
bool second_start(struct capture *capture, const char *types);
/* The maps exist (or will not). Doing it again does nothing. */
void second_begin(bool has_maps);
/* Wait for the thread; false when its half was not loaded. */
bool second_wait(void);

#endif
