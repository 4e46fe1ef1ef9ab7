// SPDX-License-Identifier: Apache-2.0
/*
 * Preloaded: a file whose last name is removed keeps another, in the folder $KEPT, so that what is written to it
 * afterwards can be held against the truth. Programs that load a file system unlink their file as soon as it is open;
 * without this there would be nothing to compare. Each process keeps the last few.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 8

static void keep(int folder, const char *name)
{
	static unsigned count;
	const char *kept = getenv("KEPT");
	int error = errno;
	struct stat status;
	char path[4096];

	if (!kept || fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	if (S_ISREG(status.st_mode) && status.st_nlink == 1) {
		snprintf(path, sizeof(path), "%s/%d.%u", kept, getpid(), count++ % MOST);
		int (*remove_name)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");

		remove_name(path);
		linkat(folder, name, AT_FDCWD, path, 0);
	}
	errno = error;
}

int unlink(const char *name)
{
	int (*next)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");

	keep(AT_FDCWD, name);
	return next(name);
}

int unlinkat(int folder, const char *name, int flags)
{
	int (*next)(int, const char *, int) = (int (*)(int, const char *, int))dlsym(RTLD_NEXT, "unlinkat");

	if (!(flags & AT_REMOVEDIR))
		keep(folder, name);
	return next(folder, name, flags);
}
