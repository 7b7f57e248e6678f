// The open container, shared by container.c (opening, looking up) and container_read.c (reading, verifying).
#ifndef SLUICE_OFFLOAD_CONTAINER_PRIVATE_H
#define SLUICE_OFFLOAD_CONTAINER_PRIVATE_H

#include "offload/container.h"
#include "offload/container_directory.h"

struct container {
    char *path;
    int descriptor;
    struct container_directory directory;
    struct container_tensor *tensors;                // [header.tensor_count], file order
    const struct container_tensor **tensors_by_name; // [header.tensor_count], sorted
    struct container_expert_layer *layers;           // [header.layer_count]
};

// Like container_open for a descriptor that is already open and becomes the container's, also after a failure. `path`
// is for messages.
enum sluice_status container_open_descriptor(int descriptor, const char *path, struct container **c);

#endif
