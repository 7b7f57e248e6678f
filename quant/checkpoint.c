#include "quant/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/safetensors_internal.h"
#include "runtime/base/mem.h"

enum { SHARDS_MAX = 4096 };

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

static char *path_join(const char *directory, const char *name)
{
    size_t bytes = strlen(directory) + strlen(name) + 2;
    char *path = mem_alloc(bytes, 1);
    if (path)
        snprintf(path, bytes, "%s/%s", directory, name);
    return path;
}

// The file's whole text; *text is owned by the caller.
static enum sluice_status index_read(const char *path, char **text, size_t *bytes)
{
    struct safetensors_file file = {.path = (char *)(uintptr_t)path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    struct stat info;
    enum sluice_status status = SLUICE_ERR_MEMORY;
    if (file.fd < 0 || fstat(file.fd, &info) < 0) {
        status = error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode) || info.st_size < 2 || (uint64_t)info.st_size > SAFETENSORS_HEADER_BYTES_MAX) {
        status = error_set(SLUICE_ERR_FORMAT, "%s: not an index: a file of 2 to %u bytes is expected", path,
                           SAFETENSORS_HEADER_BYTES_MAX);
    } else {
        *bytes = (size_t)info.st_size;
        *text = mem_alloc(*bytes, 1);
        if (*text)
            status = safetensors_file_read(&file, 0, *text, *bytes);
    }
    if (file.fd >= 0)
        close(file.fd);
    return status;
}

// Whether `name` is a plain file name: an index must not make us open files elsewhere.
static bool shard_name_good(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= 255 && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

static const char *file_name(const struct safetensors *st, uint32_t file)
{
    const char *slash = strrchr(st->files[file].path, '/');
    return slash ? slash + 1 : st->files[file].path;
}

static bool shard_is_open(const struct safetensors *st, const char *name)
{
    for (uint32_t i = st->file_count; i > 0; i--) // backwards: an index is usually in the order of its shards
        if (strcmp(file_name(st, i - 1), name) == 0)
            return true;
    return false;
}

static enum sluice_status shard_open(struct safetensors *st, const char *directory, const char *name)
{
    if (!shard_name_good(name))
        return error_set(SLUICE_ERR_FORMAT, "%s/%s: '%.100s' is not a plain file name", directory, index_name, name);
    if (shard_is_open(st, name))
        return SLUICE_OK;
    if (st->file_count == SHARDS_MAX)
        return error_set(SLUICE_ERR_FORMAT, "%s/%s: more than %d shards", directory, index_name, SHARDS_MAX);
    char *path = path_join(directory, name);
    if (!path)
        return SLUICE_ERR_MEMORY;
    enum sluice_status status = safetensors_add_file(st, path);
    mem_free(path);
    return status;
}

static enum sluice_status shards_open(struct safetensors *st, const char *directory, json_t *weight_map)
{
    const char *tensor;
    json_t *shard;
    json_object_foreach(weight_map, tensor, shard)
    {
        if (!json_is_string(shard))
            return error_set(SLUICE_ERR_FORMAT, "%s/%s: tensor '%.100s' has no shard", directory, index_name, tensor);
        enum sluice_status status = shard_open(st, directory, json_string_value(shard));
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

// Every tensor of the index is in the shard that the index says.
static enum sluice_status places_check(const struct safetensors *st, json_t *weight_map)
{
    const char *name;
    json_t *shard;
    json_object_foreach(weight_map, name, shard)
    {
        const struct safetensors_tensor *tensor = safetensors_find(st, name);
        if (!tensor || strcmp(file_name(st, tensor->file), json_string_value(shard)) != 0)
            return error_set(SLUICE_ERR_FORMAT, "%s: tensor '%.100s' is not in %s, where the index says (it is %s%s)",
                             index_name, name, json_string_value(shard), tensor ? "in " : "nowhere",
                             tensor ? file_name(st, tensor->file) : "");
    }
    return SLUICE_OK;
}

static enum sluice_status checkpoint_load(struct safetensors *st, const char *directory, const char *index_path)
{
    enum sluice_status status;
    char *text = NULL;
    size_t bytes = 0;
    json_t *root = NULL;
    TRY(index_read(index_path, &text, &bytes));
    TRY(safetensors_json_parse(index_path, "index", text, bytes, &root));
    json_t *weight_map = json_object_get(root, "weight_map");
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0)
        TRY(error_set(SLUICE_ERR_FORMAT, "%s: it has no weight_map", index_path));
    TRY(shards_open(st, directory, weight_map));
    TRY(safetensors_sort(st));
    TRY(places_check(st, weight_map));
fail:
    json_decref(root);
    mem_free(text);
    return status;
}

static enum sluice_status checkpoint_open_single(const char *directory, struct safetensors **st)
{
    char *path = path_join(directory, single_name);
    if (!path)
        return SLUICE_ERR_MEMORY;
    enum sluice_status status = safetensors_open(path, st);
    if (status == SLUICE_ERR_IO && access(path, F_OK) != 0)
        status = error_set(SLUICE_ERR_IO, "%s: no checkpoint: neither %s nor %s is there", directory, index_name,
                           single_name);
    mem_free(path);
    return status;
}

enum sluice_status checkpoint_open(const char *directory, struct safetensors **st)
{
    enum sluice_status status = SLUICE_OK;
    *st = NULL;
    char *index_path = path_join(directory, index_name);
    if (!index_path)
        return SLUICE_ERR_MEMORY;
    if (access(index_path, F_OK) != 0) {
        status = checkpoint_open_single(directory, st);
        goto fail;
    }
    *st = mem_alloc(1, sizeof **st);
    TRY(*st ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(checkpoint_load(*st, directory, index_path));
fail:
    mem_free(index_path);
    if (status < 0) {
        safetensors_close(*st);
        *st = NULL;
    }
    return status;
}
