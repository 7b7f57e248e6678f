// The choices made for a device, as a text file:
//
//   sluice tuning 1
//   device llvmpipe (LLVM 15.0.6, 256 bits), llvmpipe Mesa 22.3.6 (LLVM 15.0.6)
//   key 0f37...                        hash of device, driver and shaders: another key is another machine's file
//   failed 0                           mask of enum tuning_path that failed the known-answer test
//   matmul.read_ahead 1                one line per knob
//   end 8c11...                        hash of all lines before
//
// Nothing is taken from a file that is not exactly so: it costs a calibration, not a wrong choice.
#ifndef SLUICE_OPS_TUNING_FILE_H
#define SLUICE_OPS_TUNING_FILE_H

#include "runtime/base/status.h"
#include "runtime/ops/tuning.h"

enum { TUNING_FILE_NAME_BYTES = 64, TUNING_FILE_BYTES_MAX = 8192 };

// The file's name in the cache folder, which is the key.
void tuning_file_name(const struct gpu_caps *caps, char name[TUNING_FILE_NAME_BYTES]);

// Reads the knobs' values into *tuning and the mask of failed paths. Errors: SLUICE_ERR_IO (there is none),
// SLUICE_ERR_FORMAT (damaged, of another version, or of another device); *tuning is then as before.
enum sluice_status tuning_file_load(const char *folder, const struct gpu_caps *caps, struct tuning *tuning,
                                    uint32_t *failed);

// Errors: SLUICE_ERR_IO; what was there before stays.
enum sluice_status tuning_file_save(const char *folder, const struct gpu_caps *caps, const struct tuning *tuning,
                                    uint32_t failed);

#endif
