// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// A message is one line for a person's terminal: what a file brought in must not move the cursor.
static void make_one_line(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = ' ';
}

hone_status hone_fail(HoneError *err, hone_status status, const char *format, ...) {
    if (!err || err->status != HONE_OK) return status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    make_one_line(err->message);
    err->status = status;
    return status;
}

hone_status hone_fail_in(HoneError *err, const char *format, ...) {
    if (!err) return HONE_ERROR_INPUT;
    char prefix[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    size_t used = strlen(prefix), kept = strlen(err->message);
    if (used + 2 + kept >= sizeof err->message) kept = sizeof err->message - used - 3;
    if (used + 3 >= sizeof err->message) return err->status;
    memmove(err->message + used + 2, err->message, kept);
    memcpy(err->message, prefix, used);
    memcpy(err->message + used, ": ", 2);
    err->message[used + 2 + kept] = '\0';
    make_one_line(err->message);
    return err->status;
}

hone_status hone_fail_memory(HoneError *err, size_t bytes, const char *what) {
    return hone_fail(err, HONE_ERROR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}

void hone_error_clear(HoneError *err) {
    if (!err) return;
    err->status = HONE_OK;
    err->message[0] = '\0';
}

const char *hone_status_name(hone_status status) {
    switch (status) {
#define HONE_STATUS_CASE(name, text)                                                               \
    case name:                                                                                     \
        return text;
        HONE_STATUS_LIST(HONE_STATUS_CASE)
#undef HONE_STATUS_CASE
    }
    return "unknown status";
}
