// f32: 4 columns per piece.
#define FLOAT_PIECE_COLS uint(QUANT_F32_STEP_COLS)
#include "format_float.glsl"

vec4 format_weights(format_group group, format_piece q, uint plane, uint pack)
{
    return uintBitsToFloat(q);
}
