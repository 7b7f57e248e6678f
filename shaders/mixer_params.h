// Push constants of the kernels for norms, mixture of experts, DeltaNet and attention; valid C and valid GLSL, see
// shader_params.h.
#ifndef SLUICE_SHADERS_MIXER_PARAMS_H
#define SLUICE_SHADERS_MIXER_PARAMS_H

#ifdef __STDC__
#include <stdint.h>
typedef uint32_t uint;
#endif

// delta_norm.comp and attend_merge.comp with QUANTISE: values of a head at most
#define ROUND_HEAD_DIM_MAX 256

// norm_rms.comp
struct norm_push {
    uint cols;
    float eps;
};

// moe_route.comp
struct moe_route_push {
    uint experts;
    uint top_k;
    uint renormalise;
};

// moe_combine.comp
struct moe_combine_push {
    uint tokens;
    uint hidden;
    uint top_k; // <= 32
    uint row0, row_count;
};

// moe_combine_norm.comp
struct moe_combine_norm_push {
    uint cols;
    uint top_k;
    float eps;
};

// gated_add.comp
struct gated_add_push {
    uint count; // tokens * cols / 4
    uint cols;
    uint gate_stride;
};

// conv_seq.comp, conv_state.comp
struct conv_push {
    uint key_heads, value_heads, key_dim, value_dim;
    uint tokens;
    uint run_tokens;   // tokens per workgroup
    uint update_state; // there is one run per channel, which also leaves the new state
};

// delta_scan.comp
struct delta_scan_push {
    uint key_heads, value_heads;
    uint tokens;
};

// delta_norm.comp
struct delta_norm_push {
    uint key_heads, value_heads, key_dim, value_dim;
    float eps;
};

// rope_store.comp, attend.comp: position_place of what has no place in the list of positions
#define NO_PLACE 0xFFFFFFFFu

// rope_store.comp
struct rope_push {
    uint heads, kv_heads, head_dim, rotary_dim;
    float rotary_scale, eps;
    uint first_position, position_place;
    uint segment_first, segment_tokens;
};

// attend.comp
struct attend_push {
    uint heads, kv_heads;
    uint tokens, first_position, position_place;
    uint segment_first, segment_tokens;
    uint begin, end;
    uint split_tokens, split0, splits;
};

// attend_merge.comp
struct attend_merge_push {
    uint heads, head_dim, splits;
};

#endif
