#!/bin/bash
# Damaged downloads and containers. If this failed, a broken file would crash the program, or become a model that answers
# nonsense.
. "$(dirname "$0")/cli_lib.sh"
RANDOM=99

ok synth --config "$configs/tiny.json" -o model --shard-gb 0.0003
echo '{"version": "1.0", "model": {"type": "BPE"}}' >model/tokenizer.json
echo '{"chat_template": "x"}' >model/tokenizer_config.json
echo '{"temperature": 0.7}' >model/generation_config.json
ok convert model -o good.sluice

# A conversion of ./broken must fail with one message that names PATTERN, and leave nothing under the final name.
must_fail() {
    refused 1 "$1" convert broken -o broken.sluice
    [ -e broken.sluice ] && fail "a container was made of a damaged checkpoint"
    return 0
}
fresh() {
    rm -rf broken broken.sluice*
    cp -r model broken
}

shard=model-00002-of-$(ls model/*.safetensors | wc -l | xargs printf %05d).safetensors
[ -e "model/$shard" ] || fail "no second shard"
for file in $(ls model); do
    size=$(stat -c %s "model/$file")
    for length in 0 1 7 $((size / 2)) $((size - 3)); do
        [ "$length" -lt "$size" ] || continue
        fresh
        truncate -s "$length" "broken/$file"
        must_fail .
    done
    fresh
    head -c "$size" /dev/zero >"broken/$file"
    must_fail .
    fresh
    printf '\377\376\375' | dd of="broken/$file" conv=notrunc status=none
    must_fail .
    fresh
    rm "broken/$file"
    mkdir "broken/$file"
    must_fail .
done
fresh; rm "broken/$shard"; must_fail "$shard"
fresh; rm broken/config.json; must_fail config.json
fresh; rm broken/model.safetensors.index.json; must_fail safetensors
fresh; cp "model/model-00001${shard#model-00002}" "broken/$shard"; must_fail .
fresh; sed -i 's/"hidden_size": 64/"hidden_size": 128/' broken/config.json; must_fail 'shape'
fresh; sed -i 's/"num_experts": 8/"num_experts": 9/' broken/config.json; must_fail 'mlp'
fresh; sed -i 's#"model-00001-of[^"]*"#"../model-00001.safetensors"#' broken/model.safetensors.index.json; must_fail .

# Single bits of the headers: a message or a container, never a crash.
for _ in $(seq 60); do
    fresh
    header=$(od -An -tu8 -N8 "broken/$shard" | tr -d ' ')
    at=$((RANDOM % (header + 8)))
    byte=$(od -An -tu1 -j$at -N1 "broken/$shard" | tr -d ' ')
    printf "\\x$(printf %02x $((byte ^ (1 << RANDOM % 8))))" | dd of="broken/$shard" bs=1 seek=$at conv=notrunc status=none
    "$sluice" convert broken -o broken.sluice >out 2>err
    [ $? -le 1 ] || fail "bit flip at $at of $shard"
done

# Containers: any changed byte is found, and named.
ok verify good.sluice
size=$(stat -c %s good.sluice)
for i in $(seq 25); do
    at=$(((RANDOM * 32768 + RANDOM) % size))
    [ "$i" -le 4 ] && at=$((i * 1000)) # header and directory
    cp good.sluice bad.sluice
    byte=$(od -An -tu1 -j$at -N1 bad.sluice | tr -d ' ')
    printf "\\x$(printf %02x $((byte ^ 64)))" | dd of=bad.sluice bs=1 seek=$at conv=notrunc status=none
    refused 1 bad.sluice verify bad.sluice
done
for length in 0 1 4095 4096 20000 $((size - 1)); do
    cp good.sluice bad.sluice
    truncate -s "$length" bad.sluice
    refused 1 bad.sluice verify bad.sluice
    refused 1 bad.sluice inspect bad.sluice
done
refused 1 . inspect model/config.json
refused 1 . inspect model
echo OK
