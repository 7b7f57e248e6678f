# Common to the tests of the command line. Usage of a test: test_cli_x.sh PROGRAM CONFIGS
#   PROGRAM  the built `sluice`; CONFIGS  tests/data/configs
# shellcheck shell=bash
set -u
# A sanitizer's find must not look like an ordinary failure.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:exitcode=99" UBSAN_OPTIONS="${UBSAN_OPTIONS:-}:exitcode=99"
sluice=$1
configs=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-cli-XXXXXX") || exit 1
# Only in the script itself: a background job that is killed before it becomes the program runs the trap too.
clean_up() {
    [ "$BASHPID" = "$$" ] && rm -rf "$work"
}
trap clean_up EXIT
cd "$work" || exit 1
# Not the user's cache; but the driver's own stays where it is, or every test would compile all kernels.
export MESA_SHADER_CACHE_DIR="${MESA_SHADER_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}}"
export XDG_CACHE_HOME=$work/cache

fail() {
    echo "FAILED: $*" >&2
    [ -s err ] && { echo "stderr was:" >&2; cat err >&2; }
    exit 1
}

# ok ARGS...: the command succeeds and says nothing on stderr but notes. Output in `out`, messages in `err`.
ok() {
    "$sluice" "$@" >out 2>err </dev/null || fail "sluice $* ended with $?"
    grep -v '^sluice: note: ' err && fail "sluice $*: unexpected message"
    return 0
}

# refused STATUS PATTERN ARGS...: ends with STATUS and one line on stderr, besides notes, that matches PATTERN.
refused() {
    local wanted=$1 pattern=$2 status
    shift 2
    "$sluice" "$@" >out 2>err </dev/null
    status=$?
    [ $status -eq "$wanted" ] || fail "sluice $* ended with $status instead of $wanted"
    [ "$(grep -vc '^sluice: note: ' err)" -eq 1 ] || fail "sluice $*: not one message"
    grep -q -- "$pattern" err || fail "sluice $*: message does not match: $pattern"
}
