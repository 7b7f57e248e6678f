#include "offload/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"

enum { TRACE_VERSION = 1, COUNT_MAX = 65536 };

struct disk_header {
    char magic[8];
    uint32_t version, layer_count, expert_count;
    uint8_t reserved[12];
};

struct disk_record {
    uint32_t step;
    uint16_t layer, count;
};

_Static_assert(sizeof(struct disk_header) == 32 && sizeof(struct disk_record) == 8, "on disk");

static const char trace_magic[8] = {'S', 'L', 'T', 'R', 'A', 'C', 'E', '1'};

struct trace_writer {
    FILE *file;
    char *path;
    uint32_t layer_count, expert_count;
    int error; // the first errno
};

struct trace_reader {
    FILE *file;
    char *path;
    uint32_t layer_count, expert_count;
    uint64_t offset; // of the next record, for messages
    uint16_t experts[TRACE_EXPERTS_MAX];
};

static void put_bytes(struct trace_writer *w, const void *data, size_t bytes)
{
    if (w->error == 0 && fwrite(data, 1, bytes, w->file) != bytes)
        w->error = errno ? errno : EIO;
}

enum sluice_status trace_create(const char *path, uint32_t layer_count, uint32_t expert_count,
                                struct trace_writer **out)
{
    *out = NULL;
    if (layer_count == 0 || layer_count > COUNT_MAX || expert_count == 0 || expert_count > COUNT_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "%s: a trace holds 1 to %d layers and experts", path, COUNT_MAX);
    struct trace_writer *w = mem_alloc(1, sizeof *w);
    if (!w)
        return SLUICE_ERR_MEMORY;
    w->layer_count = layer_count;
    w->expert_count = expert_count;
    w->path = mem_strndup(path, strlen(path));
    enum sluice_status status = SLUICE_ERR_MEMORY;
    if (!w->path)
        goto fail;
    w->file = fopen(path, "wbe");
    if (!w->file)
        TRY(error_set(SLUICE_ERR_IO, "%s: cannot create: %s", path, strerror(errno)));
    struct disk_header header = {.version = TRACE_VERSION, .layer_count = layer_count, .expert_count = expert_count};
    memcpy(header.magic, trace_magic, sizeof header.magic);
    put_bytes(w, &header, sizeof header);
    *out = w;
    return SLUICE_OK;
fail:
    mem_free(w->path);
    mem_free(w);
    return status;
}

void trace_append(struct trace_writer *w, uint32_t step, uint32_t layer, const uint32_t *experts, uint32_t count)
{
    CHECK(layer < w->layer_count && count <= TRACE_EXPERTS_MAX);
    struct disk_record record = {.step = step, .layer = (uint16_t)layer, .count = (uint16_t)count};
    put_bytes(w, &record, sizeof record);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(experts[i] < w->expert_count);
        uint16_t expert = (uint16_t)experts[i];
        put_bytes(w, &expert, sizeof expert);
    }
}

enum sluice_status trace_finish(struct trace_writer *w)
{
    if (!w)
        return SLUICE_OK;
    enum sluice_status status = SLUICE_OK;
    if (fclose(w->file) != 0 && w->error == 0)
        w->error = errno;
    if (w->error)
        status = error_set(SLUICE_ERR_IO, "%s: the trace is incomplete: %s", w->path, strerror(w->error));
    mem_free(w->path);
    mem_free(w);
    return status;
}

static enum sluice_status read_header(struct trace_reader *r)
{
    struct disk_header header;
    if (fread(&header, 1, sizeof header, r->file) != sizeof header ||
        memcmp(header.magic, trace_magic, sizeof header.magic) != 0)
        return error_set(SLUICE_ERR_FORMAT, "%s: not a trace of expert uses", r->path);
    if (header.version != TRACE_VERSION || header.layer_count == 0 || header.layer_count > COUNT_MAX ||
        header.expert_count == 0 || header.expert_count > COUNT_MAX)
        return error_set(SLUICE_ERR_FORMAT, "%s: a trace of another version, or with an impossible header", r->path);
    r->layer_count = header.layer_count;
    r->expert_count = header.expert_count;
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

uint32_t trace_layer_count(const struct trace_reader *r)
{
    return r->layer_count;
}

uint32_t trace_expert_count(const struct trace_reader *r)
{
    return r->expert_count;
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
    bool possible = disk.layer < r->layer_count;
    for (uint32_t i = 0; i < disk.count; i++)
        possible = possible && r->experts[i] < r->expert_count;
    if (!possible)
        return error_set(SLUICE_ERR_FORMAT, "%s: impossible record at offset %" PRIu64, r->path, r->offset);
    r->offset += sizeof disk + disk.count * sizeof *r->experts;
    *record = (struct trace_record){.step = disk.step, .layer = disk.layer, .count = disk.count, .experts = r->experts};
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
