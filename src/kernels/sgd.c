// SPDX-License-Identifier: Apache-2.0
#include "kernels/kernels.h"

enum { CHUNK = 16384 };

static void step_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const SgdArgs *args = argument;
    const int64_t first = task * CHUNK, left = args->count - first;
    const int64_t n = left < CHUNK ? left : CHUNK;
    const float *restrict g = args->g + first;
    float *restrict p = args->p + first, *restrict m = args->m ? args->m + first : NULL;
    for (int64_t i = 0; i < n; i++) {
        float step = g[i] * args->scale + args->decay * p[i];
        if (m) m[i] = step = args->beta * m[i] + step;
        p[i] -= args->lr * step;
    }
}

void hone_sgd(const KernelContext *kc, const SgdArgs *args) {
    SgdArgs work = *args;
    hone_pool_run(kc->pool, (args->count + CHUNK - 1) / CHUNK, step_task, &work);
}
