// SPDX-License-Identifier: Apache-2.0
// A few rows times a stored (N,K) matrix: every stored row is read once, in order, and multiplied
// with all rows of A, so that a token is decoded at the speed of memory.
#include "kernels/matmul_plan.h"

enum {
    TASK_ELEMENTS = 1 << 15,  // of B in one task
    ALONE_ELEMENTS = 1 << 16, // of B that one thread does faster than it wakes the others
    AHEAD = 4096,             // bytes
    LINE = 64,
};

typedef struct SmallProduct {
    const MatmulArgs *args;
    const MatmulTable *table;
    const float *A; // (M,K)
    int64_t lda, task_rows;
    float *unpacked; // (workers, whole blocks of K)
    int64_t unpacked_size;
} SmallProduct;

static int64_t row_size(const MatmulArgs *args) {
    int64_t block = hone_dtype_info(args->b_type)->block;
    return (args->K + block - 1) / block * block;
}

static inline void put(const MatmulArgs *args, int64_t m, int64_t n, float sum) {
    float *c = args->C + m * args->ldc + n;
    *c = (args->accumulate ? *c : 0) + args->alpha * sum;
}

// The dot products wait for memory: what they read some way ahead is on its way before.
static void fetch(const char *from, size_t bytes, const char *end) {
    if (from >= end) return;
    if (bytes > (size_t)(end - from)) bytes = (size_t)(end - from);
    for (size_t i = 0; i < bytes; i += LINE) __builtin_prefetch(from + i);
}

// One row of A: `rows` dot products straight from the stored rows.
static void single_row(const SmallProduct *product, DotRows dot, int64_t first, int64_t rows) {
    enum { GROUP = 4 };
    const MatmulArgs *args = product->args;
    size_t bytes = hone_dtype_bytes(args->b_type, args->ldb);
    const char *stored = (const char *)args->B + (size_t)first * bytes;
    const char *end = (const char *)args->B + (size_t)args->N * bytes;
    float sums[GROUP];
    for (int64_t n = 0; n < rows; n += GROUP, stored += GROUP * bytes) {
        int64_t count = rows - n < GROUP ? rows - n : GROUP;
        fetch(stored + AHEAD, GROUP * bytes, end);
        dot(stored, bytes, count, product->A, args->K, sums);
        for (int64_t j = 0; j < count; j++) put(args, 0, first + n + j, sums[j]);
    }
}

static void small_task(void *argument, int64_t task, int worker) {
    const SmallProduct *product = argument;
    const MatmulArgs *args = product->args;
    const MatmulTable *table = product->table;
    int64_t first = task * product->task_rows, rows = args->N - first;
    if (rows > product->task_rows) rows = product->task_rows;
    int64_t size = product->unpacked_size;
    DotRows dot = table->dot[args->b_type];
    if (args->M == 1 && dot && args->K == size) { // fused kernels read whole blocks
        single_row(product, dot, first, rows);
        return;
    }
    size_t bytes = hone_dtype_bytes(args->b_type, args->ldb);
    float *row = product->unpacked + worker * size, sums[MATMUL_SMALL_ROWS];
    for (int64_t n = first; n < first + rows; n++) {
        const void *stored = (const char *)args->B + (size_t)n * bytes;
        if (args->b_type != HONE_F32) table->unpack[args->b_type](stored, row, size);
        table->dot[HONE_F32](product->A, (size_t)product->lda * sizeof(float), args->M,
                             args->b_type == HONE_F32 ? stored : row, args->K, sums);
        for (int64_t m = 0; m < args->M; m++) put(args, m, n, sums[m]);
    }
}

size_t hone_matmul_small_scratch(const KernelContext *kc, const MatmulArgs *args) {
    int64_t copied = args->a_transposed ? args->M * args->K : 0;
    return (size_t)(hone_pool_threads(kc->pool) * row_size(args) + copied) * sizeof(float);
}

void hone_matmul_small(const KernelContext *kc, const MatmulArgs *args, void *scratch) {
    int64_t M = args->M, N = args->N, K = args->K, size = row_size(args);
    int64_t task_rows = TASK_ELEMENTS / size + 1;
    if (N * size <= ALONE_ELEMENTS) task_rows = N;
    SmallProduct product = {.args = args, .table = &kc->table->matmul, .A = args->A};
    product.lda = args->lda;
    product.task_rows = task_rows;
    product.unpacked = scratch;
    product.unpacked_size = size;
    if (args->a_transposed) {
        float *copy = product.unpacked + hone_pool_threads(kc->pool) * size;
        for (int64_t k = 0; k < K; k++)
            for (int64_t m = 0; m < M; m++) copy[m * K + k] = args->A[k * args->lda + m];
        product.A = copy;
        product.lda = K;
    }
    hone_pool_run(kc->pool, (N + task_rows - 1) / task_rows, small_task, &product);
}
