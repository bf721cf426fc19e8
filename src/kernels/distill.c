// SPDX-License-Identifier: Apache-2.0
// Rows of logits beside a teacher's (Hinton, Vinyals, Dean 2015).
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum { TASK_FLOATS = 16384, LANES = 8 };

typedef struct DistillTask {
    const ElementTable *table;
    const DistillArgs *args;
    int64_t rows;
} DistillTask;

// Σ a·b, in lanes that are added in order.
static double dot(int64_t count, const float *a, const float *b) {
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)a[i + l] * (double)b[i + l];
    for (; i < count; i++) sum += (double)a[i] * (double)b[i];
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

// With t and s both logits over τ: KL = Σ p·(t − s) + log Σ e^s − log Σ e^t, p = e^t/Σ e^t.
static void distill_row(const DistillTask *work, int64_t r) {
    const DistillArgs *args = work->args;
    const ElementTable *table = work->table;
    const int64_t V = args->V;
    const float *z = args->logits + r * V;
    float *t = args->teacher + r * V, *s = args->scratch + r * V;
    const float cool = 1 / args->temperature;
    const double tau = (double)args->temperature, weight = (double)args->weight[r];
    table->scale(V, cool, t);
    table->scaled(V, cool, z, false, s);
    const float largest_t = table->maximum(V, t), largest_s = table->maximum(V, s);
    const double sum_s = table->exp_sum(V, s, largest_s);
    table->scaled(V, -1, s, false, s);
    table->add(V, t, s, s);
    const double sum_t = table->exp_sum_store(V, largest_t, t);
    const double divergence =
        dot(V, t, s) / sum_t + ((double)largest_s + log(sum_s)) - ((double)largest_t + log(sum_t));
    args->loss[r] = weight == 0 ? 0 : weight * tau * tau * divergence;
    if (!args->gradient) return;
    table->scaled(V, cool, z, false, s);
    table->exp_sum_store(V, largest_s, s);
    table->scale(V, weight == 0 ? 0 : (float)(-weight * tau / sum_t), t);
    table->scaled(V, weight == 0 ? 0 : (float)(weight * tau / sum_s), s, true, t);
    if (weight == 0) memset(t, 0, (size_t)V * sizeof *t); // whatever the logits are
}

static void distill_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const DistillTask *work = argument;
    int64_t end = (task + 1) * work->rows;
    if (end > work->args->rows) end = work->args->rows;
    for (int64_t r = task * work->rows; r < end; r++) distill_row(work, r);
}

void hone_distill(const KernelContext *kc, const DistillArgs *args) {
    DistillTask work = {
        .table = &kc->table->element, .args = args, .rows = TASK_FLOATS / (args->V + 1) + 1};
    hone_pool_run(kc->pool, (args->rows + work.rows - 1) / work.rows, distill_task, &work);
}
