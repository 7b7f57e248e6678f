// The number format of the weights, chosen by the build: one of FORMAT_F32 ... FORMAT_Q6_K is defined.
#include "format_common.glsl"
#if defined FORMAT_F32
#include "format_f32.glsl"
#elif defined FORMAT_F16
#include "format_f16.glsl"
#elif defined FORMAT_BF16
#include "format_bf16.glsl"
#elif defined FORMAT_Q8_0
#include "format_q8_0.glsl"
#elif defined FORMAT_Q4_K
#include "format_q4_k.glsl"
#elif defined FORMAT_Q5_K
#include "format_q5_k.glsl"
#elif defined FORMAT_Q6_K
#include "format_q6_k.glsl"
#endif
