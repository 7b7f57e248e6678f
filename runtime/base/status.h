// Status codes and the message that goes with the last failure.
//
// Zero is success, a positive value means "not yet", a negative one is a failure. A failure that the world caused
// (a file, a driver, a budget) carries a message for the user: what, where, how much, what to do. The message is kept
// per thread, so a function that hands work to another thread copies it back (error_save, error_restore).
#ifndef SLUICE_BASE_STATUS_H
#define SLUICE_BASE_STATUS_H

#define SLUICE_STATUS_LIST(X)                                      \
    X(SLUICE_OK, 0, "success")                                     \
    X(SLUICE_PENDING, 1, "not finished yet")                       \
    X(SLUICE_ERR_ARGUMENT, -1, "impossible argument or option")    \
    X(SLUICE_ERR_MEMORY, -2, "out of host memory")                 \
    X(SLUICE_ERR_IO, -3, "reading or writing failed")              \
    X(SLUICE_ERR_FORMAT, -4, "not a valid file of this kind")      \
    X(SLUICE_ERR_CHECKSUM, -5, "data does not match its checksum") \
    X(SLUICE_ERR_UNSUPPORTED, -6, "not supported")                 \
    X(SLUICE_ERR_DEVICE, -7, "the graphics device failed")         \
    X(SLUICE_ERR_DEVICE_MEMORY, -8, "out of device memory")        \
    X(SLUICE_ERR_BUDGET, -9, "does not fit the budget")            \
    X(SLUICE_ERR_CANCELLED, -10, "cancelled")

enum sluice_status {
#define X(name, value, text) name = value,
    SLUICE_STATUS_LIST(X)
#undef X
};

enum { ERROR_MESSAGE_BYTES = 1024 };

// A copy of a failure, to carry it from a worker thread to the caller's.
struct error_record {
    enum sluice_status status;
    char message[ERROR_MESSAGE_BYTES];
};

// The list's text for `status`; never NULL.
const char *status_text(enum sluice_status status);

// Sets this thread's message and returns `status`, so that a failure is one line:
//   return error_set(SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
// The text is truncated at ERROR_MESSAGE_BYTES - 1 bytes, never inside a UTF-8 sequence.
enum sluice_status error_set(enum sluice_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Puts "prefix: " in front of this thread's message (a file name, a layer), and returns `status`.
enum sluice_status error_prefix(enum sluice_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// This thread's last message; "" if there was none. Valid until the thread's next failure.
const char *error_message(void);

void error_save(struct error_record *record, enum sluice_status status);
enum sluice_status error_restore(const struct error_record *record);

// Runs `call`; on failure stores the status in the local `status` and jumps to the local label `fail`.
#define TRY(call)        \
    do {                 \
        status = (call); \
        if (status < 0)  \
            goto fail;   \
    } while (0)

#endif
