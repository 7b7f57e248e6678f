// Assertions for our own bugs. They stay on in release builds; what the world can cause is a status instead.
#ifndef SLUICE_BASE_CHECK_H
#define SLUICE_BASE_CHECK_H

// Ends the process with the condition and place in the core dump's and debugger's view.
_Noreturn void check_failed(const char *condition, const char *file, int line);

#define CHECK(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))

#endif
