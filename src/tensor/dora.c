// SPDX-License-Identifier: Apache-2.0
#include "tensor/dora.h"

#include <math.h>

enum { PIECE = 2048, TASK_ROWS = 16 }; // a piece is whole blocks of every type

typedef struct SquaresTask {
    const Tensor *W;
    double *squares;
} SquaresTask;

static void squares_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const SquaresTask *work = argument;
    const Tensor *W = work->W;
    const int64_t in = W->shape[1];
    const int dtype = (int)W->dtype;
    float values[PIECE];
    for (int64_t i = task * TASK_ROWS; i < (task + 1) * TASK_ROWS && i < W->shape[0]; i++) {
        const char *row = (const char *)W->data + hone_dtype_bytes(dtype, i * in);
        double sum = 0;
        for (int64_t first = 0; first < in; first += PIECE) {
            const int64_t count = in - first < PIECE ? in - first : PIECE;
            hone_dequantise(dtype, row + hone_dtype_bytes(dtype, first), values, count);
            for (int64_t c = 0; c < count; c++) sum += (double)values[c] * (double)values[c];
        }
        work->squares[i] = sum;
    }
}

void hone_row_squares(const KernelContext *kc, const Tensor *W, double *squares) {
    SquaresTask work = {W, squares};
    hone_pool_run(kc->pool, (W->shape[0] + TASK_ROWS - 1) / TASK_ROWS, squares_task, &work);
}

static hone_status product(const KernelContext *kc, const MatmulArgs *args, HoneError *err) {
    const size_t bytes = hone_matmul_scratch(kc, args);
    void *scratch = hone_alloc(bytes + 1);
    if (!scratch) return hone_fail_memory(err, bytes, "the norms of DoRA");
    hone_matmul(kc, args, scratch);
    hone_free(scratch);
    return HONE_OK;
}

// C (rows of X, rows of Y) = X·Yᵀ
static MatmulArgs with_transposed(const Tensor *X, const Tensor *Y, float *C) {
    return (MatmulArgs){.M = X->shape[0],
                        .N = Y->shape[0],
                        .K = X->shape[1],
                        .A = X->data,
                        .lda = X->shape[1],
                        .B = Y->data,
                        .b_type = (int)Y->dtype,
                        .ldb = Y->shape[1],
                        .b_transposed = true,
                        .C = C,
                        .ldc = Y->shape[0],
                        .alpha = 1};
}

hone_status hone_adapted_norms(const KernelContext *kc, const Tensor *W, const double *squares,
                               const Tensor *A, const Tensor *B, float scale, float *norms,
                               HoneError *err) {
    const int64_t out = W->shape[0], rank = A->shape[0];
    KernelContext exact = *kc; // a rounded operand would move every norm
    exact.bf16 = false;
    const int64_t floats = rank * out + rank * rank + out * rank;
    float *P = hone_alloc((size_t)floats * sizeof *P); // A·Wᵀ (rank,out)
    if (!P) return hone_fail_memory(err, (size_t)floats * sizeof *P, "the norms of DoRA");
    float *G = P + rank * out, *Q = G + rank * rank; // A·Aᵀ (rank,rank), B·G (out,rank)
    const Tensor symmetric = {.dtype = HONE_F32, .rank = 2, .shape = {rank, rank}, .data = G};
    const MatmulArgs with_base = with_transposed(A, W, P), with_itself = with_transposed(A, A, G);
    const MatmulArgs between = with_transposed(B, &symmetric, Q); // G is its own transpose
    hone_status status = product(&exact, &with_base, err);
    if (status == HONE_OK) status = product(&exact, &with_itself, err);
    if (status == HONE_OK) status = product(&exact, &between, err);
    const float *b = B->data;
    const double s = (double)scale;
    for (int64_t i = 0; i < out && status == HONE_OK; i++) {
        double sum = 0;
        for (int64_t k = 0; k < rank; k++)
            sum += (double)b[i * rank + k] *
                   (2 * s * (double)P[k * out + i] + s * s * (double)Q[i * rank + k]);
        const double square = squares[i] + sum;
        norms[i] = (float)sqrt(square > 0 ? square : 0);
    }
    hone_free(P);
    return status;
}
