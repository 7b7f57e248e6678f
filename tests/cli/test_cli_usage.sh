#!/bin/bash
# What the program says about itself and about wrong command lines. If this failed, users would not find out what to
# type, and scripts would take failures for success.
. "$(dirname "$0")/cli_lib.sh"

ok --version
grep -q '^sluice [0-9]*\.[0-9]*\.[0-9]*$' out || fail "version"
ok --help
commands=$(awk '/^  [a-z]/ {print $1}' out)
[ -n "$commands" ] || fail "no commands in --help"
for command in $commands; do
    ok "$command" --help
    head -1 out | grep -q "^usage: sluice $command" || fail "$command --help"
    grep -q -- '--help' out || fail "$command --help lists no options"
    awk 'length > 120 { exit 1 }' out || fail "$command --help has lines that terminals break"
done

# Help and parser agree: what is listed is accepted, with a value or without, by names that the help tells; and the text
# above the list names no option that is not in it.
check_help() { # PROGRAM ARGS...
    "$@" --help >help 2>err || fail "$* --help"
    sed -n 's/^  \(-.,\|   \) --\([a-z-]*\)\( [A-Z]*\)\? .*/\2 \3/p' help | sed '/^help /d' >listed
    [ "$(grep -c '^  \(-.,\|   \) --' help)" -eq "$(($(wc -l <listed) + 1))" ] || fail "$* --help: a line of another form"
    while read -r option value; do
        if [ -z "$value" ]; then
            "$@" --"$option"=x >out 2>err
            grep -q "option --$option takes no value" err || fail "$* --$option: in the help, but not a flag"
            continue
        fi
        "$@" --"$option" >out 2>err
        grep -q "option --$option needs a value ($value)" err || fail "$* --$option: in the help, but without a value"
        "$@" --"$option" no-such-name --nonsense >out 2>err
        for name in $(sed -n 's/.* is none of \(.*\); .*/\1/p' err | tr -d ',' | sed 's/ and / /'); do
            grep -- "--$option " help | grep -qw -- "$name" || fail "$* --$option $name: not in the help"
        done
    done <listed
    for option in $(grep -o -- '--[a-z][a-z-]*' help | sort -u); do
        grep -q "\`sluice [a-z]* $option\`" help && continue # another command's
        grep -q -- "^  \(-.,\|   \) $option\( \|$\)" help || fail "$* --help: tells of $option, which is not listed"
    done
}
for command in $commands; do
    check_help "$sluice" "$command"
done
check_help "$(dirname "$sluice")/offload_sim"

for command in convert inspect verify plan bench synth; do
    refused 2 'there is no option --nonsense' "$command" --nonsense
    refused 2 'there is no option -q' "$command" -q
done
refused 2 'no command "nonsense"' nonsense
refused 2 '-o FILE is missing' convert dir
refused 2 'expected: DIR' convert -o x.sluice
refused 2 'unexpected argument "b"' convert a b -o x.sluice
refused 2 'needs a value' convert dir -o
refused 2 'takes no value' convert dir -o x --force=yes
refused 2 '"zero" is no whole number' convert dir -o x --threads zero
refused 2 '"0" is no whole number' convert dir -o x --threads=0
refused 2 'no whole number' synth --config x -o y --seed -3
refused 2 'no number of gigabytes' synth --config x -o y --shard-gb 0
refused 2 'none of auto, uring and pread' bench m.sluice --io fast
refused 2 'nothing to --split' logits m.sluice --ids ids.json -o x --decode --split 3
# Before anything is opened: neither dir nor m.sluice is there.
refused 2 'no number format; use one of' convert dir -o x --type q3_k
refused 2 'no number format; use one of' convert dir -o x --trunk float
refused 2 'none of instruct, thinking and coder' tokenize m.sluice --template chatml
refused 2 'none of instruct, thinking and coder' run m.sluice -p x --template unknown
refused 1 'nowhere' inspect nowhere
refused 1 'nowhere' verify nowhere
refused 1 'nowhere' synth --config nowhere -o y
refused 1 'config.json' convert "$work" -o x

# Arguments that look like options, and short options with the value attached.
refused 1 '-odd-' inspect -- -odd-
refused 1 'nowhere' synth -cnowhere -oy

"$sluice" >out 2>err
[ $? -eq 2 ] || fail "no arguments: not a usage error"
grep -q '^usage: ' err || fail "no arguments: no usage"
if [ -e /dev/full ]; then
    "$sluice" --help >/dev/full 2>err
    [ $? -eq 1 ] || fail "a full disk behind stdout looks like success"
    [ "$(wc -l <err)" -eq 1 ] || fail "full disk: not one message"
fi
echo OK
