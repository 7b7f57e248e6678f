// XXH3 at the speed of this processor. libxxhash's plain functions are compiled for the oldest one; on x86 the library
// also brings forms for AVX2 and AVX-512 and chooses when the program starts, if it is asked by other names.
#ifndef SLUICE_OFFLOAD_XXH3_H
#define SLUICE_OFFLOAD_XXH3_H

#define XXH_STATIC_LINKING_ONLY // XXH3_state_t on the stack
#include <xxhash.h>
#ifdef SLUICE_XXH3_DISPATCH
#include <xxh_x86dispatch.h> // gives XXH3_128bits and its like those names
#endif

#endif
