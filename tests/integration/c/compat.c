// SPDX-License-Identifier: Apache-2.0
/*
 * Calls of 32-bit programs.
 *
 * A wrong recorder takes their numbers for those of 64-bit programs (their write is stat, their unlink is mprotect), or
 * leaves them out; then it misses where their arguments lie: offsets and sizes in two registers, vectors of 8 bytes an
 * entry, the sendfile whose offset has 32 bits, sockets bound by socketcall, owners of 16 bits.
 *
 * EXPECT: CREATE opened
 * EXPECT: WRITE opened offset=0 length=5
 * EXPECT: WRITE opened offset=5 length=12
 * EXPECT: WRITE opened offset=5000000000 length=3 size=5000000003
 * EXPECT: WRITE opened offset=5000000100 length=12
 * EXPECT: WRITE opened offset=5000000112 length=12
 * EXPECT: TRUNCATE opened size=4900000000
 * EXPECT: TRUNCATE opened size=4800000000
 * EXPECT: TRUNCATE opened size=70000
 * EXPECT: FALLOCATE opened offset=4300000000 length=4400000000 detail=3
 * EXPECT: WRITE vectors length=700000
 * EXPECT: COPY sent length=3 source_offset=7
 * EXPECT: COPY sent length=4 source_offset=100000
 * EXPECT: COPY range length=60000
 * EXPECT: WRITE spliced offset=9
 * EXPECT: MKNOD by socketcall
 * EXPECT: MKNOD by bind
 * EXPECT: CHMOD made mode=0750
 * EXPECT: CHOWN owned uid=7 gid=8
 * EXPECT: CHOWN owned uid=70000 gid=80000
 * EXPECT: UTIME owned mtime_ns=1000000000000000000
 * EXPECT: UTIME owned mtime_ns=5000000000000000007
 * EXPECT: SETXATTR owned text=user.a
 * EXPECT: REMOVEXATTR owned text=user.a
 * EXPECT: RENAME linked -> renamed
 * EXPECT: EXCHANGE renamed <-> made
 * EXPECT: UNLINK soft
 * EXPECT: RMDIR below
 * EXPECT: SETFLAGS owned
 * EXPECT: COPY cloned
 * EXPECT: CREATE in a folder/by how
 */
#include "compat.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LOW_HALF(value) ((value) & 0xffffffff)
#define HIGH_HALF(value) ((value) >> 32)
#define LARGE_FILES 0100000 /* O_LARGEFILE, which 64-bit programs need not say */

static long vector(const char *const *texts, int count)
{
	unsigned *words = low(8 * count);

	for (int i = 0; i < count; i++) {
		words[2 * i] = low_text(texts[i]);
		words[2 * i + 1] = strlen(texts[i]);
	}
	return (long)words;
}

static void bytes(void)
{
	const char *const texts[] = {"three", "", "vectors"};
	unsigned large[4];
	char *space = low(400000);
	int fd = MUST32(I_OPEN, low_text("opened"), O_RDWR | O_CREAT | LARGE_FILES, 0644);
	loff_t far = 5000000000, near = 100;

	MUST32(I_WRITE, fd, low_text("first"), 5);
	MUST32(I_WRITEV, fd, vector(texts, 3), 3);
	instant("written");
	MUST32(I_PWRITE64, fd, low_text("far"), 3, LOW_HALF(far), HIGH_HALF(far));
	far += 100;
	MUST32(I_PWRITEV, fd, vector(texts, 3), 3, LOW_HALF(far), HIGH_HALF(far));
	MUST32(I_PWRITEV2, fd, vector(texts, 3), 3, LOW_HALF(near), HIGH_HALF(near), 0x10 /* RWF_APPEND */);
	MUST32(I_PWRITEV2, fd, vector(texts, 1), 1, -1, -1, 0);
	far = 4300000000;
	near = 4400000000;
	MUST32(I_FALLOCATE, fd, 3, LOW_HALF(far), HIGH_HALF(far), LOW_HALF(near), HIGH_HALF(near));
	far = 4900000000;
	MUST32(I_FTRUNCATE64, fd, LOW_HALF(far), HIGH_HALF(far));
	far = 4800000000;
	MUST32(I_TRUNCATE64, low_text("opened"), LOW_HALF(far), HIGH_HALF(far));
	MUST32(I_FTRUNCATE, fd, 80000);
	MUST32(I_TRUNCATE, low_text("opened"), 70000);
	instant("cut");
	for (int i = 0; i < 400000; i++)
		space[i] = (char)(i % 253);
	large[0] = large[2] = (unsigned)(long)space;
	large[1] = 400000;
	large[3] = 300000;
	fd = MUST32(I_CREAT, low_text("vectors"), 0600);
	MUST32(I_WRITEV, fd, low_copy(large, sizeof(large)), 2);
	MUST32(I_CLOSE, fd);
}

static void copies(void)
{
	int source = MUST(open("vectors", O_RDONLY)), pipes[2], fd;
	unsigned off = 7;
	loff_t offset = 100000, to = 9;
	long pointer;

	fd = MUST32(I_OPENAT, AT_FDCWD, low_text("sent"), O_WRONLY | O_CREAT, 0644);
	pointer = (long)low(64);
	memset((void *)pointer, 0xff, 64); /* what stands behind a short offset is none of it */
	memcpy((void *)pointer, &off, sizeof(off));
	MUST32(I_SENDFILE, fd, source, pointer, 3);
	MUST32(I_SENDFILE64, fd, source, low_copy(&offset, 8), 4);
	MUST32(I_SENDFILE, fd, source, 0, 5000);
	fd = MUST32(I_CREAT, low_text("range"), 0644);
	MUST32(I_COPY_FILE_RANGE, source, low_copy(&offset, 8), fd, 0, 60000, 0);
	MUST(pipe(pipes));
	MUST(write(pipes[1], "through a pipe", 14));
	fd = MUST32(I_CREAT, low_text("spliced"), 0644);
	MUST32(I_SPLICE, pipes[0], 0, fd, low_copy(&to, 8), 14, 0);
	fd = MUST32(I_CREAT, low_text("cloned"), 0644);
	if (CALL32(I_IOCTL, fd, FICLONE, source) < 0)
		MUST32(I_COPY_FILE_RANGE, source, 0, fd, 0, 60000, 0);
	instant("copied");
}

static void names(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "by socketcall"};
	struct {
		uint64_t flags, mode, resolve;
	} how = {.flags = O_WRONLY | O_CREAT, .mode = 0640};
	unsigned words[3] = {MUST(socket(AF_UNIX, SOCK_STREAM, 0)), low_copy(&address, sizeof(address)), sizeof(address)};
	int folder;

	MUST32(I_SOCKETCALL, 2, low_copy(words, sizeof(words)));
	strcpy(address.sun_path, "by bind");
	MUST32(I_BIND, MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), low_copy(&address, sizeof(address)), sizeof(address));
	MUST32(I_MKDIR, low_text("made"), 0700);
	MUST32(I_CHMOD, low_text("made"), 0750);
	MUST32(I_MKDIRAT, AT_FDCWD, low_text("in a folder"), 0755);
	folder = MUST32(I_OPEN, low_text("in a folder"), O_RDONLY | O_DIRECTORY, 0);
	MUST32(I_OPENAT2, folder, low_text("by how"), low_copy(&how, sizeof(how)), sizeof(how));
	MUST32(I_MKNOD, low_text("fifo"), S_IFIFO | 0600, 0);
	MUST32(I_MKNODAT, folder, low_text("fifo"), S_IFIFO | 0600, 0);
	MUST32(I_SYMLINK, low_text("target"), low_text("soft"));
	MUST32(I_SYMLINKAT, low_text("target"), folder, low_text("soft"));
	MUST32(I_LINK, low_text("opened"), low_text("linked"));
	MUST32(I_LINKAT, AT_FDCWD, low_text("opened"), folder, low_text("linked"), 0);
	instant("named");
	MUST32(I_RENAME, low_text("linked"), low_text("renamed"));
	MUST32(I_RENAMEAT, folder, low_text("linked"), AT_FDCWD, low_text("again"));
	MUST32(I_RENAMEAT2, AT_FDCWD, low_text("renamed"), AT_FDCWD, low_text("made"), RENAME_EXCHANGE);
	MUST32(I_UNLINK, low_text("soft"));
	MUST32(I_UNLINKAT, folder, low_text("fifo"), 0);
	MUST32(I_MKDIR, low_text("below"), 0700);
	MUST32(I_RMDIR, low_text("below"));
	instant("renamed");
}

static void metadata(void)
{
	int fd = MUST(open("owned", O_RDWR | O_CREAT, 0600)), times[2] = {1, 1000000000}, micro[4] = {1, 2, 1000000001, 3};
	int nano[4] = {1, 2, 1000000002, 3};
	long long wide[4] = {1, 2, 5000000000, 7};
	unsigned flags = 0;

	MUST32(I_CHOWN, low_text("owned"), 7, 8);
	MUST32(I_LCHOWN, low_text("in a folder/soft"), 5, 6);
	MUST32(I_FCHOWN, fd, 0xffff, 9);
	instant("owned");
	MUST32(I_CHOWN32, low_text("owned"), 70000, 80000);
	MUST32(I_LCHOWN32, low_text("in a folder/soft"), 70001, 80001);
	MUST32(I_FCHOWN32, fd, -1, 80002);
	MUST32(I_FCHOWNAT, AT_FDCWD, low_text("again"), 70003, -1, 0);
	MUST32(I_FCHMOD, fd, 0604);
	MUST32(I_FCHMODAT, AT_FDCWD, low_text("again"), 0640);
	MUST32(I_UTIME, low_text("owned"), low_copy(times, sizeof(times)));
	instant("timed");
	MUST32(I_UTIMES, low_text("owned"), low_copy(micro, sizeof(micro)));
	MUST32(I_FUTIMESAT, AT_FDCWD, low_text("owned"), low_copy(micro, sizeof(micro)));
	MUST32(I_UTIMENSAT, AT_FDCWD, low_text("owned"), low_copy(nano, sizeof(nano)), 0);
	MUST32(I_UTIMENSAT_TIME64, AT_FDCWD, low_text("owned"), low_copy(wide, sizeof(wide)), 0);
	MUST32(I_SETXATTR, low_text("owned"), low_text("user.a"), low_text("value"), 5, 0);
	instant("with an attribute");
	MUST32(I_REMOVEXATTR, low_text("owned"), low_text("user.a"));
	MUST32(I_FSETXATTR, fd, low_text("user.b"), low_text("other"), 5, 0);
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0)
		MUST32(I_IOCTL, fd, FS_IOC32_SETFLAGS, low_copy(&flags, sizeof(flags)));
}

int main(void)
{
	umask(022);
	if (!has_compat())
		return 77;
	bytes();
	copies();
	names();
	metadata();
	return 0;
}
