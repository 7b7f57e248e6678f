#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "quant/halffloat.h"
#include "quant/safetensors_internal.h"
#include "runtime/base/check.h"

enum { CHUNK_BYTES = 16384 };

enum sluice_status safetensors_file_read(const struct safetensors_file *file, uint64_t offset, void *out,
                                         uint64_t bytes)
{
    uint8_t *next = out;
    while (bytes > 0) {
        size_t piece = bytes < (1u << 30) ? (size_t)bytes : 1u << 30; // one call reads 2 GiB at most
        ssize_t got = pread(file->fd, next, piece, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(SLUICE_ERR_IO, "%s: reading %zu bytes at offset %llu failed: %s", file->path, piece,
                             (unsigned long long)offset, strerror(errno));
        if (got == 0)
            return error_set(SLUICE_ERR_IO, "%s: the file became shorter while it was open: it ends before offset %llu",
                             file->path, (unsigned long long)offset);
        next += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return SLUICE_OK;
}

static enum sluice_status range_check(const struct safetensors *st, const struct safetensors_tensor *tensor,
                                      uint64_t first, uint64_t count)
{
    CHECK(tensor->file < st->file_count);
    const char *path = st->files[tensor->file].path;
    if (tensor->dtype >= SAFETENSORS_UNKNOWN)
        return error_set(SLUICE_ERR_UNSUPPORTED, "%s: tensor '%.200s' has a dtype that this program does not know",
                         path, tensor->name);
    if (first > tensor->elements || count > tensor->elements - first)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: tensor '%.200s' has %llu elements: cannot read %llu from %llu on",
                         path, tensor->name, (unsigned long long)tensor->elements, (unsigned long long)count,
                         (unsigned long long)first);
    return SLUICE_OK;
}

enum sluice_status safetensors_read(const struct safetensors *st, const struct safetensors_tensor *tensor,
                                    uint64_t first, uint64_t count, void *out)
{
    enum sluice_status status;
    TRY(range_check(st, tensor, first, count));
    uint64_t size = safetensors_dtype_bytes(tensor->dtype);
    status = safetensors_file_read(&st->files[tensor->file], tensor->offset + first * size, out, count * size);
    if (status < 0)
        return error_prefix(status, "tensor '%.200s'", tensor->name);
fail:
    return status;
}

static void chunk_from_f32(const uint8_t *in, size_t count, float *out)
{
    memcpy(out, in, count * sizeof *out);
}

static void chunk_from_f16(const uint8_t *in, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, in + sizeof bits * i, sizeof bits);
        out[i] = f32_from_f16(bits);
    }
}

static void chunk_from_bf16(const uint8_t *in, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, in + sizeof bits * i, sizeof bits);
        out[i] = f32_from_bf16(bits);
    }
}

static void chunk_from_f64(const uint8_t *in, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        double value;
        memcpy(&value, in + sizeof value * i, sizeof value);
        out[i] = (float)value;
    }
}

enum sluice_status safetensors_read_f32(const struct safetensors *st, const struct safetensors_tensor *tensor,
                                        uint64_t first, uint64_t count, float *out)
{
    static void (*const convert[SAFETENSORS_UNKNOWN + 1])(const uint8_t *, size_t, float *) = {
        [SAFETENSORS_F32] = chunk_from_f32,
        [SAFETENSORS_F16] = chunk_from_f16,
        [SAFETENSORS_BF16] = chunk_from_bf16,
        [SAFETENSORS_F64] = chunk_from_f64,
    };
    enum sluice_status status;
    uint8_t chunk[CHUNK_BYTES];
    TRY(range_check(st, tensor, first, count));
    if (!convert[tensor->dtype])
        return error_set(SLUICE_ERR_UNSUPPORTED, "%s: tensor '%.200s' is %s: expected F32, F16, BF16 or F64",
                         st->files[tensor->file].path, tensor->name, safetensors_dtype_name(tensor->dtype));
    size_t chunk_count = CHUNK_BYTES / safetensors_dtype_bytes(tensor->dtype);
    while (count > 0) {
        size_t now = count < chunk_count ? (size_t)count : chunk_count;
        TRY(safetensors_read(st, tensor, first, now, chunk));
        convert[tensor->dtype](chunk, now, out);
        first += now;
        count -= now;
        out += now;
    }
fail:
    return status;
}
