#include "offload/container_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/mem.h"

struct disk_start {
    uint8_t magic[8];
    uint8_t identity[16];
    uint32_t item_count, reserved;
    char text[CONTAINER_JOURNAL_TEXT_BYTES]; // ends with a zero, filled with zeros
    uint64_t check;                          // XXH3-64 of what precedes
};

struct disk_entry {
    uint64_t item;
    uint8_t xxh3[CONTAINER_HASH_BYTES];
    uint64_t check; // XXH3-64 of what precedes, seeded with the entry's number
};

_Static_assert(sizeof(struct disk_start) == 552 && sizeof(struct disk_entry) == 32, "on disk");

enum { ENTRIES_PER_TRANSFER = 128 };

static const char journal_magic[8] = {'S', 'L', 'J', 'R', 'N', 'L', '2', '\n'};

enum sluice_status container_journal_open(struct container_journal *journal, char *path)
{
    *journal = (struct container_journal){.path = path, .write = file_range_system_pwrite};
    journal->descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (journal->descriptor < 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
    return SLUICE_OK;
}

void container_journal_close(struct container_journal *journal)
{
    if (journal->descriptor >= 0)
        close(journal->descriptor);
    journal->descriptor = -1;
    mem_free(journal->path);
    journal->path = NULL;
}

static uint64_t entry_check(const struct disk_entry *entry, uint64_t number)
{
    return XXH3_64bits_withSeed(entry, offsetof(struct disk_entry, check), number);
}

static bool start_valid(const struct disk_start *start)
{
    return memcmp(start->magic, journal_magic, sizeof start->magic) == 0 &&
           start->check == XXH3_64bits(start, offsetof(struct disk_start, check)) &&
           start->text[sizeof start->text - 1] == '\0';
}

static enum sluice_status journal_bytes(const struct container_journal *journal, uint64_t *bytes)
{
    struct stat info;
    *bytes = 0;
    if (fstat(journal->descriptor, &info) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot stat: %s", journal->path, strerror(errno));
    *bytes = (uint64_t)info.st_size;
    return SLUICE_OK;
}

enum sluice_status container_journal_read_start(struct container_journal *journal,
                                                struct container_journal_start *start, bool *valid)
{
    struct disk_start disk;
    uint64_t bytes;
    enum sluice_status status;
    *valid = false;
    TRY(journal_bytes(journal, &bytes));
    if (bytes < sizeof disk)
        return SLUICE_OK;
    TRY(file_range_read(journal->descriptor, journal->path, &disk, sizeof disk, 0));
    *valid = start_valid(&disk);
    memcpy(start->identity, disk.identity, sizeof start->identity);
    memcpy(start->text, disk.text, sizeof start->text);
    start->item_count = disk.item_count;
fail:
    return status;
}

enum sluice_status container_journal_load(struct container_journal *journal, container_journal_function *entry,
                                          void *user)
{
    uint64_t bytes;
    enum sluice_status status;
    TRY(journal_bytes(journal, &bytes));
    journal->end_bytes = sizeof(struct disk_start);
    for (uint64_t i = 0; bytes - journal->end_bytes >= sizeof(struct disk_entry); i++) {
        struct disk_entry disk;
        TRY(file_range_read(journal->descriptor, journal->path, &disk, sizeof disk, journal->end_bytes));
        if (disk.check != entry_check(&disk, i))
            break;
        struct container_journal_entry loaded = {.item = disk.item};
        memcpy(loaded.xxh3, disk.xxh3, sizeof loaded.xxh3);
        TRY(entry(user, &loaded));
        journal->end_bytes += sizeof disk;
    }
fail:
    return status;
}

enum sluice_status container_journal_cut(struct container_journal *journal)
{
    if (ftruncate(journal->descriptor, (off_t)journal->end_bytes) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot shorten: %s", journal->path, strerror(errno));
    return SLUICE_OK;
}

static enum sluice_status sync_journal(struct container_journal *journal)
{
    if (fdatasync(journal->descriptor) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot write to the disk: %s", journal->path, strerror(errno));
    return SLUICE_OK;
}

enum sluice_status container_journal_reset(struct container_journal *journal,
                                           const struct container_journal_start *start)
{
    struct disk_start disk = {.item_count = start->item_count};
    enum sluice_status status;
    memcpy(disk.magic, journal_magic, sizeof disk.magic);
    memcpy(disk.identity, start->identity, sizeof disk.identity);
    snprintf(disk.text, sizeof disk.text, "%s", start->text);
    disk.check = XXH3_64bits(&disk, offsetof(struct disk_start, check));
    if (ftruncate(journal->descriptor, 0) != 0)
        return error_set(SLUICE_ERR_IO, "%s: cannot empty: %s", journal->path, strerror(errno));
    TRY(file_range_write(journal->descriptor, journal->path, &disk, sizeof disk, 0, journal->write, journal->write_user,
                         NULL));
    TRY(sync_journal(journal));
    journal->end_bytes = sizeof disk;
fail:
    return status;
}

enum sluice_status container_journal_append(struct container_journal *journal,
                                            const struct container_journal_entry *entries, uint32_t count)
{
    struct disk_entry disk[ENTRIES_PER_TRANSFER];
    uint64_t end_bytes = journal->end_bytes;
    enum sluice_status status;
    for (uint32_t done = 0; done < count;) {
        uint32_t part = count - done < ENTRIES_PER_TRANSFER ? count - done : ENTRIES_PER_TRANSFER;
        for (uint32_t i = 0; i < part; i++) {
            uint64_t number = (end_bytes - sizeof(struct disk_start)) / sizeof *disk + i;
            disk[i] = (struct disk_entry){.item = entries[done + i].item};
            memcpy(disk[i].xxh3, entries[done + i].xxh3, sizeof disk[i].xxh3);
            disk[i].check = entry_check(&disk[i], number);
        }
        TRY(file_range_write(journal->descriptor, journal->path, disk, part * sizeof *disk, end_bytes, journal->write,
                             journal->write_user, NULL));
        end_bytes += part * sizeof *disk;
        done += part;
    }
    TRY(sync_journal(journal));
    journal->end_bytes = end_bytes;
fail:
    return status;
}
