// x in f32. The sum over a group starts from zero and is then added to `total`: that keeps rounding errors small in long
// rows.
layout(binding = 1, std430) readonly buffer x_buffer { vec4 x[]; };

float group_total[matrices][rows_per_lane][columns];

void group_begin()
{
    EACH_ROW EACH_COLUMN group_total[m][r][c] = 0.0;
}

void add_pack(uint pack_index, uint plane, uint pack)
{
    vec4 w[matrices][rows_per_lane];
    EACH_ROW w[m][r] = format_weights(group_scales[m][r], piece_data[m][r], plane, pack);
    EACH_COLUMN
    {
        vec4 v = x[x_row[c] * (push.cols / 4u) + pack_index];
        EACH_ROW
        [[unroll]] for (uint k = 0; k < 4; k++)
            group_total[m][r][c] = fma(w[m][r][k], v[k], group_total[m][r][c]);
    }
}

void stage(uint begin, uint end)
{
}

void keep_begin()
{
}

void keep(uint place, float value)
{
}

void group_piece(uint column, uint group, uint piece)
{
    EACH_ROW piece_data[m][r] = format_read_piece(head[m][r], unit[m], tile_row[r], group, piece);
    [[unroll]] for (uint plane = 0; plane < FORMAT_PLANES; plane++)
        [[unroll]] for (uint pack = 0; pack < FORMAT_PACKS; pack++)
            add_pack((column + format_column(group, piece, plane)) / 4u + pack, plane, pack);
}

void group_end(uint column, uint group)
{
    EACH_ROW EACH_COLUMN total[m][r][c] += group_total[m][r][c];
}
