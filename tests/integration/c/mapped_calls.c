// SPDX-License-Identifier: Apache-2.0
/*
 * Stores into shared mappings that a call makes the last chance to see: what was stored is gone, or the file has another
 * name or size, the moment the call is over.
 *
 * A wrong recorder misses: bytes that were stored before msync, munmap, mprotect, mremap, fsync, exec, or a death by
 * signal, and that somebody replaces right behind it; bytes beyond the new end of a file that is cut; or it puts them
 * after the call: after the cut (the file is longer then), or under the new name.
 *
 * EXPECT: WRITE synced offset=0 length=5 marks=64
 * EXPECT: WRITE synced offset=1 length=3 marks=64
 * EXPECT: WRITE flushed offset=0 length=6 marks=64
 * EXPECT: WRITE flushed offset=2 length=2 marks=64
 * EXPECT: WRITE unmapped offset=8192 length=9 marks=64
 * EXPECT: WRITE protected offset=4 length=5 marks=64
 * EXPECT: WRITE shrunk offset=9000 length=5 marks=64
 * EXPECT: WRITE cut offset=4999 length=2 marks=64 size=10000
 * EXPECT: WRITE emptied offset=77 length=3 marks=64 size=100
 * EXPECT: WRITE named offset=0 length=4 marks=64
 * EXPECT: WRITE nameless offset=0 length=4 marks=64
 * EXPECT: WRITE killed offset=1 length=4 marks=64
 * EXPECT: WRITE executed offset=2 length=4 marks=64
 * COUNT: WRITE private 1
 */
#include "must.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SIZE = 10000 };

static int fd;

/* A new file with a shared mapping of all of it, which is the last descriptor opened. */
static char *mapped(const char *path, size_t size)
{
	char bytes[SIZE], *at;

	memset(bytes, '.', size);
	fd = MUST(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
	MUST(write(fd, bytes, size));
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(at == MAP_FAILED ? -1 : 0);
	return at;
}

static void emptied_at_once(void)
{
	MUST(ftruncate(fd, 0));
	MUST(write(fd, "another", 7));
}

static void in_child(char *at, const char *text, void (*end)(void))
{
	pid_t child = MUST(fork());

	if (!child) {
		strncpy(at, text, strlen(text));
		end();
	}
	MUST(waitpid(child, NULL, 0));
	emptied_at_once();
}

static void die(void)
{
	raise(SIGKILL);
}

static void run(void)
{
	execl("/bin/true", "true", NULL);
}

int main(void)
{
	char *at = mapped("synced", 100);

	memcpy(at, "first", 5);
	MUST(msync(at, 100, MS_SYNC));
	memcpy(at + 1, "IRS", 3);
	MUST(msync(at, 100, MS_ASYNC));
	at = mapped("flushed", 100);
	memcpy(at, "stored", 6);
	MUST(fsync(fd));
	memcpy(at + 2, "OR", 2);
	MUST(fdatasync(fd));

	at = mapped("unmapped", SIZE);
	memcpy(at + 8192, "last page", 9);
	MUST(munmap(at, SIZE));
	emptied_at_once();
	at = mapped("protected", 100);
	memcpy(at + 4, "guard", 5);
	MUST(mprotect(at, 100, PROT_READ));
	emptied_at_once();
	at = mapped("shrunk", SIZE);
	memcpy(at + 9000, "short", 5);
	MUST(mremap(at, SIZE, 4096, 0) == MAP_FAILED ? -1 : 0);
	emptied_at_once();

	at = mapped("cut", SIZE);
	memcpy(at + 4999, "ab", 2);
	MUST(ftruncate(fd, 5000));
	at = mapped("emptied", 100);
	memcpy(at + 77, "xyz", 3);
	MUST(open("emptied", O_WRONLY | O_TRUNC));
	at = mapped("named", 100);
	memcpy(at, "name", 4);
	MUST(rename("named", "renamed"));
	at = mapped("nameless", 100);
	memcpy(at, "gone", 4);
	MUST(unlink("nameless"));

	at = mapped("killed", 100);
	in_child(at + 1, "died", die);
	at = mapped("executed", 100);
	in_child(at + 2, "exec", run);

	mapped("private", 100);
	at = mmap(NULL, 100, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	memcpy(at, "private", 7);
	MUST(munmap(at, 100));
	return 0;
}
