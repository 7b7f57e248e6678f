// f16: 8 columns per piece.
#define FLOAT_PIECE_COLS uint(QUANT_F16_STEP_COLS)
#include "format_float.glsl"

vec4 format_weights(format_group group, format_piece q, uint plane, uint pack)
{
    uint a = q[2u * pack], b = q[2u * pack + 1u];
    return vec4(decode_f16(a & 0xffffu), decode_f16(a >> 16), decode_f16(b & 0xffffu), decode_f16(b >> 16));
}
