/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The page cache: where the bytes of a file stand in memory (docs/decisions/0007).
 */
#ifndef DIFFKEEPER_PAGE_CACHE_BPF_H
#define DIFFKEEPER_PAGE_CACHE_BPF_H

struct cache_walk {
	u64 index; /* of the page in the file */
	u64 entry;
};

static long cache_step(u32 level, void *context)
{
	struct cache_walk *walk = context;
	struct xa_node *node = (struct xa_node *)(walk->entry - 2);
	u64 slot, entry = 0;
	u8 shift = 0;

	/* Internal entries end in binary 10; below 4096 they are siblings, which is settled where they are met. */
	if ((walk->entry & 3) != 2 || walk->entry < 4096)
		return 1;
	read_field(&shift, node, shift);
	slot = walk->index >> (shift & 63) & 63;
	read_at(&entry, (u8 *)&node->slots + slot * sizeof(void *));
	if ((entry & 3) == 2 && entry < (64 << 2))
		read_at(&entry, (u8 *)&node->slots + (entry >> 2) * sizeof(void *));
	walk->entry = entry;
	return shift == 0;
}

/* The folio that holds a page of a file, or 0 (lib/xarray.c's xas_load, without its locks: the caller's task holds it).
 */
__noinline u64 find_folio(u64 pointer, u64 index)
{
	struct inode *inode = (struct inode *)pointer;
	struct address_space *mapping = 0;
	struct cache_walk walk = {.index = index};

	read_field(&mapping, inode, i_mapping);
	read_field((void **)&walk.entry, mapping, i_pages.xa_head);
	bpf_loop(12, cache_step, &walk, 0);
	return walk.entry & 3 ? 0 : walk.entry;
}

/* Where the byte at `offset` of a file stands in the kernel's linear map, or 0. What follows in the folio follows
 * there. */
__noinline u64 find_cached(u64 inode, u64 offset)
{
	u64 folio = find_folio(inode, offset >> 12), page_bytes = counters.page_struct_bytes;
	unsigned long first = 0;

	if (!folio || !page_bytes)
		return 0;
	read_field(&first, (struct folio *)folio, index);
	return counters.linear_map + (((folio - counters.page_array) / page_bytes + (offset >> 12) - first) << 12) +
	       (offset & 4095);
}

/*
 * Not attached: run once at start to find the two bases, from two pointers into them and from bytes that are known.
 * ctx: a descriptor, a page of it, an address to read (0: none).
 */
SEC("raw_tp/sys_enter")
int probe(u64 *ctx)
{
	struct inode *inode = inode_of(file_of(ctx[0]));

	counters.probe_task = bpf_get_current_task();
	counters.mount_namespace = mount_namespace();
	counters.page_struct_bytes = type_bytes(struct page);
	if (inode)
		counters.probe_folio = find_folio((u64)inode, ctx[1]);
	__builtin_memset(counters.probe_bytes, 0, sizeof(counters.probe_bytes));
	if (ctx[2])
		bpf_probe_read_kernel(counters.probe_bytes, sizeof(counters.probe_bytes), (void *)ctx[2]);
	return 0;
}

#endif
