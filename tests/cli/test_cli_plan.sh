#!/bin/bash
# `sluice plan`. If this failed, users would learn only from a failed run what fits their machine.
. "$(dirname "$0")/cli_lib.sh"

ok synth --config "$configs/mixed.json" --container m.sluice --trunk q4_k
"$sluice" plan m.sluice --no-speed >out 2>err
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }

ok plan m.sluice --ctx 300 --slots 7 --sessions 2 --no-speed --expert-pool separate
for item in trunk 'DeltaNet state' 'KV cache' activations 'device slots' 'host slots' transfers 'lists and logits' \
    'program and driver'; do
    grep -q "^  $item  *[0-9.]* [KMG]*i*B  *[0-9.]* %$" out || fail "no line for $item"
done
[ "$(grep -c '^  total ' out)" -eq 2 ] || fail "two totals"
grep -q '^experts 7 of 48 fit on the device' out || fail "slots"
grep -q '^prediction' out && fail "a prediction in spite of --no-speed"
ok plan m.sluice --ctx 300 --slots 7 --no-speed
if grep -q '^  expert pool ' out; then # this driver's device shares main memory
    grep -q '^experts 7 of 48 fit in one pool: device and host share memory' out || fail "one pool"
    grep -q 'host slots' out && fail "host slots beside one pool"
else
    grep -q '^  host slots ' out || fail "neither one pool nor two places"
fi

# A run takes what was planned.
for pool in separate auto; do
    ok plan m.sluice --ctx 300 --slots 7 --json --expert-pool $pool
    cp out plan.json
    ok bench m.sluice --ctx 300 --slots 7 --prompt 50 --gen 2 --json --expert-pool $pool
    python3 - plan.json out <<'CHECK' || fail "the plan is not kept"
import json, sys
plan, run = (json.load(open(f)) for f in sys.argv[1:])
for place in "device_memory", "main_memory":
    assert sum(plan[place]["items"].values()) == plan[place]["total"] and plan[place]["total"] > 0
assert run["peak_device"] == plan["device_memory"]["total"]
assert plan["slots"]["device"] == run["slots"]["device"] == 7 and plan["slots"]["host"] == run["slots"]["host"]
assert plan["slots"]["unified"] == run["slots"]["unified"] == (plan["slots"]["host"] == 0)
assert (plan["prediction"]["device_speed"]["copy_seconds"] == 0) == plan["slots"]["unified"]
assert plan["ctx"] == 300 and plan["sessions"] == 1 and plan["slots"]["experts_total"] == 48
# The prediction follows from what was measured.
pre, dec, drive = (plan["prediction"][k] for k in ("prefill", "decode", "drive"))
assert pre["tokens"] == 300 and abs(pre["seconds"] - max(pre["read_seconds"], pre["compute_seconds"])) < 1e-9
assert abs(pre["tok_s"] * pre["seconds"] / 300 - 1) < 1e-6 and abs(dec["tok_s"] * dec["seconds"] - 1) < 1e-6
assert abs(pre["read_seconds"] * drive["sequential_bytes_s"] / pre["bytes_read"] - 1) < 1e-6
assert abs(dec["hit_device"] - 7 / 48) < 1e-6 and dec["bytes_read_per_token"] > 0
CHECK
done
ok plan m.sluice --ctx 300 --hit-rate 1 --prompt 20
grep -q '^prediction, for routing that hits 100.0 % \(on the device\|in the pool\)' out || fail "--hit-rate"
grep -q '^  prefill of 20 tokens: [0-9.]* tokens/s, ' out || fail "no prefill"
grep -q '^  decode behind 294 tokens: [0-9.]* tokens/s, ' out || fail "no decode at the end of the context"

refused 1 'a prompt of 301 tokens does not fit' plan m.sluice --ctx 300 --prompt 301
refused 2 'no share' plan m.sluice --hit-rate 70
refused 1 'try --vram [0-9.]*[MG]' plan m.sluice --vram 100K
refused 1 'try --ram [0-9.]*M' plan m.sluice --ram 4K --expert-pool separate
refused 1 'add no expert to the pool.*try --ram [0-9.]*M\|too little to stream through' plan m.sluice --ram 4K
ok plan m.sluice --ctx 300 --ram 900T --no-speed # no more than all experts take
refused 2 'none of auto, separate and unified' plan m.sluice --expert-pool both
refused 1 'the model needs at least' plan m.sluice --slots 1
refused 1 'positions' plan m.sluice --ctx 100000000
refused 1 'nowhere' plan nowhere
refused 2 'FILE' plan
echo OK
