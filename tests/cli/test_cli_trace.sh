#!/bin/bash
# `--trace` of bench, run and summarize, and offload_sim. If this failed, nobody could tell how much memory a model is worth.
#   offload_sim lies beside the program, in the same folder.
. "$(dirname "$0")/cli_lib.sh"
sim=$(dirname "$sluice")/offload_sim

ok synth --config "$configs/mixed.json" --container m.sluice --trunk q4_k
"$sluice" bench m.sluice --prompt 3 --gen 1 >out 2>err
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }

simulate() {
    "$sim" "$@" >sim 2>err || fail "offload_sim $* ended with $?"
    [ -s err ] && fail "offload_sim $*: unexpected message"
    return 0
}

# What the engine measures is what the simulator says. With a RAM tier of this size what is kept of the prompt counts, which
# is not simulated.
for places in 'separate 0' 'separate 2M' 'unified 0' 'unified 120K'; do
    read -r pool ram <<<"$places"
    for routing in model recorded; do
        options=(--slots 12 --routing $routing --trace trace --json --expert-pool $pool)
        [ $ram = 0 ] || options+=(--ram $ram)
        ok bench m.sluice --prompt 0 --gen 200 "${options[@]}"
        sim_options=(--slots 12 --ram $ram --csv)
        [ $pool = unified ] && sim_options+=(--unified)
        simulate trace "${sim_options[@]}"
        python3 - out sim <<'CHECK' || fail "engine and simulator differ: $places of RAM, $routing"
import csv, json, sys
bench = json.load(open(sys.argv[1]))
rows = list(csv.DictReader(open(sys.argv[2])))
used, slots = bench["decode"]["experts"], bench["slots"]
uses = used["hits_device"] + used["hits_host"] + used["misses"]
engine = rows[-1]
assert engine["policy"] == "engine" and int(engine["device_slots"]) == 12
if slots["unified"]:
    assert slots["device"] == 12 + int(engine["ram_slots"]) and slots["host"] == 0
else:
    assert slots["device"] == 12 and int(engine["ram_slots"]) in (0, slots["host"])
assert int(engine["uses"]) == uses == 200 * 4 * 2, (engine["uses"], uses)
limit = 0.06 if slots["host"] == int(engine["ram_slots"]) else 0.04
assert abs(float(engine["hit_device"]) - used["hits_device"] / uses) < limit, (engine, used)
assert abs(float(engine["miss"]) - used["misses"] / uses) < limit, (engine, used)
assert float(engine["bytes_per_step"]) > 0
hits = {r["policy"]: float(r["hit_device"]) for r in rows if r["ram_slots"] == "0"}
assert hits["optimum"] >= max(hits.values())
CHECK
    done
done

simulate trace --slots 25%,48,100% --ram 10%,8,256K
grep -q '^optimum  *48 ' sim || fail "no line for all slots"
[ "$(grep -c '^engine' sim)" -eq 12 ] || fail "not one line per combination"
simulate --help
grep -q '^usage: offload_sim TRACE' sim || fail "help is not about offload_sim"

wrong() {
    local wanted=$1 pattern=$2 status
    shift 2
    "$sim" "$@" >out 2>err
    status=$?
    [ $status -eq "$wanted" ] || fail "offload_sim $* ended with $status instead of $wanted"
    grep -q -- "$pattern" err || fail "offload_sim $*: message does not match: $pattern"
}
wrong 1 nowhere nowhere
wrong 1 'not a trace' m.sluice
wrong 2 'no list' trace --slots 12,,13
wrong 2 'no list' trace --slots -3
wrong 2 'no list' trace --slots 120%
wrong 2 'no list' trace --ram 3X
wrong 1 'less than one' trace --slots 0
wrong 2 'expected' --csv
ok bench m.sluice --prompt 4 --gen 0 --trace empty
wrong 1 'nothing was decoded' empty
refused 1 'nowhere/trace' bench m.sluice --prompt 0 --gen 1 --trace nowhere/trace
# The same from `run` and `summarize`: a prompt, and a step for each further token of the answer.
demo="$(dirname "$0")/../../tools/demo"
ok convert "$demo" --type q4_k -o demo.sluice
head -c 900 "$demo/documents/01k-1.txt" >text
ok summarize demo.sluice text --max-tokens 30 --slots 12 --expert-pool separate --json --trace trace
simulate trace --slots 12 --csv
python3 - out sim <<'CHECK' || fail "what summarize recorded is not what it used"
import csv, json, sys
answer = json.load(open(sys.argv[1]))
rows = list(csv.DictReader(open(sys.argv[2])))
steps = len(answer["ids"]) - (answer["finish_reason"] == "length")
assert steps > 5 and {int(r["uses"]) for r in rows} == {steps * 4 * 2}, (steps, rows)
CHECK
ok run demo.sluice -p 'Who?' --max-tokens 3 --trace trace
simulate trace --slots 12 --csv
grep -q ',16,' sim || fail "run did not record two steps of 4 layers with 2 experts: $(cat sim)"
refused 1 'nowhere/trace' run demo.sluice -p 'Who?' --trace nowhere/trace
[ -w /dev/full ] && refused 1 '/dev/full' run demo.sluice -p 'Who?' --max-tokens 3 --trace /dev/full
[ -w /dev/full ] && refused 1 '/dev/full' bench m.sluice --prompt 0 --gen 1 --trace /dev/full
echo OK
