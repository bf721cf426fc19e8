// SPDX-License-Identifier: Apache-2.0
// Adafactor's step: three passes over the gradient. Sums over rows run in blocks of rows that the
// shape alone decides, and the blocks' sums are added in order.
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum { MOST_BLOCKS = 64, LEAST_ROWS = 16 };
static const float smallest = 1e-30f; // added to squares

typedef struct AdafactorTask {
    const ElementTable *table;
    const AdafactorArgs *args;
    int64_t rows;  // of a block
    float beta;    // of the second moment
    float rate;    // of the last pass
    float *row;    // (R) factors of u
    float *column; // (C) likewise
    float *sums;   // (blocks, C)
} AdafactorTask;

static int64_t block_rows(int64_t R) {
    const int64_t rows = (R + MOST_BLOCKS - 1) / MOST_BLOCKS;
    return rows > LEAST_ROWS ? rows : LEAST_ROWS;
}

static int64_t block_count(int64_t R) {
    return (R + block_rows(R) - 1) / block_rows(R);
}

size_t hone_adafactor_scratch(int64_t R, int64_t C) {
    return (size_t)(R + C + block_count(R) * C) * sizeof(float);
}

static int64_t end_of_block(const AdafactorTask *work, int64_t block) {
    const int64_t end = (block + 1) * work->rows;
    return end < work->args->R ? end : work->args->R;
}

// Rows' means of squares, and the block's sums of squares over rows.
static void squares_task(void *argument, int64_t block, int worker) {
    (void)worker;
    const AdafactorTask *work = argument;
    const AdafactorArgs *args = work->args;
    const int64_t C = args->C;
    const float scale = args->scale, beta = work->beta;
    float *restrict sums = work->sums + block * C;
    memset(sums, 0, (size_t)C * sizeof *sums);
    for (int64_t i = block * work->rows; i < end_of_block(work, block); i++) {
        const float *restrict g = args->g + i * C;
        for (int64_t j = 0; j < C; j++) sums[j] += (g[j] * scale) * (g[j] * scale);
        const double mean = work->table->sum_of_squares(C, g) / (double)C;
        const float square = (float)(mean * (double)scale * (double)scale) + smallest;
        args->row[i] = beta * args->row[i] + (1 - beta) * square;
    }
}

// The factors of u: √(mean(row)/row) and 1/√column.
static void find_factors(const AdafactorTask *work) {
    const AdafactorArgs *args = work->args;
    double sum = 0;
    for (int64_t i = 0; i < args->R; i++) sum += (double)args->row[i];
    const double mean = sum / (double)args->R;
    for (int64_t i = 0; i < args->R; i++) work->row[i] = (float)sqrt(mean / (double)args->row[i]);
    for (int64_t j = 0; j < args->C; j++) {
        float square = 0;
        for (int64_t block = 0; block < block_count(args->R); block++)
            square += work->sums[block * args->C + j];
        square = square / (float)args->R + smallest;
        args->column[j] = work->beta * args->column[j] + (1 - work->beta) * square;
        work->column[j] = 1 / sqrtf(args->column[j]);
    }
}

// The block's sums over rows of (u / column's factor)².
static void update_squares_task(void *argument, int64_t block, int worker) {
    (void)worker;
    const AdafactorTask *work = argument;
    const AdafactorArgs *args = work->args;
    const int64_t C = args->C;
    float *restrict sums = work->sums + block * C;
    memset(sums, 0, (size_t)C * sizeof *sums);
    for (int64_t i = block * work->rows; i < end_of_block(work, block); i++) {
        const float *restrict g = args->g + i * C;
        const float factor = work->row[i] * args->scale;
        for (int64_t j = 0; j < C; j++) sums[j] += (g[j] * factor) * (g[j] * factor);
    }
}

static void step_task(void *argument, int64_t block, int worker) {
    (void)worker;
    const AdafactorTask *work = argument;
    const AdafactorArgs *args = work->args;
    const int64_t C = args->C;
    const float keep = 1 - args->lr * args->decay;
    const float *restrict column = work->column;
    for (int64_t i = block * work->rows; i < end_of_block(work, block); i++) {
        const float *restrict g = args->g + i * C;
        float *restrict p = args->p + i * C;
        const float factor = work->row[i] * args->scale;
        for (int64_t j = 0; j < C; j++)
            p[j] = p[j] * keep - work->rate * ((g[j] * factor) * column[j]);
    }
}

// A step of root mean square 1 at most.
static float clipped(float lr, double squares, int64_t count) {
    const double size = sqrt(squares / (double)count);
    return (float)((double)lr / (size > 1 ? size : 1));
}

static void step_vector(AdafactorTask *work) {
    const AdafactorArgs *args = work->args;
    double squares = 0;
    for (int64_t j = 0; j < args->C; j++) {
        const float g = args->g[j] * args->scale;
        args->column[j] = work->beta * args->column[j] + (1 - work->beta) * (g * g + smallest);
        work->column[j] = 1 / sqrtf(args->column[j]);
        squares += (double)(g * work->column[j]) * (double)(g * work->column[j]);
    }
    work->row[0] = 1;
    work->rate = clipped(args->lr, squares, args->C);
    step_task(work, 0, 0);
}

static void step_matrix(const KernelContext *kc, AdafactorTask *work) {
    const AdafactorArgs *args = work->args;
    const int64_t blocks = block_count(args->R);
    hone_pool_run(kc->pool, blocks, squares_task, work);
    find_factors(work);
    hone_pool_run(kc->pool, blocks, update_squares_task, work);
    double squares = 0;
    for (int64_t j = 0; j < args->C; j++) {
        double sum = 0;
        for (int64_t block = 0; block < blocks; block++)
            sum += (double)work->sums[block * args->C + j];
        squares += sum * (double)work->column[j] * (double)work->column[j];
    }
    work->rate = clipped(args->lr, squares, args->R * args->C);
    hone_pool_run(kc->pool, blocks, step_task, work);
}

void hone_adafactor(const KernelContext *kc, const AdafactorArgs *args, void *scratch) {
    if (args->R == 0 || args->C == 0) return;
    AdafactorTask work = {.table = &kc->table->element,
                          .args = args,
                          .rows = block_rows(args->R),
                          .beta = (float)(1 - pow((double)args->step, -0.8)),
                          .row = scratch};
    work.column = work.row + args->R;
    work.sums = work.column + args->C;
    if (args->R == 1)
        step_vector(&work);
    else
        step_matrix(kc, &work);
}
