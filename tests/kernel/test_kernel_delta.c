#include "tests/kernel/mixer_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_delta.h"
#include "tests/ref/ref_norm.h"

static const struct delta_shape small = {1, 1, 8, 8, 4};
static const struct delta_shape grouped = {2, 4, 16, 16, 4};
static const struct delta_shape uneven = {2, 6, 24, 40, 3};
static const struct delta_shape full = {1, 2, 128, 128, 4};
static const struct delta_shape blocks = {2, 2, 16, 96, 4}; // a head is three blocks of 32

static struct ref_delta_shape ref_shape(const struct delta_shape *s)
{
    return (struct ref_delta_shape){s->key_heads, s->value_heads, s->key_dim, s->value_dim, s->conv_taps};
}

static uint32_t channel_count(const struct delta_shape *s)
{
    return 2 * s->key_heads * s->key_dim + s->value_heads * s->value_dim;
}

static uint32_t value_count(const struct delta_shape *s)
{
    return s->value_heads * s->value_dim;
}

// --- convolution ----------------------------------------------------------------------------------------------------

struct conv {
    struct delta_shape shape;
    uint32_t tokens, row; // length of a row of qkvz
    struct gpu_range qkvz, weight, state, out;
};

static struct conv conv_make(struct delta_shape shape, uint32_t tokens)
{
    uint64_t seed = tokens;
    uint32_t channels = channel_count(&shape);
    struct conv c = {.shape = shape, .tokens = tokens, .row = channels + value_count(&shape)};
    c.qkvz = buffer_random(&seed, tokens * c.row, -2, 2);
    c.weight = buffer_random(&seed, channels * shape.conv_taps, -1, 1);
    c.state = buffer_random(&seed, channels * (shape.conv_taps - 1), -2, 2);
    c.out = buffer_output(4 * tokens * channels);
    return c;
}

// Tokens [first, first + count) in one call. Ranges must be aligned, so the rows are copied.
static void conv_run(const struct conv *c, uint32_t first, uint32_t count)
{
    uint32_t channels = channel_count(&c->shape);
    struct gpu_range rows = buffer_floats(buffer_data(c->qkvz) + first * c->row, count * c->row);
    struct gpu_range out = buffer_output(4 * count * channels);
    struct gpu_command *cmd = command_open();
    op_conv_seq(mixer_ops, cmd, &c->shape, rows, count, c->weight, c->state, out);
    command_run(cmd);
    memcpy(buffer_data(c->out) + first * channels, buffer_data(out), 4 * count * channels);
}

static void expect_conv(struct delta_shape shape, uint32_t tokens)
{
    struct conv c = conv_make(shape, tokens);
    struct ref_delta_shape ref = ref_shape(&shape);
    size_t channels = ref_delta_channels(&ref);
    double *rows = buffer_doubles(c.qkvz, tokens * c.row);
    double *state = buffer_doubles(c.state, channels * (shape.conv_taps - 1));
    double *want = calloc(tokens * channels, sizeof *want), *mixed = calloc(c.row, sizeof *mixed);
    for (uint32_t t = 0; t < tokens; t++) {
        ref_delta_split(&ref, rows + t * c.row, mixed, mixed + channels);
        ref_conv_step(&ref, mixed, buffer_data(c.weight), state, want + t * channels);
    }
    conv_run(&c, 0, tokens);
    assert_near("conv", buffer_data(c.out), want, tokens * channels, 1e-6, 2e-6);
    assert_near("conv state", buffer_data(c.state), state, channels * (shape.conv_taps - 1), 0, 0);
    free(rows);
    free(state);
    free(want);
    free(mixed);
}

static void conv_agrees_with_reference(void **state)
{
    // A token taken from the wrong place in time or from the wrong head would garble every DeltaNet layer.
    static const uint32_t tokens[] = {1, 2, 3, 4, 31, 32, 33, 64, 200};
    (void)state;
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        expect_conv(grouped, tokens[i]);
        expect_conv(uneven, tokens[i]);
    }
    for (uint32_t taps = 2; taps <= 8; taps++) {
        expect_conv((struct delta_shape){1, 3, 8, 8, taps}, 5);
        expect_conv((struct delta_shape){1, 3, 8, 8, taps}, 40);
    }
}

static void conv_is_the_same_in_any_cut(void **state)
{
    // Reading a document in pieces must give the same bits as reading it at once.
    (void)state;
    for (uint32_t step = 1; step <= 70; step += 23) {
        struct conv whole = conv_make(grouped, 70), parts = conv_make(grouped, 70);
        conv_run(&whole, 0, 70);
        for (uint32_t t = 0; t < 70; t += step)
            conv_run(&parts, t, 70 - t < step ? 70 - t : step);
        uint32_t channels = channel_count(&grouped);
        assert_same_floats("out", buffer_data(whole.out), buffer_data(parts.out), 70 * channels);
        assert_same_floats("state", buffer_data(whole.state), buffer_data(parts.state), 3 * channels);
        mixer_test_teardown(NULL);
    }
}

// --- delta rule -----------------------------------------------------------------------------------------------------

struct scan {
    struct delta_shape shape;
    uint32_t tokens;
    struct gpu_range conv, ba, a_log, dt_bias, state, o;
};

static struct scan scan_make(struct delta_shape shape, uint32_t tokens)
{
    uint64_t seed = 17 * tokens + shape.key_dim;
    struct scan s = {.shape = shape, .tokens = tokens};
    s.conv = buffer_random(&seed, tokens * channel_count(&shape), -1, 1);
    s.ba = buffer_random(&seed, tokens * 2 * shape.value_heads, -3, 3);
    s.a_log = buffer_random(&seed, shape.value_heads, -3, 1.8);
    s.dt_bias = buffer_random(&seed, shape.value_heads, -3, 1);
    s.state = buffer_random(&seed, shape.key_dim * value_count(&shape), -1, 1);
    s.o = buffer_output(4 * tokens * value_count(&shape));
    return s;
}

static void scan_run(struct ops *ops, const struct scan *s, uint32_t first, uint32_t count)
{
    uint32_t channels = channel_count(&s->shape), values = value_count(&s->shape), gates = 2 * s->shape.value_heads;
    struct gpu_range conv = buffer_floats(buffer_data(s->conv) + first * channels, count * channels);
    struct gpu_range ba = buffer_floats(buffer_data(s->ba) + first * gates, count * gates);
    struct gpu_range o = buffer_output(4 * count * values);
    struct gpu_command *cmd = command_open();
    op_delta_scan(ops, cmd, &s->shape, conv, ba, count, s->a_log, s->dt_bias, s->state, o);
    command_run(cmd);
    memcpy(buffer_data(s->o) + first * values, buffer_data(o), 4 * count * values);
}

static void expect_scan(const struct scan *s)
{
    struct ref_delta_shape ref = ref_shape(&s->shape);
    size_t channels = ref_delta_channels(&ref), values = value_count(&s->shape), gates = 2 * ref.value_heads;
    double *conv = buffer_doubles(s->conv, s->tokens * channels), *ba = buffer_doubles(s->ba, s->tokens * gates);
    double *state = buffer_doubles(s->state, ref.key_dim * values);
    double *want = calloc(s->tokens * values, sizeof *want);
    for (uint32_t t = 0; t < s->tokens; t++)
        ref_delta_step(&ref, conv + t * channels, ba + t * gates, buffer_data(s->a_log), buffer_data(s->dt_bias), state,
                       want + t * values);
    scan_run(mixer_ops, s, 0, s->tokens);
    assert_near("o", buffer_data(s->o), want, s->tokens * values, 1e-5, 0);
    assert_near("state", buffer_data(s->state), state, ref.key_dim * values, 1e-5, 0);
    free(conv);
    free(ba);
    free(state);
    free(want);
}

static void scan_agrees_with_reference(void **state)
{
    // The model's memory of everything it has read is this state.
    static const uint32_t tokens[] = {1, 2, 3, 4, 31, 32, 33, 64, 200};
    static const struct delta_shape *const shapes[] = {&small, &grouped, &uneven, &full};
    (void)state;
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++) {
            struct scan s = scan_make(*shapes[j], tokens[i]);
            expect_scan(&s);
            mixer_test_teardown(NULL);
        }
}

static void scan_with_extreme_gates(void **state)
{
    // Heads that forget at once, never forget, never write or always overwrite: all occur in trained models.
    static const float b[] = {-100, 100, -20, 20, 0, 50}, a[] = {90, 80, -90, -60, 30, -12};
    (void)state;
    struct scan s = scan_make(uneven, 60);
    for (uint32_t i = 0; i < 60 * 12; i++)
        buffer_data(s.ba)[i] = i % 6 < 3 ? b[i / 12 % 6] : a[i / 7 % 6];
    for (uint32_t h = 0; h < 6; h++)
        buffer_data(s.a_log)[h] = h % 2 ? 2.8f : -9.0f;
    expect_scan(&s);
}

static void scan_of_zero_keys(void **state)
{
    // Vectors of zeros (a dead channel, a padding token) are normalised to zeros, not to infinities.
    (void)state;
    struct scan s = scan_make(grouped, 5);
    memset(buffer_data(s.conv), 0, 4 * 3 * channel_count(&grouped));
    expect_scan(&s);
}

static void scan_slow_decay_does_not_drift(void **state)
{
    // With a decay near 1 an error of the decay itself would add up over a long document.
    (void)state;
    struct scan s = scan_make(small, 4000);
    for (uint32_t i = 0; i < 4000; i++) {
        buffer_data(s.ba)[2 * i] = -6;
        buffer_data(s.ba)[2 * i + 1] = -7;
    }
    buffer_data(s.a_log)[0] = 0;
    buffer_data(s.dt_bias)[0] = 0;
    expect_scan(&s);
}

static void scan_is_the_same_in_any_cut(void **state)
{
    // Reading a document in pieces must give the same bits as reading it at once.
    static const uint32_t steps[] = {1, 5, 32, 40};
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct scan whole = scan_make(uneven, 64), parts = scan_make(uneven, 64);
        scan_run(mixer_ops, &whole, 0, 64);
        for (uint32_t t = 0; t < 64; t += steps[i]) {
            scan_run(mixer_ops, &parts, t, 64 - t < steps[i] ? 64 - t : steps[i]);
        }
        uint32_t values = value_count(&uneven);
        assert_same_floats("o", buffer_data(whole.o), buffer_data(parts.o), 64 * values);
        assert_same_floats("state", buffer_data(whole.state), buffer_data(parts.state), uneven.key_dim * values);
        mixer_test_teardown(NULL);
    }
}

static void scan_variants_give_the_same_bits(void **state)
{
    // The variant that graphics cards run is tested on every device, and a session may move between devices.
    static const struct delta_shape *const shapes[] = {&small, &grouped, &uneven, &full};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct scan one = scan_make(*shapes[i], 67), other = scan_make(*shapes[i], 67);
        scan_run(mixer_ops, &one, 0, 67);
        scan_run(mixer_ops_other(), &other, 0, 67);
        uint32_t values = value_count(shapes[i]);
        assert_same_floats("o", buffer_data(one.o), buffer_data(other.o), 67 * values);
        assert_same_floats("state", buffer_data(one.state), buffer_data(other.state), shapes[i]->key_dim * values);
    }
}

// --- norm -----------------------------------------------------------------------------------------------------------

static void expect_delta_norm(struct delta_shape shape, uint32_t tokens)
{
    uint64_t seed = tokens;
    uint32_t values = value_count(&shape), channels = channel_count(&shape), row = channels + values;
    struct ref_delta_shape ref = ref_shape(&shape);
    struct gpu_range o = buffer_random(&seed, tokens * values, -1, 1);
    struct gpu_range qkvz = buffer_random(&seed, tokens * row, -10, 10);
    struct gpu_range w = buffer_random(&seed, shape.value_dim, -1, 2);
    struct activations y = {.n = tokens, .cols = values, .f32 = buffer_output(4 * tokens * values)};
    if (values % 32 == 0)
        add_rounded(&y);
    struct gpu_command *cmd = command_open();
    op_delta_norm(mixer_ops, cmd, &shape, o, qkvz, w, 1e-6f, &y);
    command_run(cmd);
    double *rows = buffer_doubles(qkvz, tokens * row), *want = buffer_doubles(o, tokens * values);
    double *mixed = calloc(row, sizeof *mixed);
    for (uint32_t t = 0; t < tokens; t++) {
        ref_delta_split(&ref, rows + t * row, mixed, mixed + channels);
        for (uint32_t h = 0; h < shape.value_heads; h++) {
            double *head = want + t * values + h * shape.value_dim;
            ref_norm_gated(head, buffer_data(w), mixed + channels + h * shape.value_dim, 1e-6, shape.value_dim, head);
        }
    }
    assert_near("delta norm", buffer_data(y.f32), want, tokens * values, 1e-7, 4e-6);
    if (values % 32 == 0)
        assert_rounded("delta norm", &y);
    free(rows);
    free(want);
    free(mixed);
}

static void delta_norm_agrees_with_reference(void **state)
{
    // The gate z must come from the same head as the output that it gates.
    (void)state;
    expect_delta_norm(small, 1);
    expect_delta_norm(grouped, 3);
    expect_delta_norm(uneven, 33);
    expect_delta_norm(full, 5);
    expect_delta_norm(blocks, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        mixer_unit_test(conv_agrees_with_reference),
        mixer_unit_test(conv_is_the_same_in_any_cut),
        mixer_unit_test(scan_agrees_with_reference),
        mixer_unit_test(scan_with_extreme_gates),
        mixer_unit_test(scan_of_zero_keys),
        mixer_unit_test(scan_slow_decay_does_not_drift),
        mixer_unit_test(scan_is_the_same_in_any_cut),
        mixer_unit_test(scan_variants_give_the_same_bits),
        mixer_unit_test(delta_norm_agrees_with_reference),
    };
    return cmocka_run_group_tests(tests, mixer_group_setup, mixer_group_teardown);
}
