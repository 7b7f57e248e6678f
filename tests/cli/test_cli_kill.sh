#!/bin/bash
# Conversions that are killed at any moment. If this failed, a power cut or Ctrl-C would cost hours, or leave a container
# that looks complete.
. "$(dirname "$0")/cli_lib.sh"
RANDOM=4711

ok synth --config "$configs/mixed.json" -o model
ok convert model -o whole.sluice --type q5_k
kills=0 tries=0
while [ $kills -lt 6 ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "the conversion is too fast to be killed"
    "$sluice" convert model -o killed.sluice --type q5_k >out 2>err &
    pid=$!
    sleep "0.$(printf %03d $((RANDOM % 250)))"
    if kill -9 $pid 2>/dev/null; then
        wait $pid 2>/dev/null
        [ $? -eq 137 ] || { rm -f killed.sluice; continue; }
        kills=$((kills + 1))
        [ -e killed.sluice ] && { "$sluice" verify killed.sluice >out 2>err || fail "incomplete file under the final name"; rm killed.sluice; }
    else
        wait $pid
        rm -f killed.sluice
    fi
done
ok convert model -o killed.sluice --type q5_k
cmp whole.sluice killed.sluice || fail "killed and resumed: another container"
[ -e killed.sluice.part ] && fail "the temporary file was left"

# Ctrl-C: a clean end with a hint, and the same command goes on.
tries=0
while :; do
    tries=$((tries + 1))
    [ $tries -lt 50 ] || fail "the conversion is too fast to be interrupted"
    rm -f stopped.sluice*
    # A background job of a script ignores SIGINT; the program asks for SIGTERM in the same way.
    "$sluice" convert model -o stopped.sluice --type q5_k >out 2>err &
    pid=$!
    sleep "0.$(printf %03d $((RANDOM % 200)))"
    kill -TERM $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ $? -eq 130 ] && [ -e stopped.sluice.part ] && break
done
grep -q 'goes on where it stopped' err || fail "no hint that the conversion can be resumed"
[ -e stopped.sluice ] && fail "stopped, but there is a file"

# What is there may be hours of work: other options leave it alone.
cp stopped.sluice.part kept.part
cp stopped.sluice.part.journal kept.journal
refused 1 'items done; .*--restart.* It is: .*experts q5_k, .*from .*/model.* This one is: .*experts q8_0, ' \
    convert model -o stopped.sluice --type q8_0
refused 1 '--restart.* This one is: .*synthetic' synth --config "$configs/mixed.json" --container stopped.sluice --force
cmp kept.part stopped.sluice.part && cmp kept.journal stopped.sluice.part.journal || fail "another's work was touched"
ok convert model -o stopped.sluice --type q5_k
cmp whole.sluice stopped.sluice || fail "stopped and resumed: another container"
ok convert model -o other.sluice --type q8_0
cp kept.part stopped.sluice.part
cp kept.journal stopped.sluice.part.journal
ok convert model -o stopped.sluice --type q8_0 --force --restart
cmp other.sluice stopped.sluice || fail "--restart: another container"
echo "somebody's" >stopped.sluice.part
refused 1 'what wrote it is unknown' convert model -o stopped.sluice --type q8_0 --force
[ "$(cat stopped.sluice.part)" = "somebody's" ] || fail "somebody's file was touched"
[ -e stopped.sluice.part.journal ] && fail "a refused command left a file"
echo OK
