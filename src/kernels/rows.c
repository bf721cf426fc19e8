// SPDX-License-Identifier: Apache-2.0
// Kernels on rows: normalisation, rotary embedding, gathering and scattering, cross-entropy. A task
// is a fixed number of rows, or of columns where rows must be summed in order.
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum {
    TASK_ELEMENTS = 16384, // elements of a task of rows
    COLUMNS = 64,          // columns of a task of columns: four cache lines a row
    MOST_PARTIALS = 64,    // most blocks of rows with a partial dw of their own
    LEAST_ROWS = 32,       // least rows of such a block
    PAIRS = 128            // rotary pairs whose angles are kept at a time
};

static int64_t rows_a_task(int64_t C) {
    int64_t rows = C > 0 ? TASK_ELEMENTS / C : TASK_ELEMENTS;
    return rows > 0 ? rows : 1;
}

static int64_t blocks_of(int64_t count, int64_t block) {
    return count / block + (count % block != 0);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// ---- normalisation -----------------------------------------------------------------------------

typedef struct NormTask {
    const ElementTable *table;
    int64_t T, C, rows; // rows: of one task
    const float *x, *w, *r_in, *dy;
    float eps;
    float *y, *r, *dx, *dw, *partial; // partial (blocks, C)
} NormTask;

static void norm_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const NormTask *work = argument;
    int64_t C = work->C, end = least(work->T, (task + 1) * work->rows);
    for (int64_t t = task * work->rows; t < end; t++) {
        const float *x = work->x + t * C;
        float mean = work->table->row_squares(C, x) / (float)C;
        float r = 1.0f / sqrtf(mean + work->eps);
        work->table->row_scale(C, x, work->w, r, work->y + t * C);
        work->r[t] = r;
    }
}

void hone_rms_norm_forward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                           const float *w, float eps, float *y, float *r) {
    NormTask work = {.table = &kc->table->element,
                     .T = T,
                     .C = C,
                     .rows = rows_a_task(C),
                     .x = x,
                     .w = w,
                     .eps = eps,
                     .y = y,
                     .r = r};
    hone_pool_run(kc->pool, blocks_of(T, work.rows), norm_task, &work);
}

// Rows of a block whose dw is summed apart: enough of them to be worth a task, and few blocks.
static int64_t partial_rows(int64_t T) {
    int64_t rows = blocks_of(T, MOST_PARTIALS);
    return rows > LEAST_ROWS ? rows : LEAST_ROWS;
}

size_t hone_rms_norm_backward_scratch(const KernelContext *kc, int64_t T, int64_t C) {
    (void)kc;
    return (size_t)blocks_of(T, partial_rows(T)) * (size_t)C * sizeof(float);
}

static void norm_gradient_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const NormTask *work = argument;
    const ElementTable *table = work->table;
    int64_t C = work->C, end = least(work->T, (task + 1) * work->rows);
    float *partial = work->dw ? work->partial + task * C : NULL;
    if (partial) memset(partial, 0, (size_t)C * sizeof *partial);
    for (int64_t t = task * work->rows; t < end; t++) {
        const float *x = work->x + t * C, *dy = work->dy + t * C;
        float r = work->r_in[t];
        if (work->dx) {
            float mean = table->row_dot(C, x, work->w, dy) / (float)C;
            table->row_gradient(C, x, work->w, r, r * r * r * mean, dy, work->dx + t * C);
        }
        if (partial) table->row_weight_gradient(C, x, r, dy, partial);
    }
}

// dw of some columns: the blocks' sums, added in order.
static void norm_weight_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const NormTask *work = argument;
    int64_t begin = task * TASK_ELEMENTS, count = least(TASK_ELEMENTS, work->C - begin);
    float *dw = work->dw + begin;
    for (int64_t block = 0; block < blocks_of(work->T, work->rows); block++)
        work->table->add(count, dw, work->partial + block * work->C + begin, dw);
}

void hone_rms_norm_backward(const KernelContext *kc, int64_t T, int64_t C, const float *x,
                            const float *w, const float *r, const float *dy, float *dx, float *dw,
                            void *scratch) {
    NormTask work = {.table = &kc->table->element,
                     .T = T,
                     .C = C,
                     .rows = dw ? partial_rows(T) : rows_a_task(C),
                     .x = x,
                     .w = w,
                     .r_in = r,
                     .dy = dy,
                     .dx = dx,
                     .dw = dw,
                     .partial = scratch};
    hone_pool_run(kc->pool, blocks_of(T, work.rows), norm_gradient_task, &work);
    if (dw) hone_pool_run(kc->pool, blocks_of(C, TASK_ELEMENTS), norm_weight_task, &work);
}

// ---- rotary embedding --------------------------------------------------------------------------

typedef struct RopeTask {
    const ElementTable *table;
    const RopeArgs *args;
    int64_t rows;
} RopeTask;

// Rotate `pairs` pairs from pair `first` on, of every head of one row.
static void rotate_heads(const RopeTask *work, int64_t first, int64_t pairs, const float *cosine,
                         const float *sine, const float *x, float *y) {
    const RopeArgs *args = work->args;
    int64_t half = args->rotary / 2;
    for (int head = 0; head < args->heads; head++) {
        int64_t at = (int64_t)head * args->head_size;
        if (args->interleaved) {
            at += 2 * first;
            work->table->rotate_neighbours(pairs, cosine, sine, x + at, y + at, args->inverse);
        } else {
            at += first;
            work->table->rotate_halves(pairs, cosine, sine, x + at, x + at + half, y + at,
                                       y + at + half, args->inverse);
        }
    }
}

// The elements of one row that no pair holds.
static void pass_heads(const RopeTask *work, const float *x, float *y) {
    const RopeArgs *args = work->args;
    int64_t rest = args->head_size - args->rotary;
    if (rest <= 0) return;
    for (int head = 0; head < args->heads; head++) {
        int64_t at = (int64_t)head * args->head_size + args->rotary;
        if (args->inverse)
            work->table->add(rest, y + at, x + at, y + at);
        else if (x != y)
            memcpy(y + at, x + at, (size_t)rest * sizeof *y);
    }
}

static void rope_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const RopeTask *work = argument;
    const RopeArgs *args = work->args;
    int64_t row = (int64_t)args->heads * args->head_size, pairs = args->rotary / 2;
    int64_t end = least(args->T, (task + 1) * work->rows);
    for (int64_t t = task * work->rows; t < end; t++) {
        double position = args->inverse ? -(double)args->position[t] : (double)args->position[t];
        for (int64_t first = 0; first < pairs; first += PAIRS) {
            float cosine[PAIRS], sine[PAIRS];
            int64_t count = least(PAIRS, pairs - first);
            work->table->rotary_angles(count, position, args->frequency + first, cosine, sine);
            if (args->magnitude != 0) {
                work->table->scale(count, args->magnitude, cosine);
                work->table->scale(count, args->magnitude, sine);
            }
            rotate_heads(work, first, count, cosine, sine, args->x + t * row, args->y + t * row);
        }
        pass_heads(work, args->x + t * row, args->y + t * row);
    }
}

void hone_rope(const KernelContext *kc, const RopeArgs *args) {
    RopeTask work = {.table = &kc->table->element,
                     .args = args,
                     .rows = rows_a_task((int64_t)args->heads * args->head_size)};
    hone_pool_run(kc->pool, blocks_of(args->T, work.rows), rope_task, &work);
}

// ---- rows of a table ---------------------------------------------------------------------------

typedef struct TableTask {
    const ElementTable *table;
    int64_t T, C, rows;
    int dtype;
    const char *stored;
    const int32_t *index;
    const float *dy;
    float *y;
} TableTask;

static void gather_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const TableTask *work = argument;
    size_t stored_row = hone_dtype_bytes(work->dtype, work->C);
    int64_t end = least(work->T, (task + 1) * work->rows);
    for (int64_t t = task * work->rows; t < end; t++)
        hone_dequantise(work->dtype, work->stored + (size_t)work->index[t] * stored_row,
                        work->y + t * work->C, work->C);
}

void hone_gather_rows(const KernelContext *kc, int64_t T, int64_t C, int dtype, const void *table,
                      const int32_t *index, float *y) {
    TableTask work = {.T = T,
                      .C = C,
                      .rows = rows_a_task(C),
                      .dtype = dtype,
                      .stored = table,
                      .index = index,
                      .y = y};
    hone_pool_run(kc->pool, blocks_of(T, work.rows), gather_task, &work);
}

// All rows, for some columns: whatever rows the index names twice, each sum runs in the order of t.
static void scatter_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const TableTask *work = argument;
    int64_t begin = task * COLUMNS, count = least(COLUMNS, work->C - begin);
    for (int64_t t = 0; t < work->T; t++) {
        float *row = work->y + work->index[t] * work->C + begin;
        work->table->add(count, row, work->dy + t * work->C + begin, row);
    }
}

void hone_scatter_rows(const KernelContext *kc, int64_t T, int64_t C, const int32_t *index,
                       const float *dy, float *table) {
    TableTask work = {
        .table = &kc->table->element, .T = T, .C = C, .index = index, .dy = dy, .y = table};
    if (T > 0) hone_pool_run(kc->pool, blocks_of(C, COLUMNS), scatter_task, &work);
}

// ---- cross-entropy -----------------------------------------------------------------------------

// Entries first[r] … first[r+1]-1 are those of row r; without `first` each row has one.
typedef struct RowTargets {
    const int32_t *first, *target;
} RowTargets;

static int64_t first_entry(const RowTargets *targets, int64_t r) {
    return targets->first ? targets->first[r] : r;
}

typedef struct LossTask {
    const ElementTable *table;
    int64_t rows, V, rows_a_task;
    float *logits;
    RowTargets targets;
    const float *weight;
    double z_loss, smoothing;
    bool gradient;
    double *loss;
    float *logprob;
} LossTask;

// What an entry's loss depends on beside its own logit.
typedef struct LossRow {
    double sum;  // of e^(z − maximum)
    double all;  // logsumexp
    double mean; // of z − maximum, where labels are smoothed
} LossRow;

// A weight of 0 takes an entry out: its loss is 0 whatever the logits are.
static void entry_loss(const LossTask *work, int64_t e, double at_target, const LossRow *row) {
    float weight = work->weight[e];
    double logprob = at_target - log(row->sum),
           normaliser = work->z_loss > 0 ? work->z_loss * row->all * row->all : 0;
    if (work->smoothing > 0) normaliser += work->smoothing * (at_target - row->mean);
    work->loss[e] = weight == 0 ? 0 : (double)weight * (normaliser - logprob);
    if (work->logprob) work->logprob[e] = (float)logprob;
}

// The mean of z − shift, in a fixed order.
static double mean_below(int64_t V, const float *z, float shift) {
    enum { LANES = 8 };
    double lane[LANES] = {0}, sum = 0;
    const int64_t whole = V - V % LANES;
    for (int64_t v = 0; v < whole; v += LANES)
        for (int i = 0; i < LANES; i++) lane[i] += (double)(z[v + i] - shift);
    for (int64_t v = whole; v < V; v++) sum += (double)(z[v] - shift);
    for (int i = 0; i < LANES; i++) sum += lane[i];
    return sum / (double)V;
}

// From e^(z − maximum) in z to factor·that − (1 − ε)·onehots − weight·ε/V.
static void smoothed_gradient(const LossTask *work, int64_t begin, int64_t end, double weight,
                              double factor, float *z) {
    const float scale = (float)factor;
    const float spread = (float)(weight * work->smoothing / (double)work->V);
    for (int64_t v = 0; v < work->V; v++) z[v] = scale * z[v] - spread;
    for (int64_t e = begin; e < end; e++)
        z[work->targets.target[e]] -= (float)((1 - work->smoothing) * (double)work->weight[e]);
}

// One row. Where all weights are 0 the gradient is 0 whatever the logits are.
static void loss_row(const LossTask *work, int64_t r) {
    const ElementTable *table = work->table;
    const int32_t *target = work->targets.target;
    float *z = work->logits + r * work->V;
    const int64_t begin = first_entry(&work->targets, r), end = first_entry(&work->targets, r + 1);
    float largest = table->maximum(work->V, z);
    double weight = 0;
    LossRow row = {0};
    bool weighted = false;
    for (int64_t e = begin; e < end; e++) {
        work->loss[e] = (double)z[target[e]] - (double)largest;
        weight += (double)work->weight[e];
        weighted = weighted || work->weight[e] != 0;
    }
    if (work->smoothing > 0) row.mean = mean_below(work->V, z, largest);
    if (work->gradient && weighted)
        row.sum = table->exp_sum_store(work->V, largest, z);
    else
        row.sum = table->exp_sum(work->V, z, largest);
    row.all = (double)largest + log(row.sum);
    for (int64_t e = begin; e < end; e++) entry_loss(work, e, work->loss[e], &row);
    const double grown = work->z_loss > 0 ? 1 + 2 * work->z_loss * row.all
                                          : 1; // softmax stands so often in the gradient
    if (!work->gradient) return;
    if (!weighted) {
        memset(z, 0, (size_t)work->V * sizeof *z);
    } else if (work->smoothing > 0) {
        smoothed_gradient(work, begin, end, weight, weight * grown / row.sum, z);
    } else if (end == begin + 1) {
        // p − 1, exact for a p that is nearly 1
        double numerator = (double)z[target[begin]] - row.sum;
        if (work->z_loss > 0) numerator += (grown - 1) * (double)z[target[begin]];
        table->scale(work->V, (float)(weight * grown / row.sum), z);
        z[target[begin]] = (float)(weight * numerator / row.sum);
    } else {
        table->scale(work->V, (float)(weight * grown / row.sum), z);
        for (int64_t e = begin; e < end; e++) z[target[e]] -= work->weight[e];
    }
}

static void loss_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const LossTask *work = argument;
    int64_t end = least(work->rows, (task + 1) * work->rows_a_task);
    for (int64_t r = task * work->rows_a_task; r < end; r++) loss_row(work, r);
}

void hone_cross_entropy(const KernelContext *kc, int64_t rows, int64_t V, float *logits,
                        const int32_t *first, const int32_t *target, const float *weight,
                        double z_loss, double smoothing, bool gradient, double *loss,
                        float *logprob) {
    LossTask work = {.table = &kc->table->element,
                     .rows = rows,
                     .V = V,
                     .rows_a_task = rows_a_task(V),
                     .logits = logits,
                     .targets = {first, target},
                     .weight = weight,
                     .z_loss = z_loss,
                     .smoothing = smoothing,
                     .gradient = gradient,
                     .loss = loss,
                     .logprob = logprob};
    hone_pool_run(kc->pool, blocks_of(rows, work.rows_a_task), loss_task, &work);
}

typedef struct LargestTask {
    const ElementTable *table;
    int64_t rows, V, rows_a_task;
    const float *logits;
    RowTargets targets;
    uint8_t *correct;
} LargestTask;

static void largest_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const LargestTask *work = argument;
    int64_t end = least(work->rows, (task + 1) * work->rows_a_task);
    for (int64_t r = task * work->rows_a_task; r < end; r++) {
        const float *z = work->logits + r * work->V;
        const float largest = work->table->maximum(work->V, z);
        const int64_t last = first_entry(&work->targets, r + 1);
        for (int64_t e = first_entry(&work->targets, r); e < last; e++)
            work->correct[e] = z[work->targets.target[e]] >= largest;
    }
}

void hone_target_is_largest(const KernelContext *kc, int64_t rows, int64_t V, const float *logits,
                            const int32_t *first, const int32_t *target, uint8_t *correct) {
    LargestTask work = {.table = &kc->table->element,
                        .rows = rows,
                        .V = V,
                        .rows_a_task = rows_a_task(V),
                        .logits = logits,
                        .targets = {first, target},
                        .correct = correct};
    hone_pool_run(kc->pool, blocks_of(rows, work.rows_a_task), largest_task, &work);
}
