/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's types that the programs need, found in one pass over its BTF.
 *
 * libbpf searches all 130,000 of them once for each structure and each hook that it is asked for, a millisecond a time.
 * It is given the few structures that the programs read, as a BTF of their own, and the numbers of the hooks.
 */
#ifndef DIFFKEEPER_KERNEL_TYPES_H
#define DIFFKEEPER_KERNEL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct capture;

/* Of bpf_object__open_mem, as of libbpf 1.0: it begins with its size, so that later versions may add to it. */
struct open_options {
	size_t size;
	const char *name;
	bool relaxed_maps;
	const char *pin_root_path;
	int : 32;
	const char *kconfig;
	const char *btf_path;
};

struct image;

/* Go over the kernel's types, for all that the programs of an image ask for. */
void types_find(const struct image *image);
/* What casts.h wants numbers of; false: the kernel has it not. */
bool types_of_cast(uint32_t *type, uint32_t *function);
/* Have libbpf ask us; returns the path of a BTF with the structures, NULL when it cannot be. */
const char *types_begin(struct capture *capture);
/* Are there tracepoints for every change of a ctime? */
bool types_have_touches(void);
/* Were the hooks found of all programs of the open object that are to be loaded? */
bool types_have_hooks(struct capture *capture);
/* Undo types_begin. */
void types_end(struct capture *capture);
/* Undo types_find. */
void types_forget(void);

#endif
