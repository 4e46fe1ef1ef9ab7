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

#endif
