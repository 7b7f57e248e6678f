// Fuzz target: bytes as a safetensors file. Opens it, and reads the ends of every tensor that was accepted: whatever
// the header says, nothing may lie outside the file.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "quant/safetensors.h"
#include "runtime/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static void tensor_use(const struct safetensors *st, const struct safetensors_tensor *tensor, size_t file_bytes)
{
    uint8_t element[8];
    float value;
    CHECK(tensor->offset <= file_bytes && tensor->bytes <= file_bytes - tensor->offset);
    CHECK(safetensors_find(st, tensor->name) == tensor);
    if (tensor->elements == 0)
        return;
    enum sluice_status status = safetensors_read(st, tensor, tensor->elements - 1, 1, element);
    CHECK(status == (tensor->dtype == SAFETENSORS_UNKNOWN ? SLUICE_ERR_UNSUPPORTED : SLUICE_OK));
    status = safetensors_read_f32(st, tensor, 0, 1, &value);
    CHECK(status == SLUICE_OK || status == SLUICE_ERR_UNSUPPORTED);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char path[64];
    struct safetensors *st;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, bytes, count) == (ssize_t)count);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (safetensors_open(path, &st) == SLUICE_OK) {
        for (size_t i = 0; i < safetensors_count(st); i++)
            tensor_use(st, safetensors_at(st, i), count);
        safetensors_close(st);
    }
    close(fd);
    return 0;
}
