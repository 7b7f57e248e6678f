// A temporary directory below the working directory, removed with its files; and files made of bytes.
#ifndef SLUICE_TEST_QUANT_TEMPDIR_H
#define SLUICE_TEST_QUANT_TEMPDIR_H

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant_fixture.h"

struct tempdir {
    char path[64];
    char file[512]; // the last result of tempdir_file
};

static inline void tempdir_create(struct tempdir *dir)
{
    snprintf(dir->path, sizeof dir->path, "quant-test-XXXXXX");
    assert_non_null(mkdtemp(dir->path));
}

static inline const char *tempdir_file(struct tempdir *dir, const char *name)
{
    snprintf(dir->file, sizeof dir->file, "%s/%s", dir->path, name);
    return dir->file;
}

static inline size_t tempdir_count(const struct tempdir *dir)
{
    size_t count = 0;
    DIR *stream = opendir(dir->path);
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));)
        count += entry->d_name[0] != '.';
    closedir(stream);
    return count;
}

static inline void tempdir_remove(struct tempdir *dir)
{
    DIR *stream = opendir(dir->path);
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlink(tempdir_file(dir, entry->d_name));
    closedir(stream);
    assert_int_equal(rmdir(dir->path), 0);
}

static inline void file_write(const char *path, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

// A safetensors file of this header and `data_bytes` bytes of data (0, 1, 2, ...).
static inline void safetensors_file_write(const char *path, const char *header, size_t data_bytes)
{
    uint64_t length = strlen(header);
    uint8_t *bytes = malloc(8 + length + data_bytes);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (uint8_t)i;
    file_write(path, bytes, 8 + length + data_bytes);
    free(bytes);
}

#endif
