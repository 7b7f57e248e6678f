// The memory plan: what is allocated is what was planned, and what is refused comes with something that works.
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "offload/budget.h"
#include "runtime/model/speed_trial.h"
#include "tests/engine/engine_fixture.h"

static char container[4096];

static int setup(void **state)
{
    (void)state;
    fixture_container(fixture_config, 11, QUANT_Q4_K, container);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove();
    return 0;
}

static uint64_t item(const struct sluice_plan_place *place, const char *name)
{
    for (uint32_t i = 0; i < place->item_count; i++)
        if (strcmp(place->items[i].name, name) == 0)
            return place->items[i].bytes;
    fail_msg("no item %s", name);
    return 0;
}

static void require_sum(const struct sluice_plan_place *place)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < place->item_count; i++)
        sum += place->items[i].bytes;
    assert_int_equal(sum, place->used_bytes);
    assert_true(place->used_bytes <= place->limit_bytes);
}

// The number of the buffer, from 1, that holds the first of the pool's slots; 0: this driver has no pools.
static uint32_t first_pool_buffer(void)
{
    struct sluice_options options = {.cache_folder = fixture_cache()};
    struct sluice_engine *engine;
    require_ok(sluice_open(container, &options, &engine)); // calibrated from now on
    struct sluice_stats stats;
    sluice_stats(engine, &stats);
    sluice_close(engine);
    if (!stats.unified)
        return 0;
    options.expert_pool = SLUICE_EXPERT_POOL_UNIFIED;
    for (uint32_t i = 1;; i++) {
        enum sluice_status status =
            engine_open_hooked(container, &options, &(struct engine_hooks){.fail_buffer_at = i}, &engine);
        assert_true(status < 0);
        if (status == SLUICE_ERR_UNSUPPORTED)
            return i;
        assert_int_equal(status, SLUICE_ERR_DEVICE_MEMORY);
    }
}

// If this fails, `sluice plan` promises less device memory than a run takes, and a card that just fits does not.
static void test_nothing_unplanned(void **state)
{
    (void)state;
    const struct {
        struct sluice_options options;
        struct engine_hooks hooks;
    } cases[] = {
        {.options = {0}},
        {.options = {.context_tokens = 4096, .sessions = 3, .slots = 12, .kv = SLUICE_KV_F32}},
        {.options = {.context_tokens = 100, .ram_bytes = 4 << 20, .vram_bytes = 10 << 20}},
        {.options = {.context_tokens = 700, .slots = 9, .activations = SLUICE_ACTIVATIONS_F32},
         .hooks = {.max_buffer_bytes = 400 << 10}},
        {.options = {.ram_bytes = 3 << 20}, .hooks = {.no_import = true}},
        {.options = {.expert_pool = SLUICE_EXPERT_POOL_SEPARATE}},
        {.options = {.context_tokens = 100,
                     .ram_bytes = 4 << 20,
                     .vram_bytes = 10 << 20,
                     .expert_pool = SLUICE_EXPERT_POOL_SEPARATE}},
        {.options = {.context_tokens = 700, .slots = 9, .expert_pool = SLUICE_EXPERT_POOL_SEPARATE},
         .hooks = {.max_buffer_bytes = 400 << 10}},
        // The driver refuses one pool when it comes to it.
        {.options = {.ram_bytes = 3 << 20, .slots = 7, .expert_pool = SLUICE_EXPERT_POOL_SEPARATE},
         .hooks = {.fail_buffer_at = first_pool_buffer()}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sluice_plan plan;
        struct sluice_engine *engine;
        struct sluice_session *session;
        struct sluice_stats stats;
        int32_t ids[40] = {1, 2, 3};
        struct sluice_options open = cases[i].options;
        open.cache_folder = fixture_cache();
        require_ok(engine_plan_hooked(container, &open, &cases[i].hooks, &plan));
        if (cases[i].hooks.fail_buffer_at)
            open.expert_pool = SLUICE_EXPERT_POOL_AUTO;
        require_ok(engine_open_hooked(container, &open, &cases[i].hooks, &engine));
        require_ok(sluice_session_create(engine, &session));
        require_ok(sluice_prefill(session, ids, 40, NULL));
        require_ok(sluice_decode(engine, &session, ids, 1, NULL));
        sluice_stats(engine, &stats);
        require_sum(&plan.device);
        require_sum(&plan.host);
        assert_int_equal(stats.device_bytes_max, plan.device.used_bytes);
        assert_int_equal(stats.slots_device, plan.slots_device);
        assert_int_equal(stats.slots_host, plan.slots_host);
        assert_int_equal(stats.host_bytes, plan.unified ? 0 : item(&plan.host, "host slots"));
        assert_int_equal(stats.unified, plan.unified);
        assert_int_equal(item(&plan.device, plan.unified ? "expert pool" : "device slots"),
                         (uint64_t)stats.slots_device * stats.expert_bytes);
        assert_int_equal(gpu_device_usage(engine->device).host_bytes,
                         item(&plan.host, "transfers") +
                             (cases[i].hooks.no_import ? item(&plan.host, "upload of host slots") : 0));
        sluice_session_destroy(session);
        sluice_close(engine);
    }
}

static const uint64_t MEBIBYTE = 1 << 20;

// The plan with more memory than any of these tests needs, and separate places.
static struct sluice_plan plan_roomy(const struct sluice_options *given)
{
    struct sluice_plan plan;
    struct sluice_options separate = *given, *options = &separate;
    separate.expert_pool = SLUICE_EXPERT_POOL_SEPARATE;
    const struct engine_hooks hooks = {.device_free_bytes = 1 << 30, .host_free_bytes = 1 << 30};
    require_ok(engine_plan_hooked(container, options, &hooks, &plan));
    assert_int_equal(plan.slots_device, plan.experts_total);
    assert_true(plan.shared && !plan.host_cache);
    return plan;
}

// What the process will grow by in main memory beside expert slots: plan.c allows the program 32 MiB.
static uint64_t growth_bytes(const struct sluice_plan *plan)
{
    return item(&plan->host, "transfers") + item(&plan->host, "lists and logits") + 32 * MEBIBYTE;
}

// If this fails, a card with memory of its own leaves main memory idle and reads from the drive what could be there, or
// takes so much of it that the system swaps.
static void test_default_budgets(void **state)
{
    (void)state;
    const struct sluice_options options = {.context_tokens = 200};
    struct sluice_plan roomy = plan_roomy(&options), plan, small;
    uint64_t slots = item(&roomy.device, "device slots"), device = (roomy.device.used_bytes - slots / 2) * 16 / 15;
    uint64_t least = growth_bytes(&roomy) + 2ull * roomy.expert_bytes;
    struct engine_hooks hooks = {
        .own_memory = true, .device_free_bytes = device, .host_free_bytes = (least + slots / 8 * 7) * 8 / 7};
    require_ok(engine_plan_hooked(container, &options, &hooks, &plan));
    assert_int_equal(plan.device.limit_bytes, device - device / 16);
    assert_true(plan.slots_device < plan.experts_total);
    assert_true(plan.host_cache && !plan.shared && plan.slots_host > roomy.slots_host);
    hooks.host_free_bytes = (least + slots / 8) * 8 / 7;
    require_ok(engine_plan_hooked(container, &options, &hooks, &small));
    assert_true(small.slots_host < plan.slots_host);
    assert_int_equal(small.slots_device, plan.slots_device);
    hooks.host_free_bytes = MEBIBYTE;
    assert_int_equal(engine_plan_hooked(container, &options, &hooks, &plan), SLUICE_ERR_BUDGET);
    assert_non_null(strstr(error_message(), "main memory"));
}

static const struct engine_hooks roomy_hooks = {.device_free_bytes = 1 << 30, .host_free_bytes = 1 << 30};

// False: this driver has no pools.
static bool plan_unified(const struct sluice_options *options, const struct engine_hooks *hooks,
                         struct sluice_plan *plan)
{
    require_ok(engine_plan_hooked(container, options, hooks, plan));
    if (plan->unified) {
        assert_true(plan->shared && plan->slots_host == 0 && !plan->host_cache);
        require_sum(&plan->device);
        require_sum(&plan->host);
    }
    return plan->unified;
}

// If this fails, memory that is given for experts with --ram is lost on devices that share main memory, or is taken
// twice.
static void test_one_pool(void **state)
{
    (void)state;
    struct sluice_options options = {.context_tokens = 200, .slots = 11};
    struct sluice_plan plain, more;
    if (!plan_unified(&options, &roomy_hooks, &plain))
        skip();
    assert_int_equal(plain.slots_device, 11);
    options.ram_bytes = 5 * plain.expert_bytes + 4096;
    assert_true(plan_unified(&options, &roomy_hooks, &more));
    assert_int_equal(more.slots_device, 16);
    assert_int_equal(more.device.used_bytes, plain.device.used_bytes + 5 * plain.expert_bytes);
    assert_int_equal(growth_bytes(&more), growth_bytes(&plain)); // nothing beside the pool
    options.slots = 0;
    options.vram_bytes = plain.device.used_bytes;
    assert_true(plan_unified(&options, &roomy_hooks, &more));
    assert_int_equal(more.slots_device, 16);
    assert_int_equal(more.device.limit_bytes, options.vram_bytes + options.ram_bytes);
    options.ram_bytes = 1 << 30; // no more slots than experts
    options.vram_bytes = 0;
    assert_true(plan_unified(&options, &(struct engine_hooks){.device_free_bytes = 1 << 30}, &more));
    assert_int_equal(more.slots_device, more.experts_total);
    // Without --vram, --ram asks for nothing that is not there.
    struct engine_hooks tight = {.device_free_bytes = 1 << 30};
    tight.host_free_bytes = (plain.device.used_bytes + 3 * plain.expert_bytes + growth_bytes(&plain)) * 8 / 7 + 8;
    options.ram_bytes = 2 * plain.expert_bytes;
    assert_true(plan_unified(&options, &tight, &more));
    assert_true(more.slots_device >= 13 && more.slots_device <= 14);
    assert_true(more.device.used_bytes + growth_bytes(&more) <= tight.host_free_bytes);
}

// If this fails, a user who asks for one pool where there can be none gets something else without being told.
static void test_impossible_pools(void **state)
{
    (void)state;
    const struct sluice_options options = {
        .context_tokens = 200, .expert_pool = SLUICE_EXPERT_POOL_UNIFIED, .cache_folder = fixture_cache()};
    struct sluice_plan plan;
    assert_int_equal(engine_plan_hooked(container, &options, &(struct engine_hooks){.own_memory = true}, &plan),
                     SLUICE_ERR_ARGUMENT);
    assert_non_null(strstr(error_message(), "has memory of its own"));
    assert_int_equal(engine_plan_hooked(container, &options, &(struct engine_hooks){.no_import = true}, &plan),
                     SLUICE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error_message(), "--expert-pool unified"));
    uint32_t buffer = first_pool_buffer();
    struct sluice_engine *engine;
    if (buffer == 0)
        return;
    assert_int_equal(engine_open_hooked(container, &options, &(struct engine_hooks){.fail_buffer_at = buffer}, &engine),
                     SLUICE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error_message(), "expert pool"));
    assert_null(engine);
}

// If this fails, Sluice on an integrated or software device plans the same memory twice and is killed.
static void check_shared_memory(enum sluice_expert_pool pool)
{
    struct sluice_options options = {.context_tokens = 200, .expert_pool = pool};
    struct sluice_plan roomy = plan_roomy(&options), tight, given;
    uint64_t growth = growth_bytes(&roomy);
    if (pool == SLUICE_EXPERT_POOL_SEPARATE)
        growth += item(&roomy.host, "host slots");
    uint64_t slots = item(&roomy.device, "device slots");
    struct engine_hooks hooks = {.device_free_bytes = 1 << 30};
    // A little less than everything needs: slots give way.
    hooks.host_free_bytes = (growth + roomy.device.used_bytes - slots / 3) * 8 / 7;
    require_ok(engine_plan_hooked(container, &options, &hooks, &tight));
    assert_true(tight.slots_device < roomy.slots_device);
    assert_true(tight.device.used_bytes + growth <= hooks.host_free_bytes);
    // Asking for all of it all the same is refused, with something that works.
    options.vram_bytes = 1 << 30;
    hooks.host_free_bytes = growth + roomy.device.used_bytes - slots / 2;
    assert_int_equal(engine_plan_hooked(container, &options, &hooks, &given), SLUICE_ERR_BUDGET);
    assert_non_null(strstr(error_message(), "main memory, which this device shares"));
    const char *try = strstr(error_message(), "try --vram ");
    assert_non_null(try);
    assert_int_equal(sscanf(try, "try --vram %" SCNu64 "M", &options.vram_bytes), 1);
    options.vram_bytes *= MEBIBYTE;
    require_ok(engine_plan_hooked(container, &options, &hooks, &given));
    // So is asking with --ram for more than --vram leaves.
    options.ram_bytes = (hooks.host_free_bytes + 40 * MEBIBYTE) / MEBIBYTE * MEBIBYTE;
    options.vram_bytes = roomy.device.used_bytes - slots + 6ull * roomy.expert_bytes;
    hooks.host_free_bytes -= slots / 3;
    assert_int_equal(engine_plan_hooked(container, &options, &hooks, &given), SLUICE_ERR_BUDGET);
    try = strstr(error_message(), "try --ram ");
    assert_non_null(try);
    assert_int_equal(sscanf(try, "try --ram %" SCNu64 "M", &options.ram_bytes), 1);
    options.ram_bytes *= MEBIBYTE;
    require_ok(engine_plan_hooked(container, &options, &hooks, &given));
}

static void test_shared_memory(void **state)
{
    (void)state;
    check_shared_memory(SLUICE_EXPERT_POOL_AUTO);
    check_shared_memory(SLUICE_EXPERT_POOL_SEPARATE);
}

static bool take_size(const char *option, uint64_t *bytes)
{
    char text[32];
    const char *at = strstr(error_message(), "; try ");
    at = at ? strstr(at, option) : NULL;
    if (!at || sscanf(at + strlen(option), "%31[0-9.GM]", text) != 1)
        return false;
    require_ok(size_parse(text, bytes));
    return true;
}

// If this fails, a refusal sends the user to options that are refused, too.
static void test_what_is_advised_works(void **state)
{
    (void)state;
    const struct engine_hooks hooks = {0};
    struct sluice_options options = {.context_tokens = 3500, .sessions = 4}, small = options;
    struct sluice_plan plan = plan_roomy(&options);
    uint64_t vram, context, sessions;
    small.sessions = 3;
    small.context_tokens = 2048;
    options.vram_bytes = plan_roomy(&small).device.used_bytes; // less than the slots of the larger one leave
    options.vram_bytes -= item(&plan.device, "device slots") - 5ull * plan.expert_bytes;
    assert_int_equal(engine_plan_hooked(container, &options, &hooks, &plan), SLUICE_ERR_BUDGET);
    assert_true(take_size("--vram ", &vram));
    bool has_context = take_size("--ctx ", &context), has_sessions = take_size("--sessions ", &sessions);
    assert_true(has_context || has_sessions);
    struct sluice_options other = options;
    other.vram_bytes = vram;
    require_ok(engine_plan_hooked(container, &other, &hooks, &plan));
    other = options;
    if (has_context) {
        other.context_tokens = (uint32_t)context;
        require_ok(engine_plan_hooked(container, &other, &hooks, &plan));
    }
    other = options;
    if (has_sessions) {
        other.sessions = (uint32_t)sessions;
        require_ok(engine_plan_hooked(container, &other, &hooks, &plan));
    }
    options = (struct sluice_options){.ram_bytes = 4096, .expert_pool = SLUICE_EXPERT_POOL_SEPARATE};
    assert_int_equal(engine_plan_hooked(container, &options, &hooks, &plan), SLUICE_ERR_BUDGET);
    assert_true(take_size("--ram ", &options.ram_bytes));
    require_ok(engine_plan_hooked(container, &options, &hooks, &plan));
}

static void refused(const struct sluice_options *options, const struct engine_hooks *hooks, const char *why)
{
    struct sluice_plan plan;
    assert_int_equal(engine_plan_hooked(container, options, hooks, &plan), SLUICE_ERR_BUDGET);
    if (!strstr(error_message(), why))
        fail_msg("no \"%s\" in: %s", why, error_message());
}

// If this fails, a message blames an option that was not given, or sends a user whose --ram leaves nothing for the
// device to --vram, where the next refusal waits.
static void check_blame(enum sluice_expert_pool pool)
{
    struct sluice_options options = {.context_tokens = 200, .expert_pool = pool};
    struct sluice_plan roomy = plan_roomy(&options), plan;
    uint64_t slots = item(&roomy.device, "device slots"), others = roomy.device.used_bytes - slots;
    uint64_t host = growth_bytes(&roomy) + (pool == SLUICE_EXPERT_POOL_SEPARATE ? item(&roomy.host, "host slots") : 0);
    refused(&options, &(struct engine_hooks){.device_free_bytes = others / 2, .host_free_bytes = 1 << 30},
            "allowed by what the device has free");
    refused(&options,
            &(struct engine_hooks){.device_free_bytes = 1 << 30, .host_free_bytes = (host + others / 2) * 8 / 7},
            "allowed by what is free of main memory");
    struct engine_hooks hooks = {.device_free_bytes = 1 << 30};
    hooks.host_free_bytes = (growth_bytes(&roomy) + others + 5ull * roomy.expert_bytes + slots / 2) * 8 / 7;
    options.ram_bytes = 1 << 30;
    refused(&options, &hooks, "allowed by what --ram leaves");
    assert_null(strstr(error_message(), "--vram"));
    assert_true(take_size("--ram ", &options.ram_bytes));
    require_ok(engine_plan_hooked(container, &options, &hooks, &plan));
    options.ram_bytes = 1 << 30;
    hooks.host_free_bytes = (growth_bytes(&roomy) + others / 2) * 8 / 7; // too little without it, too
    refused(&options, &hooks, " without --ram");
    options.ram_bytes = roomy.expert_bytes / 2; // for nothing
    refused(&options, &roomy_hooks, "an expert takes");
    assert_true(take_size("--ram ", &options.ram_bytes));
    require_ok(engine_plan_hooked(container, &options, &roomy_hooks, &plan));
}

static void test_blame(void **state)
{
    (void)state;
    check_blame(SLUICE_EXPERT_POOL_AUTO);
    check_blame(SLUICE_EXPERT_POOL_SEPARATE);
}

// If this fails, the speed is predicted from another number of rows per expert than the prompt has, or from experts
// that do not stay on the device.
static void test_trial_sizes(void **state)
{
    (void)state;
    struct speed_trial_sizes s = speed_trial_sizes(512, 10, 512, 1024, 64);
    assert_true(s.tokens == 64 && s.experts == 32); // 20 rows each, as 1024 tokens on 512 experts
    s = speed_trial_sizes(512, 10, 512, 4096, 64);  // 8 experts would be fewer than a token takes
    assert_true(s.tokens == 80 && s.experts == 10);
    s = speed_trial_sizes(512, 10, 100, 1024, 512); // no more than stay on the device
    assert_true(s.tokens == 200 && s.experts == 100);
    s = speed_trial_sizes(512, 10, 512, 20, 64); // short prompts as they are
    assert_true(s.tokens == 20 && s.experts == 512);
    s = speed_trial_sizes(0, 0, 0, 100, 64); // a model without experts
    assert_true(s.tokens == 64 && s.experts == 0);
}

// If this fails, `sluice plan` fails or predicts nothing where a run would work: with the fewest slots, short contexts,
// prompts of one token.
static void test_speed(void **state)
{
    (void)state;
    const struct sluice_options cases[] = {
        {.context_tokens = 300},
        {.context_tokens = 1},
        {.context_tokens = 64, .slots = 5},
        {.context_tokens = 64, .slots = 5, .expert_pool = SLUICE_EXPERT_POOL_SEPARATE}};
    const uint32_t prompts[] = {200, 1, 64, 40};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sluice_plan plan;
        struct sluice_speed speed;
        require_ok(sluice_plan(container, &cases[i], &plan));
        require_ok(sluice_speed_measure(container, &cases[i], &plan, prompts[i], &speed));
        assert_true(speed.prefill_seconds > 0 && speed.decode_seconds > 0 && speed.decode_deep_seconds > 0);
        assert_int_equal(speed.copy_seconds > 0, !plan.unified);
        assert_true(speed.experts_seconds >= 0 && speed.experts_seconds < speed.decode_seconds);
        assert_int_equal(speed.layers_tried, plan.layers_distinct);
        assert_int_equal(plan.layers_distinct, 3); // DeltaNet, dense, attention
        assert_int_equal(sluice_speed_measure(container, &cases[i], &plan, cases[i].context_tokens + 1, &speed),
                         SLUICE_ERR_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_unplanned),
        cmocka_unit_test(test_default_budgets),
        cmocka_unit_test(test_one_pool),
        cmocka_unit_test(test_impossible_pools),
        cmocka_unit_test(test_shared_memory),
        cmocka_unit_test(test_what_is_advised_works),
        cmocka_unit_test(test_blame),
        cmocka_unit_test(test_trial_sizes),
        cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
