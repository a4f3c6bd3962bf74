/* Preloaded into a program, puts files under $FAKE_PI in the place of what a Raspberry Pi has, and answers for the chip of
   its pins. A plain file stands in for the registers: it keeps what was written last to each of them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>

static const char *const of_a_pi[] = {"/dev/gpio", "/dev/mem", "/proc/cpuinfo", "/sys/firmware/devicetree"};

static int open_instead(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
    const char *root = getenv("FAKE_PI");
    char instead[4096];
    for (size_t i = 0; root && i < sizeof of_a_pi / sizeof *of_a_pi; i++) {
        if (strncmp(path, of_a_pi[i], strlen(of_a_pi[i])) == 0) {
            snprintf(instead, sizeof instead, "%s%s", root, path);
            return real(instead, flags, mode);
        }
    }
    return real(path, flags, mode);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_instead("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_instead("open64", path, flags, mode);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (request == GPIO_GET_CHIPINFO_IOCTL) {
        struct gpiochip_info *info = argument;
        memset(info, 0, sizeof *info);
        strcpy(info->label, "pinctrl-bcm2711");
        info->lines = 58;
        return 0;
    }
    int (*real)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}
