// SPDX-License-Identifier: Apache-2.0
// A linear projection: y = x·Wᵀ + b; dx = [dx +] dy·W; dW += dyᵀ·x; db += Σ_rows dy.
#include "base/dtype.h"
#include "layers/projected.h"

static MatmulArgs forward_product(const Projection *p, const float *x, float *y) {
    return (MatmulArgs){.M = p->rows,
                        .N = p->columns,
                        .K = p->channels,
                        .A = x,
                        .lda = p->channels,
                        .B = p->weight,
                        .b_type = HONE_F32,
                        .ldb = p->channels,
                        .b_transposed = true,
                        .C = y,
                        .ldc = p->columns,
                        .alpha = 1,
                        .accumulate = p->bias != NULL};
}

static MatmulArgs input_product(const Projection *p, const float *dy, bool accumulate, float *dx) {
    return (MatmulArgs){.M = p->rows,
                        .N = p->channels,
                        .K = p->columns,
                        .A = dy,
                        .lda = p->columns,
                        .B = p->weight,
                        .b_type = HONE_F32,
                        .ldb = p->channels,
                        .C = dx,
                        .ldc = p->channels,
                        .alpha = 1,
                        .accumulate = accumulate};
}

static MatmulArgs weight_product(const Projection *p, const float *x, const float *dy) {
    return (MatmulArgs){.M = p->columns,
                        .N = p->channels,
                        .K = p->rows,
                        .A = dy,
                        .lda = p->columns,
                        .a_transposed = true,
                        .B = x,
                        .b_type = HONE_F32,
                        .ldb = p->channels,
                        .C = p->d_weight,
                        .ldc = p->channels,
                        .alpha = 1,
                        .accumulate = true};
}

size_t hone_projection_scratch(const KernelContext *kc, const Projection *p) {
    const MatmulArgs products[3] = {forward_product(p, NULL, NULL),
                                    input_product(p, NULL, true, NULL),
                                    weight_product(p, NULL, NULL)};
    size_t most = 0;
    for (int i = 0; i < 3; i++) {
        size_t bytes = hone_matmul_scratch(kc, &products[i]);
        if (bytes > most) most = bytes;
    }
    return most;
}

void hone_project(const KernelContext *kc, const Projection *p, const float *x, float *y,
                  void *scratch) {
    MatmulArgs product = forward_product(p, x, y);
    if (p->bias) hone_repeat_row(kc, p->rows, p->columns, p->bias, y);
    hone_matmul(kc, &product, scratch);
}

void hone_project_to_weight(const KernelContext *kc, const Projection *p, const float *x,
                            const float *dy, void *scratch) {
    MatmulArgs product = weight_product(p, x, dy);
    hone_matmul(kc, &product, scratch);
    if (p->bias) hone_sum_rows(kc, p->rows, p->columns, dy, p->d_bias);
}

void hone_project_to_input(const KernelContext *kc, const Projection *p, const float *dy,
                           bool accumulate, float *dx, void *scratch) {
    MatmulArgs product = input_product(p, dy, accumulate, dx);
    hone_matmul(kc, &product, scratch);
}
