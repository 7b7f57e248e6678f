#!/bin/bash
# Synthetic containers from the command line. If this failed, nobody could measure the program without 160 GB of weights.
. "$(dirname "$0")/cli_lib.sh"

for config in tiny mixed tied; do
    for type in q4_k q5_k q6_k q8_0 bf16; do
        ok synth --config "$configs/$config.json" --container $config-$type.sluice --type $type --seed 3
        ok verify $config-$type.sluice
        ok inspect --json $config-$type.sluice
        grep -q '"seed": 3' out || fail "the container does not say how it was made"
    done
done
ok synth --config "$configs/tiny.json" --container again.sluice --seed 3 --threads 1
cmp again.sluice tiny-q4_k.sluice || fail "the same seed, another container"
ok synth --config "$configs/tiny.json" --container other.sluice --seed 4
cmp -s other.sluice tiny-q4_k.sluice && fail "another seed, the same container"

# The trunk's format is q8_0 unless asked otherwise; slices have fewer layers, as containers and as checkpoints.
ok inspect -v mixed-q4_k.sluice
grep -q '^lm_head.weight  *q8_0' out || fail "the trunk is not q8_0"
ok synth --config "$configs/mixed.json" --container slice.sluice --trunk q4_k --layers 2
ok inspect -v slice.sluice
grep -q '^lm_head.weight  *q4_k' out || fail "--trunk has no effect"
grep -q '^model  *2 layers' out || fail "--layers has no effect"
ok synth --config "$configs/mixed.json" --layers 2 -o slice
ok convert slice -o slice-converted.sluice
ok inspect slice-converted.sluice
grep -q '^model  *2 layers' out || fail "--layers has no effect on a checkpoint"

# What is there is not overwritten by accident.
refused 1 'exists already' synth --config "$configs/tiny.json" --container again.sluice
ok synth --config "$configs/tiny.json" --container again.sluice --seed 4 --force
cmp again.sluice other.sluice || fail "--force"

refused 1 'again.sluice is no folder' synth --config "$configs/tiny.json" -o again.sluice --force
refused 1 'again.sluice/x: cannot create.*Not a directory' synth --config "$configs/tiny.json" --container again.sluice/x
refused 1 'the name of the folder' synth --config "$configs/tiny.json" -o ''
cmp again.sluice other.sluice || fail "a refused command touched a file"
refused 1 'a slice of 5 layers: the model has 4' synth --config "$configs/tiny.json" --container x.sluice --layers 5
refused 1 'qwen3-next-80b' synth --shape nonsense --container x.sluice
refused 2 'no number format' synth --config "$configs/tiny.json" --container x.sluice --type q3_k
refused 1 'no/such' synth --config "$configs/tiny.json" --container no/such/x.sluice
refused 2 'either --config' synth --container x.sluice
refused 2 'either --config' synth --config "$configs/tiny.json" --shape qwen3-next-80b --container x.sluice
refused 2 'either -o' synth --config "$configs/tiny.json"
refused 2 'either -o' synth --config "$configs/tiny.json" -o x --container x.sluice
refused 2 'always bf16' synth --config "$configs/tiny.json" -o x --type q4_k
refused 2 'one file' synth --config "$configs/tiny.json" --container x.sluice --shard-gb 1
[ -e x.sluice ] || [ -e x ] && fail "a refused command wrote something"

# Ctrl-C: a clean end with a hint, and the same command goes on. --shape is large enough to be caught in the middle, and
# its 2 GiB are only reserved, hardly written.
room=$(df --output=avail -B1 . | tail -1)
if [ "$room" -gt $((4 << 30)) ]; then
    "$sluice" synth --shape qwen3-next-80b --layers 1 --container shape.sluice >out 2>err &
    pid=$!
    while [ ! -e shape.sluice.part ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
    kill -TERM $pid
    wait $pid
    [ $? -eq 130 ] || fail "not interrupted"
    grep -q 'goes on where it stopped' err || fail "no hint that it can be resumed"
    [ -e shape.sluice ] && fail "stopped, but there is a file"
    rm -f shape.sluice.part*
fi
echo OK
