#include "tools/bench/kernel_bench.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"

bool bench_wants(const struct kernel_bench *b, const char *name)
{
    if (!b->only)
        return true;
    return strpbrk(b->only, "*?[") ? fnmatch(b->only, name, 0) == 0 : strstr(name, b->only) != NULL;
}

static void share_of_roof(const struct roof *roof, struct bench_row *row)
{
    const struct {
        const char *name;
        double amount, roof;
    } limits[] = {
        {"read", row->work.bytes, roof->read_bytes_s},
        {"dot", row->work.dot_ops, roof->dot_ops_s},
        {"fma", row->work.fma_ops, roof->fma_ops_s},
    };
    row->share = 0;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        double share = limits[i].roof > 0 ? limits[i].amount / row->time.seconds / limits[i].roof : 0;
        if (i > 0 && share <= row->share)
            continue;
        row->share = share;
        row->bound = limits[i].name;
    }
}

enum sluice_status bench_measure(struct kernel_bench *b, const char *name, struct work work, stopwatch_record *record,
                                 void *user)
{
    if (!bench_wants(b, name))
        return SLUICE_OK;
    CHECK(b->row_count < BENCH_ROWS_MAX);
    struct bench_row *row = &b->rows[b->row_count];
    *row = (struct bench_row){.work = work};
    snprintf(row->name, sizeof row->name, "%s", name);
    enum sluice_status status = stopwatch_measure(&b->watch, record, user, &row->time);
    if (status < 0)
        return error_prefix(status, "%s", name);
    share_of_roof(&b->roof, row);
    b->row_count++;
    if (b->measured)
        b->measured(b->user, row);
    return SLUICE_OK;
}

enum sluice_status kernel_bench_run(struct kernel_bench *b)
{
    enum sluice_status status;
    TRY(matrix_cases_run(b));
    TRY(expert_cases_run(b));
    TRY(mixer_cases_run(b));
    if (b->row_count == 0)
        TRY(error_set(SLUICE_ERR_ARGUMENT, "--only %s: no row of the table is called so", b->only));
fail:
    return status;
}
