// SPDX-License-Identifier: Apache-2.0
/*
 * Reads again what records leave in doubt, as soon as the file rests (docs/decisions/0021): overlapping writes that no
 * lock puts in order, files that were cut meanwhile, bytes that were read back while others wrote, files of which a
 * record was lost.
 *
 * Only which files to read is decided here, and too many do no harm; what is in doubt, and whether a reading ends that,
 * replay knows.
 */
#include "capture.h"

#include <linux/bpf.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { REST_FACTOR = 10, MOST_BYTES = 64 << 20, NAMES_BYTES = 1 << 16 };
static const uint64_t END = ~0ull;
static const uint64_t MOST_REST_NS = 250000000;
static const int64_t CALM_NS = 20000000; /* more than a tick: who writes during the reading moves the ctime */
static const uint64_t PAUSE_NS = 1000000000;
static const uint64_t AFTER_LOSS_NS = 100000000;

/* One that waits for nothing, or for which the others' turn comes later. */
static struct pending_doubt *slot_of(struct capture *capture, const struct dk_inode *inode)
{
	struct pending_doubt *free_slot = NULL;

	for (int i = 0; i < MAX_DOUBTS; i++) {
		struct pending_doubt *one = &capture->doubts[i];

		if (one->inode.ino == inode->ino && one->inode.dev == inode->dev &&
			one->inode.generation == inode->generation)
			return one;
		if (!one->is_waiting && (!free_slot || one->due_ns < free_slot->due_ns))
			free_slot = one;
	}
	if (free_slot) {
		memset(free_slot, 0, sizeof(*free_slot));
		free_slot->inode = *inode;
	}
	return free_slot;
}

/* Have [begin, end) of a file read again; `is_touch`: all of it, with its attributes. */
void doubt(struct capture *capture, const struct dk_inode *inode, uint64_t begin, uint64_t end, uint32_t pid,
	bool is_touch)
{
	struct pending_doubt *pending = slot_of(capture, inode);

	if (!pending)
		return; /* it stays in doubt until the end */
	if (!pending->is_waiting) {
		pending->begin = begin;
		pending->end = end;
		pending->is_touch = is_touch;
	} else {
		pending->begin = begin < pending->begin ? begin : pending->begin;
		pending->end = end > pending->end ? end : pending->end;
		pending->is_touch |= is_touch;
	}
	pending->pid = pid;
	pending->is_waiting = true;
}

void doubt_lost(struct capture *capture, const struct dk_loss_key *key, uint32_t pid)
{
	struct dk_inode inode = {.ino = key->file.ino, .dev = key->file.dev, .generation = key->file.generation};

	if (inode.ino && key->what != DK_CLOSE && key->what != DK_OUTPUT && key->what != DK_PROCESS)
		doubt(capture, &inode, 0, END, pid, true);
}

static struct recent_file *recent_of(struct capture *capture, const struct dk_inode *inode)
{
	return &capture->recent[(inode->ino * 2654435761u >> 8) % RECENT_FILES];
}

static bool is_of(const struct recent_file *recent, const struct dk_inode *inode)
{
	return recent->count && recent->file.ino == inode->ino && recent->file.dev == inode->dev &&
	       recent->file.generation == inode->generation;
}

/* Is it not told which of the two came last, or which of them the bytes that were read are? */
static bool is_met(const struct recent_write *one, const struct recent_write *other)
{
	if (other->enter_ns > one->exit_ns || one->enter_ns > other->exit_ns || one->tid == other->tid)
		return false;
	if (!one->is_placed || !other->is_placed)
		return true;
	return one->begin < other->end && other->begin < one->end;
}

static void remember(struct recent_file *recent, const struct dk_inode *inode, const struct recent_write *write)
{
	if (!is_of(recent, inode)) {
		recent->file = (struct dk_base){.ino = inode->ino, .dev = inode->dev, .generation = inode->generation};
		recent->count = 0;
		recent->last_ns = 0;
	}
	if (write->enter_ns > recent->last_ns + PAUSE_NS) {
		recent->begin = write->begin;
		recent->end = write->end;
	}
	recent->begin = write->begin < recent->begin ? write->begin : recent->begin;
	recent->end = write->end > recent->end ? write->end : recent->end;
	recent->last_ns = write->exit_ns > recent->last_ns ? write->exit_ns : recent->last_ns;
	recent->writes[recent->count++ % RECENT_WRITES] = *write;
}

static void compare(struct capture *capture, const struct dk_header *header, const struct dk_inode *inode,
	const struct recent_write *write)
{
	struct recent_file *recent = recent_of(capture, inode);
	bool is_in_order = (header->flags & DK_F_IN_LOCK) && !write->is_late, is_doubtful = false;
	bool is_told = write->is_placed && !is_in_order && !write->is_other, is_touch = write->is_other;
	uint32_t known = is_of(recent, inode) ? recent->count : 0;

	for (uint32_t i = 0; i < known && i < RECENT_WRITES; i++) {
		const struct recent_write *other = &recent->writes[i];

		if ((is_in_order && !write->is_other && !other->is_late) || !is_met(write, other))
			continue;
		is_doubtful = true;
		is_touch |= other->is_other;
	}
	if (write->is_other ? !capture->finds_bytes : !is_in_order)
		remember(recent, inode, write);
	/* One that was held up meets many: all of them are in doubt then, not only those that are remembered. */
	if (is_doubtful || (header->flags & DK_F_AMBIGUOUS))
		doubt(capture, inode, is_told ? recent->begin : 0, is_told ? recent->end : END, header->pid, is_touch);
}

/* Does a write come to something else before this record's change than after it? */
static bool crosses_writes(const struct dk_header *header)
{
	static const char capability[] = "security.capability"; /* any write takes it away */
	const struct dk_open *open = (const void *)header;
	const struct dk_attr *attribute = (const void *)header;

	if (header->type == DK_OPEN)
		return open->truncated && !open->created;
	if (header->type == DK_ATTR)
		return header->op == DK_OP_SETXATTR && attribute->name_len == strlen(capability) &&
		       !memcmp(attribute + 1, capability, strlen(capability));
	return header->type == DK_SIZE;
}

/* Called with each record of a change, after what it lacks was read back. */
void find_doubts(struct capture *capture, const struct dk_header *header)
{
	const struct dk_data *data = (const void *)header; /* all of them begin with the same fields */
	bool is_late = (header->flags & DK_F_BY_REFERENCE) != 0;
	struct recent_write write = {
		.enter_ns = header->enter_ns ? header->enter_ns : header->t_ns,
		.exit_ns = is_late ? now_ns() : header->exit_ns,
		.tid = header->tid,
		.is_placed = !(header->flags & DK_F_FROM_DESCRIPTOR),
		.is_late = is_late,
	};

	if (header->type == DK_DATA) {
		write.begin = data->offset - data->slack;
		write.end = data->offset + data->length;
		write.is_placed |= data->slack != 0;
		if (data->slack)
			doubt(capture, &data->inode, write.begin, write.end, header->pid, false);
	} else if (header->type == DK_COPY) {
		write.begin = ((const struct dk_copy *)header)->offset;
		write.end = write.begin + ((const struct dk_copy *)header)->length;
	} else if (crosses_writes(header)) {
		write.is_other = true;
		write.end = END;
		if (header->flags & DK_F_IN_LOCK)
			write.enter_ns = write.exit_ns = header->t_ns;
	} else {
		return;
	}
	compare(capture, header, &data->inode, &write);
}

/* Where the kernel had the inode when it was asked last whether it is below a root; 0: not known. */
static uint64_t pointer_of(struct capture *capture, const struct dk_inode *inode)
{
	struct dk_verdict_key key = {.ino = inode->ino, .dev = inode->dev, .generation = inode->generation};
	struct dk_verdict verdict = {0};
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_fd = capture->lib.map_fd(capture->lib.find_map(capture->object, "verdicts"));
	attributes.key = (uint64_t)(uintptr_t)&key;
	attributes.value = (uint64_t)(uintptr_t)&verdict;
	return syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attributes, sizeof(attributes)) ? 0 : verdict.pointer;
}

static bool is_calm(const struct stat *status)
{
	struct timespec real;

	clock_gettime(CLOCK_REALTIME, &real);
	return (real.tv_sec - status->st_ctim.tv_sec) * 1000000000LL + real.tv_nsec - status->st_ctim.tv_nsec > CALM_NS;
}

/* Read what is in doubt; true: nothing changed the file meanwhile. */
static bool read_doubt(struct capture *capture, struct pending_doubt *pending, int fd, const struct stat *before)
{
	static char text[1 + NAMES_BYTES] = "/";
	ssize_t names = 0;
	struct stat after;
	bool is_true;
	struct dk_hole reading = {
		.header = {.type = DK_HOLE,
			.op = DK_OP_SETTLED,
			.flags = DK_F_HOLE,
			.sequence = next_sequence(capture),
			.enter_ns = now_ns(),
			.pid = pending->pid,
			.tid = pending->pid},
		.offset = pending->is_touch ? 0 : pending->begin,
	};
	uint64_t size = before->st_size, end = pending->is_touch || pending->end > size ? size : pending->end;

	fill_inode(&reading.inode, before, pending->inode.generation);
	reading.length = end > reading.offset ? end - reading.offset : 0;
	if (reading.length)
		read_extent(capture, &reading.header, &reading.inode, fd, reading.offset, reading.length);
	if (pending->is_touch) {
		names = flistxattr(fd, text + 1, NAMES_BYTES);
		reading.count = names >= 0;
		read_xattrs(capture, &reading.header, &reading.inode, fd);
	}
	reading.header.t_ns = reading.header.exit_ns = now_ns();
	is_true = !fstat(fd, &after) && is_unchanged(before, &after);
	if (is_true)
		reading.header.flags &= ~DK_F_HOLE;
	write_hole(capture, &reading, text, 1 + (names > 0 ? names : 0));
	return is_true;
}

static bool is_worth_reading(struct capture *capture, const struct pending_doubt *pending, const struct stat *status)
{
	uint64_t length = status->st_size;

	if (!pending->is_touch && pending->end - pending->begin < length)
		length = pending->end - pending->begin;
	return S_ISREG(status->st_mode) && status->st_nlink && may_read(capture, status) && length <= MOST_BYTES;
}

static void flush_doubt(struct capture *capture, struct pending_doubt *pending)
{
	uint64_t from = now_ns(), rest;
	int fd = open_regular(capture, &pending->inode, pointer_of(capture, &pending->inode));
	struct stat status;

	if (fd < 0 || fstat(fd, &status) || !is_worth_reading(capture, pending, &status))
		pending->is_waiting = false;
	else if (is_calm(&status))
		pending->is_waiting = !read_doubt(capture, pending, fd, &status);
	if (fd >= 0)
		close(fd);
	rest = REST_FACTOR * (now_ns() - from);
	pending->due_ns = now_ns() + (rest < MOST_REST_NS ? rest : MOST_REST_NS);
}

/* What no call explains is read on its own, first: before that, nothing is certain about the file. */
static bool has_hole(struct capture *capture, const struct dk_inode *inode)
{
	for (int i = 0; i < MAX_HOLES; i++)
		if (capture->holes[i].is_waiting && capture->holes[i].record.inode.ino == inode->ino &&
			capture->holes[i].record.inode.dev == inode->dev)
			return true;
	return false;
}

void flush_doubts(struct capture *capture)
{
	uint64_t now = now_ns();

	if (now < capture->losses.last_ns + AFTER_LOSS_NS)
		return; /* a reading could not be told from what is still being lost */
	for (int i = 0; i < MAX_DOUBTS; i++)
		if (capture->doubts[i].is_waiting && capture->doubts[i].due_ns <= now &&
			!has_hole(capture, &capture->doubts[i].inode))
			flush_doubt(capture, &capture->doubts[i]);
}
