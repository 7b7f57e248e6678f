#include "container_sample.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/random.h"

static const char config[] = "{\"model\": \"sample\", \"layers\": 3}";
static const char tokenizer[5000] = "{\"vocab\": []}";

static const struct container_plan_type types[] = {{SAMPLE_TYPE_TILES, "q4"}, {SAMPLE_TYPE_F32, "f32"}};
static const struct container_plan_document documents[] = {
    {"config.json", config, sizeof config - 1}, {"empty.txt", "", 0}, {"tokenizer.json", tokenizer, sizeof tokenizer}};
static const struct container_plan_tensor tensors[SAMPLE_TENSORS] = {
    {"model.norm.weight", SAMPLE_TYPE_F32, CONTAINER_LAYOUT_PLAIN, 1, 25, 100},
    {"model.embed.weight", SAMPLE_TYPE_TILES, CONTAINER_LAYOUT_TILES, 64, 128, 4096},
    {"lm_head.weight", SAMPLE_TYPE_TILES, CONTAINER_LAYOUT_TILES, 64, 256, 9000},
};
static const struct container_plan_experts layers[SAMPLE_LAYERS] = {
    {0, 3, SAMPLE_TYPE_TILES, SAMPLE_TYPE_F32, 64, 32, 2304, 4096},
    {2, 2, SAMPLE_TYPE_TILES, SAMPLE_TYPE_TILES, 128, 32, 4608, 8192},
};

const struct container_plan sample_plan = {types, 2, documents, 3, tensors, SAMPLE_TENSORS, layers, SAMPLE_LAYERS};
const struct container_writer_options sample_options = {
    .fingerprint = "sample inputs 1", .text = "q4_k of /models/a", .batch_bytes = 8192};

static void fill(uint64_t seed, uint8_t *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)random_next(&seed);
}

void sample_tensor(uint32_t index, uint8_t *out)
{
    fill(index + 1, out, tensors[index].bytes);
}

void sample_expert(uint32_t layer, uint32_t expert, uint8_t *out)
{
    fill(1000 + 100 * layer + expert, out, layer ? 8192 : 4096);
}

enum sluice_status sample_put(struct container_writer *w)
{
    static uint8_t data[16384];
    enum sluice_status status = SLUICE_OK;
    for (uint32_t i = 0; i < SAMPLE_TENSORS; i++) {
        if (container_writer_has_tensor(w, i))
            continue;
        sample_tensor(i, data);
        TRY(container_writer_put_tensor(w, i, data, tensors[i].bytes));
    }
    for (uint32_t l = 0; l < SAMPLE_LAYERS; l++)
        for (uint32_t e = 0; e < layers[l].expert_count; e++) {
            if (container_writer_has_expert(w, layers[l].layer, e))
                continue;
            sample_expert(layers[l].layer, e, data);
            TRY(container_writer_put_expert(w, layers[l].layer, e, data, layers[l].record_bytes));
        }
fail:
    return status;
}

void sample_write(const char *path)
{
    struct container_writer *w;
    assert_int_equal(container_writer_open(path, &sample_plan, &sample_options, &w), SLUICE_OK);
    assert_int_equal(sample_put(w), SLUICE_OK);
    assert_int_equal(container_writer_finish(w), SLUICE_OK);
    container_writer_close(w);
}

void folder_create(char out[64], bool in_memory)
{
    strcpy(out, in_memory && access("/dev/shm", W_OK) == 0 ? "/dev/shm/sluice-test-XXXXXX" : "/tmp/sluice-test-XXXXXX");
    assert_non_null(mkdtemp(out));
}

void folder_remove(const char *folder)
{
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
    assert_int_equal(rmdir(folder), 0);
}

uint8_t *file_load(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

void file_store(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}
