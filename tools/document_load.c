#include "tools/document_load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

enum { DOCUMENT_BYTES_MAX = 64 << 20 };

enum sluice_status document_load(const char *path, char **text, size_t *bytes)
{
    enum sluice_status status = SLUICE_OK;
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!file)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    char *data = NULL;
    size_t used = 0, capacity = 0;
    while (status == SLUICE_OK && !feof(file)) {
        if (used == capacity) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            char *grown = mem_realloc(data, capacity, 1);
            if (!grown) {
                status = SLUICE_ERR_MEMORY;
                break;
            }
            data = grown;
        }
        used += fread(data + used, 1, capacity - used, file);
        if (ferror(file))
            status = error_set(SLUICE_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        else if (used > DOCUMENT_BYTES_MAX)
            status = error_set(SLUICE_ERR_ARGUMENT, "%s: longer than %d MiB of text", path, DOCUMENT_BYTES_MAX >> 20);
    }
    if (file != stdin)
        fclose(file);
    if (status == SLUICE_OK && used == 0)
        status = error_set(SLUICE_ERR_ARGUMENT, "%s: the document is empty", path);
    if (status < 0) {
        mem_free(data);
        return status;
    }
    *text = data;
    *bytes = used;
    return SLUICE_OK;
}
