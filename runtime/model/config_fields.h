// Fields of config.json, read with their type and range checked. An absent field and a null mean the same in published
// files. Messages name the field; a value that is present and wrong is SLUICE_ERR_FORMAT, here and for all functions.
#ifndef SLUICE_MODEL_CONFIG_FIELDS_H
#define SLUICE_MODEL_CONFIG_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

// The value of `field`, or NULL if it is absent or null.
const json_t *field_get(const json_t *object, const char *field);

// Says that the field must be `wanted`, such as "an integer"; returns SLUICE_ERR_FORMAT.
enum sluice_status field_refuse_type(const char *field, const char *wanted);

// *out = an integer in min..max: of a value, of a field that must be there, of one that may be absent.
enum sluice_status field_to_u32(const json_t *value, const char *field, uint32_t min, uint32_t max, uint32_t *out);
enum sluice_status field_read_u32(const json_t *object, const char *field, uint32_t min, uint32_t max, uint32_t *out);
enum sluice_status field_read_u32_default(const json_t *object, const char *field, uint32_t min, uint32_t max,
                                          uint32_t fallback, uint32_t *out);

// As field_read_u32 for a size, 1..max, that must be a multiple of 8. Error: SLUICE_ERR_UNSUPPORTED if it is none.
enum sluice_status field_read_size(const json_t *object, const char *field, uint32_t max, uint32_t *out);

enum sluice_status field_read_bool(const json_t *object, const char *field, bool fallback, bool *out);

// A finite number in min..max; absent: `fallback`, or an error if that is NaN.
enum sluice_status field_read_number(const json_t *object, const char *field, double min, double max, double fallback,
                                     double *out);

// *out points into `object`; absent: `fallback`.
enum sluice_status field_read_string(const json_t *object, const char *field, const char *fallback, const char **out);

// *out points into `object`; absent: NULL.
enum sluice_status field_read_object(const json_t *object, const char *field, const json_t **out);

// Fields that must have one value: `wanted` (absent counts as `fallback`, or is an error if that is NULL), and false.
// Error: SLUICE_ERR_UNSUPPORTED if it is another one.
enum sluice_status field_require_string(const json_t *object, const char *field, const char *fallback,
                                        const char *wanted);
enum sluice_status field_require_false(const json_t *object, const char *field);

#endif
