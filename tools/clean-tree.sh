#!/bin/bash
# Proves the README's two commands in a fresh Debian 12: a minimal system, only the repository's files, nothing installed by hand.
#
#   tools/clean-tree.sh DIR              runs tools/demo/run.sh, then tools/test.sh
#   tools/clean-tree.sh DIR --prepare    only makes the tree and downloads the packages
#   tools/clean-tree.sh DIR --working    copies untracked files as well as the tracked ones
#   tools/clean-tree.sh DIR -- COMMAND   runs that command in the copy instead
#
# Needs root and debootstrap; the network is reached through this machine's own apt configuration, which is copied into the tree
# when it is made. DIR/base is kept as debootstrap left it (plus downloaded, not installed, packages); every run starts from a
# copy of it, DIR/run. The mounts live in a namespace of their own and vanish with this script.
set -euo pipefail

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

dir=${1-}
[ -n "$dir" ] || usage
shift
prepare_only='' files=(--cached) command=()
while [ $# -gt 0 ]; do
    case $1 in
    --prepare) prepare_only=1 ;;
    --working) files+=(--others --exclude-standard) ;;
    --)
        shift
        command=("$@")
        break
        ;;
    *) usage ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || {
    echo "clean-tree.sh: debootstrap and chroot need root" >&2
    exit 1
}
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# The mount namespace: this script again, inside it.
if [ -z "${CLEAN_TREE_INSIDE-}" ]; then
    args=()
    [ -z "$prepare_only" ] || args+=(--prepare)
    [ ${#files[@]} -eq 1 ] || args+=(--working)
    [ ${#command[@]} -eq 0 ] || args+=(-- "${command[@]}")
    CLEAN_TREE_INSIDE=1 exec unshare --mount --propagation private "$0" "$dir" "${args[@]}"
fi

# in_tree TREE COMMAND...: chroot with the kernel's file systems and as little of our environment as possible.
in_tree() {
    local tree=$1 mount
    shift
    for mount in proc dev sys; do
        mountpoint -q "$tree/$mount" || mount --bind "/$mount" "$tree/$mount"
    done
    cp /etc/resolv.conf "$tree/etc/resolv.conf"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM-dumb}" LANG=C.UTF-8 CI="${CI-true}" \
        ${http_proxy+http_proxy="$http_proxy"} ${https_proxy+https_proxy="$https_proxy"} \
        chroot "$tree" "$@"
}

make_base() {
    local mirror
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?([ ]|$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | tr -d ' ') || true
    echo "clean-tree: debootstrap bookworm into $dir/base"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$dir/base.new" ${mirror:+"$mirror"} >"$dir/debootstrap.log" ||
        { tail -n 5 "$dir/debootstrap.log" >&2; exit 1; }
    mv "$dir/base.new" "$dir/base"
}

copy_apt_configuration() {
    local file
    for file in /etc/apt/apt.conf.d/*; do
        # Docker images delete what apt downloads; here the downloads are to be kept.
        case $file in */docker-*) ;; *) cp "$file" "$dir/base/etc/apt/apt.conf.d/" ;; esac
    done
    if grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release; then
        rm -f "$dir/base/etc/apt/sources.list"
        cp /etc/apt/sources.list "$dir/base/etc/apt/" 2>/dev/null || true
        cp /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list "$dir/base/etc/apt/sources.list.d/" 2>/dev/null || true
    fi
}

download_packages() {
    local packages
    mapfile -t packages < <("$top/tools/setup-debian.sh" --list)
    in_tree "$dir/base" apt-get update -qq
    in_tree "$dir/base" apt-get install -y -qq --download-only --no-install-recommends "${packages[@]}" >/dev/null
    echo "clean-tree: $(find "$dir/base/var/cache/apt/archives" -name '*.deb' | wc -l) packages downloaded, none installed"
}

fresh_copy() {
    rm -rf --one-file-system "$dir/run"
    mkdir "$dir/run"
    tar --one-file-system -C "$dir/base" -cf - . | tar -C "$dir/run" -xpf -
    mkdir "$dir/run/root/sluice"
    git -C "$top" ls-files -z "${files[@]}" | tar -C "$top" --null -T - --ignore-failed-read -cf - | tar -C "$dir/run/root/sluice" -xf -
    echo "clean-tree: $(git -C "$top" ls-files "${files[@]}" | wc -l) files copied to $dir/run/root/sluice"
}

# step NAME COMMAND...: runs it in the copy and says how long it took.
step() {
    local name=$1 start=$SECONDS status=0
    shift
    echo "clean-tree: $name"
    # shellcheck disable=SC2016 # expands inside
    in_tree "$dir/run" bash -c 'cd /root/sluice && exec "$@"' bash "$@" || status=$?
    echo "clean-tree: $name: exit status $status after $((SECONDS - start)) s"
    return "$status"
}

[ -e "$dir/base/etc/debian_version" ] || make_base
copy_apt_configuration
download_packages
[ -z "$prepare_only" ] || exit 0
fresh_copy
if [ ${#command[@]} -gt 0 ]; then
    step "${command[*]}" "${command[@]}"
else
    step "tools/demo/run.sh" tools/demo/run.sh
    step "tools/test.sh" tools/test.sh
    echo "clean-tree: both commands succeeded in a fresh Debian $(cat "$dir/base/etc/debian_version")"
fi
