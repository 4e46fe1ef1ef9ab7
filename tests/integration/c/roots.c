// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that see another tree: in another root (chroot), in a mount namespace of their own.
 *
 * A wrong recorder takes "/file" for that of the machine; it misses what is changed under another name of the same folder
 * (a bind mount that only one process has); it records what stands at the root's path in a namespace where something else
 * is mounted there.
 *
 * EXPECT: CREATE jail/file
 * EXPECT: MKDIR jail/folder
 * EXPECT: RENAME jail/file -> jail/folder/moved
 * EXPECT: SYMLINK jail/absolute
 * EXPECT: WRITE jail/folder/moved length=10
 * EXPECT: UNLINK jail/folder/gone
 * EXPECT: CREATE bound/by bind
 * EXPECT: RENAME bound/old -> bound/new
 * EXPECT: CREATE bound/joined
 * COUNT: CREATE over/hidden 0
 */
#include "must.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

static char here[4096];

static void wait_for(pid_t child)
{
	int status;

	MUST(waitpid(child, &status, 0));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void jailed(void)
{
	pid_t child = MUST(fork());

	if (child == 0) {
		if (chroot("jail") != 0)
			_exit(77);
		MUST(chdir("/"));
		put("/file", "in another root");
		MUST(mkdir("/folder", 0755));
		MUST(rename("/file", "/../folder/moved"));
		MUST(symlink("/folder/moved", "/absolute"));
		MUST(write(MUST(open("/absolute", O_WRONLY | O_APPEND)), " by a link", 10));
		put("/folder/gone", "x");
		MUST(truncate("/folder/gone", 0));
		MUST(link("/folder/moved", "/folder/again"));
		MUST(unlink("/folder/gone"));
		MUST(chmod("/folder", 0711));
		_exit(0);
	}
	wait_for(child);
}

/* The folder "bound" at "mount/point" and at "over", seen by this process and its children alone. */
static void bind_mounts(void)
{
	if (unshare(CLONE_NEWNS) != 0)
		_exit(77);
	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MUST(mount("bound", "jail/point", NULL, MS_BIND, NULL));
	MUST(mount("none", "over", "tmpfs", 0, NULL));
}

static void in_a_namespace(void)
{
	pid_t child = MUST(fork());
	char path[8192];

	if (child == 0) {
		bind_mounts();
		put("jail/point/by bind", "known by another name");
		put("jail/point/old", "x");
		MUST(rename("jail/point/old", "jail/point/new"));
		snprintf(path, sizeof(path), "%s/jail/point/absolute", here);
		put(path, "x");
		put("over/hidden", "in a tmpfs that nobody else sees");
		MUST(rename("over/hidden", "over/seen"));
		MUST(mkdir("over/folder", 0700));
		_exit(0);
	}
	wait_for(child);
}

/* Another process joins the namespace of the first. */
static void joined(void)
{
	int ready[2], done[2], fd;
	char path[64], byte;
	pid_t first, second;

	MUST(pipe(ready));
	MUST(pipe(done));
	first = MUST(fork());
	if (first == 0) {
		bind_mounts();
		MUST(write(ready[1], "x", 1));
		MUST(read(done[0], &byte, 1));
		_exit(0);
	}
	MUST(read(ready[0], &byte, 1));
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", first);
	fd = MUST(open(path, O_RDONLY));
	second = MUST(fork());
	if (second == 0) {
		MUST(setns(fd, CLONE_NEWNS));
		MUST(chdir(here));
		put("jail/point/joined", "by setns");
		MUST(chdir("jail/point"));
		put("from there", "x");
		MUST(unlink("../point/by bind"));
		_exit(0);
	}
	wait_for(second);
	MUST(write(done[1], "x", 1));
	wait_for(first);
}

int main(void)
{
	if (geteuid() != 0)
		return 77;
	MUST(getcwd(here, sizeof(here)) ? 0 : -1);
	MUST(mkdir("jail", 0755));
	MUST(mkdir("jail/point", 0755));
	MUST(mkdir("bound", 0755));
	MUST(mkdir("over", 0755));
	jailed();
	instant("jailed");
	in_a_namespace();
	instant("in a namespace");
	joined();
	instant("joined");
	return 0;
}
