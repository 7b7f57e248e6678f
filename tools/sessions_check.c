#include "tools/sessions_check.h"

#include "tools/divergence.h"
#include "tools/engine_open.h"

static const struct sluice_tap interrupt_tap = {.experts = engine_tap_interrupt};

static enum sluice_status begin(struct sluice_session *session, const int32_t *ids, size_t count)
{
    const struct sluice_prefill_options options = {.tap = &interrupt_tap};
    enum sluice_status status = sluice_session_reset(session);
    return status < 0 ? status : sluice_prefill(session, ids, count, &options);
}

// Appends the likeliest token to each of some sessions, `steps` times: answers[i] of stride `steps`.
static enum sluice_status go_on(struct sluice_engine *engine, struct sluice_session *const *sessions, uint32_t count,
                                uint32_t steps, int32_t *answers)
{
    enum sluice_status status = SLUICE_OK;
    uint32_t vocab = sluice_engine_model(engine)->vocab;
    for (uint32_t step = 0; step < steps; step++) {
        int32_t next[SLUICE_SESSIONS_MAX];
        for (uint32_t i = 0; i < count; i++)
            answers[i * steps + step] = next[i] = divergence_likeliest(sluice_logits(sessions[i]), vocab);
        if (step + 1 < steps)
            TRY(sluice_decode(engine, sessions, next, count, &interrupt_tap));
    }
fail:
    return status;
}

enum sluice_status sessions_check(struct sluice_engine *engine, const int32_t *ids, size_t count, uint32_t sessions,
                                  uint32_t steps, int32_t *alone, int32_t *together)
{
    enum sluice_status status = SLUICE_OK;
    struct sluice_session *list[SLUICE_SESSIONS_MAX] = {0};
    if (sessions > SLUICE_SESSIONS_MAX || count < sessions)
        return error_set(SLUICE_ERR_ARGUMENT, "--sessions %u: at most %u, and no more than the prompt has tokens",
                         sessions, SLUICE_SESSIONS_MAX);
    for (uint32_t i = 0; i < sessions; i++) {
        TRY(sluice_session_create(engine, &list[i]));
        TRY(begin(list[i], ids, count - i));
        TRY(go_on(engine, &list[i], 1, steps, alone + (size_t)i * steps));
    }
    for (uint32_t i = 0; i < sessions; i++)
        TRY(begin(list[i], ids, count - i));
    TRY(go_on(engine, list, sessions, steps, together));
fail:
    for (uint32_t i = 0; i < sessions; i++)
        sluice_session_destroy(list[i]);
    return status;
}
