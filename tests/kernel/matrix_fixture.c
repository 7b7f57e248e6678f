#include "tests/kernel/matrix_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/halffloat.h"
#include "quant/tile.h"

// Matrix cores round to f16: weights beyond 1023 are infinite, and each factor is off by up to 2^-11.
#ifdef MATRIX_CORES
static const float scale_huge = 0.1f;
static const double tolerance = 1e-3;
#else
static const float scale_huge = 60000.0f;
static const double tolerance = 1e-5;
#endif

static const float scale_of_kind[WEIGHT_KIND_COUNT] = {
    [WEIGHTS_RANDOM] = 0.01f,        [WEIGHTS_MAX] = 0.01f,  [WEIGHTS_ZERO] = 0.0f,
    [WEIGHTS_NEGATIVE_ZERO] = -0.0f, [WEIGHTS_TINY] = 3e-6f, [WEIGHTS_HUGE] = 0,
};

static float random_scale(uint64_t *seed, enum weight_kind kind)
{
    return (kind == WEIGHTS_HUGE ? scale_huge : scale_of_kind[kind]) * (float)random_uniform(seed, 0.5, 1);
}

static void put_f16(uint8_t *at, float value)
{
    uint16_t bits = f16_from_f32(value);
    memcpy(at, &bits, sizeof bits);
}

static void fill_float(uint64_t *seed, enum quant_type type, enum weight_kind kind, uint8_t *at)
{
    float value = random_scale(seed, kind) * (kind == WEIGHTS_MAX ? 1.0f : (float)random_uniform(seed, -1, 1));
    uint16_t bits = type == QUANT_F16 ? f16_from_f32(value) : bf16_from_f32(value);
    if (type == QUANT_F32)
        memcpy(at, &value, sizeof value);
    else
        memcpy(at, &bits, sizeof bits);
}

static void fill_block(uint64_t *seed, enum quant_type type, enum weight_kind kind, uint8_t *at)
{
    const struct quant_format *format = quant_format_get(type);
    if (format->is_float) {
        fill_float(seed, type, kind, at);
        return;
    }
    for (uint32_t i = 0; i < format->block_bytes; i++)
        at[i] = kind == WEIGHTS_MAX ? 0xFF : (uint8_t)random_uniform(seed, 0, 256);
    put_f16(at + (type == QUANT_Q6_K ? 208 : 0), random_scale(seed, kind));
    if (type == QUANT_Q4_K || type == QUANT_Q5_K)
        put_f16(at + 2, random_scale(seed, kind));
}

// Row blocks of a matrix; free it.
static uint8_t *weights_make(uint64_t *seed, enum quant_type type, enum weight_kind kind, size_t rows, size_t cols)
{
    const struct quant_format *format = quant_format_get(type);
    size_t blocks = rows * cols / format->block_cols;
    uint8_t *bytes = malloc(blocks * format->block_bytes);
    for (size_t i = 0; i < blocks; i++)
        fill_block(seed, type, kind, bytes + i * format->block_bytes);
    return bytes;
}

void buffers_release(void)
{
    assert_int_equal(mixer_test_teardown(NULL), 0);
}

struct gpu_range buffer_bytes(const void *bytes, size_t size)
{
    struct gpu_range range = buffer_output((size + 3) / 4 * 4);
    memcpy(buffer_data(range), bytes, size);
    return range;
}

void matrix_make(struct matrix *m, uint64_t *seed, enum quant_type type, enum weight_kind kind, size_t rows,
                 size_t cols)
{
    uint8_t *blocks = weights_make(seed, type, kind, rows, cols);
    m->tiles = malloc(quant_tile_bytes(type, rows, cols));
    assert_int_equal(quant_tile_pack(type, blocks, rows, cols, m->tiles), SLUICE_OK);
    free(blocks);
    m->tensor = (struct tensor){.type = type, .rows = (uint32_t)rows, .cols = (uint32_t)cols, .parts = m->parts};
    matrix_split(m, NULL, 1);
}

void matrix_split(struct matrix *m, const uint32_t *part_rows, uint32_t part_count)
{
    struct tensor *t = &m->tensor;
    uint32_t row0 = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        uint32_t rows = i + 1 < part_count ? part_rows[i] : t->rows - row0;
        uint64_t offset = row0 ? quant_tile_bytes(t->type, row0, t->cols) : 0;
        m->parts[i] =
            (struct tensor_part){.range = buffer_bytes(m->tiles + offset, quant_tile_bytes(t->type, rows, t->cols)),
                                 .row0 = row0,
                                 .rows = rows};
        row0 += rows;
    }
    t->part_count = part_count;
}

void matrix_free(struct matrix *m)
{
    free(m->tiles);
}

struct activations activations_make(uint64_t *seed, uint32_t n, uint32_t cols, float outlier, bool q8)
{
    size_t count = (size_t)n * cols;
    struct activations x = {.n = n, .cols = cols, .f32 = buffer_random(seed, count, -1, 1)};
    for (size_t i = 0; outlier != 0 && i < count; i += 32)
        buffer_data(x.f32)[i + (size_t)random_uniform(seed, 0, 32) % (count - i)] = outlier;
    if (q8) {
        x.q8 = buffer_output(count);
        x.q8_scales = buffer_output(count / 32 * 8);
    }
    return x;
}

double *activations_seen(const struct activations *x, enum quant_type type)
{
    size_t count = (size_t)x->n * x->cols;
    double *values = buffer_doubles(x->f32, count);
    if (x->q8.bytes == 0 || quant_format_get(type)->is_float)
        return values;
    const int8_t *q = (const int8_t *)buffer_data(x->q8);
    for (size_t i = 0; i < count; i++)
        values[i] = q[i] * (double)buffer_data(x->q8_scales)[i / 32 * 2];
    return values;
}

void activations_quantize(const struct activations *x)
{
    struct gpu_command *cmd = command_open();
    op_quantize_q8(mixer_ops, cmd, x);
    command_run(cmd);
}

void assert_sum(const char *what, enum quant_type type, size_t row, size_t column, float got, struct ref_sum want)
{
    if (!(fabs((double)got - want.value) <= tolerance * want.magnitude + 1e-37))
        fail_msg("%s, %s: row %zu, column %zu is %.9g, expected %.9g (magnitude %.9g)", what,
                 quant_format_get(type)->name, row, column, (double)got, want.value, want.magnitude);
}

struct gpu_range matmul_run(struct ops *ops, const struct tensor *w, const struct activations *x)
{
    struct gpu_range y = buffer_output(4ull * x->n * w->rows);
    struct gpu_command *cmd = command_open();
    op_matmul(ops, cmd, w, x, y, w->rows, false);
    command_run(cmd);
    return y;
}
