#!/bin/bash
# `sluice bench`. If this failed, users could not find out how fast their machine is, and scripts could not compare.
. "$(dirname "$0")/cli_lib.sh"

ok synth --config "$configs/mixed.json" --container m.sluice --trunk q4_k
"$sluice" bench m.sluice --prompt 3 --gen 1 >out 2>err
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }

ok bench m.sluice --prompt 5,40 --gen 3 --repeat 2
grep -q '^prefill  *5  *[0-9.]*  *[0-9.]* ' out || fail "no line for the first prompt"
grep -q '^prefill  *40 ' out || fail "no line for the second prompt"
grep -q '^decode  *3 ' out || fail "no line for the decode"
grep -q '^device ' out || fail "the device is not named"
grep -q 'GPU time' out && fail "GPU times without -v"
ok bench m.sluice --prompt 0 --gen 2 --depth 50
grep -q '^prefill' out && fail "--prompt 0 prefills"
ok bench m.sluice --prompt 8 --gen 0
grep -q '^decode' out && fail "--gen 0 decodes"

# Few slots: experts are read again and again. With -v there may be messages.
"$sluice" bench m.sluice --prompt 20 --gen 4 --depth 6 --slots 4 --json -v >out 2>err || fail "bench --json -v"
python3 - out <<'CHECK' || fail "the JSON is not as promised"
import json, sys
r = json.load(open(sys.argv[1]))
assert r["device"] and r["driver"] and r["peak_rss"] > 0 and r["peak_device"] > 0
assert r["slots"]["device"] == 4 and r["slots"]["experts_total"] == 48
(p,), d = r["prefill"], r["decode"]
assert p["tokens"] == 20 and p["passes"] == 1 and d["tokens"] == d["passes"] == 4 and d["depth"] == 6
for x in p, d:
    assert x["seconds_min"] <= x["seconds"] <= x["seconds_max"] and abs(x["tok_s"] * x["seconds"] - x["tokens"]) < 1e-3
    assert x["experts"]["misses"] > 0 and x["experts"]["bytes_read"] >= 4096 * x["experts"]["misses"]
    assert x["gpu"]["submits"] > 0 and x["gpu"]["dispatches"] >= x["gpu"]["barriers"] / 2
    assert {"name", "seconds", "count"} == set(x["kernels"][0]) and len(x["kernels"]) > 10
assert d["experts"]["hits_device"] + d["experts"]["hits_host"] + d["experts"]["misses"] == 4 * 4 * 2  # 2 layers have experts
CHECK

# Drawn experts: other ones than the router's, the same in every call.
uses() { python3 -c 'import json; r = json.load(open("out")); print(r["routing"], r["decode"]["experts"])'; }
for routing in model uniform recorded; do
    ok bench m.sluice --prompt 0 --gen 40 --slots 4 --routing $routing --json
    uses >>uses
    grep -q "^$routing " uses || fail "the routing is not named"
done
ok bench m.sluice --prompt 0 --gen 40 --slots 4 --routing recorded --json
uses >>uses
[ "$(sort -u uses | wc -l)" -eq 3 ] || fail "kinds of routing differ not as they should: $(cat uses)"
refused 1 'uniform' bench m.sluice --routing zipf

refused 1 'nowhere' bench nowhere
refused 2 'nothing to measure' bench m.sluice --prompt 0 --gen 0
refused 2 'no list' bench m.sluice --prompt 5,,6
refused 2 'no list' bench m.sluice --prompt 5,0
refused 2 'no list' bench m.sluice --prompt x
refused 2 'no number of tokens' bench m.sluice --gen -1
refused 2 'at most 1000' bench m.sluice --repeat 1001
echo OK
