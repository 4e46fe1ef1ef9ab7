// SPDX-License-Identifier: Apache-2.0
/*
 * Change files by the rarer roads, mixed at speed: PROCESSES ROUNDS. Each process writes to files of its own, and all of
 * them move, exchange and remove the same few names.
 */
#include "compat.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

enum { FILES = 6, COMMON = 8, ROOM = 70000 };

static unsigned long chance;
static int self, takes_32_bit_calls;
static char *bytes; /* below 4 GiB */

static unsigned below(unsigned limit)
{
	chance = chance * 6364136223846793005ul + 1442695040888963407ul;
	return (chance >> 33) % limit;
}

/* A name of this process's own, by turns of several. */
static char *own(void)
{
	static char *names[8];
	static int at;

	at = (at + 1) % 8;
	if (!names[at])
		names[at] = low(64);
	sprintf(names[at], "p%d/f%u", self, below(FILES));
	return names[at];
}

static char *common(void)
{
	static char *names[8];
	static int at;

	at = (at + 1) % 8;
	if (!names[at])
		names[at] = low(64);
	sprintf(names[at], "common/n%u", below(COMMON));
	return names[at];
}

static const char *some(unsigned length)
{
	unsigned from = below(ROOM - length);

	for (unsigned i = 0; i < length; i += 61)
		bytes[from + i] = (char)below(256);
	return bytes + from;
}

static int opened(int flags)
{
	return open(own(), O_RDWR | O_CREAT | flags, 0644);
}

/* 32-bit calls */

static void by_32_bits(void)
{
	static char *room;
	unsigned length = 1 + below(9000), *vector;
	static int source;
	int fd = CALL32(I_OPEN, own(), O_RDWR | O_CREAT, 0644);
	loff_t offset = below(60000);

	if (!room)
		room = low(64);
	vector = (unsigned *)room;
	if (!source)
		source = MUST(open("/proc/self/exe", O_RDONLY));
	switch (below(10)) {
	case 0:
		CALL32(I_PWRITE64, fd, some(length), length, offset, 0);
		break;
	case 1:
		vector[0] = (long)some(length);
		vector[2] = (long)some(100);
		vector[1] = length;
		vector[3] = 100;
		CALL32(I_WRITEV, fd, vector, 2);
		break;
	case 2:
		vector[0] = (long)some(length);
		vector[1] = length;
		CALL32(I_PWRITEV2, fd, vector, 1, offset, 0, below(2) ? 0x10 : 0);
		break;
	case 3:
		CALL32(I_FTRUNCATE64, fd, below(60000), 0);
		break;
	case 4:
		CALL32(I_FALLOCATE, fd, below(2) ? 0 : 3, offset, 0, 1 + below(20000), 0);
		break;
	case 5:
		CALL32(I_RENAMEAT2, AT_FDCWD, own(), AT_FDCWD, own(), below(2) ? RENAME_EXCHANGE : 0);
		break;
	case 6:
		CALL32(I_UNLINKAT, AT_FDCWD, own(), 0);
		break;
	case 7:
		CALL32(I_FCHMOD, fd, 0600 + below(64));
		CALL32(I_FCHOWN, fd, below(9), 0xffff);
		break;
	case 8:
		*(unsigned *)room = below(1000);
		CALL32(I_SENDFILE, fd, source, room, length);
		break;
	case 9:
		CALL32(I_LINK, own(), common());
		break;
	}
	CALL32(I_WRITE, fd, some(40), 40);
	CALL32(I_CLOSE, fd);
}

/* ioctl, xattr calls by number */

static void by_ioctl(void)
{
	struct {
		short type, whence;
		long long start, length;
		int rest[6];
	} space = {0};
	int fd = opened(0), numbers[] = {40, 41, 42, 43, 57}, flags = 0;
	struct {
		uint64_t value;
		uint32_t size, flags;
	} value = {(long)some(30), below(30), 0};

	lseek(fd, below(30000), SEEK_SET);
	space.whence = below(3);
	space.start = space.whence == SEEK_END ? -(long long)below(5000) : below(30000);
	space.length = 1 + below(20000);
	ioctl(fd, _IOC(_IOC_WRITE, 'X', numbers[below(5)], 48), &space);
	write(fd, some(100), 100);
	if (below(4) == 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags ^= FS_NODUMP_FL;
		ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	syscall(463, fd, "", AT_EMPTY_PATH, below(2) ? "user.a" : "user.b", &value, sizeof(value));
	if (below(2))
		syscall(466, AT_FDCWD, own(), 0, "user.a");
	close(fd);
}

/* Bytes without a buffer. */

static void by_pipe(void)
{
	int one[2], two[2], to = opened(0), other = opened(0), length = 1 + below(4000);
	struct iovec vector = {(void *)some(length), length};
	off_t at = below(20000);

	MUST(pipe(one));
	MUST(pipe(two));
	vmsplice(one[1], &vector, 1, 0);
	tee(one[0], two[1], length, 0);
	splice(one[0], NULL, to, below(2) ? &at : NULL, length, 0);
	splice(two[0], NULL, other, NULL, length, 0);
	close(one[0]), close(one[1]), close(two[0]), close(two[1]), close(to), close(other);
}

static void by_sendfile(void)
{
	const char *sources[] = {"/proc/self/exe", "/dev/zero", own(), own(), "/etc/services"};
	int from = open(sources[below(5)], O_RDONLY), to = opened(below(2) ? O_TRUNC : 0);
	off_t at = below(3000);

	lseek(to, below(9000), SEEK_SET);
	if (from >= 0)
		sendfile(to, from, below(2) ? &at : NULL, 1 + below(30000));
	if (from >= 0 && below(2))
		copy_file_range(from, &at, to, NULL, 1 + below(20000), 0);
	close(from), close(to);
}

/* Opens without a name. */

static void by_descriptor(void)
{
	struct {
		struct file_handle head;
		char room[128];
	} handle = {.head.handle_bytes = 128};
	char path[64];
	int fd, again = -1, mount;

	switch (below(3)) {
	case 0:
		fd = opened(0);
		snprintf(path, sizeof(path), "/%s/fd/%d", below(2) ? "proc/self" : "dev/..//proc/thread-self", fd);
		again = open(path, O_WRONLY | (below(2) ? O_TRUNC : O_APPEND) | O_CREAT, 0600);
		break;
	case 1:
		fd = open(".", O_RDONLY | O_DIRECTORY);
		if (name_to_handle_at(AT_FDCWD, own(), &handle.head, &mount, 0) == 0)
			again = open_by_handle_at(fd, &handle.head, O_WRONLY | O_TRUNC);
		break;
	default:
		fd = open("common", O_WRONLY | O_TMPFILE, 0640);
		write(fd, some(3000), 3000);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		unlink(own());
		linkat(AT_FDCWD, path, AT_FDCWD, below(2) ? own() : common(), AT_SYMLINK_FOLLOW);
		break;
	}
	write(again, some(200), 200);
	close(again), close(fd);
}

/* Names that all processes are after. */

static void by_name(void)
{
	int flags[] = {0, 0, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
	char inner[64];

	switch (below(6)) {
	case 0:
		mkdir(common(), 0755);
		break;
	case 1:
		unlink(common());
		break;
	case 2:
		rmdir(common());
		break;
	case 3:
		snprintf(inner, sizeof(inner), "%s/in", common());
		close(open(inner, O_WRONLY | O_CREAT, 0644));
		unlink(inner);
		break;
	default:
		renameat2(AT_FDCWD, common(), AT_FDCWD, common(), flags[below(5)]);
	}
}

static void in_another_root(void)
{
	char name[64];
	pid_t child = MUST(fork());

	snprintf(name, sizeof(name), "p%d", self);
	if (child == 0) {
		if (chroot(name) == 0 && chdir("/") == 0) {
			snprintf(name, sizeof(name), "/f%u", below(FILES));
			close(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600));
			rename(name, "/f0");
			chmod("/f1", 0600 + below(64));
		}
		_exit(0);
	}
	MUST(waitpid(child, NULL, 0));
}

static void directly(void)
{
	static char *block;
	int fd = opened(O_DIRECT);

	if (!block)
		MUST(posix_memalign((void **)&block, 4096, 16384) ? -1 : 0);
	memset(block, below(256), 16384);
	pwrite(fd, block, 4096 * (1 + below(4)), 4096 * below(12));
	close(fd);
}

static void into_a_fifo(void)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "p%d/fifo", self);
	if (below(9) == 0)
		unlink(name);
	mkfifo(name, 0600);
	fd = open(name, O_RDWR | O_NONBLOCK);
	write(fd, "x", 1);
	close(fd);
}

static void work(int rounds)
{
	char name[64];

	snprintf(name, sizeof(name), "p%d", self);
	MUST(mkdir(name, 0755));
	chance = 1000 + self;
	bytes = low(ROOM);
	for (int round = 0; round < rounds; round++) {
		switch (below(18)) {
		case 0 ... 5:
			if (takes_32_bit_calls)
				by_32_bits();
			break;
		case 6 ... 7:
			by_ioctl();
			break;
		case 8 ... 9:
			by_pipe();
			break;
		case 10 ... 11:
			by_sendfile();
			break;
		case 12 ... 13:
			by_descriptor();
			break;
		case 14 ... 15:
			by_name();
			break;
		case 16:
			directly();
			if (below(10) == 0)
				in_another_root();
			break;
		default:
			into_a_fifo();
		}
	}
	_exit(0);
}

int main(int count, char **words)
{
	int processes = count == 3 ? atoi(words[1]) : 1;

	takes_32_bit_calls = has_compat();
	MUST(mkdir("common", 0755));
	for (self = 0; self < processes; self++)
		if (MUST(fork()) == 0)
			work(atoi(words[2]));
	for (int i = 0; i < processes; i++) {
		int status;

		MUST(wait(&status));
		if (status)
			return 1;
	}
	return 0;
}
