// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that fail after they have changed something.
 *
 * A wrong recorder takes a call that failed for one that did nothing: fallocate and write set the file's time, and drop
 * its privileges and capabilities, before they find that they cannot do what was asked; ext4 may even grow it. A rename
 * that would leave a whiteout makes that, and takes it back.
 *
 * EXPECT: SETXATTR f text=security.capability
 * COUNT: WRITE f 1
 * COUNT: TRUNCATE f 0
 * COUNT: RENAME folder 0
 * COUNT: MKNOD folder 0
 * COUNT: RESYNC folder 0
 */
#include "must.h"
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

/* So that a time that is set is another. */
static void pause_briefly(void)
{
	struct timespec time = {.tv_nsec = 20000000};

	nanosleep(&time, NULL);
}

int main(void)
{
	static const unsigned capability[5] = {0x02000001, 0x400, 0, 0, 0}; /* vfs_cap_data, version 2 */
	char *nowhere = (char *)8;
	int fd, source;

	put("f", "some bytes");
	fd = MUST(open("f", O_RDWR));
	if (setxattr("f", "security.capability", capability, sizeof(capability), 0) != 0)
		return 77;
	pause_briefly();
	MUST_FAIL(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 3, 5));
	instant("not collapsed");
	MUST(setxattr("f", "security.capability", capability, sizeof(capability), 0));
	pause_briefly();
	MUST_FAIL(write(fd, nowhere, 100));
	instant("not written");
	pause_briefly();
	MUST_FAIL(pwrite(fd, nowhere, 9000, 50000));
	MUST_FAIL(ftruncate(fd, -1));
	instant("not placed");
	MUST(setxattr("f", "security.capability", capability, sizeof(capability), 0));
	pause_briefly();
	source = MUST(open("/proc/self/mem", O_RDONLY));
	MUST_FAIL(sendfile(fd, source, NULL, 100));
	MUST_FAIL(copy_file_range(fd, NULL, fd, NULL, 5, 0));
	instant("not sent");
	pause_briefly();
	MUST_FAIL(fallocate(fd, FALLOC_FL_INSERT_RANGE, 1, 4096));
	MUST(mkdir("folder", 0755));
	MUST(mkdir("full", 0755));
	put("full/file", "so that nothing can take its place");
	pause_briefly();
	MUST_FAIL(renameat2(AT_FDCWD, "folder", AT_FDCWD, "full", RENAME_WHITEOUT));
	instant("not moved");
	pause_briefly();
	MUST_FAIL(renameat2(AT_FDCWD, "folder", AT_FDCWD, "folder/below", RENAME_WHITEOUT));
	return 0;
}
