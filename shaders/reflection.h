// What the host must know of a kernel's module; and what kernels may not have.
#ifndef SLUICE_SHADERS_REFLECTION_H
#define SLUICE_SHADERS_REFLECTION_H

#include "shaders/spirv.h"

enum {
    REFLECTION_BINDINGS_MAX = 16,
    REFLECTION_ARRAY_BUFFERS = 16, // of binding 0, where that is an array
    REFLECTION_BUFFERS_MAX = 24,   // of all bindings
    REFLECTION_CONSTANTS_MAX = 12,
};

// Of storage buffers, push constants and specialization constants; shader_table.h explains the fields.
struct reflection {
    unsigned binding_count, push_bytes, constant_count;
    unsigned array_count; // buffers of binding 0; 0: there is none
    uint32_t written_mask, read_mask;
    uint32_t local_size[3], constants[REFLECTION_CONSTANTS_MAX];
    bool uses_matrix_cores;
};

// Fills *r, which is zero before. Ends the program with a message if the module has something that the host cannot
// share, or a capability that devices are not created with.
void reflection_read(const char *program, const char *path, struct reflection *r);

#endif
