// SPDX-License-Identifier: Apache-2.0
// The row and element kernels as their formulas say them (kernels/kernels.h), in float and in
// double: the oracle of the tests. One thread, sums in the order of the index, everything in one
// precision.
#ifndef HONE_KERNELS_REFERENCE_ELEMENT_H
#define HONE_KERNELS_REFERENCE_ELEMENT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ReferenceRope {
    int64_t T;
    int heads, head_size, rotary;
    bool interleaved, inverse;
    const int32_t *position;
    double magnitude; // 0: 1
} ReferenceRope;

typedef struct ReferenceAdamW {
    int64_t count, step;
    double lr, beta1, beta2, eps, decay, scale;
} ReferenceAdamW;

#define HONE_REFERENCE_ELEMENT(NAME, REAL)                                                         \
    void NAME(rms_norm_forward)(int64_t T, int64_t C, const REAL *x, const REAL *w, REAL eps,      \
                                REAL *y, REAL *r);                                                 \
    void NAME(rms_norm_backward)(int64_t T, int64_t C, const REAL *x, const REAL *w,               \
                                 const REAL *r, const REAL *dy, REAL *dx, REAL *dw);               \
    void NAME(layer_norm_forward)(int64_t T, int64_t C, const REAL *x, const REAL *w,              \
                                  const REAL *b, REAL eps, REAL *y, REAL *statistics);             \
    void NAME(layer_norm_backward)(int64_t T, int64_t C, const REAL *x, const REAL *w,             \
                                   const REAL *statistics, const REAL *dy, REAL *dx, REAL *dw,     \
                                   REAL *db);                                                      \
    void NAME(rope)(const ReferenceRope *args, const REAL *frequency, const REAL *x, REAL *y);     \
    void NAME(swiglu_forward)(int64_t count, const REAL *gate, const REAL *up, REAL *y);           \
    void NAME(swiglu_backward)(int64_t count, const REAL *gate, const REAL *up, const REAL *dy,    \
                               REAL *dgate, REAL *dup);                                            \
    void NAME(gelu_forward)(int64_t count, const REAL *x, REAL *y);                                \
    void NAME(gelu_backward)(int64_t count, const REAL *x, const REAL *dy, REAL *dx);              \
    void NAME(relu_forward)(int64_t count, const REAL *x, REAL *y);                                \
    void NAME(relu_backward)(int64_t count, const REAL *x, const REAL *dy, REAL *dx);              \
    void NAME(gelu_erf_forward)(int64_t count, const REAL *x, REAL *y);                            \
    void NAME(gelu_erf_backward)(int64_t count, const REAL *x, const REAL *dy, REAL *dx);          \
    void NAME(scatter_rows)(int64_t T, int64_t C, const int32_t *index, const REAL *dy,            \
                            REAL *table);                                                          \
    void NAME(cross_entropy)(int64_t rows, int64_t V, REAL * logits, const int32_t *first,         \
                             const int32_t *target, const REAL *weight, double z_loss,             \
                             double smoothing, bool gradient, REAL *loss, REAL *logprob);          \
    void NAME(adamw)(const ReferenceAdamW *args, const REAL *g, REAL *p, REAL *m, REAL *v);

#define HONE_REFERENCE_F32(name) hone_reference_f32_##name
#define HONE_REFERENCE_F64(name) hone_reference_f64_##name
HONE_REFERENCE_ELEMENT(HONE_REFERENCE_F32, float)
HONE_REFERENCE_ELEMENT(HONE_REFERENCE_F64, double)

#endif
