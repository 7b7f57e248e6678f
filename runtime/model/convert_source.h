// The checkpoint's side of a conversion: where every matrix of the model lies in the files, and its values.
#ifndef SLUICE_MODEL_CONVERT_SOURCE_H
#define SLUICE_MODEL_CONVERT_SOURCE_H

#include "quant/safetensors.h"
#include "runtime/model/layout.h"

// One matrix or vector of the model, as rows of `cols` values.
struct convert_matrix {
    const struct safetensors_tensor *tensor;
    const struct safetensors_tensor *scale; // of an FP8 matrix, else NULL
    uint64_t first_row;                     // in the tensor: not 0 only where experts are fused
    uint64_t rows, cols;
};

struct convert_source {
    struct safetensors *checkpoint;
    struct convert_matrix *matrices; // [layout->source_count], in the order of model_layout_source; owned
    uint32_t fp8_block_rows, fp8_block_cols;
};

// Opens the checkpoint and finds every tensor of `layout` in it, with its shape and a readable type. Logs a note on
// tensors that are left over. On failure *source is empty. The message names tensor, expected and found.
enum sluice_status convert_source_open(const char *directory, const struct model_layout *layout,
                                       struct convert_source *source);
void convert_source_close(struct convert_source *source); // an empty one is allowed

// The float type that keeps the matrix' values: its own, or bf16 for FP8.
enum quant_type convert_matrix_float_type(const struct convert_matrix *matrix);

// values[rows * cols] = rows [row, row + rows) as f32. NaN and Inf are SLUICE_ERR_FORMAT; the message names the tensor.
// Threads: any.
enum sluice_status convert_matrix_read(const struct convert_source *source, const struct convert_matrix *matrix,
                                       uint64_t row, uint64_t rows, float *values);

#endif
