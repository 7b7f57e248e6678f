// Copies host bytes to the device through one staging buffer, whenever it is full. For loading: copies are waited for.
#ifndef SLUICE_MODEL_STAGER_H
#define SLUICE_MODEL_STAGER_H

#include "runtime/gpu/command.h"

struct stager {
    struct gpu_device *device;
    struct gpu_buffer *buffer;   // owned
    struct gpu_command *command; // copies recorded since the last flush, or NULL
    uint64_t used, bytes;        // of the buffer
};

// `bytes` is a multiple of 4. Errors: as gpu_buffer_create; *stager is empty then.
enum sluice_status stager_create(struct gpu_device *device, uint64_t bytes, const char *label, struct stager *stager);

// Gives up what was not flushed. An empty one is allowed.
void stager_finish(struct stager *stager);

// Copies data[to.bytes], which may be changed afterwards. It has arrived after stager_flush. Errors: of the device.
enum sluice_status stager_put(struct stager *stager, const void *data, struct gpu_range to);

// Submits all copies and waits for them.
enum sluice_status stager_flush(struct stager *stager);

#endif
