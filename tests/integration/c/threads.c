// SPDX-License-Identifier: Apache-2.0
/*
 * Threads that share descriptors, and one that moves them about with dup2 meanwhile.
 *
 * A wrong recorder misses: which file a write went to, when the descriptor names another one by the time the call
 * returns; its offset, when another thread moved the shared one; the order of writes to one place.
 *
 * EXPECT: WRITE one
 * EXPECT: WRITE two
 * EXPECT: WRITE shared
 */
#include "must.h"
#include <pthread.h>
#include <stdatomic.h>

enum { ROUNDS = 4000 };

static int moving, one, two, shared;
static atomic_int writing = 2;
static pthread_barrier_t start;

static void *write_moving(void *text)
{
	pthread_barrier_wait(&start);
	for (int i = 0; i < ROUNDS; i++)
		MUST(write(moving, text, strlen(text)));
	writing--;
	return NULL;
}

static void *write_shared(void *text)
{
	for (int i = 0; i < ROUNDS; i++) {
		MUST(write(shared, text, strlen(text)));
		MUST(pwrite(shared, text, strlen(text), 0));
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[4];
	char *texts[] = {"aaaaaaa\n", "bbb\n", "cccccccccccc\n", "dd\n"};

	one = MUST(open("one", O_WRONLY | O_CREAT | O_APPEND, 0644));
	two = MUST(open("two", O_WRONLY | O_CREAT | O_APPEND, 0644));
	shared = MUST(open("shared", O_WRONLY | O_CREAT, 0644));
	moving = MUST(dup(two));
	MUST(write(moving, "so that there is one\n", 21));
	MUST(dup2(one, moving));
	MUST(write(moving, "so that there is one\n", 21));
	MUST(-pthread_barrier_init(&start, NULL, 3));
	for (int i = 0; i < 4; i++)
		MUST(-pthread_create(&threads[i], NULL, i < 2 ? write_moving : write_shared, texts[i]));
	pthread_barrier_wait(&start);
	for (int i = 0; writing; i++)
		MUST(dup2(i % 2 ? one : two, moving));
	for (int i = 0; i < 4; i++)
		MUST(-pthread_join(threads[i], NULL));
	return 0;
}
