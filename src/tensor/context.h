// SPDX-License-Identifier: Apache-2.0
// What stands behind HoneContext: the last error, the threads and the kernels that everything made
// with it works with. It lies this low so that each floor above can be a library of its own.
#ifndef HONE_TENSOR_CONTEXT_H
#define HONE_TENSOR_CONTEXT_H

#include "base/error.h"
#include "base/pool.h"
#include "kernels/kernels.h"

struct HoneContext {
    HoneError error;
    ThreadPool *pool;
    KernelContext kernels;
    bool copies; // model files are copied, not mapped
};

// Begin a public call: forget the last message.
static inline HoneError *hone_begin(HoneContext *context) {
    hone_error_clear(&context->error);
    return &context->error;
}

#endif
