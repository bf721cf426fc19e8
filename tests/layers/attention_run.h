// SPDX-License-Identifier: Apache-2.0
// The library's attention on an oracle's problem: arrays laid out in several ways with poisoned
// gaps, and the comparison with what the oracle says.
#ifndef HONE_TESTS_LAYERS_ATTENTION_RUN_H
#define HONE_TESTS_LAYERS_ATTENTION_RUN_H

#include "attention_oracle.h"

typedef enum Layout {
    ROWS,          // (batch, rows, heads, size)
    HEADS_OUTSIDE, // (batch, heads, rows, size)
    WITH_GAPS,     // rows, with poison after each head, row and element of the batch
    LAYOUTS
} Layout;

// One tensor of a call. Elements are f32, or bf16 where `half`.
typedef struct Array {
    int64_t batch, rows, heads, size, elements;
    bool half;
    HoneView view;
} Array;

static const double start = 0.25; // what gradients are added to

static inline Array make_array(int64_t batch, int64_t rows, int64_t heads, int64_t size,
                               Layout layout, bool half) {
    Array a = {batch, rows, heads, size, 0, half, {0}};
    int64_t gap = layout == WITH_GAPS ? 3 : 0;
    a.view.head = size + gap;
    a.view.row = heads * a.view.head + gap;
    a.view.batch = rows * a.view.row + gap;
    if (layout == HEADS_OUTSIDE) {
        a.view.row = size;
        a.view.head = rows * size;
    }
    a.elements = batch * a.view.batch + 1;
    a.view.data = hone_alloc((size_t)a.elements * sizeof(float));
    memset(a.view.data, 0xff, (size_t)a.elements * sizeof(float)); // NaN of both types
    return a;
}

static inline int64_t place(const Array *a, int64_t dense) {
    int64_t c = dense % a->size, h = dense / a->size % a->heads;
    int64_t t = dense / a->size / a->heads % a->rows, b = dense / a->size / a->heads / a->rows;
    return b * a->view.batch + t * a->view.row + h * a->view.head + c;
}

static inline int64_t dense_count(const Array *a) {
    return a->batch * a->rows * a->heads * a->size;
}

static inline float element(const Array *a, int64_t at) {
    if (a->half) return hone_bf16_to_f32(((const uint16_t *)a->view.data)[at]);
    return ((const float *)a->view.data)[at];
}

static inline void set(Array *a, int64_t at, double value) {
    if (a->half)
        ((uint16_t *)a->view.data)[at] = hone_f32_to_bf16((float)value);
    else
        ((float *)a->view.data)[at] = (float)value;
}

static inline Array filled(const double *dense, Array a) {
    for (int64_t i = 0; i < dense_count(&a); i++) set(&a, place(&a, i), dense ? dense[i] : start);
    return a;
}

static inline HoneConstView read_only(const Array *a) {
    return (HoneConstView){a->view.data, a->view.batch, a->view.row, a->view.head};
}

// A call's arrays. mask_data is the caller's.
typedef struct Run {
    Array q, k, v, o, d_o, dq, dk, dv;
    float *lse, *weights, *sinks, *d_sinks, *d_mask;
    HoneAttentionTensors tensors;
} Run;

static inline float *floats(int64_t count, float value) {
    float *array = hone_alloc((size_t)(count + 1) * sizeof *array);
    for (int64_t i = 0; i < count; i++) array[i] = value;
    return array;
}

static inline Run make_run(const Oracle *x, Layout layout, const void *mask_data, uint64_t seed) {
    const HoneAttentionOptions *o = &x->options;
    int64_t B = o->batch, Q = o->queries, N = o->keys, H = o->heads, K = kv_heads_of(o);
    int64_t D = o->head_size, E = size_of(o, true);
    bool half = o->element == HONE_ELEMENT_BF16;
    Run r = {.q = filled(x->q, make_array(B, Q, H, D, layout, half)),
             .k = filled(x->k, make_array(B, N, K, D, layout, half)),
             .v = filled(x->v, make_array(B, N, K, E, layout, half)),
             .o = make_array(B, Q, H, E, layout, half),
             .d_o = filled(x->d_o, make_array(B, Q, H, E, layout, half)),
             .dq = filled(NULL, make_array(B, Q, H, D, layout, false)),
             .dk = filled(NULL, make_array(B, N, K, D, layout, false)),
             .dv = filled(NULL, make_array(B, N, K, E, layout, false))};
    r.lse = floats(B * H * Q, NAN);
    r.weights = o->weights ? floats(pairs_of(o), NAN) : NULL;
    r.sinks = o->sinks ? floats(H, 0) : NULL;
    r.d_sinks = o->sinks ? floats(H, (float)start) : NULL;
    r.d_mask = o->mask.gradient ? floats(o->mask.elements, (float)start) : NULL;
    for (int64_t h = 0; o->sinks && h < H; h++) r.sinks[h] = (float)x->sinks[h];
    r.tensors = (HoneAttentionTensors){.q = read_only(&r.q),
                                       .k = read_only(&r.k),
                                       .v = read_only(&r.v),
                                       .o = r.o.view,
                                       .lse = r.lse,
                                       .mask = mask_data,
                                       .sinks = r.sinks,
                                       .seed = seed,
                                       .weights = r.weights,
                                       .d_o = read_only(&r.d_o),
                                       .dq = r.dq.view,
                                       .dk = r.dk.view,
                                       .dv = r.dv.view,
                                       .d_mask = r.d_mask,
                                       .d_sinks = r.d_sinks};
    return r;
}

static inline void free_run(Run *r) {
    Array *arrays[] = {&r->q, &r->k, &r->v, &r->o, &r->d_o, &r->dq, &r->dk, &r->dv};
    for (int i = 0; i < 8; i++) hone_free(arrays[i]->view.data);
    float *more[] = {r->lse, r->weights, r->sinks, r->d_sinks, r->d_mask};
    for (int i = 0; i < 5; i++) hone_free(more[i]);
}

static inline bool same_bits(const Run *a, const Run *b) {
    const Array *x[] = {&a->o, &a->dq, &a->dk, &a->dv}, *y[] = {&b->o, &b->dq, &b->dk, &b->dv};
    bool same = true;
    for (int i = 0; i < 4; i++)
        same = same && memcmp(x[i]->view.data, y[i]->view.data,
                              (size_t)x[i]->elements * (x[i]->half ? 2 : 4)) == 0;
    return same;
}

// |error| ≤ relative · max|want| + absolute. shift: what the array began with.
static inline bool close_to(const char *name, const float *got, const double *want, int64_t count,
                            double relative, double absolute, double shift) {
    double highest = 0, worst = 0;
    int64_t at = -1;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(want[i]) && fabs(want[i]) > highest) highest = fabs(want[i]);
    for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - want[i] - shift);
        if ((double)got[i] == want[i]) error = 0; // infinities
        if (!(error <= worst)) worst = isnan(error) ? (double)INFINITY : error, at = i;
    }
    if (worst <= relative * highest + absolute) return true;
    printf("%s[%lld] is %.9g, want %.9g (largest %.3g)\n", name, (long long)at, (double)got[at],
           want[at] + shift, highest);
    return false;
}

// The array in dense order. No gap may have been written. Caller frees.
static inline float *gathered(const Array *a, bool *gaps_kept) {
    float *dense = floats(dense_count(a), 0);
    int64_t numbers = 0, inside = 0;
    for (int64_t i = 0; i < dense_count(a); i++) {
        dense[i] = element(a, place(a, i));
        inside += !isnan(dense[i]);
    }
    for (int64_t i = 0; i < a->elements; i++) numbers += !isnan(element(a, i));
    *gaps_kept = *gaps_kept && numbers == inside;
    return dense;
}

static inline bool array_close(const char *name, const Array *a, const double *want,
                               double relative, double absolute, double shift) {
    bool gaps_kept = true;
    float *dense = gathered(a, &gaps_kept);
    if (!gaps_kept) printf("%s: a gap was written\n", name);
    bool close = close_to(name, dense, want, dense_count(a), relative, absolute, shift);
    hone_free(dense);
    return close && gaps_kept;
}

// The tolerances are those of the kernels' tests, for inputs of unit scale; bf16 outputs have two
// units in the last place of their largest value besides.
static inline bool forward_close(const Oracle *x, const Run *r) {
    const HoneAttentionOptions *o = &x->options;
    double relative = o->element == HONE_ELEMENT_BF16 ? 8e-3 : 2e-6;
    bool ok = array_close("o", &r->o, x->o, relative, 1e-6, 0);
    ok = close_to("lse", r->lse, x->lse, o->batch * o->heads * o->queries, 2e-6, 1e-6, 0) && ok;
    if (r->weights) ok = close_to("weights", r->weights, x->p, pairs_of(o), 2e-6, 1e-6, 0) && ok;
    return ok;
}

// d_mask, summed to the mask's elements, is the caller's to compare.
static inline bool backward_close(const Oracle *x, const Run *r) {
    // Backward of bf16 reads the rounded o, which moves Σ d_o·o.
    double relative = x->options.element == HONE_ELEMENT_BF16 ? 2e-2 : 5e-6;
    bool ok = array_close("dq", &r->dq, x->dq, relative, 2e-6, start);
    ok = array_close("dk", &r->dk, x->dk, relative, 2e-6, start) && ok;
    ok = array_close("dv", &r->dv, x->dv, relative, 2e-6, start) && ok;
    if (r->d_sinks)
        ok = close_to("d_sinks", r->d_sinks, x->d_sinks, x->options.heads, relative, 2e-6, start) &&
             ok;
    return ok;
}

#endif
