// How kernels whose workgroup of 32 owns one head of one token write their results: four columns `i` of the head that
// begins at four `row` of y, and with QUANTISE also rounded to 8 bits, for the matrix that follows. Then a head is a whole
// number of blocks of 32 columns.
#if defined QUANTISE
layout(binding = 4, std430) writeonly buffer q_buffer { uint q[]; };
layout(binding = 5, std430) writeonly buffer scale_buffer { vec2 scales[]; };
#include "quantize.glsl"

shared vec4 head_values[ROUND_HEAD_DIM_MAX / 4];

void write(uint row, uint i, vec4 value)
{
    y[row + i] = value;
    head_values[i] = value;
}

void write_rounded(uint row, uint groups)
{
    barrier();
    for (uint block = gl_LocalInvocationID.x; block < groups / 8u; block += 32u) {
        vec4 v[8];
        for (uint i = 0u; i < 8u; i++)
            v[i] = head_values[8u * block + i];
        quantize_block(v, row / 8u + block);
    }
}
#else
void write(uint row, uint i, vec4 value)
{
    y[row + i] = value;
}

void write_rounded(uint row, uint groups)
{
}
#endif
