// K and V of one kv head, in blocks of 32 positions, in the number format that the manifest chose:
//
//   K block   [piece of 16 bytes of a position's dimensions][32 positions]   then scales
//   V block   [32 positions][dimensions]                                     then scales
//   scales    f32 [32 positions][dimensions / 32], only where KV_SCALED is 1
//
// so that a lane that owns a position reads 16 bytes of K at a time, and lanes that own dimensions read V in order. Each
// format says how many fours of neighbouring dimensions a piece holds (KV_PIECE_FOURS), how many 32-bit words a four
// takes (KV_FOUR_WORDS) and a whole block (KV_BLOCK_WORDS), and has
//   kv_piece_four(bits, i)       four number i of a piece of K   } without its scale
//   kv_four(bits)                a four of V                     }
//   kv_four_pack(values, scale)  the words of a four, the first KV_FOUR_WORDS count
#if defined KV_F16
#include "kv_f16.glsl"
#elif defined KV_Q8
#include "kv_q8.glsl"
#else
#include "kv_f32.glsl"
#endif

// The word of the scale of dimensions 32 g ... of a position, counted from its block's beginning.
uint kv_scale_word(uint dim, uint position_in_block, uint g)
{
    return 8u * dim + position_in_block * (dim / 32u) + g;
}
