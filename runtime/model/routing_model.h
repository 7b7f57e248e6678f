// Made-up routing for measurements: which experts a token uses, instead of what the router chose.
//
// How well experts stay in a cache depends on the text and on how the model was trained; the router of a synthetic
// container says nothing about either. Two cases are modelled:
//
//   UNIFORM    each token draws top_k different experts, all alike: a cache's worst case. LRU slots for a share s of
//              the experts hit s.
//   RECORDED   with the temporal locality reported for models of 512 experts of which 10 are used: per layer, LRU slots
//              for 6, 12.5, 25 and 50 % of the experts hit about 43, 67, 81 and 92 %.
//
// RECORDED is an LRU stack model (Mattson et al. 1970: hit rates of LRU caches of all sizes and the distribution of
// stack distances are the same thing). Each layer of each session keeps its experts in the order of their last use; a
// token draws top_k different places in that order, from the distribution whose cumulative form goes through the
// figures above (a power law between them), and moves what it finds there to the front. The figures go in a little
// higher than they come out (table in routing_model.c): of two draws of one place the second is drawn again, and that
// takes most from the front. In the long run all experts of a layer are equally popular; consecutive layers and
// sessions are independent of each other.
//
// Threads: one per object.
#ifndef SLUICE_MODEL_ROUTING_MODEL_H
#define SLUICE_MODEL_ROUTING_MODEL_H

#include "runtime/sluice.h"

struct routing_model_options {
    enum sluice_routing kind; // UNIFORM or RECORDED
    uint64_t seed;
    uint32_t layers, experts, top_k; // 1 <= top_k <= experts <= 65536
    uint32_t sessions;
};

struct routing_model;

// SLUICE_ERR_MEMORY; *model is NULL then. Allocates 2 bytes per session, layer and expert for RECORDED.
enum sluice_status routing_model_create(const struct routing_model_options *options, struct routing_model **model);
void routing_model_destroy(struct routing_model *model); // NULL is allowed

// Experts ids[top_k], all different, of the next token of `session` in `layer`. They depend on seed, session, layer and
// the number of earlier calls for these two, on nothing else: a session draws the same alone and together with others.
void routing_model_draw(struct routing_model *model, uint32_t session, uint32_t layer, uint32_t *ids);

#endif
