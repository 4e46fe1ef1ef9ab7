#!/bin/bash
# Prove make demo and make test in a Debian tree that has nothing but Python, git and make.
#
#   sudo scripts/try_in_bare_debian.sh [TARGET …]        (default: demo test demo test: twice, for the fast second run)
#
# Settings, all by environment:
#   BARE_TREE    where the tree is made and kept (default: a temporary directory, removed at the end)
#   BARE_SUITE   bookworm (default), trixie, noble …;   BARE_MIRROR   where debootstrap gets it
#   BARE_SOURCES an apt sources file to carry in;       BARE_CA      a CA bundle to carry in
#   BARE_DEVPTS  no: mount only /proc and /sys
#   PIP_* and proxy variables pass through, and so does an index or a wheel folder only when it is reachable from inside.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
suite=${BARE_SUITE:-bookworm}
mirror=${BARE_MIRROR:-http://deb.debian.org/debian}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(demo test demo test)
ca_inside=/usr/local/share/ca-bundle.pem

[ "$(id -u)" = 0 ] || { echo "this needs root: debootstrap and chroot do" >&2; exit 1; }
if [ -n "${BARE_TREE:-}" ]; then tree=$BARE_TREE; else tree=$(mktemp -d) && keep=no; fi

leave() {
    for place in dev/pts sys proc .; do mountpoint -q "$tree/$place" && umount -l "$tree/$place"; done
    [ "${keep:-yes}" = yes ] || rm -rf --one-file-system "$tree"
}
trap leave EXIT

if [ ! -e "$tree/usr/bin/make" ]; then
    debootstrap --variant=minbase --include=python3,git,make,ca-certificates "$suite" "$tree" "$mirror" >"$tree.log" 2>&1 ||
        { tail -20 "$tree.log" >&2; exit 1; }
fi
# The root of a machine is a mount of its own, whose propagation programs may set; a folder is not.
mount --bind --make-private "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind --make-rslave /sys "$tree/sys"
# Tests of what a command sees of its terminal need pseudo-terminals; without, they skip.
[ "${BARE_DEVPTS:-yes}" = no ] || mount -t devpts -o newinstance,ptmxmode=666 devpts "$tree/dev/pts"
cp /etc/resolv.conf "$tree/etc/resolv.conf"
[ -z "${BARE_SOURCES:-}" ] || cp "$BARE_SOURCES" "$tree/etc/apt/sources.list.d/"
settings=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8)
if [ -n "${BARE_CA:-}" ]; then
    # Not below /etc/ssl: apt manages that.
    install -m 644 "$BARE_CA" "$tree$ca_inside"
    settings+=("PIP_CERT=$ca_inside" "SSL_CERT_FILE=$ca_inside")
fi
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_DEFAULT_TIMEOUT; do
    [ -z "${!name:-}" ] || settings+=("$name=${!name}")
done

rm -rf "$tree/src"
git clone -q "$checkout" "$tree/src"
for target in "${targets[@]}"; do
    echo "=== make $target"
    start=$(date +%s.%N)
    chroot "$tree" env -i "${settings[@]}" make -C /src "$target" </dev/null
    printf '=== make %s: %.1f s\n' "$target" "$(echo "$(date +%s.%N) - $start" | bc)"
done
