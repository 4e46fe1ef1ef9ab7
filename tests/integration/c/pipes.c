// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes that reach files by way of pipes, and sendfile from every kind of source.
 *
 * A wrong recorder takes what splice moves for what was written last into the pipe, or for the file that it came from as
 * it is now: vmsplice lends the caller's own pages, which the caller may change before they are spliced; tee copies a
 * pipe, so that the same bytes reach two files; and a file sent onto itself may be read where it was just written.
 *
 * EXPECT: WRITE lent length=8192
 * EXPECT: WRITE first length=26
 * EXPECT: WRITE second length=26
 * EXPECT: WRITE zeros length=9000
 * EXPECT: WRITE of memory offset=3 length=20000
 * EXPECT: WRITE of proc
 * EXPECT: COPY of a file length=60000
 * EXPECT: WRITE through offset=5 length=30000
 * EXPECT: COPY appended length=5000
 */
#include "must.h"
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static char bytes[60000];

static int made(const char *name)
{
	return MUST(open(name, O_RDWR | O_CREAT, 0644));
}

static void lent(void)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec vector = {pages, 8192};
	int pipes[2];

	memset(pages, 'a', 8192);
	MUST(pipe(pipes));
	MUST(vmsplice(pipes[1], &vector, 1, 0));
	memset(pages, 'b', 5000); /* the pipe holds the pages, not their bytes */
	MUST(splice(pipes[0], NULL, made("lent"), NULL, 8192, 0));
	memset(pages, 'c', 8192);
	instant("lent");
}

static void teed(void)
{
	int one[2], two[2], first = made("first"), second = made("second");

	MUST(pipe(one));
	MUST(pipe(two));
	MUST(write(one[1], "for the first, the second", 26));
	MUST(tee(one[0], two[1], 26, 0));
	MUST(splice(one[0], NULL, first, NULL, 26, 0));
	instant("the first");
	MUST(splice(two[0], NULL, second, NULL, 26, 0));
	instant("both");
}

static void through(int source)
{
	int pipes[2], to = made("through");
	off_t from = 1000, at = 5;

	MUST(pipe(pipes));
	MUST(splice(source, &from, pipes[1], NULL, 30000, 0));
	MUST(pwrite(source, "changed before it arrives", 25, 2000));
	MUST(splice(pipes[0], NULL, to, &at, 30000, 0));
	instant("through");
}

static void sent(int source)
{
	int memory = MUST(memfd_create("source", 0)), to;
	off_t from = 0;

	MUST(write(memory, bytes, sizeof(bytes)));
	MUST(sendfile(made("zeros"), MUST(open("/dev/zero", O_RDONLY)), NULL, 9000));
	to = made("of memory");
	MUST(lseek(to, 3, SEEK_SET));
	from = 100;
	MUST(sendfile(to, memory, &from, 20000));
	MUST(sendfile(made("of proc"), MUST(open("/proc/version", O_RDONLY)), NULL, 4096));
	from = 0;
	MUST(sendfile(made("of a file"), source, &from, sizeof(bytes)));
	MUST(pwrite(source, "only in the source", 18, 4000));
	instant("sent");
	to = made("appended");
	MUST(write(to, "first ", 6));
	from = 3990;
	MUST(sendfile(to, source, &from, 5000));
	to = made("onto itself");
	MUST(write(to, bytes, 30000));
	from = 10;
	MUST(sendfile(to, MUST(open("onto itself", O_RDONLY)), &from, 1000));
	from = 30500;
	MUST(sendfile(to, MUST(open("onto itself", O_RDONLY)), &from, 5000)); /* it reads what it has just written */
	MUST_FAIL(sendfile(MUST(open("first", O_WRONLY | O_APPEND)), source, NULL, 10));
}

int main(void)
{
	int source = made("source");

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 % 251);
	MUST(write(source, bytes, sizeof(bytes)));
	lent();
	teed();
	through(source);
	sent(source);
	return 0;
}
