// As matmul_q8.glsl, with the same bits, by plain 64-bit multiplications of four products each: for processors whose
// driver has no instruction for the dot product, but vectors of 64-bit integers.
//
// Of 8 columns, quad 0 is columns 0, 2, 4, 6 and quad 1 columns 1, 3, 5, 7. With t = 2^16, a quad of weights is
// a + b t + c t^2 + d t^3 and one of activations, in the opposite order, p t^3 + q t^2 + r t + s. Modulo 2^64 their
// product is (a p + b q + c r + d s) t^3 + noise below it. FORMAT_QUAD_RUN products are so few that their sums stay below
// 2^15 in every power of t; a start at 2^47 rounds the noise away.
layout(binding = 1, std430) readonly buffer x_buffer { ivec2 x[]; };            // 8 columns each
layout(binding = 5, std430) readonly buffer x_scale_buffer { vec2 x_scales[]; }; // step, step * sum of 32 integers

layout(constant_id = 11) const uint stage_words = 1024; // 8-byte words of shared memory for x

const uint stage_columns = stage_words / columns / 9u * 32u; // of each row of x: 8 words of quads and one of scales per 32
shared int64_t x_quads[columns * (stage_columns / 4u)];
shared vec2 x_steps[columns * (stage_columns / 32u)];
uint stage_begin;

int64_t group_sum[matrices][rows_per_lane][columns][FORMAT_PLANES];

int64_t quad(int s, int r, int q, int p)
{
    return (int64_t(p) << 48) + (int64_t(q) << 32) + (int64_t(r) << 16) + int64_t(s);
}

void stage_row(uint c, uint begin, uint end)
{
    const uint lanes_all = lanes * slice_lanes;
    uint row = x_row[c] * push.cols;
    for (uint i = gl_LocalInvocationIndex; i < (end - begin) / 8u; i += lanes_all) {
        ivec2 v = x[(row + begin) / 8u + i];
        ivec2 byte0 = v << 24 >> 24, byte1 = v << 16 >> 24, byte2 = v << 8 >> 24, byte3 = v >> 24;
        uint place = c * (stage_columns / 4u) + 2u * i;
        x_quads[place] = quad(byte2.y, byte0.y, byte2.x, byte0.x);
        x_quads[place + 1u] = quad(byte3.y, byte1.y, byte3.x, byte1.x);
    }
    for (uint i = gl_LocalInvocationIndex; i < (end - begin) / 32u; i += lanes_all)
        x_steps[c * (stage_columns / 32u) + i] = x_scales[(row + begin) / 32u + i];
}

void stage(uint begin, uint end)
{
    barrier(); // who is behind still reads what lies there
    stage_begin = begin;
    EACH_COLUMN stage_row(c, begin, end);
    barrier();
}

// Results wait where x was, as far as there is room: see runtime/ops/matmul_job.c.
void keep_begin()
{
    barrier();
}

void keep(uint place, float value)
{
    x_quads[place] = int64_t(floatBitsToUint(value));
}

float kept(uint place)
{
    return uintBitsToFloat(uint(x_quads[place]));
}

void group_begin()
{
    [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++)
        EACH_ROW EACH_COLUMN group_sum[m][r][c][plane] = 0l;
}

void add_quads(uint m, uint r, uint place, uint plane)
{
    [[unroll]] for (uint part = 0; part < FORMAT_PACKS / FORMAT_QUAD_RUN; part++) {
        int64_t run[columns];
        EACH_COLUMN run[c] = 1l << 47;
        [[unroll]] for (uint i = 0; i < FORMAT_QUAD_RUN; i++) {
            uint number = part * FORMAT_QUAD_RUN + i;
            int64_t w = format_quad(piece_data[m][r], plane, number / 2u, number % 2u);
            EACH_COLUMN run[c] += w * x_quads[c * (stage_columns / 4u) + place + number];
        }
        EACH_COLUMN group_sum[m][r][c][plane] += run[c] >> 48;
    }
}

void group_piece(uint column, uint group, uint piece)
{
    EACH_ROW
    {
        piece_data[m][r] = format_read_piece(head[m][r], unit[m], tile_row[r], group, piece);
        [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++)
            add_quads(m, r, (column + format_column(group, piece, plane) - stage_begin) / 4u, plane);
    }
}

void group_end(uint column, uint group)
{
    [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++) {
        uint x_block = (column + format_column(group, 0, plane) - stage_begin) / 32u;
        EACH_COLUMN
        {
            vec2 x_scale = x_steps[c * (stage_columns / 32u) + x_block];
            EACH_ROW total[m][r][c] =
                format_join(group_scales[m][r], plane, x_scale, int(group_sum[m][r][c][plane]), total[m][r][c]);
        }
    }
}
