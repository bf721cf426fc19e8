// SPDX-License-Identifier: Apache-2.0
#include "train/muon.h"

#include <math.h>

#include "base/dtype.h"

// X (R,C), the next X, and two square matrices of the smaller side.
typedef struct Work {
    float *X, *next, *A, *B;
    void *product;
} Work;

static MatmulArgs product(int64_t M, int64_t N, int64_t K, const float *A, const float *B,
                          float *C) {
    return (MatmulArgs){.M = M,
                        .N = N,
                        .K = K,
                        .A = A,
                        .lda = K,
                        .B = B,
                        .b_type = HONE_F32,
                        .ldb = N,
                        .C = C,
                        .ldc = N,
                        .alpha = 1};
}

// A = X·Xᵀ, or Xᵀ·X where X has more rows than columns.
static MatmulArgs gram(int64_t R, int64_t C, const float *X, float *A) {
    const bool tall = R > C;
    const int64_t n = tall ? C : R, k = tall ? R : C;
    MatmulArgs args = product(n, n, k, X, X, A);
    args.lda = args.ldb = C;
    args.a_transposed = tall;
    args.b_transposed = !tall;
    return args;
}

static MatmulArgs square(int64_t n, const float *A, float *B) {
    MatmulArgs args = product(n, n, n, A, A, B);
    args.accumulate = true;
    return args;
}

// next += B·X, or X·B.
static MatmulArgs apply(int64_t R, int64_t C, const float *X, const float *B, float *next) {
    MatmulArgs args = R > C ? product(R, C, C, X, B, next) : product(R, C, R, B, X, next);
    args.accumulate = true;
    return args;
}

static size_t floats(int64_t count) {
    return ((size_t)count * sizeof(float) + 63) / 64 * 64;
}

size_t hone_muon_scratch(const KernelContext *kc, int64_t R, int64_t C) {
    const int64_t n = R < C ? R : C;
    const MatmulArgs products[] = {gram(R, C, NULL, NULL), square(n, NULL, NULL),
                                   apply(R, C, NULL, NULL, NULL)};
    size_t most = 0;
    for (int i = 0; i < 3; i++) {
        const size_t bytes = hone_matmul_scratch(kc, &products[i]);
        if (bytes > most) most = bytes;
    }
    return 2 * floats(R * C) + 2 * floats(n * n) + most;
}

static void iterate(const KernelContext *kc, int64_t R, int64_t C, Work *work) {
    static const float a = 3.4445f, b = -4.7750f, c = 2.0315f;
    const int64_t n = R < C ? R : C;
    MatmulArgs args = gram(R, C, work->X, work->A);
    hone_matmul(kc, &args, work->product);
    hone_scaled(kc, n * n, b, work->A, false, work->B);
    args = square(n, work->A, work->B);
    args.alpha = c;
    hone_matmul(kc, &args, work->product);
    hone_scaled(kc, R * C, a, work->X, false, work->next);
    args = apply(R, C, work->X, work->B, work->next);
    hone_matmul(kc, &args, work->product);
    float *made = work->next;
    work->next = work->X;
    work->X = made;
}

void hone_muon(const KernelContext *kc, const MuonArgs *args, void *scratch) {
    enum { ITERATIONS = 5 };
    const int64_t R = args->R, C = args->C, count = R * C, n = R < C ? R : C;
    const float beta = args->beta, fresh = (1 - beta) * args->scale;
    char *at = scratch;
    Work work = {.X = (float *)at, .next = (float *)(at + floats(count))};
    at += 2 * floats(count);
    work.A = (float *)at;
    work.B = (float *)(at + floats(n * n));
    work.product = at + 2 * floats(n * n);
    hone_scaled(kc, count, beta, args->m, false, args->m);
    hone_scaled(kc, count, fresh, args->g, true, args->m);
    hone_scaled(kc, count, fresh, args->g, false, work.X);
    hone_scaled(kc, count, beta, args->m, true, work.X);
    const double norm = sqrt(hone_sum_of_squares(kc, count, work.X));
    hone_scaled(kc, count, (float)(1 / (norm + 1e-7)), work.X, false, work.X);
    for (int i = 0; i < ITERATIONS; i++) iterate(kc, R, C, &work);
    const float size = 0.2f * sqrtf((float)(R > C ? R : C));
    hone_scaled(kc, count, 1 - args->lr * args->decay, args->p, false, args->p);
    hone_scaled(kc, count, -args->lr * size, work.X, true, args->p);
}
