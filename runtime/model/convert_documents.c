#include "runtime/model/convert_documents.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "runtime/base/mem.h"

// --- files ----------------------------------------------------------------------------------------------------------

enum { PATH_BYTES = 4096 };

static enum sluice_status read_bytes(int fd, const char *path, uint64_t offset, void *out, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, (char *)out + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(SLUICE_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0)
            return error_set(SLUICE_ERR_IO, "%s: became shorter while it was read", path);
        done += (size_t)n;
    }
    return SLUICE_OK;
}

static enum sluice_status read_descriptor(int fd, const char *path, char **text, uint64_t *bytes)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return error_set(SLUICE_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return error_set(SLUICE_ERR_FORMAT, "%s: not a regular file", path);
    if (info.st_size > CONTAINER_DOCUMENT_BYTES_MAX)
        return error_set(SLUICE_ERR_FORMAT, "%s: %lld bytes are too many for such a file", path,
                         (long long)info.st_size);
    *bytes = (uint64_t)info.st_size;
    *text = mem_alloc(*bytes + 1, 1);
    return *text ? read_bytes(fd, path, 0, *text, *bytes) : SLUICE_ERR_MEMORY;
}

// *text is NULL if there is no such file.
static enum sluice_status read_document(const char *path, char **text, uint64_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *text = NULL;
    if (fd < 0 && errno == ENOENT)
        return SLUICE_OK;
    if (fd < 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    enum sluice_status status = read_descriptor(fd, path, text, bytes);
    close(fd);
    if (status < 0) {
        mem_free(*text);
        *text = NULL;
    }
    return status;
}

// --- the checkpoint's texts -----------------------------------------------------------------------------------------

static enum sluice_status check_json(const char *path, const char *text, size_t bytes)
{
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_ALLOW_NUL, &error);
    enum sluice_status status = SLUICE_OK;
    if (!root)
        status = error_set(SLUICE_ERR_FORMAT, "%s: not valid JSON: line %d: %s", path, error.line, error.text);
    else if (!json_is_object(root))
        status = error_set(SLUICE_ERR_FORMAT, "%s: not a JSON object", path);
    json_decref(root);
    return status;
}

static void add(struct convert_documents *documents, const char *name, char *text, uint64_t bytes)
{
    documents->items[documents->count++] = (struct container_plan_document){.name = name, .text = text, .bytes = bytes};
}

static enum sluice_status load_one(const char *directory, const char *name, struct convert_documents *documents)
{
    char path[PATH_BYTES], *text;
    uint64_t bytes;
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= PATH_BYTES)
        return error_set(SLUICE_ERR_ARGUMENT, "the path of the checkpoint is longer than %d bytes", PATH_BYTES);
    enum sluice_status status = read_document(path, &text, &bytes);
    if (status < 0 || !text)
        return status;
    const char *ending = strrchr(name, '.');
    if (ending && strcmp(ending, ".json") == 0)
        status = check_json(path, text, bytes);
    if (status < 0)
        mem_free(text);
    else
        add(documents, name, text, bytes);
    return status;
}

enum sluice_status convert_documents_load(const char *directory, struct convert_documents *documents)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "chat_template.jinja"};
    enum sluice_status status;
    *documents = (struct convert_documents){0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        TRY(load_one(directory, names[i], documents));
        if (documents->count == 0)
            return error_set(SLUICE_ERR_FORMAT,
                             "%s/config.json: no such file; a checkpoint directory has config.json and *.safetensors",
                             directory);
    }
    return SLUICE_OK;
fail:
    convert_documents_finish(documents);
    return status;
}

void convert_documents_finish(struct convert_documents *documents)
{
    for (uint32_t i = 0; i < documents->count; i++)
        mem_free((void *)(uintptr_t)documents->items[i].text);
    documents->count = 0;
}

// --- provenance -----------------------------------------------------------------------------------------------------

enum { HASH_PIECE_BYTES = 1 << 16 };

static enum sluice_status hash_range(int fd, const char *path, uint64_t bytes, uint64_t *hash)
{
    uint8_t piece[HASH_PIECE_BYTES];
    enum sluice_status status = SLUICE_OK;
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return error_set(SLUICE_ERR_MEMORY, "out of memory");
    XXH3_64bits_reset(state);
    for (uint64_t done = 0; status == SLUICE_OK && done < bytes;) {
        size_t n = bytes - done < sizeof piece ? (size_t)(bytes - done) : sizeof piece;
        status = read_bytes(fd, path, done, piece, n);
        XXH3_64bits_update(state, piece, status == SLUICE_OK ? n : 0);
        done += n;
    }
    *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return status;
}

// What identifies a weight file without reading all of it.
struct file_identity {
    uint64_t bytes, header_xxh3, modified_ns;
};

// The header is 8 bytes of length and that many bytes of JSON; that it fits the file was checked when it was opened.
static enum sluice_status identify_descriptor(int fd, const char *path, struct file_identity *identity)
{
    struct stat info;
    uint8_t prefix[8];
    enum sluice_status status;
    if (fstat(fd, &info) != 0)
        return error_set(SLUICE_ERR_IO, "%s: %s", path, strerror(errno));
    identity->bytes = (uint64_t)info.st_size;
    identity->modified_ns = (uint64_t)info.st_mtim.tv_sec * 1000000000u + (uint64_t)info.st_mtim.tv_nsec;
    TRY(read_bytes(fd, path, 0, prefix, sizeof prefix));
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (identity->bytes < 8 || length > identity->bytes - 8)
        return error_set(SLUICE_ERR_FORMAT, "%s: changed while it was read", path);
    TRY(hash_range(fd, path, 8 + length, &identity->header_xxh3));
fail:
    return status;
}

static enum sluice_status identify(const char *path, struct file_identity *identity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    enum sluice_status status = identify_descriptor(fd, path, identity);
    close(fd);
    return status;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static enum sluice_status list_files(const struct convert_source *source, json_t *files)
{
    struct file_identity identity;
    char hash[17];
    for (uint32_t i = 0; i < safetensors_file_count(source->checkpoint); i++) {
        const char *path = safetensors_file_path(source->checkpoint, i);
        enum sluice_status status = identify(path, &identity);
        if (status < 0)
            return status;
        snprintf(hash, sizeof hash, "%016" PRIx64, identity.header_xxh3);
        json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "name", base_name(path), "bytes",
                                               (json_int_t)identity.bytes, "header_xxh3", hash));
    }
    return SLUICE_OK;
}

static json_t *pack_provenance(const struct convert_options *options, json_t *files)
{
    return json_pack("{s:s, s:{s:s, s:s}, s:s?, s:O}", "program", options->program, "types", "experts",
                     quant_format_get(options->recipe.experts)->name, "trunk",
                     quant_format_get(options->recipe.trunk)->name, "instruction", options->instruction, "files",
                     files);
}

// A copy in our own memory, because jansson's belongs to another allocator.
static enum sluice_status dump_json(const json_t *root, char **text, uint64_t *bytes)
{
    char *dumped = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (!dumped)
        return error_set(SLUICE_ERR_ARGUMENT, "the instruction text must be valid UTF-8");
    *bytes = strlen(dumped);
    *text = mem_strndup(dumped, *bytes);
    free(dumped);
    return *text ? SLUICE_OK : SLUICE_ERR_MEMORY;
}

enum sluice_status convert_documents_add_provenance(struct convert_documents *documents,
                                                    const struct convert_options *options,
                                                    const struct convert_source *source)
{
    char *text = NULL;
    uint64_t bytes = 0;
    json_t *files = json_array(), *root = NULL;
    enum sluice_status status;
    TRY(files ? SLUICE_OK : error_set(SLUICE_ERR_MEMORY, "out of memory"));
    TRY(list_files(source, files));
    root = pack_provenance(options, files);
    TRY(dump_json(root, &text, &bytes));
    add(documents, "provenance.json", text, bytes);
fail:
    json_decref(root);
    json_decref(files);
    return status;
}

// --- identity -------------------------------------------------------------------------------------------------------

static enum sluice_status hash_times(XXH3_state_t *state, const struct convert_source *source)
{
    struct file_identity identity;
    for (uint32_t i = 0; i < safetensors_file_count(source->checkpoint); i++) {
        enum sluice_status status = identify(safetensors_file_path(source->checkpoint, i), &identity);
        if (status < 0)
            return status;
        XXH3_128bits_update(state, &identity, sizeof identity);
    }
    return SLUICE_OK;
}

enum sluice_status convert_fingerprint(const struct convert_documents *documents, const struct convert_source *source,
                                       uint8_t fingerprint[16])
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return error_set(SLUICE_ERR_MEMORY, "out of memory");
    XXH3_128bits_reset(state);
    for (uint32_t i = 0; i < documents->count; i++) {
        const struct container_plan_document *item = &documents->items[i];
        XXH3_128bits_update(state, item->name, strlen(item->name) + 1);
        XXH3_128bits_update(state, &item->bytes, sizeof item->bytes);
        XXH3_128bits_update(state, item->text, item->bytes);
    }
    enum sluice_status status = hash_times(state, source);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    memcpy(fingerprint, canonical.digest, sizeof canonical.digest);
    XXH3_freeState(state);
    return status;
}
