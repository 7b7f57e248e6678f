// The root mean square norm of a row by a workgroup of NORM_LANES, in three steps: every lane squares the fours lane, lane +
// NORM_LANES, ... of the row; norm_scale() adds that up, in an order that does not depend on the device's subgroups; then
// write_row() writes y and, with QUANTISE, y rounded to 8 bits, where a lane owns blocks of 32 columns. Whoever includes this
// has bindings 0..2 and defines NORM_INPUT, the array of fours that is normed.
layout(local_size_x = 256) in;
const uint NORM_LANES = 256u, NORM_PARTS = 16u;

layout(binding = 1, std430) readonly buffer w_buffer { vec4 w[]; };
layout(binding = 2, std430) writeonly buffer y_buffer { vec4 y[]; };

#if defined QUANTISE
layout(binding = 3, std430) writeonly buffer q_buffer { uint q[]; };
layout(binding = 4, std430) writeonly buffer scale_buffer { vec2 scales[]; };
#include "quantize.glsl"

void write_row(uint row, uint groups, float scale)
{
    for (uint block = gl_LocalInvocationID.x; block < groups / 8u; block += NORM_LANES) {
        vec4 v[8];
        for (uint i = 0; i < 8; i++) {
            v[i] = NORM_INPUT[row + block * 8u + i] * scale * (1.0 + w[block * 8u + i]);
            y[row + block * 8u + i] = v[i];
        }
        quantize_block(v, row / 8u + block);
    }
}
#else
void write_row(uint row, uint groups, float scale)
{
    for (uint i = gl_LocalInvocationID.x; i < groups; i += NORM_LANES)
        y[row + i] = NORM_INPUT[row + i] * scale * (1.0 + w[i]);
}
#endif

shared float lane_squares[NORM_LANES];
shared float part_squares[NORM_PARTS];

float norm_scale(vec4 squares, uint cols, float eps)
{
    uint lane = gl_LocalInvocationID.x;
    const uint part_lanes = NORM_LANES / NORM_PARTS;
    lane_squares[lane] = (squares.x + squares.y) + (squares.z + squares.w);
    barrier();
    if (lane < NORM_PARTS) {
        float part = 0.0;
        for (uint i = 0u; i < part_lanes; i++)
            part += lane_squares[lane * part_lanes + i];
        part_squares[lane] = part;
    }
    barrier();
    float sum = 0.0;
    for (uint i = 0u; i < NORM_PARTS; i++)
        sum += part_squares[i];
    return 1.0 / sqrt(sum / float(cols) + eps);
}
