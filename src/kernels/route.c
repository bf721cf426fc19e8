// SPDX-License-Identifier: Apache-2.0
// Which experts a row goes to, and rows times numbers of their own.
#include <math.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum { TASK_FLOATS = 16384, LANES = 16 };

static int64_t rows_a_task(int64_t C) {
    return TASK_FLOATS / (C + 1) + 1;
}

static int64_t tasks_of(int64_t T, int64_t rows) {
    return (T + rows - 1) / rows;
}

// ---- routing -----------------------------------------------------------------------------------

typedef struct RouteTask {
    const RouteArgs *args;
    int64_t rows;
    const float *dweight;
    const double *dprobability;
    float *dlogits;
} RouteTask;

// softmax of one row: p_e = e^(z_e − largest)/sum.
typedef struct RowSum {
    double largest, sum;
} RowSum;

static RowSum row_sum(const RouteArgs *args, const float *z) {
    RowSum row = {(double)z[0], 0};
    for (int e = 1; e < args->experts; e++)
        if ((double)z[e] > row.largest) row.largest = (double)z[e];
    for (int e = 0; e < args->experts; e++) row.sum += exp((double)z[e] - row.largest);
    return row;
}

static double probability(const RowSum *row, float z) {
    return exp((double)z - row->largest) / row->sum;
}

// The largest of those that come after `last` in the order of falling values, the first of equals
// first. Where none is comparable (NaN), the place itself: a number that exists.
static int next_largest(const RouteArgs *args, const float *z, int place, int last) {
    int best = -1;
    for (int e = 0; e < args->experts; e++) {
        const bool after = last < 0 || z[e] < z[last] || (z[e] == z[last] && e > last);
        if (after && (best < 0 || z[e] > z[best])) best = e;
    }
    return best < 0 ? place : best;
}

static void route_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const RouteTask *work = argument;
    const RouteArgs *args = work->args;
    int64_t end = (task + 1) * work->rows;
    if (end > args->T) end = args->T;
    for (int64_t t = task * work->rows; t < end; t++) {
        const float *z = args->logits + t * args->experts;
        int32_t *chosen = args->chosen + t * args->used;
        float *weight = args->weight + t * args->used;
        const RowSum row = row_sum(args, z);
        double sum = 0;
        for (int j = 0; j < args->used; j++) {
            chosen[j] = next_largest(args, z, j, j ? chosen[j - 1] : -1);
            sum += probability(&row, z[chosen[j]]);
        }
        for (int j = 0; j < args->used; j++)
            weight[j] = (float)(probability(&row, z[chosen[j]]) / (args->normalised ? sum : 1.0));
    }
}

void hone_route_forward(const KernelContext *kc, const RouteArgs *args) {
    RouteTask work = {.args = args, .rows = rows_a_task((int64_t)args->experts * 8)};
    hone_pool_run(kc->pool, tasks_of(args->T, work.rows), route_task, &work);
}

void hone_route_probabilities(const RouteArgs *args, double *sums) {
    for (int e = 0; e < args->experts; e++) sums[e] = 0;
    for (int64_t t = 0; t < args->T; t++) {
        const float *z = args->logits + t * args->experts;
        const RowSum row = row_sum(args, z);
        for (int e = 0; e < args->experts; e++) sums[e] += probability(&row, z[e]);
    }
}

static void route_back_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const RouteTask *work = argument;
    const RouteArgs *args = work->args;
    const double *dp = work->dprobability;
    int64_t end = (task + 1) * work->rows;
    if (end > args->T) end = args->T;
    for (int64_t t = task * work->rows; t < end; t++) {
        const float *z = args->logits + t * args->experts;
        const float *weight = args->weight + t * args->used, *dw = work->dweight + t * args->used;
        const int32_t *chosen = args->chosen + t * args->used;
        float *dz = work->dlogits + t * args->experts;
        const RowSum row = row_sum(args, z);
        double mean = 0, other = 0;
        for (int j = 0; j < args->used; j++) mean += (double)weight[j] * (double)dw[j];
        for (int e = 0; e < args->experts && dp; e++) other += probability(&row, z[e]) * dp[e];
        for (int j = 0; j < args->used; j++) {
            const double less = args->normalised ? mean : 0;
            dz[chosen[j]] += (float)((double)weight[j] * ((double)dw[j] - less));
        }
        for (int e = 0; e < args->experts && (dp || !args->normalised); e++) {
            const double less = args->normalised ? 0 : mean;
            dz[e] += (float)(probability(&row, z[e]) * ((dp ? dp[e] : 0) - other - less));
        }
    }
}

void hone_route_backward(const KernelContext *kc, const RouteArgs *args, const float *dweight,
                         const double *dprobability, float *dlogits) {
    RouteTask work = {.args = args,
                      .rows = rows_a_task((int64_t)args->experts * 8),
                      .dweight = dweight,
                      .dprobability = dprobability,
                      .dlogits = dlogits};
    hone_pool_run(kc->pool, tasks_of(args->T, work.rows), route_back_task, &work);
}

// ---- rows times numbers ------------------------------------------------------------------------

typedef struct RowsTask {
    int64_t T, C, rows;
    const float *w, *x, *y;
    float *to;
    bool add;
} RowsTask;

static void weigh_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const RowsTask *work = argument;
    int64_t end = (task + 1) * work->rows;
    if (end > work->T) end = work->T;
    for (int64_t t = task * work->rows; t < end; t++) {
        const float w = work->w[t], *x = work->x + t * work->C;
        float *y = work->to + t * work->C;
        if (work->add)
            for (int64_t c = 0; c < work->C; c++) y[c] += w * x[c];
        else
            for (int64_t c = 0; c < work->C; c++) y[c] = w * x[c];
    }
}

void hone_weigh_rows(const KernelContext *kc, int64_t T, int64_t C, const float *w, const float *x,
                     bool accumulate, float *y) {
    RowsTask work = {
        .T = T, .C = C, .rows = rows_a_task(C), .w = w, .x = x, .to = y, .add = accumulate};
    hone_pool_run(kc->pool, tasks_of(T, work.rows), weigh_task, &work);
}

static void dot_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const RowsTask *work = argument;
    int64_t end = (task + 1) * work->rows;
    if (end > work->T) end = work->T;
    for (int64_t t = task * work->rows; t < end; t++) {
        const float *x = work->x + t * work->C, *y = work->y + t * work->C;
        float sum[LANES] = {0}, whole = 0;
        int64_t c = 0;
        for (; c + LANES <= work->C; c += LANES)
            for (int lane = 0; lane < LANES; lane++) sum[lane] += x[c + lane] * y[c + lane];
        for (; c < work->C; c++) whole += x[c] * y[c];
        for (int lane = 0; lane < LANES; lane++) whole += sum[lane];
        work->to[t] += whole;
    }
}

void hone_dot_rows(const KernelContext *kc, int64_t T, int64_t C, const float *x, const float *y,
                   float *w) {
    RowsTask work = {.T = T, .C = C, .rows = rows_a_task(C), .x = x, .y = y, .to = w};
    hone_pool_run(kc->pool, tasks_of(T, work.rows), dot_task, &work);
}
