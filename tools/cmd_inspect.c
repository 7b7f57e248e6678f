// `sluice inspect`: what is in a container, for people or as JSON. Both are made from one JSON tree.

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/container.h"
#include "runtime/base/mem.h"
#include "runtime/model/config.h"
#include "tools/cli.h"
#include "tools/commands.h"

// --- the tree -------------------------------------------------------------------------------------------------------

static json_t *pack_config(const struct model_config *c)
{
    json_t *tree =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "layers", (json_int_t)c->layer_count, "full_attention_layers",
                  (json_int_t)c->full_count, "linear_attention_layers", (json_int_t)c->linear_count, "moe_layers",
                  (json_int_t)c->moe_count, "hidden_size", (json_int_t)c->hidden_size, "vocab_size",
                  (json_int_t)c->vocab_size, "max_position_embeddings", (json_int_t)c->positions_max);
    json_object_set_new(tree, "attention",
                        json_pack("{s:I, s:I, s:I, s:I, s:f}", "heads", (json_int_t)c->heads, "kv_heads",
                                  (json_int_t)c->kv_heads, "head_dim", (json_int_t)c->head_dim, "rotary_dim",
                                  (json_int_t)c->rotary_dim, "rope_theta", c->rope.theta));
    if (c->rope.yarn)
        json_object_set_new(tree, "yarn_factor", json_real(c->rope.factor));
    json_object_set_new(tree, "deltanet",
                        json_pack("{s:I, s:I, s:I, s:I, s:I}", "key_heads", (json_int_t)c->linear_key_heads,
                                  "value_heads", (json_int_t)c->linear_value_heads, "key_dim",
                                  (json_int_t)c->linear_key_dim, "value_dim", (json_int_t)c->linear_value_dim, "taps",
                                  (json_int_t)c->conv_taps));
    if (c->moe_count)
        json_object_set_new(tree, "experts",
                            json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)c->experts, "per_token",
                                      (json_int_t)c->top_k, "intermediate", (json_int_t)c->expert_intermediate,
                                      "shared_intermediate", (json_int_t)c->shared_intermediate));
    return tree;
}

static enum sluice_status add_config(const struct container *container, json_t *root)
{
    char *text = NULL;
    size_t bytes;
    struct model_config *config = mem_alloc(1, sizeof *config);
    enum sluice_status status;
    TRY(config ? SLUICE_OK : SLUICE_ERR_MEMORY);
    TRY(container_document(container, "config.json", &text, &bytes));
    TRY(model_config_parse(text, bytes, config));
    json_object_set_new(root, "model", pack_config(config));
fail:
    mem_free(text);
    mem_free(config);
    return status;
}

// The provenance as it stands in the file; null if there is none.
static enum sluice_status add_provenance(const struct container *container, json_t *root)
{
    char *text;
    size_t bytes;
    enum sluice_status status = container_document(container, "provenance.json", &text, &bytes);
    json_t *tree = NULL;
    if (status == SLUICE_OK)
        tree = json_loadb(text, bytes, 0, NULL);
    else if (status != SLUICE_ERR_UNSUPPORTED)
        return status;
    json_object_set_new(root, "provenance", tree ? tree : json_null());
    mem_free(text);
    return SLUICE_OK;
}

static json_t *pack_documents(const struct container *container)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < container_document_count(container); i++)
        json_array_append_new(list, json_pack("{s:s, s:I}", "name", container_document_name(container, i), "bytes",
                                              (json_int_t)container_document_bytes(container, i)));
    return list;
}

static json_t *pack_tensors(const struct container *container)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < container_tensor_count(container); i++) {
        const struct container_tensor *t = container_tensor_at(container, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", t->name, "type",
                                              container_type_name(container, t->type_id), "layout",
                                              t->layout == CONTAINER_LAYOUT_TILES ? "tiles" : "plain", "rows",
                                              (json_int_t)t->rows, "cols", (json_int_t)t->cols, "bytes",
                                              (json_int_t)t->bytes, "file_offset", (json_int_t)t->file_offset));
    }
    return list;
}

static json_t *pack_layers(const struct container *container)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < container_expert_layer_count(container); i++) {
        const struct container_expert_layer *l = container_expert_layer_at(container, i);
        json_array_append_new(list, json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "layer",
                                              (json_int_t)l->layer, "experts", (json_int_t)l->expert_count,
                                              "gate_up_type", container_type_name(container, l->gate_up_type_id),
                                              "down_type", container_type_name(container, l->down_type_id), "hidden",
                                              (json_int_t)l->hidden, "intermediate", (json_int_t)l->intermediate,
                                              "down_offset", (json_int_t)l->down_offset, "record_bytes",
                                              (json_int_t)l->record_bytes, "file_offset", (json_int_t)l->file_offset));
    }
    return list;
}

static enum sluice_status build_tree(const struct container *container, json_t **root)
{
    uint8_t fingerprint[16];
    char hex[33];
    enum sluice_status status;
    container_fingerprint(container, fingerprint);
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", fingerprint[i]);
    *root = json_pack("{s:s, s:I, s:s}", "file", container_path(container), "bytes",
                      (json_int_t)container_file_bytes(container), "fingerprint", hex);
    if (!*root)
        return error_set(SLUICE_ERR_ARGUMENT, "the path of the file is not valid UTF-8");
    TRY(add_config(container, *root));
    TRY(add_provenance(container, *root));
    json_object_set_new(*root, "documents", pack_documents(container));
    json_object_set_new(*root, "tensors", pack_tensors(container));
    json_object_set_new(*root, "expert_layers", pack_layers(container));
fail:
    return status;
}

// --- for people -----------------------------------------------------------------------------------------------------

static long long number(const json_t *tree, const char *key)
{
    return (long long)json_integer_value(json_object_get(tree, key));
}

static const char *string(const json_t *tree, const char *key)
{
    const char *text = json_string_value(json_object_get(tree, key));
    return text ? text : "";
}

static void print_model(const json_t *model)
{
    const json_t *attention = json_object_get(model, "attention"), *delta = json_object_get(model, "deltanet");
    const json_t *experts = json_object_get(model, "experts"), *yarn = json_object_get(model, "yarn_factor");
    printf(
        "model      %lld layers (%lld full attention, %lld DeltaNet), hidden %lld, vocabulary %lld, %lld positions\n",
        number(model, "layers"), number(model, "full_attention_layers"), number(model, "linear_attention_layers"),
        number(model, "hidden_size"), number(model, "vocab_size"), number(model, "max_position_embeddings"));
    printf("attention  %lld heads, %lld KV heads of %lld, %lld rotated, theta %g", number(attention, "heads"),
           number(attention, "kv_heads"), number(attention, "head_dim"), number(attention, "rotary_dim"),
           json_real_value(json_object_get(attention, "rope_theta")));
    printf(yarn ? ", YaRN factor %g\n" : "\n", json_real_value(yarn));
    printf("DeltaNet   %lld key heads of %lld, %lld value heads of %lld, %lld taps\n", number(delta, "key_heads"),
           number(delta, "key_dim"), number(delta, "value_heads"), number(delta, "value_dim"), number(delta, "taps"));
    if (experts)
        printf("experts    %lld in each of %lld layers, %lld per token, width %lld, shared expert %lld\n",
               number(experts, "count"), number(model, "moe_layers"), number(experts, "per_token"),
               number(experts, "intermediate"), number(experts, "shared_intermediate"));
}

static void print_section(const char *name, long long items, long long bytes, const char *rest)
{
    printf("%-10s %8lld %12s  %s\n", name, items, cli_bytes((uint64_t)bytes), rest);
}

// Per number format: how many tensors of the trunk, and their bytes.
static void print_trunk(const json_t *tensors)
{
    json_t *totals = json_object();
    const json_t *tensor;
    const char *type;
    json_t *total;
    size_t i;
    long long all = 0;
    json_array_foreach(tensors, i, tensor)
    {
        total = json_object_get(totals, string(tensor, "type"));
        json_object_set_new(totals, string(tensor, "type"),
                            json_pack("{s:I, s:I}", "items", (json_int_t)number(total, "items") + 1, "bytes",
                                      (json_int_t)(number(total, "bytes") + number(tensor, "bytes"))));
        all += number(tensor, "bytes");
    }
    print_section("trunk", (long long)json_array_size(tensors), all, "");
    json_object_foreach(totals, type, total) print_section("", number(total, "items"), number(total, "bytes"), type);
    json_decref(totals);
}

static void print_experts(const json_t *layers)
{
    const json_t *layer, *first = json_array_get(layers, 0);
    char text[160];
    size_t i;
    long long experts = 0, bytes = 0;
    json_array_foreach(layers, i, layer)
    {
        experts += number(layer, "experts");
        bytes += number(layer, "experts") * number(layer, "record_bytes");
    }
    if (!first)
        return;
    snprintf(text, sizeof text, "gate and up %.20s, down %.20s, %lld bytes each", string(first, "gate_up_type"),
             string(first, "down_type"), number(first, "record_bytes"));
    print_section("experts", experts, bytes, text);
}

static void print_documents(const json_t *documents)
{
    const json_t *document;
    size_t i;
    long long bytes = 0;
    json_array_foreach(documents, i, document) bytes += number(document, "bytes");
    print_section("texts", (long long)json_array_size(documents), bytes, "");
    json_array_foreach(documents, i, document)
        print_section("", 1, number(document, "bytes"), string(document, "name"));
}

// As JSON, which escapes whatever a terminal should not see.
static void print_value(const char *label, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    if (text && !json_is_null(value))
        printf("%-10s %s\n", label, text);
    free(text);
}

static void print_provenance(const json_t *provenance)
{
    const json_t *file;
    size_t i;
    print_value("made by", json_object_get(provenance, "program"));
    print_value("for", json_object_get(provenance, "instruction"));
    json_array_foreach(json_object_get(provenance, "files"), i, file) print_value(i ? "" : "from", file);
}

static void print_tensors(const json_t *tensors)
{
    const json_t *t;
    size_t i;
    printf("\n%-58s %-5s %-6s %9s %7s %14s %14s\n", "tensor", "type", "layout", "rows", "cols", "bytes", "offset");
    json_array_foreach(tensors, i, t)
        printf("%-58s %-5s %-6s %9lld %7lld %14lld %14lld\n", string(t, "name"), string(t, "type"), string(t, "layout"),
               number(t, "rows"), number(t, "cols"), number(t, "bytes"), number(t, "file_offset"));
}

static void print_tree(const json_t *root, bool verbose)
{
    printf("%s: %s\n\n", string(root, "file"), cli_bytes((uint64_t)number(root, "bytes")));
    print_model(json_object_get(root, "model"));
    printf("\n%-10s %8s %12s\n", "section", "items", "size");
    print_documents(json_object_get(root, "documents"));
    print_trunk(json_object_get(root, "tensors"));
    print_experts(json_object_get(root, "expert_layers"));
    putchar('\n');
    print_provenance(json_object_get(root, "provenance"));
    if (verbose)
        print_tensors(json_object_get(root, "tensors"));
}

// --- the command ----------------------------------------------------------------------------------------------------

static int inspect(const char *path, bool as_json, bool verbose)
{
    struct container *container;
    json_t *root = NULL;
    enum sluice_status status = container_open(path, &container);
    if (status < 0)
        return cli_fail(status);
    status = build_tree(container, &root);
    int exit_status = status < 0 ? cli_fail(status) : CLI_OK;
    if (status == SLUICE_OK && as_json) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (status == SLUICE_OK) {
        print_tree(root, verbose);
    }
    json_decref(root);
    container_close(container);
    return exit_status;
}

int cmd_inspect(int argc, char **argv)
{
    bool as_json = false, verbose = false;
    const struct cli_option options[] = {
        {"json", 0, NULL, "everything as one JSON object", cli_parse_flag, &as_json},
        {"verbose", 'v', NULL, "list the tensors too", cli_parse_flag, &verbose},
    };
    const struct cli_command command = {
        .name = "inspect",
        .arguments = "FILE [OPTIONS]",
        .about = "Shows what is in the container FILE: the model, sizes and number formats, and where it comes from.",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *path;
    int exit_status;
    return cli_parse(&command, argc, argv, &path, &exit_status) ? inspect(path, as_json, verbose) : exit_status;
}
