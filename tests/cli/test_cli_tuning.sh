#!/bin/bash
# What is calibrated, and what -v tells. If this failed, every command would start a second later, or users could not see
# which kernel takes the time.
. "$(dirname "$0")/cli_lib.sh"

ok synth --config "$configs/mixed.json" --container m.sluice --trunk q4_k
echo '[1, 2, 3]' >ids.json
run() { "$sluice" logits m.sluice --ids ids.json -o out.safetensors --greedy 2 "$@" >out 2>err; }
run
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }

# On a machine that is too busy to measure everything in time, more than one run.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    tuning=$(echo cache/sluice/tuning-*.txt)
    [ -e "$tuning" ] && break
    run
done
[ -s "$tuning" ] || fail "no calibration was kept"
says() { # says PATTERN OPTIONS...
    local pattern=$1
    shift
    run "$@" || fail "logits $*"
    grep -q "$pattern" err
}
says 'calibration of' -v && fail "calibrated though it was kept"
for kernel in matmul norm_rms moe_route delta_scan copy; do
    grep -q "^  $kernel.* times " err || fail "-v does not tell the GPU time of $kernel"
done
says 'calibration of' -v --recalibrate || fail "--recalibrate does not calibrate"
echo damaged >>"$tuning"
says 'damaged.*calibrating anew' -v || fail "a damaged calibration is not mentioned"
says 'damaged' -v && says 'damaged' -v && fail "the damaged calibration was not replaced"
echo damaged >"$tuning"
says 'damaged' && fail "a damaged calibration is mentioned without -v"
XDG_CACHE_HOME=/dev/null says 'not kept' -v || fail "a cache that cannot be written"
XDG_CACHE_HOME=relative HOME=$work/home says 'calibration of' -v || fail "a cache in the home folder"
[ -e relative/sluice ] && fail "a relative XDG_CACHE_HOME is used"
[ -s home/.cache/sluice/"$(basename "$tuning")" ] || fail "nothing in the home folder"
echo OK
