/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Processes of the recorded command: fork, exec with its words and directory, exit. Programs included.
 */
#ifndef DIFFKEEPER_PROCESSES_BPF_H
#define DIFFKEEPER_PROCESSES_BPF_H

SEC("tp_btf/sched_process_fork")
int process_forked(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	struct dk_task *state = bpf_task_storage_get(&tasks, parent, 0, 0), *made;
	struct dk_process record = {0};

	inherit_owned(parent->tgid, child->tgid);
	if (!state || !state->is_recorded)
		return 0;
	made = state_of(child, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!made)
		return 0;
	made->is_recorded = 1;
	made->is_announced = 1;
	if (child->pid != child->tgid)
		return 0;
	fill_header(&record.header, DK_PROCESS, 0, sizeof(record));
	record.header.pid = child->tgid;
	record.header.tid = child->pid;
	record.parent = parent->tgid;
	record.is_fork = 1;
	bpf_get_current_comm(record.comm, sizeof(record.comm));
	put(&record.header, sizeof(record), 0);
	return 0;
}

/* Names of a path are met leaf first: they are written backwards, from the end of a buffer. */
struct climb {
	struct dentry *dentry;
	struct vfsmount *mount;
	u8 *buffer; /* DK_PATH_MAX + 256 bytes */
	u32 at;
	u32 zero;
};

static long climb_step(u32 index, void *context)
{
	struct climb *climb = context;
	struct dentry *root = 0, *parent = 0;
	struct mount *mount, *above = 0;
	struct scratch *space = scratch();
	const unsigned char *name = 0;
	u32 length = 0, at = climb->at;

	if (!space)
		return 1;
	read_field(&root, climb->mount, mnt_root);
	if (climb->dentry == root) {
		mount = (struct mount *)((char *)climb->mount -
					 (u64)__builtin_preserve_access_index(&((struct mount *)0)->mnt));
		read_field(&above, mount, mnt_parent);
		if (!above || above == mount)
			return 1;
		read_field(&climb->dentry, mount, mnt_mountpoint);
		climb->mount = (struct vfsmount *)((char *)above +
						   (u64)__builtin_preserve_access_index(&((struct mount *)0)->mnt));
		return 0;
	}
	read_field(&parent, climb->dentry, d_parent);
	if (!parent || parent == climb->dentry)
		return 1;
	read_field(&length, climb->dentry, d_name.len);
	read_field(&name, climb->dentry, d_name.name);
	length &= 0xff;
	if (at < length + 1 || at > DK_PATH_MAX)
		return 1;
	at -= length;
	at &= 0xfff;
	bpf_probe_read_kernel(space->bytes + 16384 + at, length, name);
	at = (at - 1) & 0xfff;
	space->bytes[16384 + at] = '/';
	climb->at = at;
	climb->dentry = parent;
	return 0;
}

/*
 * Not attached: run by the drain thread, to ask of a hole where it is. ctx: pointer to an inode, its number, and the
 * device, since its memory may have been used again.
 */
SEC("raw_tp/sys_enter")
int describe(u64 *ctx)
{
	struct inode *inode = (struct inode *)ctx[0], *parent = 0;
	struct dentry *dentry, *above = 0;
	struct scratch *space = scratch();
	struct climb climb = {.at = DK_PATH_MAX};
	unsigned long ino = 0;

	described.verdict = OUTSIDE;
	described.parent.ino = 0;
	described.path_start = DK_PATH_MAX;
	read_field(&ino, inode, i_ino);
	if (!space || ino != ctx[1] || device_of(inode) != (u32)ctx[2])
		return 0;
	described.verdict = judge((u64)inode);
	copy_inode(&described.inode, (u64)inode);
	dentry = alias_of(inode);
	if (!dentry)
		return 0;
	read_field(&above, dentry, d_parent);
	read_field(&parent, above, d_inode);
	if (parent)
		read_base(&described.parent, parent);
	climb.dentry = dentry;
	bpf_loop(4096, climb_step, &climb, 0);
	described.path_start = climb.at;
	bpf_probe_read_kernel(described.path, DK_PATH_MAX, space->bytes + 16384);
	return 0;
}

/* The path of the task's working directory, to `end` of the scratch; returns its length. */
__noinline u32 read_cwd(u64 end)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct scratch *space = scratch();
	struct climb climb = {.at = DK_PATH_MAX};
	struct fs_struct *fs = 0;
	u32 length;

	read_field(&fs, task, fs);
	if (!space || !fs)
		return 0;
	read_field(&climb.dentry, fs, pwd.dentry);
	read_field(&climb.mount, fs, pwd.mnt);
	bpf_loop(4096, climb_step, &climb, 0);
	if (climb.at == DK_PATH_MAX) {
		space->bytes[16384 + DK_PATH_MAX - 1] = '/';
		climb.at = DK_PATH_MAX - 1;
	}
	length = (DK_PATH_MAX - climb.at) & 0xfff;
	bpf_probe_read_kernel(space->bytes + (end & 0x3fff), length, space->bytes + 16384 + (climb.at & 0xfff));
	return length;
}

static __always_inline u32 read_argv(struct scratch *space, struct dk_exec *record)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct mm_struct *mm = 0;
	unsigned long from = 0, end = 0;
	u64 length;

	read_field(&mm, task, mm);
	if (!mm)
		return 0;
	read_field(&from, mm, arg_start);
	read_field(&end, mm, arg_end);
	length = end - from;
	record->argv_full = length;
	if (length > DK_ARGV_MAX)
		length = DK_ARGV_MAX;
	barrier_var(length);
	if (is_crowded() || length > DK_ARGV_MAX ||
		bpf_probe_read_user(space->bytes + sizeof(*record), length, (void *)from))
		return 0;
	return length;
}

SEC("tp_btf/sched_process_exec")
int process_executed(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct linux_binprm *program = (void *)ctx[2];
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, 0);
	struct scratch *space = scratch();
	struct dk_exec *record = (void *)space;
	const char *filename = 0;
	u64 end;
	long got;

	if (!state || !state->is_recorded || !space)
		return 0;
	if (state->is_command) {
		state->is_command = 0;
		counters.outputs[0] = (u64)file_of(1);
		counters.outputs[1] = (u64)file_of(2);
	}
	state->is_announced = 1;
	fill_header(&record->header, DK_EXEC, 0, 0);
	record->argv_full = record->exe_len = 0;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	record->argv_len = read_argv(space, record);
	end = sizeof(*record) + pad8(record->argv_len & 0x1fff);
	end &= 0x3fff;
	read_field(&filename, program, filename);
	got = ((long (*)(void *, u32, const void *))115)(space->bytes + end, DK_PATH_MAX, filename);
	if (got > 1) {
		record->exe_len = got - 1;
		end = (end + pad8((got - 1) & 0xfff)) & 0x3fff;
	}
	record->cwd_len = read_cwd(end);
	end = (end + pad8(record->cwd_len & 0xfff)) & 0x3fff;
	record->header.size = end;
	put(&record->header, end, 0);
	return 0;
}

/* The last thread of a process is gone. */
SEC("tp_btf/sched_process_exit")
int process_exited(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct dk_task *state = bpf_task_storage_get(&tasks, task, 0, 0);
	struct dk_exit record = {0};
	struct signal_struct *signal = 0;
	int live = 0;
	u32 flags = 0;

	if (state && (has_untold(state) || state->is_loose))
		tell_holes(state);
	read_field(&signal, task, signal);
	read_field(&live, signal, live.counter);
	if (counters.watched && signal && !live)
		forget_owned();
	if (!state || !state->is_recorded || task->pid != task->tgid)
		return 0;
	fill_header(&record.header, DK_EXIT, 0, sizeof(record));
	read_field(&flags, signal, flags);
	if (flags & SIGNAL_GROUP_EXIT)
		read_field(&record.status, signal, group_exit_code);
	else
		record.status = task->exit_code;
	put(&record.header, sizeof(record), 0);
	return 0;
}

#endif
