/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Workers of io-wq: which request one runs, what that touches, when it has left it. Programs included.
 */
#ifndef DIFFKEEPER_WORKERS_BPF_H
#define DIFFKEEPER_WORKERS_BPF_H

enum { LEFT_MAX = 128 };

struct work {
	u64 request;
	u64 token;
	u64 left_count;
	struct {
		u64 request;
		u64 token;
	} left[LEFT_MAX]; /* before the one it runs now, without having slept */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct work);
} workers SEC(".maps");

/* The entry of a request as it was submitted with a token, which the kernel may use again meanwhile. */
static __always_inline struct request *request_of(u64 pointer, u64 token)
{
	struct request *request = bpf_map_lookup_elem(&requests, &pointer);

	if (request && request->token == token)
		return request;
	request = bpf_map_lookup_elem(&requests, &token);
	return request && request->token == token ? request : 0;
}

/* A worker goes on to another request: the record of this one is made when it sleeps, or at its completion. */
static __always_inline void leave_behind(struct work *work)
{
	u64 i = work->left_count & (LEFT_MAX - 1);

	if (work->left_count >= LEFT_MAX && request_of(work->left[i].request, work->left[i].token))
		lose(DK_LOST_TABLE, 0);
	work->left[i].request = work->request;
	work->left[i].token = work->token;
	work->left_count++;
}

/* The request that the current worker runs; 0 where there is nothing to note. */
static __always_inline struct request *enter_request(void)
{
	u64 pointer = request_at((void *)bpf_get_current_task());
	struct request *request;
	struct work *work;

	if (!pointer)
		return 0;
	request = bpf_map_lookup_elem(&requests, &pointer);
	if (!request || !request->token)
		return 0;
	work = bpf_task_storage_get(&workers, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!work) {
		lose(DK_LOST_TABLE, 0);
	} else if (work->request != pointer || work->token != request->token) {
		if (work->request)
			leave_behind(work);
		work->request = pointer;
		work->token = request->token;
	}
	return request;
}

/* Is the task at requests of its own: in io_uring_enter, or the ring's kernel thread? */
static __always_inline int is_submitting(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	u32 flags = 0;

	read_field(&flags, task, flags);
	return (flags & PF_IO_WORKER) || read_call_number(bpf_get_current_task_btf()) == IO_URING_ENTER;
}

/*
 * An inode on a root's file system was touched by a task that is in no call of ours; true when a request explains it.
 * What requests touch inline is a file that they write to, whose record tells of it.
 */
__noinline int touch_request(u64 pointer)
{
	struct inode *inode = (struct inode *)pointer;
	struct request *request;
	u64 kernel = request_at((void *)bpf_get_current_task());
	int users = 1;

	if (!kernel)
		return is_regular(mode_of(inode)) && is_submitting();
	request = enter_request();
	if (!request)
		return 0;
	/* What the worker frees before it begins, having been the last to let go of it, is not what the request is
	 * about. */
	read_field(&users, inode, i_count.counter);
	if (!users)
		return 1;
	if (!request->is_prepared)
		prepare(request, kernel);
	if (request->task.call > CALL_LAST_COPY)
		note_named_touch(&request->task, inode);
	return 1;
}

/* A folio was written: is it a request's, of io_uring or of AIO? */
__noinline int note_request_write(u64 inode, s64 offset, u32 copied)
{
	struct request *request = enter_request();
	struct dk_task *state;

	if (request) {
		if (!request->is_prepared)
			prepare_write(request, request_at((void *)bpf_get_current_task()));
		add_locked(&request->task, inode, offset, copied);
		return 1;
	}
	state = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0);
	if (!state || state->call != CALL_SUBMIT)
		return 0;
	state->lock_call = read_call_number(bpf_get_current_task_btf());
	add_locked(state, inode, offset, copied);
	return 1;
}

/* ---- the end ---- */

/* A write of which nothing was told from inside a lock: its end tells where it was. */
static __always_inline int is_unlocked_write(struct request *request)
{
	return call_of(request->opcode) == CALL_PWRITE && !request->was_direct &&
	       (!request->task.lock_bytes || request->task.lock_is_whole);
}

/* A worker has left a request: its result stands in it, unless it is in use again, and then it had succeeded. */
static __always_inline int finish_request(u64 pointer, u64 token)
{
	struct request *request = request_of(pointer, token);
	struct io_kiocb *kernel = (void *)pointer;
	s32 result = 0;

	if (!request || !field_exists(kernel->cqe.res))
		return 0;
	if (bpf_map_lookup_elem(&requests, &token))
		bpf_map_delete_elem(&requests, &token);
	else
		read_field(&result, kernel, cqe.res);
	/* The submitter may complete it long after this: then it is told. */
	if (!is_unlocked_write(request) && claim(request, token))
		record_request(request, result);
	return 0;
}

static long finish_step(u32 i, void *context)
{
	struct work *work = bpf_task_storage_get(&workers, bpf_get_current_task_btf(), 0, 0);

	i &= LEFT_MAX - 1;
	if (!work)
		return 1;
	finish_request(work->left[i].request, work->left[i].token);
	return 0;
}

/* The current task, a worker, goes to sleep or gives way: what it has left is recorded. */
static __always_inline int sleep_worker(u64 at)
{
	struct work *work = bpf_task_storage_get(&workers, bpf_get_current_task_btf(), 0, 0);
	u32 count;

	if (!work || !work->request)
		return 0;
	if (at != work->request) {
		leave_behind(work);
		work->request = 0;
	}
	count = work->left_count < LEFT_MAX ? work->left_count : LEFT_MAX;
	if (count)
		bpf_loop(count, finish_step, 0, 0);
	work->left_count = 0;
	return 0;
}

/* In request_ended(): the depth of calls is at its limit. */
static __always_inline int completed(u64 pointer)
{
	struct request *request = bpf_map_lookup_elem(&requests, &pointer);
	struct io_kiocb *kernel = (void *)pointer;
	s32 result = 0;
	u32 call;

	if (!request || !field_exists(kernel->cqe.res))
		return 0;
	read_field(&result, kernel, cqe.res);
	if (claim(request, request->token)) {
		call = call_of(request->opcode);
		if (call == CALL_CLOSE && result == 0 && request->inode)
			send_close(request);
		if (call > CALL_LAST_COPY && call <= CALL_LAST_SIZE && !request->is_prepared)
			prepare(request, pointer);
		if (is_unlocked_write(request))
			send_unlocked(request, pointer, result);
		else if (request->is_prepared)
			record_request(request, result);
	}
	end_announced(request, request->direct_inode);
	bpf_map_delete_elem(&requests, &pointer);
	return 0;
}

/*
 * One program for several hooks, since it is a long one (see raw_hooks in load.c). io_uring_complete(ring, request,
 * ...): the submitter is about to be told; not of what succeeds without telling. sched_switch(was preempted, ...): a
 * worker sleeps, and what it ran is recorded before the next change to the same inodes; attached when requests are
 * first used. sched_process_exit(task, is the last): the same for a worker that slept before that.
 * ext4_punch_hole(inode, ...) and its kin: inside the lock of a change that need not touch the inode, when the clock
 * has not ticked since the last one.
 */
SEC("raw_tp")
int request_ended(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file *file = 0;
	u64 pointer;
	u32 flags = 0;

	if (!counters.has_requests)
		return 0;
	pointer = request_at(task);
	read_field(&file, (struct io_kiocb *)pointer, file);
	if (pointer && ctx[0] && ctx[0] == (u64)inode_of(file))
		return touch_request(ctx[0]);
	if (ctx[0] > 1 && ctx[1] > 1)
		return completed(ctx[1]);
	read_field(&flags, task, flags);
	return flags & PF_IO_WORKER ? sleep_worker(pointer) : 0;
}

#endif
