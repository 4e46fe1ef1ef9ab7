// SPDX-License-Identifier: Apache-2.0
/*
 * O_DIRECT: writes that pass by the page cache, and by the tracepoints at it.
 *
 * A wrong recorder takes their place from the descriptor, or from the size of the file, when the call returns: with
 * several writers at one descriptor, or several that append, that is another's; and while a write waits for the disk
 * another thread may give its descriptor to another file.
 *
 * EXPECT: WRITE plain offset=0 length=8192
 * EXPECT: WRITE plain offset=8192 length=4096
 * EXPECT: WRITE plain offset=40960 length=4096
 * EXPECT: WRITE plain offset=4096 length=4096
 * EXPECT: WRITE mixed offset=4096 length=5000
 * EXPECT: WRITE spliced length=4096
 * COUNT: WRITE appended 400
 * COUNT: WRITE shared 400
 */
#include "must.h"
#include <pthread.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { BLOCK = 4096, WRITERS = 4, ROUNDS = 100 };

static char *block;
static volatile int is_done;

static const char *filled(int value)
{
	memset(block, value, 2 * BLOCK);
	return block;
}

static int direct(const char *name, int flags)
{
	int fd = open(name, O_RDWR | O_CREAT | O_DIRECT | flags, 0644);

	if (fd < 0 && errno == EINVAL)
		exit(77);
	return MUST(fd);
}

static void one_after_another(void)
{
	struct iovec vectors[2] = {{block, BLOCK}, {block, BLOCK}};
	int fd = direct("plain", 0), mixed;

	MUST(write(fd, filled('a'), 2 * BLOCK));
	MUST(write(fd, filled('b'), BLOCK));
	instant("written");
	MUST(pwrite(fd, filled('c'), BLOCK, 10 * BLOCK));
	MUST(pread(fd, block, BLOCK, 0)); /* a read in between is none */
	MUST(pwrite(fd, filled('d'), BLOCK, BLOCK));
	MUST(pwritev(fd, vectors, 2, 20 * BLOCK));
	if (pwrite(fd, block + 1, 100, 3) >= 0)
		exit(77); /* direct in name only */
	instant("placed");
	mixed = MUST(open("mixed", O_RDWR | O_CREAT, 0644));
	MUST(pwrite(direct("mixed", 0), filled('e'), BLOCK, 0));
	MUST(pwrite(mixed, filled('f'), 5000, BLOCK));
	MUST(pwrite(direct("mixed", 0), filled('g'), BLOCK, 0));
	MUST(pwrite(mixed, "buffered", 8, 100));
	instant("mixed");
}

static void spliced(void)
{
	int pipes[2], fd = direct("spliced", 0);

	MUST(pipe(pipes));
	MUST(write(pipes[1], filled('s'), BLOCK));
	MUST(splice(pipes[0], NULL, fd, NULL, BLOCK, 0));
}

/* All at once: each block tells its writer and its round. */
static void together(const char *name, int flags, int is_shared)
{
	int fd = direct(name, flags);

	for (int writer = 0; writer < WRITERS; writer++) {
		if (MUST(fork()))
			continue;
		if (!is_shared)
			fd = direct(name, flags);
		for (int round = 0; round < ROUNDS; round++) {
			int *words = (int *)filled('0' + writer);

			words[0] = round;
			MUST(write(fd, block, BLOCK));
		}
		_exit(0);
	}
	for (int writer = 0; writer < WRITERS; writer++) {
		int status;

		MUST(wait(&status));
		if (status)
			exit(1);
	}
	MUST(close(fd));
	instant(name);
}

static void *give_away(void *number)
{
	int files[2] = {direct("left", O_APPEND), direct("right", O_APPEND)};

	for (int i = 0; !is_done; i++)
		MUST(dup2(files[i % 2], *(int *)number));
	return NULL;
}

static void given_away(void)
{
	int fd = MUST(dup(direct("left", O_APPEND)));
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, give_away, &fd) ? -1 : 0);
	for (int round = 0; round < ROUNDS; round++) {
		int *words = (int *)filled('x');

		words[0] = round;
		MUST(write(fd, block, BLOCK));
	}
	is_done = 1;
	pthread_join(thread, NULL);
	instant("given away");
}

int main(void)
{
	MUST(posix_memalign((void **)&block, BLOCK, 2 * BLOCK) ? -1 : 0);
	one_after_another();
	spliced();
	together("appended", O_APPEND, 0);
	if (MUST(lseek(direct("appended", 0), 0, SEEK_END)) != WRITERS * ROUNDS * BLOCK)
		exit(77); /* XFS lets them write over each other: nobody knows who was last */
	together("shared", 0, 1);
	given_away();
	return 0;
}
