// SPDX-License-Identifier: Apache-2.0
/* Several processes write over each other, twice, with a rest and an instant after each time. */
#include "../c/must.h"
#include <sys/wait.h>

enum { WRITERS = 3, ROUNDS = 40, BYTES = 1 << 20 };

static void race(int fd)
{
	for (int writer = 0; writer < WRITERS; writer++) {
		static char block[BYTES];

		if (MUST(fork()))
			continue;
		memset(block, 'a' + writer, BYTES);
		for (int i = 0; i < ROUNDS; i++)
			MUST(pwrite(fd, block, BYTES - i * 100, (i * 37) % 3000));
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	usleep(600000);
}

int main(void)
{
	int fd = MUST(open("ranges", O_RDWR | O_CREAT, 0644));

	race(fd);
	instant("first");
	race(fd);
	instant("second");
	return 0;
}
