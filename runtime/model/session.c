// Sessions: prefill and decode of sequences.
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/model/engine_internal.h"

enum sluice_status sluice_session_create(struct sluice_engine *e, struct sluice_session **session)
{
    *session = NULL;
    for (uint32_t i = 0; i < e->options.sessions; i++) {
        struct sluice_session *s = &e->sessions[i];
        if (s->in_use)
            continue;
        s->logits = mem_alloc(e->model.vocab, sizeof *s->logits);
        if (!s->logits)
            return SLUICE_ERR_MEMORY;
        s->in_use = true;
        enum sluice_status status = sluice_session_reset(s);
        if (status < 0)
            sluice_session_destroy(s);
        else
            *session = s;
        return status;
    }
    return error_set(SLUICE_ERR_ARGUMENT, "all %u sessions of this engine are in use", e->options.sessions);
}

void sluice_session_destroy(struct sluice_session *session)
{
    if (!session)
        return;
    CHECK(session->in_use);
    mem_free(session->logits);
    session->logits = NULL;
    session->in_use = session->has_logits = false;
    session->tokens = 0;
}

enum sluice_status sluice_session_reset(struct sluice_session *session)
{
    struct gpu_command *cmd;
    session->tokens = 0;
    session->has_logits = false;
    session->unclean = true;
    enum sluice_status status = gpu_command_begin(session->engine->device, &cmd);
    if (status < 0)
        return status;
    cache_clear(&session->cache, cmd);
    status = gpu_command_submit(cmd, NULL);
    session->unclean = status < 0;
    return status;
}

// Clears what a reset could not.
static enum sluice_status clean(struct sluice_session *session)
{
    return session->unclean ? sluice_session_reset(session) : SLUICE_OK;
}

uint32_t sluice_session_tokens(const struct sluice_session *session)
{
    return session->tokens;
}

const float *sluice_logits(const struct sluice_session *session)
{
    return session->has_logits ? session->logits : NULL;
}

// Empties the sessions that a pass left half-way, keeping the message of what went wrong. Where that fails, too, it is
// made up for when they are used again.
static enum sluice_status give_up(struct sluice_session *const *sessions, unsigned count, enum sluice_status status)
{
    struct error_record failure;
    error_save(&failure, status);
    for (unsigned i = 0; i < count; i++)
        (void)sluice_session_reset(sessions[i]);
    return error_restore(&failure);
}

static enum sluice_status check_tokens(const struct sluice_session *session, const int32_t *ids, size_t count)
{
    const struct sluice_engine *e = session->engine;
    uint32_t left = session->cache.capacity - session->tokens;
    if (count == 0)
        return error_set(SLUICE_ERR_ARGUMENT, "no tokens to process");
    if (count > left)
        return error_set(
            SLUICE_ERR_ARGUMENT,
            "%zu tokens do not fit: the context holds %u, of which %u are in use; raise --ctx (at most %u)", count,
            session->cache.capacity, session->tokens, e->config.positions_max);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= e->config.vocab_size)
            return error_set(SLUICE_ERR_ARGUMENT, "token %zu is %d; the vocabulary has ids 0..%u", i, ids[i],
                             e->config.vocab_size - 1);
    return SLUICE_OK;
}

static void put_tokens(struct sluice_engine *e, uint32_t block, const int32_t *ids, uint32_t count)
{
    struct gpu_range range = e->scratch.blocks[block].tokens;
    memcpy(gpu_range_map(range), ids, count * sizeof *ids);
}

// Where a decode's kernels find them, by row.
static void put_positions(struct sluice_engine *e, const struct run *runs, uint32_t count)
{
    struct gpu_range range = e->scratch.positions_in;
    for (uint32_t i = 0; range.bytes && i < count; i++)
        ((uint32_t *)gpu_range_map(range))[i] = runs[i].position;
}

static const float *read_logits(struct pass *pass, uint32_t block, uint32_t row, uint32_t count,
                                enum sluice_status *status)
{
    struct sluice_engine *e = pass->engine;
    uint64_t tick;
    *status = forward_logits(pass, block, row, count, &tick);
    if (*status == SLUICE_OK)
        *status = gpu_wait(e->device, tick);
    struct gpu_range range = e->scratch.logits;
    return gpu_range_map(range);
}

// Logits of all rows to the tap, in pieces.
static enum sluice_status tap_logits(struct pass *pass)
{
    struct sluice_engine *e = pass->engine;
    uint32_t first = pass->first_token;
    for (uint32_t block = 0; block < pass->block_count; first += pass->blocks[block].rows, block++) {
        for (uint32_t row = 0; row < pass->blocks[block].rows; row += e->scratch.logit_rows) {
            uint32_t left = pass->blocks[block].rows - row;
            uint32_t rows = left < e->scratch.logit_rows ? left : e->scratch.logit_rows;
            enum sluice_status status;
            const float *values = read_logits(pass, block, row, rows, &status);
            if (status == SLUICE_OK)
                status = pass->tap->logits(pass->tap->user, first + row, rows, values);
            if (status < 0)
                return status;
        }
    }
    return SLUICE_OK;
}

static void keep_logits(struct sluice_session *session, const float *values)
{
    memcpy(session->logits, values, session->engine->model.vocab * sizeof *values);
    session->has_logits = true;
}

// Lays out the next tokens of the prompt in the scratch's blocks, as many as they hold. Returns how many.
static size_t fill_blocks(struct pass *pass, struct sluice_session *session, const int32_t *ids, size_t count)
{
    struct sluice_engine *e = pass->engine;
    size_t done = 0;
    for (pass->block_count = 0; done < count && pass->block_count < e->scratch.block_count; pass->block_count++) {
        struct pass_block *block = &pass->blocks[pass->block_count];
        size_t room = e->scratch.blocks[pass->block_count].capacity, left = count - done;
        block->rows = (uint32_t)(left < room ? left : room);
        block->run_count = 1;
        block->runs[0] = (struct run){session, 0, block->rows, session->tokens + (uint32_t)done};
        put_tokens(e, pass->block_count, ids + done, block->rows);
        done += block->rows;
    }
    return done;
}

enum sluice_status sluice_prefill(struct sluice_session *session, const int32_t *ids, size_t count,
                                  const struct sluice_prefill_options *options)
{
    enum sluice_status status = check_tokens(session, ids, count);
    if (status == SLUICE_OK)
        status = clean(session);
    if (status < 0)
        return status;
    struct sluice_engine *e = session->engine;
    struct pass pass = {.engine = e, .blocks = e->pass_blocks, .is_prefill = true};
    if (options) {
        pass.tap = options->tap;
        pass.progress = options->progress;
        pass.progress_user = options->user;
    }
    for (size_t done = 0, now; done < count; done += now) {
        TRY(gpu_wait(e->device, gpu_tick_last(e->device))); // the upload buffers are free
        now = fill_blocks(&pass, session, ids + done, count - done);
        pass.first_token = (uint32_t)done;
        pass.is_last = done + now == count;
        pass.progress_begin = (double)done / (double)count;
        pass.progress_share = (double)now / (double)count;
        TRY(forward_layers(&pass));
        if (pass.tap && pass.tap->logits)
            TRY(tap_logits(&pass));
        TRY(pass_submit(&pass, NULL, NULL));
        session->tokens += (uint32_t)now;
    }
    uint32_t last = pass.block_count - 1;
    const float *values = read_logits(&pass, last, pass.blocks[last].rows - 1, 1, &status);
    TRY(status);
    keep_logits(session, values);
    return SLUICE_OK;
fail:
    pass_abandon(&pass);
    return give_up(&session, 1, status);
}

enum sluice_status sluice_decode(struct sluice_engine *e, struct sluice_session *const *sessions, const int32_t *ids,
                                 unsigned count, const struct sluice_tap *tap)
{
    enum sluice_status status = SLUICE_OK;
    if (count == 0 || count > SLUICE_SESSIONS_MAX)
        return error_set(SLUICE_ERR_ARGUMENT, "1 to %u sessions can decode together", SLUICE_SESSIONS_MAX);
    struct pass pass = {.engine = e, .block_count = 1, .blocks = e->pass_blocks, .is_last = true, .tap = tap};
    pass.blocks[0] = (struct pass_block){.rows = count, .run_count = count};
    for (unsigned i = 0; i < count; i++) {
        CHECK(sessions[i]->engine == e);
        for (unsigned j = 0; j < i; j++)
            CHECK(sessions[j] != sessions[i]);
        status = check_tokens(sessions[i], &ids[i], 1);
        if (status == SLUICE_OK)
            status = clean(sessions[i]);
        if (status < 0)
            return status;
        pass.blocks[0].runs[i] = (struct run){sessions[i], i, 1, sessions[i]->tokens};
    }
    TRY(gpu_wait(e->device, gpu_tick_last(e->device)));
    put_tokens(e, 0, ids, count);
    put_positions(e, pass.blocks[0].runs, count);
    TRY(forward_layers(&pass));
    const float *values = read_logits(&pass, 0, 0, count, &status);
    TRY(status);
    if (tap && tap->logits)
        TRY(tap->logits(tap->user, 0, count, values));
    for (unsigned i = 0; i < count; i++) {
        keep_logits(sessions[i], values + (size_t)i * e->model.vocab);
        sessions[i]->tokens++;
    }
    return SLUICE_OK;
fail:
    pass_abandon(&pass);
    return give_up(sessions, count, status);
}

enum sluice_status sluice_session_state(struct sluice_session *session, uint32_t layer, float *out)
{
    struct sluice_engine *e = session->engine;
    if (layer >= e->config.layer_count || e->config.layers[layer].full_attention)
        return error_set(SLUICE_ERR_ARGUMENT, "layer %u has no recurrent state", layer);
    enum sluice_status status;
    struct gpu_range state = session->cache.layers[layer].state;
    struct gpu_command *cmd = NULL;
    struct gpu_buffer *copy = NULL;
    uint64_t tick;
    TRY(gpu_buffer_create(e->device, GPU_MEMORY_READBACK, state.bytes, "state readback", &copy));
    TRY(gpu_command_begin(e->device, &cmd));
    gpu_copy(cmd, state, gpu_range_make(copy, 0, state.bytes));
    TRY(gpu_command_submit(cmd, &tick));
    TRY(gpu_wait(e->device, tick));
    memcpy(out, gpu_buffer_map(copy), state.bytes);
fail:
    gpu_buffer_destroy(copy);
    return status;
}
