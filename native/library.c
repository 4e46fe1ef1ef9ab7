// SPDX-License-Identifier: Apache-2.0
/*
 * Finds libbpf at run time: the build needs neither its headers nor its archive, and a machine without it gets a
 * message instead of a library that does not load.
 */
#include "capture.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	size_t offset;
} library_names[] = {
	{"bpf_object__open_mem", offsetof(struct library, open_mem)},
	{"bpf_object__load", offsetof(struct library, load)},
	{"bpf_object__close", offsetof(struct library, close)},
	{"bpf_object__next_program", offsetof(struct library, next_program)},
	{"bpf_program__name", offsetof(struct library, program_name)},
	{"bpf_program__fd", offsetof(struct library, program_fd)},
	{"bpf_program__section_name", offsetof(struct library, section_name)},
	{"bpf_program__set_autoload", offsetof(struct library, set_autoload)},
	{"bpf_program__autoload", offsetof(struct library, autoload)},
	{"bpf_program__attach_trace", offsetof(struct library, attach_trace)},
	{"bpf_program__attach_raw_tracepoint", offsetof(struct library, attach_raw)},
	{"bpf_link__destroy", offsetof(struct library, detach)},
	{"bpf_object__find_map_by_name", offsetof(struct library, find_map)},
	{"bpf_object__next_map", offsetof(struct library, next_map)},
	{"bpf_map__reuse_fd", offsetof(struct library, reuse_fd)},
	{"bpf_map__fd", offsetof(struct library, map_fd)},
	{"bpf_map__set_max_entries", offsetof(struct library, set_max_entries)},
	{"bpf_map__initial_value", offsetof(struct library, initial_value)},
	{"bpf_map_update_elem", offsetof(struct library, update)},
	{"bpf_map_delete_elem", offsetof(struct library, remove)},
	{"bpf_obj_get_info_by_fd", offsetof(struct library, program_info)},
	{"bpf_object__btf", offsetof(struct library, object_btf)},
	{"btf__raw_data", offsetof(struct library, btf_data)},
	{"libbpf_register_prog_handler", offsetof(struct library, register_handler)},
	{"libbpf_unregister_prog_handler", offsetof(struct library, unregister_handler)},
	{"btf__load_vmlinux_btf", offsetof(struct library, vmlinux_btf)},
	{"btf__find_by_name_kind", offsetof(struct library, find_type)},
	{"btf__free", offsetof(struct library, btf_free)},
	{"libbpf_set_print", offsetof(struct library, set_print)},
};

__thread char last_message[ERROR_BYTES];

/* Keep the end of what libbpf warns (level 0): the verifier names the cause in its last lines. */
static int keep_message(int level, const char *format, va_list arguments)
{
	static char text[1 << 16];
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	size_t had = strlen(last_message), got, cut;

	if (level != 0)
		return 0;
	pthread_mutex_lock(&mutex);
	vsnprintf(text, sizeof(text), format, arguments);
	got = strlen(text);
	if (got >= sizeof(last_message)) {
		strcpy(last_message, text + got - sizeof(last_message) + 1);
	} else {
		cut = had + got < sizeof(last_message) ? 0 : had + got - sizeof(last_message) + 1;
		memmove(last_message, last_message + cut, had - cut + 1);
		strcat(last_message, text);
	}
	pthread_mutex_unlock(&mutex);
	return 0;
}

int capture_fail(struct capture *capture, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(capture->error, sizeof(capture->error), format, arguments);
	va_end(arguments);
	return -1;
}

/* Find libbpf: beside this library (a wheel bundles it), then the system's. Returns NULL with a message. */
static void *open_library(char *message, size_t size)
{
	static const char *const names[] = {"libbpf.so.1", "libbpf.so"};
	char path[4096];
	Dl_info self;
	char *slash;
	void *handle;

	if (dladdr((const void *)open_library, &self) && (slash = strrchr(self.dli_fname, '/'))) {
		snprintf(path, sizeof(path), "%.*s/_libbpf.so.1", (int)(slash - self.dli_fname), self.dli_fname);
		handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (handle)
			return handle;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
		if (handle)
			return handle;
	}
	snprintf(message, size, "libbpf.so.1 cannot be loaded (%s)", dlerror());
	return NULL;
}

int bind_library(struct capture *capture)
{
	struct library *lib = &capture->lib;

	lib->handle = open_library(capture->error, sizeof(capture->error));
	if (!lib->handle)
		return -1;
	for (size_t i = 0; i < sizeof(library_names) / sizeof(*library_names); i++) {
		void *symbol = dlsym(lib->handle, library_names[i].name);

		if (!symbol)
			return capture_fail(
				capture, "libbpf has no %s: version 1.0 or later is needed", library_names[i].name);
		memcpy((char *)lib + library_names[i].offset, &symbol, sizeof(symbol));
	}
	lib->set_print(keep_message);
	return 0;
}

/* Say whether libbpf can be loaded here: 0, or -1 with the reason in message. */
int dk_probe_library(char *message, int size)
{
	void *handle = open_library(message, size);

	if (!handle)
		return -1;
	dlclose(handle);
	return 0;
}
