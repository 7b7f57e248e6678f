#!/bin/bash
# The way from a checkpoint to a checked container. If this failed, users could not prepare a model.
. "$(dirname "$0")/cli_lib.sh"

first_tensor_offset() { # of a container: where its texts end
    "$sluice" inspect --json "$1" | awk -F'[:,]' '/"file_offset"/ {print $2 + 0; exit}'
}

# same_weights A B: equal from the first tensor on (the texts before it name the weight files).
same_weights() {
    cmp <(tail -c +$(($(first_tensor_offset "$1") + 1)) "$1") <(tail -c +$(($(first_tensor_offset "$2") + 1)) "$2") ||
        fail "$1 and $2 have different weights"
}

for config in tiny mixed tied; do
    ok synth --config "$configs/$config.json" -o $config --seed 7
    cmp "$configs/$config.json" $config/config.json || fail "config.json was changed"
    ok synth --config "$configs/$config.json" -o $config-shards --seed 7 --shard-gb 0.001 --threads 1
    [ -e $config-shards/model.safetensors.index.json ] || fail "no index"
    for type in q4_k bf16; do
        ok convert $config -o $config-$type.sluice --type $type --instruction 'what was "asked"'
        ok convert $config-shards -o $config-$type-shards.sluice --type $type --threads 3
        same_weights $config-$type.sluice $config-$type-shards.sluice
        ok verify $config-$type.sluice
        ok inspect -v $config-$type.sluice
        grep -q 'what was \\"asked\\"' out || fail "inspect does not show the instruction"
        grep -q '^model.norm.weight  *f32' out || fail "inspect -v does not list tensors"
        ok inspect --json $config-$type.sluice
        grep -q '"fingerprint": "[0-9a-f]\{32\}"' out || fail "inspect --json"
    done
done
[ "$(ls mixed-shards/*.safetensors | wc -l)" -gt 3 ] || fail "too few shards"

# Other seeds are other models; the same seed is the same model.
ok synth --config "$configs/tiny.json" -o tiny-again --seed 7 --threads 1
cmp tiny/model.safetensors tiny-again/model.safetensors || fail "the same seed, another checkpoint"
ok synth --config "$configs/tiny.json" -o tiny-other --seed 8
cmp -s tiny/model.safetensors tiny-other/model.safetensors && fail "another seed, the same checkpoint"

# What is there already is not overwritten by accident.
cp tiny-q4_k.sluice kept.sluice
refused 1 'exists already' convert tiny -o kept.sluice --type bf16
cmp tiny-q4_k.sluice kept.sluice || fail "an existing file was touched"
ok convert tiny -o kept.sluice --type bf16 --force
same_weights kept.sluice tiny-bf16.sluice
refused 1 'checkpoint already' synth --config "$configs/tiny.json" -o tiny
mkdir weights-only
echo precious >weights-only/model.safetensors
refused 1 'checkpoint already' synth --config "$configs/tiny.json" -o weights-only
grep -q precious weights-only/model.safetensors || fail "weights without a config.json were removed"
ok synth --config "$configs/tiny.json" -o tiny-shards --seed 7 --force
[ -e tiny-shards/model.safetensors.index.json ] && fail "a stale index was left"
ok convert tiny-shards -o tiny-forced.sluice --type bf16
same_weights tiny-forced.sluice tiny-bf16.sluice

# Places that cannot be written.
refused 1 'no/such/x.sluice' convert tiny -o no/such/x.sluice
mkdir directory.sluice
mkfifo fifo
refused 1 'model.safetensors is what is to be read' convert tiny -o tiny/model.safetensors --force
refused 1 'config.json is what is to be read' convert tiny -o ./tiny/../tiny/config.json --force
cp kept.sluice tiny/beside.sluice
ok convert tiny -o tiny/beside.sluice --type bf16 --force
refused 1 'directory.sluice' convert tiny -o directory.sluice --force
refused 1 'directory.sluice is a folder' convert tiny -o directory.sluice
refused 1 'is empty' convert tiny -o ''
refused 1 'fifo is no regular file' convert tiny -o fifo --force
refused 1 'fifo is no regular file' synth --config "$configs/tiny.json" --container fifo --force
[ -p fifo ] || fail "what is no file was replaced by one"
refused 1 'no/such' synth --config "$configs/tiny.json" -o no/such/dir
refused 1 'out' synth --config "$configs/tiny.json" -o out
echo OK
