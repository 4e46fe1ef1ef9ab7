// SPDX-License-Identifier: Apache-2.0
/*
 * Samples files that are mapped shared and writable, whose stores make no system call (docs/decisions/0015).
 *
 * The drain thread tells what is mapped and what was changed by calls; the sampler, a thread of its own, looks at each
 * file every interval and queues records, which the drain thread puts into the journal.
 */
#include "capture.h"
#include "pages.h"
#include "reader.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	READ_PAGES = 32,	/* read at once, and told in one record at most */
	QUEUE_BYTES = 32 << 20, /* beyond it the sampler waits for the drain thread */
	SPARE_SHARE = 9,	/* of its time the sampler rests 9 parts of 10 */
	MOST_FILES = 1024,
	ROUNDS_AFTER_UNMAP = 2,
};
enum { LOOK_LIST = 0, LOOK_FORGET = 1, LOOK_WATCH = 2 };

struct mapped_file {
	struct mapped_file *next;
	struct dk_inode inode; /* as last told */
	uint64_t cache;
	int fd;
	uint32_t pid, tid;
	uint16_t flags;
	uint32_t maps; /* how often it was mapped: the notices seen */
	uint32_t rounds_unmapped;
	uint32_t written_back;
	bool is_looked_at;   /* at least once */
	bool is_closed;	     /* to the owner of the trace */
	bool is_inode_stale; /* what was told of the inode may have been replaced by a call's record */
	uint64_t changed_ns; /* the end of the last call that changed it */
	uint64_t looked_ns;  /* when the last look began */
	struct page_table pages;
	struct page_runs last; /* dirty at the last look */
	struct page_runs again;
};

struct queued {
	struct queued *next;
	uint32_t size;
	unsigned char bytes[];
};

struct mapped {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	pthread_t thread;
	bool is_running, is_stopping, is_done, is_woken;
	struct mapped_file *files;
	uint32_t count;
	struct queued *first, *last;
	size_t queued_bytes;
	uint32_t searches[64]; /* processes to search for mappings */
	uint32_t search_count;
	struct dk_looked *looked;
	size_t looked_bytes;
	int program;
	struct dk_sampler sum;
};

/* ---- records, from the sampler to the drain thread ---- */

static struct queued *new_record(size_t size)
{
	struct queued *queued = calloc(1, sizeof(*queued) + ((size + 7) & ~7ul));

	if (queued)
		queued->size = (size + 7) & ~7ul;
	return queued;
}

static void enqueue(struct mapped *mapped, struct queued *queued)
{
	struct timespec until;

	pthread_mutex_lock(&mapped->mutex);
	while (mapped->queued_bytes > QUEUE_BYTES) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&mapped->changed, &mapped->mutex, &until);
	}
	if (mapped->last)
		mapped->last->next = queued;
	else
		mapped->first = queued;
	mapped->last = queued;
	mapped->queued_bytes += queued->size;
	pthread_mutex_unlock(&mapped->mutex);
}

static void fill(struct capture *capture, struct mapped_file *file, struct dk_mapped *record, uint8_t op, uint64_t t_ns)
{
	record->header.size = sizeof(*record);
	record->header.type = DK_MAPPED;
	record->header.op = op;
	record->header.flags = file->flags;
	record->header.sequence = __atomic_add_fetch(&capture->counters->sequence, 1, __ATOMIC_RELAXED);
	record->header.t_ns = t_ns;
	record->header.enter_ns = file->looked_ns;
	record->header.exit_ns = now_ns();
	record->header.pid = file->pid;
	record->header.tid = file->tid;
	record->inode = file->inode;
}

static void tell(struct capture *capture, struct mapped_file *file, uint64_t t_ns, uint64_t offset,
	const unsigned char *bytes, size_t length)
{
	struct queued *queued = new_record(sizeof(struct dk_mapped) + length);
	struct dk_mapped *record;

	if (!queued) {
		capture->losses.queue++;
		return;
	}
	record = (void *)queued->bytes;
	fill(capture, file, record, DK_OP_SAMPLE, t_ns);
	file->is_inode_stale = false;
	record->header.size = queued->size;
	record->offset = offset;
	record->payload = length;
	memcpy(record + 1, bytes, length);
	enqueue(capture->mapped, queued);
}

/* ---- one look at one file ---- */

static bool look(struct mapped *mapped, struct mapped_file *file, uint64_t page, uint64_t what, bool all)
{
	uint64_t context[6] = {file->fd, page, what, file->pid, file->cache, all};

	return !run_program(mapped->program, context, sizeof(context));
}

/* Add the pages that may have been stored into; `all`: those in memory, whatever their marks. */
static bool list_pages(struct mapped *mapped, struct mapped_file *file, struct page_runs *runs, bool all)
{
	uint64_t page = 0;

	do {
		if (!look(mapped, file, page, LOOK_LIST, all) || mapped->looked->cache != file->cache)
			return false;
		for (uint32_t i = 0; i < mapped->looked->count; i++)
			page_runs_add(runs, mapped->looked->runs[i] >> 16, mapped->looked->runs[i] & 0xffff);
		if (mapped->looked->next <= page)
			break;
		page = mapped->looked->next;
	} while (page != UINT64_MAX);
	return true;
}

/* Learn the inode's metadata; the first record that follows brings it along. */
static void learn_inode(struct mapped_file *file)
{
	struct dk_inode now = file->inode;
	struct stat status;

	if (fstat(file->fd, &status))
		return;
	now.mode = status.st_mode;
	now.nlink = status.st_nlink;
	now.uid = status.st_uid;
	now.gid = status.st_gid;
	now.size = status.st_size;
	now.mtime_sec = status.st_mtim.tv_sec;
	now.mtime_nsec = status.st_mtim.tv_nsec;
	file->is_inode_stale |= memcmp(&now, &file->inode, sizeof(now)) != 0;
	file->inode = now;
}

/* Tell the metadata where no record of bytes did. */
static void tell_inode(struct capture *capture, struct mapped_file *file)
{
	uint64_t t_ns = now_ns();

	learn_inode(file);
	if (file->is_inode_stale)
		tell(capture, file, t_ns, 0, NULL, 0);
}

/* Tell those of the pages that were read which are not what was told before, neighbours in one record. */
static void tell_changed(struct capture *capture, struct mapped_file *file, uint64_t t_ns, uint64_t first,
	const unsigned char *bytes, size_t length)
{
	struct mapped *mapped = capture->mapped;
	size_t from = 0, at = 0;
	bool is_open = false;

	for (; at < length; at += PAGE_BYTES) {
		size_t part = length - at < PAGE_BYTES ? length - at : PAGE_BYTES;
		struct page_hash hash = hash_page(bytes + at, part);
		bool is_news = true;

		pthread_mutex_lock(&mapped->mutex);
		/* Behind a call that went on meanwhile the hash is not kept: what replay holds then is not this. */
		if (t_ns > file->changed_ns)
			is_news = page_table_set(&file->pages, first + at / PAGE_BYTES, hash, t_ns);
		else
			page_runs_add(&file->again, first + at / PAGE_BYTES, 1);
		pthread_mutex_unlock(&mapped->mutex);
		if (is_news && !is_open)
			from = at;
		if (!is_news && is_open)
			tell(capture, file, t_ns, first * PAGE_BYTES + from, bytes + from, at - from);
		is_open = is_news;
	}
	if (is_open)
		tell(capture, file, t_ns, first * PAGE_BYTES + from, bytes + from, length - from);
}

static void read_run(struct capture *capture, struct mapped_file *file, uint64_t first, uint64_t count)
{
	static unsigned char bytes[READ_PAGES * PAGE_BYTES];

	while (count) {
		uint64_t part = count < READ_PAGES ? count : READ_PAGES, t_ns = now_ns();
		ssize_t got = pread(file->fd, bytes, part * PAGE_BYTES, first * PAGE_BYTES);

		if (got <= 0)
			return;
		capture->mapped->sum.pages += part;
		tell_changed(capture, file, t_ns, first, bytes, got);
		first += part;
		count -= part;
	}
}

/* Take over what is to be read again; the drain thread adds to it. */
static void take_again(struct mapped *mapped, struct mapped_file *file, struct page_runs *runs)
{
	struct page_runs again;

	pthread_mutex_lock(&mapped->mutex);
	again = file->again;
	file->again = (struct page_runs){0};
	pthread_mutex_unlock(&mapped->mutex);
	for (size_t i = 0; i < again.count; i++)
		page_runs_add(runs, again.runs[i].first, again.runs[i].count);
	free(again.runs);
}

/* The owner of the trace could read it when it was mapped; its mode may have become another since. */
static void note_closed(struct capture *capture, struct mapped_file *file)
{
	bool is_open = grants(capture->reader_uid, capture->reader_gid, file->inode.uid, file->inode.gid,
		file->inode.mode, READS_FILE);

	capture->mapped->sum.missed += !is_open && !file->is_closed;
	file->is_closed = !is_open;
}

/* Look at a file; false: it cannot be looked at any more. */
static bool sample(struct capture *capture, struct mapped_file *file)
{
	struct mapped *mapped = capture->mapped;
	struct page_runs runs = {0}, dirty = {0};
	uint64_t began_ns = now_ns();
	bool all;

	if (!list_pages(mapped, file, &dirty, false))
		return false;
	file->rounds_unmapped = mapped->looked->writable ? 0 : file->rounds_unmapped + 1;
	all = mapped->looked->is_marked && mapped->looked->written_back != file->written_back;
	file->written_back = mapped->looked->written_back;
	for (size_t i = 0; i < dirty.count; i++)
		page_runs_add(&runs, dirty.runs[i].first, dirty.runs[i].count);
	for (size_t i = 0; i < file->last.count; i++)
		page_runs_add(&runs, file->last.runs[i].first, file->last.runs[i].count);
	if (all)
		list_pages(mapped, file, &runs, true);
	take_again(mapped, file, &runs);
	page_runs_settle(&runs);
	learn_inode(file);
	note_closed(capture, file);
	for (size_t i = 0; i < runs.count && !file->is_closed; i++)
		read_run(capture, file, runs.runs[i].first, runs.runs[i].count);
	tell_inode(capture, file);
	free(runs.runs);
	free(file->last.runs);
	file->last = dirty;
	file->looked_ns = began_ns;
	file->is_looked_at = true;
	return true;
}

/* ---- which files ---- */

static struct mapped_file *find_file(struct mapped *mapped, const struct dk_inode *inode)
{
	struct mapped_file *file;

	for (file = mapped->files; file; file = file->next)
		if (file->inode.ino == inode->ino && file->inode.dev == inode->dev &&
			file->inode.generation == inode->generation)
			return file;
	return NULL;
}

/* Files of overlayfs and subvolumes have other device numbers for who asks than in records. */
static bool is_inode(struct capture *capture, int fd, const struct dk_inode *inode)
{
	struct stat status;

	return fd >= 0 && !fstat(fd, &status) && status.st_ino == inode->ino && S_ISREG(status.st_mode) &&
	       (kernel_device(status.st_dev) == inode->dev || has_inner_devices(capture));
}

/* Open a file that a process has open or mapped; what else stands there is not opened: that may have effects. */
static int open_path(const char *path)
{
	int found = open(path, O_PATH | O_CLOEXEC), fd = -1;
	char link[64];
	struct stat status;

	if (found < 0)
		return -1;
	if (fstat(found, &status) || !S_ISREG(status.st_mode)) {
		errno = ESTALE;
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
		fd = open(link, O_RDONLY | O_NOATIME | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 && errno == EPERM)
			fd = open(link, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	close(found);
	return fd;
}

/* Call back for each shared writable mapping of a process, as /proc/PID/maps and /proc/PID/map_files name it. */
static void each_mapping(struct capture *capture, uint32_t pid,
	bool (*found)(struct capture *, uint32_t, uint64_t, const char *, void *), void *context)
{
	char line[4096 + 256], path[128];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%u/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, ino;
		char rights[8];

		if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &start, &end, rights, &ino) != 4 || !ino)
			continue;
		if (rights[1] != 'w' || rights[3] != 's')
			continue;
		snprintf(path, sizeof(path), "/proc/%u/map_files/%lx-%lx", pid, start, end);
		if (found(capture, pid, ino, path, context))
			break;
	}
	fclose(maps);
}

struct wanted {
	const struct dk_inode *inode;
	int fd;
};

static bool open_wanted(struct capture *capture, uint32_t pid, uint64_t ino, const char *path, void *context)
{
	struct wanted *wanted = context;

	(void)capture, (void)pid;
	if (ino != wanted->inode->ino)
		return false;
	wanted->fd = open_path(path);
	return wanted->fd >= 0;
}

/* Open what was mapped: by handle, by the descriptor that was mapped, or through the mapping itself. */
static int open_mapped(struct capture *capture, const struct dk_mapped *record)
{
	struct wanted wanted = {.inode = &record->inode, .fd = -1};
	char path[64];
	int fd, error;

	fd = open_inode(capture, &record->inode, O_RDONLY | O_NOATIME | O_NONBLOCK);
	if (is_inode(capture, fd, &record->inode))
		return fd;
	error = errno;
	if (fd >= 0)
		close(fd);
	snprintf(path, sizeof(path), "/proc/%u/fd/%u", record->header.pid, record->fd);
	fd = record->fd == ~0u ? -1 : open_path(path);
	if (is_inode(capture, fd, &record->inode))
		return fd;
	if (fd >= 0)
		close(fd);
	each_mapping(capture, record->header.pid, open_wanted, &wanted);
	errno = error;
	return wanted.fd;
}

static void wake_sampler(struct mapped *mapped)
{
	mapped->is_woken = true;
	pthread_cond_broadcast(&mapped->changed);
}

/*
 * A file that cannot be opened. Where it is gone, or the process is, the kernel side has sent what was stored when the
 * mapping ended, and there is nothing left to look at.
 */
static void note_missed(struct mapped *mapped, const struct dk_mapped *record, struct mapped_file *file)
{
	struct mapped_file gone = {.fd = -1, .cache = record->cache};
	bool is_gone = file && file->fd < 0 && (errno == ESTALE || kill(record->header.pid, 0));

	if (is_gone)
		look(mapped, &gone, 0, LOOK_FORGET, false);
	else
		mapped->sum.missed++;
	if (file && file->fd >= 0)
		close(file->fd);
}

/* A file is mapped writable: watch it, or note who has it mapped by now. */
static void begin_mapping(struct capture *capture, const struct dk_mapped *record)
{
	struct mapped *mapped = capture->mapped;
	struct mapped_file *file;
	struct stat status;

	pthread_mutex_lock(&mapped->mutex);
	file = find_file(mapped, &record->inode);
	pthread_mutex_unlock(&mapped->mutex);
	if (!file) {
		file = mapped->count < MOST_FILES ? calloc(1, sizeof(*file)) : NULL;
		if (file)
			file->fd = open_mapped(capture, record);
		if (!file || file->fd < 0 || fstat(file->fd, &status) || !may_read(capture, &status)) {
			note_missed(mapped, record, file);
			free(file);
			return;
		}
		file->inode = record->inode;
		file->is_inode_stale = true;
		file->looked_ns = record->header.t_ns;
	}
	pthread_mutex_lock(&mapped->mutex);
	file->cache = record->cache;
	file->pid = record->header.pid;
	file->tid = record->header.tid ? record->header.tid : record->header.pid;
	file->flags = record->header.flags & (DK_F_OUTSIDER | DK_F_UNCERTAIN);
	if (!file->maps++) {
		file->next = mapped->files;
		mapped->files = file;
		mapped->count++;
		mapped->sum.files++;
	}
	wake_sampler(mapped);
	pthread_mutex_unlock(&mapped->mutex);
}

static void end_mapping(struct capture *capture, struct mapped_file *file)
{
	struct queued *queued = new_record(sizeof(struct dk_mapped));

	if (queued) {
		fill(capture, file, (void *)queued->bytes, DK_OP_UNMAP, now_ns());
		enqueue(capture->mapped, queued);
	}
	close(file->fd);
	page_table_free(&file->pages);
	free(file->last.runs);
	free(file->again.runs);
	free(file);
}

/* Stop watching a file that nobody has mapped any more; somebody may map it this very moment. */
static void stop_watching(struct capture *capture, struct mapped_file *file)
{
	struct mapped *mapped = capture->mapped;
	uint32_t maps = file->maps;
	struct mapped_file **at;

	look(mapped, file, 0, LOOK_FORGET, false);
	if (look(mapped, file, UINT64_MAX >> 16, LOOK_LIST, false) && mapped->looked->writable)
		look(mapped, file, 0, LOOK_WATCH, false);
	pthread_mutex_lock(&mapped->mutex);
	if (file->maps != maps || mapped->looked->writable) {
		file->rounds_unmapped = 0;
		pthread_mutex_unlock(&mapped->mutex);
		return;
	}
	for (at = &mapped->files; *at != file; at = &(*at)->next)
		;
	*at = file->next;
	mapped->count--;
	pthread_mutex_unlock(&mapped->mutex);
	end_mapping(capture, file);
}

/* ---- the thread ---- */

/* Have the kernel side watch a mapping from before; its notice comes by the ring, as all do. */
static bool watch_found(struct capture *capture, uint32_t pid, uint64_t ino, const char *path, void *context)
{
	struct mapped_file found = {.fd = open_path(path), .pid = pid};
	struct stat status;
	bool is_ours = false;

	(void)ino, (void)context;
	if (found.fd < 0)
		return false;
	for (int i = 0; i < capture->root_count && !fstat(found.fd, &status); i++)
		is_ours |= capture->roots[i].dev == kernel_device(status.st_dev);
	if (is_ours)
		look(capture->mapped, &found, 0, LOOK_WATCH, false);
	close(found.fd);
	return false;
}

/* Mappings that were made before the recording began. */
static void search_all(struct capture *capture)
{
	DIR *stream = opendir("/proc");
	struct dirent *entry;

	while (stream && !capture->mapped->is_stopping && (entry = readdir(stream))) {
		uint32_t pid = strtoul(entry->d_name, NULL, 10);

		if (pid && pid != (uint32_t)getpid())
			each_mapping(capture, pid, watch_found, NULL);
	}
	if (stream)
		closedir(stream);
}

static void search_some(struct capture *capture)
{
	struct mapped *mapped = capture->mapped;
	uint32_t found[64], count;

	pthread_mutex_lock(&mapped->mutex);
	count = mapped->search_count;
	memcpy(found, mapped->searches, sizeof(found));
	mapped->search_count = 0;
	pthread_mutex_unlock(&mapped->mutex);
	for (uint32_t i = 0; i < count; i++)
		each_mapping(capture, found[i], watch_found, NULL);
}

/* Look at every file, or at those alone that are new; the list is changed by this thread, but for what is put first. */
static void look_at_files(struct capture *capture, bool only_new)
{
	struct mapped *mapped = capture->mapped;
	struct mapped_file *file, *next;

	pthread_mutex_lock(&mapped->mutex);
	file = mapped->files;
	pthread_mutex_unlock(&mapped->mutex);
	for (; file; file = next) {
		next = file->next;
		if (only_new && file->is_looked_at)
			continue;
		sample(capture, file);
		if (file->rounds_unmapped > ROUNDS_AFTER_UNMAP && !file->again.count && !mapped->is_stopping)
			stop_watching(capture, file);
	}
}

/* Sleep until a time, or until there is something new; with nothing to watch, for as long as there is not. */
static void rest(struct mapped *mapped, uint64_t until_ns)
{
	struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};

	pthread_mutex_lock(&mapped->mutex);
	while (!mapped->is_stopping && !mapped->is_woken) {
		if (!mapped->files)
			pthread_cond_wait(&mapped->changed, &mapped->mutex);
		else if (pthread_cond_timedwait(&mapped->changed, &mapped->mutex, &until) == ETIMEDOUT)
			break;
	}
	mapped->is_woken = false;
	pthread_mutex_unlock(&mapped->mutex);
}

/* Of this thread alone: that others have the processor is no reason to look less often. */
static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static void *sample_on(void *context)
{
	struct capture *capture = context;
	struct mapped *mapped = capture->mapped;
	uint64_t interval = capture->mapped_interval_ns, due = 0, began, last = 0, spent;

	search_all(capture);
	while (!mapped->is_stopping) {
		began = now_ns();
		spent = cpu_ns();
		search_some(capture);
		look_at_files(capture, began < due);
		if (began >= due) {
			mapped->sum.rounds += mapped->files != NULL;
			if (last && began - last > interval + interval / 2)
				mapped->sum.late_rounds++;
			if (last && began - last > mapped->sum.longest_ns)
				mapped->sum.longest_ns = began - last;
			last = mapped->files ? began : 0;
		}
		spent = cpu_ns() - spent;
		mapped->sum.spent_ns += spent;
		due = (began < due ? due : began + interval);
		if (due < began + spent * (SPARE_SHARE + 1))
			due = began + spent * (SPARE_SHARE + 1);
		rest(mapped, due);
	}
	look_at_files(capture, false);
	pthread_mutex_lock(&mapped->mutex);
	mapped->is_done = true;
	pthread_cond_broadcast(&mapped->changed);
	pthread_mutex_unlock(&mapped->mutex);
	return NULL;
}

/* ---- the drain thread's side ---- */

int mapped_start(struct capture *capture)
{
	struct bpf_map *map = capture->lib.find_map(capture->object, ".data.looked");
	struct mapped *mapped = calloc(1, sizeof(*mapped));
	pthread_condattr_t clock;

	if (!mapped || !map || !capture->mapped_interval_ns) {
		free(mapped);
		return 0;
	}
	mapped->looked_bytes = (sizeof(struct dk_looked) + 4095) & ~4095ul;
	mapped->looked =
		mmap(NULL, mapped->looked_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, capture->lib.map_fd(map), 0);
	mapped->program = program_named(capture, "look");
	if (mapped->looked == MAP_FAILED || mapped->program < 0) {
		free(mapped);
		return capture_fail(capture, "shared mappings cannot be looked at: %s", strerror(errno));
	}
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_mutex_init(&mapped->mutex, NULL);
	pthread_cond_init(&mapped->changed, &clock);
	capture->mapped = mapped;
	mapped->is_running = !pthread_create(&mapped->thread, NULL, sample_on, capture);
	return mapped->is_running ? 0 : capture_fail(capture, "the sampler thread cannot be started");
}

/* A call has changed bytes [offset, offset + length) of a file, as a record tells; replay may put it after a sample. */
static void note_change(struct mapped *mapped, const struct dk_header *header, const struct dk_inode *inode,
	uint64_t offset, uint64_t length)
{
	struct mapped_file *file;

	pthread_mutex_lock(&mapped->mutex);
	file = find_file(mapped, inode);
	if (file) {
		file->is_inode_stale = true;
		if (length) {
			uint64_t last = offset + length - 1 < offset ? UINT64_MAX : offset + length - 1;

			if (file->changed_ns < header->exit_ns)
				file->changed_ns = header->exit_ns;
			page_table_forget(
				&file->pages, offset / PAGE_BYTES, last / PAGE_BYTES, header->exit_ns, &file->again);
		}
	}
	pthread_mutex_unlock(&mapped->mutex);
}

static void see_change(struct mapped *mapped, const struct dk_header *header)
{
	const struct dk_data *data = (const void *)header;
	const struct dk_copy *copy = (const void *)header;

	if (!mapped->count)
		return;
	if (header->type == DK_DATA)
		note_change(mapped, header, &data->inode, data->offset, data->length);
	else if (header->type == DK_COPY)
		note_change(mapped, header, &copy->inode, copy->offset, copy->length);
	else if (header->type == DK_SIZE || header->type == DK_OPEN)
		note_change(mapped, header, &((const struct dk_size *)header)->inode, 0, UINT64_MAX);
	else if (header->type == DK_ATTR)
		note_change(mapped, header, &((const struct dk_attr *)header)->inode, 0, 0);
}

/* Pages that the kernel side took: are they news? They may be stored into again before they are clean. */
static bool see_sample(struct mapped *mapped, struct dk_mapped *record)
{
	uint64_t first = record->offset / PAGE_BYTES;
	const unsigned char *bytes = (const void *)(record + 1);
	struct mapped_file *file;
	bool is_news = true;

	pthread_mutex_lock(&mapped->mutex);
	file = find_file(mapped, &record->inode);
	if (file) {
		record->header.enter_ns = file->looked_ns;
		if (!record->header.pid) {
			record->header.pid = file->pid;
			record->header.tid = file->tid;
			record->header.flags = file->flags;
		}
		page_runs_add(&file->again, first, 1);
		if (record->header.t_ns > file->changed_ns)
			is_news = page_table_set(
				&file->pages, first, hash_page(bytes, record->payload), record->header.t_ns);
		file->is_inode_stale = true;
	}
	pthread_mutex_unlock(&mapped->mutex);
	return is_news;
}

/* Pages that have become clean by now: they are read at the next look all the same. */
static void see_dirty(struct mapped *mapped, const struct dk_mapped *record)
{
	struct mapped_file *file;

	pthread_mutex_lock(&mapped->mutex);
	file = find_file(mapped, &record->inode);
	if (file)
		page_runs_add(&file->again, record->offset / PAGE_BYTES, record->cache);
	pthread_mutex_unlock(&mapped->mutex);
}

bool mapped_see(struct capture *capture, struct dk_header *header)
{
	struct mapped *mapped = capture->mapped;
	struct dk_mapped *record = (void *)header;

	if (!mapped)
		return header->type != DK_MAPPED; /* nobody looks, so that nothing is to be said of mappings */
	if (header->type != DK_MAPPED) {
		see_change(mapped, header);
		return true;
	}
	if (header->op == DK_OP_SAMPLE)
		return see_sample(mapped, record);
	if (header->op == DK_OP_DIRTY) {
		see_dirty(mapped, record);
		return false;
	}
	if (header->op == DK_OP_SEARCH) {
		pthread_mutex_lock(&mapped->mutex);
		if (mapped->search_count < sizeof(mapped->searches) / sizeof(*mapped->searches))
			mapped->searches[mapped->search_count++] = header->pid;
		wake_sampler(mapped);
		pthread_mutex_unlock(&mapped->mutex);
		return false;
	}
	begin_mapping(capture, record);
	record->cache = record->fd = 0; /* addresses of the kernel are nobody's business */
	return true;
}

void mapped_flush(struct capture *capture)
{
	struct mapped *mapped = capture->mapped;
	struct queued *queued, *next;

	if (!mapped)
		return;
	pthread_mutex_lock(&mapped->mutex);
	queued = mapped->first;
	mapped->first = mapped->last = NULL;
	mapped->queued_bytes = 0;
	if (queued)
		pthread_cond_broadcast(&mapped->changed);
	pthread_mutex_unlock(&mapped->mutex);
	for (; queued; queued = next) {
		uint32_t size = ((struct dk_header *)queued->bytes)->size;
		void *room = segments_reserve(&capture->segments, size);

		next = queued->next;
		if (room) {
			memcpy(room, queued->bytes, size);
			segments_commit(&capture->segments, size);
		} else {
			capture->losses.queue++;
		}
		free(queued);
	}
}

static void wait_for_sampler(struct mapped *mapped)
{
	uint64_t at = now_ns() + 10000000;
	struct timespec until = {at / 1000000000, at % 1000000000};

	pthread_mutex_lock(&mapped->mutex);
	mapped->is_stopping = true;
	pthread_cond_broadcast(&mapped->changed);
	if (!mapped->is_done)
		pthread_cond_timedwait(&mapped->changed, &mapped->mutex, &until);
	pthread_mutex_unlock(&mapped->mutex);
}

static void tell_sum(struct capture *capture)
{
	struct dk_sampler *sum = &capture->mapped->sum;
	void *room;

	if (!sum->files && !sum->missed)
		return;
	sum->header = (struct dk_header){.size = sizeof(*sum), .type = DK_MAPPED, .op = DK_OP_SAMPLER};
	sum->header.sequence = __atomic_add_fetch(&capture->counters->sequence, 1, __ATOMIC_RELAXED);
	sum->header.t_ns = sum->header.exit_ns = now_ns();
	sum->interval_ns = capture->mapped_interval_ns;
	room = segments_reserve(&capture->segments, sizeof(*sum));
	if (!room)
		return;
	memcpy(room, sum, sizeof(*sum));
	segments_commit(&capture->segments, sizeof(*sum));
}

void mapped_finish(struct capture *capture)
{
	struct mapped *mapped = capture->mapped;

	if (!mapped)
		return;
	while (mapped->is_running && !mapped->is_done) {
		wait_for_sampler(mapped);
		mapped_flush(capture);
	}
	if (mapped->is_running)
		pthread_join(mapped->thread, NULL);
	mapped_flush(capture);
	tell_sum(capture);
	while (mapped->files) {
		struct mapped_file *file = mapped->files;

		mapped->files = file->next;
		close(file->fd);
		page_table_free(&file->pages);
		free(file->last.runs);
		free(file->again.runs);
		free(file);
	}
	munmap(mapped->looked, mapped->looked_bytes);
	capture->mapped = NULL;
	free(mapped);
}
