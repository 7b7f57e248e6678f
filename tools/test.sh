#!/bin/bash
# Every test, in one command. On a fresh Debian or Ubuntu it installs what it needs first.
#
#   tools/test.sh                  all stages below, in this order; stops at the first failure
#   tools/test.sh --no-setup       without the first
#   tools/test.sh --only STAGE     only that one
#
# setup       tools/setup-debian.sh
# release     release build, every CTest test (warnings are errors where the variable CI is set)
# asan        the same tests with AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer
# validation  device, kernel and engine tests under the Vulkan validation layer with synchronisation checks; any message fails
# compilers   AMD's shader compiler over every shader variant: no spills, no scratch memory, at most 32 KiB shared
#
# Without a graphics card everything runs on Mesa's software driver. Builds are in build/.
set -euo pipefail
cd "$(dirname "$0")/.."

stages=(setup release asan validation compilers)
case "${1-} ${2-}" in
" ") ;;
"--no-setup ") stages=("${stages[@]:1}") ;;
"--only setup" | "--only release" | "--only asan" | "--only validation" | "--only compilers") stages=("$2") ;;
*)
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

export CMAKE_GENERATOR=Ninja
export CTEST_OUTPUT_ON_FAILURE=1
export ASAN_OPTIONS=strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# Compiled shaders are shared by all stages and stay out of the home directory.
export MESA_SHADER_CACHE_DIR=$PWD/build/mesa-cache
mkdir -p "$MESA_SHADER_CACHE_DIR"

# The software driver, and only it, where there is no card: other installed drivers would be asked in vain.
use_software_driver() {
    local driver
    compgen -G '/dev/dri/renderD*' >/dev/null && return
    driver=$(find /usr/share/vulkan/icd.d -name 'lvp_icd*.json' 2>/dev/null | head -n 1) || true
    [ -z "$driver" ] || export VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver
}

# build PRESET: configures and compiles into build/PRESET.
build() {
    local werror=OFF
    [ -z "${CI-}" ] || werror=ON
    cmake --preset "$1" -DBUILD_TESTING=ON -DSLUICE_WERROR=$werror >build/"$1"-configure.log || {
        cat build/"$1"-configure.log
        return 1
    }
    cmake --build --preset "$1" -- --quiet
}

# run_tests PRESET: CTest, then the count of tests in `note`.
run_tests() {
    ctest --test-dir build/"$1" -j2 --no-tests=error --output-log build/"$1"-tests.log
    note=$(sed -n 's/.*tests passed, 0 tests failed out of \([0-9]*\)$/, \1 tests/p' build/"$1"-tests.log)
}

stage_setup() {
    tools/setup-debian.sh
}

stage_release() {
    build release && run_tests release
}

stage_asan() {
    build asan && run_tests asan
}

messages='Validation (Performance )?(Error|Warning)|SYNC-HAZARD|VUID-|UNASSIGNED-'

# The synchronisation switches of the layer: Debian 12's and newer ones do not understand, or complain about, each other's.
dialects=(
    "enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT"
    "validate_sync = true"
)

# check_canary: a layer that is missing or misconfigured is silent too, so it must notice three planted mistakes and accept the
# correct program.
check_canary() {
    local mode log=build/validation/canary.txt
    for mode in sound hazard submit misuse; do
        build/release/tests/hygiene/sync_canary $mode >$log 2>&1 || return 1
        case $mode in
        sound) ! grep -qE "$messages" $log ;;
        hazard | submit) grep -q SYNC-HAZARD-WRITE-AFTER-WRITE $log ;;
        misuse) grep -q VUID-vkCmdFillBuffer-dstOffset $log ;;
        esac || return 1
    done
}

# Has every Vulkan program report to stdout from now on.
use_validation_layer() {
    local dialect
    mkdir -p build/validation
    export VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation VK_LAYER_SETTINGS_PATH=$PWD/build/validation
    for dialect in "${dialects[@]}"; do
        cat >build/validation/vk_layer_settings.txt <<END
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn
khronos_validation.log_filename = stdout
khronos_validation.$dialect
END
        check_canary && return
    done
    echo "the validation layer does not do its work; the last words of sync_canary:"
    cat build/validation/canary.txt
    return 1
}

stage_validation() (
    build release
    use_validation_layer
    for area in gpu kernel engine model; do
        [ ! -d tests/$area ] || ctest --test-dir build/release/tests/$area -j2 --verbose >build/validation/$area.log || {
            tail -n 50 build/validation/$area.log
            exit 1
        }
    done
    grep -E "$messages" build/validation/*.log >build/validation/messages.txt || true
    if [ -s build/validation/messages.txt ]; then
        head -n 20 build/validation/messages.txt
        echo "the validation layer complained; build/validation/*.log says in which test"
        exit 1
    fi
)

stage_compilers() {
    local status=0
    build release
    tools/offline-compile/run.sh build/release >build/compilers.log 2>&1 || status=$?
    if [ -n "${CI-}" ]; then
        cat build/compilers.log # the table belongs into CI's log
    else
        grep -E '^==|^<--|variants, |offline-compile:|shader_stats' build/compilers.log
        echo "(the whole table: build/compilers.log)"
    fi
    [ $status -ne 77 ] || note=", skipped: this Mesa has no AMD compiler without hardware"
    [ $status -eq 0 ] || [ $status -eq 77 ]
}

summary=
# run_stage NAME: runs it and adds its time to the summary.
run_stage() {
    local start=$SECONDS
    note=
    echo "test.sh: $1"
    set +e
    (
        set -e
        "stage_$1"
        echo "$note" >build/note
    )
    local status=$?
    set -e
    if [ $status -ne 0 ]; then
        echo "test.sh: FAILED: $1 after $((SECONDS - start)) s${summary:+ (passed before: $summary)}"
        exit 1
    fi
    summary+="${summary:+; }$1 $((SECONDS - start)) s$(cat build/note)"
}

use_software_driver
for stage in "${stages[@]}"; do
    run_stage "$stage"
    [ "$stage" != setup ] || use_software_driver
done
echo "test.sh: all passed in $SECONDS s: $summary"
