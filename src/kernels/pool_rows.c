// SPDX-License-Identifier: Apache-2.0
// Pooling of sequences of rows: a task a sequence.
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

typedef struct PoolTaskWork {
    const ElementTable *table;
    const PoolRows *pool;
    const float *from; // x, or dy
    float *to;         // y, or dx
} PoolTaskWork;

static void mean_of(const PoolTaskWork *work, int64_t s, float *y) {
    const PoolRows *pool = work->pool;
    const int64_t C = pool->C, begin = pool->first[s], end = pool->first[s + 1];
    memcpy(y, work->from + begin * C, (size_t)C * sizeof *y);
    for (int64_t t = begin + 1; t < end; t++) work->table->add(C, y, work->from + t * C, y);
    work->table->scale(C, 1.0f / (float)(end - begin), y);
}

static void largest_of(const PoolTaskWork *work, int64_t s, float *y) {
    const PoolRows *pool = work->pool;
    const int64_t C = pool->C, begin = pool->first[s], end = pool->first[s + 1];
    int32_t *from = pool->from + s * C;
    for (int64_t c = 0; c < C; c++) {
        from[c] = (int32_t)begin;
        y[c] = work->from[begin * C + c];
    }
    for (int64_t t = begin + 1; t < end; t++)
        for (int64_t c = 0; c < C; c++) {
            const float x = work->from[t * C + c];
            if (!(x > y[c])) continue;
            y[c] = x;
            from[c] = (int32_t)t;
        }
}

static void forward_task(void *argument, int64_t s, int worker) {
    (void)worker;
    const PoolTaskWork *work = argument;
    float *y = work->to + s * work->pool->C;
    if (work->pool->largest)
        largest_of(work, s, y);
    else
        mean_of(work, s, y);
}

void hone_pool_rows_forward(const KernelContext *kc, const PoolRows *pool, const float *x,
                            float *y) {
    PoolTaskWork work = {&kc->table->element, pool, x, y};
    hone_pool_run(kc->pool, pool->S, forward_task, &work);
}

static void backward_task(void *argument, int64_t s, int worker) {
    (void)worker;
    const PoolTaskWork *work = argument;
    const PoolRows *pool = work->pool;
    const int64_t C = pool->C, begin = pool->first[s], end = pool->first[s + 1];
    const float *dy = work->from + s * C;
    if (!pool->largest) {
        const float share = 1.0f / (float)(end - begin);
        for (int64_t t = begin; t < end; t++)
            work->table->scaled(C, share, dy, true, work->to + t * C);
        return;
    }
    for (int64_t c = 0; c < C; c++) work->to[pool->from[s * C + c] * C + c] += dy[c];
}

void hone_pool_rows_backward(const KernelContext *kc, const PoolRows *pool, const float *dy,
                             float *dx) {
    PoolTaskWork work = {&kc->table->element, pool, dy, dx};
    hone_pool_run(kc->pool, pool->S, backward_task, &work);
}
