// SPDX-License-Identifier: Apache-2.0
/*
 * One pass over the kernel's BTF. The format: Documentation/bpf/btf.rst. Everything is checked against the ends of the
 * sections; what is not understood is left to libbpf.
 */
#define _GNU_SOURCE
#include "kernel_types.h"
#include "capture.h"
#include "image.h"
#include "second.h"

#include <linux/bpf.h>
#include <linux/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES = 1024, HOOKS = 48, HOOK_SECTION = 7 /* "tp_btf/" */, DEEPEST = 32 };
static const char hook_prefix[] = "btf_trace_";

/* As of libbpf 1.0; each begins with its size, so that later versions may add to it. */
struct load_options {
	size_t size;
	int attempts;
	uint32_t attach_type, btf_fd, flags, ifindex, version, attach_btf_id;
};
struct handler_options {
	size_t size;
	long cookie;
	void *setup;
	int (*prepare)(struct bpf_program *, struct load_options *, long);
	void *attach;
};

struct name {
	const char *text;
	size_t length;
	uint32_t *hook; /* where its number goes; NULL: a structure */
};

struct bytes {
	unsigned char *data;
	size_t size, room;
	bool has_failed;
};

/* A BTF as it lies in memory. */
struct types {
	const unsigned char *records;
	const char *strings;
	size_t record_bytes, string_bytes;
};

/* What is looked for, and what came of it: of one capture at a time. */
static struct {
	int handler;
	int fd;
	char path[32];
	struct capture *capture;
	struct {
		const char *name;
		uint32_t id;
	} hooks[HOOKS];
	int hook_count;
	uint32_t cast_type, cast_function; /* casts.h */
	struct name names[NAMES];
	uint32_t count;
	unsigned char may_begin[1 << 13]; /* bits: by the first three letters */
	struct types kernel;
	uint32_t *at;  /* where a type of the kernel's is, by number */
	uint32_t *new; /* its number in the small BTF, 0: not in it */
	uint32_t type_count, new_count;
	struct bytes records, strings;
	bool is_small_written;
} found = {.fd = -1};

static uint32_t hook_number(const char *hook);

static int prepare(struct bpf_program *program, struct load_options *options, long cookie)
{
	(void)cookie;
	second_begin(true); /* the maps come before the programs */
	options->attach_btf_id = hook_number(found.capture->lib.section_name(program) + HOOK_SECTION);
	return 0;
}

/* libbpf 1.1 frees its list when the last handler goes, and uses it again: one that is for nothing stays. */
static bool keep_list(struct capture *capture)
{
	const struct handler_options options = {.size = sizeof(options)};
	static int kept;

	if (kept <= 0)
		kept = capture->lib.register_handler("diffkeeper", BPF_PROG_TYPE_TRACING, 0, &options);
	return kept > 0;
}

const char *types_begin(struct capture *capture)
{
	const struct handler_options options = {.size = sizeof(options), .prepare = prepare};

	if (!found.is_small_written)
		return NULL;
	found.capture = capture;
	if (keep_list(capture))
		found.handler =
			capture->lib.register_handler("tp_btf+", BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, &options);
	return found.handler > 0 ? found.path : NULL;
}

void types_end(struct capture *capture)
{
	if (found.handler > 0)
		capture->lib.unregister_handler(found.handler);
	found.handler = 0;
}

static bool read_head(struct types *types, const void *data, size_t size)
{
	const struct btf_header *head = data;

	if (size < sizeof(*head) || head->magic != BTF_MAGIC || head->version != BTF_VERSION || head->hdr_len > size)
		return false;
	size -= head->hdr_len;
	if (head->type_off > size || head->type_len > size - head->type_off || head->str_off > size ||
		head->str_len > size - head->str_off || !head->str_len)
		return false;
	types->records = (const unsigned char *)data + head->hdr_len + head->type_off;
	types->strings = (const char *)data + head->hdr_len + head->str_off;
	types->record_bytes = head->type_len;
	types->string_bytes = head->str_len;
	return !types->strings[types->string_bytes - 1];
}

/* The bytes of a type and what belongs to it, 0 for a kind that is not known. */
static size_t bytes_of(const struct btf_type *type)
{
	uint32_t count = BTF_INFO_VLEN(type->info);

	switch (BTF_INFO_KIND(type->info)) {
	case BTF_KIND_INT:
		return sizeof(*type) + sizeof(uint32_t);
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		return sizeof(*type);
	case BTF_KIND_ARRAY:
		return sizeof(*type) + sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return sizeof(*type) + count * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return sizeof(*type) + count * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return sizeof(*type) + count * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return sizeof(*type) + count * sizeof(struct btf_param);
	case BTF_KIND_VAR:
		return sizeof(*type) + sizeof(struct btf_var);
	case BTF_KIND_DATASEC:
		return sizeof(*type) + count * sizeof(struct btf_var_secinfo);
	case BTF_KIND_DECL_TAG:
		return sizeof(*type) + sizeof(struct btf_decl_tag);
	}
	return 0;
}

/* The type at a place, NULL where there is none that ends within the section. */
static const struct btf_type *type_at(const struct types *types, size_t at)
{
	const struct btf_type *type = (const void *)(types->records + at);
	size_t size;

	if (at > types->record_bytes || types->record_bytes - at < sizeof(*type))
		return NULL;
	size = bytes_of(type);
	return size && size <= types->record_bytes - at && type->name_off < types->string_bytes ? type : NULL;
}

static bool is_structure(const struct btf_type *type)
{
	uint32_t kind = BTF_INFO_KIND(type->info);

	return kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION || kind == BTF_KIND_ENUM || kind == BTF_KIND_ENUM64;
}

/* A name up to "___", behind which a flavour of it stands. */
static size_t length_of(const char *name)
{
	const char *flavour = *name ? strstr(name + 1, "___") : NULL;

	return flavour ? (size_t)(flavour - name) : strlen(name);
}

static uint32_t hash_of(const char *name)
{
	uint32_t hash = 2166136261u;

	for (int i = 0; i < 3 && name[i]; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	return (hash ^ hash >> 16) & 0xffff;
}

static bool want(const char *text, size_t length, uint32_t *hook)
{
	uint32_t hash = hash_of(text);

	if (found.count == NAMES)
		return false;
	found.names[found.count++] = (struct name){text, length, hook};
	if (!hook)
		found.may_begin[hash >> 3] |= 1 << (hash & 7);
	return true;
}

/* Every structure that the programs know by name: those that are not the kernel's are not found, and nobody asks. */
static bool want_structures(const struct image *image)
{
	const struct btf_type *type;
	const char *rest;
	const void *data;
	struct types own;
	size_t size, section = 0;

	if (!image_next_section(image, &section, ".BTF", &rest, &data, &size) || *rest || !read_head(&own, data, size))
		return false;
	for (size_t at = 0; at < own.record_bytes; at += bytes_of(type)) {
		type = type_at(&own, at);
		if (!type)
			return false;
		if (is_structure(type) && own.strings[type->name_off] &&
			!want(own.strings + type->name_off, length_of(own.strings + type->name_off), NULL))
			return false;
	}
	return true;
}

static bool want_hooks(const struct image *image)
{
	const char *hook;
	const void *code;
	size_t size, section = 0;

	while (image_next_section(image, &section, "tp_btf/", &hook, &code, &size)) {
		if (found.hook_count == HOOKS)
			return false;
		found.hooks[found.hook_count].name = hook;
		if (!want(hook, strlen(hook), &found.hooks[found.hook_count++].id))
			return false;
	}
	return true;
}

/* Names of touches as load.c attaches them: without all three the older hook is needed. */
static const char *const touches[] = {"inode_set_ctime_to_ts", "ctime_ns_xchg", "ctime_xchg_skip"};

static bool want_touches(void)
{
	for (size_t i = 0; i < sizeof(touches) / sizeof(*touches); i++) {
		if (found.hook_count == HOOKS)
			return false;
		found.hooks[found.hook_count].name = touches[i];
		if (!want(touches[i], strlen(touches[i]), &found.hooks[found.hook_count++].id))
			return false;
	}
	return true;
}

static uint32_t hook_number(const char *hook)
{
	for (int i = 0; i < found.hook_count; i++)
		if (!strcmp(found.hooks[i].name, hook))
			return found.hooks[i].id;
	return 0;
}

bool types_have_touches(void)
{
	for (size_t i = 0; i < sizeof(touches) / sizeof(*touches); i++)
		if (!hook_number(touches[i]))
			return false;
	return true;
}

bool types_have_hooks(struct capture *capture)
{
	struct bpf_program *program = NULL;

	if (!types_have_touches())
		return false;
	while ((program = capture->lib.next_program(capture->object, program))) {
		const char *section = capture->lib.section_name(program);

		if (capture->lib.autoload(program) && !strncmp(section, "tp_btf/", HOOK_SECTION) &&
			!hook_number(section + HOOK_SECTION))
			return false;
	}
	return true;
}

static bool put(struct bytes *to, const void *data, size_t size)
{
	if (to->size + size > to->room) {
		size_t room = to->room * 2 + size + 4096;
		unsigned char *grown = realloc(to->data, room);

		if (!grown) {
			to->has_failed = true;
			return false;
		}
		to->data = grown;
		to->room = room;
	}
	memcpy(to->data + to->size, data, size);
	to->size += size;
	return true;
}

static uint32_t put_name(uint32_t offset)
{
	const char *name = found.kernel.strings + offset;
	uint32_t at = found.strings.size;

	if (!*name)
		return 0;
	put(&found.strings, name, strlen(name) + 1);
	return at;
}

static uint32_t copy_type(uint32_t id, int depth);

/* The types that members, elements and typedefs have lie in the same structure: they count for its size and places. */
static void copy_inner(unsigned char *record, const struct btf_type *type, int depth)
{
	uint32_t count = BTF_INFO_VLEN(type->info);
	struct btf_type *copy = (void *)record;

	switch (BTF_INFO_KIND(type->info)) {
	case BTF_KIND_PTR:
		copy->type = 0; /* nothing is asked of what it points to */
		break;
	case BTF_KIND_ARRAY:
		((struct btf_array *)(copy + 1))->type = copy_type(((struct btf_array *)(type + 1))->type, depth);
		((struct btf_array *)(copy + 1))->index_type =
			copy_type(((struct btf_array *)(type + 1))->index_type, depth);
		break;
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		for (uint32_t i = 0; i < count; i++) {
			struct btf_member *member = (struct btf_member *)(copy + 1) + i;

			member->name_off = put_name(member->name_off);
			member->type = copy_type(member->type, depth);
		}
		break;
	case BTF_KIND_ENUM:
		for (uint32_t i = 0; i < count; i++)
			((struct btf_enum *)(copy + 1))[i].name_off =
				put_name(((struct btf_enum *)(type + 1))[i].name_off);
		break;
	case BTF_KIND_ENUM64:
		for (uint32_t i = 0; i < count; i++)
			((struct btf_enum64 *)(copy + 1))[i].name_off =
				put_name(((struct btf_enum64 *)(type + 1))[i].name_off);
		break;
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		copy->type = copy_type(type->type, depth);
		break;
	case BTF_KIND_INT:
	case BTF_KIND_FLOAT:
	case BTF_KIND_FWD:
		break;
	default:
		found.records.has_failed = true; /* no member has such a type */
	}
}

/* Copy a type and what lies within it; return its new number. */
static uint32_t copy_type(uint32_t id, int depth)
{
	const struct btf_type *type;
	unsigned char *record;
	size_t size, at;

	if (!id || id >= found.type_count || depth == DEEPEST) {
		found.records.has_failed |= id != 0;
		return 0;
	}
	if (found.new[id])
		return found.new[id];
	found.new[id] = ++found.new_count;
	type = (const void *)(found.kernel.records + found.at[id]);
	size = bytes_of(type);
	at = found.records.size;
	/* A number is a place: the type's own is taken before those of what lies within. */
	if (!put(&found.records, type, size))
		return 0;
	record = malloc(size);
	if (!record) {
		found.records.has_failed = true;
		return 0;
	}
	memcpy(record, type, size);
	((struct btf_type *)record)->name_off = put_name(type->name_off);
	copy_inner(record, type, depth + 1);
	memcpy(found.records.data + at, record, size);
	free(record);
	return found.new[id];
}

static void see_type(const struct btf_type *type, uint32_t id)
{
	const char *name = found.kernel.strings + type->name_off;
	uint32_t hash;
	size_t length;

	if (BTF_INFO_KIND(type->info) == BTF_KIND_FUNC) {
		if (!strcmp(name, "bpf_rdonly_cast"))
			found.cast_function = id;
		return;
	}
	if (BTF_INFO_KIND(type->info) == BTF_KIND_STRUCT && !strcmp(name, "timespec64"))
		found.cast_type = id;
	if (BTF_INFO_KIND(type->info) == BTF_KIND_TYPEDEF) {
		if (strncmp(name, hook_prefix, sizeof(hook_prefix) - 1))
			return;
		for (uint32_t i = 0; i < found.count; i++)
			if (found.names[i].hook && !*found.names[i].hook &&
				!strcmp(found.names[i].text, name + sizeof(hook_prefix) - 1))
				*found.names[i].hook = id;
		return;
	}
	hash = hash_of(name);
	if (!is_structure(type) || !(found.may_begin[hash >> 3] & 1 << (hash & 7)))
		return;
	length = length_of(name);
	for (uint32_t i = 0; i < found.count; i++)
		if (!found.names[i].hook && found.names[i].length == length &&
			!memcmp(found.names[i].text, name, length)) {
			copy_type(id, 0);
			return;
		}
}

/* Where each type is, for types refer to later ones. */
static bool number_types(void)
{
	const struct btf_type *type;
	size_t at = 0;

	found.at = malloc((found.kernel.record_bytes / sizeof(*type) + 2) * sizeof(*found.at));
	if (!found.at)
		return false;
	for (found.type_count = 1; at < found.kernel.record_bytes; at += bytes_of(type)) {
		type = type_at(&found.kernel, at);
		if (!type)
			return false;
		found.at[found.type_count++] = at;
	}
	found.new = calloc(found.type_count, sizeof(*found.new));
	return found.new != NULL;
}

static bool write_small(void)
{
	struct btf_header head = {.magic = BTF_MAGIC, .version = BTF_VERSION, .hdr_len = sizeof(head)};

	if (found.records.has_failed || found.strings.has_failed)
		return false;
	head.type_len = head.str_off = found.records.size;
	head.str_len = found.strings.size;
	return write(found.fd, &head, sizeof(head)) == sizeof(head) &&
	       write(found.fd, found.records.data, found.records.size) == (ssize_t)found.records.size &&
	       write(found.fd, found.strings.data, found.strings.size) == (ssize_t)found.strings.size;
}

static bool search(const void *data, size_t size)
{
	if (!read_head(&found.kernel, data, size) || !number_types() || !put(&found.strings, "", 1))
		return false;
	for (uint32_t id = 1; id < found.type_count; id++)
		see_type((const void *)(found.kernel.records + found.at[id]), id);
	return write_small();
}

/* The kernel's BTF, mapped, or before Linux 6.16 read. */
static unsigned char *kernel_btf(size_t *size)
{
	int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
	unsigned char *data = MAP_FAILED;
	struct stat status;
	size_t had = 0;
	ssize_t got = 1;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &status) && (*size = status.st_size))
		data = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (data == MAP_FAILED && *size) {
		data = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		while (data != MAP_FAILED && had < *size && (got = read(fd, data + had, *size - had)) > 0)
			had += got;
		if (data != MAP_FAILED && had < *size) {
			munmap(data, *size);
			data = MAP_FAILED;
		}
	}
	close(fd);
	return data == MAP_FAILED ? NULL : data;
}

void types_find(const struct image *image)
{
	size_t size = 0;
	unsigned char *data;

	types_forget();
	found.fd = memfd_create("diffkeeper-btf", MFD_CLOEXEC);
	if (found.fd < 0 || !want_structures(image) || !want_hooks(image) || !want_touches())
		return;
	snprintf(found.path, sizeof(found.path), "/proc/self/fd/%d", found.fd);
	data = kernel_btf(&size);
	if (!data)
		return;
	found.is_small_written = search(data, size);
	munmap(data, size);
	free(found.at);
	free(found.new);
	free(found.records.data);
	free(found.strings.data);
}

bool types_of_cast(uint32_t *type, uint32_t *function)
{
	*type = found.cast_type;
	*function = found.cast_function;
	return *type && *function;
}

void types_forget(void)
{
	if (found.fd >= 0)
		close(found.fd);
	memset(&found, 0, sizeof(found));
	found.fd = -1;
}
