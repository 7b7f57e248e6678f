#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/text/splitter.h"

#include <pcre2.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/snippet.h"
#include "runtime/text/text_buffer.h"
#include "runtime/text/utf8.h"

enum {
    PATTERN_BYTES_MAX = 4096,
    HEAP_LIMIT_KIB = 256 * 1024,
    STEPS_MIN = 10000000,
    STEPS_PER_BYTE = 16, // the Qwen expressions need at most 3 (a run of white space is walked forth and back)
};

struct splitter {
    pcre2_code *code;
};

static void *pcre_alloc(size_t bytes, void *user)
{
    (void)user;
    return mem_alloc(bytes, 1);
}

static void pcre_free(void *pointer, void *user)
{
    (void)user;
    mem_free(pointer);
}

// Letters, numbers and marks of Unicode 15 to 16, which the Hugging Face library knows and PCRE2 before 10.43 does not.
static const struct {
    char property;
    const char *ranges;
} unicode_additions[] = {
    {'L', "\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}\\x{10D4A}-\\x{10D65}"
          "\\x{10D6F}-\\x{10D85}\\x{10EC2}-\\x{10EC4}\\x{1123F}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138B}"
          "\\x{1138E}\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}\\x{113D3}\\x{11BC0}-\\x{11BE0}\\x{11F02}"
          "\\x{11F04}-\\x{11F10}\\x{11F12}-\\x{11F33}\\x{1342F}\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}"
          "\\x{16100}-\\x{1611D}\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}"
          "\\x{1E030}-\\x{1E06D}\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{1E5ED}\\x{1E5F0}\\x{2B739}"
          "\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"},
    {'N', "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11F50}-\\x{11F59}"
          "\\x{16130}-\\x{16139}\\x{16D70}-\\x{16D79}\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}"
          "\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}"},
    {'M', "\\x{897}\\x{CF3}\\x{ECE}\\x{10D69}-\\x{10D6D}\\x{10EFC}-\\x{10EFF}\\x{11241}\\x{113B8}-\\x{113C0}"
          "\\x{113C2}\\x{113C5}\\x{113C7}-\\x{113CA}\\x{113CC}-\\x{113D0}\\x{113D2}\\x{113E1}-\\x{113E2}"
          "\\x{11F00}-\\x{11F01}\\x{11F03}\\x{11F34}-\\x{11F3A}\\x{11F3E}-\\x{11F42}\\x{11F5A}\\x{13440}"
          "\\x{13447}-\\x{13455}\\x{1611E}-\\x{1612F}\\x{1E08F}\\x{1E4EC}-\\x{1E4EF}\\x{1E5EE}-\\x{1E5EF}"},
};

// White_Space is \p{Z}, tab to carriage return, and U+0085.
static const char white_space[] = "\\p{Z}\\x09-\\x0D\\x{85}";

// The additions to \p{L}, \p{N} or \p{M} if this is what stands at `at`, or NULL.
static const char *additions_at(const char *at, size_t bytes)
{
    if (bytes < 5 || memcmp(at, "\\p{", 3) != 0 || at[4] != '}')
        return NULL;
    for (size_t i = 0; i < sizeof unicode_additions / sizeof unicode_additions[0]; i++)
        if (unicode_additions[i].property == at[3])
            return unicode_additions[i].ranges;
    return NULL;
}

// What stands at one place of the expression, and how it is to be written.
struct element {
    size_t bytes;      // its length
    size_t kept_bytes; // how much of it is copied
    const char
        *ranges;  // what follows it; with these it becomes a class of its own unless it stands in one. NULL: nothing
    bool negated; // the class is
};

static struct element element_at(const char *at, size_t bytes, bool in_class)
{
    size_t length = *at == '\\' && bytes > 1 ? 2 : 1;
    const char *additions = additions_at(at, bytes);
    if (additions)
        return (struct element){.bytes = 5, .kept_bytes = 5, .ranges = additions};
    if (length == 2 && (at[1] == 's' || (at[1] == 'S' && !in_class)))
        return (struct element){.bytes = 2, .ranges = white_space, .negated = at[1] == 'S'};
    return (struct element){.bytes = length, .kept_bytes = length};
}

static enum sluice_status put_element(struct text_buffer *out, const char *at, struct element element, bool in_class)
{
    bool bracket = element.ranges && !in_class;
    enum sluice_status status;
    if (bracket)
        TRY(text_buffer_append_string(out, element.negated ? "[^" : "["));
    TRY(text_buffer_append(out, at, element.kept_bytes));
    if (element.ranges)
        TRY(text_buffer_append_string(out, element.ranges));
    if (bracket)
        TRY(text_buffer_append_string(out, "]"));
fail:
    return status;
}

// Copies the expression with its classes made those of the Hugging Face library.
static enum sluice_status translate(struct text_buffer *out, const char *pattern, size_t bytes)
{
    bool in_class = false;
    enum sluice_status status = SLUICE_OK;
    for (size_t i = 0; i < bytes;) {
        struct element element = element_at(pattern + i, bytes - i, in_class);
        TRY(put_element(out, pattern + i, element, in_class));
        in_class = pattern[i] == '[' || (in_class && pattern[i] != ']');
        i += element.bytes;
    }
fail:
    return status;
}

static enum sluice_status compile_failed(int error, size_t offset, const char *pattern, size_t bytes)
{
    if (error == PCRE2_ERROR_NOMEMORY || error == PCRE2_ERROR_HEAP_FAILED)
        return error_set(SLUICE_ERR_MEMORY, "out of memory while compiling the pre-tokenizer's expression");
    PCRE2_UCHAR reason[128] = "";
    pcre2_get_error_message(error, reason, sizeof reason);
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "pre_tokenizer: the regular expression \"%s\" is not understood: %s (at %zu)",
                     snippet_of(pattern, bytes).text, (const char *)reason, offset);
}

static enum sluice_status compile(struct splitter *splitter, const struct text_buffer *translated, const char *pattern,
                                  size_t bytes)
{
    enum sluice_status status = SLUICE_ERR_MEMORY;
    pcre2_compile_context *context = NULL;
    pcre2_general_context *memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (!memory)
        goto fail;
    context = pcre2_compile_context_create(memory);
    if (!context)
        goto fail;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int error;
    size_t offset;
    splitter->code = pcre2_compile((PCRE2_SPTR)translated->data, translated->bytes,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context);
    if (!splitter->code) {
        status = compile_failed(error, offset, pattern, bytes);
        goto fail;
    }
    pcre2_jit_compile(splitter->code,
                      PCRE2_JIT_COMPLETE); // without it (forbidden, not built in) matching is only slower
    status = SLUICE_OK;
fail:
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    return status;
}

enum sluice_status splitter_create(const char *pattern, size_t bytes, struct splitter **splitter)
{
    *splitter = NULL;
    if (bytes == 0 || bytes > PATTERN_BYTES_MAX)
        return error_set(SLUICE_ERR_UNSUPPORTED,
                         "pre_tokenizer: the regular expression is %zu bytes long; 1 to %d are supported", bytes,
                         PATTERN_BYTES_MAX);
    struct text_buffer translated = {0};
    enum sluice_status status;
    struct splitter *made = mem_alloc(1, sizeof *made);
    if (!made)
        return SLUICE_ERR_MEMORY;
    TRY(translate(&translated, pattern, bytes));
    TRY(compile(made, &translated, pattern, bytes));
    text_buffer_finish(&translated);
    *splitter = made;
    return SLUICE_OK;
fail:
    text_buffer_finish(&translated);
    splitter_destroy(made);
    return status;
}

void splitter_destroy(struct splitter *splitter)
{
    if (!splitter)
        return;
    pcre2_code_free(splitter->code);
    mem_free(splitter);
}

enum sluice_status splitter_run_init(struct splitter_run *run, const struct splitter *splitter)
{
    *run = (struct splitter_run){.splitter = splitter};
    pcre2_general_context *memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (!memory)
        return SLUICE_ERR_MEMORY;
    run->match = pcre2_match_data_create(1, memory);
    run->context = pcre2_match_context_create(memory);
    pcre2_general_context_free(memory);
    if (!run->match || !run->context) {
        splitter_run_finish(run);
        return SLUICE_ERR_MEMORY;
    }
    pcre2_set_heap_limit(run->context, HEAP_LIMIT_KIB);
    return SLUICE_OK;
}

void splitter_run_finish(struct splitter_run *run)
{
    pcre2_match_data_free(run->match);
    pcre2_match_context_free(run->context);
    *run = (struct splitter_run){0};
}

void splitter_run_start(struct splitter_run *run, const uint8_t *text, size_t bytes)
{
    run->text = text;
    run->bytes = bytes;
    run->done = run->search = run->match_start = run->match_end = 0;
    size_t steps = bytes < (UINT32_MAX - STEPS_MIN) / STEPS_PER_BYTE ? STEPS_MIN + STEPS_PER_BYTE * bytes : UINT32_MAX;
    run->match_limit = (uint32_t)steps;
    pcre2_set_match_limit(run->context, run->match_limit);
}

static enum sluice_status match_failed(int error, const struct splitter_run *run)
{
    if (error == PCRE2_ERROR_NOMEMORY)
        return error_set(SLUICE_ERR_MEMORY, "out of memory in the pre-tokenizer's expression");
    PCRE2_UCHAR reason[128] = "";
    pcre2_get_error_message(error, reason, sizeof reason);
    return error_set(SLUICE_ERR_UNSUPPORTED,
                     "the pre-tokenizer's expression fails at byte %zu of a text of %zu bytes: %s", run->search,
                     run->bytes, (const char *)reason);
}

// Finds the next match from run->search on; the end of the text counts as an empty match.
static enum sluice_status find(struct splitter_run *run)
{
    const pcre2_code *code = run->splitter->code;
    int found = pcre2_match(code, run->text, run->bytes, run->search, PCRE2_NO_UTF_CHECK, run->match, run->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) // the interpreter keeps its backtracking points on the heap
        found = pcre2_match(code, run->text, run->bytes, run->search, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, run->match,
                            run->context);
    if (found == PCRE2_ERROR_NOMATCH) {
        run->match_start = run->match_end = run->bytes;
        return SLUICE_OK;
    }
    if (found < 0)
        return match_failed(found, run);
    const size_t *range = pcre2_get_ovector_pointer(run->match);
    // \K in a lookaround can put the start behind the end or in front of the search.
    if (range[0] < run->search || range[1] < range[0])
        return error_set(SLUICE_ERR_UNSUPPORTED, "pre_tokenizer: the regular expression matches backwards");
    run->match_start = range[0];
    run->match_end = range[1];
    return SLUICE_OK;
}

// After an empty match the search goes on one character further.
static void advance(struct splitter_run *run)
{
    run->search = run->match_end;
    if (run->match_end == run->match_start && run->search < run->bytes)
        run->search += utf8_next(run->text + run->search, run->bytes - run->search).bytes;
}

enum sluice_status splitter_run_next(struct splitter_run *run, size_t *start, size_t *end)
{
    while (run->done < run->bytes) {
        if (run->done < run->match_start) { // an unmatched stretch, then the match itself
            *start = run->done;
            *end = run->done = run->match_start;
            return SLUICE_OK;
        }
        if (run->done < run->match_end) {
            *start = run->done;
            *end = run->done = run->match_end;
            return SLUICE_OK;
        }
        enum sluice_status status = find(run);
        if (status < 0)
            return status;
        advance(run);
    }
    return SLUICE_PENDING;
}
