// SPDX-License-Identifier: Apache-2.0
// Errors inside the library: a status and one line of text with the values that disagree.
#ifndef HONE_BASE_ERROR_H
#define HONE_BASE_ERROR_H

#include <hone/base.h>

// One per context (or per caller). `message` is a single line without a final newline.
typedef struct HoneError {
    hone_status status;
    char message[1024];
} HoneError;

// Record a failure and return `status`, so that `return hone_fail(err, …)` is the whole error path.
// The first failure wins: a later one does not overwrite it until hone_error_clear. err may be
// NULL.
hone_status hone_fail(HoneError *err, hone_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Put "prefix: " before the recorded message (the file's name before a parser's complaint).
hone_status hone_fail_in(HoneError *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Out of memory while asking for `bytes` for `what`.
hone_status hone_fail_memory(HoneError *err, size_t bytes, const char *what);

void hone_error_clear(HoneError *err);

// The only control-flow macro.
#define RETURN_IF_ERROR(call)                                                                      \
    do {                                                                                           \
        hone_status status_ = (call);                                                              \
        if (status_ != HONE_OK) return status_;                                                    \
    } while (0)

#endif
