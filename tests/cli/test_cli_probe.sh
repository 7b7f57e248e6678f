#!/bin/bash
# `sluice probe` and --compare. If this failed, nobody could tell whether a change of a kernel or of a driver helped.
. "$(dirname "$0")/cli_lib.sh"

"$sluice" probe --only 'norm_rms x1' --json >before.json 2>err
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }
grep -v '^sluice: note: ' err && fail "probe --json says something on stderr"

ok probe --only '*ut q?_k x1' --compare before.json
grep -q '^device  *[^ ]' out || fail "the device is not named"
for line in read int-dot 'f32 fma' 'round trip' dispatch; do
    grep -q "^$line .*[0-9.]* " out || fail "no roof of $line"
done
grep -q '^out q4_k x1  *[0-9.]*  *[0-9.]* .*% *\(read\|dot\|fma\) ' out || fail "no line for the kernel"
[ "$(grep -c '^out q._k x1 ' out)" -eq 3 ] || fail "--only with a pattern"
grep -q '^norm_rms' out && fail "--only does not select"
grep -q '^roof read_bytes_s .*G/s ' out || fail "the roofs are not compared"

"$sluice" probe --only 'norm_rms x1' --json --save saved.json --compare before.json >now.json 2>compared || fail "probe --json --compare"
grep -q '^norm_rms x1  *[0-9.]*  *[0-9.]* us  *[0-9.]*$' compared || fail "the kernels are not compared: $(cat compared)"
cmp <(tr -d '\n' <now.json) <(tr -d '\n' <saved.json) || fail "--save writes something else"
python3 - before.json now.json <<'CHECK' || fail "the JSON is not as promised"
import json, sys
for path in sys.argv[1:]:
    r = json.load(open(path))
    assert r["device"] and r["driver"] and r["basis"]
    roof = r["roof"]
    assert all(roof[k] > 1e6 for k in ("read_bytes_s", "dot_ops_s", "fma_ops_s", "host_read_bytes_s"))
    assert all(0 <= roof[k] < 1 for k in ("round_trip_s", "record_s", "dispatch_s", "dependent_s"))
    assert all("norm_rms x1" in k["name"] for k in r["kernels"]) and len(r["kernels"]) == 1
    (k,) = r["kernels"]
    assert 0 < k["seconds"] and 0 < k["wall_seconds"] and abs(k["bytes_s"] * k["seconds"] / k["bytes"] - 1) < 1e-6
    limits = {"read": k["bytes_s"] / roof["read_bytes_s"], "fma": k["ops_s"] / roof["fma_ops_s"]}
    assert abs(k["share"] - max(limits.values())) < 1e-6 and k["share"] == k["share"] and k["bound"] in limits
CHECK

# The reports of `sluice bench` can be compared, too.
ok synth --config "$configs/mixed.json" --container m.sluice --trunk q4_k
ok bench m.sluice --prompt 5 --gen 2 --json
cp out bench.json
ok bench m.sluice --prompt 5,9 --gen 2 --compare bench.json
grep -q '^prefill 5 at 0  *[0-9.]*  *[0-9.]* tok/s  *[0-9.]*$' out || fail "prefills are not compared"
grep -q '^prefill 9 .*tok/s' out && fail "compared with what was not measured"
grep -q '^decode 2 at 0 .*tok/s' out || fail "decode is not compared"

refused 1 'nowhere' probe --compare nowhere
echo '{}' >empty.json
refused 1 'no report' bench m.sluice --compare empty.json
echo '{' >broken.json
refused 1 'broken.json: line' probe --compare broken.json
refused 1 'no row of the table' probe --only nonesuch
refused 1 'in common' bench m.sluice --prompt 9 --gen 0 --compare before.json
refused 2 'unexpected argument' probe extra
echo OK
