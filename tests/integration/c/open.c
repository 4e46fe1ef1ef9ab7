// SPDX-License-Identifier: Apache-2.0
/*
 * The ways to create a file by opening it.
 *
 * A wrong recorder misses: which folder a relative name starts from (dirfd, cwd in a subfolder, a symlink in the middle);
 * that O_CREAT through a dangling symlink creates its target; a file without a name (O_TMPFILE) that gets one later;
 * it takes an open that creates nothing, or that fails, for a creation.
 *
 * EXPECT: CREATE opened
 * EXPECT: CREATE created
 * EXPECT: CREATE sub/by dirfd
 * EXPECT: CREATE sub/by how
 * EXPECT: CREATE sub/in cwd
 * EXPECT: CREATE above
 * EXPECT: CREATE sub/through
 * EXPECT: CREATE target
 * EXPECT: WRITE named later
 * COUNT: CREATE opened 1
 * COUNT: CREATE exclusive 1
 */
#include "must.h"

struct how {
	uint64_t flags, mode, resolve;
};

int main(void)
{
	struct how how = {.flags = O_WRONLY | O_CREAT | O_EXCL, .mode = 0640, .resolve = 8 /* RESOLVE_BENEATH */};
	char path[64];
	int fd, sub;

	umask(022);
	MUST(open("opened", O_WRONLY | O_CREAT, 0666));
	MUST(open("opened", O_WRONLY | O_CREAT, 0600));
	MUST(open("opened", O_RDONLY));
	MUST(creat("created", 04755));
	MUST(open("exclusive", O_WRONLY | O_CREAT | O_EXCL, 0400));
	MUST_FAIL(open("exclusive", O_WRONLY | O_CREAT | O_EXCL, 0400));
	MUST_FAIL(open("none/file", O_WRONLY | O_CREAT, 0400));

	MUST(mkdir("sub", 0755));
	sub = MUST(open("sub", O_RDONLY | O_DIRECTORY));
	MUST(openat(sub, "by dirfd", O_WRONLY | O_CREAT, 0644));
	MUST(syscall(SYS_openat2, sub, "by how", &how, sizeof(how)));
	MUST(symlink("sub", "link"));
	MUST(open("./link/.././sub//through", O_WRONLY | O_CREAT, 0644));
	MUST(symlink("target", "dangling"));
	MUST(write(MUST(open("dangling", O_WRONLY | O_CREAT, 0644)), "by link", 7));
	MUST(chdir("sub"));
	MUST(open("in cwd", O_WRONLY | O_CREAT, 0644));
	MUST(open("../above", O_WRONLY | O_CREAT, 0644));
	MUST(chdir(".."));

	fd = open(".", O_WRONLY | O_TMPFILE, 0600);
	if (fd < 0) { /* not every file system has it */
		put("named later", "x");
		return 0;
	}
	MUST(write(fd, "before it has a name", 20));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(linkat(AT_FDCWD, path, AT_FDCWD, "named later", AT_SYMLINK_FOLLOW));
	MUST(write(fd, " and after", 10));
	return 0;
}
