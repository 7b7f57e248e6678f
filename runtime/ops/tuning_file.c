#include "runtime/ops/tuning_file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/base/check.h"
#include "runtime/base/mem.h"
#include "runtime/base/small_file.h"
#include "shaders/shader_table.h"

static const char head[] = "sluice tuning 1\n";

// Choices are good for one device with one driver and the kernels of one build.
static uint64_t key_of(const struct gpu_caps *caps)
{
    XXH3_state_t *state = XXH3_createState();
    uint64_t key = 0; // out of memory: a key like any other
    if (!state)
        return key;
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, caps->device_uuid, sizeof caps->device_uuid);
    XXH3_64bits_update(state, caps->driver_uuid, sizeof caps->driver_uuid);
    XXH3_64bits_update(state, &caps->driver_version, sizeof caps->driver_version);
    XXH3_64bits_update(state, caps->device_name, strlen(caps->device_name) + 1);
    XXH3_64bits_update(state, caps->driver_name, strlen(caps->driver_name) + 1);
    for (int i = 0; i < SHADER_COUNT; i++) {
        const struct shader_module *module = shader_module_get((enum shader_id)i);
        XXH3_64bits_update(state, module->words, 4 * module->word_count);
    }
    key = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return key;
}

void tuning_file_name(const struct gpu_caps *caps, char name[TUNING_FILE_NAME_BYTES])
{
    snprintf(name, TUNING_FILE_NAME_BYTES, "tuning-%016" PRIx64 ".txt", key_of(caps));
}

struct text {
    char bytes[TUNING_FILE_BYTES_MAX];
    size_t length;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof text->bytes - text->length;
    int length = vsnprintf(text->bytes + text->length, room, format, arguments);
    va_end(arguments);
    CHECK(length >= 0 && (size_t)length < room); // names are at most 512 bytes, knobs few
    text->length += (size_t)length;
}

static void compose(const struct gpu_caps *caps, const struct tuning *tuning, uint32_t failed, struct text *text)
{
    uint32_t count;
    struct tuning copy = *tuning;
    const struct tuning_knob *knobs = tuning_knobs(caps, &count);
    text->length = 0;
    add(text, "%sdevice %s, %s\nkey %016" PRIx64 "\nfailed %" PRIu32 "\n", head, caps->device_name, caps->driver_name,
        key_of(caps), failed);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *values = tuning_knob_values(&knobs[i], &copy);
        add(text, "%s", knobs[i].name);
        for (uint32_t k = 0; k < knobs[i].width; k++)
            add(text, " %" PRIu32, values[k]);
        add(text, "\n");
    }
    add(text, "end %016" PRIx64 "\n", XXH3_64bits(text->bytes, text->length));
}

enum sluice_status tuning_file_save(const char *folder, const struct gpu_caps *caps, const struct tuning *tuning,
                                    uint32_t failed)
{
    char name[TUNING_FILE_NAME_BYTES];
    struct text text;
    tuning_file_name(caps, name);
    compose(caps, tuning, failed, &text);
    return small_file_write(folder, name, text.bytes, text.length);
}

// Sets the members of one knob to the choice that line *at names, and moves *at behind the line.
static bool parse_knob(const struct tuning_knob *knob, const char **at, struct tuning *tuning)
{
    size_t length = strlen(knob->name);
    if (strncmp(*at, knob->name, length) != 0)
        return false;
    for (uint32_t choice = 0; choice < knob->choice_count; choice++) {
        struct text line = {.length = 0};
        for (uint32_t k = 0; k < knob->width; k++)
            add(&line, " %" PRIu32, knob->choices[choice][k]);
        add(&line, "\n");
        if (strncmp(*at + length, line.bytes, line.length) != 0)
            continue;
        memcpy(tuning_knob_values(knob, tuning), knob->choices[choice], 4 * knob->width);
        *at += length + line.length;
        return true;
    }
    return false;
}

static bool parse(const char *text, const struct gpu_caps *caps, struct tuning *tuning, uint32_t *failed)
{
    uint32_t count;
    uint64_t key;
    int length = -1;
    struct text again;
    const struct tuning_knob *knobs = tuning_knobs(caps, &count);
    const char *at = strstr(text, "\nkey ");
    if (strncmp(text, head, sizeof head - 1) != 0 || !at)
        return false;
    if (sscanf(at, "\nkey %" SCNx64 " failed %" SCNu32 "%n", &key, failed, &length) != 2 || at[length] != '\n')
        return false;
    at += length + 1;
    for (uint32_t i = 0; i < count; i++)
        if (!parse_knob(&knobs[i], &at, tuning))
            return false;
    // What was understood, written again, must give the same file: key, hash and all.
    compose(caps, tuning, *failed, &again);
    return *failed < 1u << TUNING_PATH_COUNT && strcmp(text, again.bytes) == 0;
}

enum sluice_status tuning_file_load(const char *folder, const struct gpu_caps *caps, struct tuning *tuning,
                                    uint32_t *failed)
{
    char name[TUNING_FILE_NAME_BYTES], *text;
    struct tuning loaded = *tuning;
    uint32_t mask = 0;
    tuning_file_name(caps, name);
    enum sluice_status status = small_file_read(folder, name, TUNING_FILE_BYTES_MAX, &text, NULL);
    if (status < 0)
        return status;
    bool valid = parse(text, caps, &loaded, &mask);
    mem_free(text);
    if (!valid || !tuning_is_valid(&loaded, caps))
        return error_set(SLUICE_ERR_FORMAT, "%s/%s: damaged, or of another version of the program", folder, name);
    *tuning = loaded;
    *failed = mask;
    return SLUICE_OK;
}
