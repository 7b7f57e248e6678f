#include "runtime/model/pager.h"

#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

enum { READ_DEPTH = RESIDENCY_LOADS_MAX };

enum item_state { ITEM_WAITING, ITEM_READING, ITEM_LOADED, ITEM_RESIDENT, ITEM_HANDED_OUT, ITEM_RELEASED, ITEM_FAILED };

// One expert of the sweep.
struct item {
    uint32_t expert; // within the layer
    enum item_state state;
    struct residency_ticket ticket; // from ITEM_READING on
};

struct pager {
    struct gpu_device *device;
    const struct container *container;
    struct pager_options options;
    uint64_t slot_bytes;

    uint32_t slots_per_slab, slab_count;
    struct gpu_buffer **slabs; // [slab_count] device slots, owned

    uint8_t *host; // [host_slots][slot_bytes], mmap
    uint32_t host_slots_per_buffer, host_buffer_count;
    struct gpu_buffer **host_buffers; // imported parts of `host`, or NULL: no import
    struct gpu_buffer **staging;      // upload buffers of the same division, if there is no import

    struct residency *residency;
    struct reader *reader;

    // The sweep.
    uint32_t layer;
    const struct container_expert_layer *shape;
    bool in_order;
    enum residency_mode mode;
    uint32_t item_count, item_capacity;
    struct item *items;
    uint32_t requested;  // items before this one have been acquired
    uint32_t first_left; // items before this one have been handed out
    uint32_t left;       // not handed out yet
    uint32_t reading;    // in ITEM_READING
    bool unsubmitted;    // experts were handed out for a command that is not submitted yet
};

uint64_t pager_slot_bytes(const struct container *container)
{
    return container_expert_record_bytes_max(container);
}

// --- creation -------------------------------------------------------------------------------------------------------

static uint32_t slots_per_buffer(const struct pager *pager, uint32_t slots)
{
    uint64_t limit = gpu_device_caps(pager->device)->max_buffer_bytes;
    uint64_t gib = (uint64_t)1 << 30;
    uint64_t fit = (limit < gib ? limit : gib) / pager->slot_bytes;
    return (uint32_t)(fit < slots ? fit : slots);
}

static enum sluice_status create_buffers(struct pager *pager, enum gpu_memory memory, uint32_t slots,
                                         uint32_t per_buffer, const char *label, struct gpu_buffer ***buffers,
                                         uint32_t *count)
{
    *count = (slots + per_buffer - 1) / per_buffer;
    *buffers = mem_alloc(*count, sizeof **buffers);
    if (!*buffers)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < *count; i++) {
        uint32_t here = slots - i * per_buffer < per_buffer ? slots - i * per_buffer : per_buffer;
        enum sluice_status status =
            gpu_buffer_create(pager->device, memory, here * pager->slot_bytes, label, &(*buffers)[i]);
        if (status < 0)
            return status;
    }
    return SLUICE_OK;
}

static void destroy_buffers(struct gpu_buffer **buffers, uint32_t count)
{
    for (uint32_t i = 0; buffers && i < count; i++)
        gpu_buffer_destroy(buffers[i]);
    mem_free(buffers);
}

// Imports the host slots buffer by buffer; if the driver refuses one, none is used.
static enum sluice_status import_host(struct pager *pager)
{
    uint32_t per_buffer = pager->host_slots_per_buffer, slots = pager->options.host_slots;
    pager->host_buffers = mem_alloc(pager->host_buffer_count, sizeof *pager->host_buffers);
    if (!pager->host_buffers)
        return SLUICE_ERR_MEMORY;
    for (uint32_t i = 0; i < pager->host_buffer_count; i++) {
        uint32_t here = slots - i * per_buffer < per_buffer ? slots - i * per_buffer : per_buffer;
        uint8_t *at = pager->host + (uint64_t)i * per_buffer * pager->slot_bytes;
        enum sluice_status status = gpu_buffer_import(pager->device, at, here * pager->slot_bytes, "host expert slots",
                                                      &pager->host_buffers[i]);
        if (status < 0) {
            destroy_buffers(pager->host_buffers, i);
            pager->host_buffers = NULL;
            return status;
        }
    }
    return SLUICE_OK;
}

static enum sluice_status create_host_slots(struct pager *pager)
{
    uint64_t bytes = pager->options.host_slots * pager->slot_bytes;
    // Anonymous and private: the only kind of memory that every driver imports.
    void *host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host == MAP_FAILED)
        return error_set(SLUICE_ERR_MEMORY, "cannot map %llu bytes for host expert slots; lower --ram",
                         (unsigned long long)bytes);
    pager->host = host;
    madvise(host, bytes, MADV_HUGEPAGE); // fewer segments per read
    madvise(host, bytes, MADV_DONTFORK); // a fork would make the device's copy-on-write pages diverge
    pager->host_slots_per_buffer = slots_per_buffer(pager, pager->options.host_slots);
    pager->host_buffer_count =
        (pager->options.host_slots + pager->host_slots_per_buffer - 1) / pager->host_slots_per_buffer;
    if (gpu_device_caps(pager->device)->can_import) {
        enum sluice_status status = import_host(pager);
        if (status != SLUICE_ERR_UNSUPPORTED)
            return status;
    }
    log_message(LOG_NOTE, "host memory cannot be imported by this driver: experts are copied once more on their way");
    return create_buffers(pager, GPU_MEMORY_UPLOAD, pager->options.host_slots, pager->host_slots_per_buffer,
                          "expert staging", &pager->staging, &pager->host_buffer_count);
}

static enum sluice_status create_reader(struct pager *pager)
{
    struct reader_options options = {
        .kind = pager->options.io,
        .depth = READ_DEPTH,
        .same_file = true,
        .same_file_descriptor = container_descriptor(pager->container),
        .region = pager->host,
        .region_bytes = pager->options.host_slots * pager->slot_bytes,
        .region_unit_bytes = pager->slot_bytes,
        .faults = pager->options.faults,
        .any_thread = true,
    };
    return reader_create(container_path(pager->container), &options, &pager->reader);
}

static enum sluice_status create_residency(struct pager *pager)
{
    uint32_t device_slots = pager->options.device_slots, host_slots = pager->options.host_slots;
    struct residency_options options = {
        .expert_count = (uint32_t)container_expert_count(pager->container),
        .device_slot_count = device_slots,
        .host_slot_count = host_slots,
        .ring_device_slots = device_slots < READ_DEPTH ? device_slots : READ_DEPTH,
        .ring_host_slots = host_slots < READ_DEPTH ? host_slots : READ_DEPTH,
        .host_cache = pager->options.host_cache,
    };
    return residency_create(&options, &pager->residency);
}

enum sluice_status pager_create(struct gpu_device *device, const struct container *container,
                                const struct pager_options *options, struct pager **out)
{
    enum sluice_status status;
    *out = NULL;
    struct pager *pager = mem_alloc(1, sizeof *pager);
    if (!pager)
        return SLUICE_ERR_MEMORY;
    pager->device = device;
    pager->container = container;
    pager->options = *options;
    pager->slot_bytes = pager_slot_bytes(container);
    CHECK(pager->slot_bytes > 0 && options->device_slots > 0 && options->host_slots > 0);
    pager->slots_per_slab = slots_per_buffer(pager, options->device_slots);
    if (pager->slots_per_slab == 0) {
        status = error_set(SLUICE_ERR_BUDGET, "one expert (%llu bytes) exceeds the device's largest buffer",
                           (unsigned long long)pager->slot_bytes);
        goto fail;
    }
    TRY(create_buffers(pager, GPU_MEMORY_DEVICE, options->device_slots, pager->slots_per_slab, "expert slots",
                       &pager->slabs, &pager->slab_count));
    TRY(create_host_slots(pager));
    TRY(create_reader(pager));
    TRY(create_residency(pager));
    *out = pager;
    return SLUICE_OK;
fail:
    pager_destroy(pager);
    return status;
}

void pager_destroy(struct pager *pager)
{
    if (!pager)
        return;
    reader_destroy(pager->reader);
    residency_destroy(pager->residency);
    destroy_buffers(pager->slabs, pager->slab_count);
    destroy_buffers(pager->host_buffers, pager->host_buffer_count);
    destroy_buffers(pager->staging, pager->host_buffer_count);
    if (pager->host)
        munmap(pager->host, pager->options.host_slots * pager->slot_bytes);
    mem_free(pager->items);
    mem_free(pager);
}

// --- sweep ----------------------------------------------------------------------------------------------------------

static uint32_t expert_key(const struct pager *pager, uint32_t expert)
{
    return (uint32_t)pager->shape->expert_first + expert;
}

static uint8_t *host_slot(const struct pager *pager, uint32_t slot)
{
    return pager->host + slot * pager->slot_bytes;
}

static enum sluice_status submit_read(struct pager *pager, uint32_t index)
{
    struct item *item = &pager->items[index];
    if (item->ticket.host_copy_tick) { // the copy out of this host slot may still be running
        enum sluice_status status = gpu_wait(pager->device, item->ticket.host_copy_tick);
        if (status < 0)
            return status;
    }
    struct reader_request request = {
        .offset = container_expert_offset(pager->container, pager->layer, item->expert),
        .destination = host_slot(pager, item->ticket.host_slot),
        .bytes = pager->shape->record_bytes,
        .tag = index,
    };
    enum sluice_status status = reader_submit(pager->reader, &request, 1);
    CHECK(status != SLUICE_PENDING); // reader_space was looked at
    return status;
}

// Acquires further experts of the list, as far as slots and the reader's queue allow.
static enum sluice_status request_more(struct pager *pager)
{
    if (pager->unsubmitted)
        return SLUICE_OK; // a host slot given up by a copy that is not submitted yet could not be waited for
    for (; pager->requested < pager->item_count; pager->requested++) {
        struct item *item = &pager->items[pager->requested];
        if (reader_space(pager->reader) == 0)
            return SLUICE_OK;
        uint32_t key = expert_key(pager, item->expert);
        switch (residency_acquire(pager->residency, key, pager->mode, &item->ticket)) {
        case RESIDENCY_DEVICE:
            item->state = ITEM_RESIDENT;
            break;
        case RESIDENCY_HOST:
            item->state = ITEM_LOADED;
            break;
        case RESIDENCY_MISS: {
            enum sluice_status status = submit_read(pager, pager->requested);
            if (status < 0) {
                residency_read_done(pager->residency, key, false);
                residency_release(pager->residency, key, 0);
                return status;
            }
            item->state = ITEM_READING;
            pager->reading++;
            break;
        }
        case RESIDENCY_NO_SLOT:
            return SLUICE_OK;
        case RESIDENCY_PENDING: // the list holds every expert once, and a sweep leaves nothing in flight behind
        case RESIDENCY_FAILED:
            check_failed("no expert is in flight outside its sweep", __FILE__, __LINE__);
        }
    }
    return SLUICE_OK;
}

static enum sluice_status finish_read(struct pager *pager, const struct reader_completion *completion)
{
    struct item *item = &pager->items[completion->tag];
    uint32_t key = expert_key(pager, item->expert);
    pager->reading--;
    enum sluice_status status = reader_completion_check(pager->reader, completion);
    if (status < 0)
        error_prefix(status, "layer %u, expert %u", pager->layer, item->expert);
    else if (!pager->options.skip_checksums)
        status = container_expert_verify(pager->container, pager->layer, item->expert,
                                         host_slot(pager, item->ticket.host_slot));
    residency_read_done(pager->residency, key, status == SLUICE_OK);
    item->state = status == SLUICE_OK ? ITEM_LOADED : ITEM_FAILED;
    if (status < 0)
        residency_release(pager->residency, key, 0);
    return status;
}

// Collects completed reads, waiting for at least `min` of them. The first failure is returned, after all were taken.
static enum sluice_status collect_reads(struct pager *pager, uint32_t min)
{
    struct reader_completion completions[READ_DEPTH];
    uint32_t count;
    enum sluice_status result = reader_wait(pager->reader, min, READ_DEPTH, completions, &count, min ? UINT64_MAX : 0);
    struct error_record first = {0};
    for (uint32_t i = 0; i < count; i++) {
        enum sluice_status status = finish_read(pager, &completions[i]);
        if (status < 0 && first.status == SLUICE_OK)
            error_save(&first, status);
    }
    if (result < 0)
        return result;
    return first.status < 0 ? error_restore(&first) : SLUICE_OK;
}

enum sluice_status pager_sweep_begin(struct pager *pager, uint32_t layer, const uint32_t *experts, uint32_t count,
                                     bool in_order, enum residency_mode mode)
{
    CHECK(pager->item_count == 0 && pager->reading == 0);
    if (count > pager->item_capacity) {
        struct item *grown = mem_realloc(pager->items, count, sizeof *grown);
        if (!grown)
            return SLUICE_ERR_MEMORY;
        pager->items = grown;
        pager->item_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++)
        pager->items[i] = (struct item){.expert = experts[i], .state = ITEM_WAITING};
    pager->layer = layer;
    pager->shape = container_expert_layer(pager->container, layer);
    CHECK(pager->shape);
    pager->in_order = in_order;
    pager->mode = mode;
    pager->item_count = count;
    pager->left = count;
    pager->requested = pager->first_left = 0;
    // First the uses, then the loads: an expert of this step must not make room for another one of it.
    for (uint32_t i = 0; i < count && mode == RESIDENCY_NORMAL; i++)
        residency_touch(pager->residency, expert_key(pager, experts[i]));
    return request_more(pager);
}

static struct gpu_range slot_range(struct gpu_buffer *const *buffers, uint32_t per_buffer, uint64_t slot_bytes,
                                   uint32_t slot, uint64_t bytes)
{
    return gpu_range_make(buffers[slot / per_buffer], slot % per_buffer * slot_bytes, bytes);
}

static void record_copy(struct pager *pager, struct gpu_command *cmd, const struct item *item)
{
    uint64_t bytes = pager->shape->record_bytes;
    uint32_t from_slot = item->ticket.host_slot;
    struct gpu_buffer **from = pager->host_buffers ? pager->host_buffers : pager->staging;
    if (pager->staging)
        memcpy((uint8_t *)gpu_buffer_map(from[from_slot / pager->host_slots_per_buffer]) +
                   from_slot % pager->host_slots_per_buffer * pager->slot_bytes,
               host_slot(pager, from_slot), bytes);
    gpu_copy(cmd, slot_range(from, pager->host_slots_per_buffer, pager->slot_bytes, from_slot, bytes),
             slot_range(pager->slabs, pager->slots_per_slab, pager->slot_bytes, item->ticket.device_slot, bytes));
}

// Hands out what is ready now.
static uint32_t hand_out(struct pager *pager, struct gpu_command *cmd, struct pager_place *places, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = pager->first_left; i < pager->requested && count < max; i++) {
        struct item *item = &pager->items[i];
        bool ready = item->state == ITEM_LOADED || item->state == ITEM_RESIDENT;
        if (ready) {
            if (item->state == ITEM_LOADED) {
                record_copy(pager, cmd, item);
                // The tick of the submission to come: commands run in order, so it is the next one.
                residency_copy_recorded(pager->residency, expert_key(pager, item->expert),
                                        gpu_tick_last(pager->device) + 1);
            }
            item->state = ITEM_HANDED_OUT;
            uint32_t slot = item->ticket.device_slot;
            places[count++] = (struct pager_place){i, slot / pager->slots_per_slab, slot % pager->slots_per_slab};
            pager->left--;
        } else if (pager->in_order && item->state == ITEM_READING) {
            break;
        }
    }
    pager->unsubmitted |= count > 0;
    while (pager->first_left < pager->requested && pager->items[pager->first_left].state >= ITEM_HANDED_OUT)
        pager->first_left++;
    return count;
}

enum sluice_status pager_sweep_next(struct pager *pager, struct gpu_command *cmd, struct pager_place *places,
                                    uint32_t max, uint32_t *count)
{
    enum sluice_status status;
    *count = 0;
    while (pager->left > 0) {
        TRY(request_more(pager));
        if (pager->reading)
            TRY(collect_reads(pager, 0));
        *count = hand_out(pager, cmd, places, max);
        if (*count > 0 || pager->unsubmitted)
            return SLUICE_OK;
        CHECK(pager->reading > 0); // at least one slot is free once everything handed out has been submitted
        TRY(collect_reads(pager, 1));
    }
    return SLUICE_OK;
fail:
    return status;
}

void pager_sweep_submitted(struct pager *pager, uint64_t tick)
{
    pager->unsubmitted = false;
    for (uint32_t i = 0; i < pager->requested; i++) {
        struct item *item = &pager->items[i];
        if (item->state != ITEM_HANDED_OUT)
            continue;
        residency_release(pager->residency, expert_key(pager, item->expert), tick);
        item->state = ITEM_RELEASED;
    }
}

uint32_t pager_sweep_left(const struct pager *pager)
{
    return pager->left;
}

void pager_sweep_end(struct pager *pager)
{
    struct error_record failure; // the caller's message survives the cleaning up
    error_save(&failure, SLUICE_OK);
    while (pager->reading > 0)
        if (collect_reads(pager, 1) < 0 && reader_space(pager->reader) == READ_DEPTH)
            break;
    for (uint32_t i = 0; i < pager->requested; i++) {
        struct item *item = &pager->items[i];
        if (item->state == ITEM_LOADED || item->state == ITEM_RESIDENT || item->state == ITEM_HANDED_OUT)
            residency_release(pager->residency, expert_key(pager, item->expert), gpu_tick_last(pager->device));
    }
    pager->item_count = pager->requested = pager->left = pager->reading = 0;
    pager->unsubmitted = false;
    error_restore(&failure);
}

// --- what others need -----------------------------------------------------------------------------------------------

struct moe_slab pager_slab(const struct pager *pager, uint32_t layer, uint32_t slab)
{
    const struct container_expert_layer *shape = container_expert_layer(pager->container, layer);
    CHECK(shape && slab < pager->slab_count);
    return (struct moe_slab){
        .range = gpu_range_make(pager->slabs[slab], 0, gpu_buffer_bytes(pager->slabs[slab])),
        .slot_bytes = (uint32_t)pager->slot_bytes,
        .down_offset = (uint32_t)shape->down_offset,
        .gate_up_type = (enum quant_type)shape->gate_up_type_id,
        .down_type = (enum quant_type)shape->down_type_id,
        .hidden = shape->hidden,
        .inter = shape->intermediate,
    };
}

uint32_t pager_slab_count(const struct pager *pager)
{
    return pager->slab_count;
}

struct pager_statistics pager_statistics(const struct pager *pager)
{
    struct residency_statistics r = residency_statistics(pager->residency);
    struct reader_statistics d = reader_statistics(pager->reader);
    return (struct pager_statistics){
        .hits_device = r.normal.device_hits + r.sweep.device_hits,
        .hits_host = r.normal.host_hits + r.sweep.host_hits,
        .misses = r.normal.misses + r.sweep.misses,
        .bytes_read = d.bytes,
        .wait_ns = d.wait_ns,
        .busy_ns = d.busy_ns,
        .cpu_ns = d.cpu_ns,
        .device_bytes = pager->options.device_slots * pager->slot_bytes,
        .host_bytes = pager->options.host_slots * pager->slot_bytes,
    };
}
