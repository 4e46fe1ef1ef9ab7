#!/bin/sh
# Record three states of a file and restore the first two: the whole loop, through the command line only.
# Wants diffkeeper on the PATH, and what eBPF needs.
set -eu
script=$(cd "$(dirname "$0")" && pwd)/three_states.sh
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

expect() {
    diffkeeper export --state-dir=trace --out="$place/at-$1" --time="$1" >&2
    found=$(cat "at-$1/status.txt")
    [ "$found" = "$2" ] || { echo "at $1 status.txt should hold $2, and holds $found" >&2; exit 1; }
    echo "at $1: $found"
}

diffkeeper record --state-dir=trace -- sh "$script"
diffkeeper timeline --state-dir=trace
expect 500ms STATE_1
expect 1500ms STATE_2
