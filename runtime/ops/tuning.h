// How kernels are specialised on a device: one table of choices.
//
// What a device reports gives the start (tuning_default). A known-answer test (self_test.h) takes out the optional
// paths that a driver computes wrongly; a short calibration (calibrate.h) then measures the choices of the list of
// knobs. Results do not depend on any choice here, bit for bit, except where a comment says so.
#ifndef SLUICE_OPS_TUNING_H
#define SLUICE_OPS_TUNING_H

#include <stddef.h>

#include "runtime/gpu/device.h"

enum { MATMUL_COLUMN_CHOICES = 5, MATMUL_SLICES_MAX = 8, MATMUL_COLUMNS_MAX = 8 };

// matmul.comp. Members are 32 bits each, so that a knob can name them.
struct matmul_tuning {
    uint32_t lanes, rows_per_lane; // their product is a multiple of 32
    // Rising counts of columns, 0 ends a list: [x in f32, in 8 bits][one matrix, a pair].
    uint32_t columns[2][2][MATMUL_COLUMN_CHOICES];
    uint32_t slice_columns_max; // up to so many columns at once the slices of a row go to different lanes
    uint32_t integer_dot;       // bool: the dot product instruction
    uint32_t unrolled;          // bool
    uint32_t read_ahead;        // bool: touch the next weights
    uint32_t stage_words;       // of shared memory for the kernels that multiply 8-bit x in quads; 0: none of these
    uint32_t stage_lanes;       // of those kernels, where a matrix has enough rows
    uint32_t slabs;             // bool: kernels for experts in several buffers
    uint32_t split_tiles;       // bool: tiles of few and of many rows go into dispatches of their own, one by one
};

// attend.comp.
struct attend_tuning {
    uint32_t rows_max, rows_max_long; // query rows that share a workgroup; for long documents
    uint32_t lanes;                   // of a workgroup, where a head has more than 128 dimensions; else 32
    uint32_t keys;                    // positions per lane
    uint32_t group;         // neighbouring lanes that own one run of positions; 0: all lanes own each in turn.
                            // It, lanes and keys order sums, so they are the same on all GPUs
    uint32_t splits_enough; // runs that keep the device busy: of a long context no more than twice as many
                            // are made, by this alone (it orders sums, too); 0: as many as there are
    uint32_t unroll_few, unroll_many; // pieces of K or V in flight, with few rows and with many
    uint32_t unroll_mixed_max;        // of these, where rows of several tokens share a workgroup
    uint32_t warm;                    // bool: touch the next ones
    uint32_t wide;                    // bool: K and V are read 64 bits at a time (not f32's)
};

// delta_scan.comp.
struct delta_tuning {
    uint32_t lane_columns;  // columns of the state per lane; more than 1 only of whole ones
    uint32_t whole_columns; // bool: a lane has all rows of its columns, else a part
    uint32_t row_lanes;     // lanes that share a part, 1 or 2; 1 with whole columns
    uint32_t staged;        // tokens whose k and q go through shared memory at once; 0: none do, else whole columns
};

struct tuning {
    struct matmul_tuning matmul;
    struct attend_tuning attend;
    struct delta_tuning delta;
    uint32_t matrix_cores; // bool: prefills use them. This one changes rounding: it is kept with the other choices and
                           // recorded with what was computed (ops_matrix_path)
    uint32_t matrix_attention; // bool: where matrix_cores, attention uses them too
};

// Paths that a device may lack or compute wrongly. Bits of a mask.
enum tuning_path {
    TUNING_PATH_INTEGER_DOT = 1 << 0, // SPV_KHR_integer_dot_product
    TUNING_PATH_SLICES = 1 << 1,      // a row's slices on different subgroups, joined in shared memory
    TUNING_PATH_MATRIX_CORES = 1 << 2,
    TUNING_PATH_QUADS = 1 << 3, // products in 64-bit integers
    TUNING_PATH_MATRIX_ATTENTION = 1 << 4,
};
enum { TUNING_PATH_COUNT = 5 };
// "integer dot products" and the like; `path` is one bit.
const char *tuning_path_name(uint32_t path);

// By what the device reports: kind, width of subgroups, size of workgroups.
struct tuning tuning_default(const struct gpu_caps *caps);

// The paths that a tuning uses, and the same tuning without those of `mask`.
uint32_t tuning_paths(const struct tuning *tuning);
void tuning_without(struct tuning *tuning, uint32_t mask);

// Whether the kernels can be specialised so on this device.
bool tuning_is_valid(const struct tuning *tuning, const struct gpu_caps *caps);

// --- what is measured -----------------------------------------------------------------------------------------------

// Work that calibration times.
enum tuning_trial {
    TUNING_TRIAL_VECTOR = 1 << 0, // weights times one row of activations, as in decode; larger than the caches
    TUNING_TRIAL_MATRIX = 1 << 1, // times many rows, as in prefill
};

enum { TUNING_KNOB_WIDTH_MAX = 5, TUNING_KNOB_CHOICES_MAX = 6 };

// One choice to be measured: `width` neighbouring members of struct tuning, and the values that they may have.
struct tuning_knob {
    const char *name;
    size_t offset; // of a uint32_t in struct tuning
    uint32_t width, choice_count;
    uint32_t trials; // mask: what decides
    uint32_t choices[TUNING_KNOB_CHOICES_MAX][TUNING_KNOB_WIDTH_MAX];
};

// The knobs of a kind of device. Adding one is adding a row to the table in tuning.c.
const struct tuning_knob *tuning_knobs(const struct gpu_caps *caps, uint32_t *count);

// The members that a knob turns.
uint32_t *tuning_knob_values(const struct tuning_knob *knob, struct tuning *tuning);

#endif
