#include "tests/ref/ref_delta.h"

#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_math.h"

size_t ref_delta_channels(const struct ref_delta_shape *shape)
{
    return 2 * shape->key_heads * shape->key_dim + shape->value_heads * shape->value_dim;
}

void ref_delta_split(const struct ref_delta_shape *shape, const double *qkvz, double *channels, double *z)
{
    size_t key_dim = shape->key_dim, keys = shape->key_heads * key_dim;
    size_t values = shape->value_heads / shape->key_heads * shape->value_dim; // of one key head
    for (size_t h = 0; h < shape->key_heads; h++) {
        const double *group = qkvz + h * 2 * (key_dim + values);
        memcpy(channels + h * key_dim, group, key_dim * sizeof *group);
        memcpy(channels + keys + h * key_dim, group + key_dim, key_dim * sizeof *group);
        memcpy(channels + 2 * keys + h * values, group + 2 * key_dim, values * sizeof *group);
        memcpy(z + h * values, group + 2 * key_dim + values, values * sizeof *group);
    }
}

void ref_conv_step(const struct ref_delta_shape *shape, const double *channels, const float *weight, double *state,
                   double *out)
{
    size_t count = ref_delta_channels(shape), past = shape->conv_taps - 1;
    for (size_t c = 0; c < count; c++) {
        double sum = (double)weight[c * shape->conv_taps + past] * channels[c];
        for (size_t j = 0; j < past; j++)
            sum += (double)weight[c * shape->conv_taps + j] * state[j * count + c];
        out[c] = ref_silu(sum);
    }
    memmove(state, state + count, (past - 1) * count * sizeof *state);
    memcpy(state + (past - 1) * count, channels, count * sizeof *state);
}

// y = x / sqrt(sum x^2 + 1e-6) * factor
static void normalise(const double *x, size_t count, double factor, double *y)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += x[i] * x[i];
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] / sqrt(squares + 1e-6) * factor;
}

// One head: q and k are normalised, S [key_dim][value_dim].
static void head_step(const struct ref_delta_shape *shape, const double *q, const double *k, const double *v,
                      double beta, double g, double *S, double *o)
{
    size_t rows = shape->key_dim, cols = shape->value_dim;
    for (size_t i = 0; i < rows * cols; i++)
        S[i] *= exp(g);
    for (size_t j = 0; j < cols; j++) {
        double remembered = 0;
        for (size_t i = 0; i < rows; i++)
            remembered += S[i * cols + j] * k[i];
        double d = beta * (v[j] - remembered);
        o[j] = 0;
        for (size_t i = 0; i < rows; i++) {
            S[i * cols + j] += k[i] * d;
            o[j] += S[i * cols + j] * q[i];
        }
    }
}

void ref_delta_step(const struct ref_delta_shape *shape, const double *conv, const double *ba, const float *a_log,
                    const float *dt_bias, double *state, double *o)
{
    size_t per_key = shape->value_heads / shape->key_heads, keys = shape->key_heads * shape->key_dim;
    double *q = calloc(shape->key_dim, sizeof *q), *k = calloc(shape->key_dim, sizeof *k);
    for (size_t j = 0; j < shape->value_heads; j++) {
        size_t key_head = j / per_key, member = j % per_key;
        normalise(conv + key_head * shape->key_dim, shape->key_dim, 1 / sqrt((double)shape->key_dim), q);
        normalise(conv + keys + key_head * shape->key_dim, shape->key_dim, 1, k);
        double beta = ref_sigmoid(ba[key_head * 2 * per_key + member]);
        double a = ba[key_head * 2 * per_key + per_key + member];
        double g = -exp((double)a_log[j]) * ref_softplus(a + (double)dt_bias[j]);
        head_step(shape, q, k, conv + 2 * keys + j * shape->value_dim, beta, g,
                  state + j * shape->key_dim * shape->value_dim, o + j * shape->value_dim);
    }
    free(q);
    free(k);
}
