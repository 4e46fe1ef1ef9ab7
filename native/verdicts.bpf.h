/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verdicts: is an inode below a root?
 */
#ifndef DIFFKEEPER_VERDICTS_BPF_H
#define DIFFKEEPER_VERDICTS_BPF_H

struct walk {
	struct dentry *dentry;
	u32 dev;
	u32 answer;
};

static long walk_step(u32 index, void *context)
{
	struct walk *walk = context;
	struct dentry *parent = 0;
	struct inode *inode = 0;
	unsigned long ino = 0;
	struct dk_place place = {0};
	u32 *kind;

	read_field(&inode, walk->dentry, d_inode);
	if (inode)
		read_field(&ino, inode, i_ino);
	place.ino = ino;
	place.dev = settings.has_subvolumes && inode ? device_of(inode) : walk->dev;
	kind = bpf_map_lookup_elem(&places, &place);
	if (kind) {
		walk->answer = *kind == DK_PLACE_ROOT ? INSIDE : OUTSIDE;
		return 1;
	}
	read_field(&parent, walk->dentry, d_parent);
	if (!parent || parent == walk->dentry) {
		walk->answer = OUTSIDE;
		return 1;
	}
	walk->dentry = parent;
	return 0;
}

static __always_inline u32 walk_from(struct dentry *dentry, u32 dev)
{
	struct walk walk = {.dentry = dentry, .dev = dev, .answer = UNKNOWN};

	bpf_loop(8192, walk_step, &walk, 0);
	return walk.answer;
}

__noinline u32 walk_up(u64 dentry, u32 dev)
{
	return walk_from((struct dentry *)dentry, dev);
}

/* Are there roots on a device? Subvolumes below a root have devices of their own, without a major number. */
static __always_inline int is_root_device(u32 dev)
{
	if (settings.has_subvolumes && !(dev >> 20))
		return 1;
	for (int i = 0; i < 8; i++) {
		if (!settings.devices[i])
			return 0;
		if (settings.devices[i] == dev)
			return 1;
	}
	return 0;
}

struct alias_search {
	struct hlist_node *node;
	struct dentry *found;
};

static __always_inline struct dentry *dentry_at(struct hlist_node *node)
{
	return (struct dentry *)((char *)node -
				 (u64)__builtin_preserve_access_index(&((struct dentry *)0)->d_u.d_alias));
}

/* A name that was removed stays with its inode while somebody has that open: it leads to where the file is no more. */
static __always_inline int is_removed(struct dentry *dentry)
{
	struct hlist_bl_node **link = 0;

	read_field(&link, dentry, d_hash.pprev);
	return !link;
}

static long search_step(u32 index, void *context)
{
	struct alias_search *search = context;

	if (!search->node)
		return 1;
	if (!is_removed(dentry_at(search->node))) {
		search->found = dentry_at(search->node);
		return 1;
	}
	read_field(&search->node, search->node, next);
	return 0;
}

/* A name that an inode has, 0: the kernel has none at hand. */
static __always_inline struct dentry *present_alias(struct inode *inode)
{
	struct alias_search search = {0};

	read_field(&search.node, inode, i_dentry.first);
	bpf_loop(64, search_step, &search, 0);
	return search.found;
}

static __always_inline u32 fresh_verdict(struct inode *inode, u32 dev)
{
	struct dentry *dentry = alias_of(inode);
	u32 nlink = 0, answer, may_have_links = !is_directory(mode_of(inode));

	read_field(&nlink, inode, i_nlink);
	if (dentry && may_have_links && nlink && is_removed(dentry))
		dentry = present_alias(inode);
	if (!dentry)
		return UNKNOWN;
	answer = walk_up((u64)dentry, dev);
	if (answer == INSIDE)
		return answer;
	/* Another link of it may stand below a root, of a symbolic link or a device too: user space knows. */
	if (nlink > 1 && may_have_links)
		return UNKNOWN;
	return answer;
}

static __always_inline void verdict_key(struct dk_verdict_key *key, struct inode *inode, u32 dev)
{
	unsigned long ino = 0;

	read_field(&ino, inode, i_ino);
	key->ino = ino;
	key->dev = dev;
	key->generation = 0;
	read_field(&key->generation, inode, i_generation);
}

__noinline u32 judge(u64 pointer)
{
	struct inode *inode = (struct inode *)pointer;
	struct dk_verdict_key key = {0};
	struct dk_verdict made = {0}, *known;
	u32 dev = device_of(inode), moves;

	if (!is_root_device(dev))
		return OUTSIDE;
	verdict_key(&key, inode, dev);
	known = bpf_map_lookup_elem(&verdicts, &key);
	/* UNKNOWN is asked again each time: it holds while a file has several links, and losing one is no rename. */
	if (known && known->epoch == counters.epoch && known->answer != UNKNOWN)
		return known->answer;
	made.epoch = counters.epoch;
	moves = *(volatile u32 *)&counters.moves;
	made.pointer = pointer;
	made.answer = fresh_verdict(inode, dev);
	bpf_map_update_elem(&verdicts, &key, &made, BPF_ANY);
	/* Names were moved meanwhile, and this verdict may be of before, put where it had just been voided. */
	if (moves != *(volatile u32 *)&counters.moves)
		bpf_map_delete_elem(&verdicts, &key);
	return made.answer;
}

static __always_inline u32 verdict_of(struct inode *inode)
{
	return judge((u64)inode);
}

/* The flag of a record about an inode that may as well stand outside: replay knows, and ignores it then. */
static __always_inline u16 doubt(u32 verdict)
{
	return verdict == UNKNOWN ? DK_F_UNCERTAIN : 0;
}

static __always_inline void forget_verdict(struct inode *inode)
{
	struct dk_verdict_key key = {0};

	verdict_key(&key, inode, device_of(inode));
	bpf_map_delete_elem(&verdicts, &key);
	__sync_fetch_and_add(&counters.forgotten, 1);
}

/* The verdict of the file that a task writes to again and again: three loads and no table. */
static __always_inline u32 remembered_verdict(struct dk_task *state, struct inode *inode)
{
	struct dk_remembered now = {.inode = (u64)inode}, *known = &state->remembered;
	unsigned long ino = 0;

	read_field((void **)&now.super, inode, i_sb);
	read_field(&ino, inode, i_ino);
	read_field(&now.generation, inode, i_generation);
	now.ino = ino;
	now.epoch = counters.epoch;
	now.forgotten = counters.forgotten; /* before the verdict, which may be made void meanwhile */
	if (known->inode == now.inode && known->super == now.super && known->ino == now.ino &&
		known->generation == now.generation && known->epoch == now.epoch && known->forgotten == now.forgotten &&
		known->answer != UNKNOWN)
		return known->answer;
	now.answer = verdict_of(inode);
	*known = now;
	return now.answer;
}

struct alias_count {
	struct hlist_node *node;
	u32 dev;
	u32 inside;
};

static long alias_step(u32 index, void *context)
{
	struct alias_count *count = context;
	struct dentry *dentry;

	if (!count->node)
		return 1;
	dentry = dentry_at(count->node);
	if (!is_removed(dentry) &&
		walk_from(dentry, count->dev) == INSIDE) /* not walk_up: the verifier allows 8 calls, one in another */
		count->inside++;
	read_field(&count->node, count->node, next);
	return count->inside >= 2;
}

/* How many names of an inode, of those the kernel has at hand, stand below a root: 0, 1, or 2 for more. */
static __always_inline u32 names_inside(u64 pointer)
{
	struct inode *inode = (struct inode *)pointer;
	struct alias_count count = {0};

	count.dev = device_of(inode);
	read_field(&count.node, inode, i_dentry.first);
	bpf_loop(64, alias_step, &count, 0);
	return count.inside;
}

#endif
