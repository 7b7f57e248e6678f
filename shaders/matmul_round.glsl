// Rounds a workgroup's results to 8 bits in blocks of 32 rows, each of which is a tile of the weights. One invocation owns a
// block of one column at a time: it finds the results in shared memory.
layout(binding = 6, std430) writeonly buffer q_buffer { uint q[]; };
layout(binding = 7, std430) writeonly buffer scale_buffer { vec2 scales[]; };

#include "quantize.glsl"

// Of row `row` of a tile: slice_place() turned around.
float kept_result(uint tile, uint row, uint c)
{
    uint r = row / tile_lanes, lane = tile * tile_lanes + row % tile_lanes;
    return kept((r * columns + c) * lanes + lane);
}

vec4 kept_four(uint tile, uint row, uint c)
{
    return vec4(kept_result(tile, row, c), kept_result(tile, row + 1u, c), kept_result(tile, row + 2u, c),
                kept_result(tile, row + 3u, c));
}

// As quantize_block(), which would want more registers than the products.
void round_block(uint tile, uint c, uint block)
{
    vec4 m = vec4(0.0);
    [[dont_unroll]] for (uint i = 0; i < 8; i++)
        m = max(m, abs(kept_four(tile, 4u * i, c)));
    float d = block_step(m);
    int sum = 0;
    [[dont_unroll]] for (uint i = 0; i < 8; i++)
        sum += round_four(kept_four(tile, 4u * i, c), d, block * 8u + i);
    scales[block] = vec2(d, d * float(sum));
}

// `count` columns, of which the first is row y_row of y.
void round_results(uint y_row, uint count)
{
    const uint tiles = lanes / tile_lanes;
    barrier();
    for (uint i = gl_LocalInvocationIndex; i < tiles * columns; i += lanes * slice_lanes) {
        uint tile = i % tiles, c = i / tiles, place = gl_WorkGroupID.x * tiles + tile;
        if (place < push.rows / tile_rows && c < count)
            round_block(tile, c, (y_row + c) * (push.y_stride / tile_rows) + push.row0 / tile_rows + place);
    }
}
