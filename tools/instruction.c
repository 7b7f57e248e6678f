#include "tools/instruction.h"

#include <jansson.h>
#include <string.h>

#include "offload/container.h"
#include "runtime/base/mem.h"

static const char GENERAL_INSTRUCTION[] =
    "Summarise the document above. Begin with one paragraph that says what it is and what matters most in it. Then "
    "list the "
    "main points, decisions, figures, names and dates, each with the page or section where it stands, if the document "
    "gives one. Leave out what the document does not say.";

enum sluice_status instruction_load(const char *container_path, char **text)
{
    struct container *c;
    char *provenance = NULL;
    size_t bytes;
    *text = NULL;
    enum sluice_status status = container_open(container_path, &c);
    if (status < 0)
        return status;
    status = container_document(c, "provenance.json", &provenance, &bytes);
    container_close(c);
    if (status < 0 && status != SLUICE_ERR_UNSUPPORTED)
        return status;
    json_t *object = provenance ? json_loadb(provenance, bytes, 0, NULL) : NULL;
    const char *stored = json_string_value(json_object_get(object, "instruction"));
    const char *chosen = stored ? stored : GENERAL_INSTRUCTION;
    *text = mem_strndup(chosen, strlen(chosen));
    json_decref(object);
    mem_free(provenance);
    return *text ? SLUICE_OK : SLUICE_ERR_MEMORY;
}
