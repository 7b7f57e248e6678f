#!/bin/bash
# Faults while a model runs: its file is cut, overwritten or replaced, the drive is slow, the user presses Ctrl-C. If this
# failed, the program would hang, answer nonsense, or leave half-written files.
. "$(dirname "$0")/cli_lib.sh"
export LC_ALL=C

ok synth --config "$configs/mixed.json" --container good.sluice --trunk q4_k
"$sluice" bench good.sluice --prompt 3 --gen 1 >out 2>err
grep -q 'Vulkan' err && { echo "no device: skipped"; exit 77; }
python3 -c 'print([7 * i * i % 300 for i in range(60)])' >ids.json
ok synth --config "$configs/mixed.json" --container other.sluice --trunk q4_k --seed 99
ok logits good.sluice --ids ids.json -o good.safetensors --slots 4 --decode
ok logits other.sluice --ids ids.json -o other.safetensors --slots 4 --decode
cmp -s good.safetensors other.safetensors && fail "two models compute the same"

# What does not go wrong: other budgets, and sessions that share their steps.
ok logits good.sluice --ids ids.json -o more.safetensors --slots 48 --decode
cmp good.safetensors more.safetensors || fail "another number of slots gives other logits"
ok logits good.sluice --ids ids.json -o sessions.safetensors --slots 6 --ram 2M --expert-pool separate --greedy 12 --sessions 4
python3 - sessions.safetensors <<'CHECK' || fail "sessions answer otherwise together than alone"
import json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:8 + size])
alone, together = (data[8 + size:][slice(*head[name]["data_offsets"])] for name in ("alone", "together"))
assert head["alone"]["shape"] == [4, 12] and alone == together
CHECK
refused 2 'needs --greedy' logits good.sluice --ids ids.json -o x.safetensors --sessions 2
refused 1 'at most 8' logits good.sluice --ids ids.json -o x.safetensors --sessions 9 --greedy 1

# What is read is not written, under whatever name.
ln -s good.sluice link.sluice
for name in good.sluice ./good.sluice link.sluice; do
    for arguments in "logits good.sluice --ids ids.json -o $name" "bench good.sluice --prompt 0 --gen 1 --csv $name" \
        "bench good.sluice --prompt 0 --gen 1 --trace $name"; do
        # shellcheck disable=SC2086
        refused 1 'is what is to be read\|is a link' $arguments
    done
done
refused 1 'is what is to be read' logits good.sluice --ids ids.json -o ids.json
ok verify good.sluice

# Standard output is no name, and a link to it is not replaced by a file.
refused 1 'not standard output here' logits good.sluice --ids ids.json -o -
refused 1 'not standard output here' bench good.sluice --prompt 0 --gen 1 --csv -
refused 1 'not standard output here' bench good.sluice --prompt 0 --gen 1 --trace -
ln -s /proc/self/fd/1 stdout
refused 1 'is a link' logits good.sluice --ids ids.json -o stdout
[ -L stdout ] || fail "a link was replaced"

# Lists of ids that are none, and longer than the model takes.
refused 1 'Is a directory' logits good.sluice --ids . -o x.safetensors
refused 1 'is empty' logits good.sluice --ids /dev/null -o x.safetensors
refused 1 'a text of [0-9]* tokens is too long: the model has [0-9]* positions' \
    logits good.sluice --ids ids.json -o x.safetensors --greedy 4000000000

# begin ARGS...: starts the program in the background, with the container's file open; its number in $pid.
# A background job of a script ignores SIGINT; the programs treat SIGTERM alike.
launcher=()
begin() {
    "${launcher[@]}" "$sluice" "$@" >out 2>err </dev/null &
    pid=$!
    for _ in $(seq 400); do
        ls -l "/proc/$pid/fd" 2>/dev/null | grep -q '\.sluice$' && return 0
        kill -0 $pid 2>/dev/null || break
        sleep 0.02
    done
    fail "sluice $*: does not start"
}
# ended STATUS PATTERN: the program ends by itself, with one message.
ended() {
    local status
    for _ in $(seq 3000); do
        kill -0 $pid 2>/dev/null || break
        sleep 0.02
    done
    kill -0 $pid 2>/dev/null && { kill -9 $pid; fail "hangs"; }
    wait $pid
    status=$?
    [ $status -eq "$1" ] || fail "ended with $status instead of $1"
    [ "$(grep -vc '^sluice: note: ' err)" -eq 1 ] || fail "not one message"
    grep -q -- "$2" err || fail "message does not match: $2"
}

# Endless runs with few slots: every token reads experts.
endless=(bench m.sluice --prompt 0 --gen 4000 --slots 4 --routing uniform)

cp good.sluice m.sluice
begin "${endless[@]}"
sleep 0.3
truncate -s -300000 m.sluice
ended 1 'layer [0-9]*, expert [0-9]*: m.sluice: .*cut while in use'

# All experts but the trunk: a message that tells where, not other numbers.
cp good.sluice m.sluice
begin "${endless[@]}"
sleep 0.3
size=$(stat -c %s m.sluice)
for at in $(seq 20 95); do
    printf 'wrong' | dd of=m.sluice bs=1 seek=$((size * at / 100)) conv=notrunc status=none
done
ended 1 'm.sluice: layer [0-9]* expert [0-9]* (file offset [0-9]*.*checksum'

# A new version of the file is put in place: the running program goes on with the old one, or says so while it opens it.
cp good.sluice m.sluice
begin logits m.sluice --ids ids.json -o replaced.safetensors --slots 4 --decode
cp other.sluice next.sluice
mv next.sluice m.sluice
if ! wait $pid; then
    grep -q 'm.sluice: the file was replaced by another one while it was being opened' err || fail "replaced"
    cp good.safetensors replaced.safetensors
fi
cmp -s replaced.safetensors good.safetensors || cmp -s replaced.safetensors other.safetensors ||
    fail "the file was replaced: a mixture of two models"

# Ctrl-C: a prompt end with one message; no file, or a whole one, under the final name.
cp good.sluice m.sluice
for when in 0.0 0.2 0.5; do
    begin "${endless[@]}" --csv table.csv
    sleep $when
    kill -TERM $pid
    ended 130 'interrupted'
    [ -s out ] && fail "interrupted, but there are results"
    [ -e table.csv ] && fail "interrupted, but there is a table"
    python3 -c 'print([7 * i * i % 300 for i in range(3000)])' >long.json
    begin logits m.sluice --ids long.json -o stopped.safetensors --slots 4 --decode --router
    sleep $when
    kill -TERM $pid
    ended 130 'interrupted'
    [ -e stopped.safetensors ] && fail "interrupted, but there is a result"
done
# The terminal is closed; but under nohup, where the signal is ignored, the work goes on.
for action in SIG_DFL SIG_IGN; do
    launcher=(python3 -c "import os, signal, sys; signal.signal(signal.SIGHUP, signal.$action)
os.execv(sys.argv[1], sys.argv[1:])")
    begin logits m.sluice --ids long.json -o stopped.safetensors --slots 4 --decode --router
    sleep 0.3
    kill -HUP $pid
    [ $action = SIG_DFL ] && ended 130 'interrupted'
done
sleep 0.2
kill -0 $pid || fail "a signal that is ignored ended the work"
kill -TERM $pid
ended 130 'interrupted'
launcher=()
ls ./*.part ./*.tmp 2>/dev/null && fail "temporary files were left"
begin "${endless[@]}" --trace trace
sleep 0.5
kill -TERM $pid
ended 130 'interrupted'
[ -e trace ] && fail "interrupted, but there is a trace that looks whole"
"$(dirname "$sluice")/offload_sim" trace.part --slots 4 >out 2>err || grep -q 'nothing was decoded' err ||
    fail "what an interrupted run had traced cannot be read"

# A second Ctrl-C ends the program whatever it does.
begin "${endless[@]}"
sleep 0.2
kill -STOP $pid
kill -TERM $pid
kill -CONT $pid
ended 130 'interrupted'
echo OK
