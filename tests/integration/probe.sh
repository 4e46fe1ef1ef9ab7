#!/bin/sh
# Writes to the file $1 what a process can know of how it was started, and passes its standard input through.
# A recorder that changes any of this changes the run: each line must be the same with and without it.
terminals=
for descriptor in 0 1 2; do
	if [ -t $descriptor ]; then terminals="$terminals $descriptor"; fi
done
ls -l /proc/$$/fd >"$1.descriptors"
descriptors=$(sed -n 's/.* \([0-9]*\) -> /\1 /p' "$1.descriptors" | grep -v "$0")
set -- "$1" "$(umask)"
{
	echo "terminals:$terminals"
	echo "descriptors: $descriptors"
	echo "umask: $2"
	echo "cwd: $(readlink /proc/$$/cwd)"
	id
	grep -E '^(Uid|Gid|Groups|Sig(Blk|Ign)|ShdPnd|Cap|NoNewPrivs|Seccomp|Cpus_allowed|Mems_allowed)' /proc/self/status
	cat /proc/self/limits
	cat /proc/$$/oom_score_adj
	# process group, session, terminal, its foreground group, nice
	sed 's/.*) //' /proc/$$/stat | awk '{print "group", $3, "session", $4, "tty", $5, "foreground", $6, "nice", $17}'
	tr '\0' '\n' </proc/$$/environ | grep -v '^_='
} >"$1"
cat
printf 'out\000\377\n'
printf 'err\000\377\n' >&2
