#include "tools/drive_rate.h"

#include "offload/container.h"
#include "offload/read_memory.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/random.h"

struct loop {
    const struct drive_rate_options *options;
    struct container *container;
    struct reader *reader;
    uint8_t *memory; // [depth][record_bytes_max], read_memory_map
    uint64_t record_bytes_max;
    uint64_t next, count; // number of the next record, and of all
    uint64_t random_state;
    uint64_t submitted_bytes;
};

static const struct container_expert_layer *find_layer(const struct container *container, uint64_t expert)
{
    uint32_t i = container_expert_layer_count(container) - 1;
    while (container_expert_layer_at(container, i)->expert_first > expert)
        i--;
    return container_expert_layer_at(container, i);
}

static enum sluice_status submit(struct loop *l, uint64_t slot)
{
    uint64_t expert = l->options->random ? random_next(&l->random_state) % l->count : l->next++ % l->count;
    const struct container_expert_layer *layer = find_layer(l->container, expert);
    struct reader_request request = {
        .offset = layer->file_offset + (expert - layer->expert_first) * layer->record_bytes,
        .destination = l->memory + slot * l->record_bytes_max,
        .bytes = layer->record_bytes,
        .tag = slot,
    };
    l->submitted_bytes += layer->record_bytes;
    return reader_submit(l->reader, &request, 1);
}

// Waits for at least `min` reads; submits one in place of each that ended if `again`.
static enum sluice_status turn(struct loop *l, uint32_t min, bool again)
{
    enum sluice_status status;
    struct reader_completion done[DRIVE_RATE_DEPTH_MAX];
    uint32_t count;
    TRY(reader_wait(l->reader, min, l->options->depth, done, &count, UINT64_MAX));
    for (uint32_t i = 0; i < count; i++) {
        TRY(reader_completion_check(l->reader, &done[i]));
        if (again)
            TRY(submit(l, done[i].tag));
    }
fail:
    return status;
}

static enum sluice_status run(struct loop *l, struct drive_rate *rate)
{
    enum sluice_status status = SLUICE_OK;
    const struct drive_rate_options *o = l->options;
    uint64_t section_bytes = l->count * l->record_bytes_max, start_ns = clock_ns();
    uint64_t limit_ns = (uint64_t)(o->seconds * 1e9);
    do {
        for (uint32_t slot = 0; slot < o->depth; slot++)
            TRY(submit(l, slot));
        while (!o->burst && clock_ns() - start_ns < limit_ns && l->submitted_bytes < 2 * section_bytes)
            TRY(turn(l, 1, true));
        while (reader_space(l->reader) < o->depth)
            TRY(turn(l, o->depth, false));
    } while (clock_ns() - start_ns < limit_ns && l->submitted_bytes < 2 * section_bytes);
    rate->bytes = l->submitted_bytes;
    rate->ns = clock_ns() - start_ns;
    rate->bytes_s = (uint64_t)clock_per_second(rate->bytes, rate->ns);
    rate->is_direct = reader_is_direct(l->reader);
fail:
    return status;
}

static enum sluice_status open_reader(struct loop *l, const char *path)
{
    uint64_t bytes = l->options->depth * l->record_bytes_max;
    void *memory = read_memory_map(bytes);
    if (!memory)
        return error_set(SLUICE_ERR_MEMORY, "out of memory: %llu bytes to read into", (unsigned long long)bytes);
    l->memory = memory;
    struct reader_options reader = {
        .kind = l->options->io,
        .depth = l->options->depth,
        .same_file = true,
        .same_file_descriptor = container_descriptor(l->container),
        .region = memory,
        .region_bytes = bytes,
        .region_unit_bytes = l->record_bytes_max,
    };
    return reader_create(path, &reader, &l->reader);
}

enum sluice_status drive_rate_measure(const char *path, const struct drive_rate_options *options,
                                      struct drive_rate *rate)
{
    enum sluice_status status;
    CHECK(options->depth >= 1 && options->depth <= DRIVE_RATE_DEPTH_MAX);
    struct loop l = {.options = options, .random_state = 1};
    *rate = (struct drive_rate){.depth = options->depth, .random = options->random, .burst = options->burst};
    TRY(container_open(path, &l.container));
    l.count = container_expert_count(l.container);
    l.record_bytes_max = container_expert_record_bytes_max(l.container);
    l.next = (uint64_t)(options->first * (double)l.count);
    if (l.count > 0) {
        TRY(open_reader(&l, path));
        TRY(run(&l, rate));
    }
fail:
    reader_destroy(l.reader);
    read_memory_unmap(l.memory, options->depth * l.record_bytes_max);
    container_close(l.container);
    return status;
}
