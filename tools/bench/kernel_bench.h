// Times every kernel at the shapes of the 80B model and compares it with the roof.
//
// Weights are read from a pool larger than the caches, at another place in every run, as a model's layers are.
#ifndef SLUICE_BENCH_KERNEL_BENCH_H
#define SLUICE_BENCH_KERNEL_BENCH_H

#include "runtime/ops/ops.h"
#include "tools/bench/roof.h"

// What an operation needs at least, however it is computed.
struct work {
    double bytes;   // read and written
    double dot_ops; // operations on 8-bit integers, two per multiply-add
    double fma_ops; // operations on f32
};

struct bench_row {
    char name[64];
    struct work work;
    struct stopwatch_time time;
    double share;      // of the roof: the largest of the three shares below, 0..1
    const char *bound; // which: "read", "dot" or "fma"
};

// Arrays that operations work on; their sizes are in bench_buffers.c.
enum bench_array {
    BENCH_IN,     // f32, moderate numbers
    BENCH_IN2,    //
    BENCH_SMALL,  //
    BENCH_WEIGHT, //
    BENCH_STATE,  //
    BENCH_OUT,    // f32 results
    BENCH_OUT2,   //
    BENCH_Q8,     // 8-bit activations
    BENCH_SCALES, // their steps
    BENCH_K,      // f16
    BENCH_V,      //
    BENCH_TILES,  // lists for the mixture of experts
    BENCH_ROWS,   //
    BENCH_ARRAY_COUNT
};

enum { BENCH_POOL_MAX = 4, BENCH_ROWS_MAX = 256 };

struct kernel_bench {
    struct stopwatch watch;
    struct ops *ops;
    struct roof roof;
    const char *only; // rows whose name contains this, or matches it as a pattern with * and ?; NULL: all
    // Called with each row when it is measured; NULL: nobody.
    void (*measured)(void *user, const struct bench_row *row);
    void *user;

    struct gpu_range arrays[BENCH_ARRAY_COUNT]; // made at first use
    struct gpu_range pool[BENCH_POOL_MAX];      // weights
    unsigned pool_count, pool_next;
    uint64_t pool_offset;

    struct bench_row rows[BENCH_ROWS_MAX];
    unsigned row_count;
};

// Measures all rows that are wanted. roof, watch, ops, only and measured are set by the caller. Errors: those of the
// device; SLUICE_ERR_ARGUMENT (no row is wanted). kernel_bench_finish in any case.
enum sluice_status kernel_bench_run(struct kernel_bench *bench);
void kernel_bench_finish(struct kernel_bench *bench);

// --- for the files with the rows ------------------------------------------------------------------------------------

bool bench_wants(const struct kernel_bench *bench, const char *name);

// Measures `record` and adds the row, unless its name is not wanted.
enum sluice_status bench_measure(struct kernel_bench *bench, const char *name, struct work work,
                                 stopwatch_record *record, void *user);

// bench_buffers.c: the arrays that are needed by what follows, and the pool.
enum sluice_status bench_need(struct kernel_bench *bench, const enum bench_array *arrays, unsigned count);
enum sluice_status bench_need_pool(struct kernel_bench *bench);

// The next `bytes` of the pool; at most pool[0].bytes.
struct gpu_range bench_pool_take(struct kernel_bench *bench, uint64_t bytes);

// Fills a range with copies of `bytes` bytes at `data`.
enum sluice_status bench_fill(struct gpu_device *device, struct gpu_range range, const void *data, uint64_t bytes);

enum sluice_status matrix_cases_run(struct kernel_bench *bench);
enum sluice_status expert_cases_run(struct kernel_bench *bench);
enum sluice_status mixer_cases_run(struct kernel_bench *bench);

#endif
