// SPDX-License-Identifier: Apache-2.0
/*
 * io_uring: openat, openat2, mkdirat, symlinkat, linkat, renameat, unlinkat, close; into descriptors and into the ring's slots.
 *
 * A wrong recorder misses: everything, since no system call names any of it; whose request it is (workers run them, under
 * the kernel's names); what many requests of one io_uring_enter did each; a file whose descriptor never existed.
 *
 * EXPECT: CREATE made
 * EXPECT: WRITE made offset=0 length=5
 * EXPECT: MKDIR folder mode=0750
 * EXPECT: CREATE folder/inner
 * EXPECT: SYMLINK link text=made
 * EXPECT: LINK made -> folder/second
 * EXPECT: RENAME folder/inner -> renamed
 * EXPECT: EXCHANGE a -> b
 * EXPECT: UNLINK made
 * EXPECT: RMDIR gone
 * EXPECT: CREATE slot
 * EXPECT: WRITE slot offset=0 length=4
 * EXPECT: TRUNCATE cut size=0
 * EXPECT: CREATE outcome size=0
 * COUNT: RMDIR many/30 1
 * COUNT: MKDIR gone 1
 * COUNT: UNLINK none 0
 */
#include "ring.h"

#include <linux/openat2.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static int opened(struct ring *ring, int folder, const char *path, unsigned flags)
{
	request(ring, IORING_OP_OPENAT, 0, folder, path, 0644, 0)->open_flags = flags;
	return MUST(one(ring));
}

static void closed(struct ring *ring, int fd)
{
	request(ring, IORING_OP_CLOSE, 0, fd, NULL, 0, 0);
	MUST(one(ring));
}

/* A chain that opens, writes and closes through a slot of the ring: no descriptor is ever made. */
static void through_a_slot(struct ring *ring)
{
	int slots[4] = {-1, -1, -1, -1};
	struct io_uring_sqe *sqe;

	MUST(syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, slots, 4));
	sqe = request(ring, IORING_OP_OPENAT, IOSQE_IO_LINK, AT_FDCWD, "slot", 0600, 0);
	sqe->open_flags = O_WRONLY | O_CREAT;
	sqe->file_index = 3;
	request(ring, IORING_OP_WRITE, IOSQE_IO_LINK | IOSQE_FIXED_FILE, 2, "slot", 4, 0);
	sqe = request(ring, IORING_OP_CLOSE, 0, 0, NULL, 0, 0);
	sqe->file_index = 3;
	finish(ring);
}

int main(void)
{
	struct open_how how = {.flags = O_WRONLY | O_CREAT | O_EXCL, .mode = 0640};
	struct io_uring_sqe *sqe;
	struct ring ring;
	char name[32][16];
	int fd, folder;

	open_ring(&ring, 0);
	fd = opened(&ring, AT_FDCWD, "made", O_WRONLY | O_CREAT);
	request(&ring, IORING_OP_WRITE, 0, fd, "bytes", 5, 0);
	MUST(one(&ring));
	closed(&ring, fd);
	request(&ring, IORING_OP_MKDIRAT, 0, AT_FDCWD, "folder", 0750, 0);
	MUST(one(&ring));
	folder = MUST(open("folder", O_RDONLY | O_DIRECTORY));
	request(&ring, IORING_OP_OPENAT2, 0, folder, "inner", sizeof(how), (uintptr_t)&how);
	closed(&ring, MUST(one(&ring)));
	request(&ring, IORING_OP_SYMLINKAT, 0, AT_FDCWD, "made", 0, (uintptr_t) "link");
	MUST(one(&ring));
	sqe = request(&ring, IORING_OP_LINKAT, 0, AT_FDCWD, "made", folder, (uintptr_t) "second");
	MUST(one(&ring));
	request(&ring, IORING_OP_RENAMEAT, 0, folder, "inner", AT_FDCWD, (uintptr_t) "renamed");
	MUST(one(&ring));
	put("a", "aa");
	put("b", "b");
	sqe = request(&ring, IORING_OP_RENAMEAT, 0, AT_FDCWD, "a", AT_FDCWD, (uintptr_t) "b");
	sqe->rename_flags = RENAME_EXCHANGE;
	MUST(one(&ring));
	request(&ring, IORING_OP_UNLINKAT, 0, AT_FDCWD, "made", 0, 0);
	MUST(one(&ring));
	request(&ring, IORING_OP_MKDIRAT, 0, AT_FDCWD, "gone", 0755, 0);
	MUST(one(&ring));
	request(&ring, IORING_OP_UNLINKAT, 0, AT_FDCWD, "gone", 0, 0)->unlink_flags = AT_REMOVEDIR;
	MUST(one(&ring));
	request(&ring, IORING_OP_UNLINKAT, 0, AT_FDCWD, "none", 0, 0);
	MUST(one(&ring) == -ENOENT ? 0 : -1);
	through_a_slot(&ring);
	put("cut", "some bytes");
	closed(&ring, opened(&ring, AT_FDCWD, "cut", O_WRONLY | O_TRUNC));
	closed(&ring, opened(&ring, AT_FDCWD, "outcome", O_WRONLY | O_CREAT));
	/* Many at once, in several workers, and some of them undone by the next. */
	MUST(mkdir("many", 0755));
	for (int i = 0; i < 32; i++) {
		snprintf(name[i], sizeof(name[i]), "many/%d", i);
		request(&ring, IORING_OP_MKDIRAT, i % 3 ? 0 : IOSQE_IO_LINK, AT_FDCWD, name[i], 0700 | i, 0);
		if (i % 3 == 0)
			request(&ring, IORING_OP_UNLINKAT, 0, AT_FDCWD, name[i], 0, 0)->unlink_flags = AT_REMOVEDIR;
	}
	finish(&ring);
	return 0;
}
