// SPDX-License-Identifier: Apache-2.0
// Status codes and the context: what every other part of the public interface stands on.
//
//     HoneContext *ctx = NULL;
//     if (hone_context_create(NULL, &ctx) != HONE_OK) return 1;
//     HoneModel *model = NULL;
//     if (hone_model_load(ctx, "model.gguf", &model) != HONE_OK)
//         fprintf(stderr, "%s\n", hone_context_error(ctx));
//
// Nothing in the library prints, exits or keeps global state. A context and what is made with it
// belong to one thread at a time; several contexts may be used at once from several threads.
#ifndef HONE_BASE_H
#define HONE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HONE_VERSION "0.1.0"

// clang-format off
#define HONE_STATUS_LIST(X)                                                    \
    X(HONE_OK,                "ok")                                            \
    X(HONE_ERROR_ARGUMENT,    "wrong argument or option")                      \
    X(HONE_ERROR_INPUT,       "unreadable or malformed input")                 \
    X(HONE_ERROR_UNSUPPORTED, "well-formed input that Hone does not support")  \
    X(HONE_ERROR_IO,          "an operating-system call failed")               \
    X(HONE_ERROR_MEMORY,      "out of memory")                                 \
    X(HONE_ERROR_NUMERIC,     "NaN or infinity where none may be")             \
    X(HONE_INTERRUPTED,       "stopped on request; what was reached is kept")
// clang-format on

typedef enum hone_status {
#define HONE_STATUS_ENUM(name, text) name,
    HONE_STATUS_LIST(HONE_STATUS_ENUM)
#undef HONE_STATUS_ENUM
} hone_status;

// A short English name; never NULL.
const char *hone_status_name(hone_status status);

typedef struct HoneContext HoneContext;

typedef struct HoneContextOptions {
    int threads;     // 0: the physical cores this process may use (affinity and cgroup quota)
    const char *isa; // NULL: $HONE_ISA, else the best level this processor has; else "generic", …
    // Keep models in memory of their own: once hone_model_load has returned, nothing reads their
    // files. Else they are mapped, and a file that is cut short afterwards is a SIGBUS for whoever
    // reads there; the program may answer it, as the hone command does.
    bool copy_models;
} HoneContextOptions;

// Make a context. options: NULL for the defaults. On failure *context holds only the message for
// hone_context_error (it is NULL when not even that had memory). Caller frees it in any case.
hone_status hone_context_create(const HoneContextOptions *options, HoneContext **context);

// Free a context; everything made with it must have been freed before. NULL is allowed.
void hone_context_free(HoneContext *context);

// The last failure's message: one line, with file, place and the values that disagree. "" when the
// last call succeeded. Valid until the next call with this context. context may be NULL.
const char *hone_context_error(const HoneContext *context);

int hone_context_threads(const HoneContext *context);
const char *hone_context_isa(const HoneContext *context);

// The one of `count` known words that is nearest to `word`, at most three changes away and with
// half of it unchanged; NULL: none is near.
const char *hone_nearest(const char *word, const char *const *known, int count);

// Free memory that the library handed out ("caller frees with hone_free"). NULL is allowed.
void hone_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
