#!/bin/bash
# `sluice divergence`. If this failed, users could not tell what a number format costs them, or 8-bit activations would
# cost more than a thousandth of a nat unnoticed.
. "$(dirname "$0")/cli_lib.sh"

demo="$(dirname "$0")/../../tools/demo"
ok convert "$demo" --type q4_k -o demo.sluice
head -c 900 "$demo/documents/01k-1.txt" >text
"$sluice" divergence demo.sluice --text text >out 2>err
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }

# The reference against itself.
ok divergence demo.sluice --text text --activations f32 --kv f32 --greedy 5 --json
python3 - out <<'CHECK' || fail "a model differs from itself"
import json, sys
r = json.load(open(sys.argv[1]))
assert r["tokens"] > 150 and r["kl"]["worst"] == 0 and r["same_top"] == 1 and r["perplexity"] == r["reference_perplexity"]
assert r["same_experts"] == 1
assert r["continuation"] == {"tokens": 5, "same": 5}
CHECK

# 8-bit activations and an f16 cache, the default, on text that the model knows; and on random weights.
ok divergence demo.sluice --text text --json
mv out demo.json
ok divergence demo.sluice --text text --last 10
grep -q '^tokens  *10$' out || fail "--last is not obeyed"
ok synth --config "$configs/mixed.json" --seed 3 -o random
ok convert random --type q4_k -o random.sluice
python3 -c 'print([(7 * i * i + 3 * i) % 300 for i in range(150)])' >ids
ok divergence random.sluice --ids ids --json
mv out random.json
python3 - demo.json random.json <<'CHECK' || fail "8-bit activations cost more than 1e-3 nats"
import json, sys
for name in sys.argv[1:]:
    r = json.load(open(name))
    assert 0.5 < r["same_experts"] <= 1 and 0 < r["kl"]["mean_same_experts"] <= r["kl"]["worst"], (name, r)
    assert 0 < r["kl"]["median"] <= r["kl"]["mean"] <= 1e-3 and r["kl"]["p99"] <= r["kl"]["worst"], (name, r)
CHECK

refused 2 'one of' divergence demo.sluice
refused 2 'one of' divergence demo.sluice --ids ids --text text
refused 1 'vocabulary' divergence random.sluice demo.sluice --ids ids
refused 1 'nowhere' divergence nowhere --ids ids
echo '["x"]' >bad
refused 1 'not a token id' divergence demo.sluice --ids bad
: >empty
refused 1 'empty' divergence demo.sluice --text empty
echo OK
