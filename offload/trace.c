#include "offload/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/base/output_file.h"

enum { TRACE_VERSION = 2, COUNT_MAX = 65536 };

struct disk_header {
    char magic[8];
    uint32_t version, layer_count, expert_count, expert_bytes;
    uint8_t reserved[8];
};

struct disk_record {
    uint32_t step;
    uint16_t layer, kind, count, reserved;
};

_Static_assert(sizeof(struct disk_header) == 32 && sizeof(struct disk_record) == 12, "on disk");

static const char trace_magic[8] = {'S', 'L', 'T', 'R', 'A', 'C', 'E', '1'};

struct trace_writer {
    struct output_file output;
    struct trace_shape shape;
    int error; // the first errno
};

struct trace_reader {
    FILE *file;
    char *path;
    struct trace_shape shape;
    uint64_t offset; // of the next record, for messages
    uint16_t experts[TRACE_EXPERTS_MAX];
};

// `data` may be NULL if there are no bytes.
static void put_bytes(struct trace_writer *w, const void *data, size_t bytes)
{
    if (w->error == 0 && bytes > 0 && fwrite(data, 1, bytes, w->output.file) != bytes)
        w->error = errno ? errno : EIO;
}

static bool is_possible(const struct trace_shape *shape)
{
    return shape->layer_count > 0 && shape->layer_count <= COUNT_MAX && shape->expert_count > 0 &&
           shape->expert_count <= COUNT_MAX;
}

enum sluice_status trace_create(const char *path, const struct trace_shape *shape, struct trace_writer **out)
{
    *out = NULL;
    if (!is_possible(shape))
        return error_set(SLUICE_ERR_ARGUMENT, "%s: a trace holds 1 to %d layers and experts", path, COUNT_MAX);
    struct trace_writer *w = mem_alloc(1, sizeof *w);
    if (!w)
        return SLUICE_ERR_MEMORY;
    w->shape = *shape;
    enum sluice_status status;
    TRY(output_file_create(path, &w->output));
    struct disk_header header = {.version = TRACE_VERSION,
                                 .layer_count = shape->layer_count,
                                 .expert_count = shape->expert_count,
                                 .expert_bytes = shape->expert_bytes};
    memcpy(header.magic, trace_magic, sizeof header.magic);
    put_bytes(w, &header, sizeof header);
    *out = w;
    return SLUICE_OK;
fail:
    mem_free(w);
    return status;
}

void trace_append(struct trace_writer *w, const struct trace_record *record)
{
    CHECK(record->layer < w->shape.layer_count && record->count <= TRACE_EXPERTS_MAX);
    struct disk_record disk = {.step = record->step,
                               .layer = (uint16_t)record->layer,
                               .kind = (uint16_t)record->kind,
                               .count = (uint16_t)record->count};
    for (uint32_t i = 0; i < record->count; i++)
        CHECK(record->experts[i] < w->shape.expert_count);
    put_bytes(w, &disk, sizeof disk);
    put_bytes(w, record->experts, record->count * sizeof *record->experts);
}

enum sluice_status trace_finish(struct trace_writer *w)
{
    if (!w)
        return SLUICE_OK;
    enum sluice_status status;
    if (w->error)
        status = error_set(SLUICE_ERR_IO, "%s: the trace is incomplete: %s", w->output.path, strerror(w->error));
    else
        status = output_file_finish(&w->output);
    trace_abandon(w);
    return status;
}

void trace_abandon(struct trace_writer *w)
{
    if (!w)
        return;
    output_file_abandon(&w->output);
    mem_free(w);
}

static enum sluice_status read_header(struct trace_reader *r)
{
    struct disk_header header;
    if (fread(&header, 1, sizeof header, r->file) != sizeof header ||
        memcmp(header.magic, trace_magic, sizeof header.magic) != 0)
        return error_set(SLUICE_ERR_FORMAT, "%s: not a trace of expert uses", r->path);
    r->shape = (struct trace_shape){header.layer_count, header.expert_count, header.expert_bytes};
    if (header.version != TRACE_VERSION || !is_possible(&r->shape))
        return error_set(SLUICE_ERR_FORMAT, "%s: a trace of another version, or with an impossible header", r->path);
    r->offset = sizeof header;
    return SLUICE_OK;
}

enum sluice_status trace_open(const char *path, struct trace_reader **out)
{
    enum sluice_status status = SLUICE_ERR_MEMORY;
    *out = NULL;
    struct trace_reader *r = mem_alloc(1, sizeof *r);
    if (!r)
        return SLUICE_ERR_MEMORY;
    r->path = mem_strndup(path, strlen(path));
    if (!r->path)
        goto fail;
    r->file = fopen(path, "rbe");
    if (!r->file)
        TRY(error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno)));
    TRY(read_header(r));
    *out = r;
    return SLUICE_OK;
fail:
    trace_close(r);
    return status;
}

const struct trace_shape *trace_shape(const struct trace_reader *r)
{
    return &r->shape;
}

// The file ended; a read error is something else.
static enum sluice_status end_or_error(struct trace_reader *r)
{
    if (ferror(r->file))
        return error_set(SLUICE_ERR_IO, "%s: cannot read at offset %" PRIu64, r->path, r->offset);
    return SLUICE_PENDING;
}

enum sluice_status trace_next(struct trace_reader *r, struct trace_record *record)
{
    struct disk_record disk;
    if (fread(&disk, 1, sizeof disk, r->file) != sizeof disk ||
        fread(r->experts, sizeof *r->experts, disk.count, r->file) != disk.count)
        return end_or_error(r);
    bool possible = disk.layer < r->shape.layer_count && disk.kind <= TRACE_KEEP;
    for (uint32_t i = 0; i < disk.count; i++)
        possible = possible && r->experts[i] < r->shape.expert_count;
    if (!possible)
        return error_set(SLUICE_ERR_FORMAT, "%s: impossible record at offset %" PRIu64, r->path, r->offset);
    r->offset += sizeof disk + disk.count * sizeof *r->experts;
    *record = (struct trace_record){.step = disk.step,
                                    .layer = disk.layer,
                                    .kind = (enum trace_kind)disk.kind,
                                    .count = disk.count,
                                    .experts = r->experts};
    return SLUICE_OK;
}

void trace_close(struct trace_reader *r)
{
    if (!r)
        return;
    if (r->file)
        fclose(r->file);
    mem_free(r->path);
    mem_free(r);
}
