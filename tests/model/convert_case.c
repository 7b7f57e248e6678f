#include "tests/model/convert_case.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

struct convert_case convert_case;

static void keep_note(void *user, enum log_level level, const char *text)
{
    (void)user;
    (void)level;
    strncat(convert_case.notes, text, sizeof convert_case.notes - strlen(convert_case.notes) - 2);
    strcat(convert_case.notes, "\n");
}

int convert_case_set_up(void **state)
{
    (void)state;
    convert_case.notes[0] = '\0';
    log_set(keep_note, NULL);
    checkpoint_directory_create(convert_case.directory);
    return 0;
}

int convert_case_tear_down(void **state)
{
    (void)state;
    log_set(NULL, NULL);
    checkpoint_directory_remove(convert_case.directory);
    return 0;
}

char *convert_case_path(const char *name)
{
    static char paths[4][2 * CHECKPOINT_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", convert_case.directory, name);
    return path;
}

enum sluice_status convert_case_run(const char *name, enum quant_type type)
{
    struct convert_options options = {.source = convert_case.directory,
                                      .output = convert_case_path(name),
                                      .recipe = model_recipe_default(type),
                                      .program = "test",
                                      .threads = 2};
    return model_convert(&options);
}

struct container *convert_case_open(const struct checkpoint_case *c, const char *name, enum quant_type type)
{
    struct container *container = NULL;
    checkpoint_case_write(c, convert_case.directory);
    if (convert_case_run(name, type) != SLUICE_OK || container_open(convert_case_path(name), &container) != SLUICE_OK)
        fail_msg("%s", error_message());
    assert_int_equal(container_verify(container, NULL, NULL), SLUICE_OK);
    return container;
}

void convert_case_assert_nothing(const char *name)
{
    assert_int_not_equal(access(convert_case_path(name), F_OK), 0);
}
