// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "kernels/matmul_reference.h"

static double element_of_a(const MatmulArgs *args, int64_t m, int64_t k) {
    return (double)(args->a_transposed ? args->A[k * args->lda + m] : args->A[m * args->lda + k]);
}

static double element_of_b(const MatmulArgs *args, int64_t k, int64_t n) {
    int64_t row = args->b_transposed ? n : k, column = args->b_transposed ? k : n;
    if (args->b_type == HONE_F32) return (double)((const float *)args->B)[row * args->ldb + column];
    size_t bytes = hone_dtype_bytes(args->b_type, args->ldb);
    return hone_reference_element(args->b_type, (const char *)args->B + (size_t)row * bytes,
                                  column);
}

static double second_product(const MatmulArgs *args, int64_t m, int64_t k, int64_t n) {
    int64_t row = args->b_transposed ? n : k, column = args->b_transposed ? k : n;
    return (double)args->alpha2 * (double)args->A2[m * args->lda2 + k] *
           (double)args->B2[row * args->ldb2 + column];
}

void hone_reference_matmul(const MatmulArgs *args, double *C, double *magnitude) {
    for (int64_t m = 0; m < args->M; m++) {
        for (int64_t n = 0; n < args->N; n++) {
            double sum = 0, absolute = 0;
            for (int64_t k = 0; k < args->K + args->K2; k++) {
                double product = k < args->K ? element_of_a(args, m, k) * element_of_b(args, k, n)
                                             : second_product(args, m, k - args->K, n);
                sum += product;
                absolute += fabs(product);
            }
            double before = args->accumulate ? (double)args->C[m * args->ldc + n] : 0;
            C[m * args->N + n] = before + (double)args->alpha * sum;
            if (magnitude)
                magnitude[m * args->N + n] = fabs((double)args->alpha) * absolute + fabs(before);
        }
    }
}
