// From a plan to the directory of the file: every offset, the header's sizes, the documents' checksums.
#ifndef SLUICE_OFFLOAD_CONTAINER_PLAN_H
#define SLUICE_OFFLOAD_CONTAINER_PLAN_H

#include "offload/container_directory.h"
#include "offload/container_write.h"

// Fills *directory; checksums of tensors, experts, directory and header are still zero. Release with
// container_directory_free. SLUICE_ERR_ARGUMENT if the plan is impossible.
enum sluice_status container_plan_directory(const struct container_plan *plan, const uint8_t fingerprint[16],
                                            struct container_directory *directory);

#endif
