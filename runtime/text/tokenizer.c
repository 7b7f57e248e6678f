#include "runtime/text/tokenizer.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/json_text.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/tokenizer_private.h"
#include "runtime/text/utf8.h"

static enum sluice_status read_config(struct tokenizer *tokenizer, const char *text, size_t bytes)
{
    json_t *config;
    enum sluice_status status = json_text_parse(text, bytes, "tokenizer_config.json", &config);
    if (status < 0)
        return status;
    status = tokenizer_file_read_config(tokenizer, config);
    json_decref(config);
    return status;
}

enum sluice_status tokenizer_create(const char *tokenizer_json, size_t json_bytes, const char *tokenizer_config_json,
                                    size_t config_bytes, struct tokenizer **tokenizer)
{
    *tokenizer = NULL;
    json_t *file = NULL;
    enum sluice_status status;
    struct tokenizer *made = mem_alloc(1, sizeof *made);
    if (!made)
        return SLUICE_ERR_MEMORY;
    TRY(json_text_parse(tokenizer_json, json_bytes, "tokenizer.json", &file));
    TRY(tokenizer_file_read(made, file));
    if (tokenizer_config_json)
        TRY(read_config(made, tokenizer_config_json, config_bytes));
    json_decref(file);
    *tokenizer = made;
    return SLUICE_OK;
fail:
    json_decref(file);
    tokenizer_destroy(made);
    return status;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    vocab_finish(&tokenizer->vocab);
    merges_finish(&tokenizer->merges);
    added_tokens_finish(&tokenizer->added);
    splitter_destroy(tokenizer->splitter);
    mem_free(tokenizer);
}

enum sluice_status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                                    bool skip_special, char **text, size_t *bytes)
{
    struct text_buffer raw = {0}, repaired = {0};
    enum sluice_status status;
    *text = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!tokenizer_has(tokenizer, ids[i])) {
            status = error_set(SLUICE_ERR_ARGUMENT, "%d (number %zu) is not a token: the ids go from 0 to %d", ids[i],
                               i, tokenizer_vocab_size(tokenizer) - 1);
            goto fail;
        }
        const struct vocab_token *token = &tokenizer->vocab.tokens[ids[i]];
        if (!skip_special || token->kind != VOCAB_SPECIAL)
            TRY(text_buffer_append(&raw, tokenizer->vocab.text.data + token->start, token->bytes));
    }
    TRY(text_buffer_append_repaired(&repaired, (const uint8_t *)raw.data, raw.bytes));
    TRY(text_buffer_take(&repaired, text, bytes));
fail:
    text_buffer_finish(&raw);
    text_buffer_finish(&repaired);
    return status;
}

int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.size;
}

bool tokenizer_has(const struct tokenizer *tokenizer, int32_t id)
{
    return vocab_has(&tokenizer->vocab, id);
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
    return tokenizer_has(tokenizer, id) && tokenizer->vocab.tokens[id].kind == VOCAB_SPECIAL;
}

bool tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, const uint8_t **bytes, size_t *count)
{
    *bytes = NULL;
    *count = 0;
    if (!tokenizer_has(tokenizer, id))
        return false;
    const struct vocab_token *token = &tokenizer->vocab.tokens[id];
    *bytes = (const uint8_t *)tokenizer->vocab.text.data + token->start;
    *count = token->bytes;
    return true;
}

size_t tokenizer_token_bytes_max(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.bytes_max;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *content)
{
    int32_t id = added_tokens_find(&tokenizer->added, content, strlen(content));
    return id >= 0 ? id : vocab_find(&tokenizer->vocab, (const uint8_t *)content, strlen(content));
}
