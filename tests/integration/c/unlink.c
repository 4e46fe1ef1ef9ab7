// SPDX-License-Identifier: Apache-2.0
/*
 * unlink, unlinkat, rmdir.
 *
 * A wrong recorder misses: AT_REMOVEDIR; that unlinking a symlink leaves its target; a name that is made again at once,
 * with the same inode number; it takes a removal that failed for one that did not.
 *
 * EXPECT: UNLINK a
 * EXPECT: UNLINK sub/b
 * EXPECT: UNLINK symlink
 * EXPECT: RMDIR empty
 * EXPECT: RMDIR sub/inner
 * COUNT: UNLINK again 200
 * COUNT: CREATE again 201
 * COUNT: RMDIR full 0
 */
#include "must.h"

int main(void)
{
	int sub;

	put("a", "a");
	MUST(unlink("a"));
	MUST(mkdir("sub", 0755));
	put("sub/b", "b");
	sub = MUST(open("sub", O_RDONLY | O_DIRECTORY));
	MUST(unlinkat(sub, "b", 0));
	MUST(mkdir("empty", 0755));
	MUST(rmdir("empty"));
	MUST(mkdirat(sub, "inner", 0755));
	MUST(unlinkat(sub, "inner", AT_REMOVEDIR));

	put("target", "stays");
	MUST(symlink("target", "symlink"));
	MUST(unlink("symlink"));
	MUST(mkdir("full", 0755));
	put("full/file", "x");
	MUST_FAIL(rmdir("full"));
	MUST_FAIL(unlink("full"));
	MUST_FAIL(unlink("none"));

	for (int i = 0; i < 200; i++) {
		char text[16];

		snprintf(text, sizeof(text), "round %d", i);
		put("again", text);
		MUST(unlink("again"));
	}
	put("again", "for good");
	return 0;
}
