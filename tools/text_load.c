#include "tools/text_load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "offload/container.h"
#include "runtime/base/mem.h"
#include "runtime/text/json_text.h"
#include "runtime/text/text_buffer.h"

enum { PATH_BYTES = 4096 };

// Where the documents are.
struct source {
    const char *path;
    struct container *container; // NULL: files
    bool is_directory;           // else `path` is the tokenizer.json itself
};

struct document {
    char *text; // owned; NULL: there is none
    size_t bytes;
};

// ---- documents

static enum sluice_status read_stream(FILE *file, const char *path, struct document *document)
{
    struct text_buffer buffer = {0};
    enum sluice_status status;
    size_t got;
    do {
        TRY(text_buffer_reserve(&buffer, 1 << 16));
        got = fread(buffer.data + buffer.bytes, 1, 1 << 16, file);
        buffer.bytes += got;
    } while (got > 0);
    if (ferror(file)) {
        status = error_set(SLUICE_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        goto fail;
    }
    TRY(text_buffer_take(&buffer, &document->text, &document->bytes));
fail:
    text_buffer_finish(&buffer);
    return status;
}

static enum sluice_status read_file(const char *path, struct document *document)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(errno == ENOENT ? SLUICE_ERR_UNSUPPORTED : SLUICE_ERR_IO, "%s: cannot open: %s", path,
                         strerror(errno));
    enum sluice_status status = read_stream(file, path, document);
    fclose(file);
    return status;
}

// UNSUPPORTED if there is no such document.
static enum sluice_status read_document(const struct source *source, const char *name, struct document *document)
{
    *document = (struct document){0};
    if (source->container)
        return container_document(source->container, name, &document->text, &document->bytes);
    if (!source->is_directory)
        return strcmp(name, "tokenizer.json") == 0 ? read_file(source->path, document) : SLUICE_ERR_UNSUPPORTED;
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", source->path, name) >= PATH_BYTES)
        return error_set(SLUICE_ERR_ARGUMENT, "the path of the model is longer than %d bytes", PATH_BYTES);
    return read_file(path, document);
}

// `document->text` is NULL if there is no such document.
static enum sluice_status read_optional(const struct source *source, const char *name, struct document *document)
{
    enum sluice_status status = read_document(source, name, document);
    return status == SLUICE_ERR_UNSUPPORTED ? SLUICE_OK : status;
}

static bool begins_like_json(const char *path)
{
    FILE *file = fopen(path, "rb");
    int byte = ' ';
    while (file && (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'))
        byte = fgetc(file);
    if (file)
        fclose(file);
    return byte == '{';
}

static enum sluice_status source_open(const char *path, struct source *source)
{
    struct stat info;
    *source = (struct source){.path = path};
    if (stat(path, &info) < 0)
        return error_set(SLUICE_ERR_IO, "%s: %s", path, strerror(errno));
    source->is_directory = S_ISDIR(info.st_mode);
    if (source->is_directory || begins_like_json(path))
        return SLUICE_OK;
    return container_open(path, &source->container);
}

// ---- generation defaults

static enum sluice_status read_json(const struct source *source, const char *name, json_t **json)
{
    struct document document;
    *json = NULL;
    enum sluice_status status = read_optional(source, name, &document);
    if (status == SLUICE_OK && document.text)
        status = json_text_parse(document.text, document.bytes, name, json);
    mem_free(document.text);
    return status;
}

static float number_or(const json_t *config, const char *key, float fallback)
{
    const json_t *value = json_object_get(config, key);
    return json_is_number(value) ? (float)json_number_value(value) : fallback;
}

// Where generation_config.json is silent, Hugging Face's generate() samples with temperature 1 and top-k 50.
static void read_sampling(const json_t *config, struct sampler_options *sampling)
{
    *sampling = sampler_options_default();
    if (!json_is_true(json_object_get(config, "do_sample")))
        return;
    const json_t *top_k = json_object_get(config, "top_k");
    json_int_t k = json_is_integer(top_k) ? json_integer_value(top_k) : top_k ? 0 : 50;
    sampling->temperature = number_or(config, "temperature", 1);
    sampling->top_k = k > 0 && k < INT32_MAX ? (int32_t)k : 0;
    sampling->top_p = number_or(config, "top_p", 1);
    sampling->min_p = number_or(config, "min_p", 0);
    sampling->repetition_penalty = number_or(config, "repetition_penalty", 1);
    sampling->presence_penalty = number_or(config, "presence_penalty", 0);
}

static bool add_stop_id(struct text_bundle *bundle, json_int_t id)
{
    bool known = id >= 0 && id < tokenizer_vocab_size(bundle->tokenizer);
    for (size_t i = 0; i < bundle->stop_id_count; i++)
        known = known && bundle->stop_ids[i] != id;
    if (known)
        bundle->stop_ids[bundle->stop_id_count++] = (int32_t)id;
    return known;
}

// eos_token_id is a number or a list of numbers.
static enum sluice_status read_stop_ids(const json_t *config, struct text_bundle *bundle)
{
    const json_t *eos = json_object_get(config, "eos_token_id");
    size_t count = json_is_array(eos) ? json_array_size(eos) : json_is_integer(eos) ? 1 : 0;
    if (count == 0 || bundle->stop_ids)
        return SLUICE_OK;
    bundle->stop_ids = mem_alloc(count, sizeof *bundle->stop_ids);
    if (!bundle->stop_ids)
        return SLUICE_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (json_is_integer(id))
            add_stop_id(bundle, json_integer_value(id));
    }
    return SLUICE_OK;
}

static enum sluice_status default_stop_ids(struct text_bundle *bundle)
{
    if (bundle->stop_id_count > 0)
        return SLUICE_OK;
    mem_free(bundle->stop_ids);
    bundle->stop_ids = mem_alloc(2, sizeof *bundle->stop_ids);
    if (!bundle->stop_ids)
        return SLUICE_ERR_MEMORY;
    add_stop_id(bundle, tokenizer_find(bundle->tokenizer, "<|im_end|>"));
    add_stop_id(bundle, tokenizer_find(bundle->tokenizer, "<|endoftext|>"));
    return SLUICE_OK;
}

static enum sluice_status load_generation(const struct source *source, struct text_bundle *bundle)
{
    json_t *generation = NULL, *config = NULL;
    enum sluice_status status;
    TRY(read_json(source, "generation_config.json", &generation));
    TRY(read_json(source, "config.json", &config));
    read_sampling(generation, &bundle->sampling);
    TRY(read_stop_ids(generation, bundle));
    TRY(read_stop_ids(config, bundle));
    TRY(default_stop_ids(bundle));
fail:
    json_decref(generation);
    json_decref(config);
    return status;
}

// ---- tokenizer and template

static enum sluice_status load_tokenizer(const struct source *source, struct text_bundle *bundle)
{
    struct document file = {0}, config = {0}, jinja = {0};
    enum sluice_status status = read_document(source, "tokenizer.json", &file);
    if (status == SLUICE_ERR_UNSUPPORTED) {
        status = error_set(SLUICE_ERR_UNSUPPORTED,
                           "the model has no tokenizer.json; get it from the original repository of the model");
        goto fail;
    }
    TRY(status);
    TRY(read_optional(source, "tokenizer_config.json", &config));
    TRY(read_optional(source, "chat_template.jinja", &jinja));
    TRY(tokenizer_create(file.text, file.bytes, config.text, config.bytes, &bundle->tokenizer));
    TRY(chat_template_find(jinja.text, jinja.bytes, config.text, config.bytes, &bundle->template_text));
    if (bundle->template_text)
        bundle->template = chat_template_recognise(bundle->template_text);
fail:
    mem_free(file.text);
    mem_free(config.text);
    mem_free(jinja.text);
    return status;
}

enum sluice_status text_load(const char *path, struct text_bundle *bundle)
{
    *bundle = (struct text_bundle){0};
    struct source source;
    enum sluice_status status = source_open(path, &source);
    if (status < 0)
        return status;
    TRY(load_tokenizer(&source, bundle));
    TRY(load_generation(&source, bundle));
    container_close(source.container);
    return SLUICE_OK;
fail:
    container_close(source.container);
    text_bundle_finish(bundle);
    return error_prefix(status, "%s", path);
}

enum sluice_status text_choose_template(struct text_bundle *bundle, enum chat_template wanted)
{
    if (wanted != CHAT_TEMPLATE_UNKNOWN)
        bundle->template = wanted;
    if (bundle->template != CHAT_TEMPLATE_UNKNOWN)
        return SLUICE_OK;
    if (bundle->template_text)
        return chat_template_unknown_message(bundle->template_text);
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "the model has no chat template; choose one with --template instruct, thinking or coder");
}

void text_bundle_finish(struct text_bundle *bundle)
{
    tokenizer_destroy(bundle->tokenizer);
    mem_free(bundle->template_text);
    mem_free(bundle->stop_ids);
    *bundle = (struct text_bundle){0};
}
