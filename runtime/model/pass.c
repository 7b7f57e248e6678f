// The command buffer that a pass carries along, and its progress.
#include "runtime/model/engine_internal.h"

enum { MEASURED_IN = 7 }; // of a decode; no divisor of what repeats with every layer

void pass_record_begin(struct pass *pass)
{
    struct sluice_engine *e = pass->engine;
    if (e->record_depth++ == 0)
        clock_sample_begin(&e->record, pass->is_prefill ? 1 : MEASURED_IN, gpu_device_usage(e->device).wait_cpu_ns);
}

void pass_record_end(struct pass *pass)
{
    struct sluice_engine *e = pass->engine;
    if (--e->record_depth == 0)
        clock_sample_end(&e->record, gpu_device_usage(e->device).wait_cpu_ns);
}

enum sluice_status pass_command(struct pass *pass, struct gpu_command **cmd)
{
    enum sluice_status status = pass->cmd ? SLUICE_OK : gpu_command_begin(pass->engine->device, &pass->cmd);
    *cmd = pass->cmd;
    return status;
}

// The sessions in order, and whether the layer's input is normed already.
static uint64_t memo_key(const struct pass *pass, uint32_t layer)
{
    const struct pass_block *block = &pass->blocks[0];
    uint64_t key = pass->normed_layer == layer;
    for (uint32_t i = 0; i < block->run_count; i++)
        key = key * (SLUICE_SESSIONS_MAX + 1) + 1 + (uint64_t)(block->runs[i].session - pass->engine->sessions);
    return key;
}

bool pass_again(const struct pass *pass, struct gpu_command *cmd, uint32_t layer, enum memo_part part, uint32_t variant)
{
    struct gpu_memo *memo = &pass->engine->memos[(size_t)layer * MEMO_PART_COUNT + part];
    return !pass->is_prefill && gpu_again(cmd, memo, memo_key(pass, layer) << 24 | variant);
}

// What the pager handed out for the command is on its way, or lost.
static void tell_pager(struct pass *pass, bool submitted)
{
    if (!pass->engine->pager)
        return;
    if (submitted)
        pager_submitted(pass->engine->pager);
    else
        pager_cancelled(pass->engine->pager);
}

enum sluice_status pass_submit(struct pass *pass, struct gpu_command *behind, uint64_t *tick)
{
    struct gpu_command *commands[2];
    uint64_t ticks[2];
    unsigned count = 0;
    if (pass->cmd)
        commands[count++] = pass->cmd;
    if (behind)
        commands[count++] = behind;
    if (count == 0)
        return SLUICE_OK;
    bool own = pass->cmd;
    pass->cmd = NULL;
    enum sluice_status status = gpu_commands_submit(commands, count, ticks);
    if (status < 0) {
        if (pass->engine->pager)
            pager_sweep_end(pass->engine->pager); // its experts must not be in use any more
        tell_pager(pass, false);
        return status;
    }
    if (own)
        tell_pager(pass, true);
    if (tick)
        *tick = ticks[0];
    return SLUICE_OK;
}

void pass_abandon(struct pass *pass)
{
    if (pass->engine->pager) {
        pager_sweep_end(pass->engine->pager);
        pager_read_ahead_end(pass->engine->pager);
    }
    gpu_command_cancel(pass->cmd);
    pass->cmd = NULL;
    tell_pager(pass, false);
    if (pass->engine->pager && pass->is_prefill)
        pager_settle(pass->engine->pager);
}

enum sluice_status pass_progress(struct pass *pass, double layers)
{
    double done = pass->progress_begin + pass->progress_share * layers / pass->engine->config.layer_count;
    if (!pass->progress || pass->progress(pass->progress_user, done))
        return SLUICE_OK;
    return error_set(SLUICE_ERR_CANCELLED, "cancelled");
}
