// SPDX-License-Identifier: Apache-2.0
/*
 * The process side of capture: load and attach the programs, drain the ring into journal segments, read back at once
 * what had no buffer to copy from. Called through ctypes by native.py.
 *
 * libbpf is opened at run time: the build needs neither its headers nor its archive, and a machine without it gets a
 * message instead of a library that does not load.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "events.h"
#include "segments.h"

extern const char diffkeeper_bpf_object[], diffkeeper_bpf_object_end[];
int dk_generations(int dirfd, const char *names_nul_joined, int count, int64_t *out);

enum { EXT4_MAGIC = 0xEF53, XFS_MAGIC = 0x58465342 };
enum { COUNTERS_BYTES = 4096 };
_Static_assert(sizeof(struct dk_counters) <= COUNTERS_BYTES, "the counters are mapped as one page");
enum { ROUND_MS = 20, LATE_CHUNK = 1 << 20, MAX_ROOTS = 64, MAX_LINKS = 32, ERROR_BYTES = 1024 };

/* ---- libbpf, by name ---- */

struct bpf_object;
struct bpf_program;
struct bpf_link;
struct bpf_map;
struct ring_buffer;
struct btf;

struct library {
	void *handle;
	struct bpf_object *(*open_mem)(const void *, size_t, const void *);
	int (*load)(struct bpf_object *);
	void (*close)(struct bpf_object *);
	struct bpf_program *(*next_program)(const struct bpf_object *, struct bpf_program *);
	const char *(*program_name)(const struct bpf_program *);
	int (*program_fd)(const struct bpf_program *);
	int (*set_autoload)(struct bpf_program *, bool);
	bool (*autoload)(const struct bpf_program *);
	struct bpf_link *(*attach)(const struct bpf_program *);
	int (*detach)(struct bpf_link *);
	struct bpf_map *(*find_map)(const struct bpf_object *, const char *);
	int (*map_fd)(const struct bpf_map *);
	int (*set_max_entries)(struct bpf_map *, uint32_t);
	void *(*initial_value)(struct bpf_map *, size_t *);
	int (*update)(int, const void *, const void *, uint64_t);
	int (*program_info)(int, void *, uint32_t *);
	struct ring_buffer *(*ring_new)(int, int (*)(void *, void *, size_t), void *, const void *);
	int (*ring_epoll_fd)(const struct ring_buffer *);
	int (*ring_consume)(struct ring_buffer *);
	void (*ring_free)(struct ring_buffer *);
	struct btf *(*vmlinux_btf)(void);
	int32_t (*find_type)(const struct btf *, const char *, uint32_t);
	void (*btf_free)(struct btf *);
	int (*set_print)(int (*)(int, const char *, va_list));
};

static const struct {
	const char *name;
	size_t offset;
} library_names[] = {
	{"bpf_object__open_mem", offsetof(struct library, open_mem)},
	{"bpf_object__load", offsetof(struct library, load)},
	{"bpf_object__close", offsetof(struct library, close)},
	{"bpf_object__next_program", offsetof(struct library, next_program)},
	{"bpf_program__name", offsetof(struct library, program_name)},
	{"bpf_program__fd", offsetof(struct library, program_fd)},
	{"bpf_program__set_autoload", offsetof(struct library, set_autoload)},
	{"bpf_program__autoload", offsetof(struct library, autoload)},
	{"bpf_program__attach", offsetof(struct library, attach)},
	{"bpf_link__destroy", offsetof(struct library, detach)},
	{"bpf_object__find_map_by_name", offsetof(struct library, find_map)},
	{"bpf_map__fd", offsetof(struct library, map_fd)},
	{"bpf_map__set_max_entries", offsetof(struct library, set_max_entries)},
	{"bpf_map__initial_value", offsetof(struct library, initial_value)},
	{"bpf_map_update_elem", offsetof(struct library, update)},
	{"bpf_obj_get_info_by_fd", offsetof(struct library, program_info)},
	{"ring_buffer__new", offsetof(struct library, ring_new)},
	{"ring_buffer__epoll_fd", offsetof(struct library, ring_epoll_fd)},
	{"ring_buffer__consume", offsetof(struct library, ring_consume)},
	{"ring_buffer__free", offsetof(struct library, ring_free)},
	{"btf__load_vmlinux_btf", offsetof(struct library, vmlinux_btf)},
	{"btf__find_by_name_kind", offsetof(struct library, find_type)},
	{"btf__free", offsetof(struct library, btf_free)},
	{"libbpf_set_print", offsetof(struct library, set_print)},
};

/* ---- one capture ---- */

struct root {
	int fd;
	uint32_t dev;
	uint64_t ino;
	struct {
		struct file_handle head;
		unsigned char room[128];
	} handle; /* of the root: the pattern for handles on its file system */
	bool has_handle;
};

struct capture {
	struct library lib;
	struct bpf_object *object;
	struct bpf_link *links[MAX_LINKS];
	char hooks[MAX_LINKS][32];
	int link_count;
	char missing[512];
	struct dk_counters *counters;
	struct root roots[MAX_ROOTS];
	int root_count;
	uint64_t excluded[MAX_ROOTS][2];
	int excluded_count;
	uint32_t reader_uid, reader_gid;
	uint64_t ring_bytes;
	struct ring_buffer *ring;
	int wake_fd; /* an eventfd: ends the drain thread's wait */
	struct segments segments;
	pthread_t thread;
	bool is_draining;
	volatile bool is_stopping;
	uint64_t lost_seen[DK_LOST_CHANNELS];
	uint64_t lost_queue;
	uint64_t lost_checked_ns;
	uint64_t late_reads, late_failures;
	char error[ERROR_BYTES];
};

static __thread char last_message[ERROR_BYTES];

/* Keep the end of what libbpf warns (level 0): the verifier names the cause in its last lines. */
static int keep_message(int level, const char *format, va_list arguments)
{
	static char text[1 << 16];
	size_t had = strlen(last_message), got, cut;

	if (level != 0)
		return 0;
	vsnprintf(text, sizeof(text), format, arguments);
	got = strlen(text);
	if (got >= sizeof(last_message)) {
		strcpy(last_message, text + got - sizeof(last_message) + 1);
		return 0;
	}
	cut = had + got < sizeof(last_message) ? 0 : had + got - sizeof(last_message) + 1;
	memmove(last_message, last_message + cut, had - cut + 1);
	strcat(last_message, text);
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static int fail(struct capture *capture, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(capture->error, sizeof(capture->error), format, arguments);
	va_end(arguments);
	return -1;
}

/* Find libbpf: beside this library (a wheel bundles it), then the system's. Returns NULL with a message. */
static void *open_library(char *message, size_t size)
{
	static const char *const names[] = {"libbpf.so.1", "libbpf.so"};
	char path[4096];
	Dl_info self;
	char *slash;
	void *handle;

	if (dladdr((const void *)open_library, &self) && (slash = strrchr(self.dli_fname, '/'))) {
		snprintf(path, sizeof(path), "%.*s/_libbpf.so.1", (int)(slash - self.dli_fname), self.dli_fname);
		handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (handle)
			return handle;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
		if (handle)
			return handle;
	}
	snprintf(message, size, "libbpf.so.1 cannot be loaded (%s)", dlerror());
	return NULL;
}

static int bind_library(struct capture *capture)
{
	struct library *lib = &capture->lib;

	lib->handle = open_library(capture->error, sizeof(capture->error));
	if (!lib->handle)
		return -1;
	for (size_t i = 0; i < sizeof(library_names) / sizeof(*library_names); i++) {
		void *symbol = dlsym(lib->handle, library_names[i].name);

		if (!symbol)
			return fail(capture, "libbpf has no %s: version 1.0 or later is needed", library_names[i].name);
		memcpy((char *)lib + library_names[i].offset, &symbol, sizeof(symbol));
	}
	lib->set_print(keep_message);
	return 0;
}

/* Say whether libbpf can be loaded here: 0, or -1 with the reason in message. */
int dk_probe_library(char *message, int size)
{
	void *handle = open_library(message, size);

	if (!handle)
		return -1;
	dlclose(handle);
	return 0;
}

struct capture *dk_new(uint64_t trace_id, uint64_t ring_bytes, uint32_t reader_uid, uint32_t reader_gid)
{
	struct capture *capture = calloc(1, sizeof(*capture));

	if (!capture)
		return NULL;
	capture->ring_bytes = ring_bytes;
	capture->reader_uid = reader_uid;
	capture->reader_gid = reader_gid;
	segments_init(&capture->segments, trace_id);
	return capture;
}

const char *dk_error(struct capture *capture)
{
	return capture->error;
}

static uint32_t kernel_device(dev_t dev)
{
	return major(dev) << 20 | minor(dev);
}

/* fd: the root, opened by the caller, kept until the capture is closed. */
int dk_add_root(struct capture *capture, int fd, uint32_t dev, uint64_t ino)
{
	struct root *root = &capture->roots[capture->root_count];
	int mount_id;

	if (capture->root_count == MAX_ROOTS)
		return fail(capture, "more than %d watch roots", MAX_ROOTS);
	root->fd = fd;
	root->dev = dev;
	root->ino = ino;
	root->handle.head.handle_bytes = sizeof(root->handle.room);
	root->has_handle = fd >= 0 && name_to_handle_at(fd, "", &root->handle.head, &mount_id, AT_EMPTY_PATH) == 0;
	capture->root_count++;
	return 0;
}

int dk_add_excluded(struct capture *capture, uint32_t dev, uint64_t ino)
{
	if (capture->excluded_count == MAX_ROOTS)
		return fail(capture, "more than %d excluded directories", MAX_ROOTS);
	capture->excluded[capture->excluded_count][0] = dev;
	capture->excluded[capture->excluded_count++][1] = ino;
	return 0;
}

/* ---- load and attach ---- */

static bool has_lock_tracepoints(int fd)
{
	struct statfs status;

	return fd >= 0 && fstatfs(fd, &status) == 0 &&
	       (status.f_type == EXT4_MAGIC || (uint64_t)status.f_type == XFS_MAGIC);
}

static int add_devices(struct capture *capture, struct dk_settings *settings)
{
	int count = 0;

	for (int i = 0; i < capture->root_count; i++) {
		bool is_known = false;

		for (int j = 0; j < count; j++)
			is_known |= settings->devices[j] == capture->roots[i].dev;
		if (is_known)
			continue;
		if (count == 8)
			return fail(capture, "the watch roots lie on more than 8 file systems");
		settings->devices[count++] = capture->roots[i].dev;
	}
	return 0;
}

static int write_settings(struct capture *capture, bool has_touch_hooks)
{
	struct bpf_map *map = capture->lib.find_map(capture->object, ".rodata.settings");
	struct bpf_map *ring = capture->lib.find_map(capture->object, "ring");
	struct dk_settings *settings;
	size_t size = 0;

	settings = map ? capture->lib.initial_value(map, &size) : NULL;
	if (!settings || size < sizeof(*settings) || !ring)
		return fail(capture, "the embedded BPF object is not the one this library was built with");
	memset(settings, 0, sizeof(*settings));
	if (add_devices(capture, settings))
		return -1;
	settings->ring_bytes = capture->ring_bytes;
	settings->reader_uid = capture->reader_uid;
	settings->reader_gid = capture->reader_gid;
	settings->has_touch_hooks = has_touch_hooks;
	for (int i = 0; i < capture->root_count; i++)
		settings->writes_need_enter |= !has_lock_tracepoints(capture->roots[i].fd);
	capture->lib.set_max_entries(ring, capture->ring_bytes);
	return 0;
}

static int put_places(struct capture *capture)
{
	int fd = capture->lib.map_fd(capture->lib.find_map(capture->object, "places"));
	uint32_t kind = DK_PLACE_ROOT;

	for (int i = 0; i < capture->root_count; i++) {
		struct dk_place place = {.ino = capture->roots[i].ino, .dev = capture->roots[i].dev};

		if (capture->lib.update(fd, &place, &kind, BPF_ANY))
			return fail(capture, "cannot register a watch root: %s", strerror(errno));
	}
	kind = DK_PLACE_EXCLUDED;
	for (int i = 0; i < capture->excluded_count; i++) {
		struct dk_place place = {.ino = capture->excluded[i][1], .dev = capture->excluded[i][0]};

		if (capture->lib.update(fd, &place, &kind, BPF_ANY))
			return fail(capture, "cannot register an excluded directory: %s", strerror(errno));
	}
	return 0;
}

/* Programs whose hook a kernel may lack; the others are the least that capture needs. */
static const struct {
	const char *program;
	const char *hook;
} optional_hooks[] = {
	{"ext4_delayed_write", "ext4_da_write_end"},
	{"ext4_ordered_write", "ext4_write_end"},
	{"ext4_journalled_write", "ext4_journalled_write_end"},
	{"xfs_buffered_write", "xfs_file_buffered_write"},
	{"xfs_direct_write", "xfs_file_direct_write"},
	{"touch_set", "inode_set_ctime_to_ts"},
	{"touch_exchange", "ctime_ns_xchg"},
	{"touch_skip", "ctime_xchg_skip"},
	{"touch_ext4", "ext4_mark_inode_dirty"},
};

static const char *hook_of(const char *program)
{
	for (size_t i = 0; i < sizeof(optional_hooks) / sizeof(*optional_hooks); i++)
		if (!strcmp(program, optional_hooks[i].program))
			return optional_hooks[i].hook;
	return NULL;
}

static bool is_wanted(struct capture *capture, const char *program, bool is_new_kernel)
{
	bool any_xfs = false;

	if (!strcmp(program, "touch_ext4"))
		return !is_new_kernel;
	if (!strncmp(program, "xfs_", 4)) {
		for (int i = 0; i < capture->root_count; i++) {
			struct statfs status;

			any_xfs |= capture->roots[i].fd >= 0 && !fstatfs(capture->roots[i].fd, &status) &&
				   (uint64_t)status.f_type == XFS_MAGIC;
		}
		return any_xfs;
	}
	return true;
}

static struct bpf_object *open_object(struct capture *capture)
{
	size_t size = diffkeeper_bpf_object_end - diffkeeper_bpf_object;

	last_message[0] = 0;
	return capture->lib.open_mem(diffkeeper_bpf_object, size, NULL);
}

/* Every hook that the kernel is known to have: one load, no search in BTF. */
static int load_all(struct capture *capture)
{
	struct bpf_program *program = NULL;

	capture->object = open_object(capture);
	if (!capture->object)
		return fail(capture, "libbpf cannot open the embedded BPF object: %s", last_message);
	while ((program = capture->lib.next_program(capture->object, program)))
		if (!is_wanted(capture, capture->lib.program_name(program), true))
			capture->lib.set_autoload(program, false);
	if (write_settings(capture, true))
		return -1;
	return capture->lib.load(capture->object) ? -2 : 0;
}

/* The slower way, where a hook is missing: ask BTF for each, switch off what is not there and name it. */
static int load_what_exists(struct capture *capture)
{
	struct btf *btf = capture->lib.vmlinux_btf();
	struct bpf_program *program = NULL;
	bool has_touch = true, has_ext4_touch = false;

	if (!btf)
		return fail(capture, "the kernel's BTF cannot be read: %s", strerror(errno));
	capture->lib.close(capture->object);
	capture->object = open_object(capture);
	if (!capture->object)
		return fail(capture, "libbpf cannot open the embedded BPF object: %s", last_message);
	while ((program = capture->lib.next_program(capture->object, program))) {
		const char *name = capture->lib.program_name(program), *hook = hook_of(name);
		char type[64];
		bool exists;

		if (!hook)
			continue;
		snprintf(type, sizeof(type), "btf_trace_%s", hook);
		exists = capture->lib.find_type(btf, type, 8 /* BTF_KIND_TYPEDEF */) > 0;
		if (!strcmp(name, "touch_ext4"))
			has_ext4_touch = exists;
		else if (!strncmp(name, "touch_", 6))
			has_touch &= exists;
		if (exists && is_wanted(capture, name, false))
			continue;
		capture->lib.set_autoload(program, false);
		if (!exists && strlen(capture->missing) + strlen(hook) + 2 < sizeof(capture->missing))
			strcat(strcat(capture->missing, *capture->missing ? " " : ""), hook);
	}
	capture->lib.btf_free(btf);
	if (write_settings(capture, has_touch || has_ext4_touch))
		return -1;
	if (capture->lib.load(capture->object))
		return fail(capture, "the kernel refused the BPF programs: %s", last_message);
	return 0;
}

static int attach_all(struct capture *capture)
{
	struct bpf_program *program = NULL;

	while ((program = capture->lib.next_program(capture->object, program))) {
		const char *name = capture->lib.program_name(program);
		struct bpf_link *link;

		if (!capture->lib.autoload(program) || capture->link_count == MAX_LINKS || !strcmp(name, "probe"))
			continue;
		link = capture->lib.attach(program);
		if (!link)
			return fail(capture, "hook %s cannot be attached: %s", name, strerror(errno));
		capture->links[capture->link_count] = link;
		snprintf(capture->hooks[capture->link_count++], sizeof(capture->hooks[0]), "%s", name);
	}
	return 0;
}

/* ---- where the page cache stands ---- */

static int run_probe(int program, uint64_t fd, uint64_t page, uint64_t address)
{
	uint64_t context[3] = {fd, page, address};
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.test.prog_fd = program;
	attributes.test.ctx_in = (uint64_t)(uintptr_t)context;
	attributes.test.ctx_size_in = sizeof(context);
	return syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attributes, sizeof(attributes));
}

/* Does `page` of the file hold what the kernel finds at the address that the two bases give? */
static bool is_right(struct capture *capture, int program, int fd, uint64_t page, const unsigned char *truth)
{
	volatile struct dk_counters *counters = capture->counters;
	uint64_t address;

	if (run_probe(program, fd, page, 0) || !counters->probe_folio)
		return false;
	address = counters->linear_map +
		  ((counters->probe_folio - counters->page_array) / counters->page_struct_bytes << 12);
	return !run_probe(program, fd, page, address) &&
	       !memcmp((const void *)counters->probe_bytes, truth + (page << 12), DK_PROBE_BYTES);
}

/*
 * Both bases are randomised in steps of 1 GiB (x86-64, CONFIG_RANDOMIZE_MEMORY) and the kernel does not tell them. A
 * task's structure lies in the linear map, a folio's in the array of pages: the steps below them are tried until known
 * bytes of a file in memory are found where they must be. Returns false where they are not, and nothing is read then.
 */
static bool try_bases(struct capture *capture, int program, int fd, const unsigned char *truth)
{
	struct dk_counters *counters = capture->counters;
	uint64_t step = 1ull << 30, gibibytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * 4096 / step + 16;
	uint64_t linear, pages;

	if (run_probe(program, fd, 0, 0) || !counters->probe_folio || !counters->page_struct_bytes)
		return false;
	linear = counters->probe_task & ~(step - 1);
	pages = counters->probe_folio & ~(step - 1);
	for (uint64_t i = 0; i <= gibibytes / 64 + 1; i++)
		for (uint64_t j = 0; j < gibibytes; j++) {
			counters->page_array = pages - i * step;
			counters->linear_map = linear - j * step;
			if (is_right(capture, program, fd, 0, truth))
				return is_right(capture, program, fd, 7, truth) &&
				       is_right(capture, program, fd, 15, truth);
		}
	return false;
}

static void find_page_cache(struct capture *capture)
{
	unsigned char truth[16 << 12];
	struct bpf_program *program = NULL;
	bool is_found = false;
	int fd = memfd_create("diffkeeper", MFD_CLOEXEC);

	while ((program = capture->lib.next_program(capture->object, program)))
		if (!strcmp(capture->lib.program_name(program), "probe"))
			break;
	if (fd >= 0 && program && getrandom(truth, sizeof(truth), 0) == sizeof(truth) &&
		write(fd, truth, sizeof(truth)) == sizeof(truth))
		is_found = try_bases(capture, capture->lib.program_fd(program), fd, truth);
	if (!is_found)
		capture->counters->linear_map = 0;
	if (fd >= 0)
		close(fd);
}

/*
 * Map the counters of the loaded programs. (bpf_map__initial_value is only what they began with: libbpf maps the live
 * ones for skeletons alone.)
 */
static int map_counters(struct capture *capture)
{
	struct bpf_map *map = capture->lib.find_map(capture->object, ".data.counters");
	void *mapped = MAP_FAILED;

	if (map)
		mapped = mmap(NULL, COUNTERS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, capture->lib.map_fd(map), 0);
	if (mapped == MAP_FAILED)
		return fail(capture, "the counters of the BPF programs cannot be mapped: %s", strerror(errno));
	capture->counters = mapped;
	return 0;
}

int dk_start(struct capture *capture)
{
	int result;

	if (bind_library(capture))
		return -1;
	result = load_all(capture);
	if (result == -2)
		result = load_what_exists(capture);
	if (result || put_places(capture) || map_counters(capture))
		return -1;
	find_page_cache(capture);
	return attach_all(capture);
}

/* 1 when bytes of copies are taken from the page cache, 0 when they are read back from the file. */
int dk_reads_page_cache(struct capture *capture)
{
	return capture->counters && capture->counters->linear_map != 0;
}

/* Names of what is attached and of what the kernel lacks, each list separated by blanks. */
int dk_hooks(struct capture *capture, char *attached, int size, const char **missing)
{
	attached[0] = 0;
	for (int i = 0; i < capture->link_count; i++)
		if (strlen(attached) + strlen(capture->hooks[i]) + 2 < (size_t)size)
			strcat(strcat(attached, i ? " " : ""), capture->hooks[i]);
	*missing = capture->missing;
	return capture->link_count;
}

/* Make a process, held before its exec, the root of the recorded tree. */
int dk_adopt(struct capture *capture, int pid)
{
	struct dk_task task = {.is_recorded = 1, .is_announced = 1, .is_command = 1};
	int map = capture->lib.map_fd(capture->lib.find_map(capture->object, "tasks"));
	int fd = syscall(SYS_pidfd_open, pid, 0), result;

	if (fd < 0)
		return fail(capture, "process %d cannot be opened: %s", pid, strerror(errno));
	result = capture->lib.update(map, &fd, &task, BPF_ANY);
	close(fd);
	return result ? fail(capture, "process %d cannot be adopted: %s", pid, strerror(errno)) : 0;
}

/* ---- reading back ---- */

static bool may_read(struct capture *capture, const struct stat *status)
{
	if (!capture->reader_uid || (status->st_mode & 0004))
		return true;
	return (status->st_uid == capture->reader_uid && (status->st_mode & 0400)) ||
	       (status->st_gid == capture->reader_gid && (status->st_mode & 0040));
}

/* Fill the handle of an inode after the pattern of its root's; false where the form is not known here. */
static bool make_handle(struct root *root, const struct dk_inode *inode)
{
	unsigned char *bytes = root->handle.head.f_handle;
	uint32_t low = inode->ino, high = inode->ino >> 32;

	switch (root->handle.head.handle_type) {
	case 1: /* ext4 {ino, gen}; tmpfs {gen, ino, ino >> 32} */
		if (root->handle.head.handle_bytes == 12) {
			memcpy(bytes, &inode->generation, 4);
			memcpy(bytes + 4, &low, 4);
			memcpy(bytes + 8, &high, 4);
			return true;
		}
		memcpy(bytes, &low, 4);
		memcpy(bytes + 4, &inode->generation, 4);
		return true;
	case 0x81: /* XFS {ino, gen} */
	case 0x4d: /* btrfs {objectid, root_objectid, gen} */
		memcpy(bytes, &inode->ino, 8);
		memcpy(bytes + (root->handle.head.handle_type == 0x81 ? 8 : 16), &inode->generation, 4);
		return true;
	}
	return false;
}

static int open_inode(struct capture *capture, const struct dk_inode *inode, int flags)
{
	for (int i = 0; i < capture->root_count; i++) {
		struct root *root = &capture->roots[i];

		if (root->dev != inode->dev || !root->has_handle || !make_handle(root, inode))
			continue;
		return open_by_handle_at(root->fd, &root->handle.head, flags | O_CLOEXEC);
	}
	errno = EOPNOTSUPP;
	return -1;
}

static void fill_inode(struct dk_inode *to, const struct stat *status, uint32_t generation)
{
	*to = (struct dk_inode){
		.ino = status->st_ino,
		.dev = kernel_device(status->st_dev),
		.generation = generation,
		.mode = status->st_mode,
		.nlink = status->st_nlink,
		.uid = status->st_uid,
		.gid = status->st_gid,
		.size = status->st_size,
		.mtime_sec = status->st_mtim.tv_sec,
		.mtime_nsec = status->st_mtim.tv_nsec,
		.rdev = kernel_device(status->st_rdev),
	};
}

static struct dk_late *begin_late(struct capture *capture, const struct dk_header *cause, uint64_t room)
{
	struct dk_late *late = segments_reserve(&capture->segments, sizeof(*late) + room);

	if (!late)
		return NULL;
	memset(late, 0, sizeof(*late));
	late->header = *cause;
	late->header.type = DK_LATE;
	late->header.flags = 0;
	late->header.op = 0;
	late->header.size = sizeof(*late);
	late->read_from_ns = now_ns();
	return late;
}

static void end_late(struct capture *capture, struct dk_late *late, int64_t got)
{
	late->read_to_ns = now_ns();
	late->header.t_ns = late->header.exit_ns = late->read_to_ns;
	late->header.enter_ns = late->read_from_ns;
	late->header.result = got < 0 ? got : 0;
	late->payload = got > 0 ? got : 0;
	late->header.size = sizeof(*late) + ((late->payload + 7) & ~7u);
	capture->late_reads++;
	capture->late_failures += got < 0;
	segments_commit(&capture->segments, late->header.size);
}

/* Copy [offset, offset + length) of an open file into the journal; what lies behind the end of the file is left out. */
static void read_extent(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd,
	uint64_t offset, uint64_t length)
{
	do {
		uint64_t part = length < LATE_CHUNK ? length : LATE_CHUNK;
		struct dk_late *late = begin_late(capture, cause, part);
		ssize_t got;

		if (!late)
			return;
		late->inode = *inode;
		late->offset = offset;
		got = pread(fd, late + 1, part, offset);
		end_late(capture, late, got < 0 ? -errno : got);
		if (got <= 0)
			return;
		offset += got;
		length -= got;
	} while (length);
}

static void note_failure(
	struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int error)
{
	struct dk_late *late = begin_late(capture, cause, 0);

	if (!late)
		return;
	late->inode = *inode;
	end_late(capture, late, -error);
}

static void note_xattr(
	struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd, const char *name)
{
	size_t name_len = strlen(name), padded = (name_len + 7) & ~7ul;
	ssize_t length = fgetxattr(fd, name, NULL, 0), got;
	struct dk_attr *record;

	if (length < 0)
		return;
	record = segments_reserve(&capture->segments, sizeof(*record) + padded + length + 8);
	if (!record)
		return;
	memset(record, 0, sizeof(*record) + padded + length + 8);
	got = fgetxattr(fd, name, (char *)(record + 1) + padded, length);
	record->header = *cause;
	record->header.type = DK_ATTR;
	record->header.op = DK_OP_SETXATTR;
	record->header.flags = cause->flags & DK_F_OUTSIDER;
	record->header.result = 0;
	record->header.sequence = __atomic_add_fetch(&capture->counters->sequence, 1, __ATOMIC_RELAXED);
	record->header.t_ns = record->header.enter_ns = record->header.exit_ns = now_ns();
	record->inode = *inode;
	memcpy(record + 1, name, name_len);
	record->name_len = name_len;
	record->value_len = got > 0 ? got : 0;
	record->value_full = length;
	record->header.size = sizeof(*record) + padded + ((record->value_len + 7) & ~7u);
	segments_commit(&capture->segments, record->header.size);
}

/* Extended attributes of what came in: the tree has gained them by the call that brought it. */
static void read_xattrs(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd)
{
	static char names[1 << 16]; /* XATTR_LIST_MAX */
	ssize_t length = flistxattr(fd, names, sizeof(names));

	for (ssize_t at = 0; at < length; at += strlen(names + at) + 1)
		note_xattr(capture, cause, inode, fd, names + at);
}

/* Read through a descriptor, which is closed; fd < 0: the inode could not be opened. */
static void read_open_file(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd,
	uint64_t offset, uint64_t length)
{
	struct stat status;

	if (fd < 0)
		return note_failure(capture, cause, inode, errno);
	if (fstat(fd, &status) == 0 && may_read(capture, &status))
		read_extent(capture, cause, inode, fd, offset, length);
	else
		note_failure(capture, cause, inode, EACCES);
	close(fd);
}

/* One entry of a subtree that came in, and its content. Returns a descriptor to descend into, or -1. */
static int read_entry(struct capture *capture, const struct dk_header *cause, const struct dk_base *parent, int dirfd,
	const char *name, struct dk_inode *inode)
{
	size_t name_len = strlen(name), padded = (name_len + 7) & ~7ul;
	struct dk_entry *entry;
	struct stat status;
	int64_t generation = 0;
	uint64_t from = now_ns();
	char target[4096];
	ssize_t target_len = 0;
	char *text;
	int fd;

	if (fstatat(dirfd, name, &status, AT_SYMLINK_NOFOLLOW))
		return -1;
	dk_generations(dirfd, name, 1, &generation);
	fill_inode(inode, &status, generation < 0 ? 0 : generation);
	if (S_ISLNK(status.st_mode))
		target_len = readlinkat(dirfd, name, target, sizeof(target));
	target_len = target_len < 0 ? 0 : target_len;
	entry = segments_reserve(&capture->segments, sizeof(*entry) + padded + target_len + 8);
	if (!entry)
		return -1;
	memset(entry, 0, sizeof(*entry));
	entry->header = *cause;
	entry->header.type = DK_ENTRY;
	entry->header.flags = 0;
	entry->parent = *parent;
	entry->inode = *inode;
	entry->read_from_ns = entry->header.enter_ns = from;
	entry->read_to_ns = entry->header.exit_ns = entry->header.t_ns = now_ns();
	entry->name_len = name_len;
	entry->target_len = target_len;
	text = (char *)(entry + 1);
	memcpy(text, name, name_len);
	memcpy(text + padded, target, target_len);
	entry->header.size = sizeof(*entry) + padded + ((target_len + 7) & ~7ul);
	segments_commit(&capture->segments, entry->header.size);
	if (S_ISDIR(status.st_mode))
		return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (!S_ISREG(status.st_mode) || !may_read(capture, &status))
		return -1;
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		note_failure(capture, cause, inode, errno);
		return -1;
	}
	read_xattrs(capture, cause, inode, fd);
	if (status.st_size)
		read_extent(capture, cause, inode, fd, 0, status.st_size);
	close(fd);
	return -1;
}

/* Everything below a directory that came in; takes the descriptor. */
static void read_subtree(
	struct capture *capture, const struct dk_header *cause, const struct dk_inode *directory, int fd)
{
	struct dk_base parent = {.ino = directory->ino, .dev = directory->dev, .generation = directory->generation};
	DIR *stream = fdopendir(fd);
	struct dirent *entry;

	if (!stream) {
		close(fd);
		return note_failure(capture, cause, directory, errno);
	}
	read_xattrs(capture, cause, directory, fd);
	while ((entry = readdir(stream))) {
		struct dk_inode inode;
		int below;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		below = read_entry(capture, cause, &parent, fd, entry->d_name, &inode);
		if (below >= 0)
			read_subtree(capture, cause, &inode, below);
	}
	closedir(stream);
}

static bool has_name(int fd, const char *path, size_t path_len)
{
	char link[64], where[4096 + 1];
	ssize_t length;
	size_t start;

	while (path_len && path[path_len - 1] == '/')
		path_len--;
	for (start = path_len; start && path[start - 1] != '/'; start--)
		;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, where, sizeof(where) - 1);
	if (length < (ssize_t)(path_len - start) + 1)
		return false;
	return where[length - (path_len - start) - 1] == '/' &&
	       !memcmp(where + length - (path_len - start), path + start, path_len - start);
}

static void read_back(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode,
	uint64_t offset, uint64_t length)
{
	int fd = open_inode(capture, inode, O_RDONLY | O_NOATIME | O_NONBLOCK);

	read_open_file(capture, cause, inode, fd, offset, length);
}

/*
 * Open what came in: by handle, or, where the file system has none that can be made (tmpfs knows only those it gave
 * out), by the path that its task used. A path may lead elsewhere by now: only the very inode that was touched will do.
 */
static int open_import(struct capture *capture, const struct dk_name *record, const char *path2,
	const struct dk_inode *inode, int flags)
{
	int fd = open_inode(capture, inode, flags);
	char path[64 + DK_PATH_MAX];
	struct stat status;

	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%u/%s/%.*s", record->header.pid,
		record->path2_len && *path2 == '/' ? "root" : "cwd", (int)record->path2_len, path2);
	fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (!fstat(fd, &status) && status.st_ino == inode->ino && kernel_device(status.st_dev) == inode->dev)
		return fd;
	close(fd);
	errno = ESTALE;
	return -1;
}

/* Does a directory stand in one of those that the call touched? (The one that something left may have the same name.)
 */
static bool is_below_touched(const struct dk_name *record, int fd)
{
	const struct dk_inode *touched = (const struct dk_inode *)(record + 1);
	struct stat above;

	if (fstatat(fd, "..", &above, 0))
		return false;
	for (int i = 0; i < record->touched; i++)
		if (touched[i].ino == above.st_ino && touched[i].dev == kernel_device(above.st_dev))
			return true;
	return false;
}

/* Something came in by rename or link: its bytes, or all that is below it. */
static void read_import(struct capture *capture, const struct dk_name *record)
{
	const struct dk_inode *touched = (const struct dk_inode *)(record + 1);
	const char *path = (const char *)(touched + record->touched);
	const char *path2 = path + ((record->path_len + 7) & ~7u);

	for (int i = 0; i < record->touched; i++) {
		int fd;

		if (S_ISREG(touched[i].mode) && touched[i].nlink) {
			fd = open_import(capture, record, path2, &touched[i], O_RDONLY | O_NOATIME | O_NONBLOCK);
			if (fd >= 0)
				read_xattrs(capture, &record->header, &touched[i], fd);
			read_open_file(capture, &record->header, &touched[i], fd, 0, touched[i].size);
		}
		if (!S_ISDIR(touched[i].mode))
			continue;
		fd = open_import(capture, record, path2, &touched[i], O_RDONLY | O_DIRECTORY);
		if (fd >= 0 && has_name(fd, path2, record->path2_len) && is_below_touched(record, fd))
			read_subtree(capture, &record->header, &touched[i], fd);
		else if (fd >= 0)
			close(fd);
	}
}

/* ---- drain ---- */

static void read_what_is_missing(struct capture *capture, const struct dk_header *header)
{
	if (header->type == DK_DATA) {
		const struct dk_data *data = (const void *)header;

		read_back(capture, header, &data->inode, data->offset, data->length);
	} else if (header->type == DK_COPY) {
		const struct dk_copy *copy = (const void *)header;

		read_back(capture, header, &copy->inode, copy->offset, copy->length);
	}
}

static int take_record(void *context, void *data, size_t size)
{
	struct capture *capture = context;
	struct dk_header *header = data;
	void *room;

	if (header->size > size) /* cannot be: the programs reserve what they fill */
		return 0;
	room = segments_reserve(&capture->segments, header->size);
	if (!room) {
		capture->lost_queue++;
		return 0;
	}
	memcpy(room, data, header->size);
	segments_commit(&capture->segments, header->size);
	if (header->type == DK_PIECE)
		return 0;
	if (header->type == DK_NAME && (header->flags & DK_F_IMPORT))
		read_import(capture, data);
	else if (header->flags & DK_F_BY_REFERENCE)
		read_what_is_missing(capture, header);
	return 0;
}

static uint64_t recursion_misses(struct capture *capture)
{
	struct bpf_program *program = NULL;
	uint64_t sum = 0;

	while ((program = capture->lib.next_program(capture->object, program))) {
		struct bpf_prog_info info = {0};
		uint32_t size = sizeof(info);

		if (capture->lib.autoload(program) &&
			!capture->lib.program_info(capture->lib.program_fd(program), &info, &size))
			sum += info.recursion_misses;
	}
	return sum;
}

static void read_lost(struct capture *capture, uint64_t *lost)
{
	for (int i = 0; i < DK_LOST_CHANNELS; i++)
		lost[i] = __atomic_load_n(&capture->counters->lost[i], __ATOMIC_RELAXED);
	lost[DK_LOST_QUEUE] += capture->lost_queue;
}

/* Losses since the last look become records, so that the trace says where it has a gap. */
static void note_losses(struct capture *capture, bool is_last)
{
	uint64_t lost[DK_LOST_CHANNELS], now = now_ns();

	read_lost(capture, lost);
	lost[DK_LOST_RECURSION] = is_last ? recursion_misses(capture) : capture->lost_seen[DK_LOST_RECURSION];
	for (int i = 0; i < DK_LOST_CHANNELS; i++) {
		struct dk_lost *record;

		if (lost[i] == capture->lost_seen[i])
			continue;
		record = segments_reserve(&capture->segments, sizeof(*record));
		if (!record)
			return;
		*record = (struct dk_lost){
			.header = {.size = sizeof(*record), .type = DK_LOST, .op = i, .t_ns = now, .exit_ns = now},
			.count = lost[i] - capture->lost_seen[i],
			.from_ns = capture->lost_checked_ns,
		};
		capture->lost_seen[i] = lost[i];
		segments_commit(&capture->segments, sizeof(*record));
	}
	capture->lost_checked_ns = now;
}

/* Wait for records, for a round, or until dk_stop() wakes us: who stops waits for a short command's last records. */
static void wait_for_records(struct capture *capture)
{
	struct pollfd ready[] = {
		{.fd = capture->lib.ring_epoll_fd(capture->ring), .events = POLLIN},
		{.fd = capture->wake_fd, .events = POLLIN},
	};

	poll(ready, 2, ROUND_MS);
}

/* Go before ordinary threads, where that is allowed: a ring that is full costs bytes, and a round takes little time. */
static void take_precedence(void)
{
	struct sched_param lowest = {.sched_priority = 1};

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &lowest);
}

static void *drain(void *context)
{
	struct capture *capture = context;

	capture->lost_checked_ns = now_ns();
	take_precedence();
	while (!capture->is_stopping) {
		wait_for_records(capture);
		capture->lib.ring_consume(capture->ring);
		note_losses(capture, false);
		segments_flush(&capture->segments);
	}
	capture->lib.ring_consume(capture->ring);
	note_losses(capture, true);
	segments_flush(&capture->segments);
	segments_end(&capture->segments);
	return NULL;
}

int dk_add_segment(struct capture *capture, uint32_t number, int fd)
{
	if (segments_add(&capture->segments, number, fd))
		return fail(capture, "segment %u cannot be used: %s", number, strerror(errno));
	return 0;
}

void dk_give_up(struct capture *capture)
{
	segments_give_up(&capture->segments);
}

/* Start the drain thread, once. */
int dk_drain(struct capture *capture)
{
	int map;

	if (capture->is_draining)
		return 0;
	map = capture->lib.map_fd(capture->lib.find_map(capture->object, "ring"));
	capture->ring = capture->lib.ring_new(map, take_record, capture, NULL);
	if (!capture->ring)
		return fail(capture, "the ring cannot be mapped: %s", strerror(errno));
	capture->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (capture->wake_fd < 0)
		return fail(capture, "an eventfd cannot be made: %s", strerror(errno));
	if (pthread_create(&capture->thread, NULL, drain, capture))
		return fail(capture, "the drain thread cannot be started: %s", strerror(errno));
	capture->is_draining = true;
	return 0;
}

struct dk_progress {
	uint64_t batches;
	uint64_t bytes;
	uint64_t free_segments;
	uint64_t late_reads;
	uint64_t late_failures;
	uint64_t lost[DK_LOST_CHANNELS];
};

/* Fill `out`, and up to `room` numbers of segments that became full since the last call; returns how many. */
int dk_progress(struct capture *capture, struct dk_progress *out, uint32_t *filled, int room)
{
	read_lost(capture, out->lost);
	out->lost[DK_LOST_RECURSION] = capture->lost_seen[DK_LOST_RECURSION];
	out->late_reads = capture->late_reads;
	out->late_failures = capture->late_failures;
	return segments_progress(&capture->segments, &out->batches, &out->bytes, &out->free_segments, filled, room);
}

/* Detach every hook, drain what is left, end the stream. */
int dk_stop(struct capture *capture)
{
	for (int i = 0; i < capture->link_count; i++)
		capture->lib.detach(capture->links[i]);
	capture->link_count = 0;
	if (!capture->is_draining)
		return 0;
	capture->is_stopping = true;
	segments_wake(&capture->segments);
	eventfd_write(capture->wake_fd, 1);
	pthread_join(capture->thread, NULL);
	close(capture->wake_fd);
	capture->is_draining = false;
	return 0;
}

void dk_close(struct capture *capture)
{
	dk_stop(capture);
	if (capture->ring)
		capture->lib.ring_free(capture->ring);
	if (capture->counters)
		munmap(capture->counters, COUNTERS_BYTES);
	if (capture->object)
		capture->lib.close(capture->object);
	segments_free(&capture->segments);
	free(capture);
}
