// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum { TASK_FLOATS = 16384 };

typedef struct ColumnsTask {
    const ElementTable *table;
    int64_t T, C, rows, ldx, ldy;
    const float *x;
    float *y;
    bool add;
} ColumnsTask;

static void run_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ColumnsTask *work = argument;
    int64_t end = (task + 1) * work->rows;
    if (end > work->T) end = work->T;
    for (int64_t t = task * work->rows; t < end; t++) {
        const float *x = work->x + t * work->ldx;
        float *y = work->y + t * work->ldy;
        if (work->add)
            work->table->add(work->C, y, x, y);
        else
            memcpy(y, x, (size_t)work->C * sizeof *y);
    }
}

static void run(const KernelContext *kc, ColumnsTask work) {
    work.table = &kc->table->element;
    work.rows = TASK_FLOATS / work.C + 1;
    hone_pool_run(kc->pool, (work.T + work.rows - 1) / work.rows, run_task, &work);
}

void hone_copy_columns(const KernelContext *kc, int64_t T, int64_t C, const float *x, int64_t ldx,
                       float *y, int64_t ldy) {
    run(kc, (ColumnsTask){.T = T, .C = C, .ldx = ldx, .ldy = ldy, .x = x, .y = y});
}

void hone_accumulate_columns(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                             int64_t ldx, float *y, int64_t ldy) {
    run(kc, (ColumnsTask){.T = T, .C = C, .ldx = ldx, .ldy = ldy, .x = x, .y = y, .add = true});
}
