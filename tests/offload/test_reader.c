// Both readers against a file of known content, with every fault that a drive, a kernel or an administrator can cause.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "container_sample.h"
#include "offload/read_memory.h"
#include "offload/reader.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "tests/offload/pinned_memory.h"

enum { PAGE = 4096, FILE_PAGES = 512, MEMORY_PAGES = 256, DEPTH = 8 };

static char folder[64], path[96];
static uint8_t *content; // of the file
static uint8_t *memory;  // destinations
static char last_log[1024];

static void keep_log(void *user, enum log_level level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(last_log, sizeof last_log, "%s", text);
}

static int set_up(void **state)
{
    (void)state;
    uint64_t random = 7;
    folder_create(folder, false);
    snprintf(path, sizeof path, "%s/data", folder);
    content = malloc(FILE_PAGES * PAGE);
    for (size_t i = 0; i < FILE_PAGES * PAGE; i++)
        content[i] = (uint8_t)random_next(&random);
    file_store(path, content, FILE_PAGES * PAGE);
    memory = mmap(NULL, MEMORY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    log_set(keep_log, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(content);
    munmap(memory, MEMORY_PAGES * PAGE);
    folder_remove(folder);
    return 0;
}

// NULL if this machine has no io_uring: then the caller skips.
static struct reader *open_with(enum reader_kind kind, const struct reader_options *options)
{
    struct reader *r;
    struct reader_options o = *options;
    o.kind = kind;
    if (o.depth == 0)
        o.depth = DEPTH;
    enum sluice_status status = reader_create(path, &o, &r);
    if (status == SLUICE_ERR_UNSUPPORTED && kind == READER_URING)
        skip();
    assert_int_equal(status, SLUICE_OK);
    assert_int_equal(reader_kind(r), kind);
    return r;
}

static struct reader_request request(uint64_t tag, uint64_t page, uint64_t pages, uint64_t memory_page)
{
    return (struct reader_request){
        .offset = page * PAGE, .destination = memory + memory_page * PAGE, .bytes = pages * PAGE, .tag = tag};
}

// One request, and how it ended.
static enum sluice_status read_one(struct reader *r, struct reader_request wanted)
{
    struct reader_completion done;
    uint32_t count;
    memset(wanted.destination, 0xEE, wanted.bytes);
    assert_int_equal(reader_submit(r, &wanted, 1), SLUICE_OK);
    assert_int_equal(reader_wait(r, 1, 1, &done, &count, UINT64_MAX), SLUICE_OK);
    assert_int_equal(count, 1);
    assert_true(done.tag == wanted.tag && done.offset == wanted.offset && done.bytes == wanted.bytes);
    if (done.status == SLUICE_OK)
        assert_memory_equal(wanted.destination, content + wanted.offset, wanted.bytes);
    return reader_completion_check(r, &done);
}

// Many random requests at full depth, each checked when it completes.
static void read_many(struct reader *r, uint32_t total)
{
    struct reader_request requests[DEPTH]; // slot i reads into its own eighth of the memory
    bool used[DEPTH] = {false};
    uint64_t random = 99;
    uint32_t submitted = 0, completed = 0;
    while (completed < total) {
        for (uint32_t i = 0; i < DEPTH && submitted < total; i++) {
            if (used[i])
                continue;
            uint64_t pages = 1 + random_next(&random) % 30;
            requests[i] = request(i, random_next(&random) % (FILE_PAGES - pages), pages, i * MEMORY_PAGES / DEPTH);
            memset(requests[i].destination, 0xEE, pages * PAGE);
            assert_int_equal(reader_submit(r, &requests[i], 1), SLUICE_OK);
            used[i] = true;
            submitted++;
        }
        struct reader_completion done[DEPTH];
        uint32_t count;
        assert_int_equal(reader_wait(r, 1, 3, done, &count, UINT64_MAX), SLUICE_OK);
        assert_true(count >= 1 && count <= 3);
        for (uint32_t i = 0; i < count; i++) {
            const struct reader_request *q = &requests[done[i].tag];
            assert_true(used[done[i].tag]);
            assert_int_equal(reader_completion_check(r, &done[i]), SLUICE_OK);
            assert_memory_equal(q->destination, content + q->offset, q->bytes);
            used[done[i].tag] = false;
            completed++;
        }
    }
    assert_int_equal(reader_space(r), DEPTH);
}

static void many_requests(enum reader_kind kind)
{
    const struct reader_options options[] = {
        {0},
        {.buffered = true},
        {.region = memory, .region_bytes = MEMORY_PAGES * PAGE, .region_unit_bytes = 30 * PAGE},
        {.region = memory + 8 * PAGE, .region_bytes = 100 * PAGE}, // some destinations outside, some across its end
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        struct reader *r = open_with(kind, &options[i]);
        assert_true(!options[i].buffered || !reader_is_direct(r));
        read_many(r, 300);
        struct reader_statistics s = reader_statistics(r);
        assert_true(s.requests == 300 && s.reads >= 300 && s.bytes > 300 * PAGE);
        assert_true(s.busy_ns > 0 && s.wait_ns > 0);
        reader_destroy(r);
    }
}

// An expert would get another expert's weights.
static void uring_reads_what_is_there(void **state)
{
    (void)state;
    many_requests(READER_URING);
}

static void pread_reads_what_is_there(void **state)
{
    (void)state;
    many_requests(READER_PREAD);
}

static void faulty(enum reader_kind kind)
{
    const struct {
        struct reader_faults faults;
        enum sluice_status status;
        const char *text;
    } cases[] = {
        {{.short_every = 1}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EINTR, .error_count = 50}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EAGAIN, .error_count = 50}, SLUICE_OK, ""},
        {{.error_at = 1, .error = ECANCELED}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EIO, .error_count = 3}, SLUICE_OK, ""},
        {{.error_at = 1, .error = EIO, .error_count = 4}, SLUICE_ERR_IO, "the drive may be failing"},
        {{.error_at = 1, .error = ENXIO}, SLUICE_ERR_IO, "at offset 40960"},
        {{.error_at = 1, .error = EAGAIN, .error_count = 5000}, SLUICE_ERR_IO, "at offset 40960"},
        {{.short_every = 1, .error_at = 2, .error = EIO, .error_count = 2}, SLUICE_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reader *r = open_with(kind, &(struct reader_options){.faults = &cases[i].faults});
        assert_int_equal(read_one(r, request(5, 10, 20, 3)), cases[i].status);
        if (cases[i].status < 0) {
            assert_non_null(strstr(error_message(), path));
            assert_non_null(strstr(error_message(), cases[i].text));
            if (cases[i].faults.error_count < 1000) // the fault is over, and so is its effect
                assert_int_equal(read_one(r, request(6, 12, 20, 3)), SLUICE_OK);
        }
        struct reader_statistics s = reader_statistics(r);
        assert_true((s.short_reads > 0) == (cases[i].faults.short_every > 0));
        assert_true((s.retries > 0) == (cases[i].faults.error_at > 0 && cases[i].faults.error != ENXIO));
        reader_destroy(r);
    }
    struct reader_faults often = {.short_every = 3, .error_at = 20, .error = EINTR, .error_count = 60};
    struct reader *r = open_with(kind, &(struct reader_options){.faults = &often});
    read_many(r, 200);
    reader_destroy(r);
}

// A signal, a short read or a hiccup of the drive would end a generation, or a dying drive hang it.
static void uring_survives_faults(void **state)
{
    (void)state;
    faulty(READER_URING);
}

static void pread_survives_faults(void **state)
{
    (void)state;
    faulty(READER_PREAD);
}

static void truncated(enum reader_kind kind)
{
    struct reader *r = open_with(kind, &(struct reader_options){0});
    assert_int_equal(truncate(path, 100 * PAGE), 0);
    assert_int_equal(read_one(r, request(1, 90, 10, 0)), SLUICE_OK);
    assert_int_equal(read_one(r, request(1, 90, 20, 0)), SLUICE_ERR_IO);
    assert_non_null(strstr(error_message(), "was cut while in use"));
    assert_int_equal(read_one(r, request(1, 300, 20, 0)), SLUICE_ERR_IO);
    assert_int_equal(truncate(path, 100 * PAGE - 5), 0);
    assert_int_equal(read_one(r, request(1, 90, 10, 0)), SLUICE_ERR_IO);
    reader_destroy(r);
    file_store(path, content, FILE_PAGES * PAGE);
}

// Replacing the model file while it is in use would hang the program or feed it garbage.
static void uring_notices_a_cut_file(void **state)
{
    (void)state;
    truncated(READER_URING);
}

static void pread_notices_a_cut_file(void **state)
{
    (void)state;
    truncated(READER_PREAD);
}

// Waits for at most timeout_ns; on a busy machine that may take as long as the delay, and then it is no error.
static void wait_in_vain(struct reader *r, uint64_t timeout_ns, uint64_t due_ns)
{
    struct reader_completion done;
    uint32_t count;
    if (clock_ns() >= due_ns)
        return;
    enum sluice_status status = reader_wait(r, DEPTH, 1, &done, &count, timeout_ns);
    assert_true((status == SLUICE_PENDING && count == 0) || clock_ns() >= due_ns);
    if (count > 0)
        skip();
}

static void timed(enum reader_kind kind)
{
    const uint64_t delay_ns = 60000000;
    struct reader_faults slow = {.delay_ns = delay_ns};
    struct reader *r = open_with(kind, &(struct reader_options){.faults = &slow});
    struct reader_request requests[DEPTH + 1];
    struct reader_completion done[DEPTH];
    uint32_t count = 99;
    for (uint32_t i = 0; i <= DEPTH; i++)
        requests[i] = request(i, i * 3, 2, i * 2);
    assert_int_equal(reader_wait(r, 5, DEPTH, done, &count, UINT64_MAX), SLUICE_OK); // nothing outstanding
    assert_int_equal(count, 0);
    assert_int_equal(reader_submit(r, requests, DEPTH + 1), SLUICE_PENDING);
    assert_int_equal(reader_space(r), DEPTH);
    uint64_t due_ns = clock_ns() + delay_ns;
    assert_int_equal(reader_submit(r, requests, DEPTH), SLUICE_OK);
    assert_int_equal(reader_submit(r, requests, 1), SLUICE_PENDING);
    wait_in_vain(r, 0, due_ns);
    wait_in_vain(r, 1000000, due_ns);
    assert_int_equal(reader_wait(r, DEPTH, DEPTH, done, &count, UINT64_MAX), SLUICE_OK);
    assert_true(clock_ns() >= due_ns);
    assert_int_equal(count, DEPTH);
    assert_int_equal(reader_wait(r, 0, 1, done, &count, 0), SLUICE_OK);
    reader_destroy(r);
}

// The GPU would wait for reads that came long ago, or the program spin on one that is late.
static void uring_waits_as_told(void **state)
{
    (void)state;
    timed(READER_URING);
}

static void pread_waits_as_told(void **state)
{
    (void)state;
    timed(READER_PREAD);
}

// Leaving in the middle of a document would let the drive write into memory that is somebody else's by then.
static void destroy_waits_for_what_is_in_flight(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int i = 0; i < 2; i++)
        for (int n = 0; n < 20; n++) {
            struct reader *r = open_with(kinds[i], &(struct reader_options){0});
            struct reader_request requests[DEPTH];
            for (uint32_t k = 0; k < DEPTH; k++)
                requests[k] = request(k, k * 30, 30, k * 32);
            assert_int_equal(reader_submit(r, requests, DEPTH), SLUICE_OK);
            reader_destroy(r);
            memset(memory, 0x55, MEMORY_PAGES * PAGE);
        }
    for (size_t i = 0; i < MEMORY_PAGES * PAGE; i++)
        assert_int_equal(memory[i], 0x55);
}

enum { WAKE_UPS = 50 };

struct waiter {
    struct reader *reader;
    atomic_uint woken; // how often
};

// For a read that takes an hour.
static void *wait_for_ever(void *user)
{
    struct waiter *waiter = user;
    struct reader_completion done;
    struct reader_request wanted = request(1, 0, 5, 0);
    uint32_t count;
    if (reader_submit(waiter->reader, &wanted, 1) != SLUICE_OK)
        return NULL;
    for (; waiter->woken < WAKE_UPS; waiter->woken++)
        if (reader_wait(waiter->reader, 1, 1, &done, &count, UINT64_MAX) != SLUICE_PENDING || count > 0)
            return NULL;
    return waiter;
}

// A new request would wait until an earlier one of a slow drive is done.
static void a_waiting_thread_can_be_woken(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    const struct reader_faults slow = {.delay_ns = UINT64_C(3600) * 1000000000};
    for (int i = 0; i < 2; i++) {
        struct waiter waiter = {.reader = open_with(kinds[i], &(struct reader_options){.faults = &slow})};
        pthread_t thread;
        void *result;
        assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, &waiter), 0);
        for (uint32_t n = 0; n < WAKE_UPS; n++) {
            if (n % 2)
                usleep(1000); // most likely it waits by then
            reader_wake(waiter.reader);
            while (waiter.woken == n)
                usleep(10);
        }
        pthread_join(thread, &result);
        assert_ptr_equal(result, &waiter);
        reader_destroy(waiter.reader);
    }
}

static void *read_some(void *user)
{
    read_many(user, 20);
    return user;
}

// A server that serves each request on another thread would hang, or fail with a riddle (EEXIST).
static void threads_may_take_turns(void **state)
{
    (void)state;
    const enum reader_kind kinds[] = {READER_PREAD, READER_URING};
    for (int i = 0; i < 2; i++) {
        struct reader *r = open_with(kinds[i], &(struct reader_options){0});
        for (int n = 0; n < 5; n++) {
            pthread_t thread;
            void *result;
            assert_int_equal(pthread_create(&thread, NULL, read_some, r), 0);
            pthread_join(thread, &result);
            assert_ptr_equal(result, r);
            read_many(r, 20);
        }
        reader_destroy(r);
    }
}

static void *create_elsewhere(void *user)
{
    (void)user;
    struct reader *r;
    struct reader_options options = {.kind = READER_URING, .depth = DEPTH};
    return reader_create(path, &options, &r) == SLUICE_OK ? r : NULL;
}

// An engine opened on one thread and used on another would fail with a riddle (EEXIST).
static void another_thread_may_create(void **state)
{
    (void)state;
    pthread_t thread;
    void *r;
    assert_int_equal(pthread_create(&thread, NULL, create_elsewhere, NULL), 0);
    pthread_join(thread, &r);
    if (!r)
        skip();
    read_many(r, 20);
    reader_destroy(r);
}

// The program would not start where io_uring or O_DIRECT are missing, though it could.
static void falls_back_with_a_note(void **state)
{
    (void)state;
    struct reader *r;
    struct reader_faults forbidden = {.setup_error = EPERM}, no_direct = {.direct_error = EINVAL};
    struct reader_options options = {.kind = READER_AUTO, .depth = DEPTH, .faults = &forbidden};
    last_log[0] = '\0';
    assert_int_equal(reader_create(path, &options, &r), SLUICE_OK);
    assert_int_equal(reader_kind(r), READER_PREAD);
    assert_non_null(strstr(last_log, "threads instead"));
    read_many(r, 20);
    reader_destroy(r);
    options.kind = READER_URING;
    assert_int_equal(reader_create(path, &options, &r), SLUICE_ERR_UNSUPPORTED);
    assert_non_null(strstr(error_message(), "io_uring_disabled"));
    options.kind = READER_PREAD;
    options.faults = &no_direct;
    assert_int_equal(reader_create(path, &options, &r), SLUICE_OK);
    assert_false(reader_is_direct(r));
    assert_non_null(strstr(last_log, "O_DIRECT"));
    read_many(r, 20);
    reader_destroy(r);
    options.kind = READER_URING;
    options.faults = &(struct reader_faults){.register_error = ENOMEM};
    options.region = memory;
    options.region_bytes = MEMORY_PAGES * PAGE;
    if (reader_create(path, &options, &r) == SLUICE_ERR_UNSUPPORTED)
        skip();
    assert_false(reader_is_region_registered(r));
    assert_non_null(strstr(last_log, "ulimit -l"));
    read_many(r, 20);
    reader_destroy(r);
}

// On an older kernel the program would not start, or lose completions.
static void uring_works_without_setup_flags(void **state)
{
    (void)state;
    struct reader_faults faults = {.old_kernel = true};
    struct reader *r = open_with(READER_URING, &(struct reader_options){.faults = &faults});
    read_many(r, 50);
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
    struct reader *r =
        open_with(READER_URING, &(struct reader_options){.faults = &old, .region = region, .region_bytes = bytes});
    assert_false(reader_is_region_registered(r));
    read_many(r, 20);
    reader_destroy(r);
    munmap(region, bytes);
}

// With more than 1 GiB of RAM tier, reads into slots at the border of two registered buffers would fail.
static void uring_reads_across_registered_buffers(void **state)
{
    (void)state;
    struct reader_faults small = {.registered_bytes_max = 7 * PAGE};
    struct reader *r =
        open_with(READER_URING,
                  &(struct reader_options){.faults = &small, .region = memory, .region_bytes = MEMORY_PAGES * PAGE});
    assert_true(reader_is_region_registered(r));
    for (uint64_t page = 0; page < 16; page++) {
        assert_int_equal(read_one(r, request(page, page, 7, page)), SLUICE_OK); // inside one for 0, 7 and 14 only
        assert_int_equal(read_one(r, request(page, page, 1, page)), SLUICE_OK);
    }
    read_many(r, 50);
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
    struct reader *r =
        open_with(READER_URING,
                  &(struct reader_options){.region = slots, .region_bytes = SLOTS * PAGE, .region_unit_bytes = PAGE});
    assert_true(reader_is_region_registered(r));
    unsigned long pinned = pinned_kilobytes();
    for (uint32_t i = 0; i < SLOTS; i += 7) {
        struct reader_request wanted = {
            .offset = i % FILE_PAGES * PAGE, .destination = slots + i * PAGE, .bytes = PAGE};
        assert_int_equal(read_one(r, wanted), SLUICE_OK);
    }
    reader_region_shrink(r, LEFT * PAGE);
    read_memory_unmap(slots + LEFT * PAGE, (SLOTS - LEFT) * PAGE);
    assert_true(reader_is_region_registered(r));
    if (pinned > 0)
        assert_true(pinned_kilobytes() < pinned);
    struct reader_request last = {.offset = PAGE, .destination = slots + (LEFT - 1) * PAGE, .bytes = PAGE};
    assert_int_equal(read_one(r, last), SLUICE_OK);
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
    if (reader_create(path, &options, &r) != SLUICE_OK || reader_kind(r) != READER_PREAD)
        return 1;
    reader_destroy(r);
    options.kind = READER_URING;
    return reader_create(path, &options, &r) == SLUICE_ERR_UNSUPPORTED ? 0 : 2;
}

// An ordinary user with a small limit of locked memory; `hard_bytes` is what he may raise it to.
static int read_with_limit(rlim_t hard_bytes)
{
    const struct rlimit limit = {16384, hard_bytes};
    struct reader *r;
    struct reader_options options = {
        .kind = READER_URING, .depth = DEPTH, .region = memory, .region_bytes = MEMORY_PAGES * PAGE};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (geteuid() == 0 && setuid(65534) != 0))
        return 77;
    enum sluice_status status = reader_create(path, &options, &r);
    if (status == SLUICE_ERR_UNSUPPORTED)
        return 77;
    if (status != SLUICE_OK || reader_is_region_registered(r) != (hard_bytes > MEMORY_PAGES * PAGE))
        return 1;
    struct reader_completion done;
    uint32_t count;
    struct reader_request wanted = request(1, 3, 5, 0);
    if (reader_submit(r, &wanted, 1) != SLUICE_OK || reader_wait(r, 1, 1, &done, &count, UINT64_MAX) != SLUICE_OK ||
        done.status != SLUICE_OK)
        return 2;
    reader_destroy(r);
    return memcmp(memory, content + 3 * PAGE, 5 * PAGE) == 0 ? 0 : 3;
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
    assert_int_equal(chmod(folder, 0755), 0);
    assert_child(read_without_locked_memory);
    assert_child(read_with_enough_locked_memory);
}

// The weights would come from another file than the directory that describes them.
static void a_replaced_file_is_refused(void **state)
{
    (void)state;
    char other[96];
    struct reader *r;
    snprintf(other, sizeof other, "%s/other", folder);
    file_store(other, content, 8 * PAGE);
    int descriptor = open(other, O_RDONLY);
    struct reader_options options = {
        .kind = READER_PREAD, .depth = 1, .same_file = true, .same_file_descriptor = descriptor};
    assert_int_equal(reader_create(path, &options, &r), SLUICE_ERR_IO);
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
    assert_int_equal(reader_create(path, &options, &r), SLUICE_ERR_ARGUMENT);
    options.depth = READER_DEPTH_MAX + 1;
    assert_int_equal(reader_create(path, &options, &r), SLUICE_ERR_ARGUMENT);
    options.depth = 1;
    options.region = memory + 1;
    options.region_bytes = PAGE;
    assert_int_equal(reader_create(path, &options, &r), SLUICE_ERR_ARGUMENT);
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
            .kind = kinds[i], .depth = DEPTH, .region = memory, .region_bytes = MEMORY_PAGES * PAGE};
        enum sluice_status status = SLUICE_ERR_MEMORY;
        for (uint64_t index = 0; status == SLUICE_ERR_MEMORY; index++) {
            struct reader *r;
            mem_fail_at(index);
            status = reader_create(path, &options, &r);
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
        cmocka_unit_test(uring_reads_what_is_there),
        cmocka_unit_test(pread_reads_what_is_there),
        cmocka_unit_test(uring_survives_faults),
        cmocka_unit_test(pread_survives_faults),
        cmocka_unit_test(uring_notices_a_cut_file),
        cmocka_unit_test(pread_notices_a_cut_file),
        cmocka_unit_test(uring_waits_as_told),
        cmocka_unit_test(pread_waits_as_told),
        cmocka_unit_test(destroy_waits_for_what_is_in_flight),
        cmocka_unit_test(a_waiting_thread_can_be_woken),
        cmocka_unit_test(threads_may_take_turns),
        cmocka_unit_test(another_thread_may_create),
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
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
