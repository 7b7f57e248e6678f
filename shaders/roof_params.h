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
    uint rounds;      // of ROOF_STEPS operations per chain
    uint a, b;        // what is multiplied: bits of small floats, or four signed bytes
};

#define ROOF_LOADS 8
// Independent chains of operations per lane: enough to hide what one takes, few enough for 16 vector registers.
#define ROOF_FMA_CHAINS 8
#define ROOF_DOT_CHAINS 4

// Applies X to each chain: by name and not by index, because some compilers keep arrays in memory.
#define ROOF_EACH_FMA(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define ROOF_EACH_DOT(X) X(0) X(1) X(2) X(3)

// Steps of every chain in one round of the loop, which has a price of its own on software drivers.
#define ROOF_STEPS 16
#define ROOF_REPEAT4(X) X X X X
#define ROOF_REPEAT(X) ROOF_REPEAT4(X) ROOF_REPEAT4(X) ROOF_REPEAT4(X) ROOF_REPEAT4(X)

#endif
