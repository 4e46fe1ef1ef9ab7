/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One capture, as its parts share it: library.c finds libbpf, load.c loads and attaches the programs, recorder.c drains
 * the ring into segments, readback.c reads back what had no buffer to copy from, losses.c notes what was lost.
 */
#ifndef DIFFKEEPER_CAPTURE_H
#define DIFFKEEPER_CAPTURE_H

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <time.h>

#include "events.h"
#include "image.h"
#include "mapped.h"
#include "ring.h"
#include "segments.h"

enum { COUNTERS_BYTES = 4096, DESCRIBED_BYTES = 8192 };
_Static_assert(sizeof(struct dk_counters) <= COUNTERS_BYTES, "the counters are mapped as one page");
enum { MAX_ROOTS = 64, MAX_LINKS = 32, REQUEST_LINKS = 5, MAX_PROGRAMS = 64, MAX_HOLES = 64, ERROR_BYTES = 1024 };

/* libbpf, by name: it is opened at run time. */
struct bpf_object;
struct bpf_program;
struct bpf_link;
struct bpf_map;
struct btf;

struct library {
	void *handle;
	struct bpf_object *(*open_mem)(const void *, size_t, const void *);
	int (*load)(struct bpf_object *);
	void (*close)(struct bpf_object *);
	struct bpf_program *(*next_program)(const struct bpf_object *, struct bpf_program *);
	const char *(*program_name)(const struct bpf_program *);
	const char *(*section_name)(const struct bpf_program *);
	int (*program_fd)(const struct bpf_program *);
	int (*set_autoload)(struct bpf_program *, bool);
	bool (*autoload)(const struct bpf_program *);
	struct bpf_link *(*attach_trace)(const struct bpf_program *);
	struct bpf_link *(*attach_raw)(const struct bpf_program *, const char *);
	int (*detach)(struct bpf_link *);
	struct bpf_map *(*find_map)(const struct bpf_object *, const char *);
	struct bpf_map *(*next_map)(const struct bpf_object *, const struct bpf_map *);
	int (*reuse_fd)(struct bpf_map *, int);
	int (*map_fd)(const struct bpf_map *);
	int (*set_max_entries)(struct bpf_map *, uint32_t);
	void *(*initial_value)(struct bpf_map *, size_t *);
	int (*update)(int, const void *, const void *, uint64_t);
	int (*remove)(int, const void *);
	int (*program_info)(int, void *, uint32_t *);
	struct btf *(*object_btf)(const struct bpf_object *);
	const void *(*btf_data)(const struct btf *, uint32_t *);
	int (*register_handler)(const char *, uint32_t, uint32_t, const void *);
	int (*unregister_handler)(int);
	struct btf *(*vmlinux_btf)(void);
	int32_t (*find_type)(const struct btf *, const char *, uint32_t);
	void (*btf_free)(struct btf *);
	int (*set_print)(int (*)(int, const char *, va_list));
};

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

/* Losses as they were at the last look. */
struct losses {
	uint64_t told[DK_LOST_CHANNELS]; /* by records in the journal */
	uint64_t queue;			 /* found no room in the journal */
	uint64_t misses;		 /* recursion_misses of all programs */
	uint64_t checked_ns;
	uint64_t misses_checked_ns;
	uint64_t last_ns;     /* when something was lost last, as far as is known */
	uint32_t known_count; /* of what the table held: */
	struct dk_loss_key keys[DK_LOSSES_MAX];
	uint64_t counts[DK_LOSSES_MAX];
};

enum { DK_SPANS = 64 };
struct dk_span {
	uint64_t from_ns;
	uint64_t until_ns;
};

/* The freezer of the recorded processes; without `producer` there is none. */
struct holding {
	pthread_mutex_t mutex;
	int freezer_fd;
	int guardian_fd;
	bool is_v2;
	bool is_off;
	bool is_held;
	uint64_t since_ns;
	uint64_t progress_ns;	 /* when something was drained last */
	uint64_t told_ns;	 /* when the guardian was told something last */
	uint64_t not_before_ns;	 /* nobody is held until then */
	unsigned long taken;	 /* position of the consumer at the last look */
	unsigned long *consumer; /* positions in the ring, of the kernel's pages */
	unsigned long *producer;
	struct dk_span spans[DK_SPANS];
	uint64_t span_count, span_noted;
};

/* Faults that a test asked for (docs/faults.md); all 0 in earnest. */
struct faults {
	uint32_t stall_ms;  /* the drain thread takes nothing for so long after the command was adopted */
	uint32_t probe;	    /* see dk_settings */
	uint32_t table;	    /* see dk_settings */
	uint32_t decode;    /* the batch with this sequence is spoilt before it is written */
	uint32_t kill;	    /* this process kills itself before it writes the batch with this sequence */
	uint32_t recursion; /* so many misses are pretended */
	uint32_t hook;	    /* the hook of that number is not attached */
	uint32_t kill_held; /* this process kills itself when it holds the recorded processes */
	uint32_t search;    /* libbpf searches the kernel's types */
	uint32_t plain;	    /* the programs read the kernel by a helper */
};

/* A file of which something is in doubt. */
struct pending_doubt {
	struct dk_inode inode;
	uint64_t begin, end;
	uint64_t due_ns;
	uint32_t pid;
	bool is_touch; /* anything of it, and its attributes */
	bool is_waiting;
};

/* Recent writes to one file that are not put in order by its lock, or that were read later. */
enum { RECENT_FILES = 256, RECENT_WRITES = 8, MAX_DOUBTS = 64 };
struct recent_write {
	uint64_t begin, end;
	uint64_t enter_ns, exit_ns;
	uint32_t tid;
	bool is_placed, is_late;
	bool is_other; /* a change of the size, or what a write takes away: it has no extent */
};
struct recent_file {
	struct dk_base file;
	uint32_t count;
	uint64_t begin, end, last_ns; /* of all writes until there is none for a while */
	struct recent_write writes[RECENT_WRITES];
};

/* Holes of one inode that wait to be read; header.size 0: a free place. */
struct pending_hole {
	struct dk_hole record;
	uint64_t due_ns; /* not read before: reading takes a tenth of the time at most */
	bool is_touch;
	bool is_waiting;
};

struct capture {
	struct library lib;
	struct image image;
	struct bpf_object *object, *second;	    /* all maps are of the first */
	struct bpf_program *programs[MAX_PROGRAMS]; /* that were loaded, of both */
	int program_count;
	struct bpf_link *links[MAX_LINKS];
	char hooks[MAX_LINKS][32];
	int link_count;
	uint32_t hook_number;
	struct bpf_link *request_links[REQUEST_LINKS]; /* attached by the drain thread */
	char missing[512];
	struct dk_counters *counters;
	struct dk_described *described; /* the answer of the program behind describe_fd */
	int describe_fd;
	struct pending_hole holes[MAX_HOLES];
	struct pending_doubt doubts[MAX_DOUBTS];
	struct recent_file recent[RECENT_FILES];
	struct trial *trial; /* while hooks are tried */
	unsigned char *kept; /* records of others from then */
	size_t kept_bytes;
	char silent[512]; /* what the trial found wanting */
	bool is_untried;
	bool finds_touches, finds_bytes; /* changes that no call explains */
	int scratch_fd;			 /* where a file without a name may be made, -1: nowhere but in the roots */
	struct root roots[MAX_ROOTS];
	int root_count;
	uint64_t excluded[MAX_ROOTS][2];
	int excluded_count;
	uint32_t reader_uid, reader_gid;
	uint64_t ring_bytes;
	uint64_t mapped_interval_ns; /* between two looks at what is mapped; 0: never */
	struct mapped *mapped;
	struct ring ring;
	int wake_fd; /* an eventfd: ends the drain thread's wait */
	int wait_fd; /* what it waits for */
	struct segments segments;
	pthread_t thread;
	bool is_draining;
	volatile bool is_stopping;
	volatile uint64_t stopping_ns; /* when the hooks began to be detached */
	struct losses losses;
	struct faults faults;
	struct holding holding;
	uint64_t taken; /* records */
	uint64_t adopted_ns;
	uint64_t late_reads, late_failures;
	char error[ERROR_BYTES];
};

/* Note in the journal what was lost since the last look; `is_last`: ask every program for its misses. */
void note_losses(struct capture *capture, bool is_last);
void look_after_holding(struct capture *capture);
void note_holding(struct capture *capture);
void dk_let_go(struct capture *capture, uint64_t pause_ns);
void read_lost(struct capture *capture, uint64_t *lost);

extern __thread char last_message[ERROR_BYTES]; /* the end of what libbpf warned of */

/* Keep a message for dk_error; returns -1. */
int capture_fail(struct capture *capture, const char *format, ...);
int bind_library(struct capture *capture);
/* Run a program that is not attached; -1 with errno. */
int run_program(int program, const uint64_t *context, uint32_t size);
struct bpf_program *find_program(struct capture *capture, const char *name);
int program_named(struct capture *capture, const char *name);
bool is_wanted(struct capture *capture, const char *program, bool is_new_kernel);
struct bpf_object *open_programs(struct capture *capture, const char *types);
/* Leave for loading the programs of one half that are wanted. */
void choose_half(struct capture *capture, struct bpf_object *object, bool is_second);
void attach_for_requests(struct capture *capture);
/* Read back the bytes of a record that came by reference. */
void read_what_is_missing(struct capture *capture, const struct dk_header *header);
/* Read what came in from outside by rename or link. */
void read_import(struct capture *capture, const struct dk_name *record);
/* Try every hook, on a file that nobody sees; and take the records of that. */
void try_hooks(struct capture *capture);
void take_trial_record(struct capture *capture, const void *data);
int open_ring(struct capture *capture);
/* Take what is on the ring. */
void take_records(struct capture *capture);

/* What file systems tell, of load.c. */
bool has_lock_tracepoints(int fd);
bool has_cache_tracepoints(int fd);
bool tells_touches(int fd);
bool uses_iomap_for_direct(int fd);
bool has_inner_devices(struct capture *capture); /* a root's files show another device to stat than the kernel's own */

/* Keep a hole until flush_holes() reads what is due, or, the last time, all. */
void note_hole(struct capture *capture, const struct dk_hole *hole);
void flush_holes(struct capture *capture, bool is_last);
void write_hole(struct capture *capture, const struct dk_hole *hole, const void *text, size_t length);
int open_regular(struct capture *capture, const struct dk_inode *inode, uint64_t pointer);
uint64_t next_sequence(struct capture *capture);
bool is_unchanged(const struct stat *before, const struct stat *after);

/* Look whether a record leaves bytes in doubt, and settle what is in doubt as soon as the file rests: doubts.c. */
void find_doubts(struct capture *capture, const struct dk_header *header);
void doubt(struct capture *capture, const struct dk_inode *inode, uint64_t begin, uint64_t end, uint32_t pid,
	bool is_touch);
void doubt_lost(struct capture *capture, const struct dk_loss_key *key, uint32_t pid);
void flush_doubts(struct capture *capture);

/* Readings, of readback.c. */
/* May the owner of the trace read this file, or list and enter this folder? */
bool may_read(struct capture *capture, const struct stat *status);
/* A descriptor as it came, or, of what the owner of the trace may not read, closed: -1, EACCES. */
int refuse_unreadable(struct capture *capture, int fd);
int open_inode(struct capture *capture, const struct dk_inode *inode, int flags);
void fill_inode(struct dk_inode *to, const struct stat *status, uint32_t generation);
void read_extent(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd,
	uint64_t offset, uint64_t length);
void read_xattrs(struct capture *capture, const struct dk_header *cause, const struct dk_inode *inode, int fd);
int read_entry(struct capture *capture, const struct dk_header *cause, const struct dk_base *parent, int dirfd,
	const char *name, struct dk_inode *inode, bool with_content);
void read_subtree(struct capture *capture, const struct dk_header *cause, const struct dk_inode *directory, int fd);
int dk_generations(int dirfd, const char *names_nul_joined, int count, int64_t *out);

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static inline uint32_t kernel_device(dev_t dev)
{
	return major(dev) << 20 | minor(dev);
}

#endif
