// SPDX-License-Identifier: Apache-2.0
/*
 * rename, renameat, renameat2.
 *
 * A wrong recorder misses: what a rename replaced; that renaming one hard link onto another changes nothing; that EXCHANGE
 * swaps; that a file keeps its identity (bytes written through an old descriptor reach the new name); what lies below a
 * renamed folder.
 *
 * EXPECT: RENAME a -> b
 * EXPECT: RENAME one -> two
 * EXPECT: EXCHANGE left <-> right
 * EXPECT: RENAME folder -> moved
 * EXPECT: WRITE moved/inner/file
 * EXPECT: RENAME moved/inner -> out
 * EXPECT: RENAME fresh -> unique
 * EXPECT: WRITE unique
 * COUNT: RENAME hard1 0
 */
#include "must.h"
#include <linux/fs.h>

int main(void)
{
	int fd, folder, here = MUST(open(".", O_RDONLY | O_DIRECTORY));

	put("a", "a");
	MUST(rename("a", "b"));
	put("one", "one");
	put("two", "two");
	MUST(renameat(here, "one", AT_FDCWD, "two"));

	put("left", "was left");
	MUST(mkdir("right", 0700));
	put("right/inside", "was right/inside");
	MUST(renameat2(here, "left", here, "right", RENAME_EXCHANGE));

	put("fresh", "fresh");
	fd = MUST(open("fresh", O_WRONLY | O_APPEND));
	MUST(renameat2(here, "fresh", here, "unique", RENAME_NOREPLACE));
	MUST_FAIL(renameat2(here, "b", here, "unique", RENAME_NOREPLACE));
	MUST(write(fd, " and more", 9));

	put("hard1", "both");
	MUST(link("hard1", "hard2"));
	MUST(rename("hard1", "hard2"));
	MUST(rename("b", "b"));

	MUST(mkdir("folder", 0755));
	MUST(mkdir("folder/inner", 0755));
	put("folder/inner/file", "deep");
	folder = MUST(open("folder/inner", O_RDONLY | O_DIRECTORY));
	fd = MUST(openat(folder, "file", O_WRONLY));
	MUST(rename("folder", "moved"));
	MUST(write(fd, "DEEP", 4));
	MUST(openat(folder, "born after the move", O_WRONLY | O_CREAT, 0644));
	MUST(rename("moved/inner", "out"));
	MUST(mkdir("empty", 0755));
	MUST(rename("moved", "empty")); /* a folder replaces an empty one */
	MUST_FAIL(rename("out", "out/below/itself"));
	MUST_FAIL(rename("none", "other"));
	return 0;
}
