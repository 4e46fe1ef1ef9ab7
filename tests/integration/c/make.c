// SPDX-License-Identifier: Apache-2.0
/*
 * mkdir, mkdirat, mknod, mknodat, symlink, symlinkat.
 *
 * A wrong recorder misses: the inode of a folder, which mkdir does not return; modes as the umask left them; that mknod
 * makes regular files too; symlinks to nothing, and their text as it was given.
 *
 * EXPECT: MKDIR folder
 * EXPECT: MKDIR folder/inner
 * EXPECT: MKNOD fifo
 * EXPECT: CREATE regular
 * EXPECT: SYMLINK symlink
 * EXPECT: SYMLINK folder/dangling
 * EXPECT: CREATE folder/inner/file
 */
#include "must.h"
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

int main(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	char text[3000];
	int folder;

	umask(027);
	MUST(mkdir("folder", 0777));
	folder = MUST(open("folder", O_RDONLY | O_DIRECTORY));
	MUST(mkdirat(folder, "inner/", 01777));
	put("folder/inner/file", "in a folder that was just made");
	MUST(mknod("fifo", S_IFIFO | 0666, 0));
	MUST(mknodat(AT_FDCWD, "regular", S_IFREG | 0666, 0));
	if (geteuid() == 0)
		MUST(mknodat(folder, "null", S_IFCHR | 0666, makedev(1, 3)));
	MUST(bind(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&address, sizeof(address)));
	MUST(symlink("folder/../regular", "symlink"));
	MUST(symlinkat("/no/such/thing", folder, "dangling"));
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	MUST(symlink(text, "long"));
	MUST_FAIL(mkdir("folder", 0777));
	MUST_FAIL(symlink("x", "symlink"));
	return 0;
}
