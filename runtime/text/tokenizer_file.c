// Reads tokenizer.json: model (vocabulary and merges), normalizer, pre_tokenizer, added_tokens.
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/snippet.h"
#include "runtime/text/tokenizer_private.h"

static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static enum sluice_status bad_entry(const char *entry, const char *wanted)
{
    return error_set(SLUICE_ERR_FORMAT, "tokenizer.json: %s is missing or not %s", entry, wanted);
}

static enum sluice_status unsupported(const char *entry, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    enum sluice_status status = error_set(
        SLUICE_ERR_UNSUPPORTED, "tokenizer.json: %s is %s; only byte-level BPE as in the Qwen models is supported",
        entry, text ? snippet_of(text, strlen(text)).text : "of an unknown kind");
    free(text);
    return status;
}

static bool is_absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static bool has_type(const json_t *object, const char *type)
{
    const char *text = json_string_value(json_object_get(object, "type"));
    return text && strcmp(text, type) == 0;
}

// ---- vocabulary

// Checks an id that the file names.
static enum sluice_status check_id(const char *where, const json_t *value, const char *text, size_t bytes)
{
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= VOCAB_ID_LIMIT)
        return error_set(SLUICE_ERR_FORMAT, "tokenizer.json: %s: the id of \"%s\" is not a number from 0 to %d", where,
                         snippet_of(text, bytes).text, VOCAB_ID_LIMIT - 1);
    return SLUICE_OK;
}

static enum sluice_status add_plain(struct tokenizer *tokenizer, int32_t id, const char *text, size_t bytes)
{
    if (vocab_has(&tokenizer->vocab, id))
        return error_set(SLUICE_ERR_FORMAT, "tokenizer.json: model.vocab: the id %d of \"%s\" is used twice", id,
                         snippet_of(text, bytes).text);
    if (bytes == 0)
        return error_set(SLUICE_ERR_FORMAT, "tokenizer.json: model.vocab: the token %d is empty", id);
    uint8_t *decoded = mem_alloc(bytes, 1);
    if (!decoded)
        return SLUICE_ERR_MEMORY;
    ptrdiff_t count = vocab_decode_spelling(text, bytes, decoded);
    enum sluice_status status = count >= 0
                                    ? vocab_add(&tokenizer->vocab, id, decoded, (size_t)count, VOCAB_PLAIN)
                                    : vocab_add(&tokenizer->vocab, id, (const uint8_t *)text, bytes, VOCAB_FOREIGN);
    mem_free(decoded);
    return status;
}

static enum sluice_status read_vocab(struct tokenizer *tokenizer, json_t *vocab)
{
    if (!json_is_object(vocab))
        return bad_entry("model.vocab", "an object of tokens and ids");
    enum sluice_status status = SLUICE_OK;
    for (void *at = json_object_iter(vocab); at; at = json_object_iter_next(vocab, at)) {
        const char *text = json_object_iter_key(at);
        size_t bytes = strlen(text); // the parser admits no NUL in keys
        const json_t *id = json_object_iter_value(at);
        TRY(check_id("model.vocab", id, text, bytes));
        TRY(add_plain(tokenizer, (int32_t)json_integer_value(id), text, bytes));
    }
    TRY(vocab_index(&tokenizer->vocab));
fail:
    return status;
}

// ---- merges

// The two parts of a merge, spelt as in the file.
struct merge_text {
    const char *left, *right;
    size_t left_bytes, right_bytes;
};

static bool split_merge(const json_t *entry, struct merge_text *parts)
{
    const json_t *left = json_array_get(entry, 0), *right = json_array_get(entry, 1);
    if (json_array_size(entry) == 2 && json_is_string(left) && json_is_string(right)) {
        *parts = (struct merge_text){json_string_value(left), json_string_value(right), json_string_length(left),
                                     json_string_length(right)};
        return true;
    }
    if (!json_is_string(entry))
        return false;
    const char *text = json_string_value(entry);
    size_t bytes = json_string_length(entry);
    const char *space = memchr(text, ' ', bytes);
    if (!space)
        return false;
    size_t left_bytes = (size_t)(space - text);
    *parts = (struct merge_text){text, space + 1, left_bytes, bytes - left_bytes - 1};
    return memchr(parts->right, ' ', parts->right_bytes) == NULL;
}

// Finds the ids of both parts and of the whole. `scratch` has room for all bytes of the entry.
static bool resolve_merge(const struct vocab *vocab, const struct merge_text *parts, uint8_t *scratch, int32_t ids[3])
{
    ptrdiff_t left = vocab_decode_spelling(parts->left, parts->left_bytes, scratch);
    if (left <= 0)
        return false;
    ptrdiff_t right = vocab_decode_spelling(parts->right, parts->right_bytes, scratch + left);
    if (right <= 0)
        return false;
    ids[0] = vocab_find(vocab, scratch, (size_t)left);
    ids[1] = vocab_find(vocab, scratch + left, (size_t)right);
    ids[2] = vocab_find(vocab, scratch, (size_t)(left + right));
    return ids[0] >= 0 && ids[1] >= 0 && ids[2] >= 0;
}

static enum sluice_status add_merge(struct tokenizer *tokenizer, size_t rank, const json_t *entry,
                                    struct text_buffer *scratch)
{
    struct merge_text parts;
    if (!split_merge(entry, &parts))
        return error_set(SLUICE_ERR_FORMAT, "tokenizer.json: model.merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]",
                         rank);
    if (text_buffer_reserve(scratch, parts.left_bytes + parts.right_bytes) < 0)
        return SLUICE_ERR_MEMORY;
    int32_t ids[3];
    if (!resolve_merge(&tokenizer->vocab, &parts, (uint8_t *)scratch->data, ids))
        return error_set(SLUICE_ERR_FORMAT,
                         "tokenizer.json: model.merges[%zu] joins \"%s\" and \"%s\", but these or the whole are not "
                         "tokens of model.vocab",
                         rank, snippet_of(parts.left, parts.left_bytes).text,
                         snippet_of(parts.right, parts.right_bytes).text);
    merges_put(&tokenizer->merges, ids[0], ids[1], (uint32_t)rank, ids[2]);
    return SLUICE_OK;
}

static enum sluice_status read_merges(struct tokenizer *tokenizer, const json_t *merges)
{
    if (!json_is_array(merges))
        return bad_entry("model.merges", "a list");
    struct text_buffer scratch = {0};
    enum sluice_status status;
    TRY(merges_init(&tokenizer->merges, json_array_size(merges)));
    for (size_t rank = 0; rank < json_array_size(merges); rank++)
        TRY(add_merge(tokenizer, rank, json_array_get(merges, rank), &scratch));
fail:
    text_buffer_finish(&scratch);
    return status;
}

// Options of the BPE model that change what it gives must have the value that leaves it as it is.
static enum sluice_status check_model(const json_t *model)
{
    const json_t *type = json_object_get(model, "type");
    if (!is_absent(type) && !has_type(model, "BPE"))
        return unsupported("model.type", type);
    const json_t *dropout = json_object_get(model, "dropout");
    if (!is_absent(dropout) && json_number_value(dropout) != 0)
        return unsupported("model.dropout", dropout);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (!is_absent(affix) && !(json_is_string(affix) && json_string_length(affix) == 0))
            return unsupported(affixes[i], affix);
    }
    return SLUICE_OK;
}

static enum sluice_status read_model(struct tokenizer *tokenizer, const json_t *model)
{
    if (!json_is_object(model))
        return bad_entry("model", "an object");
    enum sluice_status status;
    TRY(check_model(model));
    tokenizer->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    TRY(read_vocab(tokenizer, json_object_get(model, "vocab")));
    TRY(read_merges(tokenizer, json_object_get(model, "merges")));
fail:
    return status;
}

// ---- normalizer and pre_tokenizer

static enum sluice_status read_normalizer(struct tokenizer *tokenizer, const json_t *normalizer)
{
    if (is_absent(normalizer))
        return SLUICE_OK;
    if (has_type(normalizer, "NFC")) {
        tokenizer->nfc = true;
        return SLUICE_OK;
    }
    const json_t *parts = json_object_get(normalizer, "normalizers");
    if (!has_type(normalizer, "Sequence") || !json_is_array(parts))
        return unsupported("normalizer", normalizer);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        if (!has_type(part, "NFC"))
            return unsupported("normalizer", part);
        tokenizer->nfc = true;
    }
    return SLUICE_OK;
}

static enum sluice_status read_split(struct tokenizer *tokenizer, const json_t *split)
{
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    if (!behavior || strcmp(behavior, "Isolated") != 0 || json_is_true(json_object_get(split, "invert")))
        return unsupported("pre_tokenizer", split);
    const json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");
    if (!json_is_string(regex))
        return bad_entry("pre_tokenizer: pattern.Regex", "a string");
    if (tokenizer->splitter)
        return unsupported("pre_tokenizer (a second Split)", split);
    return splitter_create(json_string_value(regex), json_string_length(regex), &tokenizer->splitter);
}

static enum sluice_status read_byte_level(struct tokenizer *tokenizer, const json_t *byte_level)
{
    const json_t *use_regex = json_object_get(byte_level, "use_regex");
    if (!json_is_false(json_object_get(byte_level, "add_prefix_space")))
        return unsupported("pre_tokenizer (add_prefix_space)", byte_level);
    if (json_is_false(use_regex))
        return SLUICE_OK;
    if (tokenizer->splitter)
        return unsupported("pre_tokenizer (use_regex after a Split)", byte_level);
    return splitter_create(gpt2_pattern, sizeof gpt2_pattern - 1, &tokenizer->splitter);
}

static enum sluice_status read_pre_tokenizer(struct tokenizer *tokenizer, const json_t *pre_tokenizer)
{
    if (is_absent(pre_tokenizer))
        return bad_entry("pre_tokenizer", "an object");
    if (has_type(pre_tokenizer, "ByteLevel"))
        return read_byte_level(tokenizer, pre_tokenizer);
    const json_t *parts = json_object_get(pre_tokenizer, "pretokenizers");
    if (!has_type(pre_tokenizer, "Sequence") || !json_is_array(parts))
        return unsupported("pre_tokenizer", pre_tokenizer);
    bool byte_level = false;
    enum sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        if (byte_level || !(has_type(part, "Split") || has_type(part, "ByteLevel")))
            return unsupported("pre_tokenizer", part);
        byte_level = has_type(part, "ByteLevel");
        TRY(byte_level ? read_byte_level(tokenizer, part) : read_split(tokenizer, part));
    }
    if (!byte_level)
        return unsupported("pre_tokenizer (no ByteLevel)", pre_tokenizer);
fail:
    return status;
}

// ---- added tokens

// Matching an added token in normalised instead of raw text is the same for ASCII tokens but for a combining mark right
// behind.
static enum sluice_status check_added(const json_t *token, const char *text, size_t bytes)
{
    static const char *const wanted_false[] = {"single_word", "lstrip", "rstrip"};
    for (size_t i = 0; i < 3; i++)
        if (json_is_true(json_object_get(token, wanted_false[i])))
            return error_set(SLUICE_ERR_UNSUPPORTED, "\"%s\" has %s set", snippet_of(text, bytes).text,
                             wanted_false[i]);
    bool ascii = true;
    for (size_t i = 0; i < bytes; i++)
        ascii = ascii && (unsigned char)text[i] < 0x80;
    if (!ascii && json_is_true(json_object_get(token, "normalized")))
        return error_set(SLUICE_ERR_UNSUPPORTED, "\"%s\" has normalized set", snippet_of(text, bytes).text);
    return SLUICE_OK;
}

// Whether the token `id` that is there already has this text. `scratch` has room for it.
static bool is_same_token(const struct vocab *vocab, int32_t id, const char *text, size_t bytes, uint8_t *scratch)
{
    ptrdiff_t decoded = vocab_decode_spelling(text, bytes, scratch);
    const uint8_t *wanted = decoded >= 0 ? scratch : (const uint8_t *)text;
    size_t count = decoded >= 0 ? (size_t)decoded : bytes;
    const struct vocab_token *token = &vocab->tokens[id];
    return token->bytes == count && memcmp(vocab->text.data + token->start, wanted, count) == 0;
}

// The decoder treats added tokens like all others: characters that spell bytes become these bytes.
static enum sluice_status put_added(struct tokenizer *tokenizer, int32_t id, const char *text, size_t bytes,
                                    bool special, uint8_t *scratch)
{
    struct vocab *vocab = &tokenizer->vocab;
    enum vocab_kind kind = special ? VOCAB_SPECIAL : VOCAB_ADDED;
    enum sluice_status status;
    if (vocab_has(vocab, id)) {
        if (!is_same_token(vocab, id, text, bytes, scratch))
            return error_set(SLUICE_ERR_FORMAT, "the id %d of \"%s\" is another token's", id,
                             snippet_of(text, bytes).text);
        vocab->tokens[id].kind = kind;
    } else {
        ptrdiff_t decoded = vocab_decode_spelling(text, bytes, scratch);
        TRY(decoded >= 0 ? vocab_add(vocab, id, scratch, (size_t)decoded, kind)
                         : vocab_add(vocab, id, (const uint8_t *)text, bytes, kind));
    }
    TRY(added_tokens_put(&tokenizer->added, text, bytes, id));
fail:
    return status;
}

static enum sluice_status add_added(struct tokenizer *tokenizer, int32_t id, const json_t *token)
{
    const json_t *content = json_object_get(token, "content");
    const char *text = json_string_value(content);
    size_t bytes = json_string_length(content);
    if (bytes == 0)
        return error_set(SLUICE_ERR_FORMAT, "the token %d has no content", id);
    enum sluice_status status;
    TRY(check_added(token, text, bytes));
    uint8_t *scratch = mem_alloc(bytes, 1);
    if (!scratch)
        return SLUICE_ERR_MEMORY;
    status = put_added(tokenizer, id, text, bytes, json_is_true(json_object_get(token, "special")), scratch);
    mem_free(scratch);
fail:
    return status;
}

static enum sluice_status read_added(struct tokenizer *tokenizer, const json_t *added)
{
    if (is_absent(added))
        return SLUICE_OK;
    if (!json_is_array(added))
        return bad_entry("added_tokens", "a list");
    enum sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const json_t *content = json_object_get(token, "content"), *id = json_object_get(token, "id");
        if (!json_is_string(content))
            return error_set(SLUICE_ERR_FORMAT, "tokenizer.json: added_tokens[%zu] has no content", i);
        TRY(check_id("added_tokens", id, json_string_value(content), json_string_length(content)));
        status = add_added(tokenizer, (int32_t)json_integer_value(id), token);
        if (status < 0)
            return error_prefix(status, "tokenizer.json: added_tokens[%zu]", i);
    }
fail:
    return status;
}

enum sluice_status tokenizer_file_read(struct tokenizer *tokenizer, const json_t *file)
{
    if (!json_is_object(file))
        return error_set(SLUICE_ERR_FORMAT, "tokenizer.json is not a JSON object");
    enum sluice_status status;
    TRY(read_normalizer(tokenizer, json_object_get(file, "normalizer")));
    TRY(read_pre_tokenizer(tokenizer, json_object_get(file, "pre_tokenizer")));
    TRY(read_model(tokenizer, json_object_get(file, "model")));
    TRY(read_added(tokenizer, json_object_get(file, "added_tokens")));
fail:
    return status;
}

// ---- tokenizer_config.json

// The id that is an object's key there, or -1.
static int32_t id_of_key(const char *key)
{
    char *end;
    if (*key < '0' || *key > '9')
        return -1;
    unsigned long id = strtoul(key, &end, 10);
    return *end == '\0' && id < VOCAB_ID_LIMIT ? (int32_t)id : -1;
}

enum sluice_status tokenizer_file_read_config(struct tokenizer *tokenizer, const json_t *config)
{
    if (!json_is_object(config))
        return error_set(SLUICE_ERR_FORMAT, "tokenizer_config.json is not a JSON object");
    json_t *added = json_object_get(config, "added_tokens_decoder");
    if (is_absent(added))
        return SLUICE_OK;
    if (!json_is_object(added))
        return error_set(SLUICE_ERR_FORMAT, "tokenizer_config.json: added_tokens_decoder is not an object");
    enum sluice_status status = SLUICE_OK;
    for (void *at = json_object_iter(added); at; at = json_object_iter_next(added, at)) {
        const char *key = json_object_iter_key(at);
        int32_t id = id_of_key(key);
        if (id < 0)
            return error_set(SLUICE_ERR_FORMAT, "tokenizer_config.json: added_tokens_decoder: \"%s\" is not a token id",
                             snippet_of(key, strlen(key)).text);
        status = add_added(tokenizer, id, json_object_iter_value(at));
        if (status < 0)
            return error_prefix(status, "tokenizer_config.json: added_tokens_decoder");
    }
    return status;
}
