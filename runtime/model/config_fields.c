#include "runtime/model/config_fields.h"

#include <math.h>
#include <string.h>

static enum sluice_status refuse_missing(const char *field)
{
    return error_set(SLUICE_ERR_FORMAT, "config.json: field \"%s\" is missing", field);
}

enum sluice_status field_refuse_type(const char *field, const char *wanted)
{
    return error_set(SLUICE_ERR_FORMAT, "config.json: field \"%s\" must be %s", field, wanted);
}

const json_t *field_get(const json_t *object, const char *field)
{
    const json_t *value = json_object_get(object, field);
    return json_is_null(value) ? NULL : value;
}

enum sluice_status field_to_u32(const json_t *value, const char *field, uint32_t min, uint32_t max, uint32_t *out)
{
    if (!json_is_integer(value))
        return field_refuse_type(field, "an integer");
    json_int_t number = json_integer_value(value);
    if (number < (json_int_t)min || number > (json_int_t)max)
        return error_set(SLUICE_ERR_FORMAT, "config.json: \"%s\" is %lld; supported are %u to %u", field,
                         (long long)number, min, max);
    *out = (uint32_t)number;
    return SLUICE_OK;
}

enum sluice_status field_read_u32(const json_t *object, const char *field, uint32_t min, uint32_t max, uint32_t *out)
{
    const json_t *value = field_get(object, field);
    return value ? field_to_u32(value, field, min, max, out) : refuse_missing(field);
}

enum sluice_status field_read_u32_default(const json_t *object, const char *field, uint32_t min, uint32_t max,
                                          uint32_t fallback, uint32_t *out)
{
    const json_t *value = field_get(object, field);
    *out = fallback;
    return value ? field_to_u32(value, field, min, max, out) : SLUICE_OK;
}

enum sluice_status field_read_size(const json_t *object, const char *field, uint32_t max, uint32_t *out)
{
    enum sluice_status status = field_read_u32(object, field, 1, max, out);
    if (status == SLUICE_OK && *out % 8 != 0)
        return error_set(SLUICE_ERR_UNSUPPORTED, "config.json: \"%s\" is %u; only multiples of 8 are supported", field,
                         *out);
    return status;
}

enum sluice_status field_read_bool(const json_t *object, const char *field, bool fallback, bool *out)
{
    const json_t *value = field_get(object, field);
    *out = fallback;
    if (!value)
        return SLUICE_OK;
    if (!json_is_boolean(value))
        return field_refuse_type(field, "true or false");
    *out = json_is_true(value);
    return SLUICE_OK;
}

enum sluice_status field_read_number(const json_t *object, const char *field, double min, double max, double fallback,
                                     double *out)
{
    const json_t *value = field_get(object, field);
    *out = fallback;
    if (!value)
        return isnan(fallback) ? refuse_missing(field) : SLUICE_OK;
    if (!json_is_number(value))
        return field_refuse_type(field, "a number");
    *out = json_number_value(value);
    if (!(*out >= min && *out <= max))
        return error_set(SLUICE_ERR_FORMAT, "config.json: \"%s\" is %g; supported are %g to %g", field, *out, min, max);
    return SLUICE_OK;
}

enum sluice_status field_read_string(const json_t *object, const char *field, const char *fallback, const char **out)
{
    const json_t *value = field_get(object, field);
    *out = fallback;
    if (!value)
        return SLUICE_OK;
    if (!json_is_string(value))
        return field_refuse_type(field, "a string");
    *out = json_string_value(value);
    return SLUICE_OK;
}

enum sluice_status field_read_object(const json_t *object, const char *field, const json_t **out)
{
    *out = field_get(object, field);
    return *out && !json_is_object(*out) ? field_refuse_type(field, "an object") : SLUICE_OK;
}

enum sluice_status field_require_string(const json_t *root, const char *field, const char *fallback, const char *wanted)
{
    const char *text;
    enum sluice_status status = field_read_string(root, field, fallback, &text);
    if (status != SLUICE_OK)
        return status;
    if (!text)
        return refuse_missing(field);
    if (strcmp(text, wanted) != 0)
        return error_set(SLUICE_ERR_UNSUPPORTED, "config.json: \"%s\" is \"%.60s\"; only \"%s\" is supported", field,
                         text, wanted);
    return SLUICE_OK;
}

enum sluice_status field_require_false(const json_t *root, const char *field)
{
    bool set;
    enum sluice_status status = field_read_bool(root, field, false, &set);
    if (status == SLUICE_OK && set)
        return error_set(SLUICE_ERR_UNSUPPORTED, "config.json: \"%s\" is true, which is not supported", field);
    return status;
}
