#include "runtime/model/synth_checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/safetensors_writer.h"
#include "quant/synth.h"
#include "runtime/base/mem.h"
#include "runtime/model/layout.h"
#include "runtime/model/parallel.h"

enum {
    PATH_BYTES = 4096,
    PIECE_ELEMENTS = 1 << 20, // made by one thread at a time
    BATCH_PIECES = 32,        // made in parallel, then written in order
    ELEMENT_BYTES = 2,
};

// Some elements of one tensor.
struct piece {
    struct model_source source;
    uint64_t first, count;
    uint16_t *out; // [PIECE_ELEMENTS], part of the batch's buffer
    struct safetensors_writer *writer;
};

struct synth {
    const struct synth_options *options;
    struct model_layout *layout;
    uint32_t *shard_of; // [layout->source_count], ascending; owned
    uint32_t shard_count;
    uint64_t bytes_done, bytes_total;
    uint16_t *buffer; // [BATCH_PIECES][PIECE_ELEMENTS]; owned
    struct piece pieces[BATCH_PIECES];
    size_t piece_count;
};

// --- files ----------------------------------------------------------------------------------------------------------

static enum sluice_status path_print(const struct synth *s, const char *name, char *path)
{
    if (snprintf(path, PATH_BYTES, "%s/%s", s->options->directory, name) >= PATH_BYTES)
        return error_set(SLUICE_ERR_ARGUMENT, "the output directory's path is longer than %d bytes", PATH_BYTES);
    return SLUICE_OK;
}

static void shard_name(const struct synth *s, uint32_t shard, char *name, size_t bytes)
{
    if (s->options->shard_bytes == 0)
        snprintf(name, bytes, "model.safetensors");
    else
        snprintf(name, bytes, "model-%05u-of-%05u.safetensors", shard + 1, s->shard_count);
}

static enum sluice_status write_all(int fd, const char *path, const char *text, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, text + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(SLUICE_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
        done += (size_t)n;
    }
    if (fsync(fd) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return SLUICE_OK;
}

// Under a temporary name first, so that the file is there completely or not at all.
static enum sluice_status write_text(const struct synth *s, const char *name, const char *text, size_t bytes)
{
    char path[PATH_BYTES], part[PATH_BYTES + 8];
    enum sluice_status status = path_print(s, name, path);
    if (status < 0)
        return status;
    snprintf(part, sizeof part, "%s.part", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot create: %s", part, strerror(errno));
    status = write_all(fd, part, text, bytes);
    close(fd);
    if (status == SLUICE_OK && rename(part, path) != 0)
        status = error_set(SLUICE_ERR_IO, "%s: cannot rename: %s", part, strerror(errno));
    if (status < 0)
        unlink(part);
    return status;
}

static enum sluice_status remove_file(const struct synth *s, const char *name)
{
    char path[PATH_BYTES];
    enum sluice_status status = path_print(s, name, path);
    if (status == SLUICE_OK && unlink(path) != 0 && errno != ENOENT)
        return error_set(SLUICE_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
    return status;
}

// The files by which others know a checkpoint.
static const char *const main_files[] = {"config.json", "model.safetensors.index.json", "model.safetensors"};

// The directory exists and has none of the main files, so that none is read in place of the new ones.
static enum sluice_status prepare_directory(const struct synth *s)
{
    enum sluice_status status = SLUICE_OK;
    struct stat info;
    if (*s->options->directory == '\0')
        return error_set(SLUICE_ERR_ARGUMENT, "the name of the folder to write is empty");
    if (mkdir(s->options->directory, 0777) != 0 && errno != EEXIST)
        return error_set(SLUICE_ERR_IO, "%s: cannot create: %s", s->options->directory, strerror(errno));
    if (stat(s->options->directory, &info) == 0 && !S_ISDIR(info.st_mode))
        return error_set(SLUICE_ERR_ARGUMENT, "%s is no folder, which a checkpoint is; choose another name",
                         s->options->directory);
    if (access(s->options->directory, W_OK | X_OK) != 0)
        return error_set(SLUICE_ERR_IO, "%s: no folder that can be written: %s", s->options->directory,
                         strerror(errno));
    for (size_t i = 0; i < sizeof main_files / sizeof *main_files; i++) {
        char path[PATH_BYTES];
        TRY(path_print(s, main_files[i], path));
        if (!s->options->replace && access(path, F_OK) == 0)
            return error_set(SLUICE_ERR_ARGUMENT, "%s: there is a checkpoint already (%s); --force replaces it",
                             s->options->directory, main_files[i]);
    }
    for (size_t i = 0; i < sizeof main_files / sizeof *main_files; i++)
        TRY(remove_file(s, main_files[i]));
fail:
    return status;
}

// --- shards ---------------------------------------------------------------------------------------------------------

static enum sluice_status plan_shards(struct synth *s)
{
    struct model_source source;
    uint64_t shard_bytes = 0;
    s->shard_of = mem_alloc(s->layout->source_count, sizeof *s->shard_of);
    if (!s->shard_of)
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; i < s->layout->source_count; i++) {
        model_layout_source(s->layout, i, &source);
        uint64_t bytes = model_source_elements(&source) * ELEMENT_BYTES;
        if (s->options->shard_bytes && shard_bytes && shard_bytes + bytes > s->options->shard_bytes) {
            s->shard_count++;
            shard_bytes = 0;
        }
        shard_bytes += bytes;
        s->shard_of[i] = s->shard_count;
        s->bytes_total += bytes;
    }
    s->shard_count++;
    return SLUICE_OK;
}

static enum sluice_status declare_shard(const struct synth *s, uint32_t shard, struct safetensors_writer *writer)
{
    struct model_source source;
    for (size_t i = 0; i < s->layout->source_count; i++) {
        if (s->shard_of[i] != shard)
            continue;
        model_layout_source(s->layout, i, &source);
        enum sluice_status status =
            safetensors_writer_declare(writer, source.name, SAFETENSORS_BF16, source.rank, source.shape);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

// --- weights --------------------------------------------------------------------------------------------------------

static enum sluice_status fill_piece(void *user, size_t index)
{
    struct synth *s = user;
    const struct piece *p = &s->pieces[index];
    return synth_fill_bf16(p->source.name, p->source.rank, p->source.shape, s->layout->config.hidden_size,
                           s->options->seed, p->first, p->count, p->out);
}

static enum sluice_status flush_batch(struct synth *s)
{
    enum sluice_status status;
    if (s->options->cancel && atomic_load(s->options->cancel))
        return error_set(SLUICE_ERR_CANCELLED, "stopped; what is incomplete was removed");
    uint32_t threads = s->options->threads ? s->options->threads : parallel_threads_default();
    TRY(parallel_run(threads, s->piece_count, fill_piece, s));
    for (size_t i = 0; i < s->piece_count; i++) {
        const struct piece *p = &s->pieces[i];
        TRY(safetensors_writer_write(p->writer, p->source.name, p->out, p->count * ELEMENT_BYTES));
        s->bytes_done += p->count * ELEMENT_BYTES;
    }
    s->piece_count = 0;
    if (s->options->progress)
        s->options->progress(s->options->user, s->bytes_done, s->bytes_total);
fail:
    return status;
}

static enum sluice_status add_tensor(struct synth *s, const struct model_source *source,
                                     struct safetensors_writer *writer)
{
    uint64_t elements = model_source_elements(source);
    for (uint64_t first = 0; first < elements; first += PIECE_ELEMENTS) {
        if (s->piece_count == BATCH_PIECES) {
            enum sluice_status status = flush_batch(s);
            if (status < 0)
                return status;
        }
        struct piece *p = &s->pieces[s->piece_count];
        p->source = *source;
        p->first = first;
        p->count = elements - first < PIECE_ELEMENTS ? elements - first : PIECE_ELEMENTS;
        p->out = s->buffer + s->piece_count * PIECE_ELEMENTS;
        p->writer = writer;
        s->piece_count++;
    }
    return SLUICE_OK;
}

static enum sluice_status write_shard(struct synth *s, uint32_t shard)
{
    char name[64], path[PATH_BYTES];
    struct safetensors_writer *writer = NULL;
    struct model_source source;
    enum sluice_status status;
    shard_name(s, shard, name, sizeof name);
    TRY(path_print(s, name, path));
    TRY(safetensors_writer_create(path, &writer));
    TRY(declare_shard(s, shard, writer));
    for (size_t i = 0; i < s->layout->source_count; i++) {
        if (s->shard_of[i] != shard)
            continue;
        model_layout_source(s->layout, i, &source);
        TRY(add_tensor(s, &source, writer));
    }
    TRY(flush_batch(s));
    TRY(safetensors_writer_finish(writer));
fail:
    safetensors_writer_destroy(writer);
    return status;
}

// --- the index ------------------------------------------------------------------------------------------------------

static json_t *pack_index(const struct synth *s)
{
    struct model_source source;
    char file[64];
    json_t *map = json_object();
    for (size_t i = 0; i < s->layout->source_count; i++) {
        model_layout_source(s->layout, i, &source);
        shard_name(s, s->shard_of[i], file, sizeof file);
        json_object_set_new(map, source.name, json_string(file));
    }
    return json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->bytes_total, "weight_map", map);
}

static enum sluice_status write_index(const struct synth *s)
{
    if (s->options->shard_bytes == 0)
        return SLUICE_OK;
    json_t *index = pack_index(s);
    char *text = index ? json_dumps(index, JSON_INDENT(2)) : NULL;
    enum sluice_status status = text ? write_text(s, "model.safetensors.index.json", text, strlen(text))
                                     : error_set(SLUICE_ERR_MEMORY, "out of memory");
    free(text);
    json_decref(index);
    return status;
}

// --- the whole ------------------------------------------------------------------------------------------------------

static enum sluice_status write_checkpoint(struct synth *s)
{
    enum sluice_status status;
    TRY(plan_shards(s));
    TRY(prepare_directory(s));
    s->buffer = mem_alloc((size_t)BATCH_PIECES * PIECE_ELEMENTS, sizeof *s->buffer);
    TRY(s->buffer ? SLUICE_OK : SLUICE_ERR_MEMORY);
    for (uint32_t i = 0; i < s->shard_count; i++)
        TRY(write_shard(s, i));
    TRY(write_index(s));
    TRY(write_text(s, "config.json", s->options->config, s->options->config_bytes));
fail:
    return status;
}

enum sluice_status model_synth_write(const struct synth_options *options)
{
    enum sluice_status status;
    struct model_config *config = mem_alloc(1, sizeof *config);
    struct synth *s = mem_alloc(1, sizeof *s);
    TRY(config && s ? SLUICE_OK : SLUICE_ERR_MEMORY);
    s->options = options;
    TRY(model_config_parse(options->config, options->config_bytes, config));
    TRY(model_layout_create(config, &s->layout));
    TRY(write_checkpoint(s));
fail:
    if (s) {
        model_layout_destroy(s->layout);
        mem_free(s->shard_of);
        mem_free(s->buffer);
    }
    mem_free(s);
    mem_free(config);
    return status;
}
