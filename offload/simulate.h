// What caches of any size would have hit of a recorded trace (trace.h).
//
//   LRU        one list for the experts of all layers, or one per layer with an equal part of the slots
//   optimum    gives up what is used again last of all (Belady 1966, Mattson et al. 1970): no cache without knowledge
//   of
//              the future can hit more
//   engine     residency.h itself, driven as the engine drives it: device slots, below them host slots as a RAM tier;
//              or both of them as one pool
//
// A record's experts are one request: those that are there are hits, then the others are loaded and nothing of this
// record is given up for them. A prompt's end (TRACE_KEEP) brings its experts into the caches of LRU and optimum, most
// used last, without being counted; the rest of it (TRACE_SWEEP) does not touch them. residency.h decides about both
// itself. All caches are empty at the trace's beginning and see everything in it; uses are counted from the
// last TRACE_MARK on, or from the beginning if there is none. Threads: any number on one trace.
#ifndef SLUICE_OFFLOAD_SIMULATE_H
#define SLUICE_OFFLOAD_SIMULATE_H

#include <stddef.h>

#include "offload/trace.h"

// A trace in memory. Experts are numbered through: layer * expert_count + expert.
struct sim_trace {
    struct trace_shape shape;
    struct sim_record {
        uint32_t step, layer, count;
        enum trace_kind kind; // DECODE, SWEEP or KEEP
        size_t first;         // index into experts
    } * records;              // [record_count], owned
    size_t record_count;
    uint32_t *experts; // owned
    size_t expert_total;
    size_t counted_from; // record
    uint32_t steps;      // different steps among the counted TRACE_DECODE records
    uint32_t layers;     // that occur: those of a model that have experts
};

// SLUICE_ERR_IO, SLUICE_ERR_FORMAT (also when a record names an expert twice), SLUICE_ERR_MEMORY. Two bytes in the file
// are four here.
enum sluice_status sim_trace_load(const char *path, struct sim_trace *trace);
void sim_trace_finish(struct sim_trace *trace); // after a failed load, too

// Uses by TRACE_DECODE records; the rest of the uses are misses.
struct sim_counts {
    uint64_t uses, hits_device, hits_host;
};

// Hits of LRU caches of slots[count] slots each (counts[count]), from one pass over the trace: the number of others
// used since an expert's last use is the number of slots that it takes to keep it. O(uses log uses). per_layer: slots
// are divided evenly among the layers that occur, the first ones getting what is left over.
enum sluice_status sim_lru(const struct sim_trace *trace, bool per_layer, const uint32_t *slots, uint32_t count,
                           struct sim_counts *counts);

// Hits of the best cache of `slots` >= 1 slots. O(uses log uses). With fewer slots than a record has experts not the
// best.
enum sluice_status sim_optimum(const struct sim_trace *trace, uint32_t slots, struct sim_counts *counts);

// The engine's own cache. `unified`: one pool of device_slots + host_slots; its hits are the device's.
struct sim_places {
    uint32_t device_slots; // >= 1
    uint32_t host_slots;   // 0: no RAM tier
    bool unified;
};
enum sluice_status sim_engine(const struct sim_trace *trace, const struct sim_places *places,
                              struct sim_counts *counts);

#endif
