#!/bin/bash
# tools/bench/on-gpu where there is no device. If this failed, the one run on somebody's card could end without a report, or
# leave gigabytes behind.
. "$(dirname "$0")/cli_lib.sh"
on_gpu=$(cd "$(dirname "$0")/../../tools/bench" && pwd)/on-gpu

mkdir folder
env -u VK_INSTANCE_LAYERS VK_DRIVER_FILES=/dev/null VK_ICD_FILENAMES=/dev/null \
    "$on_gpu" --build "$(dirname "$sluice")/.." --folder folder --report report.txt >out 2>err || fail "ended with $?"
grep -q '^No usable Vulkan device' report.txt || fail "the report does not say that there is no device"
grep -q '^sluice [0-9]' report.txt || fail "the report does not name the version"
[ -z "$(ls folder)" ] || fail "something was left: $(ls folder)"
"$on_gpu" --nonesuch >out 2>err && fail "an unknown option"
grep -q -- --dry-run err || fail "no usage"
echo OK
