// SPDX-License-Identifier: Apache-2.0
/*
 * What ioctl does to files: preallocation in its old forms, flags, deduplication; and file_setattr.
 *
 * A wrong recorder misses that FS_IOC_UNRESVSP and FS_IOC_ZERO_RANGE zero bytes, and that l_whence lets their range begin
 * at the position or at the end of the file; it takes a deduplication for a write, or a failed ioctl for a change.
 *
 * EXPECT: FALLOCATE f offset=100 length=5000 detail=3
 * EXPECT: FALLOCATE f offset=20010 length=3000 detail=3
 * EXPECT: FALLOCATE f offset=39000 length=500 detail=3
 * EXPECT: FALLOCATE f offset=0 length=100000 detail=1
 * EXPECT: SETFLAGS f
 * COUNT: WRITE one 1
 * COUNT: WRITE two 2
 * COUNT: TRUNCATE f 0
 */
#include "must.h"
#include <linux/fs.h>
#include <sys/ioctl.h>

struct space {
	short type, whence;
	long long start, length;
	int sysid;
	unsigned pid;
	int pad[4];
};

enum { RESVSP = 40, UNRESVSP, RESVSP64, UNRESVSP64, ZERO_RANGE = 57 };

static void reserve(int fd, int number, int whence, long long start, long long length)
{
	struct space space = {.whence = whence, .start = start, .length = length};

	if (ioctl(fd, _IOW('X', number, struct space), &space) != 0 && errno != EOPNOTSUPP)
		MUST(-1);
}

/* The bytes stay, whatever the file system does about it. */
static void deduplicate(int one, int two, int three)
{
	struct {
		struct file_dedupe_range head;
		struct file_dedupe_range_info info[2];
	} range = {.head = {.src_offset = 0, .src_length = 40000, .dest_count = 2}};

	range.info[0] = (struct file_dedupe_range_info){.dest_fd = two, .dest_offset = 0};
	range.info[1] = (struct file_dedupe_range_info){.dest_fd = three, .dest_offset = 4096};
	if (ioctl(one, FIDEDUPERANGE, &range) != 0 && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOTTY)
		MUST(-1);
	if (getenv("SHOW"))
		dprintf(2, "deduplicated %lld (%d), %lld (%d)\n", (long long)range.info[0].bytes_deduped, range.info[0].status,
			(long long)range.info[1].bytes_deduped, range.info[1].status);
}

static void set_flags(int fd)
{
	struct fsxattr extended;
	struct {
		uint64_t flags;
		uint32_t extent, extents, project, cow;
	} attributes = {0};
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NODUMP_FL;
		MUST(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	}
	if (ioctl(fd, FS_IOC_FSGETXATTR, &extended) == 0) {
		extended.fsx_xflags |= FS_XFLAG_NOATIME;
		MUST(ioctl(fd, FS_IOC_FSSETXATTR, &extended));
	}
	attributes.flags = FS_XFLAG_NODUMP;
	syscall(469 /* file_setattr, Linux 6.17 */, AT_FDCWD, "f", &attributes, sizeof(attributes), 0);
}

int main(void)
{
	char bytes[40000];
	int fd = MUST(open("f", O_RDWR | O_CREAT, 0644)), one, two, three;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(1 + i % 250);
	MUST(write(fd, bytes, sizeof(bytes)));
	reserve(fd, UNRESVSP64, SEEK_SET, 100, 5000);
	instant("from the start");
	MUST(lseek(fd, 20000, SEEK_SET));
	reserve(fd, UNRESVSP, SEEK_CUR, 10, 3000);
	instant("from the position");
	reserve(fd, UNRESVSP, SEEK_END, -1000, 500);
	instant("from the end");
	reserve(fd, RESVSP, SEEK_SET, 0, 100000); /* the size stays */
	reserve(fd, RESVSP64, SEEK_SET, 0, 200000);
	reserve(fd, ZERO_RANGE, SEEK_SET, 30000, 100);
	instant("zeroed");
	MUST_FAIL(ioctl(fd, FS_IOC_SETFLAGS, NULL));
	set_flags(fd);

	one = MUST(open("one", O_RDWR | O_CREAT, 0644));
	two = MUST(open("two", O_RDWR | O_CREAT, 0644));
	three = MUST(open("three", O_RDWR | O_CREAT, 0644));
	MUST(write(one, bytes, sizeof(bytes)));
	MUST(write(two, bytes, sizeof(bytes)));
	MUST(pwrite(three, bytes, sizeof(bytes), 4096));
	MUST(fsync(one) + fsync(two) + fsync(three));
	instant("before they are shared");
	deduplicate(one, two, three);
	instant("shared");
	MUST(pwrite(two, "apart", 5, 1000));
	return 0;
}
