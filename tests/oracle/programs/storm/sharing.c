// SPDX-License-Identifier: Apache-2.0
/* Descriptors that are shared: duplicated, inherited, passed on, used by two threads or processes at once. */
#include "storm.h"
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

static long do_dup(struct actor *actor)
{
	int fd = a_slot(actor), twin;

	if (fd < 0)
		return -1;
	twin = once_in(actor, 2) ? dup(fd) : fcntl(fd, F_DUPFD_CLOEXEC, 50);
	keep(actor, twin);
	return twin;
}

/* Put one file under the number of another. */
static long do_dup2(struct actor *actor)
{
	int one = a_slot(actor), two = a_slot(actor);

	note(actor, "fd %d to fd %d", one, two);
	return one < 0 || two < 0 ? -1 : dup2(one, two);
}

static long do_close(struct actor *actor)
{
	int *slot = &actor->slots[below(actor, SLOTS)], fd = *slot;

	*slot = -1;
	return fd < 0 ? -1 : close(fd);
}

/* Parent and child write through one open file: the offset is theirs together. */
static long do_fork(struct actor *actor)
{
	int fd = a_slot(actor), status = 0;
	size_t length = 1 + below(actor, 5000);
	pid_t child = fork();
	long result = 0;

	for (int times = 0; times < 4; times++) {
		actor->number ^= child == 0 ? 128 : 0;
		result |= write(fd, some_bytes(actor, length), length);
		actor->number ^= child == 0 ? 128 : 0;
	}
	if (child == 0)
		_exit(0);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return result;
}

static long do_shell(struct actor *actor)
{
	int fd = a_slot(actor), status = 0;
	pid_t child = fork();

	if (child == 0) {
		dup2(fd, 1);
		execl("/bin/sh", "sh", "-c", "echo from a shell; echo and a child of its own | cat", NULL);
		_exit(1);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static long do_pass(struct actor *actor)
{
	int fd = a_slot(actor), ends[2];
	char byte = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec piece = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	long result = -1;

	if (fd < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) != 0)
		return -1;
	*head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	if (sendmsg(ends[0], &message, 0) == 1 && recvmsg(ends[1], &message, 0) == 1) {
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
		result = write(fd, "passed on", 9);
		keep(actor, fd);
	}
	close(ends[0]), close(ends[1]);
	return result;
}

struct writer {
	struct actor *actor;
	int fd;
	char letter;
};

static void *write_letters(void *argument)
{
	struct writer *writer = argument;
	char text[600];

	memset(text, writer->letter, sizeof(text));
	for (int times = 0; times < 6; times++)
		if (write(writer->fd, text, 100 * (size_t)(times + 1)) < 0)
			break;
	return NULL;
}

/* Two threads write through one number, while the first puts another file there. */
static long do_threads(struct actor *actor)
{
	int fd = dup(a_slot(actor)), other = a_slot(actor);
	struct writer writers[2] = {{actor, fd, 'a' + (char)actor->number}, {actor, fd, 'A' + (char)actor->number}};
	pthread_t threads[2];
	size_t started = 0;

	if (fd < 0)
		return -1;
	while (started < 2 && pthread_create(&threads[started], NULL, write_letters, &writers[started]) == 0)
		started++;
	if (other >= 0)
		dup2(other, fd);
	while (started > 0)
		pthread_join(threads[--started], NULL);
	return close(fd);
}

/* Write on in a file that has lost its name. */
static long do_orphan(struct actor *actor)
{
	const char *name = a_name(actor);
	int fd = open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
	size_t length = a_length(actor);

	if (fd < 0)
		return -1;
	unlink(name);
	keep(actor, fd);
	return write(fd, some_bytes(actor, length), length);
}

static const struct operation operations[] = {
	{"dup", 8, do_dup},
	{"dup2", 4, do_dup2},
	{"close", 10, do_close},
	{"fork", 3, do_fork},
	{"shell", 1, do_shell},
	{"pass", 4, do_pass},
	{"threads", 2, do_threads},
	{"orphan", 6, do_orphan},
};

const struct family sharing_family = {"sharing", operations, COUNT(operations)};
