// SPDX-License-Identifier: Apache-2.0
/*
 * writev, pwritev, pwritev2.
 *
 * A wrong recorder misses: vectors beyond the eighth, empty ones between others, the offset of -1 that means the file's
 * own, RWF_APPEND on a descriptor without O_APPEND.
 *
 * EXPECT: WRITE many offset=0 length=1024
 * EXPECT: WRITE many offset=10 length=6
 * EXPECT: WRITE many offset=1024 length=4
 * EXPECT: WRITE many offset=1028 length=3
 * EXPECT: WRITE big offset=0 length=2000000
 */
#include "must.h"
#include <sys/uio.h>

int main(void)
{
	struct iovec many[1024], three[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}}, one = {"tail", 4}, end = {"end", 3};
	struct iovec big[2];
	char bytes[1024];
	int fd = MUST(open("many", O_RDWR | O_CREAT, 0644));

	for (int i = 0; i < 1024; i++) {
		bytes[i] = (char)(i % 251);
		many[i] = (struct iovec){&bytes[i], 1};
	}
	MUST(writev(fd, many, 1024));
	MUST(pwritev(fd, three, 3, 10));
	MUST(pwritev2(fd, &one, 1, -1, 0));
	MUST(lseek(fd, 0, SEEK_SET));
	MUST(pwritev2(fd, &end, 1, 0, RWF_APPEND));

	for (int i = 0; i < 2; i++) {
		big[i] = (struct iovec){malloc(1000000), 1000000};
		memset(big[i].iov_base, 'a' + i, 1000000);
	}
	fd = MUST(open("big", O_WRONLY | O_CREAT, 0644));
	MUST(writev(fd, big, 2));
	return 0;
}
