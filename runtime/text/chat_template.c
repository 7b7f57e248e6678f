// Which template a checkpoint's Jinja text is, and where a checkpoint keeps it.
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/chat.h"
#include "runtime/text/json_text.h"
#include "runtime/text/snippet.h"

static const char *const names[] = {
    [CHAT_TEMPLATE_INSTRUCT] = "instruct",
    [CHAT_TEMPLATE_THINKING] = "thinking",
    [CHAT_TEMPLATE_CODER] = "coder",
};

enum chat_template chat_template_from_name(const char *name)
{
    for (size_t i = CHAT_TEMPLATE_INSTRUCT; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum chat_template)i;
    return CHAT_TEMPLATE_UNKNOWN;
}

static bool contains(const char *text, const char *mark)
{
    return strstr(text, mark) != NULL;
}

// What of the three templates no other ChatML template has: a default system message (Qwen2.5) or a switch between
// thinking and not thinking (Qwen3, Qwen3.5) would be rendered wrongly.
static bool is_other_family(const char *jinja)
{
    return !contains(jinja, "<|im_start|>") || !contains(jinja, "<|im_end|>") || contains(jinja, "enable_thinking") ||
           contains(jinja, "You are Qwen, created by") || contains(jinja, "You are a helpful assistant");
}

// The text after the last mention of add_generation_prompt: what the template puts in front of an answer.
static const char *generation_prompt(const char *jinja)
{
    const char *found = "";
    for (const char *at = jinja; (at = strstr(at, "add_generation_prompt")) != NULL; at++)
        found = at;
    return found;
}

enum chat_template chat_template_recognise(const char *jinja)
{
    if (is_other_family(jinja))
        return CHAT_TEMPLATE_UNKNOWN;
    bool thoughts = contains(jinja, "</think>");
    bool starts_in_thoughts = contains(generation_prompt(jinja), "<think>");
    bool xml_calls = contains(jinja, "<function=") && contains(jinja, "<parameter=");
    bool json_calls = contains(jinja, "<tool_call>") && contains(jinja, "arguments");
    if (xml_calls)
        return thoughts || starts_in_thoughts ? CHAT_TEMPLATE_UNKNOWN : CHAT_TEMPLATE_CODER;
    if (starts_in_thoughts)
        return thoughts && !contains(generation_prompt(jinja), "</think>") ? CHAT_TEMPLATE_THINKING
                                                                           : CHAT_TEMPLATE_UNKNOWN;
    bool plain = !contains(jinja, "tools") && !contains(jinja, "<tool_call>");
    return !thoughts && (json_calls || plain) ? CHAT_TEMPLATE_INSTRUCT : CHAT_TEMPLATE_UNKNOWN;
}

enum sluice_status chat_template_unknown_message(const char *jinja)
{
    uint64_t hash = 0xCBF29CE484222325u; // FNV-1a
    size_t bytes = strlen(jinja);
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (uint8_t)jinja[i]) * 0x100000001B3u;
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "the model's chat template (%zu bytes, hash %016" PRIx64 ", \"%s\") is none of the three of "
                     "Qwen3-Next; choose one with --template instruct, thinking or coder",
                     bytes, hash, snippet_of(jinja, strcspn(jinja, "\r\n")).text);
}

// The template among [{"name": ..., "template": ...}]: "default", else the only one.
static const json_t *template_of_list(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (json_array_size(list) == 1 || (name && strcmp(name, "default") == 0))
            return json_object_get(entry, "template");
    }
    return NULL;
}

static enum sluice_status find_in_config(const json_t *config, char **found)
{
    const json_t *entry = json_object_get(config, "chat_template");
    if (!entry || json_is_null(entry))
        return SLUICE_OK;
    const json_t *text = json_is_array(entry) ? template_of_list(entry) : entry;
    if (!json_is_string(text))
        return error_set(SLUICE_ERR_FORMAT,
                         "tokenizer_config.json: chat_template is neither a string nor a list with a "
                         "\"default\" template");
    *found = mem_strndup(json_string_value(text), json_string_length(text));
    return *found ? SLUICE_OK : SLUICE_ERR_MEMORY;
}

enum sluice_status chat_template_find(const char *jinja, size_t jinja_bytes, const char *tokenizer_config_json,
                                      size_t config_bytes, char **found)
{
    *found = NULL;
    if (jinja) {
        *found = mem_strndup(jinja, jinja_bytes);
        return *found ? SLUICE_OK : SLUICE_ERR_MEMORY;
    }
    if (!tokenizer_config_json)
        return SLUICE_OK;
    json_t *config;
    enum sluice_status status = json_text_parse(tokenizer_config_json, config_bytes, "tokenizer_config.json", &config);
    if (status < 0)
        return status;
    status = find_in_config(config, found);
    json_decref(config);
    return status;
}
