// SPDX-License-Identifier: Apache-2.0
/*
 * Files that are open by a name that was removed, while another of their names stands elsewhere.
 *
 * A wrong recorder goes by the removed name: it misses what is written to a file of the root once the folder of that
 * name has left the root, or takes for its own what is written to a file that has only a name outside, or believes that
 * such a file comes back as it was.
 *
 * EXPECT: WRITE inside length=12
 * EXPECT: EXPORT folder
 * COUNT: WRITE inside 2
 * COUNT: WRITE left 1
 * EXPECT: IMPORT back
 */
#include "must.h"

int main(void)
{
	int fd;

	MUST(mkdir("folder", 0755));
	put("inside", "bytes");
	MUST(link("inside", "folder/name"));
	fd = MUST(open("folder/name", O_RDWR));
	MUST(unlink("folder/name"));
	MUST(rename("folder", "../removed-folder"));
	MUST(write(fd, "seen, inside", 12));
	instant("written inside");
	put("left", "bytes");
	MUST(link("left", "../removed-left"));
	fd = MUST(open("left", O_RDWR));
	MUST(unlink("left"));
	MUST(write(fd, "not a file of the root", 22));
	put("replaced", "bytes");
	MUST(link("replaced", "../removed-replaced"));
	put("new", "other bytes");
	MUST(rename("new", "replaced"));
	put("../removed-replaced", "changed outside");
	MUST(link("../removed-replaced", "back"));
	return 0;
}
