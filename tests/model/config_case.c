#include "tests/model/config_case.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"

char *config_case_text(const char *name, const char *field, const char *value)
{
    char path[512];
    snprintf(path, sizeof path, "%s/configs/%s.json", TEST_DATA, name);
    json_t *root = json_load_file(path, 0, NULL);
    CHECK(root != NULL);
    if (field && value) {
        json_t *parsed = json_loads(value, JSON_DECODE_ANY, NULL);
        CHECK(parsed != NULL);
        json_object_set_new(root, field, parsed);
    } else if (field) {
        json_object_del(root, field);
    }
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    return text;
}

enum sluice_status config_case_parse(const char *name, const char *field, const char *value,
                                     struct model_config *config)
{
    char *text = config_case_text(name, field, value);
    enum sluice_status status = model_config_parse(text, strlen(text), config);
    free(text);
    return status;
}

struct model_layout *config_case_layout(const char *name)
{
    struct model_config *config = mem_alloc(1, sizeof *config);
    struct model_layout *layout;
    CHECK(config != NULL);
    CHECK(config_case_parse(name, NULL, NULL, config) == SLUICE_OK);
    CHECK(model_layout_create(config, &layout) == SLUICE_OK);
    mem_free(config);
    return layout;
}
