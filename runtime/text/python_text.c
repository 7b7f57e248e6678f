#include "runtime/text/python_text.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/utf8.h"

// ---- numbers

// The shortest decimal digits that read back as `value`, as "d.ddde+xx".
static void shortest_digits(double value, char out[40])
{
    for (int precision = 0; precision < 17; precision++) {
        snprintf(out, 40, "%.*e", precision, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

// printf writes the point of the user's locale.
static enum sluice_status append_digits(struct text_buffer *out, char *digits)
{
    for (char *at = digits; *at; at++)
        if (!strchr("0123456789+-e", *at))
            *at = '.';
    return text_buffer_append_string(out, digits);
}

// float.__repr__: positional from 1e-4 up to 1e16, else with an exponent of at least two digits.
static enum sluice_status append_real(struct text_buffer *out, double value)
{
    char digits[40], text[64];
    if (!isfinite(value))
        return text_buffer_append_string(out, isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
    shortest_digits(value, digits);
    char *mark = strchr(digits, 'e');
    int exponent = atoi(mark + 1);
    int precision = (int)(mark - digits) - (value < 0 || signbit(value) ? 1 : 0) - 1;
    if (precision > 0)
        precision--; // the point
    if (exponent < -4 || exponent >= 16)
        return append_digits(out, digits);
    int decimals = precision - exponent;
    snprintf(text, sizeof text, "%.*f", decimals > 0 ? decimals : 1, value);
    return append_digits(out, text);
}

static enum sluice_status append_integer(struct text_buffer *out, json_int_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, value);
    return text_buffer_append_string(out, text);
}

// ---- json.dumps

// The escape for a byte of a JSON string, or NULL if it stands for itself.
static const char *json_escape(uint8_t byte, char scratch[8])
{
    switch (byte) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    default:
        if (byte >= 0x20)
            return NULL;
        snprintf(scratch, 8, "\\u%04x", byte);
        return scratch;
    }
}

static enum sluice_status append_json_string(struct text_buffer *out, const char *text, size_t bytes)
{
    enum sluice_status status;
    size_t done = 0;
    TRY(text_buffer_append_string(out, "\""));
    for (size_t i = 0; i < bytes; i++) {
        char scratch[8];
        const char *escape = json_escape((uint8_t)text[i], scratch);
        if (!escape)
            continue;
        TRY(text_buffer_append(out, text + done, i - done));
        TRY(text_buffer_append_string(out, escape));
        done = i + 1;
    }
    TRY(text_buffer_append(out, text + done, bytes - done));
    TRY(text_buffer_append_string(out, "\""));
fail:
    return status;
}

// ---- strings as repr writes them

// str.isprintable of one character.
static bool is_printable(uint32_t code_point)
{
    switch (utf8proc_category((utf8proc_int32_t)code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code_point == ' ';
    default:
        return true;
    }
}

static enum sluice_status append_repr_character(struct text_buffer *out, uint32_t code_point, char quote)
{
    char text[16];
    size_t length;
    if (code_point == (uint32_t)quote || code_point == '\\')
        length = (size_t)snprintf(text, sizeof text, "\\%c", (char)code_point);
    else if (code_point == '\n' || code_point == '\r' || code_point == '\t')
        length = (size_t)snprintf(text, sizeof text, "\\%c", code_point == '\n' ? 'n' : code_point == '\r' ? 'r' : 't');
    else if (is_printable(code_point))
        length = utf8_put(code_point, (uint8_t *)text);
    else if (code_point < 0x100)
        length = (size_t)snprintf(text, sizeof text, "\\x%02x", code_point);
    else
        length = (size_t)snprintf(text, sizeof text, code_point < 0x10000 ? "\\u%04x" : "\\U%08x", code_point);
    return text_buffer_append(out, text, length);
}

static enum sluice_status append_repr_string(struct text_buffer *out, const char *text, size_t bytes)
{
    char quote = memchr(text, '\'', bytes) && !memchr(text, '"', bytes) ? '"' : '\'';
    enum sluice_status status;
    TRY(text_buffer_append(out, &quote, 1));
    for (size_t i = 0; i < bytes;) {
        struct utf8_step step = utf8_next((const uint8_t *)text + i, bytes - i);
        TRY(append_repr_character(out, step.code_point, quote));
        i += step.bytes;
    }
    TRY(text_buffer_append(out, &quote, 1));
fail:
    return status;
}

// ---- values

// What json.dumps and repr write differently: strings and the three constants.
struct notation {
    enum sluice_status (*string)(struct text_buffer *out, const char *text, size_t bytes);
    const char *null_text, *true_text, *false_text;
};

static enum sluice_status append_value(struct text_buffer *out, const json_t *value, const struct notation *notation);

static enum sluice_status append_list(struct text_buffer *out, const json_t *array, const struct notation *notation)
{
    enum sluice_status status;
    TRY(text_buffer_append_string(out, "["));
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i > 0)
            TRY(text_buffer_append_string(out, ", "));
        TRY(append_value(out, json_array_get(array, i), notation));
    }
    TRY(text_buffer_append_string(out, "]"));
fail:
    return status;
}

static enum sluice_status append_dict(struct text_buffer *out, json_t *object, const struct notation *notation)
{
    enum sluice_status status;
    TRY(text_buffer_append_string(out, "{"));
    for (void *first = json_object_iter(object), *at = first; at; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        if (at != first)
            TRY(text_buffer_append_string(out, ", "));
        TRY(notation->string(out, key, strlen(key)));
        TRY(text_buffer_append_string(out, ": "));
        TRY(append_value(out, json_object_iter_value(at), notation));
    }
    TRY(text_buffer_append_string(out, "}"));
fail:
    return status;
}

static enum sluice_status append_value(struct text_buffer *out, const json_t *value, const struct notation *notation)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return append_dict(out, (json_t *)value, notation);
    case JSON_ARRAY:
        return append_list(out, value, notation);
    case JSON_STRING:
        return notation->string(out, json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
        return append_integer(out, json_integer_value(value));
    case JSON_REAL:
        return append_real(out, json_real_value(value));
    default:
        return text_buffer_append_string(out, json_is_null(value)   ? notation->null_text
                                              : json_is_true(value) ? notation->true_text
                                                                    : notation->false_text);
    }
}

enum sluice_status python_json_append(struct text_buffer *out, const json_t *value)
{
    static const struct notation json = {append_json_string, "null", "true", "false"};
    return append_value(out, value, &json);
}

enum sluice_status python_str_append(struct text_buffer *out, const json_t *value)
{
    static const struct notation repr = {append_repr_string, "None", "True", "False"};
    if (json_is_string(value)) // str of a string is its text; inside lists and dictionaries it is quoted
        return text_buffer_append(out, json_string_value(value), json_string_length(value));
    return append_value(out, value, &repr);
}

// ---- strip

static bool is_space(uint32_t code_point)
{
    return (code_point >= 0x09 && code_point <= 0x0D) || (code_point >= 0x1C && code_point <= 0x20) ||
           code_point == 0x85 || code_point == 0xA0 || code_point == 0x1680 ||
           (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 || code_point == 0x2029 ||
           code_point == 0x202F || code_point == 0x205F || code_point == 0x3000;
}

void python_strip(const char **text, size_t *bytes)
{
    const uint8_t *at = (const uint8_t *)*text;
    size_t start = 0, end = 0; // of what remains
    bool begun = false;
    for (size_t i = 0; i < *bytes;) {
        struct utf8_step step = utf8_next(at + i, *bytes - i);
        if (!is_space(step.code_point)) {
            start = begun ? start : i;
            begun = true;
            end = i + step.bytes;
        }
        i += step.bytes;
    }
    *text += start;
    *bytes = end - start;
}
