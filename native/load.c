// SPDX-License-Identifier: Apache-2.0
/*
 * Loads and attaches the programs, and tells them what they cannot find out: roots, devices, where the page cache
 * stands.
 */
#include "capture.h"
#include "kernel_types.h"
#include "second.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	EXT4_MAGIC = 0xEF53,
	XFS_MAGIC = 0x58465342,
	BTRFS_MAGIC = 0x9123683E,
	OVERLAY_MAGIC = 0x794c7630,
	TMPFS_MAGIC = 0x01021994,
};

struct capture *dk_new(uint64_t trace_id, uint64_t ring_bytes, uint32_t reader_uid, uint32_t reader_gid)
{
	struct capture *capture = calloc(1, sizeof(*capture));

	if (!capture)
		return NULL;
	capture->ring_bytes = ring_bytes;
	capture->reader_uid = reader_uid;
	capture->reader_gid = reader_gid;
	capture->scratch_fd = -1;
	segments_init(&capture->segments, trace_id);
	return capture;
}

/* Tests: before dk_start. */
void dk_set_faults(struct capture *capture, const struct faults *faults)
{
	capture->faults = *faults;
	capture->segments.spoilt = faults->decode;
	capture->segments.fatal = faults->kill;
}

const char *dk_error(struct capture *capture)
{
	return capture->error;
}

/* How often files that are mapped shared and writable are looked at; 0: never. */
void dk_set_mapped_interval(struct capture *capture, uint64_t interval_ns)
{
	capture->mapped_interval_ns = interval_ns;
}

/* fd: the root, opened by the caller, kept until the capture is closed. */
int dk_add_root(struct capture *capture, int fd, uint32_t dev, uint64_t ino)
{
	struct root *root = &capture->roots[capture->root_count];
	int mount_id;

	if (capture->root_count == MAX_ROOTS)
		return capture_fail(capture, "more than %d watch roots", MAX_ROOTS);
	root->fd = fd;
	root->dev = dev;
	root->ino = ino;
	root->handle.head.handle_bytes = sizeof(root->handle.room);
	root->has_handle = fd >= 0 && name_to_handle_at(fd, "", &root->handle.head, &mount_id, AT_EMPTY_PATH) == 0;
	capture->root_count++;
	return 0;
}

/* A directory of the trace's own; the descriptor is the caller's. */
void dk_set_scratch(struct capture *capture, int fd)
{
	capture->scratch_fd = fd;
}

int dk_add_excluded(struct capture *capture, uint32_t dev, uint64_t ino)
{
	if (capture->excluded_count == MAX_ROOTS)
		return capture_fail(capture, "more than %d excluded directories", MAX_ROOTS);
	capture->excluded[capture->excluded_count][0] = dev;
	capture->excluded[capture->excluded_count++][1] = ino;
	return 0;
}

bool has_lock_tracepoints(int fd)
{
	struct statfs status;

	return fd >= 0 && fstatfs(fd, &status) == 0 &&
	       (status.f_type == EXT4_MAGIC || (uint64_t)status.f_type == XFS_MAGIC);
}

static uint32_t magic_of(int fd)
{
	struct statfs status;

	return fd < 0 || fstatfs(fd, &status) ? 0 : status.f_type;
}

/* Does it say, folio by folio, when the bytes of a copy are in memory? */
bool has_cache_tracepoints(int fd)
{
	return magic_of(fd) == EXT4_MAGIC;
}

/* Does O_DIRECT go through iomap there? */
bool uses_iomap_for_direct(int fd)
{
	return magic_of(fd) == EXT4_MAGIC || magic_of(fd) == XFS_MAGIC || magic_of(fd) == BTRFS_MAGIC;
}

static bool has_root_on(struct capture *capture, uint32_t magic)
{
	struct statfs status;

	for (int i = 0; i < capture->root_count; i++)
		if (capture->roots[i].fd >= 0 && !fstatfs(capture->roots[i].fd, &status) &&
			(uint32_t)status.f_type == magic)
			return true;
	return false;
}

bool has_inner_devices(struct capture *capture)
{
	return has_root_on(capture, BTRFS_MAGIC) || has_root_on(capture, OVERLAY_MAGIC);
}

/* Does ctime move on this file system for changes alone? Network file systems and stacked ones set it for readers. */
bool tells_touches(int fd)
{
	struct statfs status;

	if (fd < 0 || fstatfs(fd, &status))
		return false;
	switch ((uint64_t)status.f_type) {
	case EXT4_MAGIC:
	case XFS_MAGIC:
	case BTRFS_MAGIC:
	case TMPFS_MAGIC:
		return true;
	}
	return false;
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
			return capture_fail(capture, "the watch roots lie on more than 8 file systems");
		settings->devices[count++] = capture->roots[i].dev;
	}
	return 0;
}

static int write_settings(struct capture *capture, bool has_touch_hooks, bool has_exact_touches)
{
	struct bpf_map *map = capture->lib.find_map(capture->object, ".rodata.settings");
	struct bpf_map *ring = capture->lib.find_map(capture->object, "ring");
	struct dk_settings *settings;
	size_t size = 0;

	settings = map ? capture->lib.initial_value(map, &size) : NULL;
	if (!settings || size < sizeof(*settings) || !ring)
		return capture_fail(capture, "the embedded BPF object is not the one this library was built with");
	memset(settings, 0, sizeof(*settings));
	if (add_devices(capture, settings))
		return -1;
	settings->ring_bytes = capture->ring_bytes;
	settings->reader_uid = capture->reader_uid;
	settings->reader_gid = capture->reader_gid;
	settings->has_touch_hooks = has_touch_hooks;
	settings->fault_probe = capture->faults.probe;
	settings->fault_table = capture->faults.table;
	settings->has_subvolumes = has_root_on(capture, BTRFS_MAGIC);
	settings->finds_touches = has_exact_touches;
	for (int i = 0; i < capture->root_count; i++) {
		settings->writes_need_enter |= !has_lock_tracepoints(capture->roots[i].fd);
		settings->finds_touches &= tells_touches(capture->roots[i].fd);
	}
	capture->finds_touches = settings->finds_touches;
	capture->finds_bytes = !settings->writes_need_enter;
	settings->has_no_handles = has_root_on(capture, TMPFS_MAGIC) || has_root_on(capture, OVERLAY_MAGIC);
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
			return capture_fail(capture, "cannot register a watch root: %s", strerror(errno));
	}
	kind = DK_PLACE_EXCLUDED;
	for (int i = 0; i < capture->excluded_count; i++) {
		struct dk_place place = {.ino = capture->excluded[i][1], .dev = capture->excluded[i][0]};

		if (capture->lib.update(fd, &place, &kind, BPF_ANY))
			return capture_fail(capture, "cannot register an excluded directory: %s", strerror(errno));
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
	{"direct_began", "iomap_dio_rw_begin"},
	{"direct_completed", "iomap_dio_complete"},
	{"writeback_begins", "writeback_single_inode_start"},
	{"ext4_writeback_begins", "ext4_writepages"},
	{"touch_set", "inode_set_ctime_to_ts"},
	{"touch_exchange", "ctime_ns_xchg"},
	{"touch_skip", "ctime_xchg_skip"},
	{"touch_ext4", "ext4_mark_inode_dirty"},
	{"request_submitted", "io_uring_submit_req"},
	{"request_ended", "io_uring_complete"},
	{"request_submitted_old", "io_uring_submit_sqe"},
};

/* A program that serves several hooks: the verifier looks at each program alone, and this is a long one. */
static const struct {
	const char *program;
	const char *hook;
} raw_hooks[] = {
	{"request_ended", "io_uring_complete"},
	{"request_ended", "sched_process_exit"},
};

static const char *hook_of(const char *program)
{
	for (size_t i = 0; i < sizeof(optional_hooks) / sizeof(*optional_hooks); i++)
		if (!strcmp(program, optional_hooks[i].program))
			return optional_hooks[i].hook;
	return NULL;
}

static bool has_other_root_than(struct capture *capture, uint32_t magic)
{
	struct statfs status;

	for (int i = 0; i < capture->root_count; i++)
		if (capture->roots[i].fd < 0 || fstatfs(capture->roots[i].fd, &status) ||
			(uint32_t)status.f_type != magic)
			return true;
	return false;
}

/* May a write below a root go through ext4? Stacked file systems pass theirs on. */
static bool may_write_ext4(struct capture *capture)
{
	for (int i = 0; i < capture->root_count; i++)
		switch (magic_of(capture->roots[i].fd)) {
		case XFS_MAGIC:
		case BTRFS_MAGIC:
		case TMPFS_MAGIC:
			continue;
		default:
			return true;
		}
	return false;
}

bool is_wanted(struct capture *capture, const char *program, bool is_new_kernel)
{
	if (!strcmp(program, "touch_ext4") || !strcmp(program, "request_submitted_old"))
		return !is_new_kernel;
	if (!strncmp(program, "xfs_", 4))
		return has_root_on(capture, XFS_MAGIC);
	if (!strcmp(program, "ext4_writeback_begins"))
		return has_root_on(capture, EXT4_MAGIC) || has_root_on(capture, OVERLAY_MAGIC);
	if (!strncmp(program, "ext4_", 5) || !strcmp(program, "shared_write"))
		return may_write_ext4(capture);
	if (!strcmp(program, "writeback_begins"))
		return has_other_root_than(capture, EXT4_MAGIC);
	if (!strcmp(program, "probe_btrfs"))
		return has_root_on(capture, BTRFS_MAGIC);
	if (!strcmp(program, "probe_overlay"))
		return has_root_on(capture, OVERLAY_MAGIC);
	return true;
}

/* types: where the kernel's types are to be read, NULL: where libbpf finds them. */
struct bpf_object *open_programs(struct capture *capture, const char *types)
{
	struct open_options options = {.size = sizeof(options), .btf_path = types};

	last_message[0] = 0;
	return capture->lib.open_mem(capture->image.data, capture->image.size, &options);
}

static int open_object(struct capture *capture, const char *types)
{
	if (capture->object)
		capture->lib.close(capture->object);
	capture->object = open_programs(capture, types);
	if (!capture->object)
		return capture_fail(capture, "libbpf cannot open the embedded BPF object: %s", last_message);
	return 0;
}

/* Every hook that a kernel of today is known to have. */
static int choose_programs(struct capture *capture)
{
	struct bpf_program *program = NULL;

	while ((program = capture->lib.next_program(capture->object, program)))
		if (!is_wanted(capture, capture->lib.program_name(program), true))
			capture->lib.set_autoload(program, false);
	return write_settings(capture, true, true);
}

void choose_half(struct capture *capture, struct bpf_object *object, bool is_second)
{
	struct bpf_program *program = NULL;

	while ((program = capture->lib.next_program(object, program))) {
		const char *name = capture->lib.program_name(program);

		capture->lib.set_autoload(
			program, is_wanted(capture, name, true) && is_of_second_half(name) == is_second);
	}
}

static bool has_one_processor(void)
{
	cpu_set_t processors;

	return !sched_getaffinity(0, sizeof(processors), &processors) && CPU_COUNT(&processors) == 1;
}

/* 1 when either was not loaded. */
static int load_halves(struct capture *capture, const char *types)
{
	bool is_loaded;

	if (has_one_processor())
		return capture->lib.load(capture->object) != 0;
	choose_half(capture, capture->object, false);
	if (!second_start(capture, types))
		return 1;
	is_loaded = !capture->lib.load(capture->object);
	if (second_wait() && is_loaded)
		return 0;
	ring_close(&capture->ring);
	if (capture->second)
		capture->lib.close(capture->second);
	capture->second = NULL;
	return 1;
}

/* With our own search for the kernel's types; 1 when something is not found, as what modules have. */
static int load_quickly(struct capture *capture)
{
	const char *types = NULL;
	int result = 1;

	if (!capture->faults.search && !has_root_on(capture, BTRFS_MAGIC) && !has_root_on(capture, OVERLAY_MAGIC))
		types = types_begin(capture);
	if (!types)
		return 1;
	if (open_object(capture, types) || choose_programs(capture))
		result = -1;
	else if (types_have_hooks(capture))
		result = load_halves(capture, types);
	types_end(capture);
	return result;
}

/* One load, in which libbpf searches the kernel's types; 1 when a hook is missing, or the kernel refuses a program. */
static int load_all(struct capture *capture)
{
	if (!types_have_touches())
		return 1;
	if (open_object(capture, NULL) || choose_programs(capture))
		return -1;
	return capture->lib.load(capture->object) != 0;
}

static void note_missing(struct capture *capture, const char *hook);

/*
 * The programs call each other deeper than 512 bytes of stack reach. Kernels since 6.13 give each call a stack of its
 * own (bpf_jit_supports_private_stack: x86-64 then, arm64 in 6.17); older ones count them together.
 */
static int fail_to_load(struct capture *capture)
{
	if (strstr(last_message, "combined stack size"))
		return capture_fail(capture,
			"the kernel is too old: it has no private stacks for BPF programs, which came with "
			"Linux 6.13 on x86-64 and 6.17 on arm64");
	return capture_fail(capture, "the kernel refused the BPF programs: %s", last_message);
}

/* The slower way, where a hook is missing: ask BTF for each, switch off what is not there and name it. */
static int load_what_exists(struct capture *capture)
{
	struct btf *btf = capture->lib.vmlinux_btf();
	struct bpf_program *program = NULL;
	bool has_touch = true, has_ext4_touch = false;

	if (!btf)
		return capture_fail(capture, "the kernel's BTF cannot be read: %s", strerror(errno));
	if (open_object(capture, NULL))
		return -1;
	while ((program = capture->lib.next_program(capture->object, program))) {
		const char *name = capture->lib.program_name(program), *hook = hook_of(name);
		char type[64];
		bool exists;

		if (!hook) {
			/* As those that ask for the types of a module that is not loaded. */
			if (!is_wanted(capture, name, false))
				capture->lib.set_autoload(program, false);
			continue;
		}
		snprintf(type, sizeof(type), "btf_trace_%s", hook);
		exists = capture->lib.find_type(btf, type, 8 /* BTF_KIND_TYPEDEF */) > 0;
		if (!strcmp(name, "touch_ext4"))
			has_ext4_touch = exists;
		else if (!strncmp(name, "touch_", 6))
			has_touch &= exists;
		if (exists && is_wanted(capture, name, false))
			continue;
		capture->lib.set_autoload(program, false);
		if (!exists)
			note_missing(capture, hook);
	}
	capture->lib.btf_free(btf);
	if (write_settings(capture, has_touch || has_ext4_touch, has_touch))
		return -1;
	return capture->lib.load(capture->object) ? fail_to_load(capture) : 0;
}

static void note_missing(struct capture *capture, const char *hook)
{
	if (strlen(capture->missing) + strlen(hook) + 2 < sizeof(capture->missing))
		strcat(strcat(capture->missing, *capture->missing ? " " : ""), hook);
}

/* hook: of a program that does not name it itself; name: what the trace calls it. */
static int attach_hook(struct capture *capture, struct bpf_program *program, const char *hook, const char *name)
{
	struct bpf_link *link;

	if (capture->link_count == MAX_LINKS || ++capture->hook_number == capture->faults.hook)
		return 0;
	link = hook ? capture->lib.attach_raw(program, hook) : capture->lib.attach_trace(program);
	if (!link && errno == ENOENT && hook_of(name)) {
		note_missing(capture, hook);
		return 0;
	}
	if (!link)
		return capture_fail(capture, "hook %s cannot be attached: %s", name, strerror(errno));
	capture->links[capture->link_count] = link;
	snprintf(capture->hooks[capture->link_count++], sizeof(capture->hooks[0]), "%s", name);
	return 0;
}

/* Programs that are run when the process asks, or by others, and stand at no hook. */
static bool is_asked(const char *program)
{
	return !strncmp(program, "probe", 5) || !strncmp(program, "shared_", 7) || !strcmp(program, "describe") ||
	       !strcmp(program, "look");
}

/* Attach a program of raw_hooks to each of its hooks; 0 when it is none. */
static int attach_raw(struct capture *capture, struct bpf_program *program)
{
	const char *name = capture->lib.program_name(program);
	int count = 0;

	for (size_t i = 0; i < sizeof(raw_hooks) / sizeof(*raw_hooks); i++) {
		if (strcmp(raw_hooks[i].program, name))
			continue;
		if (attach_hook(capture, program, raw_hooks[i].hook, raw_hooks[i].hook))
			return -1;
		count++;
	}
	return count;
}

static void list_programs(struct capture *capture, struct bpf_object *object)
{
	struct bpf_program *program = NULL;

	while (object && (program = capture->lib.next_program(object, program)))
		if (capture->lib.autoload(program) && capture->program_count < MAX_PROGRAMS)
			capture->programs[capture->program_count++] = program;
}

/* Programs that others go on to. */
static int put_shared(struct capture *capture)
{
	static const char *const names[SHARED_PROGRAMS] = {
		[SHARED_WRITE] = "shared_write", [SHARED_TOUCH] = "shared_touch"};
	int map = capture->lib.map_fd(capture->lib.find_map(capture->object, "shared_programs"));

	for (uint32_t i = 0; i < SHARED_PROGRAMS; i++) {
		int program = program_named(capture, names[i]);

		if (program < 0)
			continue; /* as what goes on to it, it is not wanted here */
		if (capture->lib.update(map, &i, &program, BPF_ANY))
			return capture_fail(capture, "program %s cannot be shared: %s", names[i], strerror(errno));
	}
	return 0;
}

static int attach_all(struct capture *capture)
{
	if (put_shared(capture))
		return -1;
	for (int i = 0; i < capture->program_count; i++) {
		struct bpf_program *program = capture->programs[i];
		const char *name = capture->lib.program_name(program), *hook = NULL;
		int raw;

		if (capture->link_count == MAX_LINKS || is_asked(name))
			continue;
		if (!strcmp(capture->lib.section_name(program), "raw_tp"))
			hook = hook_of(name);
		raw = attach_raw(capture, program);
		if (raw < 0 || (!raw && attach_hook(capture, program, hook, name)))
			return -1;
	}
	return 0;
}

/* The hooks that only requests need, when the first is seen: nobody else's switches from task to task are to cost. */
void attach_for_requests(struct capture *capture)
{
	static const char *const hooks[REQUEST_LINKS] = {
		"sched_switch", "ext4_punch_hole", "ext4_zero_range", "ext4_collapse_range", "ext4_insert_range"};
	struct bpf_program *program = find_program(capture, "request_ended");

	if (!program || capture->request_links[0])
		return;
	for (int i = 0; i < REQUEST_LINKS; i++)
		capture->request_links[i] = capture->lib.attach_raw(program, hooks[i]);
}

int run_program(int program, const uint64_t *context, uint32_t size)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.test.prog_fd = program;
	attributes.test.ctx_in = (uint64_t)(uintptr_t)context;
	attributes.test.ctx_size_in = size;
	return syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attributes, sizeof(attributes));
}

/* A program that was loaded, or NULL. */
struct bpf_program *find_program(struct capture *capture, const char *name)
{
	for (int i = 0; i < capture->program_count; i++)
		if (!strcmp(capture->lib.program_name(capture->programs[i]), name))
			return capture->programs[i];
	return NULL;
}

/* Its descriptor, or a negative number. */
int program_named(struct capture *capture, const char *name)
{
	struct bpf_program *program = find_program(capture, name);

	return program ? capture->lib.program_fd(program) : -1;
}

static int run_probe(int program, uint64_t fd, uint64_t page, uint64_t address)
{
	uint64_t context[3] = {fd, page, address};

	return run_program(program, context, sizeof(context));
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

static bool run_named_probe(struct capture *capture, const char *name)
{
	int program = program_named(capture, name);

	return program >= 0 && !run_probe(program, 0, 0, 0);
}

/* Learn how a btrfs inode leads to its subvolume, and one of overlayfs to its upper file, where roots are on these. */
static int find_inner_layouts(struct capture *capture)
{
	run_named_probe(capture, "probe_overlay");
	if (!has_root_on(capture, BTRFS_MAGIC))
		return 0;
	if (!run_named_probe(capture, "probe_btrfs") || !capture->counters->subvolume_device_offset)
		return capture_fail(capture, "the kernel does not tell where btrfs keeps the subvolume of a file");
	return 0;
}

static void find_page_cache(struct capture *capture)
{
	unsigned char truth[16 << 12];
	bool is_found = false;
	int fd = memfd_create("diffkeeper", MFD_CLOEXEC), program = program_named(capture, "probe");

	if (fd >= 0 && program >= 0 && getrandom(truth, sizeof(truth), 0) == sizeof(truth) &&
		write(fd, truth, sizeof(truth)) == sizeof(truth))
		is_found = try_bases(capture, program, fd, truth);
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
		return capture_fail(capture, "the counters of the BPF programs cannot be mapped: %s", strerror(errno));
	capture->counters = mapped;
	return 0;
}

/* The answers of `describe`, and the program itself. */
static int map_described(struct capture *capture)
{
	struct bpf_map *map = capture->lib.find_map(capture->object, ".data.described");
	void *mapped = MAP_FAILED;

	if (map)
		mapped = mmap(NULL, DESCRIBED_BYTES, PROT_READ, MAP_SHARED, capture->lib.map_fd(map), 0);
	if (mapped == MAP_FAILED)
		return capture_fail(capture, "the answers of the BPF programs cannot be mapped: %s", strerror(errno));
	capture->described = mapped;
	capture->describe_fd = program_named(capture, "describe");
	return 0;
}

static int load_any_way(struct capture *capture)
{
	int result = load_quickly(capture);

	if (result == 1)
		result = load_all(capture);
	if (result == 1)
		result = load_what_exists(capture);
	return result;
}

/* The programs that read by loads; where the kernel does not have what that takes, those that read by a helper. */
static int load_programs(struct capture *capture)
{
	uint32_t type, function;
	int result = -1;

	image_use_plain(&capture->image);
	types_find(&capture->image);
	if (!capture->faults.plain && types_of_cast(&type, &function) &&
		image_use_loads(&capture->image, type, function))
		result = load_any_way(capture);
	if (result) {
		image_use_plain(&capture->image);
		result = load_any_way(capture);
	}
	types_forget();
	return result;
}

int dk_start(struct capture *capture)
{
	struct rlimit files;
	int result;

	if (bind_library(capture))
		return -1;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max; /* a folder that comes in is read with one descriptor a level */
		setrlimit(RLIMIT_NOFILE, &files);
	}
	result = load_programs(capture);
	list_programs(capture, capture->object);
	list_programs(capture, capture->second);
	if (result || put_places(capture) || map_counters(capture) || map_described(capture))
		return -1;
	if (find_inner_layouts(capture))
		return -1;
	find_page_cache(capture);
	if (attach_all(capture) || (!capture->ring.consumer && open_ring(capture)))
		return -1;
	try_hooks(capture);
	return 0;
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
		return capture_fail(capture, "process %d cannot be opened: %s", pid, strerror(errno));
	result = capture->lib.update(map, &fd, &task, BPF_ANY);
	close(fd);
	capture->adopted_ns = now_ns();
	return result ? capture_fail(capture, "process %d cannot be adopted: %s", pid, strerror(errno)) : 0;
}
