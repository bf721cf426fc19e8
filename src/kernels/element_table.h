// SPDX-License-Identifier: Apache-2.0
// The inner loops of the row and element kernels: one row or one chunk, in one thread. Pointers
// need no alignment. An output may be the input it is computed from, element by element, where
// said.
#ifndef HONE_KERNELS_ELEMENT_TABLE_H
#define HONE_KERNELS_ELEMENT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

// AdamW's numbers of one step, made once in double:
//   p ← p·keep; m ← β1·m + new_mean·g; v ← β2·v + new_square·g²;
//   p ← p − rate·m / (√v / root + eps)
typedef struct AdamWStep {
    float scale, keep, beta1, new_mean, beta2, new_square, rate, root, eps;
} AdamWStep;

typedef struct ElementTable {
    // Returns Σ x².
    float (*row_squares)(int64_t C, const float *x);
    // y = x · r ⊙ w
    void (*row_scale)(int64_t C, const float *x, const float *w, float r, float *y);
    // Returns Σ dy ⊙ w ⊙ x.
    float (*row_dot)(int64_t C, const float *x, const float *w, const float *dy);
    // dx += r·(dy ⊙ w) − x·slope
    void (*row_gradient)(int64_t C, const float *x, const float *w, float r, float slope,
                         const float *dy, float *dx);
    // dw += dy ⊙ x · r
    void (*row_weight_gradient)(int64_t C, const float *x, float r, const float *dy, float *dw);

    // Layer norm of one row, n = (x − mean)·r: the sum of x; mean((x − mean)²); y = n ⊙ w + b;
    // sum = Σ dy⊙w, Σ dy⊙w⊙n; dx += r·(dy⊙w − average[0] − n·average[1]); dw += dy⊙n, db += dy.
    float (*row_sum)(int64_t C, const float *x);
    float (*row_variance)(int64_t C, const float *x, float mean);
    void (*row_normalise)(int64_t C, const float *x, const float *w, const float *b, float mean,
                          float r, float *y);
    void (*row_normalise_sums)(int64_t C, const float *x, const float *w, const float *dy,
                               float mean, float r, float sum[2]);
    void (*row_normalise_gradient)(int64_t C, const float *x, const float *w, const float *dy,
                                   float mean, float r, const float average[2], float *dx);
    void (*row_normalise_weight_gradient)(int64_t C, const float *x, const float *dy, float mean,
                                          float r, float *dw, float *db);

    // cosine, sine of position · frequency (pairs each), accurate at any position.
    void (*rotary_angles)(int64_t pairs, double position, const float *frequency, float *cosine,
                          float *sine);
    // Rotate pairs by (cosine, sine) (pairs each). y = or, with add, y += the rotated; y may be x.
    // neighbours: (x[2j], x[2j+1]); halves: (a[j], b[j]) into (ya[j], yb[j]).
    void (*rotate_neighbours)(int64_t pairs, const float *cosine, const float *sine, const float *x,
                              float *y, bool add);
    void (*rotate_halves)(int64_t pairs, const float *cosine, const float *sine, const float *a,
                          const float *b, float *ya, float *yb, bool add);

    void (*swiglu)(int64_t count, const float *gate, const float *up, float *y);
    void (*swiglu_gradient)(int64_t count, const float *gate, const float *up, const float *dy,
                            bool add, float *dgate, float *dup);

    // Codes of 8-bit moments: the nearest to x · inverse (0 … 1 in size), and values · scale.
    void (*nearest_codes)(const AdamW8Map *map, int64_t n, const float *x, float inverse,
                          uint8_t *code);
    void (*decode_values)(const AdamW8Map *map, int64_t n, const uint8_t *code, float scale,
                          float *x);

    void (*gelu)(int64_t count, const float *x, float *y);
    void (*gelu_gradient)(int64_t count, const float *x, const float *dy, bool add, float *dx);
    void (*gelu_erf)(int64_t count, const float *x, float *y);
    void (*gelu_erf_gradient)(int64_t count, const float *x, const float *dy, bool add, float *dx);

    // y = [y +] factor·x; y = [y +] a ⊙ b. y may be x, a or b.
    void (*scaled)(int64_t count, float factor, const float *x, bool add, float *y);
    void (*multiply)(int64_t count, const float *a, const float *b, bool add, float *y);
    // y = cap·tanh(x / cap), y may be x; dx = [dx +] dy ⊙ (1 − (y / cap)²), dx may be dy.
    void (*softcap)(int64_t count, float cap, const float *x, float *y);
    void (*softcap_gradient)(int64_t count, float cap, const float *y, const float *dy, bool add,
                             float *dx);

    // t = tanh(a + b); returns Σ w ⊙ t.
    float (*tanh_dot)(int64_t count, const float *a, const float *b, const float *w, float *t);
    // g = slope·w ⊙ (1 − t²): da += g; db += g; dw += slope·t.
    void (*tanh_dot_gradient)(int64_t count, const float *t, const float *w, float slope, float *da,
                              float *db, float *dw);

    void (*add)(int64_t count, const float *a, const float *b, float *y); // y may be a or b

    // The largest element; NaN is passed over. -infinity when there is none.
    float (*maximum)(int64_t count, const float *x);
    // Returns Σ exp(x − shift), its partial sums short enough for a relative error below 1e-6.
    double (*exp_sum)(int64_t count, const float *x, float shift);
    // The same; x ← exp(x − shift).
    double (*exp_sum_store)(int64_t count, float shift, float *x);
    void (*scale)(int64_t count, float factor, float *x); // x ← x·factor

    // Returns Σ x² in double.
    double (*sum_of_squares)(int64_t count, const float *x);
    void (*adamw)(int64_t count, const AdamWStep *step, const float *g, float *p, float *m,
                  float *v);
} ElementTable;

// What the kernel needs of a step's numbers (element.c).
struct AdamWArgs;
AdamWStep hone_adamw_step(const struct AdamWArgs *args);

#endif
