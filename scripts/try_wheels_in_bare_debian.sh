#!/bin/bash
# Prove the wheels and the source distribution in a Debian tree without compiler, headers and libbpf.
#
#   sudo scripts/try_wheels_in_bare_debian.sh [DIST]        (default: dist, as make wheels fills it)
#
# Settings: bare_debian.sh has them. Of the wheels, only the one for glibc on this processor and the pure one can run here.
set -euo pipefail
. "$(dirname "$0")/bare_debian.sh"
dist=$(realpath "${1:-$checkout/dist}")
wheel=$(basename "$dist"/*-manylinux_*_"$(uname -m)".whl)
pure=$(basename "$dist"/*-any.whl)
sdist=$(basename "$dist"/*.tar.gz)

make_tree python3,python3-venv,ca-certificates usr/bin/python3
open_tree
rm -rf "$tree/try" && mkdir -p "$tree/try" && cp "$dist"/* "$tree/try/"

step() { printf '=== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
venv() { in_tree python3 -m venv --clear "/try/$1"; }
pip() { in_tree "/try/$1/bin/pip" --disable-pip-version-check --quiet --no-cache-dir install "${@:2}"; }
# refused VENV WORDS: record says no, with these words and 125.
refused() {
    status=0
    said=$(in_tree "/try/$1/bin/diffkeeper" record -s /try/never -- true 2>&1) || status=$?
    [ "$status" = 125 ] || fail "record exited $status: $said"
    [[ $said == *"$2"* ]] || fail "record said: $said"
}

step "nothing is there that compiles, or to compile against"
for name in cc gcc clang zig; do in_tree sh -c "command -v $name" >/dev/null && fail "$name is there"; done
for place in usr/include/linux usr/include/stdio.h usr/include/python3.11/Python.h; do
    [ ! -e "$tree/$place" ] || fail "/$place is there"
done
[ -z "$(find "$tree"/usr/lib "$tree"/lib -name 'libbpf*' -o -name 'libelf*')" ] || fail "libbpf or libelf is there"

step "the wheel installs from wheels alone: $wheel"
venv engine
pip engine --only-binary :all: "/try/$wheel"
in_tree /try/engine/bin/diffkeeper --help >/dev/null
in_tree /try/engine/bin/diffkeeper doctor

step "it records with eBPF, and gives back what was recorded"
in_tree sh -ec 'mkdir -p /try/work && cd /try/work && rm -rf ../trace ../out
    /try/engine/bin/diffkeeper record --strict -s ../trace -- sh -c "echo one > f; mkdir d; echo two > d/g; mv f d/h; rm d/g"
    /try/engine/bin/diffkeeper timeline -s ../trace
    /try/engine/bin/diffkeeper export -s ../trace --time=end --out ../out
    test "$(cat ../out/d/h)" = one && test ! -e ../out/d/g && test ! -e ../out/f'

step "without privileges, and without /sys: --help and a clear refusal"
umount -l "$tree/sys"
in_tree su nobody -s /bin/sh -c '/try/engine/bin/diffkeeper --help' >/dev/null
refused engine "/sys/kernel/btf/vmlinux is missing"
mount --rbind --make-rslave /sys "$tree/sys"

step "the pure wheel: $pure"
venv pure
pip pure --only-binary :all: "/try/$pure"
in_tree /try/pure/bin/diffkeeper timeline -s /try/trace --last 1
refused pure "built without the eBPF engine"

step "the source distribution builds from its own content, with a compiler from PyPI: $sdist"
venv source
pip source --only-binary :all: --no-binary diffkeeper "/try/$sdist"
[ -e "$tree"/try/source/lib/python3*/site-packages/diffkeeper/_native.so ] || fail "it was built without the engine"
refused source libbpf

step "pipx run and uvx, from the wheel"
venv tools
pip tools --only-binary :all: pipx uv
in_tree /try/tools/bin/pipx run --spec "/try/$wheel" diffkeeper record -s /try/pipx -- touch /try/work/pipx
in_tree sh -ec "cd /try/work && /try/tools/bin/uvx --from /try/$wheel diffkeeper record -s ../uvx -- touch uvx"
step "done"
