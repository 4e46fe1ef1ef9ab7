/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files are mapped shared and writable, for file systems on which such a file may be leased: on overlayfs the
 * mapping holds the file below, and the one above looks as if nobody could write to it.
 */
#ifndef DIFFKEEPER_UNSEEN_H
#define DIFFKEEPER_UNSEEN_H

#include <stdbool.h>

struct mappings;

/* Say whether a lease on a file says nothing about mappings that outlived their descriptor. */
bool may_be_mapped_unseen(int fd);
/* May a server or another machine change the file, of which no lease tells? */
bool is_changed_elsewhere(int fd);
/* All files that are mapped so by any process now; NULL if that cannot be said. Free it with free(). */
struct mappings *mapped_files(void);
bool is_mapped(const struct mappings *mapped, int fd);

#endif
