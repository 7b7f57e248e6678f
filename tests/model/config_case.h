// Variants of the configs in tests/data/configs for tests.
#ifndef SLUICE_TESTS_CONFIG_CASE_H
#define SLUICE_TESTS_CONFIG_CASE_H

#include "runtime/model/layout.h"

// The text of tests/data/configs/`name`.json with top-level `field` set to the JSON `value`; field NULL: as it is;
// value NULL: the field is removed. Release with free.
char *config_case_text(const char *name, const char *field, const char *value);

// Parses that text.
enum sluice_status config_case_parse(const char *name, const char *field, const char *value,
                                     struct model_config *config);

// Its tensors. Release with model_layout_destroy.
struct model_layout *config_case_layout(const char *name);

#endif
