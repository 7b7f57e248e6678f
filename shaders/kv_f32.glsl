// K and V stored as f32; the interface is explained in kv_f16.glsl.
#define KV_FOUR vec4
#define KV_TWO vec2
#define KV_LINE 4u // KV_FOURs in a cache line of 64 bytes

vec4 kv_four(vec4 values)
{
    return values;
}

vec2 kv_two(vec2 values)
{
    return values;
}

vec2 kv_two_pack(vec2 values)
{
    return values;
}

vec4 kv_four_pack(vec4 values)
{
    return values;
}
