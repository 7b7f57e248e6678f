// Creating readers where the kernel, a limit or the caller allows less than they want.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "container_sample.h"
#include "offload/read_memory.h"
#include "runtime/base/mem.h"
#include "tests/offload/pinned_memory.h"
#include "tests/offload/reader_case.h"

// The program would not start where io_uring or O_DIRECT are missing, though it could.
static void falls_back_with_a_note(void **state)
{
    (void)state;
    struct reader *r;
    struct reader_faults forbidden = {.setup_error = EPERM}, no_direct = {.direct_error = EINVAL};
    struct reader_options options = {.kind = READER_AUTO, .depth = DEPTH, .faults = &forbidden};
    reader_case.log[0] = '\0';
    assert_int_equal(reader_create(reader_case.path, &options, &r), SLUICE_OK);
    assert_int_equal(reader_kind(r), READER_PREAD);
    assert_non_null(strstr(reader_case.log, "threads instead"));
    reader_case_read_many(r, 20);
    reader_destroy(r);
    options.kind = READER_URING;
    assert_int_equal(reader_create(reader_case.path, &options, &r), SLUICE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error_message(), "io_uring_disabled"));
    options.kind = READER_PREAD;
    options.faults = &no_direct;
    assert_int_equal(reader_create(reader_case.path, &options, &r), SLUICE_OK);
    assert_false(reader_is_direct(r));
    assert_non_null(strstr(reader_case.log, "O_DIRECT"));
    reader_case_read_many(r, 20);
    reader_destroy(r);
    options.kind = READER_URING;
    options.faults = &(struct reader_faults){.register_error = ENOMEM};
    options.region = reader_case.memory;
    options.region_bytes = MEMORY_PAGES * PAGE;
    if (reader_create(reader_case.path, &options, &r) == SLUICE_ERR_UNSUPPORTED)
        skip();
    assert_false(reader_is_region_registered(r));
    assert_non_null(strstr(reader_case.log, "ulimit -l"));
    reader_case_read_many(r, 20);
    reader_destroy(r);
}

// On an older kernel the program would not start, or lose completions.
static void uring_works_without_setup_flags(void **state)
{
    (void)state;
    struct reader_faults faults = {.old_kernel = true};
    struct reader *r = reader_case_open(READER_URING, &(struct reader_options){.faults = &faults});
    reader_case_read_many(r, 50);
    reader_destroy(r);
}

// On a kernel before 6.12 opening a large model would take minutes; the memory is never touched here.
static void large_regions_are_not_registered_slowly(void **state)
{
    (void)state;
    const size_t bytes = (size_t)1 << 31;
    struct reader_faults old = {.old_kernel = true};
    void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(region, MAP_FAILED);
    const struct reader_options options = {.faults = &old, .region = region, .region_bytes = bytes};
    struct reader *r = reader_case_open(READER_URING, &options);
    assert_false(reader_is_region_registered(r));
    reader_case_read_many(r, 20);
    reader_destroy(r);
    munmap(region, bytes);
}

// With more than 1 GiB of RAM tier, reads into slots at the border of two registered buffers would fail.
static void uring_reads_across_registered_buffers(void **state)
{
    (void)state;
    struct reader_faults small = {.registered_bytes_max = 7 * PAGE};
    const struct reader_options options = {
        .faults = &small, .region = reader_case.memory, .region_bytes = MEMORY_PAGES * PAGE};
    struct reader *r = reader_case_open(READER_URING, &options);
    assert_true(reader_is_region_registered(r));
    for (uint64_t page = 0; page < 16; page++) { // seven pages are inside one buffer for 0, 7 and 14 only
        assert_int_equal(reader_case_read(r, reader_case_request(page, page, 7, page)), SLUICE_OK);
        assert_int_equal(reader_case_read(r, reader_case_request(page, page, 1, page)), SLUICE_OK);
    }
    reader_case_read_many(r, 50);
    reader_destroy(r);
}

// Slots that the kernel does not know as huge pages would cost several times the processor time per read; one of more
// slots than the kernel registers buffers could not be read to; and what a pool gives back would stay.
static void uring_reads_to_more_slots_than_buffers(void **state)
{
    (void)state;
    enum { SLOTS = 1500, LEFT = 700 }; // of one page
    uint8_t *slots = read_memory_map(SLOTS * PAGE);
    assert_non_null(slots);
    assert_int_equal((uintptr_t)slots % READ_MEMORY_HUGE_BYTES, 0);
    const struct reader_options options = {.region = slots, .region_bytes = SLOTS * PAGE, .region_unit_bytes = PAGE};
    struct reader *r = reader_case_open(READER_URING, &options);
    assert_true(reader_is_region_registered(r));
    unsigned long pinned = pinned_kilobytes();
    for (uint32_t i = 0; i < SLOTS; i += 7) {
        struct reader_request wanted = {
            .offset = i % FILE_PAGES * PAGE, .destination = slots + i * PAGE, .bytes = PAGE};
        assert_int_equal(reader_case_read(r, wanted), SLUICE_OK);
    }
    reader_region_shrink(r, LEFT * PAGE);
    read_memory_unmap(slots + LEFT * PAGE, (SLOTS - LEFT) * PAGE);
    assert_true(reader_is_region_registered(r));
    if (pinned > 0)
        assert_true(pinned_kilobytes() < pinned);
    struct reader_request last = {.offset = PAGE, .destination = slots + (LEFT - 1) * PAGE, .bytes = PAGE};
    assert_int_equal(reader_case_read(r, last), SLUICE_OK);
    reader_destroy(r);
    read_memory_unmap(slots, LEFT * PAGE);
}

// The real thing: a kernel that denies io_uring_setup, as in containers.
static int read_without_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct reader *r;
    struct reader_options options = {.kind = READER_AUTO, .depth = DEPTH};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 77;
    if (reader_create(reader_case.path, &options, &r) != SLUICE_OK || reader_kind(r) != READER_PREAD)
        return 1;
    reader_destroy(r);
    options.kind = READER_URING;
    return reader_create(reader_case.path, &options, &r) == SLUICE_ERR_UNSUPPORTED ? 0 : 2;
}

// An ordinary user with a small limit of locked memory; `hard_bytes` is what he may raise it to.
static int read_with_limit(rlim_t hard_bytes)
{
    const struct rlimit limit = {16384, hard_bytes};
    struct reader *r;
    struct reader_options options = {
        .kind = READER_URING, .depth = DEPTH, .region = reader_case.memory, .region_bytes = MEMORY_PAGES * PAGE};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (geteuid() == 0 && setuid(65534) != 0))
        return 77;
    enum sluice_status status = reader_create(reader_case.path, &options, &r);
    if (status == SLUICE_ERR_UNSUPPORTED)
        return 77;
    if (status != SLUICE_OK || reader_is_region_registered(r) != (hard_bytes > MEMORY_PAGES * PAGE))
        return 1;
    struct reader_completion done;
    uint32_t count;
    struct reader_request wanted = reader_case_request(1, 3, 5, 0);
    if (reader_submit(r, &wanted, 1) != SLUICE_OK || reader_wait(r, 1, 1, &done, &count, UINT64_MAX) != SLUICE_OK ||
        done.status != SLUICE_OK)
        return 2;
    reader_destroy(r);
    return memcmp(reader_case.memory, reader_case.content + 3 * PAGE, 5 * PAGE) == 0 ? 0 : 3;
}

static int read_without_locked_memory(void)
{
    return read_with_limit(16384);
}

static int read_with_enough_locked_memory(void)
{
    return read_with_limit(4 << 20); // below the usual hard limit of 8 MiB, so that nobody needs a privilege
}

static void assert_child(int (*function)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(function());
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    if (WEXITSTATUS(result) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(result), 0);
}

// In a container, or with the sysctl set, the program would not start.
static void forbidden_uring_is_replaced(void **state)
{
    (void)state;
    assert_child(read_without_uring);
}

// With the usual limit of 8 MiB of locked memory the program would not start.
static void small_memory_lock_limit_is_survived(void **state)
{
    (void)state;
    assert_int_equal(chmod(reader_case.folder, 0755), 0);
    assert_child(read_without_locked_memory);
    assert_child(read_with_enough_locked_memory);
}

// The weights would come from another file than the directory that describes them.
static void a_replaced_file_is_refused(void **state)
{
    (void)state;
    char other[96];
    struct reader *r;
    snprintf(other, sizeof other, "%s/other", reader_case.folder);
    file_store(other, reader_case.content, 8 * PAGE);
    int descriptor = open(other, O_RDONLY);
    struct reader_options options = {
        .kind = READER_PREAD, .depth = 1, .same_file = true, .same_file_descriptor = descriptor};
    assert_int_equal(reader_create(reader_case.path, &options, &r), SLUICE_ERR_IO);
    assert_null(r);
    assert_int_equal(reader_create(other, &options, &r), SLUICE_OK);
    reader_destroy(r);
    close(descriptor);
}

// A wrong setting would crash instead of being named.
static void impossible_options_are_refused(void **state)
{
    (void)state;
    struct reader *r;
    struct reader_options options = {.depth = 0};
    assert_int_equal(reader_create(reader_case.path, &options, &r), SLUICE_ERR_ARGUMENT);
    options.depth = READER_DEPTH_MAX + 1;
    assert_int_equal(reader_create(reader_case.path, &options, &r), SLUICE_ERR_ARGUMENT);
    options.depth = 1;
    options.region = reader_case.memory + 1;
    options.region_bytes = PAGE;
    assert_int_equal(reader_create(reader_case.path, &options, &r), SLUICE_ERR_ARGUMENT);
    assert_int_equal(reader_create("/nowhere/file", &(struct reader_options){.depth = 1}, &r), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "/nowhere/file"));
    reader_destroy(NULL);
}

// Running out of memory would crash or leak threads.
static void every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int i = 0; i < 2; i++) {
        struct reader_options options = {
            .kind = kinds[i], .depth = DEPTH, .region = reader_case.memory, .region_bytes = MEMORY_PAGES * PAGE};
        enum sluice_status status = SLUICE_ERR_MEMORY;
        for (uint64_t index = 0; status == SLUICE_ERR_MEMORY; index++) {
            struct reader *r;
            mem_fail_at(index);
            status = reader_create(reader_case.path, &options, &r);
            mem_fail_at(UINT64_MAX);
            assert_true((status == SLUICE_OK) == (r != NULL));
            reader_destroy(r);
            assert_true(index <= 12);
        }
        assert_true(status == SLUICE_OK || status == SLUICE_ERR_UNSUPPORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(falls_back_with_a_note),
        cmocka_unit_test(uring_works_without_setup_flags),
        cmocka_unit_test(large_regions_are_not_registered_slowly),
        cmocka_unit_test(uring_reads_across_registered_buffers),
        cmocka_unit_test(uring_reads_to_more_slots_than_buffers),
        cmocka_unit_test(forbidden_uring_is_replaced),
        cmocka_unit_test(small_memory_lock_limit_is_survived),
        cmocka_unit_test(a_replaced_file_is_refused),
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, reader_case_set_up, reader_case_tear_down);
}
