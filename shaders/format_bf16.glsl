// bf16: 8 columns per piece; a value is the upper half of an f32.
#define FLOAT_PIECE_COLS uint(QUANT_BF16_STEP_COLS)
#include "format_float.glsl"

vec4 format_weights(format_group group, format_piece q, uint plane, uint pack)
{
    uint a = q[2u * pack], b = q[2u * pack + 1u];
    return uintBitsToFloat(uvec4(a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u));
}
