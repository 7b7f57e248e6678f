// Breaks the limits of the offline compiler check on demand: constant 0 sizes the shared array, constant 1 a private one
// that is indexed by data, which compilers put into scratch memory. For offline_limits.sh only.
#version 460

layout(local_size_x = 64) in;
layout(constant_id = 0) const uint shared_words = 64;
layout(constant_id = 1) const uint private_words = 4;
layout(binding = 0, std430) buffer x_buffer { uint x[]; };

shared uint pool[shared_words];

void main()
{
    uint i = gl_LocalInvocationIndex, own[private_words];
    for (uint n = 0; n < private_words; n++)
        own[n] = x[i * n];
    for (uint n = i; n < shared_words; n += 64)
        pool[n] = own[x[n] % private_words];
    barrier();
    x[i] = pool[x[i] % shared_words];
}
