#include "runtime/text/vocab.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/text/utf8.h"

// The bytes 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF are spelt as the character of that number, the other 68 in increasing
// order as U+0100, U+0101, ...
static bool spells_itself(uint32_t value)
{
    return (value >= 0x21 && value <= 0x7E) || (value >= 0xA1 && value <= 0xFF && value != 0xAD);
}

// The byte spelt as `code_point`, or -1.
static int byte_of_spelling(uint32_t code_point)
{
    if (code_point < 0x100)
        return spells_itself(code_point) ? (int)code_point : -1;
    uint32_t index = code_point - 0x100;
    if (index < 0x21)
        return (int)index;
    index += 0x7F - 0x21; // next: 0x7F-0xA0
    if (index <= 0xA0)
        return (int)index;
    return index == 0xA1 ? 0xAD : -1;
}

ptrdiff_t vocab_decode_spelling(const char *text, size_t count, uint8_t *out)
{
    size_t written = 0;
    for (size_t i = 0; i < count;) {
        struct utf8_step step = utf8_next((const uint8_t *)text + i, count - i);
        int byte = step.valid ? byte_of_spelling(step.code_point) : -1;
        if (byte < 0)
            return -1;
        out[written++] = (uint8_t)byte;
        i += step.bytes;
    }
    return (ptrdiff_t)written;
}

static enum sluice_status make_room(struct vocab *vocab, int32_t id)
{
    if (id < vocab->capacity)
        return SLUICE_OK;
    int32_t capacity = vocab->capacity ? vocab->capacity : 1024;
    while (capacity <= id)
        capacity *= 2;
    struct vocab_token *tokens = mem_realloc(vocab->tokens, (size_t)capacity, sizeof *tokens);
    if (!tokens)
        return SLUICE_ERR_MEMORY;
    memset(tokens + vocab->capacity, 0, (size_t)(capacity - vocab->capacity) * sizeof *tokens);
    vocab->tokens = tokens;
    vocab->capacity = capacity;
    return SLUICE_OK;
}

enum sluice_status vocab_add(struct vocab *vocab, int32_t id, const uint8_t *bytes, size_t count, enum vocab_kind kind)
{
    CHECK(id >= 0 && id < VOCAB_ID_LIMIT && !vocab_has(vocab, id) && kind != VOCAB_UNUSED);
    if (count > UINT32_MAX - vocab->text.bytes)
        return error_set(SLUICE_ERR_FORMAT, "the tokens are longer than 4 GiB in all");
    size_t start = vocab->text.bytes;
    if (make_room(vocab, id) < 0 || text_buffer_append(&vocab->text, (const char *)bytes, count) < 0)
        return SLUICE_ERR_MEMORY;
    vocab->tokens[id] = (struct vocab_token){.start = (uint32_t)start, .bytes = (uint32_t)count, .kind = kind};
    if (id >= vocab->size)
        vocab->size = id + 1;
    if (count > vocab->bytes_max)
        vocab->bytes_max = count;
    return SLUICE_OK;
}

bool vocab_has(const struct vocab *vocab, int32_t id)
{
    return id >= 0 && id < vocab->size && vocab->tokens[id].kind != VOCAB_UNUSED;
}

static uint64_t hash_bytes(const uint8_t *bytes, size_t count)
{
    uint64_t hash = 0xCBF29CE484222325u; // FNV-1a
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

// The slot where these bytes are, or the free one where they belong.
static size_t slot_of(const struct vocab *vocab, const uint8_t *bytes, size_t count)
{
    size_t mask = vocab->slot_count - 1;
    size_t slot = hash_bytes(bytes, count) & mask;
    for (; vocab->slots[slot] >= 0; slot = (slot + 1) & mask) {
        const struct vocab_token *token = &vocab->tokens[vocab->slots[slot]];
        if (token->bytes == count && memcmp(vocab->text.data + token->start, bytes, count) == 0)
            break;
    }
    return slot;
}

static enum sluice_status fill_slots(struct vocab *vocab)
{
    for (int32_t id = 0; id < vocab->size; id++) {
        const struct vocab_token *token = &vocab->tokens[id];
        if (token->kind != VOCAB_PLAIN)
            continue;
        size_t slot = slot_of(vocab, (const uint8_t *)vocab->text.data + token->start, token->bytes);
        if (vocab->slots[slot] >= 0)
            return error_set(SLUICE_ERR_FORMAT, "model.vocab: the ids %d and %d stand for the same bytes",
                             vocab->slots[slot], id);
        vocab->slots[slot] = id;
    }
    return SLUICE_OK;
}

enum sluice_status vocab_index(struct vocab *vocab)
{
    vocab->slot_count = 1024;
    while (vocab->slot_count < 2 * (size_t)vocab->size)
        vocab->slot_count *= 2;
    vocab->slots = mem_alloc(vocab->slot_count, sizeof *vocab->slots);
    if (!vocab->slots)
        return SLUICE_ERR_MEMORY;
    memset(vocab->slots, 0xFF, vocab->slot_count * sizeof *vocab->slots);
    enum sluice_status status;
    TRY(fill_slots(vocab));
    for (unsigned i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        vocab->byte_ids[i] = vocab_find(vocab, &byte, 1);
        if (vocab->byte_ids[i] < 0)
            return error_set(
                SLUICE_ERR_FORMAT,
                "model.vocab: there is no token for the byte 0x%02X, so not every text could be encoded; is "
                "this a byte-level tokenizer?",
                i);
    }
fail:
    return status;
}

int32_t vocab_find(const struct vocab *vocab, const uint8_t *bytes, size_t count)
{
    return vocab->slots[slot_of(vocab, bytes, count)];
}

void vocab_finish(struct vocab *vocab)
{
    mem_free(vocab->tokens);
    mem_free(vocab->slots);
    text_buffer_finish(&vocab->text);
    *vocab = (struct vocab){0};
}
