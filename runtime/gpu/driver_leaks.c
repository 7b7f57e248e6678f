// Sanitizer builds only, compiled into every program that uses a device. Drivers leak a little (llvmpipe of Mesa 22.3:
// 128 bytes per device). LeakSanitizer can forgive a library by name only while it is loaded, but
// the Vulkan loader unloads drivers with the last instance: so nothing is unloaded, and the drivers are named.
#include <dlfcn.h>

const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libvulkan_\nleak:libLLVM\n";
}

int dlclose(void *library)
{
    (void)library;
    return 0;
}
