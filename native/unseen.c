// SPDX-License-Identifier: Apache-2.0
/*
 * Shared writable mappings as /proc/PID/maps shows them. Inode numbers alone are compared, since kernels before 6.7
 * show the device of the file below: a file that only has the number of a mapped one is copied once too often.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "unseen.h"

#define OVERLAYFS_MAGIC 0x794c7630

/* What changes without this kernel, though it grants leases: FUSE, NFS, SMB, 9p, Ceph, AFS, GFS2, OCFS2, vboxsf. */
static const unsigned shared_with_others[] = {0x65735546, 0x6969, 0xfe534d42, 0xff534d42, 0x01021997, 0x00c36400,
	0x5346414f, 0x01161970, 0x7461636f, 0x786f4256};

struct mappings {
	size_t count, room;
	uint64_t inodes[];
};

bool may_be_mapped_unseen(int fd)
{
	struct statfs system;

	return fstatfs(fd, &system) != 0 || system.f_type == OVERLAYFS_MAGIC;
}

bool is_changed_elsewhere(int fd)
{
	struct statfs system;

	if (fstatfs(fd, &system) != 0)
		return true;
	for (size_t i = 0; i < sizeof(shared_with_others) / sizeof(shared_with_others[0]); i++)
		if ((unsigned)system.f_type == shared_with_others[i])
			return true;
	return false;
}

static struct mappings *add(struct mappings *mapped, uint64_t inode)
{
	if (mapped->count == mapped->room) {
		size_t room = mapped->room * 2;
		struct mappings *larger = realloc(mapped, sizeof(*mapped) + room * sizeof(mapped->inodes[0]));

		if (!larger)
			return mapped;
		larger->room = room;
		mapped = larger;
	}
	mapped->inodes[mapped->count++] = inode;
	return mapped;
}

static struct mappings *add_process(struct mappings *mapped, const char *pid)
{
	char name[300], line[5000], permissions[8];
	unsigned long long inode;
	FILE *maps;

	snprintf(name, sizeof(name), "/proc/%s/maps", pid);
	maps = fopen(name, "re");
	if (!maps)
		return mapped; /* it has ended */
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%*s %7s %*s %*s %llu", permissions, &inode) == 2 && inode && permissions[1] == 'w' &&
			permissions[3] == 's')
			mapped = add(mapped, inode);
	fclose(maps);
	return mapped;
}

struct mappings *mapped_files(void)
{
	struct mappings *mapped = malloc(sizeof(*mapped) + 64 * sizeof(mapped->inodes[0]));
	DIR *processes = opendir("/proc");
	struct dirent *entry;

	if (!processes || !mapped) {
		free(mapped);
		if (processes)
			closedir(processes);
		return NULL;
	}
	mapped->count = 0;
	mapped->room = 64;
	while ((entry = readdir(processes)))
		if (isdigit((unsigned char)entry->d_name[0]))
			mapped = add_process(mapped, entry->d_name);
	closedir(processes);
	return mapped;
}

bool is_mapped(const struct mappings *mapped, int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		return true;
	for (size_t i = 0; i < mapped->count; i++)
		if (mapped->inodes[i] == status.st_ino)
			return true;
	return false;
}
