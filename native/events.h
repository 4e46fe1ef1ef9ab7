/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * WIRE FORMAT: every struct and constant that crosses from the kernel (recorder.bpf.c) to the drain thread (recorder.c)
 * and, unchanged, into the journal, where engines/decoder.py reads it. Little endian. It carries no version: the three
 * are built together; the journal's session facts name the diffkeeper release that wrote it.
 *
 * Every record starts with struct dk_header and is a multiple of 8 bytes long; `size` is the length of the whole.
 */
#ifndef DIFFKEEPER_EVENTS_H
#define DIFFKEEPER_EVENTS_H

#ifndef __bpf__
#include <stdint.h>
typedef uint8_t dk_u8;
typedef uint16_t dk_u16;
typedef uint32_t dk_u32;
typedef uint64_t dk_u64;
typedef int64_t dk_s64;
#else
typedef unsigned char dk_u8;
typedef unsigned short dk_u16;
typedef unsigned int dk_u32;
typedef unsigned long long dk_u64;
typedef long long dk_s64;
#endif

#define DK_PATH_MAX 4096
#define DK_PROBE_BYTES 64
#define DK_COMM_LEN 16
#define DK_TOUCHED_MAX 8
#define DK_PIECE_MAX 65536
#define DK_XATTR_NAME_MAX 256
#define DK_ARGV_MAX 4096

enum dk_type {
	DK_DATA = 1,	   /* dk_data + payload */
	DK_PIECE = 2,	   /* dk_piece + payload: more payload of the record with the same sequence */
	DK_COPY = 3,	   /* dk_copy */
	DK_SIZE = 4,	   /* dk_size */
	DK_NAME = 5,	   /* dk_name + touched inodes + path + path2 */
	DK_OPEN = 6,	   /* dk_open + touched inodes + name + path */
	DK_ATTR = 7,	   /* dk_attr + xattr name + xattr value */
	DK_CLOSE = 8,	   /* dk_close */
	DK_OUTPUT = 9,	   /* dk_output + payload */
	DK_PROCESS = 10,   /* dk_process */
	DK_EXEC = 11,	   /* dk_exec + argv + exe + cwd */
	DK_EXIT = 12,	   /* dk_exit */
	DK_DIRECTORY = 13, /* reserved: chain of a directory up to its root */
	DK_LATE = 14,	   /* dk_late + bytes: written by the drain thread */
	DK_ENTRY = 15,	   /* dk_entry + name + target: written by the drain thread */
	DK_LOST = 16,	   /* dk_lost: written by the drain thread */
	DK_MAPPED = 17,	   /* dk_mapped + bytes, or dk_sampler: shared writable mappings */
	DK_HOLE = 18,	   /* dk_hole + name: one for each change from the programs, joined by the drain thread */
	DK_HELD = 19,	   /* dk_held: written by the drain thread */
	DK_ASYNC = 20,	   /* dk_async: a request is on its way */
	DK_MOUNT = 21,	   /* dk_mount + path */
			   /* 24 is a look of the engine watch, which is Python on both sides: engines/look_record.py */
};

/* Flags; the same bits as diffkeeper.model.observation.Flag, and two of the wire's own. */
enum dk_flag {
	DK_F_OUTSIDER = 1,
	DK_F_IN_LOCK = 2,
	DK_F_AMBIGUOUS = 4,
	DK_F_BY_REFERENCE = 8,
	DK_F_FAULT = 16,
	DK_F_APPEND = 32,
	DK_F_DIRECT = 64,
	DK_F_UNTOUCHED = 128,
	DK_F_IMPORT = 256,	     /* something came in from outside: the drain thread reads it at once */
	DK_F_FROM_DESCRIPTOR = 2048, /* the offset is what the descriptor, or the file's size, said at exit */
	DK_F_UNCERTAIN = 1024,	     /* the inode may stand outside: one of its links elsewhere, or no name known */
	DK_F_READ_AT_EXIT = 4096,    /* a DK_LATE record is on the ring: the drain thread need not read */
	DK_F_MAPPED = 8192,	     /* the bytes were found in a shared writable mapping */
	DK_F_MORE = 512,	     /* DK_PIECE records with the same sequence follow */
	DK_F_HOLE = 16384,  /* no recorded call explains it; of a reading: the inode changed while it was read */
	DK_F_ASYNC = 32768, /* made by a request of io_uring or AIO: pid and tid are its submitter's */
};

enum dk_data_op { DK_OP_WRITE = 1, DK_OP_SENDFILE = 2, DK_OP_SPLICE = 3, DK_OP_COPY_RANGE = 4, DK_OP_CLONE = 5 };
enum dk_size_op { DK_OP_TRUNCATE = 1, DK_OP_FALLOCATE = 2 };
enum dk_name_op {
	DK_OP_MKDIR = 1,
	DK_OP_MKNOD = 2,
	DK_OP_SYMLINK = 3,
	DK_OP_LINK = 4,
	DK_OP_UNLINK = 5,
	DK_OP_RMDIR = 6,
	DK_OP_RENAME = 7
};
enum dk_attr_op {
	DK_OP_CHMOD = 1,
	DK_OP_CHOWN = 2,
	DK_OP_UTIME = 3,
	DK_OP_SETXATTR = 4,
	DK_OP_REMOVEXATTR = 5,
	DK_OP_SETFLAGS = 6
};
enum dk_hole_op {
	DK_OP_BYTES = 1,  /* offset, length */
	DK_OP_TOUCH = 2,  /* its ctime moved: anything may have changed */
	DK_OP_REREAD = 3, /* by the drain thread: the readings with this sequence are what it found */
	DK_OP_SETTLED = 4 /* the same of recorded changes whose outcome their records do not tell: no hole */
};
/* In call_flags, of a rename that leaves a whiteout: unlike elsewhere (XFS) that takes no access control list from its
 * directory. */
enum { DK_INHERITS_NOTHING = 1 << 30 };
enum dk_mount_op { DK_OP_MOUNT = 1, DK_OP_UMOUNT = 2 };
enum {
	DK_SEEN_IN_ROOT = 1,   /* what is seen there lies below a root itself */
	DK_SEEN_ELSEWHERE = 2, /* in another mount namespace than the recorder's */
};
enum dk_lost_channel {
	DK_LOST_RING = 0,
	DK_LOST_TABLE = 1,
	DK_LOST_RECURSION = 2,
	DK_LOST_QUEUE = 3,
	DK_LOST_PROBE = 4,
	DK_LOST_DECODE = 5, /* found by who reads the journal: nothing here counts it */
	DK_LOST_CHANNELS = 6
};

struct dk_header {
	dk_u32 size;
	dk_u8 type;
	dk_u8 op;
	dk_u16 flags;
	dk_u64 sequence;
	dk_u64 t_ns;	 /* decisive instant, CLOCK_MONOTONIC */
	dk_u64 enter_ns; /* 0: the entry was not observed */
	dk_u64 exit_ns;
	dk_u32 pid;
	dk_u32 tid;
	dk_s64 result;
};

struct dk_inode {
	dk_u64 ino;
	dk_u32 dev; /* s_dev: major << 20 | minor */
	dk_u32 generation;
	dk_u32 mode;
	dk_u32 nlink;
	dk_u32 uid;
	dk_u32 gid;
	dk_u64 size;
	dk_s64 mtime_sec;
	dk_u32 mtime_nsec;
	dk_u32 rdev;
};

struct dk_base {
	dk_u64 ino;
	dk_u32 dev;
	dk_u32 generation;
};

struct dk_data {
	struct dk_header header;
	struct dk_inode inode;
	dk_u64 offset;
	dk_u64 length;
	dk_u32 payload; /* bytes that follow, from offset on */
	dk_u32 slack;	/* how much before offset the bytes may stand: others moved the position meanwhile */
};

struct dk_piece {
	dk_u32 size;
	dk_u8 type;
	dk_u8 zero;
	dk_u16 flags;
	dk_u64 sequence; /* of the record it belongs to */
	dk_u64 start;	 /* relative to that record's offset */
	dk_u32 payload;
	dk_u32 zero2;
};

struct dk_copy {
	struct dk_header header;
	struct dk_inode inode;
	struct dk_inode source; /* ino 0: not a regular file */
	dk_u64 offset;
	dk_u64 length;
	dk_u64 source_offset;
};

struct dk_size {
	struct dk_header header;
	struct dk_inode inode;
	dk_u64 offset;
	dk_u64 length;
	dk_u32 mode;
	dk_u32 zero;
};

struct dk_name {
	struct dk_header header;
	struct dk_base base;
	struct dk_base base2;
	dk_u32 call_flags; /* of the call, and DK_INHERITS_NOTHING */
	dk_u16 touched;	   /* inodes that follow */
	dk_u16 outside; /* of an import: bit i, the touched inode i is a directory that stands outside of the roots; bit
			   DK_TOUCHED_MAX + i, it is one that came in, as it stands in another that was touched */
	dk_u32 path_len; /* without NUL; padded to 8 */
	dk_u32 path2_len;
};

struct dk_open {
	struct dk_header header;
	struct dk_inode inode;
	struct dk_inode parent;
	struct dk_base base; /* what path starts from */
	dk_u32 open_flags;
	dk_u16 touched;
	dk_u8 created;
	dk_u8 truncated;
	dk_u32 name_len; /* of the open file at exit: another process may have renamed it since it was made */
	dk_u32 path_len; /* as the caller gave it; each padded to 8 */
};

struct dk_attr {
	struct dk_header header;
	struct dk_inode inode;
	dk_u32 name_len;
	dk_u32 value_len; /* bytes that follow; header.result is 0, value_full the length the call had */
	dk_u32 value_full;
	dk_u32 zero;
};

/* The value of DK_OP_SETFLAGS. */
struct dk_inode_flags {
	dk_u32 is_extended; /* FS_XFLAG_*, and a project number; else FS_*_FL, as chattr sets them */
	dk_u32 flags;
	dk_u32 project;
	dk_u32 zero;
};

struct dk_close {
	struct dk_header header;
	struct dk_inode inode;
};

struct dk_output {
	struct dk_header header;
	dk_u64 length;
	dk_u32 stream;
	dk_u32 payload;
};

struct dk_process {
	struct dk_header header; /* pid, tid: the process it is about */
	dk_u32 parent;
	dk_u32 is_fork;
	dk_u8 comm[DK_COMM_LEN];
};

struct dk_exec {
	struct dk_header header;
	dk_u8 comm[DK_COMM_LEN];
	dk_u32 argv_len; /* NUL separated; each part padded to 8 */
	dk_u32 argv_full;
	dk_u32 exe_len;
	dk_u32 cwd_len;
};

struct dk_exit {
	struct dk_header header;
	dk_u32 status;
	dk_u32 zero;
};

struct dk_late {
	struct dk_header header; /* sequence: of the record whose bytes these are; result: 0, or -errno */
	struct dk_inode inode;
	dk_u64 offset;
	dk_u64 read_from_ns;
	dk_u64 read_to_ns;
	dk_u32 payload;
	dk_u32 zero;
};

struct dk_mount {
	struct dk_header header;
	struct dk_inode point; /* the directory that it hides; ino 0: not known */
	struct dk_inode shown; /* the one that is seen there now */
	struct dk_base base;   /* what path starts from */
	dk_u8 kind[16];	       /* of file system */
	dk_u32 seen;	       /* DK_SEEN_ bits */
	dk_u32 path_len;       /* without NUL; padded to 8 */
};

struct dk_entry {
	struct dk_header header; /* sequence: of the record that brought the subtree in */
	struct dk_base parent;
	struct dk_inode inode;
	dk_u64 read_from_ns;
	dk_u64 read_to_ns;
	dk_u32 name_len;
	dk_u32 target_len;
};

enum dk_mapped_op {
	DK_OP_SAMPLE = 0,  /* bytes of a file that is mapped */
	DK_OP_MAP = 1,	   /* the file is mapped writable from now on */
	DK_OP_UNMAP = 2,   /* nobody has it mapped writable any more */
	DK_OP_SAMPLER = 3, /* dk_sampler: what the sampler did */
	DK_OP_SEARCH = 4,  /* on the ring alone: the process may have made a shared mapping writable */
	DK_OP_DIRTY = 5,   /* on the ring alone: pages that become clean now, to be read; `cache`: how many */
};

struct dk_mapped {
	struct dk_header
		header; /* t_ns: just before the bytes were read; enter_ns: the look before; exit_ns: just after */
	struct dk_inode inode;
	dk_u64 offset;
	dk_u64 cache; /* DK_OP_MAP on the ring alone: the struct inode whose page cache is mapped */
	dk_u32 payload;
	dk_u32 fd; /* DK_OP_MAP on the ring alone: the process's descriptor, ~0: not known */
};

/* What the sampler did in all; written at the end. */
struct dk_sampler {
	struct dk_header header;
	dk_u64 interval_ns;
	dk_u64 files;
	dk_u64 rounds;
	dk_u64 late_rounds; /* rounds that came later than the interval says */
	dk_u64 longest_ns;  /* between two rounds */
	dk_u64 missed;	    /* files that could not be opened */
	dk_u64 pages;	    /* pages read */
	dk_u64 spent_ns;
};

/*
 * A request may write to the inode from t_ns on (op 0; length 0: anywhere), or no longer (op 1; of: the sequence of its
 * first record). With ino 0 it says that requests are used at all: the drain thread then attaches the hooks that tell
 * when a worker leaves one.
 */
struct dk_async {
	struct dk_header header;
	struct dk_inode inode;
	dk_u64 offset;
	dk_u64 length;
	dk_u64 of;
};

struct dk_lost {
	struct dk_header header; /* op: enum dk_lost_channel; t_ns: from_ns; exit_ns: until when; pid: 0 if not known */
	dk_u64 count;		 /* 0: the window ends here; it has a record at its begin and one at its end */
	dk_u64 from_ns;
	struct dk_base file; /* ino 0: not known which */
	dk_u64 offset;	     /* of the bytes that are missing, if it was a write */
	dk_u64 length;
	dk_u32 what; /* enum dk_type of the lost records, 0: not known */
	dk_u32 zero;
};

struct dk_hole {
	struct dk_header
		header; /* enter_ns: the first, exit_ns: the last of `count` changes; DK_OP_REREAD: the reading */
	struct dk_inode inode;
	struct dk_base parent; /* of the name, ino 0: none at hand */
	dk_u64 offset;
	dk_u64 length;
	dk_u64 pointer; /* from the programs: of the inode, of which only ino, dev and generation are told */
	dk_u32 count;
	dk_u32 name_len; /* padded to 8 */
};

struct dk_held {
	struct dk_header
		header; /* enter_ns: from when on the recorded processes were held; t_ns, exit_ns: until when */
	dk_u64 until_ns;
};

/* ---- settings and state: written by the process, read by the programs, or the other way round ---- */

/* Programs that others go on to: their places in the map `shared_programs`. */
enum { SHARED_WRITE, SHARED_TOUCH, SHARED_PROGRAMS };

/* In .rodata.settings, set before load. */
struct dk_settings {
	dk_u32 devices[8]; /* s_dev of the roots, 0 ends the list */
	dk_u64 ring_bytes;
	dk_u32 reader_uid; /* whose trace it is: 0 may read everything */
	dk_u32 reader_gid;
	dk_u8 has_touch_hooks;	 /* 0: names can be resolved by their strings alone */
	dk_u8 writes_need_enter; /* 1: a root's file system has no in-lock write tracepoint */
	dk_u8 has_subvolumes;	 /* 1: a root is on btrfs, where each subvolume numbers its inodes for itself */
	dk_u8 finds_touches;	 /* 1: a touch of ctime that no call explains is a change */
	dk_u8 has_no_handles;	 /* 1: a root's file system opens no file by its inode: tmpfs, overlayfs */
	dk_u8 zero[3];
	dk_u32 fault_probe; /* tests: one of so many readings of a caller's memory fails, 0: none */
	dk_u32 fault_table; /* tests: one of so many new entries of a table finds no room, 0: none */
};

/* In .data.counters, mapped by the process. */
struct dk_counters {
	dk_u64 sequence;
	dk_u64 lost[DK_LOST_CHANNELS];
	dk_u64 outputs[2];   /* struct file of the command's stdout and stderr at its start */
	dk_u32 epoch;	     /* bumped when a directory may have moved: verdicts of an older epoch are void */
	dk_u32 watched;	     /* how many inodes have been mapped shared and writable, and may be still */
	dk_u32 has_requests; /* io_uring or AIO was used: the hooks look for requests */
	dk_u32 forgotten;    /* bumped when the verdict of a file was voided: those that tasks remember are void too */
	dk_u32 zero3;
	dk_u32 moves; /* bumped before verdicts of files are voided because a name moved */
	/*
	 * Where the kernel's linear map and its array of struct page begin, found out at start (see find_page_cache in
	 * load.c); 0: the page cache cannot be read from here.
	 */
	dk_u64 linear_map;
	dk_u64 page_array;
	dk_u64 page_struct_bytes;
	/* Where a btrfs inode leads to its subvolume, from its struct inode on, and that to its device number. */
	dk_s64 subvolume_offset;
	dk_u64 subvolume_device_offset;
	dk_s64 upper_offset;	/* where an overlayfs inode leads to the name of its upper file; 0: no root is on one */
	dk_u64 mount_namespace; /* the recorder's */
	/* What the probe program answered. */
	dk_u64 probe_task;
	dk_u64 probe_folio;
	dk_u8 probe_bytes[DK_PROBE_BYTES];
	dk_u64 loose; /* tasks that hold changes which no open call will tell: away from what is written all the time */
	dk_u64 disturbed; /* opens for writing that would not wait and failed, as they do on a leased file */
};

/* In .data.described: what the program `describe` says of an inode that it is asked for. */
struct dk_described {
	struct dk_inode inode;
	struct dk_base parent; /* ino 0: no name at hand */
	dk_u32 verdict;	       /* 0: outside, or gone; 1: below a root; 2: not known */
	dk_u32 path_start;     /* the path, absolute, fills `path` from here on; its last part is the name */
	dk_u8 path[DK_PATH_MAX];
	dk_u64 zero[2];
};

/*
 * What the look program is asked and answers, in .data.looked, mapped by the process: the pages of a file that may have
 * been stored into.
 */
#define DK_LOOKED_MAX 2000
struct dk_looked {
	dk_u64 cache;	     /* the struct inode whose pages these are */
	dk_u64 next;	     /* page to go on from; ~0: the end */
	dk_u32 writable;     /* i_mmap_writable: mappings that may store */
	dk_u32 written_back; /* how often pages were written back */
	dk_u32 is_marked;    /* dirty pages are marked as such; else all that are in memory are listed */
	dk_u32 count;
	dk_u64 runs[DK_LOOKED_MAX]; /* first page << 16 | pages */
};

struct dk_touched {
	dk_u64 pointer;
	dk_u64 ino;
};

/* What was lost, of one file or of none in particular: a table of its own, whose entries stay. */
struct dk_loss_key {
	struct dk_base file;
	dk_u32 channel;
	dk_u32 what;
};
struct dk_loss {
	dk_u64 count;
	dk_u64 first_ns;
	dk_u64 last_ns;
	dk_u64 start; /* the bytes that are missing */
	dk_u64 end;
	dk_u32 pid; /* of the last */
	dk_u32 tid;
};
enum { DK_LOSSES_MAX = 1024 };

/* What is known of a task, in task storage: a call in progress, a write in the lock, whose it is. */
/* A verdict that holds until names change anywhere. */
struct dk_remembered {
	dk_u64 inode; /* addresses: only to be compared */
	dk_u64 super;
	dk_u64 ino;
	dk_u32 generation;
	dk_u32 epoch;
	dk_u32 forgotten;
	dk_u32 answer;
};

struct dk_task {
	dk_u64 enter_ns;
	dk_u64 touched_ns;
	dk_u64 enter_position; /* where a write without a place of its own would have gone at entry */
	dk_u64 enter_inode;    /* of the descriptor written to, looked up at entry */
	dk_u64 lock_inode;     /* of the write in progress, from inside the lock */
	dk_s64 lock_offset;
	dk_u64 lock_bytes;
	dk_u64 lock_first_ns;
	dk_u64 lock_last_ns;
	dk_u64 copy_sequence; /* of a copy whose bytes are on their way as pieces, 0: none */
	dk_u64 owner;	      /* of a request: pid << 32 | tid of its submitter; 0: the task's own call */
	dk_u32 call;
	dk_u32 touched_count;
	dk_u32 lock_call; /* number of the call in which the run of bytes began */
	dk_u32 zero32;
	dk_u8 lock_is_whole; /* told once, before the bytes: lock_bytes is what was asked for */
	dk_u8 is_recorded;   /* of the recorded command's tree */
	dk_u8 is_announced;
	dk_u8 is_command; /* set by the process: the next exec is the command itself */
	dk_u8 has_touched_directory;
	dk_u8 copy_is_off;    /* the bytes of this copy are not, or no more, sent from the page cache */
	dk_u8 lock_is_direct; /* O_DIRECT: place and interval are known, the order within it is not */
	dk_u8 is_loose;	      /* counted in dk_counters.loose */
	struct dk_touched touched[DK_TOUCHED_MAX];
	struct dk_touched fifo; /* whose time the write in progress has changed */
	dk_u64 fifo_ns;
	struct dk_remembered remembered; /* of the file that it wrote to last */
};

/* Whether an inode is below a root, as found out when it was asked for last. */
struct dk_verdict_key {
	dk_u64 ino;
	dk_u32 dev;
	dk_u32 generation;
};
struct dk_verdict {
	dk_u64 pointer; /* of the inode: for `describe`, which looks whether it still is that one */
	dk_u32 epoch;
	dk_u32 answer;
};

struct dk_place {
	dk_u64 ino;
	dk_u32 dev;
	dk_u32 zero;
};
enum dk_place_kind { DK_PLACE_ROOT = 1, DK_PLACE_EXCLUDED = 2 };

#define DK_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type " has holes")
DK_ASSERT_SIZE(dk_header, 56);
DK_ASSERT_SIZE(dk_inode, 56);
DK_ASSERT_SIZE(dk_base, 16);
DK_ASSERT_SIZE(dk_data, 136);
DK_ASSERT_SIZE(dk_piece, 32);
DK_ASSERT_SIZE(dk_copy, 192);
DK_ASSERT_SIZE(dk_size, 136);
DK_ASSERT_SIZE(dk_name, 104);
DK_ASSERT_SIZE(dk_open, 200);
DK_ASSERT_SIZE(dk_attr, 128);
DK_ASSERT_SIZE(dk_inode_flags, 16);
DK_ASSERT_SIZE(dk_close, 112);
DK_ASSERT_SIZE(dk_output, 72);
DK_ASSERT_SIZE(dk_process, 80);
DK_ASSERT_SIZE(dk_exec, 88);
DK_ASSERT_SIZE(dk_exit, 64);
DK_ASSERT_SIZE(dk_late, 144);
DK_ASSERT_SIZE(dk_mount, 208);
DK_ASSERT_SIZE(dk_entry, 152);
DK_ASSERT_SIZE(dk_lost, 112);
DK_ASSERT_SIZE(dk_held, 64);
DK_ASSERT_SIZE(dk_async, 136);
DK_ASSERT_SIZE(dk_settings, 64);
DK_ASSERT_SIZE(dk_counters, 248);
DK_ASSERT_SIZE(dk_loss_key, 24);
DK_ASSERT_SIZE(dk_loss, 48);
DK_ASSERT_SIZE(dk_mapped, 136);
DK_ASSERT_SIZE(dk_sampler, 120);
DK_ASSERT_SIZE(dk_looked, 16032);
DK_ASSERT_SIZE(dk_task, 304);
DK_ASSERT_SIZE(dk_hole, 160);
DK_ASSERT_SIZE(dk_described, 4192);
DK_ASSERT_SIZE(dk_place, 16);
DK_ASSERT_SIZE(dk_verdict_key, 16);
DK_ASSERT_SIZE(dk_verdict, 16);

#endif
