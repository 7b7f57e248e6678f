// The KV format that the manifest chose.
#ifdef KV_F16
#include "kv_f16.glsl"
#else
#include "kv_f32.glsl"
#endif
