#!/bin/bash
# Shows Sluice at work, from a fresh Debian 12 on: installs what it needs, builds, converts the tiny checkpoint in this folder to
# 4 bits, and summarises minutes of 42 pages (15,808 tokens) while the experts are streamed from disk through a cache that holds
# 24 of the 64. Prints the summary, the statistics, and whether it is what Transformers writes for this document.
#
#   tools/demo/run.sh                  everything
#   tools/demo/run.sh --no-setup       installs nothing
#
# Outputs are in build/demo. Exit status 1 if anything fails or the summary differs.
set -euo pipefail
cd "$(dirname "$0")/../.."

case "$*" in
"") tools/setup-debian.sh --build-only ;;
--no-setup) ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

out=build/demo
document=tools/demo/documents/16k-1.txt
sluice=build/release/tools/sluice
mkdir -p "$out"

echo "demo: building (build/release)"
export CMAKE_GENERATOR=Ninja
if ! { cmake --preset release -DBUILD_TESTING=OFF && cmake --build --preset release; } >"$out/build.log" 2>&1; then
    tail -n 40 "$out/build.log"
    echo "demo: the build failed; all of its output is in $out/build.log" >&2
    exit 1
fi

echo "demo: converting tools/demo to 4 bits ($out/minutes.sluice)"
"$sluice" convert tools/demo --output "$out/minutes.sluice" --force --type q4_k \
    --instruction "Summarise the document above: list every decision and every action with its page."

echo "demo: reading $document, with 24 of the 64 experts in the cache"
if ! "$sluice" summarize "$out/minutes.sluice" "$document" --slots 24 --temperature 0 --verbose \
    2>&1 >"$out/summary.txt" | tee "$out/statistics.txt"; then
    echo "demo: sluice summarize failed; the message is above" >&2
    exit 1
fi
printf '\n%s\n\n' "$(cat "$out/summary.txt")"

# What Transformers wrote: the first "output" of the document's JSON file, a string without quotes inside.
printf '%b\n' "$(sed -n 's/^ *"output": "\(.*\)",$/\1/p' "${document%.txt}.json" | head -n 1)" >"$out/expected.txt"
if ! diff -u "$out/expected.txt" <(printf '%s\n' "$(cat "$out/summary.txt")"); then
    echo "demo: the summary is not the expected one (- expected, + written)" >&2
    exit 1
fi
echo "demo: the summary is, line by line, what Transformers writes with the unrounded weights"
