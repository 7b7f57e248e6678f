#include "tools/document_load.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/utf8.h"

enum { DOCUMENT_BYTES_MAX = 64 << 20 };

static enum sluice_status read_all(FILE *file, const char *name, char **data, size_t *used)
{
    size_t capacity = 0;
    while (!feof(file)) {
        if (*used == capacity) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            char *grown = mem_realloc(*data, capacity, 1);
            if (!grown)
                return SLUICE_ERR_MEMORY;
            *data = grown;
        }
        *used += fread(*data + *used, 1, capacity - *used, file);
        if (ferror(file))
            return error_set(SLUICE_ERR_IO, "%s: cannot read: %s", name, strerror(errno));
        if (*used > DOCUMENT_BYTES_MAX)
            return error_set(SLUICE_ERR_ARGUMENT, "%s: longer than %d MiB of text", name, DOCUMENT_BYTES_MAX >> 20);
    }
    return SLUICE_OK;
}

static enum sluice_status check_text(const char *name, char *text, size_t *bytes)
{
    static const char mark[] = "\xEF\xBB\xBF";
    size_t valid = utf8_valid_prefix((const uint8_t *)text, *bytes);
    if (valid < *bytes)
        return error_set(SLUICE_ERR_FORMAT,
                         "%s: not UTF-8 text: byte %zu is wrong; convert it first, for example with iconv", name,
                         valid);
    if (*bytes >= sizeof mark - 1 && memcmp(text, mark, sizeof mark - 1) == 0) {
        *bytes -= sizeof mark - 1;
        memmove(text, text + sizeof mark - 1, *bytes);
    }
    return *bytes ? SLUICE_OK : error_set(SLUICE_ERR_ARGUMENT, "%s: the document is empty", name);
}

enum sluice_status document_load(const char *path, char **text, size_t *bytes)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    FILE *file = is_stdin ? stdin : fopen(path, "rb");
    *text = NULL;
    *bytes = 0;
    if (!file)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", name, strerror(errno));
    enum sluice_status status = read_all(file, name, text, bytes);
    if (!is_stdin)
        fclose(file);
    if (status == SLUICE_OK)
        status = check_text(name, *text, bytes);
    if (status < 0) {
        mem_free(*text);
        *text = NULL;
    }
    return status;
}
