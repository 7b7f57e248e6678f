#include "tests/text/text_data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/text/tokenizer.h"

static char *read_stream(FILE *stream, size_t *bytes)
{
    size_t capacity = 1 << 16;
    char *text = malloc(capacity);
    *bytes = 0;
    for (size_t got = 1; got > 0; *bytes += got) {
        if (capacity - *bytes < 1 << 15)
            text = realloc(text, capacity *= 2);
        assert_non_null(text);
        got = fread(text + *bytes, 1, capacity - *bytes - 1, stream);
    }
    text[*bytes] = '\0';
    return text;
}

char *data_read(const char *name, size_t *bytes)
{
    char command[4096];
    size_t length = strlen(name);
    bool packed = length > 3 && strcmp(name + length - 3, ".gz") == 0;
    snprintf(command, sizeof command, packed ? "gzip -dc '%s/%s'" : "%s/%s", TEST_DATA, name);
    FILE *stream = packed ? popen(command, "r") : fopen(command, "rb");
    assert_non_null(stream);
    char *text = read_stream(stream, bytes);
    assert_int_equal(packed ? pclose(stream) : fclose(stream), 0);
    assert_true(*bytes > 0);
    return text;
}

json_t *data_json_lines(const char *name)
{
    size_t bytes;
    char *text = data_read(name, &bytes);
    json_t *lines = json_array();
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        size_t length = end ? (size_t)(end - line) : strlen(line);
        json_error_t error;
        json_t *value = json_loadb(line, length, JSON_ALLOW_NUL, &error);
        assert_non_null(value);
        json_array_append_new(lines, value);
        line += length + (end ? 1 : 0);
    }
    free(text);
    return lines;
}

struct tokenizer *data_demo_tokenizer(void)
{
    size_t bytes;
    char *text = data_read("../../tools/demo/tokenizer.json", &bytes);
    struct tokenizer *tokenizer;
    enum sluice_status status = tokenizer_create(text, bytes, NULL, 0, &tokenizer);
    if (status < 0)
        print_error("%s\n", error_message());
    assert_int_equal(status, SLUICE_OK);
    free(text);
    return tokenizer;
}

struct tokenizer *data_tokenizer(const json_t *file)
{
    char *text = json_dumps(file, 0);
    assert_non_null(text);
    struct tokenizer *tokenizer;
    enum sluice_status status = tokenizer_create(text, strlen(text), NULL, 0, &tokenizer);
    if (status < 0)
        print_error("%s\n", error_message());
    assert_int_equal(status, SLUICE_OK);
    free(text);
    return tokenizer;
}
