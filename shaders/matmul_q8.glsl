// x in 8 bits with a step per 32 columns. Sums of products are exact integers over a group's planes, then scaled: so it
// makes no difference to the bits how the products are made.
layout(binding = 1, std430) readonly buffer x_buffer { ivec4 x[]; };            // 16 columns each
layout(binding = 5, std430) readonly buffer x_scale_buffer { vec2 x_scales[]; }; // step, step * sum of 32 integers

// SPV_KHR_integer_dot_product by number, because not every glslc knows the GLSL extension: OpSDot on 4 x 8 bits.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int sdot_packed(int a, int b, spirv_literal int format);

int group_sum[matrices][rows_per_lane][columns][FORMAT_PLANES];

int byte_of(int packed, int k)
{
    return bitfieldExtract(packed, 8 * k, 8);
}

int dot_bytes(int a, int b)
{
    if (integer_dot)
        return sdot_packed(a, b, 0);
    return byte_of(a, 0) * byte_of(b, 0) + byte_of(a, 1) * byte_of(b, 1) + byte_of(a, 2) * byte_of(b, 2) +
           byte_of(a, 3) * byte_of(b, 3);
}

void stage(uint begin, uint end)
{
}

// A slice's place in shared memory that nobody else reads is free once the slices are joined.
void keep_begin()
{
}

void keep(uint place, float value)
{
    slice_totals[place] = value;
}

float kept(uint place)
{
    return slice_totals[place];
}

void group_begin()
{
    [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++)
        EACH_ROW EACH_COLUMN group_sum[m][r][c][plane] = 0;
}

void add_plane(uint x_index, uint plane)
{
    ivec4 v[columns];
    EACH_COLUMN v[c] = x[x_row[c] * (push.cols / 16u) + x_index];
    [[unroll]] for (uint pack = 0; pack < FORMAT_PACKS; pack++)
        EACH_ROW
        {
            int w = int(format_integers(piece_data[m][r], plane, pack));
            EACH_COLUMN group_sum[m][r][c][plane] += dot_bytes(w, v[c][pack]);
        }
}

void group_piece(uint column, uint group, uint piece)
{
    EACH_ROW piece_data[m][r] = format_read_piece(head[m][r], unit[m], tile_row[r], group, piece);
    [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++)
        add_plane((column + format_column(group, piece, plane)) / 16u, plane);
}

void group_end(uint column, uint group)
{
    [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++) {
        uint x_block = (column + format_column(group, 0, plane)) / 32u;
        EACH_COLUMN
        {
            vec2 x_scale = x_scales[x_row[c] * (push.cols / 32u) + x_block];
            EACH_ROW total[m][r][c] =
                format_join(group_scales[m][r], plane, x_scale, group_sum[m][r][c][plane], total[m][r][c]);
        }
    }
}
