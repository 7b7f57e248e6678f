#!/bin/bash
# What AMD's compiler makes of every shader variant, without AMD hardware: Mesa's RADV compiles for a named chip when
# RADV_FORCE_FAMILY is set (its "null winsys"; Mesa 22.3 of Debian 12 and 25.0 of Debian 13 have it, 26 does not).
#
#   tools/offline-compile/run.sh BUILD_DIR
#
# Prints a table for RDNA 2 and RDNA 3. Fails if a variant does not compile, spills registers, uses scratch memory or
# needs more than 32 KiB of shared memory. Exit status 77: no such driver here.
set -euo pipefail

build=${1:?usage: tools/offline-compile/run.sh BUILD_DIR}
program=$build/tools/offline-compile/shader_stats
variants=$build/shaders/spv/variants.txt
for file in "$program" "$variants"; do
    [ -e "$file" ] || {
        echo "offline-compile: there is no $file; build first" >&2
        exit 1
    }
done
driver=$(find /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d -name 'radeon_icd*.json' 2>/dev/null | head -n 1) || true
[ -n "$driver" ] || {
    echo "offline-compile: RADV is not installed" >&2
    exit 77
}

# for_chip NAME ALIAS...: the first of the chip's names that this Mesa knows.
for_chip() {
    local chip status
    for chip; do
        status=0
        echo "== $chip"
        env -u VK_INSTANCE_LAYERS RADV_FORCE_FAMILY="$chip" VK_DRIVER_FILES="$driver" VK_ICD_FILENAMES="$driver" \
            MESA_SHADER_CACHE_DISABLE=true "$program" "$variants" || status=$?
        [ $status -eq 77 ] || break
    done
    return $status
}

failed=0 found=0
for chips in "navi21" "gfx1100 navi31"; do
    status=0
    # shellcheck disable=SC2086 # several names in one word
    for_chip $chips || status=$?
    [ $status -eq 77 ] || found=1
    [ $status -eq 0 ] || [ $status -eq 77 ] || failed=1
done
[ $found -eq 1 ] || exit 77
exit $failed
