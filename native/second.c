// SPDX-License-Identifier: Apache-2.0
/*
 * The second thread that loads.
 */
#include "second.h"
#include "capture.h"

#include <semaphore.h>
#include <string.h>

static struct {
	pthread_t thread;
	sem_t maps; /* of the first half exist, or never will */
	bool is_running, was_told, has_maps, is_loaded;
	const char *types;
} second;

bool is_of_second_half(const char *program)
{
	static const char *const beginnings[] = {
		"ext4_", "xfs_", "request_", "direct_", "writeback_", "look", "describe"};

	for (size_t i = 0; i < sizeof(beginnings) / sizeof(*beginnings); i++)
		if (!strncmp(program, beginnings[i], strlen(beginnings[i])))
			return true;
	return false;
}

/* The same object has the same maps, in the same order. */
static bool share_maps(struct capture *capture)
{
	struct bpf_map *ours = NULL, *theirs = NULL;

	while ((ours = capture->lib.next_map(capture->second, ours))) {
		theirs = capture->lib.next_map(capture->object, theirs);
		if (!theirs || capture->lib.reuse_fd(ours, capture->lib.map_fd(theirs)))
			return false;
	}
	return true;
}

static void *load_second(void *context)
{
	struct capture *capture = context;

	capture->second = open_programs(capture, second.types);
	if (capture->second)
		choose_half(capture, capture->second, true);
	while (sem_wait(&second.maps))
		;
	if (capture->second && second.has_maps && share_maps(capture))
		second.is_loaded = !capture->lib.load(capture->second) && !open_ring(capture);
	return NULL;
}

bool second_start(struct capture *capture, const char *types)
{
	memset(&second, 0, sizeof(second));
	second.types = types;
	if (sem_init(&second.maps, 0, 0))
		return false;
	second.is_running = !pthread_create(&second.thread, NULL, load_second, capture);
	return second.is_running;
}

void second_begin(bool has_maps)
{
	if (!second.is_running || second.was_told)
		return;
	second.was_told = true;
	second.has_maps = has_maps;
	sem_post(&second.maps);
}

bool second_wait(void)
{
	second_begin(false);
	pthread_join(second.thread, NULL);
	sem_destroy(&second.maps);
	second.is_running = false;
	return second.is_loaded;
}
