// SPDX-License-Identifier: Apache-2.0
/* What comes in from outside of the watch root, and what leaves it: by rename and by link, files and folders. */
#include "storm.h"

static const char *beyond(struct actor *actor)
{
	static char paths[4][4096];
	static unsigned next;
	char *path = paths[next++ % COUNT(paths)];

	snprintf(path, sizeof(paths[0]), "%s/o%u", getenv("SCRATCH"), below(actor, 6));
	return path;
}

static long do_make(struct actor *actor)
{
	const char *path = beyond(actor);
	size_t length = a_length(actor);
	long result;
	int fd;

	if (once_in(actor, 4))
		return mkdir(path, 0755);
	fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK, 0644);
	result = write(fd, some_bytes(actor, length), length);
	close(fd);
	return result;
}

static long do_enter(struct actor *actor)
{
	return rename(beyond(actor), a_name(actor));
}

static long do_leave(struct actor *actor)
{
	return rename(a_name(actor), beyond(actor));
}

static long do_link_in(struct actor *actor)
{
	return link(beyond(actor), a_name(actor));
}

static long do_link_out(struct actor *actor)
{
	return link(a_name(actor), beyond(actor));
}

static long do_remove(struct actor *actor)
{
	return unlink(beyond(actor));
}

static const struct operation operations[] = {
	{"make outside", 4, do_make},
	{"enter", 3, do_enter},
	{"leave", 3, do_leave},
	{"link in", 2, do_link_in},
	{"link out", 2, do_link_out},
	{"remove outside", 1, do_remove},
};

const struct family outside_family = {"outside", operations, COUNT(operations)};
