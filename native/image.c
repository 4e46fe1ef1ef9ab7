// SPDX-License-Identifier: Apache-2.0
/*
 * Finds sections of the embedded programs, and fills in the numbers that stand for bpf_rdonly_cast() and its type.
 */
#include "image.h"
#include "casts.h"

#include <elf.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

extern const char diffkeeper_bpf_object[], diffkeeper_bpf_object_end[];
extern const char diffkeeper_bpf_plain[], diffkeeper_bpf_plain_end[];

static const Elf64_Shdr *section_at(const struct image *image, size_t number)
{
	const Elf64_Ehdr *head = (const void *)image->data;

	return (const Elf64_Shdr *)(image->data + head->e_shoff) + number;
}

/* Nothing is checked: it is our own compiler's. */
bool image_next_section(const struct image *image, size_t *at, const char *beginning, const char **rest,
	const void **data, size_t *size)
{
	const Elf64_Ehdr *head = (const void *)image->data;
	const char *names = (const char *)image->data + section_at(image, head->e_shstrndx)->sh_offset;

	while (++*at < head->e_shnum) {
		const Elf64_Shdr *section = section_at(image, *at);
		const char *name = names + section->sh_name;

		if (strncmp(name, beginning, strlen(beginning)))
			continue;
		*rest = name + strlen(beginning);
		*data = image->data + section->sh_offset;
		*size = section->sh_size;
		return true;
	}
	return false;
}

static void fill(struct bpf_insn *code, size_t count, uint32_t type, uint32_t function)
{
	for (size_t i = 0; i + 1 < count; i++) {
		struct bpf_insn *call = code + i + 1;

		if (code[i].code != (BPF_ALU64 | BPF_MOV | BPF_K) || (uint32_t)code[i].imm != DK_CAST_TYPE ||
			call->code != (BPF_JMP | BPF_CALL) || (uint32_t)call->imm != DK_CAST_CALL)
			continue;
		code[i].imm = type;
		call->imm = function;
		call->src_reg = BPF_PSEUDO_KFUNC_CALL;
	}
}

void image_use_plain(struct image *image)
{
	image_free(image);
	image->data = (const void *)diffkeeper_bpf_plain;
	image->size = diffkeeper_bpf_plain_end - diffkeeper_bpf_plain;
}

bool image_use_loads(struct image *image, uint32_t type, uint32_t function)
{
	size_t size = diffkeeper_bpf_object_end - diffkeeper_bpf_object;
	unsigned char *filled = malloc(size);
	const Elf64_Ehdr *head = (const void *)filled;

	if (!filled)
		return false;
	image_free(image);
	memcpy(filled, diffkeeper_bpf_object, size);
	*image = (struct image){.data = filled, .size = size, .filled = filled};
	for (size_t i = 1; i < head->e_shnum; i++) {
		const Elf64_Shdr *section = section_at(image, i);

		if (section->sh_type == SHT_PROGBITS && section->sh_flags & SHF_EXECINSTR)
			fill((void *)(filled + section->sh_offset), section->sh_size / sizeof(struct bpf_insn), type,
				function);
	}
	return true;
}

void image_free(struct image *image)
{
	free(image->filled);
	memset(image, 0, sizeof(*image));
}
