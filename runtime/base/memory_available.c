#include "runtime/base/memory_available.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1 << 14, PATH_BYTES_MAX = 4096 };

// The file's beginning as text; false if it cannot be read.
static bool read_text(const char *path, char text[FILE_BYTES_MAX])
{
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    size_t bytes = fread(text, 1, FILE_BYTES_MAX - 1, file);
    text[bytes] = '\0';
    fclose(file);
    return bytes > 0;
}

// "max" and nonsense are no limit; so is what version 1 writes for none, nearly 2^63.
static uint64_t parse_bytes(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    return end == text || *text == '-' || value >= (1ull << 62) ? UINT64_MAX : value;
}

// The number behind `name` at the beginning of a line; false if there is none.
static bool find_value(const char *text, const char *name, uint64_t *value)
{
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) != 0)
            continue;
        *value = parse_bytes(line + length + strspn(line + length, " \t"));
        return *value != UINT64_MAX;
    }
    return false;
}

static uint64_t system_available(const char *root)
{
    char path[PATH_BYTES_MAX], text[FILE_BYTES_MAX];
    uint64_t kibibytes;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (!read_text(path, text) || !find_value(text, "MemAvailable:", &kibibytes) || kibibytes > UINT64_MAX / 1024)
        return UINT64_MAX;
    return kibibytes * 1024;
}

// One version of the memory controller.
struct controller {
    const char *mount, *limit, *usage;
    const char *inactive, *active; // page cache in memory.stat, of the group and those below it
};

static const struct controller version_2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file",
                                            "active_file"};
static const struct controller version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                            "total_inactive_file", "total_active_file"};

static bool read_file(const char *folder, const char *name, char text[FILE_BYTES_MAX])
{
    char path[2 * PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_text(path, text);
}

// What one group leaves.
static uint64_t group_left(const struct controller *c, const char *folder)
{
    char text[FILE_BYTES_MAX];
    if (!read_file(folder, c->limit, text))
        return UINT64_MAX;
    uint64_t limit = parse_bytes(text), usage, inactive = 0, active = 0;
    if (limit == UINT64_MAX || !read_file(folder, c->usage, text))
        return limit;
    usage = parse_bytes(text);
    if (usage == UINT64_MAX)
        return limit;
    if (read_file(folder, "memory.stat", text)) {
        find_value(text, c->inactive, &inactive);
        find_value(text, c->active, &active);
        uint64_t cache = inactive < UINT64_MAX - active ? inactive + active : UINT64_MAX;
        usage -= cache < usage ? cache : usage;
    }
    return usage < limit ? limit - usage : 0;
}

// The group at `path` ("/a/b") and all above it. Inside a container the path may be the host's, and not exist here.
static uint64_t groups_left(const struct controller *c, const char *root, const char *path)
{
    char folder[PATH_BYTES_MAX];
    uint64_t least = UINT64_MAX;
    size_t mount = (size_t)snprintf(folder, sizeof folder, "%s%s", root, c->mount);
    if (mount + strlen(path) + 1 > sizeof folder)
        return UINT64_MAX;
    strcpy(folder + mount, path);
    for (;;) {
        uint64_t left = group_left(c, folder);
        least = left < least ? left : least;
        char *slash = strrchr(folder + mount, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

// Whether `name` is in a comma-separated list.
static bool lists(const char *list, const char *name)
{
    for (size_t length = strlen(name); *list; list += *list == ',') {
        size_t item = strcspn(list, ",");
        if (item == length && strncmp(list, name, length) == 0)
            return true;
        list += item;
    }
    return false;
}

// Lines of /proc/self/cgroup: "0::/path" is version 2, "4:memory:/path" version 1.
static uint64_t cgroup_available(const char *root)
{
    char path[PATH_BYTES_MAX], text[FILE_BYTES_MAX];
    uint64_t least = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_text(path, text))
        return UINT64_MAX;
    for (char *rest = text, *line; (line = strtok_r(rest, "\n", &rest));) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        const struct controller *c = controllers[1] == '\0' ? &version_2 : &version_1;
        if (c == &version_1 && !lists(controllers + 1, "memory"))
            continue;
        uint64_t left = groups_left(c, root, group);
        least = left < least ? left : least;
    }
    return least;
}

struct memory_available memory_available(const char *root)
{
    struct memory_available m = {.system_bytes = system_available(root), .cgroup_bytes = cgroup_available(root)};
    m.bytes = m.system_bytes < m.cgroup_bytes ? m.system_bytes : m.cgroup_bytes;
    return m;
}

uint64_t memory_resident_bytes(void)
{
    char text[FILE_BYTES_MAX];
    unsigned long total, resident;
    if (!read_text("/proc/self/statm", text) || sscanf(text, "%lu %lu", &total, &resident) != 2)
        return 0;
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t memory_resident_bytes_max(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}
