// SPDX-License-Identifier: Apache-2.0
/*
 * pairs STATES [SEED COUNT [mapped]]: every sequence of two operations on two files in two folders, each in a folder of
 * its own.
 *
 * In the manner of ACE (Mohan et al., OSDI 2018). After each operation the folder is written down, with the time of
 * CLOCK_MONOTONIC: nobody else changes it, so it stays so until the next operation begins. COUNT sequences only, chosen
 * by SEED, where that is given. The form of STATES is read by stepwise.py:
 *
 *   = FOLDER T_NS WORDS             what was just done in FOLDER, and when it was over
 *   - KIND MODE UID GID MTIME_NS RDEV INODE SIZE CRC,CRC TARGET NAME=VALUE,… PATH      an entry; bytes in hexadecimal
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BLOCK 4096

enum { FOO, BAR };

struct operation {
	const char *name;
	int (*run)(const struct operation *operation);
	const char *one, *two;
	long number, length, offset;
};

static int opened[2];	    /* both files, since before the first operation: their names may go, they stay */
static unsigned char fresh; /* differs from write to write */
static char bytes[32768];
static FILE *states;

static const char *some_bytes(void)
{
	fresh++;
	for (size_t at = 0; at < sizeof(bytes); at++)
		bytes[at] = (char)(at * 7 + (at >> 8) + fresh);
	return bytes;
}

static int op_creat(const struct operation *operation)
{
	int fd = open(operation->one, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	return fd < 0 ? -1 : close(fd);
}

static int op_mkdir(const struct operation *operation)
{
	return mkdir(operation->one, 0755);
}

static int op_fallocate(const struct operation *operation)
{
	int fd = open(operation->one, O_RDWR), result;

	result = fallocate(fd, (int)operation->number, operation->offset, operation->length);
	return close(fd) + result;
}

static int op_write(const struct operation *operation)
{
	int fd = open(operation->one, O_WRONLY), result;

	result = pwrite(fd, some_bytes(), operation->length, operation->offset) < 0;
	return close(fd) + result;
}

static int op_append(const struct operation *operation)
{
	int fd = open(operation->one, O_WRONLY | O_APPEND), result;

	result = write(fd, some_bytes(), operation->length) < 0;
	return close(fd) + result;
}

/* Through the old descriptor, whatever has become of the name. */
static int op_overwrite(const struct operation *operation)
{
	return pwrite(opened[operation->number], some_bytes(), operation->length, operation->offset) < 0;
}

/* From an address that is not there: nothing is written, and the modification time may change all the same. */
static int op_bad_write(const struct operation *operation)
{
	return pwrite(opened[operation->number], (void *)16, operation->length, operation->offset) < 0;
}

static int op_store(const struct operation *operation)
{
	int fd = open(operation->one, O_RDWR);
	struct stat status;
	char *map;

	if (fd < 0 || fstat(fd, &status) != 0 || status.st_size < 2 * BLOCK)
		return close(fd);
	map = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return -1;
	memcpy(map + operation->offset, some_bytes(), operation->length);
	return munmap(map, 2 * BLOCK);
}

static int op_link(const struct operation *operation)
{
	return link(operation->one, operation->two);
}

static int op_symlink(const struct operation *operation)
{
	return symlink(operation->one, operation->two);
}

static int op_unlink(const struct operation *operation)
{
	return unlink(operation->one);
}

static int op_rmdir(const struct operation *operation)
{
	return rmdir(operation->one);
}

static int op_rename(const struct operation *operation)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, operation->one, AT_FDCWD, operation->two, operation->number);
}

static int op_truncate(const struct operation *operation)
{
	return truncate(operation->one, operation->length);
}

static int op_ftruncate(const struct operation *operation)
{
	return ftruncate(opened[operation->number], operation->length);
}

static int op_chmod(const struct operation *operation)
{
	return chmod(operation->one, (mode_t)operation->number);
}

static int op_chown(const struct operation *operation)
{
	return chown(operation->one, 1, 2);
}

static int op_utime(const struct operation *operation)
{
	struct timespec times[2] = {{1, 2}, {1000000000, 123456789}};

	return utimensat(AT_FDCWD, operation->one, times, 0);
}

static int op_setxattr(const struct operation *operation)
{
	return setxattr(operation->one, operation->two, "value", 5, 0);
}

static int op_removexattr(const struct operation *operation)
{
	return removexattr(operation->one, operation->two);
}

static int op_fsync(const struct operation *operation)
{
	return fsync(opened[operation->number]);
}

static int op_sync_range(const struct operation *operation)
{
	return sync_file_range(opened[operation->number], 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
}

static int op_copy(const struct operation *operation)
{
	int source = open(operation->one, O_RDONLY), target = open(operation->two, O_WRONLY | O_CREAT, 0644);
	off_t from = 1000, to = operation->offset;
	int result = copy_file_range(source, &from, target, &to, operation->length, 0) < 0;

	return close(source) + close(target) + result;
}

static int op_sendfile(const struct operation *operation)
{
	int source = open(operation->one, O_RDONLY), target = open(operation->two, O_WRONLY | O_CREAT, 0644);
	int result = sendfile(target, source, NULL, operation->length) < 0;

	return close(source) + close(target) + result;
}

static int op_splice(const struct operation *operation)
{
	int target = open(operation->one, O_WRONLY), ends[2], result;
	off_t to = operation->offset;

	if (pipe(ends) != 0)
		return -1;
	result = write(ends[1], some_bytes(), operation->length) < 0;
	result += splice(ends[0], NULL, target, &to, operation->length, SPLICE_F_NONBLOCK) < 0;
	return close(ends[0]) + close(ends[1]) + close(target) + result;
}

static int op_tmpfile(const struct operation *operation)
{
	int fd = open(".", O_TMPFILE | O_WRONLY, 0600), result;
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	result = write(fd, some_bytes(), operation->length) < 0;
	result += linkat(AT_FDCWD, path, AT_FDCWD, operation->one, AT_SYMLINK_FOLLOW);
	return close(fd) + result;
}

/* clang-format off */
static const struct operation operations[] = {
	{"creat", op_creat, "A/foo", "", 0, 0, 0}, {"creat", op_creat, "B/bar", "", 0, 0, 0},
	{"creat", op_creat, "A/bar", "", 0, 0, 0},
	{"mkdir", op_mkdir, "A/dir", "", 0, 0, 0}, {"mkdir", op_mkdir, "B/dir", "", 0, 0, 0},
	{"falloc", op_fallocate, "A/foo", "", 0, 9000, 4000}, {"falloc", op_fallocate, "B/bar", "", 0, 100, 20000},
	{"falloc keep", op_fallocate, "A/foo", "", 1, 20000, 4000}, {"falloc punch", op_fallocate, "A/foo", "", 3, 6000, 100},
	{"falloc zero", op_fallocate, "A/foo", "", 16, 9000, 5000}, {"falloc zero keep", op_fallocate, "A/foo", "", 17, 9000, 5000},
	{"falloc collapse", op_fallocate, "A/foo", "", 8, 4096, 0}, {"falloc insert", op_fallocate, "A/foo", "", 32, 4096, 4096},
	{"falloc collapse unaligned", op_fallocate, "A/foo", "", 8, 100, 0},
	{"write", op_write, "A/foo", "", 0, 5000, 3000}, {"write", op_write, "B/bar", "", 0, 3000, 17000},
	{"append", op_append, "A/foo", "", 0, 300, 0}, {"append", op_append, "B/bar", "", 0, 5000, 0},
	{"overwrite", op_overwrite, "", "", FOO, 9000, 500}, {"overwrite", op_overwrite, "", "", BAR, 4096, 0},
	{"bad write", op_bad_write, "", "", FOO, 4096, 0},
	{"mmapwrite", op_store, "A/foo", "", 0, 4000, 2000}, {"mmapwrite", op_store, "B/bar", "", 0, 100, 5000},
	{"link", op_link, "A/foo", "A/bar", 0, 0, 0}, {"link", op_link, "A/foo", "B/foo", 0, 0, 0},
	{"link", op_link, "B/bar", "A/bar", 0, 0, 0}, {"link", op_link, "B/bar", "A/foo", 0, 0, 0},
	{"symlink", op_symlink, "foo", "A/bar", 0, 0, 0}, {"symlink", op_symlink, "../A", "B/dir", 0, 0, 0},
	{"unlink", op_unlink, "A/foo", "", 0, 0, 0}, {"unlink", op_unlink, "B/bar", "", 0, 0, 0},
	{"unlink", op_unlink, "A/bar", "", 0, 0, 0},
	{"rmdir", op_rmdir, "A", "", 0, 0, 0}, {"rmdir", op_rmdir, "B", "", 0, 0, 0}, {"rmdir", op_rmdir, "A/dir", "", 0, 0, 0},
	{"rename", op_rename, "A/foo", "A/bar", 0, 0, 0}, {"rename", op_rename, "A/foo", "B/bar", 0, 0, 0},
	{"rename", op_rename, "B/bar", "A/foo", 0, 0, 0}, {"rename", op_rename, "A", "B", 0, 0, 0},
	{"rename", op_rename, "A", "C", 0, 0, 0}, {"rename", op_rename, "B", "A/dir", 0, 0, 0},
	{"rename", op_rename, "A/dir", "B/dir", 0, 0, 0}, {"noreplace", op_rename, "A/foo", "A/bar", RENAME_NOREPLACE, 0, 0},
	{"exchange", op_rename, "A/foo", "B/bar", RENAME_EXCHANGE, 0, 0}, {"exchange", op_rename, "A", "B", RENAME_EXCHANGE, 0, 0},
	{"exchange", op_rename, "A/foo", "B", RENAME_EXCHANGE, 0, 0}, {"exchange", op_rename, "A/bar", "B/bar", RENAME_EXCHANGE, 0, 0},
	{"whiteout", op_rename, "A/foo", "A/bar", RENAME_WHITEOUT, 0, 0}, {"whiteout", op_rename, "A/foo", "B/bar", RENAME_WHITEOUT, 0, 0},
	{"truncate", op_truncate, "A/foo", "", 0, 0, 0}, {"truncate", op_truncate, "A/foo", "", 0, 5000, 0},
	{"truncate", op_truncate, "A/foo", "", 0, 20000, 0}, {"truncate", op_truncate, "B/bar", "", 0, 0, 0},
	{"ftruncate", op_ftruncate, "", "", FOO, 100, 0},
	{"chmod", op_chmod, "A/foo", "", 04751, 0, 0}, {"chmod", op_chmod, "A", "", 02710, 0, 0},
	{"chown", op_chown, "A/foo", "", 0, 0, 0}, {"utime", op_utime, "A/foo", "", 0, 0, 0}, {"utime", op_utime, "B", "", 0, 0, 0},
	{"setxattr", op_setxattr, "A/foo", "user.new", 0, 0, 0}, {"setxattr", op_setxattr, "A", "user.old", 0, 0, 0},
	{"removexattr", op_removexattr, "A/foo", "user.old", 0, 0, 0},
	{"fsync", op_fsync, "", "", FOO, 0, 0}, {"sync range", op_sync_range, "", "", BAR, 0, 0},
	{"copy", op_copy, "A/foo", "B/bar", 0, 7000, 3000}, {"copy", op_copy, "B/bar", "A/bar", 0, 9000, 0},
	{"sendfile", op_sendfile, "A/foo", "A/bar", 0, 6000, 0}, {"splice", op_splice, "B/bar", "", 0, 5000, 100},
	{"tmpfile", op_tmpfile, "A/bar", "", 0, 5000, 0},
};
/* clang-format on */

static int make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);

	if (fd < 0 || write(fd, some_bytes(), 12000) != 12000)
		exit(1);
	return fd;
}

static void begin(const char *folder)
{
	if (mkdir(folder, 0755) != 0 || chdir(folder) != 0 || mkdir("A", 0755) != 0 || mkdir("B", 0755) != 0)
		exit(1);
	opened[FOO] = make_file("A/foo");
	opened[BAR] = make_file("B/bar");
	setxattr("A/foo", "user.old", "old", 3, 0);
}

static void end(void)
{
	close(opened[FOO]);
	close(opened[BAR]);
	if (chdir("..") != 0)
		exit(1);
}

static void put_hex(const char *text, size_t length)
{
	for (size_t at = 0; at < length; at++)
		fprintf(states, "%02x", (unsigned char)text[at]);
}

/* CRC-32 as zlib has it. */
static uint32_t checksum(const unsigned char *text, size_t length)
{
	static uint32_t table[256];
	uint32_t sum = 0xffffffff;

	for (uint32_t i = 0; i < 256 && !table[1]; i++)
		for (uint32_t j = i; j < 256; j++) {
			uint32_t value = j;

			for (int bit = 0; bit < 8; bit++)
				value = value & 1 ? value >> 1 ^ 0xedb88320 : value >> 1;
			table[j] = value;
		}
	while (length--)
		sum = sum >> 8 ^ table[(sum ^ *text++) & 255];
	return ~sum;
}

static void put_content(const char *path)
{
	static unsigned char block[BLOCK];
	int fd = open(path, O_RDONLY | O_NOATIME);
	ssize_t count;

	while ((count = read(fd, block, BLOCK)) > 0)
		fprintf(states, "%x,", checksum(block, (size_t)count));
	close(fd);
}

static void put_attributes(const char *path)
{
	char names[512], value[256];
	ssize_t length = llistxattr(path, names, sizeof(names));

	for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
		if (strncmp(names + at, "trusted.SGI_ACL_", 16) == 0)
			continue; /* as XFS shows an access control list a second time */
		ssize_t size = lgetxattr(path, names + at, value, sizeof(value));

		put_hex(names + at, strlen(names + at));
		fputc('=', states);
		put_hex(value, size > 0 ? (size_t)size : 0);
		fputc(',', states);
	}
}

static char kind_of(mode_t mode)
{
	return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISCHR(mode) ? 'c' : '?';
}

static void put_entry(const char *path)
{
	struct stat status;
	char target[64];
	ssize_t length;

	if (lstat(path, &status) != 0)
		exit(1);
	fprintf(states, "- %c %o %u %u %lld %llu %llu %lld ", kind_of(status.st_mode), status.st_mode & 07777,
		status.st_uid, status.st_gid, status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec,
		(unsigned long long)major(status.st_rdev) << 20 | minor(status.st_rdev),
		(unsigned long long)status.st_ino, (long long)status.st_size);
	if (S_ISREG(status.st_mode))
		put_content(path);
	fputs(" .", states);
	length = readlink(path, target, sizeof(target));
	put_hex(target, length > 0 ? (size_t)length : 0);
	fputs(" .", states);
	put_attributes(path);
	fprintf(states, " %s\n", path);
}

static void put_folder(const char *path, int depth)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	char below[512];

	while (folder && (entry = readdir(folder))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(below, sizeof(below), "%s%s%s", depth ? path : "", depth ? "/" : "", entry->d_name);
		put_entry(below);
		if (entry->d_type == DT_DIR)
			put_folder(below, depth + 1);
	}
	closedir(folder);
}

static int is_mapped(unsigned sequence)
{
	return operations[sequence / COUNT(operations)].run == op_store ||
	       operations[sequence % COUNT(operations)].run == op_store;
}

static void perform(const char *folder, const struct operation *operation)
{
	struct timespec now, moment = {0, 250000000};
	int result = operation->run(operation);

	if (operation->run == op_store)
		nanosleep(&moment, NULL);
	clock_gettime(CLOCK_MONOTONIC, &now);
	fprintf(states, "= %s %lld %s %s %s %s\n", folder, now.tv_sec * 1000000000LL + now.tv_nsec, operation->name,
		operation->one, operation->two, result ? "(failed)" : "");
	put_folder(".", 0);
}

static void run_sequence(unsigned sequence)
{
	char folder[16];

	snprintf(folder, sizeof(folder), "s%05u", sequence);
	begin(folder);
	perform(folder, &operations[sequence / COUNT(operations)]);
	perform(folder, &operations[sequence % COUNT(operations)]);
	end();
}

int main(int argc, char **argv)
{
	static unsigned chosen[COUNT(operations) * COUNT(operations)];
	unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : 0, left = argc > 3 ? (unsigned)atoi(argv[3]) : 0, all = 0;
	int mapped = argc > 4;

	if (argc < 2 || !(states = fopen(argv[1], "we")))
		return 2;
	for (unsigned sequence = 0; sequence < COUNT(chosen); sequence++)
		if (is_mapped(sequence) == mapped)
			chosen[all++] = sequence;
	if (left == 0 || left > all)
		left = all;
	srand(seed);
	for (unsigned at = 0; at < all; at++)
		if ((unsigned)rand() % (all - at) < left) {
			left--;
			run_sequence(chosen[at]);
		}
	return fclose(states);
}
