// SPDX-License-Identifier: Apache-2.0
/*
 * Names and paths at the edges.
 *
 * A wrong recorder misses: paths of 4,095 bytes; names that are no UTF-8, or hold newlines; dots, double and trailing
 * slashes; paths through /proc/self; another root (chroot); a cwd that was renamed.
 *
 * EXPECT: CREATE dir/file
 * EXPECT: MKDIR made
 * EXPECT: CREATE dir/by proc
 * EXPECT: CREATE dir/cwd
 * EXPECT: CREATE renamed/after
 * EXPECT: UNLINK dir/gone
 */
#include "must.h"
#include <sys/wait.h>

static void long_path(void)
{
	char path[4096] = "long";

	MUST(mkdir(path, 0755));
	while (strlen(path) < 3800) {
		strcat(path, "/");
		memset(path + strlen(path), 'p', 199);
		MUST(mkdir(path, 0755));
	}
	strcat(path, "/");
	memset(path + strlen(path), 'q', 100);
	memset(path + strlen(path) - 1, 'q', 1);
	for (size_t at = strlen(path); at < 3950; at++)
		path[at] = 'q';
	strcat(path, "/");
	MUST(mkdir(path, 0755));
	memset(path + strlen(path), 'z', 4095 - strlen(path));
	put(path, "4,095 bytes");
	MUST(chmod(path, 0600));
}

int main(void)
{
	char path[200];
	int fd;

	MUST(mkdir("dir", 0755));
	put(".//dir/./../dir//file", "x");
	MUST(mkdir("made/", 0755));
	put("dir/\xff\xfe no\nUTF-8\t", "x");
	put("dir/ ", "a space");
	put("dir/-rf *", "x");
	fd = MUST(open("dir", O_RDONLY | O_DIRECTORY));
	snprintf(path, sizeof(path), "/proc/self/fd/%d/by proc", fd);
	put(path, "x");
	MUST(chdir("dir"));
	put("/proc/self/cwd/cwd", "x");
	put("gone", "x");
	MUST(unlink("../dir/./gone"));
	MUST(chdir(".."));
	MUST(mkdir("before", 0755));
	MUST(chdir("before"));
	MUST(rename("../before", "../renamed"));
	put("after", "in a folder that has another name by now");
	MUST(chdir(".."));
	if (MUST(fork()) == 0) {
		if (chroot("dir") == 0) {
			MUST(chdir("/"));
			put("/in another root", "x");
		}
		_exit(0);
	}
	MUST(wait(NULL));
	long_path();
	return 0;
}
