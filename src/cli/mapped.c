// SPDX-License-Identifier: Apache-2.0
// A file that is mapped can be cut short by somebody else, or its disk can fail: whoever reads the
// pages that are gone is sent SIGBUS. It gets its one line like any other failure.
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"

enum { LONGEST_LINE = 4352 };

static char command_name[32];
static atomic_flag told = ATOMIC_FLAG_INIT; // by one thread, however many meet the lost page

static void say(const char *text, size_t length) {
    const ssize_t put = write(STDERR_FILENO, text, length);
    (void)put; // there may be nobody to tell
}

static uintptr_t hexadecimal(const char **at) {
    uintptr_t value = 0;
    for (;; (*at)++) {
        const char c = **at;
        if (c >= '0' && c <= '9')
            value = value * 16 + (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (uintptr_t)(c - 'a' + 10);
        else
            return value;
    }
}

// The file in a line of /proc/self/maps, "begin-end … /path", if the address lies in it.
static const char *file_at(const char *line, uintptr_t address) {
    const uintptr_t begin = hexadecimal(&line);
    if (*line++ != '-') return NULL;
    const uintptr_t end = hexadecimal(&line);
    return address >= begin && address < end ? strchr(line, '/') : NULL;
}

// Only what may be called inside a signal handler.
static void name_file(uintptr_t address) {
    char line[LONGEST_LINE];
    size_t length = 0;
    const int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (char c; maps >= 0 && read(maps, &c, 1) == 1;) {
        line[length] = c == '\n' ? '\0' : c;
        if (c != '\n' && length + 1 < sizeof line) length++;
        if (c != '\n') continue;
        length = 0;
        const char *file = file_at(line, address);
        if (!file) continue;
        say(file, strlen(file));
        return;
    }
    say("a file", 6);
}

static void on_lost_page(int number, siginfo_t *info, void *unused) {
    static const char what[] =
        ": was cut short or cannot be read any more; what was saved before, if anything, stays\n";
    (void)number, (void)unused;
    while (atomic_flag_test_and_set(&told)) pause();
    say("hone ", 5);
    say(command_name, strlen(command_name));
    say(": ", 2);
    name_file((uintptr_t)info->si_addr);
    say(what, sizeof what - 1);
    _exit(EXIT_WORK);
}

void watch_maps(const char *command) {
    struct sigaction action = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO};
    snprintf(command_name, sizeof command_name, "%s", command);
    sigaction(SIGBUS, &action, NULL);
}
