#include <stdio.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/ops/calibrate.h"
#include "runtime/ops/coop.h"
#include "runtime/ops/ops_internal.h"
#include "runtime/ops/self_test.h"
#include "runtime/ops/tuning_file.h"
#include "shaders/mixer_params.h"

// SLUICE_PENDING: nothing valid is kept.
static enum sluice_status load(struct ops *ops, const struct ops_options *options, uint32_t *failed)
{
    if (!options->cache_folder || options->recalibrate)
        return SLUICE_PENDING;
    enum sluice_status status = tuning_file_load(options->cache_folder, ops->caps, &ops->tuning, failed);
    if (status == SLUICE_ERR_FORMAT)
        log_message(LOG_DEBUG, "%s; calibrating anew", error_message());
    return status == SLUICE_OK || status == SLUICE_ERR_MEMORY ? status : SLUICE_PENDING;
}

static void save(const struct ops *ops, const struct ops_options *options, uint32_t failed)
{
    if (options->cache_folder && tuning_file_save(options->cache_folder, ops->caps, &ops->tuning, failed) < 0)
        log_message(LOG_DEBUG, "%s; the calibration is not kept", error_message());
}

static enum sluice_status measure(struct ops *ops, const struct ops_hooks *hooks, uint32_t *failed, bool *complete)
{
    enum sluice_status status;
    uint32_t measured;
    uint64_t start_ns = clock_ns();
    TRY(self_test_run(ops, (1u << TUNING_PATH_COUNT) - 1, hooks, failed));
    uint64_t tested_ns = clock_ns();
    tuning_without(&ops->tuning, *failed);
    TRY(calibrate(ops, *failed, &measured, complete));
    log_message(LOG_DEBUG, "self-test %.2f s, calibration of %u choices %.2f s%s", clock_seconds(tested_ns - start_ns),
                measured, clock_seconds(clock_ns() - tested_ns), *complete ? "" : "; the rest next time");
fail:
    return status;
}

static void log_tuning(const struct ops *ops)
{
    char text[512];
    size_t length = 0;
    uint32_t count;
    struct tuning copy = ops->tuning;
    const struct tuning_knob *knobs = tuning_knobs(ops->caps, &count);
    text[0] = '\0';
    for (uint32_t i = 0; i < count && length < sizeof text; i++) {
        const uint32_t *values = tuning_knob_values(&knobs[i], &copy);
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", i ? ", " : "", knobs[i].name);
        for (uint32_t k = 0; k < knobs[i].width && length < sizeof text; k++)
            length += (size_t)snprintf(text + length, sizeof text - length, " %u", values[k]);
    }
    log_message(LOG_DEBUG, "tuning: %s", text);
}

static void warn_of_wrong(const struct ops *ops, uint32_t path)
{
    log_message(LOG_WARNING, "%s (%s) computes %s wrongly: not used", ops->caps->device_name, ops->caps->driver_name,
                tuning_path_name(path));
}

// What the caller wants goes before what was measured.
static enum sluice_status decide_matrix_cores(struct ops *ops, enum ops_matrix_cores wish)
{
    const struct gpu_caps *caps = ops->caps;
    if (wish == OPS_MATRIX_CORES_ON && !caps->matrix_cores)
        return error_set(SLUICE_ERR_DEVICE, "%s (%s) has no matrix cores that kernels can use", caps->device_name,
                         caps->driver_name);
    if (wish == OPS_MATRIX_CORES_ON && !coop_is_right(ops))
        return error_set(SLUICE_ERR_DEVICE, "%s (%s) computes wrongly on its matrix cores", caps->device_name,
                         caps->driver_name);
    if (wish != OPS_MATRIX_CORES_AUTO)
        ops->tuning.matrix_cores = wish == OPS_MATRIX_CORES_ON;
    if (wish == OPS_MATRIX_CORES_ON && ops->tuning.matrix_attention && !coop_attention_is_right(ops)) {
        tuning_without(&ops->tuning, TUNING_PATH_MATRIX_ATTENTION);
        warn_of_wrong(ops, TUNING_PATH_MATRIX_ATTENTION);
    }
    const struct gpu_matrix_shape *shape = &caps->matrix_shape;
    snprintf(ops->matrix_path, sizeof ops->matrix_path, "matrix cores %ux%ux%u%s", shape->m, shape->n, shape->k,
             ops->tuning.matrix_attention ? "" : ", not for attention");
    return SLUICE_OK;
}

static enum sluice_status tune(struct ops *ops, const struct ops_options *options)
{
    static const struct ops_hooks no_hooks;
    const struct ops_hooks *hooks = options->hooks ? options->hooks : &no_hooks;
    if (hooks->as_gpu) {
        ops->said_caps = *ops->caps;
        ops->said_caps.is_software = false;
        ops->caps = &ops->said_caps;
    }
    enum sluice_status status;
    uint32_t failed = 0;
    ops->tuning = tuning_default(ops->caps);
    TRY(load(ops, options, &failed));
    if (status == SLUICE_PENDING) {
        bool complete;
        TRY(measure(ops, hooks, &failed, &complete));
        if (complete)
            save(ops, options, failed);
    }
    tuning_without(&ops->tuning, failed);
    for (uint32_t path = 1; path < 1u << TUNING_PATH_COUNT; path <<= 1)
        if (failed & path)
            warn_of_wrong(ops, path);
    if (hooks->adjust)
        hooks->adjust(ops->caps, &ops->tuning);
    TRY(decide_matrix_cores(ops, options->matrix_cores));
    log_tuning(ops);
    return SLUICE_OK;
fail:
    return status;
}

enum sluice_status ops_create(struct gpu_device *device, const struct ops_options *options, struct ops **ops_out)
{
    struct ops *ops = mem_alloc(1, sizeof *ops);
    if (!ops)
        return SLUICE_ERR_MEMORY;
    ops->device = device;
    ops->caps = gpu_device_caps(device);
    enum sluice_status status = tune(ops, options ? options : &(struct ops_options){.cache_folder = NULL});
    if (status < 0) {
        ops_destroy(ops);
        return status;
    }
    *ops_out = ops;
    return SLUICE_OK;
}

const char *ops_matrix_path(const struct ops *ops)
{
    return ops->tuning.matrix_cores ? ops->matrix_path : "no matrix cores";
}

void ops_set_prefill(struct ops *ops, bool prefill)
{
    ops->prefill = prefill;
}

void ops_destroy(struct ops *ops)
{
    mem_free(ops);
}

bool ops_head_rounds(uint32_t head_dim, const struct activations *y)
{
    uint64_t values = (uint64_t)y->n * y->cols;
    if (y->q8.bytes == 0 || head_dim % 32 != 0 || head_dim > ROUND_HEAD_DIM_MAX)
        return false;
    CHECK(y->q8.bytes >= values && y->q8_scales.bytes >= values / 32 * 8);
    return true;
}

void ops_dispatch(struct ops *ops, struct gpu_command *cmd, const struct ops_dispatch *dispatch)
{
    const struct gpu_kernel *kernel;
    enum sluice_status status =
        gpu_kernel_get(ops->device, dispatch->shader, dispatch->constants, dispatch->constant_count, &kernel);
    if (status < 0) {
        gpu_command_fail(cmd, status);
        return;
    }
    gpu_dispatch(cmd, kernel, dispatch->ranges, dispatch->range_count, dispatch->push, dispatch->push_bytes,
                 dispatch->groups_x, dispatch->groups_y, dispatch->groups_z);
}
