// SPDX-License-Identifier: Apache-2.0
/*
 * A thread turns the descriptor to another file while it is written to. A recorder that knows the descriptor when the
 * call returns takes the bytes for the other file's.
 */
#include "../c/must.h"
#include <pthread.h>

enum { BYTES = 1 << 17, ROUNDS = 200 };

static volatile int is_done;

static void *turn(void *number)
{
	int files[2] = {MUST(open("left", O_RDWR | O_CREAT, 0644)), MUST(open("right", O_RDWR | O_CREAT, 0644))};

	for (int i = 0; !is_done; i++) {
		MUST(dup2(files[i % 2], *(int *)number));
		usleep(2000);
	}
	return NULL;
}

int main(void)
{
	static char block[BYTES];
	int fd = MUST(open("left", O_RDWR | O_CREAT, 0644));
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, turn, &fd) ? -1 : 0);
	for (int round = 0; round < ROUNDS; round++) {
		memset(block, 'a' + round % 26, BYTES);
		MUST(pwrite(fd, block, BYTES, (off_t)round * BYTES));
	}
	is_done = 1;
	pthread_join(thread, NULL);
	usleep(600000);
	instant("rest");
	return 0;
}
