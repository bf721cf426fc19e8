// SPDX-License-Identifier: Apache-2.0
#include "tensor/context.h"

#include "base/memory.h"
#include "base/system.h"

hone_status hone_context_create(const HoneContextOptions *options, HoneContext **context) {
    if (!context) return HONE_ERROR_ARGUMENT;
    *context = hone_calloc(1, sizeof **context);
    if (!*context) return HONE_ERROR_MEMORY;
    HoneError *err = &(*context)->error;
    int threads = options ? options->threads : 0;
    if (threads < 0 || threads > 1024)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "threads is %d, want 1…1024 (0: as many as cores)", threads);
    (*context)->copies = options && options->copy_models;
    RETURN_IF_ERROR(
        hone_kernel_table(options ? options->isa : NULL, &(*context)->kernels.table, err));
    (*context)->pool = hone_pool_create(threads ? threads : hone_physical_cores());
    if (!(*context)->pool) return hone_fail_memory(err, sizeof(void *), "the thread pool");
    (*context)->kernels.pool = (*context)->pool;
    return HONE_OK;
}

void hone_context_free(HoneContext *context) {
    if (!context) return;
    hone_pool_free(context->pool);
    hone_free(context);
}

const char *hone_context_error(const HoneContext *context) {
    return context ? context->error.message : "out of memory";
}

int hone_context_threads(const HoneContext *context) {
    return hone_pool_threads(context->pool);
}

const char *hone_context_isa(const HoneContext *context) {
    return context->kernels.table ? hone_kernel_table_name(context->kernels.table) : "none";
}
