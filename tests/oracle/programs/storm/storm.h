// SPDX-License-Identifier: Apache-2.0
/* What the families of operations share: an actor with its dice and its open files, and the names that all fight for.
 */
#ifndef STORM_H
#define STORM_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define SLOTS 12
#define LONGEST 70000
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One process of the storm. Everything that it does follows from its dice, which follow from seed and number. */
struct actor {
	uint64_t dice;
	unsigned number;
	unsigned step;
	int root; /* descriptor of the watch root */
	int pipes[2];
	int slots[SLOTS]; /* open files, -1 for none */
	FILE *log;	  /* what was done, when STORM_LOG names a folder */
};

/* An operation returns what its system call did; errors are part of the game. */
struct operation {
	const char *name;
	unsigned weight;
	long (*run)(struct actor *actor);
};

struct family {
	const char *name;
	const struct operation *operations;
	size_t count;
};

extern const struct family bytes_family, names_family, metadata_family, sharing_family, outside_family, mapped_family;

unsigned below(struct actor *actor, unsigned limit); /* 0 to limit - 1 */
bool once_in(struct actor *actor, unsigned times);
const char *a_name(struct actor *actor); /* of anything; good until the eighth call after this */
const char *a_folder(struct actor *actor);
int a_slot(struct actor *actor);	/* the descriptor of some open file, opened if need be */
void keep(struct actor *actor, int fd); /* put a descriptor into a slot, closing what was there */
size_t a_length(struct actor *actor);
off_t an_offset(struct actor *actor);
const char *some_bytes(struct actor *actor, size_t length); /* that tell who wrote them, in which step, and where */
void note(struct actor *actor, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
