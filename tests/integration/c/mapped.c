// SPDX-License-Identifier: Apache-2.0
/*
 * Stores into shared mappings, seen by looking at the file while it is mapped: after mmap, mprotect, mremap, fork, and
 * when somebody else writes into the mapped memory.
 *
 * A wrong recorder misses: the bytes that were stored (no call tells of them); those of a mapping that became writable
 * only later, that grew, that a child inherited, whose file has lost its name or has another one; bytes that read() or
 * another process put into the mapping. Or it takes away the file's capabilities, as a write does; or it takes a private
 * mapping, a mapped file that nobody stored into, or a memory file for changed; or it takes bytes from a write() for
 * stores.
 *
 * EXPECT: WRITE stored offset=5000 length=5
 * EXPECT: WRITE protected offset=1 length=3
 * EXPECT: WRITE moved offset=20000 length=4
 * EXPECT: WRITE forked offset=6 length=5
 * EXPECT: WRITE unlinked (deleted) offset=7 length=4
 * EXPECT: WRITE renamed offset=8 length=4
 * EXPECT: WRITE filled offset=0 length=9
 * EXPECT: WRITE foreign offset=3 length=7
 * COUNT: WRITE private 1
 * COUNT: WRITE untouched 1
 * COUNT: WRITE read 1
 */
#include "must.h"

#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* struct vfs_cap_data, revision 2: no capability */
#define CAPABILITIES "\0\0\0\2\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

enum { LOOKED = 350000 }; /* µs in which a file is surely looked at */

static int fd_of(const char *path, size_t size)
{
	char *bytes = malloc(size);
	int fd = MUST(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));

	memset(bytes, '.', size);
	MUST(write(fd, bytes, size));
	free(bytes);
	return fd;
}

static char *map(int fd, size_t size, int protection, int flags)
{
	char *at = mmap(NULL, size, protection, flags, fd, 0);

	MUST(at == MAP_FAILED ? -1 : 0);
	return at;
}

static char *shared(const char *path, size_t size)
{
	int fd = fd_of(path, size);
	char *at = map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED);

	MUST(close(fd));
	return at;
}

/* A page of another process's shared mapping, written by process_vm_writev. */
static void write_into(pid_t pid, char *to, const char *text)
{
	struct iovec local = {(void *)text, strlen(text)}, remote = {to, strlen(text)};

	MUST(process_vm_writev(pid, &local, 1, &remote, 1, 0) == (long)strlen(text) ? 0 : -1);
}

int main(void)
{
	int fd = fd_of("protected", 5000), memory = MUST(memfd_create("none of a root's", 0));
	char *protected = map(fd, 5000, PROT_READ, MAP_SHARED);
	char *stored = shared("stored", 10000), *moved = shared("moved", 40000), *forked = shared("forked", 100);
	char *unlinked = shared("unlinked", 100), *renamed = shared("named", 100), *filled = shared("filled", 5000);
	char *foreign = shared("foreign", 100), *anonymous;
	int private = fd_of("private", 5000), source = MUST(open("source", O_RDWR | O_CREAT, 0644));
	pid_t child;

	shared("untouched", 5000);
	map(fd_of("read", 5000), 5000, PROT_READ, MAP_SHARED);
	memset(map(private, 5000, PROT_READ | PROT_WRITE, MAP_PRIVATE), 'p', 5000);
	MUST(ftruncate(memory, 5000));
	anonymous = map(memory, 5000, PROT_READ | PROT_WRITE, MAP_SHARED);
	MUST(usleep(LOOKED));
	strcpy(anonymous, "memory");
	MUST(setxattr("stored", "security.capability", CAPABILITIES, sizeof(CAPABILITIES) - 1, 0));
	memcpy(stored + 5000, "hello", 5);
	MUST(mprotect(protected, 5000, PROT_READ | PROT_WRITE));
	memcpy(protected + 1, "one", 3);
	moved = mremap(moved, 4096, 40000, MREMAP_MAYMOVE);
	MUST(moved == MAP_FAILED ? -1 : 0);
	memcpy(moved + 20000, "grew", 4);
	MUST(unlink("unlinked"));
	memcpy(unlinked + 7, "gone", 4);
	MUST(rename("named", "renamed"));
	memcpy(renamed + 8, "here", 4);
	MUST(write(source, "from file", 9));
	MUST(pread(source, filled, 9, 0));
	child = MUST(fork());
	if (!child) {
		memcpy(forked + 6, "child", 5);
		write_into(getppid(), foreign + 3, "foreign");
		_exit(0);
	}
	MUST(waitpid(child, NULL, 0));
	MUST(usleep(LOOKED));
	memcpy(stored + 5000, "HELLO", 5);
	MUST(usleep(LOOKED));
	return 0;
}
