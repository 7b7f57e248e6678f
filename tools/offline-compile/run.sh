#!/bin/bash
# What the shader compilers of real graphics cards make of every kernel, without a card: instructions, registers, spills,
# shared memory, occupancy, instructions per weight. README.md explains the columns and has the latest figures.
#
#   tools/offline-compile/run.sh BUILD_DIR [--sid TREE] [--list FILE] [--update-ceilings] [TARGET...]
#
# Targets, by default all that are possible:
#   rdna2 rdna3              the system's Mesa (RADV)
#   rdna4                    the system's Mesa if it knows the chip, else Mesa of Debian 12's backports, downloaded once into
#                            BUILD_DIR/offline/backports
#   sid-rdna2 sid-rdna3 sid-rdna4 sid-a770 sid-b580 sid-ampere sid-ada sid-blackwell
#                            with --sid: a Debian sid tree (debootstrap) with mesa-vulkan-drivers and mesa-drm-shim
#
# Fails if a variant does not compile, spills registers, uses scratch memory, needs more than 32 KiB of shared memory or
# goes over its ceiling in ceilings.txt. --update-ceilings writes that file anew instead, for the targets that ran.
# --list takes another list of variants than the build's (see shader_stats.c) and compares with no ceilings.
# Exit status 77: there is no driver here that can do this. A target that cannot run is named at the end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    sed -n '2,18s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

[ $# -ge 1 ] && [ -d "$1" ] || usage
build=$(cd "$1" && pwd)
shift
sid='' list=$build/shaders/spv/variants.txt report=(--ceilings "$here/ceilings.txt") targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --sid) sid=$(cd "$2" && pwd) && shift ;;
    --list) list=$(realpath "$2") report=() && shift ;;
    --update-ceilings) report+=(--update) ;;
    -*) usage ;;
    *) targets+=("$1") ;;
    esac
    shift
done
if [ ${#targets[@]} -eq 0 ]; then
    targets=(rdna2 rdna3 rdna4)
    [ -z "$sid" ] || targets+=(sid-rdna2 sid-rdna3 sid-rdna4 sid-a770 sid-b580 sid-ampere sid-ada sid-blackwell)
fi

program=$build/tools/offline-compile/shader_stats
for file in "$program" "$list"; do
    [ -e "$file" ] || {
        echo "offline-compile: there is no $file; build first" >&2
        exit 1
    }
done
out=$build/offline
mkdir -p "$out"
# shellcheck source=tools/offline-compile/drivers.sh
. "$here/drivers.sh"

# ---- all of it

compile_target() {
    local target=$1 status=0
    rm -rf "$out/$target" "$out/$target.tsv"
    mkdir -p "$out/$target"
    (
        cd "$out/$target"
        on_target "$target" "$program" "$list" "$out/$target" >"$out/$target.tsv" 2>"$out/$target.log"
    ) || status=$?
    [ $status -lt 2 ] || ! is_unknown "$target" $status || status=77
    echo $status >"$out/$target.status"
}

unset VK_INSTANCE_LAYERS # a validation layer would slow this down by far
export MESA_SHADER_CACHE_DISABLE=true
# Two at a time: CI's machines have two processors.
running=0
for target in "${targets[@]}"; do
    compile_target "$target" &
    running=$((running + 1))
    [ $running -lt 2 ] || {
        wait -n
        running=$((running - 1))
    }
done
wait

failed=0 done_targets=() missing=()
for target in "${targets[@]}"; do
    case $(cat "$out/$target.status") in
    0 | 1) done_targets+=("$target") ;;
    77) missing+=("$target") ;;
    *) failed=1 done_targets+=("$target") ;;
    esac
    [ "$(cat "$out/$target.status")" -eq 0 ] || sed "s/^/$target: /" "$out/$target.log" >&2
done
[ ${#done_targets[@]} -eq 0 ] ||
    python3 "$here/report.py" --sources "$here/../.." "${report[@]}" "$out" "${done_targets[@]}" || failed=1
[ ${#missing[@]} -eq 0 ] || echo "offline-compile: NOT RUN, no driver for it here: ${missing[*]}"
[ ${#done_targets[@]} -gt 0 ] || [ $failed -eq 1 ] || exit 77
exit $failed
