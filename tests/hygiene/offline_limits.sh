#!/bin/bash
# Proves that the offline compiler check can fail: limit_breaker.comp passes in its harmless variant and is caught, for the
# right reason, in the two that use too much shared memory and scratch memory.
#   offline_limits.sh SHADER_STATS WORK_DIR
set -euo pipefail
program=$1 list=$2/limit_breaker.txt log=$2/limit_breaker.log

driver=$(find /usr/share/vulkan/icd.d -name 'radeon_icd*.json' | head -n 1)
[ -n "$driver" ] || exit 77

# expect STATUS TEXT CONSTANTS...
expect() {
    local want=$1 text=$2 status=0
    shift 2
    echo "limit_breaker limit_breaker.spv $*" >"$list"
    RADV_FORCE_FAMILY=navi21 VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver MESA_SHADER_CACHE_DISABLE=true \
        "$program" "$list" >"$log" 2>&1 || status=$?
    cat "$log"
    [ $status -ne 77 ] || exit 77
    if [ $status -ne "$want" ] || ! grep -q "$text" "$log"; then
        echo "expected exit status $want (got $status) and the words: $text"
        exit 1
    fi
}

expect 0 "1 variants, 0 bad" 0=64 1=4
expect 1 "more than 32 KiB" 0=12288 1=4
expect 1 "uses scratch" 0=64 1=2048
