// SPDX-License-Identifier: Apache-2.0
/*
 * Files that are opened without their name: by handle, through /proc/self/fd and /dev/fd, and such as have none yet.
 *
 * A wrong recorder misses that these opens truncate, looks for a file of the name "5", or takes one for a creation; it
 * loses what was written to a file before it had a name, and what is written to one that has none any more.
 *
 * EXPECT: TRUNCATE by handle size=0
 * EXPECT: WRITE by handle length=3
 * EXPECT: TRUNCATE by proc size=0
 * EXPECT: TRUNCATE by dev size=0
 * EXPECT: TRUNCATE by path size=3
 * EXPECT: CHMOD by path mode=0601
 * EXPECT: WRITE nameless
 * EXPECT: WRITE folder/nameless too
 * EXPECT: UNLINK gone
 * COUNT: CREATE by proc 1
 * COUNT: CREATE by dev 1
 * COUNT: TRUNCATE by handle 1
 */
#include "must.h"

struct handle {
	struct file_handle head;
	char room[128];
};

static char path[64];

static const char *at(const char *folder, int fd)
{
	snprintf(path, sizeof(path), "%s/%d", folder, fd);
	return path;
}

static void by_handle(void)
{
	struct handle handle = {.head.handle_bytes = sizeof(handle.room)};
	int mount, fd;

	put("by handle", "a long text that goes");
	if (name_to_handle_at(AT_FDCWD, "by handle", &handle.head, &mount, 0) != 0)
		exit(77);
	mount = MUST(open(".", O_RDONLY | O_DIRECTORY));
	MUST(open_by_handle_at(mount, &handle.head, O_RDWR));
	instant("before it is cut");
	fd = MUST(open_by_handle_at(mount, &handle.head, O_WRONLY | O_TRUNC));
	instant("cut");
	MUST(write(fd, "new", 3));
}

static void by_descriptor(void)
{
	int fd;

	put("by proc", "a text that goes");
	fd = MUST(open("by proc", O_RDONLY));
	MUST(write(MUST(open(at("/proc/self/fd", fd), O_WRONLY | O_TRUNC | O_CREAT, 0600)), "by proc", 7));
	put("by dev", "a text that goes");
	fd = MUST(open("by dev", O_RDONLY));
	MUST(write(MUST(open(at("/dev/fd", fd), O_RDWR | O_TRUNC)), "dev", 3));
	MUST(write(MUST(open(at("/dev/fd", fd), O_WRONLY | O_APPEND | O_CREAT, 0600)), " more", 5));
	put("by path", "a text that is cut");
	fd = MUST(open("by path", O_PATH));
	MUST(truncate(at("/proc/self/fd", fd), 3));
	MUST(chmod(at("/proc/self/fd", fd), 0601));
	instant("by descriptor");
	put("gone", "a text");
	fd = MUST(open("gone", O_RDWR));
	MUST(unlink("gone"));
	MUST(write(MUST(open(at("/proc/self/fd", fd), O_WRONLY | O_TRUNC)), "nowhere", 7));
}

static void nameless(void)
{
	int fd = open(".", O_RDWR | O_TMPFILE, 0640), other;

	if (fd < 0)
		exit(77);
	MUST(write(fd, "before it has a name", 20));
	instant("nameless");
	MUST(linkat(fd, "", AT_FDCWD, "nameless", AT_EMPTY_PATH));
	instant("named");
	MUST(write(fd, " and after", 10));
	MUST(mkdir("folder", 0755));
	other = MUST(open("folder", O_WRONLY | O_TMPFILE, 0600));
	MUST(write(other, "in a folder", 11));
	MUST(fchmod(other, 0755));
	MUST(linkat(AT_FDCWD, at("/proc/self/fd", other), AT_FDCWD, "folder/nameless too", AT_SYMLINK_FOLLOW));
	MUST(ftruncate(other, 4));
	MUST(linkat(AT_FDCWD, at("/dev/fd", other), AT_FDCWD, "and a second name", AT_SYMLINK_FOLLOW));
	MUST(rename("folder/nameless too", "nameless")); /* another nameless one loses its name again */
	MUST(write(fd, "nobody sees this", 16));
	MUST(write(other, "!", 1));
	MUST(write(MUST(open(".", O_WRONLY | O_TMPFILE, 0600)), "never named", 11));
}

int main(void)
{
	by_handle();
	by_descriptor();
	nameless();
	put("folder/nameless too", "the name is used again");
	return 0;
}
