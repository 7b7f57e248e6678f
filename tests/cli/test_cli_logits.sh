#!/bin/bash
# What the model computes, written to a file as it comes. If this failed, comparisons with a reference would blame the
# model for rows in the wrong place, or a long prompt would take all memory.
. "$(dirname "$0")/cli_lib.sh"

ok synth --config "$configs/mixed.json" --container m.sluice --trunk q4_k
"$sluice" bench m.sluice --prompt 3 --gen 1 >out 2>err
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }
python3 -c 'print([7 * i * i % 300 for i in range(60)])' >ids.json

# Everything at once, and each for itself: the same tensors.
common=(logits m.sluice --ids ids.json --split 23 --ctx 512 --sessions 2 --greedy 5 --slots 16)
ok "${common[@]}" -o all.safetensors --hidden --router --state
for what in hidden router state; do
    ok "${common[@]}" -o $what.safetensors --$what
done
ok "${common[@]}" -o rest.safetensors
python3 - <<'CHECK' || fail "together other than alone"
import json, struct
def load(name):
    data = open(name + ".safetensors", "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + size])
    head.pop("__metadata__")
    assert 8 + size + max(t["data_offsets"][1] for t in head.values()) == len(data)
    return {n: data[8 + size:][slice(*t["data_offsets"])] for n, t in head.items()}
every = load("all")
seen = set()
for name in ("hidden", "router", "state", "rest"):
    for tensor, data in load(name).items():
        assert every[tensor] == data, (name, tensor)
        assert any(data), tensor
        seen.add(tensor)
assert seen == set(every) and len(seen) > 8, seen
CHECK

# Memory does not grow with the prompt: 118 MB of logits more. (A sanitizer keeps what the driver frees.)
export ASAN_OPTIONS="$ASAN_OPTIONS:quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
python3 - "$configs/tiny.json" <<'MAKE'
import json, sys
config = json.load(open(sys.argv[1]))
config["vocab_size"] = 16384
json.dump(config, open("wide.json", "w"))
for name, tokens in ("long", 2400), ("short", 600):
    json.dump([7 * i * i % 16384 for i in range(tokens)], open(name + ".json", "w"))
MAKE
ok synth --config wide.json --container wide.sluice --type bf16
peak() {
    python3 - "$sluice" logits wide.sluice --ids "$1" -o peak.safetensors --ctx 4096 <<'RUN' 2>err
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10 if status == 0 else -1)
RUN
}
peak short.json >out # compiles the kernels
short=$(peak short.json)
long=$(peak long.json)
[ "$short" -gt 0 ] && [ "$long" -gt 0 ] || fail "does not run"
echo "peak: $short MiB for 600 tokens, $long MiB for 2,400"
[ "$long" -lt $((short + 50)) ] || fail "memory grows with the prompt: $short MiB, then $long MiB"
echo OK
