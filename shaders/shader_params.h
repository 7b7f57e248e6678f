// Push constants and parameter structs that kernels and the host share. This file is valid C and valid GLSL: only
// #define and structs of 4-byte members (uint, int, float), so that both languages lay them out alike. A kernel declares
//   layout(push_constant) uniform push_block { struct_name push; };
// and the host passes the same struct; its size is checked against the SPIR-V at every dispatch.
#ifndef SLUICE_SHADERS_SHADER_PARAMS_H
#define SLUICE_SHADERS_SHADER_PARAMS_H

#ifdef __STDC__
#include <stdint.h>
typedef uint32_t uint;
#endif

// probe.comp
struct probe_push {
    uint count;
    uint multiplier;
    uint addend;
};

#endif
