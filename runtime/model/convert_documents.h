// The texts that a container carries, and the identity of a conversion's inputs.
#ifndef SLUICE_MODEL_CONVERT_DOCUMENTS_H
#define SLUICE_MODEL_CONVERT_DOCUMENTS_H

#include "offload/container_write.h"
#include "runtime/model/convert.h"
#include "runtime/model/convert_source.h"

enum { CONVERT_DOCUMENTS_MAX = 8 };

struct convert_documents {
    struct container_plan_document items[CONVERT_DOCUMENTS_MAX]; // texts owned
    uint32_t count;
};

// Reads the texts that `directory` has. items[0] is config.json, which must be there; the JSON ones must be JSON
// objects. On failure *documents is empty.
enum sluice_status convert_documents_load(const char *directory, struct convert_documents *documents);
void convert_documents_finish(struct convert_documents *documents); // an empty one is allowed

// Appends provenance.json.
enum sluice_status convert_documents_add_provenance(struct convert_documents *documents,
                                                    const struct convert_options *options,
                                                    const struct convert_source *source);

// A hash of all texts (provenance.json has the options and the weight files' names, sizes and header hashes) and of the
// weight files' times of modification.
enum sluice_status convert_fingerprint(const struct convert_documents *documents, const struct convert_source *source,
                                       uint8_t fingerprint[16]);

#endif
