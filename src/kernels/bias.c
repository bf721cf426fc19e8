// SPDX-License-Identifier: Apache-2.0
// One row for all rows: a bias and its gradient, the sum over them; a factor for each column and
// its gradient, the sum of products.
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum {
    TASK_FLOATS = 16384, // written by a task: some microseconds of work
    TASK_COLUMNS = 256,  // summed by a task
    ALONE_FLOATS = 32768 // that one thread sums faster than it wakes the others
};

typedef struct BiasTask {
    const ElementTable *table;
    int64_t rows, columns, task_rows, task_columns;
    const float *from, *with;
    float *to;
    bool add;
} BiasTask;

static void repeat_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const BiasTask *work = argument;
    int64_t end = (task + 1) * work->task_rows;
    if (end > work->rows) end = work->rows;
    for (int64_t t = task * work->task_rows; t < end; t++)
        memcpy(work->to + t * work->columns, work->from, (size_t)work->columns * sizeof(float));
}

void hone_repeat_row(const KernelContext *kc, int64_t T, int64_t C, const float *b, float *y) {
    if (T == 0 || C == 0) return;
    BiasTask work = {.rows = T, .columns = C, .task_rows = TASK_FLOATS / C + 1, .from = b, .to = y};
    hone_pool_run(kc->pool, (T + work.task_rows - 1) / work.task_rows, repeat_task, &work);
}

static void sum_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const BiasTask *work = argument;
    int64_t first = task * work->task_columns, columns = work->columns - first;
    if (columns > work->task_columns) columns = work->task_columns;
    float *to = work->to + first;
    for (int64_t t = 0; t < work->rows; t++)
        work->table->add(columns, to, work->from + t * work->columns + first, to);
}

void hone_sum_rows(const KernelContext *kc, int64_t T, int64_t C, const float *x, float *b) {
    if (T == 0 || C == 0) return;
    BiasTask work = {.table = &kc->table->element, .rows = T, .columns = C, .from = x, .to = b};
    work.task_columns = T * C <= ALONE_FLOATS ? C : TASK_COLUMNS;
    hone_pool_run(kc->pool, (C + work.task_columns - 1) / work.task_columns, sum_task, &work);
}

static void scale_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const BiasTask *work = argument;
    int64_t end = (task + 1) * work->task_rows;
    if (end > work->rows) end = work->rows;
    for (int64_t t = task * work->task_rows; t < end; t++)
        work->table->multiply(work->columns, work->from + t * work->columns, work->with, work->add,
                              work->to + t * work->columns);
}

void hone_scale_columns(const KernelContext *kc, int64_t T, int64_t C, const float *g,
                        const float *x, bool accumulate, float *y) {
    if (T == 0 || C == 0) return;
    BiasTask work = {.table = &kc->table->element,
                     .rows = T,
                     .columns = C,
                     .task_rows = TASK_FLOATS / C + 1,
                     .from = x,
                     .with = g,
                     .to = y,
                     .add = accumulate};
    hone_pool_run(kc->pool, (T + work.task_rows - 1) / work.task_rows, scale_task, &work);
}

static void products_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const BiasTask *work = argument;
    int64_t first = task * work->task_columns, columns = work->columns - first;
    if (columns > work->task_columns) columns = work->task_columns;
    for (int64_t t = 0; t < work->rows; t++)
        work->table->multiply(columns, work->from + t * work->columns + first,
                              work->with + t * work->columns + first, true, work->to + first);
}

void hone_sum_products(const KernelContext *kc, int64_t T, int64_t C, const float *a,
                       const float *b, float *s) {
    if (T == 0 || C == 0) return;
    BiasTask work = {
        .table = &kc->table->element, .rows = T, .columns = C, .from = a, .with = b, .to = s};
    work.task_columns = T * C <= ALONE_FLOATS ? C : TASK_COLUMNS;
    hone_pool_run(kc->pool, (C + work.task_columns - 1) / work.task_columns, products_task, &work);
}
