// y[i] = x[i] * multiplier + addend (mod 2^32), `repeats` times over: a known answer that shows whether a device, its
// barriers and its timers work. One invocation per element; reads and writes 4 bytes each.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "shader_params.h"

layout(local_size_x = 64, local_size_x_id = 0) in;
layout(constant_id = 1) const uint repeats = 1;

layout(push_constant) uniform push_block { probe_push push; };
layout(binding = 0, std430) readonly buffer x_buffer { uint x[]; };
layout(binding = 1, std430) writeonly buffer y_buffer { uint y[]; };

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i >= push.count)
        return;
    uint value = x[i];
    for (uint r = 0; r < repeats; r++)
        value = value * push.multiplier + push.addend;
    y[i] = value;
}
