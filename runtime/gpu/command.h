// Recording and submitting work.
//
// Hazards are tracked below here and nowhere else: a dispatch or copy that touches a range which an earlier one of the
// same command wrote (or that writes what an earlier one read) gets a barrier in front of it; independent ones get
// none. Which bindings a kernel writes comes from SPIR-V reflection. A command begins with a barrier against everything
// submitted before and ends with one that makes readback buffers visible to the host.
//
// What is recorded is kept as data until it is submitted. What is the same, to the byte, as what was submitted earlier
// is submitted again as it was recorded then, without calls of the driver or search for hazards; see gpu_part.
// Recording pays for a content the first two times.
#ifndef SLUICE_GPU_COMMAND_H
#define SLUICE_GPU_COMMAND_H

#include "runtime/gpu/buffer.h"
#include "runtime/gpu/kernel.h"

struct gpu_command;

// Begins a command. Errors: SLUICE_ERR_DEVICE (the device was lost), SLUICE_ERR_MEMORY.
enum sluice_status gpu_command_begin(struct gpu_device *device, struct gpu_command **command);

// Binding i is ranges[i]; where binding 0 is an array of buffers, all of them come first. `count` and `push_bytes` must
// match the reflected shader. Sizes of the grid are in workgroups; zero in any of them records nothing. Failures while
// recording are kept and returned by gpu_command_submit.
void gpu_dispatch(struct gpu_command *command, const struct gpu_kernel *kernel, const struct gpu_range *ranges,
                  unsigned count, const void *push, size_t push_bytes, uint32_t groups_x, uint32_t groups_y,
                  uint32_t groups_z);

// `from` and `to` have the same size.
void gpu_copy(struct gpu_command *command, struct gpu_range from, struct gpu_range to);

// Fills with zero bytes.
void gpu_clear(struct gpu_command *command, struct gpu_range range);

// What follows is a part of its own: looked up, and recorded if need be, independently of what precedes it. Put where
// what varies from command to command begins and ends. A part begins with a barrier as a command does, so best where
// one is needed anyway. Nothing happens where nothing precedes it, nor when a command has eight parts.
void gpu_part(struct gpu_command *command);

// A part that its caller knows to be the same whenever it is recorded: what was submitted for it. All zero: nothing
// yet.
struct gpu_memo {
    struct recording *recording;
    uint64_t serial, key;
};

// Begins a part that is the same as ever with this memo and this key, whose meaning is the caller's; the next gpu_part
// ends it. True: it is known, and nothing is to be recorded; false: it is to be recorded now. Saves finding out by
// recording and comparing. Now and then it is not believed, and compared (a difference is the caller's bug: CHECK).
// `memo` must stay until the command is submitted or cancelled, and is for one device.
bool gpu_again(struct gpu_command *command, struct gpu_memo *memo, uint64_t key);

// The same for a part whose kernels with an array of buffers all bind the array `ranges[count]`, filled up with the
// last one; they only read it, and nothing else in the part writes to it. It may hold other buffers each time, which
// needs no recording where the driver can put them into descriptor sets that are recorded; elsewhere what is known is
// known of these buffers only. What is recorded into the part is given the array as ever.
bool gpu_again_array(struct gpu_command *command, struct gpu_memo *memo, uint64_t key, const struct gpu_range *ranges,
                     unsigned count);

// Time from here on is counted under `label` (a string literal) as well as under the kernels' names.
void gpu_label(struct gpu_command *command, const char *label);

// Keeps the thread's error message and `status` (< 0) as the command's failure, so that a caller that cannot return
// one, such as an operation whose kernel does not compile, fails the submission. The first failure wins.
void gpu_command_fail(struct gpu_command *command, enum sluice_status status);

// Ends recording and submits; the command belongs to the device again, also on failure. `tick` may be NULL.
// Errors: SLUICE_ERR_DEVICE, SLUICE_ERR_DEVICE_MEMORY.
enum sluice_status gpu_command_submit(struct gpu_command *command, uint64_t *tick);

// The same for several commands in one vkQueueSubmit, which run in this order with a tick each: ticks[count], may be
// NULL. All of them belong to the device again, also on failure; then none was submitted.
enum { GPU_SUBMIT_COMMANDS_MAX = 4 };
enum sluice_status gpu_commands_submit(struct gpu_command *const *commands, unsigned count, uint64_t *ticks);

// Gives up a command without submitting. NULL is allowed.
void gpu_command_cancel(struct gpu_command *command);

// GPU time since the device was created or the times were reset; only with gpu_device_options.timestamps. `visit` is
// called once per kernel ("copy" and "clear" for those) and once per gpu_label, with total time and number of
// operations of the submissions that are complete. An operation is charged with the time from the end of the one before
// it.
typedef void gpu_time_visit(void *user, const char *label, uint64_t total_ns, uint64_t count);
void gpu_times(struct gpu_device *device, gpu_time_visit *visit, void *user);
void gpu_times_reset(struct gpu_device *device);

// Switches measuring on or off for the commands begun from now on, whatever gpu_device_options said. Returns whether it
// is on now: not every device has timestamps.
bool gpu_times_enable(struct gpu_device *device, bool enable);
bool gpu_times_enabled(const struct gpu_device *device);

#endif
