#!/bin/bash
# llama.cpp's kernels for the same operations through the same compilers and the same count: what run.sh prints of ours, of
# the llama.cpp that a Debian sid tree has.
#
#   tools/offline-compile/peer.sh BUILD_DIR --sid TREE [TARGET...]
#
# The tree needs llama.cpp-tests and libggml0-backend-vulkan besides what run.sh needs. For each target (by default
# sid-rdna2 sid-rdna3 sid-rdna4 sid-ampere sid-a770 sid-b580) llama.cpp's own test program runs its operations on the card
# that is not there, pipeline_recorder.c writes down the pipelines that llama.cpp chooses for that card, and shader_stats
# compiles those. Matrix-vector products are recorded twice, with float arithmetic (GGML_VK_DISABLE_MMVQ) and with integer
# dot products (GGML_VK_FORCE_MMVQ); matrix products and attention with cooperative matrices and without. What the tests
# say of the results means nothing: nothing is computed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

[ $# -ge 3 ] && [ -d "$1" ] && [ "$2" = --sid ] && [ -d "$3" ] || {
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
build=$(cd "$1" && pwd) sid=$(cd "$3" && pwd)
shift 3
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(sid-rdna2 sid-rdna3 sid-rdna4 sid-ampere sid-a770 sid-b580)
out=$build/offline/peer
mkdir -p "$out"
# shellcheck source=tools/offline-compile/drivers.sh
. "$here/drivers.sh"

program=$build/tools/offline-compile/shader_stats
tests=$sid/usr/libexec/x86_64-linux-gnu/llama.cpp-tests/test-backend-ops
backends=$sid/usr/lib/x86_64-linux-gnu/ggml/backends0
for file in "$program" "$build/tools/offline-compile/libpipeline_recorder.so" "$tests" "$backends/libggml-vulkan.so"; do
    [ -e "$file" ] || {
        echo "peer.sh: there is no $file" >&2
        exit 1
    }
done

# record TARGET SETTING OPERATION PARAMETERS: the pipelines of llama.cpp's tests whose parameters match.
record() {
    local target=$1 setting=$2 operation=$3 parameters=$4 status=0
    (
        export RECORDER_DIR=$out/$target/recorded VK_LAYER_PATH=$build/tools/offline-compile "$setting"
        export VK_INSTANCE_LAYERS=VK_LAYER_SLUICE_pipeline_recorder GGML_VK_DEBUG_MARKERS=1 GGML_VK_VISIBLE_DEVICES=0
        on_target "$target" "$tests" test -b Vulkan0 -o "$operation" -p "$parameters" >>"$out/$target/tests.log" 2>&1
    ) || status=$?
    [ $status -ne 77 ]
}

record_all() {
    local target=$1 setting
    for setting in GGML_VK_DISABLE_MMVQ=1 GGML_VK_FORCE_MMVQ=1; do
        record "$target" $setting MUL_MAT 'type_a=(q4_K|q5_K|q6_K|q8_0),type_b=f32,m=16,n=[14],k=4096' || return 77
        record "$target" $setting MUL_MAT_ID 'type_a=(q4_K|q5_K|q6_K|q8_0),.*n_mats=4,n_used=2,b=0,m=512,n=1,' || return 77
    done
    for setting in GGML_VK_DEBUG_MARKERS=1 GGML_VK_DISABLE_COOPMAT=1; do
        record "$target" $setting MUL_MAT 'type_a=(q4_K|q8_0),type_b=f32,m=64,n=(64|77),'
        record "$target" $setting MUL_MAT_ID 'type_a=(q4_K|q8_0),.*n_mats=4,n_used=2,b=0,m=512,n=(32|129),'
        record "$target" $setting FLASH_ATTN_EXT \
            'hsk=256,hsv=256,nh=4,nr23=\[4,1\],kv=(512|1024),nb=(1|32),mask=1,sinks=0,max_bias=0.0*,.*type_K=f16,.*permute=\[0,1,2,3\]'
    done
    record "$target" GGML_VK_DEBUG_MARKERS=1 GATED_DELTA_NET 'head_count=16,head_size=128,n_seq_tokens=(1|64|65),'
}

export MESA_SHADER_CACHE_DISABLE=true
unset VK_INSTANCE_LAYERS
found=()
for target in "${targets[@]}"; do
    rm -rf "${out:?}/$target"
    mkdir -p "$out/$target/recorded"
    cd "$out/$target"
    # llama.cpp looks for its back ends in the working directory.
    ln -s "$backends/libggml-vulkan.so" "$backends/libggml-cpu-x64.so" .
    record_all "$target" || echo "peer.sh: $target: not everything could be recorded"
    [ -e recorded/list.txt ] || continue
    # The same pipeline may have been recorded several times: once is enough.
    sort recorded/list.txt | awk '{ key = $1; for (i = 3; i <= NF; i++) key = key " " $i } !seen[key]++' >recorded/variants.txt
    on_target "$target" "$program" "$out/$target/recorded/variants.txt" "$out/$target" \
        >"$out/$target.tsv" 2>"$out/$target.log" || true
    found+=("$target")
done
[ ${#found[@]} -gt 0 ] || exit 77
# Its spills and sizes are no failures here.
python3 "$here/report.py" --sources "$here/../.." "$out" "${found[@]}" || true
