// SPDX-License-Identifier: Apache-2.0
/*
 * copy_file_range, FICLONE, FICLONERANGE, sendfile, splice, tee, vmsplice: bytes that come without a buffer to read.
 *
 * A wrong recorder misses all of them, and they are what cp, shutil and cat use; then offsets: those given and those that
 * the descriptors keep; copies within one file; sources outside of the tree.
 *
 * EXPECT: COPY range length=50000
 * EXPECT: COPY sent length=50000
 * EXPECT: WRITE spliced length=11
 */
#include "must.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

int main(void)
{
	char bytes[50000];
	struct iovec vector = {"from memory", 11};
	int source = MUST(open("source", O_RDWR | O_CREAT, 0644));
	int target, pipes[2];
	off_t from = 100, to = 7;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * i);
	MUST(write(source, bytes, sizeof(bytes)));

	MUST(lseek(source, 0, SEEK_SET));
	target = MUST(open("range", O_RDWR | O_CREAT, 0644));
	MUST(copy_file_range(source, NULL, target, NULL, sizeof(bytes), 0));
	MUST(copy_file_range(source, &from, target, &to, 1000, 0));
	from = 0, to = 45000;
	MUST(copy_file_range(target, &from, target, &to, 20000, 0));
	MUST(copy_file_range(source, NULL, target, NULL, 1000, 0)); /* at the end: copies nothing */

	target = MUST(open("cloned", O_RDWR | O_CREAT, 0644));
	if (ioctl(target, FICLONE, source) != 0 && errno != EOPNOTSUPP && errno != EINVAL)
		MUST(-1);

	MUST(lseek(source, 0, SEEK_SET));
	target = MUST(open("sent", O_WRONLY | O_CREAT, 0644));
	MUST(sendfile(target, source, NULL, sizeof(bytes)));
	from = 5;
	MUST(sendfile(target, source, &from, 100));

	MUST(pipe(pipes));
	target = MUST(open("spliced", O_WRONLY | O_CREAT, 0644));
	MUST(write(pipes[1], "into a pipe", 11));
	MUST(splice(pipes[0], NULL, target, NULL, 11, 0));
	MUST(vmsplice(pipes[1], &vector, 1, 0));
	to = 100;
	MUST(splice(pipes[0], NULL, target, &to, 11, 0));
	from = 200;
	MUST(splice(source, &from, pipes[1], NULL, 4000, 0));
	MUST(splice(pipes[0], NULL, target, NULL, 4000, 0));

	target = MUST(open("from outside", O_WRONLY | O_CREAT, 0644));
	from = 0;
	MUST(sendfile(target, MUST(open("/proc/self/exe", O_RDONLY)), &from, 6000));
	return 0;
}
