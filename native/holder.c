// SPDX-License-Identifier: Apache-2.0
/*
 * The holder: a process without threads that holds leases on files for a recording. It is forked from the helper, and
 * keeps of it nothing but two descriptors: a socket to the recorder's side, and the file that images go to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holder.h"
#include "unseen.h"
#include "crc.h"

#define LAST_COPIES (10 * SECOND)      /* at the end, for all of them */
#define LAST_COPIES_ALONE (SECOND / 2) /* when nobody waits for the end any more: the recorder was killed */
enum { TICK_MS = 250, OWN_DESCRIPTORS = 64 };

/* ---- what the recorder's side asks ---- */

static void take_files(struct holder *holder, const struct hold_message *message, const int *fds, int count)
{
	unsigned char answers[FILES_A_MESSAGE];

	for (int i = 0; i < count; i++) {
		answers[i] = lease(holder, fds[i], &message->files[i]);
		if (answers[i] != HOLD_LEASED)
			close(fds[i]);
	}
	send(holder->socket, answers, count, MSG_NOSIGNAL);
}

static void take_roots(struct holder *holder, const int *fds, int count)
{
	unsigned char answer = 0;

	for (int i = 0; i < count && i < HOLDER_ROOTS; i++)
		holder->roots[holder->root_count++] = fds[i];
	send(holder->socket, &answer, 1, MSG_NOSIGNAL);
}

/*
 * No file can come to be mapped for writing any more: it would have to be opened first. Those that are mapped by now
 * may change unseen, so they are copied at once.
 */
static void settle(struct holder *holder)
{
	struct mappings *mapped = NULL;
	uint64_t count = 0;

	for (int fd = 0; fd <= holder->highest; fd++) {
		if (holder->held[fd].state != HELD || !holder->held[fd].is_stacked)
			continue;
		if (!mapped && !(mapped = mapped_files()))
			break;
		if (!is_mapped(mapped, fd))
			continue;
		copy_now(holder, fd, monotonic_ns() + SECOND);
		count++;
	}
	free(mapped);
	send(holder->socket, &count, sizeof(count), MSG_NOSIGNAL);
}

/*
 * What is copied before anybody is about to change it needs no lease any more, which spares those who open it and will
 * not wait. The command may start before all of it is done.
 */
static void begin_early(struct holder *holder, uint64_t bytes, uint64_t patience_ns)
{
	uint64_t until = monotonic_ns() + patience_ns, count = 0;

	plan_early(holder, bytes);
	while (monotonic_ns() < until && copy_next_early(holder)) {
		count++;
		beat(holder);
		serve_breaks(holder);
	}
	send(holder->socket, &count, sizeof(count), MSG_NOSIGNAL);
}

static int descriptors_of(struct msghdr *head, int *fds)
{
	int count = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(part), count * sizeof(int));
	}
	return count;
}

/* Returns false when the recorder's side is gone. */
static bool take_message(struct holder *holder)
{
	static struct hold_message message;
	char control[CMSG_SPACE(253 * sizeof(int))];
	struct iovec part = {&message, sizeof(message)};
	struct msghdr head = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got = recvmsg(holder->socket, &head, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int fds[253], count;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got < 8)
		return false;
	count = descriptors_of(&head, fds);
	if (message.op == HOLD_FILES && count <= FILES_A_MESSAGE)
		take_files(holder, &message, fds, count);
	else if (message.op == HOLD_ROOTS)
		take_roots(holder, fds, count);
	else if (message.op == HOLD_SETTLED)
		settle(holder);
	else if (message.op == HOLD_EARLY && got >= (ssize_t)(8 + sizeof(message.early)))
		begin_early(holder, message.early.bytes, message.early.patience_ns);
	else if (message.op == HOLD_END)
		holder->is_ending = true;
	return true;
}

/* ---- the process ---- */

static bool has_work(const struct holder *holder)
{
	return holder->unsealed_count || holder->early_next < holder->early_count;
}

/* What can be done while nobody waits; not at the expense of the command. */
static void work(struct holder *holder)
{
	if (!has_work(holder))
		return;
	setpriority(PRIO_PROCESS, 0, 0);
	if (!copy_next_early(holder) && holder->unsealed_count)
		seal_some(holder);
	setpriority(PRIO_PROCESS, 0, -10);
}

static void serve(struct holder *holder)
{
	struct pollfd waits[] = {{holder->signals, POLLIN, 0}, {holder->socket, POLLIN, 0}};

	while (!holder->is_ending) {
		beat(holder);
		poll(waits, 2, has_work(holder) ? 0 : TICK_MS);
		serve_breaks(holder);
		if (waits[1].revents && !take_message(holder))
			holder->is_ending = holder->is_orphaned = true;
		else if (!waits[0].revents && !waits[1].revents)
			work(holder);
		if (holder->page->held && monotonic_ns() > holder->next_sweep_ns)
			sweep(holder, 0);
	}
	sweep(holder, monotonic_ns() + (holder->is_orphaned ? LAST_COPIES_ALONE : LAST_COPIES));
	while (holder->unsealed_count) {
		seal_some(holder);
		beat(holder);
		serve_breaks(holder);
	}
}

static void raise_limit(struct holder *holder)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur > 1 << 20)
		limit.rlim_cur = 1 << 20;
	holder->room = limit.rlim_cur - OWN_DESCRIPTORS;
}

static void close_all_but(const int *kept, int count)
{
	for (int at = 0, from = 0; at <= count; at++) {
		unsigned to = at < count ? (unsigned)kept[at] - 1 : ~0u;

		if (from <= (int)to || at == count)
			if (syscall(SYS_close_range, (unsigned)from, to, 0) && errno == ENOSYS)
				for (int fd = from; fd < (at < count ? kept[at] : 65536); fd++)
					close(fd);
		from = at < count ? kept[at] + 1 : from;
	}
}

static void run(struct holder *holder)
{
	int kept[2] = {holder->socket, holder->images.fd};
	sigset_t signals;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "diffkeeper-hold");
	if (kept[0] > kept[1])
		kept[0] = holder->images.fd, kept[1] = holder->socket;
	close_all_but(kept, 2);
	raise_limit(holder);
	crc32_prepare();
	sigfillset(&signals);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	sigemptyset(&signals);
	sigaddset(&signals, BREAK_SIGNAL);
	sigaddset(&signals, SIGIO);
	holder->signals = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	holder->held = mmap(NULL, holder->room * sizeof(*holder->held), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	setpriority(PRIO_PROCESS, 0, -10); /* somebody may be waiting */
	if (holder->signals >= 0 && holder->held != MAP_FAILED)
		serve(holder);
	send(holder->socket, "ended", 5, MSG_NOSIGNAL);
	_exit(0);
}

/* ---- for the helper ---- */

struct dk_holder {
	struct holder_page *page;
	pid_t pid;
};

/*
 * Start a holder that is spoken to through socket and writes to the file images, both of which stay the caller's; most
 * limits how many leases it takes (0: what the system allows). NULL where that cannot be.
 */
void *dk_holder_start(int socket, int images, uint64_t trace_id, uint32_t most)
{
	struct dk_holder *started = calloc(1, sizeof(*started));
	struct holder holder = {.socket = socket, .most = most, .images = {.fd = images, .trace_id = trace_id}};

	if (!started)
		return NULL;
	started->page = mmap(NULL, sizeof(*started->page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (started->page == MAP_FAILED) {
		free(started);
		return NULL;
	}
	holder.page = started->page;
	beat(&holder);
	started->pid = fork();
	if (started->pid == 0)
		run(&holder);
	if (started->pid < 0) {
		munmap(started->page, sizeof(*started->page));
		free(started);
		return NULL;
	}
	return started;
}

/*
 * Look at a holder: kill it if it is stopped or has not answered for silent_ns. Returns 0 while it runs, 1 once it has
 * ended, 2 if it was killed.
 */
int dk_holder_watch(void *opaque, uint64_t silent_ns)
{
	struct dk_holder *started = opaque;
	uint64_t beat_ns = __atomic_load_n(&started->page->beat_ns, __ATOMIC_RELAXED), now = monotonic_ns();
	int status;

	switch (waitpid(started->pid, &status, WNOHANG | WUNTRACED)) {
	case 0:
		if (now < beat_ns + silent_ns)
			return 0;
		break;
	case -1:
		return 1;
	default:
		if (WIFEXITED(status))
			return 1;
		if (WIFSIGNALED(status))
			return 2;
	}
	kill(started->pid, SIGKILL);
	return 0;
}

int dk_holder_pid(void *opaque)
{
	return ((struct dk_holder *)opaque)->pid;
}

void dk_holder_free(void *opaque)
{
	struct dk_holder *started = opaque;

	munmap(started->page, sizeof(*started->page));
	free(started);
}
