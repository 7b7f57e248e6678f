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
ok bench m.sluice --prompt 8 --gen 0 --kv q8
grep -q '^decode' out && fail "--gen 0 decodes"

# Few slots: experts are read again and again. With -v there may be messages.
"$sluice" bench m.sluice --prompt 20 --gen 4 --depth 6 --slots 4 --json -v >out 2>err || fail "bench --json -v"
python3 - out <<'CHECK' || fail "the JSON is not as promised"
import json, sys
r = json.load(open(sys.argv[1]))
assert r["device"] and r["driver"] and r["peak_rss"] > 0 and r["peak_device"] > 0
assert r["slots"]["device"] == 4 and r["slots"]["experts_total"] == 48
(p,), d = r["prefill"], r["decode"]
assert p["tokens"] == 20 and p["passes"] == 1 and d["tokens"] == d["passes"] == 4 and p["depth"] == d["depth"] == 6 and d["kv_bytes"] > 0
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
refused 2 'none of model, uniform and recorded' bench m.sluice --routing zipf

# What the table, JSON and CSV say about the drive, the cache and the host.
ok bench m.sluice --prompt 20 --gen 4 --slots 4 --sessions 3 --csv rows.csv --json
python3 - out rows.csv <<'CHECK' || fail "the measures are not as promised"
import csv, json, sys
r, rows = json.load(open(sys.argv[1])), list(csv.DictReader(open(sys.argv[2])))
assert r["direct_read_bytes_s"] > 0 and r["direct_read"]["depth"] == 32 and r["direct_read"]["random"]["after"] > 0
(p,), d = r["prefill"], r["decode"]
assert d["tokens"] == 12 and d["passes"] == 4 and d["sessions"] == 3 and p["sessions"] == 1
assert 0 < p["experts_used"] <= 48 and d["experts_used"] == sum(d["experts"][k] for k in ("hits_device", "hits_host", "misses"))
assert 4 * 2 * 4 <= d["experts_used"] <= 3 * 4 * 2 * 4  # sessions share experts
# A prompt reads an expert it uses at most once.
assert p["expert_bytes_read"] <= p["experts_used"] * p["expert_bytes_each"] and p["expert_bytes_read"] % 4096 == 0
for x, row in (p, rows[0]), (d, rows[1]):
    uses = sum(x["experts"][k] for k in ("hits_device", "hits_host", "misses"))
    assert abs(x["hit_device"] - x["experts"]["hits_device"] / uses) < 1e-6
    assert abs(x["hit_host"] - x["experts"]["hits_host"] / uses) < 1e-6
    assert 0 <= x["wait_drive"] <= 1 and 0 < x["wait_gpu"] <= 1 and x["drive_bytes_s"] > 0 and x["direct_read_bytes_s"] > 0
    assert abs(x["wait_gpu"] * x["seconds"] - x["wait_gpu_seconds"]) < 1e-6
    assert 0 < x["host_cpu_per_token"] * x["tokens"] <= x["cpu_seconds"] + 0.01
    parts = x["host_cpu_parts"]
    assert all(parts[k] > 0 for k in ("recording", "reading")) and all(t >= 0 for t in parts.values()) and len(parts) == 4
    assert abs(sum(parts.values()) - x["host_cpu_per_token"]) < 1e-6
    assert abs(float(row["host_cpu_recording"]) - parts["recording"]) < 1e-5
    assert 0 < x["wait_cpu_per_token"] and abs(float(row["wait_cpu_per_token"]) - x["wait_cpu_per_token"]) < 1e-5
    assert abs(x["submits_per_token"] * x["tokens"] - x["gpu"]["submits"]) < 1e-3
    assert int(row["tokens"]) == x["tokens"] and int(row["expert_bytes_read"]) == x["expert_bytes_read"]
    assert int(row["experts_used"]) == x["experts_used"] and int(row["peak_rss"]) == r["peak_rss"]
    assert abs(float(row["tok_s"]) / x["tok_s"] - 1) < 1e-3
assert [x["phase"] for x in rows] == ["prefill", "decode"]
CHECK
grep -q '^direct ' out && fail "a table in the JSON"
refused 2 'none of once and always' bench m.sluice --prompt 8 --gen 2 --verify never
ok bench m.sluice --prompt 8 --gen 2 --io pread --verify always
grep -q '^direct  reads in file order, 32 at once: [0-9.]* GB/s before, ' out || fail "no direct reads"
[ "$(grep -c '^host  *CPU of .*: recording [0-9.]*, .* checksums [0-9.]*; besides, waiting [0-9.]*$' out)" -eq 2 ] || fail "no parts of the host's time"
[ "$(grep -c '^prefill ' out)" -eq 2 ] || fail "the measures of the prefill are missing"

# Without computing the same experts are read, and the report says so.
for only in '' --io-only; do
    ok bench m.sluice --prompt 60 --gen 3 --slots 6 --routing uniform --json $only
    python3 -c 'import json; r = json.load(open("out")); p, d = r["prefill"][0], r["decode"]
print([x[k] for x in (p, d) for k in ("expert_bytes_read", "experts_used", "hit_device")])' >>only
done
[ "$(uniq only | wc -l)" -eq 1 ] || fail "--io-only reads something else: $(cat only)"
ok bench m.sluice --prompt 60 --gen 0 --slots 6 --io-only
grep -q '^reads .*nothing is computed' out || fail "--io-only does not say so"

refused 1 'nowhere/rows: cannot create' bench m.sluice --prompt 3 --gen 0 --csv nowhere/rows
refused 2 'at most 8' bench m.sluice --sessions 9
refused 1 'nowhere' bench nowhere
refused 2 'nothing to measure' bench m.sluice --prompt 0 --gen 0
refused 2 'no list' bench m.sluice --prompt 5,,6
refused 2 'no list' bench m.sluice --prompt 5,0
refused 2 'no list' bench m.sluice --prompt x
refused 2 'no number of tokens' bench m.sluice --gen -1
refused 2 'at most 1000' bench m.sluice --repeat 1001
echo OK
