// SPDX-License-Identifier: Apache-2.0
/*
 * renameat2 with EXCHANGE and WHITEOUT, of files and of folders.
 *
 * A wrong recorder leaves behind what lies below exchanged folders, gives a descriptor's bytes to the file that has its
 * name now, or misses the device 0/0 that a whiteout leaves at the old name.
 *
 * EXPECT: EXCHANGE one <-> two
 * EXPECT: WRITE two/inner/file
 * EXPECT: EXCHANGE one/deep <-> two
 * EXPECT: RENAME left -> right
 * EXPECT: MKNOD left
 * EXPECT: RENAME folder -> moved
 * EXPECT: MKNOD folder
 * EXPECT: CREATE moved/after
 */
#include "must.h"
#include <linux/fs.h>

static int exchanged(const char *one, const char *two)
{
	return renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE);
}

static void exchange(void)
{
	int inner, file;

	MUST(mkdir("one", 0700));
	MUST(mkdir("two", 0755));
	MUST(mkdir("one/inner", 0755));
	put("one/inner/file", "was below one");
	put("two/file", "was below two");
	inner = MUST(open("one/inner", O_RDONLY | O_DIRECTORY));
	file = MUST(openat(inner, "file", O_WRONLY));
	if (exchanged("one", "two") != 0)
		exit(77);
	MUST(write(file, "IS", 2));
	MUST(write(MUST(openat(inner, "new", O_WRONLY | O_CREAT, 0600)), "new", 3));
	instant("folders");
	MUST(mkdir("one/deep", 0711));
	put("one/deep/est", "deep");
	MUST(exchanged("one/deep", "two")); /* at two levels */
	put("one/deep/inner/file", "again");
	put("two/est", "again, too");
	instant("levels");
	MUST(exchanged("one/file", "one/deep/inner")); /* a file and a folder */
	put("one/file/born", "in what was inner");
	MUST_FAIL(exchanged("one", "one/file"));
	MUST(link("two/est", "est"));
	MUST(exchanged("two/est", "est")); /* two links of one file: nothing changes */
	MUST(exchanged("one", "one"));
	instant("file and folder");
}

static void whiteout(void)
{
	int fd;

	put("left", "moved away");
	fd = MUST(open("left", O_WRONLY | O_APPEND));
	if (renameat2(AT_FDCWD, "left", AT_FDCWD, "right", RENAME_WHITEOUT) != 0)
		return;
	MUST(write(fd, " and written to", 15));
	instant("whiteout");
	MUST(mkdir("folder", 0750));
	put("folder/before", "x");
	MUST(renameat2(AT_FDCWD, "folder", AT_FDCWD, "moved", RENAME_WHITEOUT));
	put("moved/after", "y");
	MUST(unlink("left"));
	put("left", "not a device");
	put("replaced", "goes");
	MUST(renameat2(AT_FDCWD, "right", AT_FDCWD, "replaced", RENAME_WHITEOUT));
	MUST(renameat2(AT_FDCWD, "replaced", AT_FDCWD, "right", 0)); /* over the whiteout */
}

int main(void)
{
	exchange();
	whiteout();
	return 0;
}
