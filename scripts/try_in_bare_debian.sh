#!/bin/bash
# Prove make demo and make test in a Debian tree that has nothing but Python, git and make.
#
#   sudo scripts/try_in_bare_debian.sh [TARGET …]        (default: demo test demo test: twice, for the fast second run)
#
# Settings: bare_debian.sh has them.
set -euo pipefail
. "$(dirname "$0")/bare_debian.sh"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(demo test demo test)

make_tree python3,git,make,ca-certificates usr/bin/make
open_tree
rm -rf "$tree/src"
git clone -q "$checkout" "$tree/src"
for target in "${targets[@]}"; do
    echo "=== make $target"
    start=$(date +%s.%N)
    in_tree make -C /src "$target"
    printf '=== make %s: %.1f s\n' "$target" "$(echo "$(date +%s.%N) - $start" | bc)"
done
