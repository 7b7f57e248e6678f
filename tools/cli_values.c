// Values of command-line options.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/budget.h"
#include "tools/cli.h"

enum sluice_status cli_parse_flag(const char *text, void *target)
{
    (void)text;
    *(bool *)target = true;
    return SLUICE_OK;
}

enum sluice_status cli_parse_text(const char *text, void *target)
{
    *(const char **)target = text;
    return SLUICE_OK;
}

enum sluice_status cli_parse_u64(const char *text, void *target)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno)
        return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is no whole number from 0 to 2^64 - 1", text);
    *(uint64_t *)target = value;
    return SLUICE_OK;
}

enum sluice_status cli_parse_count(const char *text, void *target)
{
    uint64_t value = 0;
    if (cli_parse_u64(text, &value) != SLUICE_OK || value < 1 || value > UINT32_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is no whole number from 1 to 2^32 - 1", text);
    *(uint32_t *)target = (uint32_t)value;
    return SLUICE_OK;
}

enum sluice_status cli_parse_size(const char *text, void *target)
{
    uint64_t bytes;
    enum sluice_status status = size_parse(text, &bytes);
    if (status == SLUICE_OK && bytes == 0)
        status = error_set(SLUICE_ERR_ARGUMENT, "'%s': more than nothing is needed, such as 512M", text);
    if (status == SLUICE_OK)
        *(uint64_t *)target = bytes;
    return status;
}

_Static_assert(sizeof(enum sluice_io) == sizeof(unsigned), "choose() stores enums of this size");

// Stores which of the names `text` is in *target, an enum.
static enum sluice_status choose(const char *text, const char *const *names, size_t count, void *target)
{
    char list[128] = "";
    size_t used = 0;
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            *(unsigned *)target = i;
            return SLUICE_OK;
        }
        const char *before = i == 0 ? "" : i + 1 < count ? ", " : " and ";
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", before, names[i]);
    }
    return error_set(SLUICE_ERR_ARGUMENT, "\"%s\" is none of %s", text, list);
}

enum sluice_status cli_parse_expert_pool(const char *text, void *target)
{
    static const char *const names[] = {[SLUICE_EXPERT_POOL_AUTO] = "auto",
                                        [SLUICE_EXPERT_POOL_SEPARATE] = "separate",
                                        [SLUICE_EXPERT_POOL_UNIFIED] = "unified"};
    return choose(text, names, sizeof names / sizeof *names, target);
}

enum sluice_status cli_parse_io(const char *text, void *target)
{
    static const char *const names[] = {
        [SLUICE_IO_AUTO] = "auto", [SLUICE_IO_URING] = "uring", [SLUICE_IO_PREAD] = "pread"};
    return choose(text, names, sizeof names / sizeof *names, target);
}

enum sluice_status cli_parse_verify(const char *text, void *target)
{
    static const char *const names[] = {[SLUICE_VERIFY_ONCE] = "once", [SLUICE_VERIFY_ALWAYS] = "always"};
    return choose(text, names, sizeof names / sizeof *names, target);
}

enum sluice_status cli_parse_kv(const char *text, void *target)
{
    static const char *const names[] = {[SLUICE_KV_F16] = "f16", [SLUICE_KV_F32] = "f32", [SLUICE_KV_Q8] = "q8"};
    return choose(text, names, sizeof names / sizeof *names, target);
}

enum sluice_status cli_parse_activations(const char *text, void *target)
{
    static const char *const names[] = {[SLUICE_ACTIVATIONS_Q8] = "q8", [SLUICE_ACTIVATIONS_F32] = "f32"};
    return choose(text, names, sizeof names / sizeof *names, target);
}

enum sluice_status cli_parse_matrix_cores(const char *text, void *target)
{
    static const char *const names[] = {
        [SLUICE_MATRIX_CORES_AUTO] = "auto", [SLUICE_MATRIX_CORES_OFF] = "off", [SLUICE_MATRIX_CORES_ON] = "on"};
    return choose(text, names, sizeof names / sizeof *names, target);
}

enum sluice_status cli_parse_routing(const char *text, void *target)
{
    static const char *const names[] = {
        [SLUICE_ROUTING_MODEL] = "model", [SLUICE_ROUTING_UNIFORM] = "uniform", [SLUICE_ROUTING_RECORDED] = "recorded"};
    return choose(text, names, sizeof names / sizeof *names, target);
}
