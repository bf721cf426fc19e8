// SPDX-License-Identifier: Apache-2.0
// Layer norm. dw and db are summed over blocks of rows that the shape alone decides, in order.
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum { TASK_FLOATS = 16384, MOST_BLOCKS = 64, LEAST_ROWS = 32 };

typedef struct NormTask {
    const ElementTable *table;
    int64_t T, C, rows; // rows: of one task
    const float *x, *w, *b, *statistics, *dy;
    float eps;
    float *y, *made, *dx, *dw, *db, *partial; // partial (blocks, 2, C)
} NormTask;

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t end_of_task(const NormTask *work, int64_t task) {
    const int64_t end = (task + 1) * work->rows;
    return end < work->T ? end : work->T;
}

static void forward_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const NormTask *work = argument;
    const ElementTable *table = work->table;
    const int64_t C = work->C;
    for (int64_t t = task * work->rows; t < end_of_task(work, task); t++) {
        const float *x = work->x + t * C, mean = table->row_sum(C, x) / (float)C;
        const float r = 1 / sqrtf(table->row_variance(C, x, mean) + work->eps);
        table->row_normalise(C, x, work->w, work->b, mean, r, work->y + t * C);
        work->made[2 * t] = mean;
        work->made[2 * t + 1] = r;
    }
}

void hone_layer_norm_forward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                             const float *w, const float *b, float eps, float *y,
                             float *statistics) {
    NormTask work = {.table = &kc->table->element,
                     .T = T,
                     .C = C,
                     .rows = TASK_FLOATS / C + 1,
                     .x = x,
                     .w = w,
                     .b = b,
                     .eps = eps,
                     .y = y,
                     .made = statistics};
    hone_pool_run(kc->pool, divide_up(T, work.rows), forward_task, &work);
}

static int64_t block_rows(int64_t T) {
    const int64_t rows = divide_up(T, MOST_BLOCKS);
    return rows > LEAST_ROWS ? rows : LEAST_ROWS;
}

size_t hone_layer_norm_backward_scratch(int64_t T, int64_t C) {
    return (size_t)(divide_up(T, block_rows(T)) * 2 * C) * sizeof(float);
}

static void backward_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const NormTask *work = argument;
    const ElementTable *table = work->table;
    const int64_t C = work->C;
    float *dw = work->partial ? work->partial + task * 2 * C : NULL;
    if (dw) memset(dw, 0, (size_t)(2 * C) * sizeof *dw);
    for (int64_t t = task * work->rows; t < end_of_task(work, task); t++) {
        const float *x = work->x + t * C, *dy = work->dy + t * C;
        const float mean = work->statistics[2 * t], r = work->statistics[2 * t + 1];
        if (work->dx) {
            float sum[2];
            table->row_normalise_sums(C, x, work->w, dy, mean, r, sum);
            const float average[2] = {sum[0] / (float)C, sum[1] / (float)C};
            table->row_normalise_gradient(C, x, work->w, dy, mean, r, average, work->dx + t * C);
        }
        if (dw) table->row_normalise_weight_gradient(C, x, dy, mean, r, dw, dw + C);
    }
}

void hone_layer_norm_backward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                              const float *w, const float *statistics, const float *dy, float *dx,
                              float *dw, float *db, void *scratch) {
    NormTask work = {.table = &kc->table->element,
                     .T = T,
                     .C = C,
                     .rows = dw ? block_rows(T) : TASK_FLOATS / C + 1,
                     .x = x,
                     .w = w,
                     .statistics = statistics,
                     .dy = dy,
                     .dx = dx,
                     .partial = dw ? scratch : NULL};
    const int64_t tasks = divide_up(T, work.rows);
    hone_pool_run(kc->pool, tasks, backward_task, &work);
    for (int64_t task = 0; dw && task < tasks; task++) {
        const float *partial = work.partial + task * 2 * C;
        work.table->add(C, dw, partial, dw);
        work.table->add(C, db, partial + C, db);
    }
}
