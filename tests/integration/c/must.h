// SPDX-License-Identifier: Apache-2.0
/* What every program here needs: end with status 1 when a call that must work does not. */
#ifndef MUST_H
#define MUST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Evaluate a call and end the program, naming it, when it fails. */
#define MUST(call) must_((long)(call), #call, __FILE__, __LINE__)

/* Evaluate a call that has to fail: a recorder must not take it for a change. */
#define MUST_FAIL(call) must_((call) == -1 ? 0 : -1, "failing " #call, __FILE__, __LINE__)

static inline long must_(long result, const char *call, const char *file, int line)
{
	if (result < 0) {
		dprintf(2, "%s:%d: %s: %s\n", file, line, call, strerror(errno));
		exit(1);
	}
	return result;
}

/* Make a file with some content. */
static inline void put(const char *path, const char *text)
{
	int fd = MUST(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));

	MUST(write(fd, text, strlen(text)));
	MUST(close(fd));
}

/* The test compares the trace with the tree as it is now: nothing else may change it, and the working directory is the root.
 */
static inline void instant(const char *name)
{
	const char *folder = getenv("INSTANTS");
	char text[4200];
	struct timespec now;
	int fd;

	if (!folder)
		return;
	snprintf(text, sizeof(text), "cp -a . '%s/%s'", folder, name);
	MUST(system(text) == 0 ? 0 : -1);
	MUST(clock_gettime(CLOCK_MONOTONIC, &now));
	snprintf(text, sizeof(text), "%s/%s.ns", folder, name);
	fd = MUST(open(text, O_WRONLY | O_CREAT | O_EXCL, 0600));
	dprintf(fd, "%lld", now.tv_sec * 1000000000LL + now.tv_nsec);
	MUST(close(fd));
}

#endif
