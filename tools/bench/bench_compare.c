#include "tools/bench/bench_compare.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum sluice_status bench_compare_load(const char *path, json_t **report)
{
    json_error_t error;
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    json_t *tree = json_loadf(file, 0, &error);
    fclose(file);
    if (!tree)
        return error_set(SLUICE_ERR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    if (!json_object_get(tree, "kernels") && !json_object_get(tree, "prefill") && !json_object_get(tree, "decode")) {
        json_decref(tree);
        return error_set(SLUICE_ERR_FORMAT, "%s: no report of `sluice bench --json` or `sluice probe --json`", path);
    }
    *report = tree;
    return SLUICE_OK;
}

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

struct comparison {
    FILE *out;
    unsigned lines;
};

// `faster`: how often faster it is now.
static void print_line(struct comparison *c, const char *name, double before, double now, const char *unit,
                       double faster)
{
    if (c->lines++ == 0)
        fprintf(c->out, "%-28s %12s %12s %-8s %8s\n", "", "before", "now", "", "faster");
    fprintf(c->out, "%-28s %12.3f %12.3f %-8s %8.3f\n", name, before, now, unit, faster);
}

static void compare_kernels(struct comparison *c, json_t *before, json_t *now)
{
    size_t i, j;
    json_t *a, *b;
    json_array_foreach(json_object_get(now, "kernels"), i, b)
        json_array_foreach(json_object_get(before, "kernels"), j, a)
    {
        double old = json_number_value(json_object_get(a, "seconds"));
        double new = json_number_value(json_object_get(b, "seconds"));
        if (strcmp(text_of(a, "name"), text_of(b, "name")) == 0 && old > 0 && new > 0)
            print_line(c, text_of(b, "name"), old * 1e6, new * 1e6, "us", old / new);
    }
}

// Members of the roof whose names end in _ops_s or _bytes_s are rates; those that end in _s alone are times.
static void compare_roof(struct comparison *c, json_t *before, json_t *now)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(now, "roof"), key, value)
    {
        double old = json_number_value(json_object_get(json_object_get(before, "roof"), key));
        double new = json_number_value(value);
        char name[64];
        if (!json_is_real(value) || old <= 0 || new <= 0)
            continue;
        bool rate = strstr(key, "_ops_s") || strstr(key, "_bytes_s");
        snprintf(name, sizeof name, "roof %s", key);
        print_line(c, name, rate ? old * 1e-9 : old * 1e6, rate ? new * 1e-9 : new * 1e6, rate ? "G/s" : "us",
                   rate ? new / old : old / new);
    }
}

static void compare_speed(struct comparison *c, const char *what, json_t *before, json_t *now)
{
    char name[64];
    double old = json_number_value(json_object_get(before, "tok_s")),
           new = json_number_value(json_object_get(now, "tok_s"));
    json_int_t tokens = json_integer_value(json_object_get(now, "tokens"));
    json_t *depth = json_object_get(now, "depth");
    if (old <= 0 || new <= 0)
        return;
    if (depth)
        snprintf(name, sizeof name, "%s %lld at %lld", what, (long long)tokens, (long long)json_integer_value(depth));
    else
        snprintf(name, sizeof name, "%s %lld", what, (long long)tokens);
    print_line(c, name, old, new, "tok/s", new / old);
}

static void compare_runs(struct comparison *c, json_t *before, json_t *now)
{
    size_t i, j;
    json_t *a, *b;
    json_array_foreach(json_object_get(now, "prefill"), i, b)
        json_array_foreach(json_object_get(before, "prefill"), j,
                           a) if (json_equal(json_object_get(a, "tokens"), json_object_get(b, "tokens")))
            compare_speed(c, "prefill", a, b);
    a = json_object_get(before, "decode");
    b = json_object_get(now, "decode");
    if (json_equal(json_object_get(a, "depth"), json_object_get(b, "depth")))
        compare_speed(c, "decode", a, b);
}

enum sluice_status bench_compare_print(FILE *out, json_t *before, json_t *now)
{
    struct comparison c = {.out = out};
    if (strcmp(text_of(before, "device"), text_of(now, "device")) != 0 ||
        strcmp(text_of(before, "driver"), text_of(now, "driver")) != 0)
        fprintf(out, "before: %s, %s\nnow:    %s, %s\n", text_of(before, "device"), text_of(before, "driver"),
                text_of(now, "device"), text_of(now, "driver"));
    compare_roof(&c, before, now);
    compare_kernels(&c, before, now);
    compare_runs(&c, before, now);
    return c.lines ? SLUICE_OK : error_set(SLUICE_ERR_ARGUMENT, "the two reports have no measurement in common");
}
