/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared writable mappings: which inodes have them, which of their pages may have been stored into, and those pages'
 * bytes where a call is about to change what can be seen (docs/decisions/0015).
 */
#ifndef DIFFKEEPER_MAPPED_BPF_H
#define DIFFKEEPER_MAPPED_BPF_H

enum {
	PAGES_A_CALL = 4096,   /* sent at once, 1 us each; what is beyond that the sampler reads */
	PAGES_BRIEFLY = 64,    /* before a call that may as well be about another file */
	PAGES_A_WINDOW = 4096, /* of one file, so that calls in a loop do not send the same pages for ever */
	WINDOW_NS = 100000000,
	OWNED = 8
};

/* An inode that is, or was lately, mapped shared and writable; the key is that whose page cache is mapped. */
struct watched {
	u64 seen; /* the inode as records name it: another one on overlayfs */
	u64 seen_ino;
	u64 ino;
	u32 written_back;
	u32 is_marked;
	u32 doubt; /* flags of records about it */
	u32 zero;
	u64 window_ns;
	u64 window_pages;
};

/* What a process has mapped, and its children after it: looked at when it ends. */
struct owned {
	u64 caches[OWNED];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct owned);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct watched);
} watched SEC(".maps");

struct dk_looked looked SEC(".data.looked") = {0};

/* The current process has it mapped; only a few pages; tell of the others, which become clean now. */
enum { OWN = 1, BRIEFLY = 2, RUNS = 4 };

/* A walk over the pages of a file in memory; its state stands in a map for the verifier's sake. */
struct page_walk {
	u64 mapping;
	u64 index; /* the next page to look at */
	u64 folio; /* what was found at index, or 0 */
	u64 pages; /* how many pages of it begin at index */
	u64 entry; /* of the tree, where the descent stands */
	u64 sent;
	u64 cache;
	u64 seen;
	u64 size; /* of the file */
	u64 at;	  /* the page of the folio that is sent next */
	u32 is_marked;
	u32 is_cut; /* not all that was found could be sent */
	u32 limit;
	u32 how;
	u32 doubt;
	u64 run_first; /* pages that were found and not sent */
	u64 run_pages;
	u32 is_own; /* the current process has it mapped */
	u32 slot;   /* where the folio stands in slots, and how many slots follow that are its own */
	u32 siblings;
	u64 slots[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct page_walk);
} page_walks SEC(".maps");

static __always_inline struct page_walk *page_walk(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&page_walks, &zero);
}

static __always_inline u32 lowest_bit(u64 bits)
{
	u32 at = 0;

	for (u32 width = 32; width; width /= 2)
		if (!(bits & ((1ULL << width) - 1))) {
			bits >>= width;
			at += width;
		}
	return at;
}

/* Which of a node's slots may hold what is looked for, as bits from slot `first` on. */
static __always_inline u64 wanted_slots(struct page_walk *walk, struct xa_node *node, u32 first)
{
	unsigned long marks[3] = {0};

	if (!walk->is_marked)
		return ~0ULL >> first;
	read_by_helper(&marks, node, marks);
	return (marks[0] | marks[1] | marks[2]) >> first;
}

/* One more slot that belongs to the entry before it? */
static long sibling_step(u32 index, void *context)
{
	struct page_walk *walk = page_walk();
	u32 at;

	if (!walk)
		return 1;
	at = walk->slot + 1 + index;
	if (at > 63 || walk->slots[at & 63] != ((u64)walk->slot << 2 | 2))
		return 1;
	walk->siblings++;
	return 0;
}

/* A level of the tree further down: 1 ends the descent, with folio set or index moved on. */
static long descend_step(u32 level, void *context)
{
	struct page_walk *walk = page_walk();
	u64 entry = 0, slot, wanted;
	struct xa_node *node;
	u32 shift;
	u8 read = 0;

	if (!walk)
		return 1;
	node = (struct xa_node *)(walk->entry - 2);
	read_field(&read, node, shift);
	shift = read & 63;
	slot = walk->index >> shift & 63;
	wanted = wanted_slots(walk, node, slot);
	if (!wanted) {
		walk->index = ((walk->index >> shift >> 6) + 1) << shift << 6;
		return 1;
	}
	if (!(wanted & 1)) {
		u64 skipped = lowest_bit(wanted);

		walk->index = ((walk->index >> shift) + skipped) << shift;
		slot = (slot + skipped) & 63;
	}
	bpf_probe_read_kernel(walk->slots, sizeof(walk->slots), &node->slots);
	barrier_var(slot);
	entry = walk->slots[slot & 63];
	if ((entry & 3) == 2 && entry < (64 << 2)) { /* in the middle of a folio: go back to where it begins */
		slot = entry >> 2;
		barrier_var(slot);
		slot &= 63;
		walk->index = (walk->index >> shift >> 6 << 6 | slot) << shift;
		barrier_var(slot);
		entry = walk->slots[slot & 63];
	}
	if (!entry || (entry & 1)) { /* nothing, or what was evicted */
		walk->index = ((walk->index >> shift) + 1) << shift;
		return 1;
	}
	walk->entry = entry;
	if ((entry & 3) == 2)
		return shift == 0; /* no node is below the lowest */
	walk->folio = entry;
	walk->index = walk->index >> shift << shift;
	walk->slot = slot;
	walk->siblings = 0;
	bpf_loop(63, sibling_step, 0, 0);
	walk->pages = (u64)(walk->siblings + 1) << shift;
	return 1;
}

/*
 * One descent to walk->index (lib/xarray.c's xas_load and xas_find_marked, without locks). Either folio is set, or
 * index has moved to where to go on: ~0 at the end.
 */
__noinline int find_next(void)
{
	struct page_walk *walk = page_walk();
	u8 shift = 0;

	if (!walk)
		return 0;
	walk->folio = 0;
	walk->entry = 0;
	read_field((void **)&walk->entry, (struct address_space *)walk->mapping, i_pages.xa_head);
	if ((walk->entry & 3) != 2) { /* no node: one page or none */
		if (walk->entry && !(walk->entry & 1) && !walk->index)
			walk->folio = walk->entry;
		walk->pages = 1;
		if (!walk->folio)
			walk->index = ~0ULL;
		return 0;
	}
	read_field(&shift, (struct xa_node *)(walk->entry - 2), shift);
	if (shift > 57 || walk->index >> (shift & 63) >> 6) {
		walk->index = ~0ULL;
		return 0;
	}
	bpf_loop(11, descend_step, 0, 0);
	return 0;
}

static __always_inline u64 mapping_of(u64 cache)
{
	struct address_space *mapping = 0;

	read_field(&mapping, (struct inode *)cache, i_mapping);
	return (u64)mapping;
}

static __always_inline u32 ino_of(u64 inode, u64 *ino)
{
	unsigned long number = 0;

	read_field(&number, (struct inode *)inode, i_ino);
	*ino = number;
	return 0;
}

/* ---- which inodes ---- */

/* tmpfs writes nothing back, and does not mark what is dirty. */
static __always_inline u32 marks_dirty_pages(u64 cache)
{
	struct super_block *sb = 0;
	unsigned long magic = 0;

	read_field(&sb, (struct inode *)cache, i_sb);
	read_field(&magic, sb, s_magic);
	return magic != TMPFS_MAGIC;
}

static __always_inline void note_owner(u64 cache)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct owned made = {0}, *known = bpf_map_lookup_elem(&owners, &pid);

	if (!known) {
		made.caches[0] = cache;
		bpf_map_update_elem(&owners, &pid, &made, BPF_ANY);
		return;
	}
	for (u32 i = 0; i < OWNED; i++) {
		if (known->caches[i] == cache)
			return;
		if (!known->caches[i] || i == OWNED - 1) {
			known->caches[i] = cache;
			return;
		}
	}
}

/* A child has mapped what its parent has. */
__noinline int inherit_owned(u32 parent, u32 child)
{
	struct owned *known = counters.watched ? bpf_map_lookup_elem(&owners, &parent) : 0;

	if (known && parent != child)
		bpf_map_update_elem(&owners, &child, known, BPF_ANY);
	return 0;
}

/* Watch an inode and tell the helper; pid 0: the current task's process has mapped it, with descriptor fd, ~0: which is
 * not known. */
__noinline int watch_inode(u64 seen, u64 cache, u32 fd, u32 pid)
{
	struct watched made = {.seen = seen}, *known;
	struct dk_mapped record = {0};
	u32 verdict, nlink = 0;

	if (!seen || !cache || !is_regular(mode_of((struct inode *)seen)))
		return 0;
	verdict = judge(seen);
	read_field(&nlink, (struct inode *)seen, i_nlink);
	/* What never had a name below a root will not get one: somebody's scratch file. */
	if (verdict == OUTSIDE || (verdict == UNKNOWN && !nlink))
		return 0;
	ino_of(seen, &made.seen_ino);
	ino_of(cache, &made.ino);
	made.is_marked = marks_dirty_pages(cache);
	made.doubt = doubt(verdict);
	known = bpf_map_lookup_elem(&watched, &cache);
	if (pid && known && known->ino == made.ino)
		return 1; /* its process was seen to map it */
	if (!known || known->ino != made.ino) {
		if (bpf_map_update_elem(&watched, &cache, &made, BPF_ANY))
			lose(DK_LOST_TABLE, 0);
		else if (!known)
			__sync_fetch_and_add(&counters.watched, 1);
	}
	fill_header(&record.header, DK_MAPPED, DK_OP_MAP, sizeof(record));
	record.header.flags = doubt(verdict);
	if (pid) {
		record.header.pid = pid;
		record.header.tid = 0;
		record.header.flags |= DK_F_OUTSIDER;
	} else {
		record.header.flags |= writer_flags(0);
		note_owner(cache);
	}
	read_inode(&record.inode, (struct inode *)seen);
	record.cache = cache;
	record.fd = fd;
	put(&record.header, sizeof(record), 1);
	return 1;
}

struct vma_found {
	u64 cache; /* 0: no file */
	u64 flags;
	u64 end;
};

static long note_vma(struct task_struct *task, struct vm_area_struct *area, void *context)
{
	struct vma_found *found = context;
	struct file *file = 0;
	unsigned long value = 0;

	read_field(&file, area, vm_file);
	read_field(&value, area, vm_flags);
	found->flags = value;
	read_field(&value, area, vm_end);
	found->end = value;
	found->cache = (u64)inode_of(file);
	return 0;
}

/* The mapping at an address of the current task; -errno: -16 where another thread is changing them right now. */
__noinline long find_mapping(u64 address, struct vma_found *found)
{
	struct vma_found here = {0}; /* the callback takes nothing but the stack */
	long result = bpf_find_vma(bpf_get_current_task_btf(), address, note_vma, &here, 0);

	if (!found)
		return -22;
	*found = here;
	return result;
}

static __always_inline void leave_mmap(struct call_args *args)
{
	struct vma_found found = {0};
	struct inode *inode;

	if (!(args->a[2] & PROT_WRITE) || !(args->a[3] & MAP_SHARED) || (args->a[3] & MAP_ANONYMOUS))
		return;
	if ((u64)args->result > -4096ULL)
		return;
	inode = inode_of(file_of(args->a[4]));
	if (!inode || !is_regular(mode_of(inode)) || verdict_of(inode) == OUTSIDE)
		return;
	if (find_mapping(args->result, &found) || !found.cache)
		found.cache = (u64)inode;
	watch_inode((u64)inode, found.cache, args->a[4], 0);
}

/* Mappings that mprotect made writable. Where they cannot be looked at now, the helper searches the process's. */
static __always_inline void leave_mprotect(struct call_args *args)
{
	u64 address = args->a[0], end = args->a[0] + args->a[1];
	struct dk_mapped record = {0};
	struct vma_found found = {0};
	long failed = 0;

	if (args->result || !(args->a[2] & PROT_WRITE))
		return;
	for (u32 i = 0; i < 4 && address < end; i++) {
		failed = find_mapping(address, &found);
		if (failed)
			break;
		if ((found.flags & (VM_SHARED | VM_WRITE)) == (VM_SHARED | VM_WRITE) && found.cache)
			watch_inode(found.cache, found.cache, ~0u, 0);
		address = found.end;
	}
	if (failed != -16 && address >= end)
		return;
	fill_header(&record.header, DK_MAPPED, DK_OP_SEARCH, sizeof(record));
	put(&record.header, sizeof(record), 1);
}

/* ---- which pages: asked by the helper ---- */

static long list_step(u32 index, void *context)
{
	struct page_walk *walk = page_walk();
	u32 at = looked.count;

	if (!walk || at >= DK_LOOKED_MAX)
		return 1;
	find_next();
	if (walk->index == ~0ULL)
		return 1;
	if (!walk->folio)
		return 0;
	looked.runs[at] = walk->index << 16 | (walk->pages & 0xffff);
	looked.count = at + 1;
	walk->index += walk->pages;
	return 0;
}

/* Forget an inode that nobody has mapped any more; its number may have been taken by another by then. */
static __always_inline void forget_watched(u64 cache)
{
	if (!bpf_map_delete_elem(&watched, &cache))
		__sync_fetch_and_add(&counters.watched, -1);
}

/*
 * Not attached: run by the helper. ctx: a descriptor of the file; the page to begin with; what is to be done: 0 list
 * pages, 1 forget the inode, 2 watch it for process ctx[3]; ctx[4]: the inode whose cache it is, 0: the descriptor's.
 */
SEC("raw_tp/sys_enter")
int look(u64 *ctx)
{
	struct page_walk *walk = page_walk();
	u64 seen = (u64)inode_of(file_of(ctx[0])), cache = ctx[4] ? ctx[4] : seen;
	struct address_space *mapping;
	struct watched *known;

	if (ctx[2] == 1) {
		forget_watched(ctx[4]);
		return 0;
	}
	looked.count = 0;
	looked.cache = cache;
	looked.next = ~0ULL;
	if (!walk || !cache)
		return 0;
	if (ctx[2] == 2)
		return watch_inode(seen, cache, ~0u, ctx[3]);
	mapping = (struct address_space *)mapping_of(cache);
	looked.writable = 0;
	read_field((int *)&looked.writable, mapping, i_mmap_writable.counter);
	known = bpf_map_lookup_elem(&watched, &cache);
	looked.written_back = known ? known->written_back : 0;
	looked.is_marked = known ? known->is_marked && !ctx[5] : 0;
	walk->mapping = (u64)mapping;
	walk->index = ctx[1];
	walk->is_marked = looked.is_marked;
	bpf_loop(1 << 16, list_step, 0, 0);
	looked.next = walk->index;
	return 0;
}

/* ---- the pages' bytes, where a call is about to change what can be seen ---- */

/* tmpfs holds pages that were only allocated, and stay as they were until they are used. */
static __always_inline int is_filled(u64 folio)
{
	unsigned long flags = 0;

	bpf_probe_read_kernel(&flags, sizeof(flags), (void *)folio); /* the first field, whatever its type */
	return flags >> enum_value(enum pageflags, PG_uptodate) & 1;
}

/* One page to the ring; it is discarded if the cache holds another page there by the time it was read. */
static __always_inline int send_page(struct page_walk *walk)
{
	u64 offset = walk->at << 12, length = walk->size - offset, page_bytes = counters.page_struct_bytes, from;
	struct dk_mapped *record;
	unsigned long first = 0;

	if (!page_bytes)
		return 1;
	if (offset >= walk->size || !is_filled(walk->folio))
		return 0;
	read_field(&first, (struct folio *)walk->folio, index);
	from = counters.linear_map + (((walk->folio - counters.page_array) / page_bytes + walk->at - first) << 12);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record) + 4096, 0);
	if (!record)
		return 1;
	fill_header(&record->header, DK_MAPPED, DK_OP_SAMPLE, sizeof(*record));
	if (walk->is_own)
		record->header.flags = writer_flags(0);
	else
		record->header.pid = record->header.tid = 0; /* the helper knows who has it mapped */
	record->header.flags |= walk->doubt;
	record->offset = offset;
	record->cache = 0;
	record->fd = 0;
	if (length > 4096)
		length = 4096;
	record->payload = length;
	record->header.size = sizeof(*record) + pad8(length);
	read_inode(&record->inode, (struct inode *)walk->seen);
	if (bpf_probe_read_kernel(record + 1, 4096, (void *)from) || find_folio(walk->cache, walk->at) != walk->folio) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return 1;
	}
	record->header.exit_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(record, wake(0));
	return 0;
}

/* Tell the helper of the pages that were found and not sent. */
static __always_inline int send_run(struct page_walk *walk)
{
	struct dk_mapped *record;

	if (!walk->run_pages)
		return 0;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record)
		return 1;
	fill_header(&record->header, DK_MAPPED, DK_OP_DIRTY, sizeof(*record));
	read_inode(&record->inode, (struct inode *)walk->seen);
	record->offset = walk->run_first << 12;
	record->cache = walk->run_pages;
	record->payload = record->fd = 0;
	bpf_ringbuf_submit(record, wake(0));
	walk->run_pages = 0;
	return 0;
}

/* The rest of a folio, as pages to be read by the helper; true: that cannot be told. */
static __always_inline int note_run(struct page_walk *walk)
{
	u64 end = walk->index + walk->pages;

	if (!(walk->how & RUNS))
		return 1;
	if (walk->run_first + walk->run_pages != walk->at) {
		if (send_run(walk))
			return 1;
		walk->run_first = walk->at;
	}
	walk->run_pages = end - walk->run_first;
	walk->at = end;
	return 0;
}

static long send_step(u32 index, void *context)
{
	struct page_walk *walk = page_walk();

	if (!walk)
		return 1;
	if (!walk->folio || walk->at >= walk->index + walk->pages) {
		if (walk->folio)
			walk->index += walk->pages;
		find_next();
		walk->at = walk->index;
		return walk->index == ~0ULL;
	}
	if (walk->sent >= walk->limit || used_bytes() > settings.ring_bytes / 2 || send_page(walk)) {
		walk->limit = 0;
		return note_run(walk);
	}
	walk->sent++;
	walk->at++;
	return 0;
}

/* May pages of a file be sent now? Calls in a loop would send the same ones again and again. */
static __always_inline int is_in_window(struct watched *known)
{
	u64 now = bpf_ktime_get_ns();

	if (now - known->window_ns > WINDOW_NS) {
		known->window_ns = now;
		known->window_pages = 0;
	}
	return known->window_pages < PAGES_A_WINDOW;
}

/* Send the pages of a watched inode that may have been stored into; 1: not all of them, 0: all, or it is not watched.
 */
__noinline int send_pages(u64 cache, u32 how)
{
	struct watched *known = bpf_map_lookup_elem(&watched, &cache);
	struct page_walk *walk = page_walk();
	u64 ino = 0, size = 0;

	if (!known || !walk)
		return 0;
	ino_of(cache, &ino);
	if (ino != known->ino || !is_readable((struct inode *)known->seen))
		return 0;
	read_field((s64 *)&size, (struct inode *)cache, i_size);
	walk->mapping = mapping_of(cache);
	walk->cache = cache;
	walk->seen = known->seen;
	walk->size = size;
	walk->is_marked = known->is_marked;
	walk->is_own = how & OWN;
	walk->how = how;
	walk->doubt = known->doubt;
	walk->limit = how & BRIEFLY ? PAGES_BRIEFLY : PAGES_A_CALL;
	if (!counters.linear_map || !is_in_window(known))
		walk->limit = 0;
	walk->run_first = walk->run_pages = 0;
	walk->index = walk->folio = walk->at = walk->pages = walk->sent = 0;
	walk->is_cut = 1; /* unless it comes to the end */
	bpf_loop(16 * PAGES_A_CALL, send_step, 0, 0);
	if (walk->index == ~0ULL && !send_run(walk))
		walk->is_cut = 0;
	known->window_pages += walk->sent;
	return walk->is_cut;
}

/* What is mapped at the addresses of a call. */
static __always_inline void send_mapped_at(u64 address, u64 end)
{
	struct vma_found found = {0};

	for (u32 i = 0; i < 2; i++) {
		if (find_mapping(address, &found) || !found.cache)
			return;
		if (found.flags & VM_SHARED)
			send_pages(found.cache, OWN | RUNS);
		address = found.end;
		if (address >= end)
			return;
	}
}

/* All that the current process has mapped: its memory is about to go. Inline: calls may be 8 deep, and no more. */
static __always_inline void send_owned(u32 how)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct owned *known = bpf_map_lookup_elem(&owners, &pid);

	if (!known)
		return;
	for (u32 i = 0; i < OWNED; i++)
		if (known->caches[i])
			send_pages(known->caches[i], OWN | how);
}

/* Before a call that ends a mapping, makes pages clean, or lets others see the file as it stands. */
static __always_inline void enter_mapping(struct call_args *args)
{
	if (!counters.watched || args->call == CALL_MMAP)
		return;
	if (args->call == CALL_CLOSE || args->call == CALL_FSYNC)
		send_pages((u64)inode_of(file_of(args->a[0])), RUNS);
	else if (args->call == CALL_EXEC)
		send_owned(0);
	else
		send_mapped_at(args->a[0], args->a[0] + args->a[1]);
}

/* Before a call that changes a size or a name: of the files that its process has mapped, or of the one it names. */
static __always_inline void send_before(struct call_args *args)
{
	if (args->call == CALL_FTRUNCATE || args->call == CALL_FALLOCATE || args->call == CALL_RESERVE)
		send_pages((u64)inode_of(file_of(args->a[0])), 0);
	else if (args->call >= CALL_TRUNCATE && args->call <= CALL_LAST_NAME)
		send_owned(BRIEFLY);
}

/* The process is gone; its number comes again. */
static __always_inline void forget_owned(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	send_owned(0);
	bpf_map_delete_elem(&owners, &pid);
}

/* A pointer that the verifier knows as such, as the number that global functions take. */
static __always_inline u64 number_of(struct inode *inode)
{
	struct page_walk *walk = page_walk();

	if (!walk)
		return 0;
	*(volatile u64 *)&walk->cache = (u64)inode;
	return *(volatile u64 *)&walk->cache;
}

/* Pages are about to become clean: what was stored into them cannot be told afterwards, unless they are sent now. */
static __always_inline int note_writeback(struct inode *inode)
{
	struct watched *known;
	u64 cache;

	if (!counters.watched)
		return 0;
	cache = number_of(inode);
	if (!send_pages(cache, RUNS))
		return 0;
	known = bpf_map_lookup_elem(&watched, &cache);
	if (known)
		__sync_fetch_and_add(&known->written_back, 1);
	return 0;
}

/* Not on ext4, where the next hook is passed as well. */
SEC("tp_btf/writeback_single_inode_start")
int writeback_begins(u64 *ctx)
{
	return note_writeback((void *)ctx[0]);
}

SEC("tp_btf/ext4_writepages")
int ext4_writeback_begins(u64 *ctx)
{
	return note_writeback((void *)ctx[0]);
}

__noinline int leave_mapping(struct call_args *args)
{
	if (!args)
		return 0;
	if (args->call == CALL_MMAP)
		leave_mmap(args);
	else if (args->call == CALL_MPROTECT)
		leave_mprotect(args);
	return 0;
}

#endif
