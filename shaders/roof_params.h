// Push constants of the roofline probe's kernels; valid C and valid GLSL, see shader_params.h.
#ifndef SLUICE_SHADERS_ROOF_PARAMS_H
#define SLUICE_SHADERS_ROOF_PARAMS_H

#ifdef __STDC__
#include <stdint.h>
typedef uint32_t uint;
#endif

// roof_read.comp
struct roof_read_push {
    uint chunk_loads; // 16-byte loads per lane, a multiple of ROOF_LOADS
};

// roof_fma.comp, roof_dot.comp
struct roof_compute_push {
    uint rounds;      // of ROOF_CHAINS operations per lane
    uint a, b;        // what is multiplied: bits of small floats, or four signed bytes
};

#define ROOF_LOADS 8
#define ROOF_CHAINS 8

#endif
