// Damaged containers: each is refused with one message that names the file, or gives the same output. Never anything
// else.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "tests/engine/engine_fixture.h"

enum { DAMAGES = 200, TOKENS = 12, PAGE = 4096 };

static const char config[] =
    "{\"model_type\": \"qwen3_next\", \"hidden_act\": \"silu\", \"vocab_size\": 96, \"hidden_size\": 64,"
    " \"intermediate_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
    " \"head_dim\": 32, \"partial_rotary_factor\": 0.25, \"rope_theta\": 10000.0, \"rms_norm_eps\": 1e-6,"
    " \"tie_word_embeddings\": false, \"linear_conv_kernel_dim\": 4, \"linear_key_head_dim\": 16,"
    " \"linear_value_head_dim\": 16, \"linear_num_key_heads\": 1, \"linear_num_value_heads\": 2, \"num_experts\": 6,"
    " \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32, \"shared_expert_intermediate_size\": 32,"
    " \"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], \"full_attention_interval\": 2,"
    " \"max_position_embeddings\": 512, \"torch_dtype\": \"bfloat16\"}";

static uint64_t random_state = 20260101;

static uint64_t random_below(uint64_t bound)
{
    return random_next(&random_state) % bound;
}

// Changes `bytes` somehow; returns what was done. *size may shrink.
static const char *damage(unsigned char *bytes, size_t *size)
{
    size_t pages = *size / PAGE, a = random_below(pages) * PAGE, b = random_below(pages) * PAGE;
    unsigned char page[PAGE];
    switch (random_below(7)) {
    case 0: // a bit anywhere
        bytes[random_below(*size)] ^= (unsigned char)(1u << random_below(8));
        return "bit flipped";
    case 1: // a bit in header or directory
        bytes[random_below(2 * PAGE)] ^= (unsigned char)(1u << random_below(8));
        return "bit flipped near the start";
    case 2:
        *size = random_below(*size);
        return "cut";
    case 3:
        memset(bytes + a, 0, PAGE);
        return "page zeroed";
    case 4:
        memcpy(page, bytes + a, PAGE);
        memcpy(bytes + a, bytes + b, PAGE);
        memcpy(bytes + b, page, PAGE);
        return "pages swapped";
    case 5:
        memcpy(bytes + a, bytes + b, PAGE);
        return "page overwritten by another";
    default:
        for (size_t i = 0, at = random_below(PAGE); i < 64; i++)
            bytes[at + i] = (unsigned char)random_below(256);
        return "junk in the header";
    }
}

static enum sluice_status logits_of(const char *path, float *logits)
{
    struct sluice_engine *engine;
    struct sluice_session *session = NULL;
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = i * 7 % 96;
    enum sluice_status status = sluice_open(path, &(struct sluice_options){.context_tokens = 64, .slots = 3}, &engine);
    if (status < 0)
        return status;
    TRY(sluice_session_create(engine, &session));
    TRY(sluice_prefill(session, ids, TOKENS, NULL));
    memcpy(logits, sluice_logits(session), 96 * sizeof *logits);
fail:
    sluice_session_destroy(session);
    sluice_close(engine);
    return status;
}

static void write_file(const char *path, const unsigned char *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

// If this fails, a file that was damaged on the drive or on its way makes the program crash, hang or answer wrongly.
static void test_damaged_containers_are_refused_or_harmless(void **state)
{
    (void)state;
    char path[4096], damaged[4200];
    float expected[96], logits[96];
    fixture_container(config, 3, QUANT_BF16, path);
    snprintf(damaged, sizeof damaged, "%s.damaged.sluice", path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    unsigned char *original = mem_alloc(size, 1), *bytes = mem_alloc(size, 1);
    assert_int_equal(fread(original, 1, size, file), size);
    fclose(file);
    require_ok(logits_of(path, expected));
    unsigned refused = 0;
    for (int i = 0; i < DAMAGES; i++) {
        size_t damaged_size = size;
        memcpy(bytes, original, size);
        const char *what = damage(bytes, &damaged_size);
        write_file(damaged, bytes, damaged_size);
        error_set(SLUICE_OK, "%s", "");
        if (logits_of(damaged, logits) < 0) {
            refused++;
            if (!strstr(error_message(), ".damaged.sluice"))
                fail_msg("damage %d (%s): the message does not name the file: %s", i, what, error_message());
        } else if (memcmp(logits, expected, sizeof logits) != 0) {
            fail_msg("damage %d (%s): accepted, and the output differs", i, what);
        }
    }
    print_message("%u of %d refused, the others gave the same output\n", refused, DAMAGES);
    assert_true(refused > DAMAGES / 2);
    mem_free(original);
    mem_free(bytes);
    fixture_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_damaged_containers_are_refused_or_harmless)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
