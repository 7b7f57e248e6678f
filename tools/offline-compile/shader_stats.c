// Compiles every shader variant of a list with the Vulkan driver that the loader offers and prints what its compiler
// made of it, one line of tab-separated values each. Exit status 1 if a variant does not compile or breaks a limit
// below, 77 if there is no device.
//
//   shader_stats LIST [ASSEMBLY_DIR]
//
// LIST has one variant a line: MODULE FILE.spv ID=VALUE..., as the shader build writes it; FILE is relative to the
// list's folder. "subgroup=N" asks for that size, "full-subgroups" for full ones,
// "wide" leaves the variant out where subgroups have 32 lanes or fewer. With ASSEMBLY_DIR the machine's
// instructions of variant n (from 0) are written to ASSEMBLY_DIR/n.txt.
#include "tools/offline-compile/shader_compiler.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINE_BYTES = 4096,
    SHARED_BYTES_MAX = 32 * 1024, // what every driver offers, the software driver no more
};

struct variant {
    char module[LINE_BYTES];
    char file[LINE_BYTES];
    char constants[LINE_BYTES]; // as written in the list
    struct shader_source source;
};

// ---- the list

static uint32_t parse_number(const char *text, char end_mark, const char **rest)
{
    char *end;
    unsigned long value = strtoul(text, &end, 0);
    if (end == text || *end != end_mark || value > UINT32_MAX)
        fail("expected ID=VALUE in the list", text);
    *rest = end + (end_mark != 0);
    return (uint32_t)value;
}

static void add_constant(struct shader_source *source, const char *text)
{
    uint32_t id = parse_number(text, '=', &text), value = parse_number(text, 0, &text);
    if (source->constant_count == CONSTANTS_MAX)
        fail("too many constants in the list", text);
    uint32_t offset = source->constant_count * (uint32_t)sizeof *source->values;
    source->entries[source->constant_count] = (VkSpecializationMapEntry){id, offset, sizeof *source->values};
    source->values[source->constant_count++] = value;
}

static void add_word(struct variant *v, const char *word)
{
    static const char subgroup[] = "subgroup=";
    size_t used = strlen(v->constants);
    if (strcmp(word, "wide") == 0) {
        v->source.is_wide = true;
        return;
    }
    snprintf(v->constants + used, sizeof v->constants - used, "%s%s", used ? " " : "", word);
    if (strncmp(word, subgroup, sizeof subgroup - 1) == 0)
        v->source.subgroup_size = parse_number(word + sizeof subgroup - 1, 0, &word);
    else if (strcmp(word, "full-subgroups") == 0)
        v->source.full_subgroups = true;
    else
        add_constant(&v->source, word);
}

static void read_module(struct shader_source *source, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        fail("cannot read", path);
    long size = ftell(f);
    if (size < 20 || size % (long)sizeof *source->words != 0)
        fail("not SPIR-V", path);
    rewind(f);
    source->word_count = (size_t)size / sizeof *source->words;
    source->words = malloc((size_t)size);
    if (!source->words || fread(source->words, sizeof *source->words, source->word_count, f) != source->word_count)
        fail("cannot read", path);
    fclose(f);
}

// Takes a line of the list apart; false if it is empty. `folder` ends with a slash or is empty.
static bool parse_variant(struct variant *v, const char *folder, char *line)
{
    char *rest = NULL;
    const char *name = strtok_r(line, " \n", &rest);
    *v = (struct variant){.module = ""};
    if (!name)
        return false;
    const char *file = strtok_r(NULL, " \n", &rest);
    if (!file)
        fail("no file name in the list for", name);
    snprintf(v->module, sizeof v->module, "%s", name);
    if ((size_t)snprintf(v->file, sizeof v->file, "%s%s", folder, file) >= sizeof v->file)
        fail("too long a path", file);
    for (const char *word; (word = strtok_r(NULL, " \n", &rest));)
        add_word(v, word);
    read_module(&v->source, v->file);
    return true;
}

// ---- one variant

// The first broken limit in words, or NULL.
static const char *broken_limit(const struct shader_statistics *s)
{
    if (s->instructions == UINT64_MAX || s->registers == UINT64_MAX || s->spills == UINT64_MAX ||
        s->scratch_bytes == UINT64_MAX || s->shared_bytes == UINT64_MAX)
        return "a statistic is missing: another driver's names?";
    if (s->spills)
        return "spills registers";
    if (s->scratch_bytes)
        return "uses scratch memory";
    if (s->shared_bytes > SHARED_BYTES_MAX)
        return "needs more than 32 KiB of shared memory";
    return NULL;
}

static void print_value(uint64_t value)
{
    if (value == UINT64_MAX)
        printf("\t-");
    else
        printf("\t%" PRIu64, value);
}

static void print_statistics(const struct shader_statistics *s)
{
    const uint64_t values[] = {s->instructions, s->registers, s->scalar_registers, s->spills, s->scratch_bytes,
                               s->shared_bytes, s->waves,     s->code_bytes,       s->cycles, s->subgroup_size};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        print_value(values[i]);
}

static void write_assembly(const char *folder, int index, char *text)
{
    char path[LINE_BYTES];
    snprintf(path, sizeof path, "%s/%d.txt", folder, index);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text ? text : "", f) < 0 || fclose(f) != 0)
        fail("cannot write", path);
    free(text);
}

// Compiles the variant and prints its row; false if it must not ship like this.
static bool check_variant(const struct shader_compiler *c, const struct variant *v, const char *assembly_dir, int index)
{
    printf("%s\t%s", v->module, v->constants);
    fflush(stdout); // a compiler that crashes leaves the name of its victim
    const char *lacks = compiler_lacks(c, &v->source);
    if (lacks) {
        printf("\tskipped: %s\n", lacks);
        return true;
    }
    struct shader_statistics s;
    char *assembly = NULL;
    const char *broken = "does not compile";
    if (compiler_run(c, &v->source, &s, assembly_dir ? &assembly : NULL)) {
        broken = broken_limit(&s);
        print_statistics(&s);
        if (assembly_dir)
            write_assembly(assembly_dir, index, assembly);
    }
    printf("%s%s\n", broken ? "\t<-- " : "", broken ? broken : "");
    return broken == NULL;
}

static const char header[] =
    "kernel\tconstants\tinstructions\tregisters\tscalar\tspills\tscratch\tshared\twaves\tcode\tcycles\tsubgroup\n";

int main(int argc, char **argv)
{
    static struct variant v;
    static char line[LINE_BYTES], folder[LINE_BYTES];
    FILE *list = argc == 2 || argc == 3 ? fopen(argv[1], "r") : NULL;
    if (!list)
        fail("usage: shader_stats LIST [ASSEMBLY_DIR]; cannot read", argc > 1 ? argv[1] : "(no list)");
    const char *slash = strrchr(argv[1], '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash + 1 - argv[1]) : 0, argv[1]);

    struct shader_compiler c;
    char driver[DRIVER_TEXT_BYTES];
    compiler_open(&c, driver);
    printf("# %s\n%s", driver, header);
    int count = 0, bad = 0;
    while (fgets(line, sizeof line, list)) {
        if (!parse_variant(&v, folder, line))
            continue;
        bad += !check_variant(&c, &v, argc == 3 ? argv[2] : NULL, count++);
        free(v.source.words);
    }
    fclose(list);
    compiler_close(&c);
    printf("# %d variants, %d bad\n", count, bad);
    return bad || count == 0;
}
