#include "tests/text/small_tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "runtime/text/utf8.h"

// The character that spells `byte` in the files.
static size_t spell(unsigned byte, char out[5])
{
    unsigned point = byte;
    if (byte <= 0x20)
        point = 0x100 + byte;
    else if (byte >= 0x7F && byte <= 0xA0)
        point = 0x121 + byte - 0x7F;
    else if (byte == 0xAD)
        point = 0x143;
    size_t length = utf8_put(point, (uint8_t *)out);
    out[length] = '\0';
    return length;
}

static json_t *added_token(int id, const char *content, bool special)
{
    return json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", content, "single_word", 0, "lstrip", 0,
                     "rstrip", 0, "normalized", 0, "special", special);
}

static const char qwen_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+";

json_t *data_small_tokenizer(const char *const *merges)
{
    json_t *vocab = json_object(), *list = json_array();
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[5];
        spell(byte, text);
        json_object_set_new(vocab, text, json_integer((json_int_t)byte));
    }
    int id = 256;
    for (; *merges; merges++, id++) {
        char whole[64];
        const char *space = strchr(*merges, ' ');
        snprintf(whole, sizeof whole, "%.*s%s", (int)(space - *merges), *merges, space + 1);
        json_object_set_new(vocab, whole, json_integer(id));
        json_array_append_new(list, json_string(*merges));
    }
    json_t *added = json_pack("[o, o, o]", added_token(id, "<|im_start|>", true),
                              added_token(id + 1, "<|im_end|>", true), added_token(id + 2, "<think>", false));
    return json_pack("{s:{s:s}, s:{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b}]}, s:{s:s, s:o, s:o}, s:o}",
                     "normalizer", "type", "NFC", "pre_tokenizer", "type", "Sequence", "pretokenizers", "type", "Split",
                     "pattern", "Regex", qwen_pattern, "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
                     "add_prefix_space", 0, "use_regex", 0, "model", "type", "BPE", "vocab", vocab, "merges", list,
                     "added_tokens", added);
}
