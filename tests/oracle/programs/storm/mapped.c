// SPDX-License-Identifier: Apache-2.0
/* Stores into shared mappings: with and without msync, of part of a file, kept open and let go. */
#include "storm.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static sigjmp_buf before_store;

static void leave_store(int number)
{
	(void)number;
	siglongjmp(before_store, 1);
}

/* Map some pages that the file has; NULL where there are none. */
static char *map_pages(struct actor *actor, size_t *length)
{
	int fd = a_slot(actor);
	struct stat status;
	off_t first;
	char *bytes;

	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 4096)
		return NULL;
	first = below(actor, status.st_size / 4096 < 32 ? (unsigned)(status.st_size / 4096) : 32);
	*length = 4096;
	bytes = mmap(NULL, *length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096 * first);
	note(actor, "fd %d page %ld", fd, (long)first);
	return bytes == MAP_FAILED ? NULL : bytes;
}

static long do_store(struct actor *actor)
{
	size_t length = 0, at = below(actor, 3000), count = 1 + below(actor, 1000);
	char *bytes = map_pages(actor, &length);

	if (!bytes)
		return -1;
	signal(SIGBUS, leave_store); /* another process may have cut the file short */
	if (sigsetjmp(before_store, 1) == 0)
		memcpy(bytes + at, some_bytes(actor, count), count);
	if (once_in(actor, 2))
		msync(bytes, length, MS_SYNC);
	return munmap(bytes, length);
}

static const struct operation operations[] = {{"store", 1, do_store}};

const struct family mapped_family = {"mapped", operations, COUNT(operations)};
