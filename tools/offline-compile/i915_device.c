// An Intel graphics card that only a shader compiler would believe in: preloaded into a program, it answers what Mesa's
// Intel driver asks libdrm and the i915 kernel driver when it opens a device, so that pipelines can be compiled.
// Nothing runs: work is accepted and forgotten. Written from the kernel's interface (i915_drm.h).
//
//   I915_DEVICE_ID   PCI number of the card, 0x56a0 is an A770
//   I915_NODE        an empty sparse file in place of the device node; "memory" of the card is mapped from it
//
// Libraries before own code: Mesa's drm-shim has no Intel card in Debian's packages.
#include <errno.h>
#include <i915_drm.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xf86drm.h>

enum {
    PCI_VENDOR_INTEL = 0x8086,
    REVISION = 8,
    TIMESTAMP_HZ = 19200000,
    // The largest DG2: 8 slices of 4 subslices of 16 execution units.
    SLICES = 8,
    SUBSLICES = 4,
    UNITS = 16,
    UNIT_BYTES = UNITS / 8,
    HANDLES_MAX = 65536,
    PAGE = 65536,
};
static const uint64_t gib = 1ull << 30;

static const char *node_path(void)
{
    const char *path = getenv("I915_NODE");
    return path ? path : "i915-node";
}

static int device_id(void)
{
    const char *id = getenv("I915_DEVICE_ID");
    return id ? (int)strtoul(id, NULL, 0) : 0x56a0;
}

// ---- libdrm: the list of devices has one

static drmDevicePtr make_device(void)
{
    struct parts {
        drmDevice device;
        drmPciBusInfo bus;
        drmPciDeviceInfo pci;
        char *nodes[DRM_NODE_MAX];
        char path[4096];
    } *parts = calloc(1, sizeof *parts);
    if (!parts)
        return NULL;
    snprintf(parts->path, sizeof parts->path, "%s", node_path());
    parts->nodes[DRM_NODE_PRIMARY] = parts->nodes[DRM_NODE_RENDER] = parts->path;
    parts->bus = (drmPciBusInfo){.bus = 3};
    parts->pci =
        (drmPciDeviceInfo){.vendor_id = PCI_VENDOR_INTEL, .device_id = (uint16_t)device_id(), .revision_id = REVISION};
    parts->device = (drmDevice){.nodes = parts->nodes,
                                .available_nodes = 1 << DRM_NODE_PRIMARY | 1 << DRM_NODE_RENDER,
                                .bustype = DRM_BUS_PCI,
                                .businfo.pci = &parts->bus,
                                .deviceinfo.pci = &parts->pci};
    return &parts->device;
}

int drmGetDevice2(int fd, uint32_t flags, drmDevicePtr *device)
{
    (void)fd, (void)flags;
    *device = make_device();
    return *device ? 0 : -ENOMEM;
}

int drmGetDevices2(uint32_t flags, drmDevicePtr devices[], int max)
{
    if (!devices || max < 1)
        return 1;
    return drmGetDevice2(-1, flags, devices) ? -ENOMEM : 1;
}

void drmFreeDevice(drmDevicePtr *device)
{
    free(*device); // the first part of its block
    *device = NULL;
}

void drmFreeDevices(drmDevicePtr devices[], int count)
{
    for (int i = 0; i < count; i++)
        drmFreeDevice(&devices[i]);
}

// ---- what the card is

static int get_parameter(const drm_i915_getparam_t *ask)
{
    switch (ask->param) {
    case I915_PARAM_CHIPSET_ID:
        *ask->value = device_id();
        break;
    case I915_PARAM_REVISION:
        *ask->value = REVISION;
        break;
    case I915_PARAM_CS_TIMESTAMP_FREQUENCY:
        *ask->value = TIMESTAMP_HZ;
        break;
    case I915_PARAM_HAS_ALIASING_PPGTT:
        *ask->value = I915_GEM_PPGTT_FULL;
        break;
    case I915_PARAM_MMAP_GTT_VERSION:
        *ask->value = 4; // has mmap offsets
        break;
    case I915_PARAM_SUBSLICE_TOTAL:
        *ask->value = SLICES * SUBSLICES;
        break;
    case I915_PARAM_EU_TOTAL:
        *ask->value = SLICES * SUBSLICES * UNITS;
        break;
    case I915_PARAM_SLICE_MASK:
        *ask->value = (1 << SLICES) - 1;
        break;
    case I915_PARAM_SUBSLICE_MASK:
        *ask->value = (1 << SUBSLICES) - 1;
        break;
    case I915_PARAM_CMD_PARSER_VERSION:
        *ask->value = 10;
        break;
    case I915_PARAM_HAS_SCHEDULER:
        *ask->value = I915_SCHEDULER_CAP_ENABLED | I915_SCHEDULER_CAP_PRIORITY | I915_SCHEDULER_CAP_PREEMPTION;
        break;
    case I915_PARAM_HAS_LLC:
        *ask->value = 0; // a card of its own, with its own memory
        break;
    default:
        *ask->value = 1; // "has it"
    }
    return 0;
}

// Queries are asked twice: for the length, then for the data.
static void *answer_space(struct drm_i915_query_item *item, size_t bytes)
{
    int asked = item->length;
    item->length = (int32_t)bytes;
    if (asked == 0)
        return NULL;
    return memset((void *)(uintptr_t)item->data_ptr, 0, bytes);
}

static void query_topology(struct drm_i915_query_item *item)
{
    struct drm_i915_query_topology_info *info =
        answer_space(item, sizeof *info + 1 + SLICES + (size_t)SLICES * SUBSLICES * UNIT_BYTES);
    if (!info)
        return;
    info->max_slices = SLICES;
    info->max_subslices = SUBSLICES;
    info->max_eus_per_subslice = UNITS;
    info->subslice_offset = 1;
    info->subslice_stride = 1;
    info->eu_offset = 1 + SLICES;
    info->eu_stride = UNIT_BYTES;
    info->data[0] = (1 << SLICES) - 1;
    memset(info->data + info->subslice_offset, (1 << SUBSLICES) - 1, SLICES);
    memset(info->data + info->eu_offset, 0xff, (size_t)SLICES * SUBSLICES * UNIT_BYTES);
}

static void query_engines(struct drm_i915_query_item *item)
{
    static const uint16_t classes[] = {I915_ENGINE_CLASS_RENDER, I915_ENGINE_CLASS_COPY};
    const size_t count = sizeof classes / sizeof *classes;
    struct drm_i915_query_engine_info *info = answer_space(item, sizeof *info + count * sizeof info->engines[0]);
    if (!info)
        return;
    info->num_engines = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        info->engines[i].engine.engine_class = classes[i];
}

static void query_memory(struct drm_i915_query_item *item)
{
    static const struct drm_i915_memory_region_info regions[] = {
        {.region.memory_class = I915_MEMORY_CLASS_SYSTEM, .probed_size = 1, .unallocated_size = 1},
        {.region.memory_class = I915_MEMORY_CLASS_DEVICE, .probed_size = 1, .unallocated_size = 1},
    };
    const size_t count = sizeof regions / sizeof *regions;
    struct drm_i915_query_memory_regions *info = answer_space(item, sizeof *info + count * sizeof info->regions[0]);
    if (!info)
        return;
    info->num_regions = (uint32_t)count;
    memcpy(info->regions, regions, sizeof regions);
    for (size_t i = 0; i < count; i++)
        info->regions[i].probed_size = info->regions[i].unallocated_size = 16 * gib;
}

static int query(struct drm_i915_query *ask)
{
    struct drm_i915_query_item *items = (void *)(uintptr_t)ask->items_ptr;
    for (uint32_t i = 0; i < ask->num_items; i++)
        switch (items[i].query_id) {
        case DRM_I915_QUERY_TOPOLOGY_INFO:
        case DRM_I915_QUERY_GEOMETRY_SUBSLICES:
            query_topology(&items[i]);
            break;
        case DRM_I915_QUERY_ENGINE_INFO:
            query_engines(&items[i]);
            break;
        case DRM_I915_QUERY_MEMORY_REGIONS:
            query_memory(&items[i]);
            break;
        default:
            items[i].length = -EINVAL;
        }
    return 0;
}

static int version(struct drm_version *v)
{
    static const char name[] = "i915";
    const size_t length = sizeof name - 1;
    if (v->name && v->name_len >= length)
        memcpy(v->name, name, length);
    v->name_len = length;
    v->date_len = v->desc_len = 0;
    v->version_major = 1;
    v->version_minor = 6;
    return 0;
}

// ---- buffers: ranges of the node's file

static uint64_t offsets[HANDLES_MAX], next_offset = PAGE;
static uint32_t next_handle = 1, next_id = 1;

static int create_buffer(uint64_t bytes, uint32_t *handle)
{
    if (next_handle == HANDLES_MAX) {
        errno = ENOMEM;
        return -1;
    }
    *handle = next_handle++;
    offsets[*handle] = next_offset;
    next_offset += (bytes + PAGE - 1) / PAGE * PAGE;
    return 0;
}

static int map_buffer(struct drm_i915_gem_mmap_offset *map)
{
    map->offset = offsets[map->handle % HANDLES_MAX];
    return 0;
}

static int context_parameter(struct drm_i915_gem_context_param *p)
{
    p->value = p->param == I915_CONTEXT_PARAM_GTT_SIZE ? 1ull << 48 : p->param == I915_CONTEXT_PARAM_VM;
    return 0;
}

static int points_reached(const struct drm_syncobj_timeline_array *timelines)
{
    uint64_t *points = (void *)(uintptr_t)timelines->points;
    for (uint32_t i = 0; i < timelines->count_handles; i++)
        points[i] = UINT64_MAX / 2;
    return 0;
}

// ---- the kernel's entry

// struct drm_i915_gem_create and drm_i915_gem_create_ext begin alike.
static int answer(unsigned long request, void *argument)
{
    switch (request) {
    case DRM_IOCTL_VERSION:
        return version(argument);
    case DRM_IOCTL_GET_CAP:
        ((struct drm_get_cap *)argument)->value = 1;
        return 0;
    case DRM_IOCTL_I915_GETPARAM:
        return get_parameter(argument);
    case DRM_IOCTL_I915_QUERY:
        return query(argument);
    case DRM_IOCTL_I915_GEM_CREATE:
    case DRM_IOCTL_I915_GEM_CREATE_EXT: {
        struct drm_i915_gem_create *create = argument;
        return create_buffer(create->size, &create->handle);
    }
    case DRM_IOCTL_I915_GEM_USERPTR: {
        struct drm_i915_gem_userptr *user = argument;
        return create_buffer(user->user_size, &user->handle);
    }
    case DRM_IOCTL_I915_GEM_MMAP_OFFSET:
        return map_buffer(argument);
    case DRM_IOCTL_I915_GEM_CONTEXT_CREATE:
    case DRM_IOCTL_I915_GEM_CONTEXT_CREATE_EXT:
        ((struct drm_i915_gem_context_create *)argument)->ctx_id = next_id++;
        return 0;
    case DRM_IOCTL_I915_GEM_CONTEXT_GETPARAM:
        return context_parameter(argument);
    case DRM_IOCTL_I915_GEM_VM_CREATE:
        ((struct drm_i915_gem_vm_control *)argument)->vm_id = next_id++;
        return 0;
    case DRM_IOCTL_SYNCOBJ_CREATE:
        ((struct drm_syncobj_create *)argument)->handle = next_id++;
        return 0;
    case DRM_IOCTL_SYNCOBJ_QUERY:
        return points_reached(argument);
    case DRM_IOCTL_I915_GET_RESET_STATS:
        ((struct drm_i915_reset_stats *)argument)->reset_count = 0;
        return 0;
    case DRM_IOCTL_I915_REG_READ:
        ((struct drm_i915_reg_read *)argument)->val = 0;
        return 0;
    case DRM_IOCTL_I915_GEM_GET_APERTURE:
        ((struct drm_i915_gem_get_aperture *)argument)->aper_size = 16 * gib;
        return 0;
    default:
        return 0; // accepted and forgotten: executions, waits, domains, destruction
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (_IOC_TYPE(request) == DRM_IOCTL_BASE)
        return answer(request, argument);
    return (int)syscall(SYS_ioctl, fd, request, argument);
}
