# A Debian tree that has nothing but what is asked for, entered by chroot; sourced by the scripts that try things in it.
#
# Settings, all by environment:
#   BARE_TREE    where the tree is made and kept (default: a temporary directory, removed at the end)
#   BARE_SUITE   bookworm (default), trixie, noble …;   BARE_MIRROR   where debootstrap gets it
#   BARE_SOURCES an apt sources file to carry in;       BARE_CA      a CA bundle to carry in
#   BARE_DEVPTS  no: mount only /proc and /sys
#   PIP_* and proxy variables pass through, and so does an index or a wheel folder only when it is reachable from inside.
checkout=$(cd "$(dirname "$0")/.." && pwd)
ca_inside=/usr/local/share/ca-bundle.pem
settings=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8)

leave_tree() {
    for place in dev/pts sys proc .; do mountpoint -q "$tree/$place" && umount -l "$tree/$place"; done
    [ "${keep:-yes}" = yes ] || rm -rf --one-file-system "$tree"
}

# make_tree PACKAGES PROOF: debootstrap unless the file PROOF is there already.
make_tree() {
    [ "$(id -u)" = 0 ] || { echo "this needs root: debootstrap and chroot do" >&2; exit 1; }
    if [ -n "${BARE_TREE:-}" ]; then tree=$BARE_TREE; else tree=$(mktemp -d) && keep=no; fi
    trap leave_tree EXIT
    [ -e "$tree/$2" ] && return
    debootstrap --variant=minbase --include="$1" "${BARE_SUITE:-bookworm}" "$tree" \
        "${BARE_MIRROR:-http://deb.debian.org/debian}" >"$tree.log" 2>&1 || { tail -20 "$tree.log" >&2; exit 1; }
}

open_tree() {
    # The root of a machine is a mount of its own, whose propagation programs may set; a folder is not.
    mount --bind --make-private "$tree" "$tree"
    mount -t proc proc "$tree/proc"
    mount --rbind --make-rslave /sys "$tree/sys"
    # Tests of what a command sees of its terminal need pseudo-terminals; without, they skip.
    [ "${BARE_DEVPTS:-yes}" = no ] || mount -t devpts -o newinstance,ptmxmode=666 devpts "$tree/dev/pts"
    cp /etc/resolv.conf "$tree/etc/resolv.conf"
    [ -z "${BARE_SOURCES:-}" ] || cp "$BARE_SOURCES" "$tree/etc/apt/sources.list.d/"
    if [ -n "${BARE_CA:-}" ]; then
        # Not below /etc/ssl: apt manages that.
        install -m 644 "$BARE_CA" "$tree$ca_inside"
        settings+=("PIP_CERT=$ca_inside" "SSL_CERT_FILE=$ca_inside")
    fi
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_DEFAULT_TIMEOUT; do
        [ -z "${!name:-}" ] || settings+=("$name=${!name}")
    done
}

# in_tree COMMAND …: run it there, with an environment of its own and nothing to read.
in_tree() {
    chroot "$tree" env -i "${settings[@]}" "$@" </dev/null
}
