// Fuzz target: bytes as a container. The input is the header without its long zero rest and the directory without
// padding; everything else is filled with zeros up to the size that the header gives, and the checksums of header and
// directory are made to fit, since nothing behind them would ever be reached otherwise.
//
//   input  [header, 128 bytes][directory]   ->   file  [header 4096][directory, padded][zeros]
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "offload/container_directory.h"
#include "offload/container_private.h"
#include "runtime/base/check.h"
#include "runtime/base/mem.h"

enum { INPUT_HEADER_BYTES = offsetof(struct container_disk_header, reserved), FILE_BYTES_MAX = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

// The file's size: what the header says, if that is reasonable.
static size_t expand(const uint8_t *bytes, size_t count, uint8_t *file)
{
    struct container_disk_header *header = (struct container_disk_header *)file;
    size_t head = count < INPUT_HEADER_BYTES ? count : INPUT_HEADER_BYTES;
    memcpy(file, bytes, head);
    memcpy(file + CONTAINER_HEADER_BYTES, bytes + head, count - head);
    size_t least = CONTAINER_HEADER_BYTES + container_padded_bytes(count - head);
    size_t size = header->file_bytes >= least && header->file_bytes <= FILE_BYTES_MAX ? header->file_bytes : least;
    uint64_t directory = container_padded_bytes(header->directory_bytes);
    if (directory <= size - CONTAINER_HEADER_BYTES)
        container_hash(file + CONTAINER_HEADER_BYTES, directory, header->directory_xxh3);
    container_hash(header, offsetof(struct container_disk_header, header_xxh3), header->header_xxh3);
    return size;
}

static enum sluice_status take_piece(void *user, uint64_t offset, const void *data, size_t bytes)
{
    const struct container_tensor *t = user;
    (void)data;
    CHECK(offset <= t->bytes && bytes <= t->bytes - offset);
    return SLUICE_OK;
}

static void use_tensor(const struct container *c, const struct container_tensor *t, void *buffer)
{
    uint8_t piece[4096];
    CHECK(t->bytes <= FILE_BYTES_MAX && t->file_offset <= container_file_bytes(c) - t->bytes);
    CHECK(container_tensor_find(c, t->name) == t && container_type_name(c, t->type_id));
    (void)container_read_tensor(c, t, buffer);
    (void)container_tensor_stream(c, t, piece, sizeof piece, take_piece, (void *)(uintptr_t)t);
}

static void use_layer(const struct container *c, const struct container_expert_layer *l, void *buffer)
{
    uint32_t last = l->expert_count - 1;
    uint64_t offset = container_expert_offset(c, l->layer, last);
    CHECK(container_expert_layer(c, l->layer) == l && l->down_offset < l->record_bytes);
    CHECK(l->record_bytes <= FILE_BYTES_MAX && offset <= container_file_bytes(c) - l->record_bytes);
    CHECK(container_type_name(c, l->gate_up_type_id) && container_type_name(c, l->down_type_id));
    (void)container_read_expert(c, l->layer, last, buffer);
}

static void use_container(const struct container *c, void *buffer)
{
    for (uint32_t i = 0; i < container_document_count(c); i++) {
        char *text;
        size_t bytes;
        if (container_document(c, container_document_name(c, i), &text, &bytes) == SLUICE_OK)
            CHECK(bytes == container_document_bytes(c, i) && text[bytes] == '\0');
        mem_free(text);
    }
    for (uint32_t i = 0; i < container_tensor_count(c); i++)
        use_tensor(c, container_tensor_at(c, i), buffer);
    for (uint32_t i = 0; i < container_expert_layer_count(c); i++)
        use_layer(c, container_expert_layer_at(c, i), buffer);
    (void)container_verify(c, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct container *c;
    if (count > FILE_BYTES_MAX / 2)
        return 0;
    uint8_t *file = calloc(2, FILE_BYTES_MAX); // the second half is what items are read to
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(file && fd >= 0);
    size_t size = expand(bytes, count, file);
    // The zeros at the end need not be written.
    CHECK(write(fd, file, CONTAINER_HEADER_BYTES + count) >= 0 && ftruncate(fd, (off_t)size) == 0);
    if (container_open_descriptor(fd, "fuzz", &c) == SLUICE_OK)
        use_container(c, file + FILE_BYTES_MAX);
    container_close(c);
    free(file);
    return 0;
}
