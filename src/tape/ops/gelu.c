// SPDX-License-Identifier: Apache-2.0
// GELU (Hendrycks, Gimpel 2016), with tanh or with erf: y = gelu(x).  dx += dy⊙gelu'(x)
// Kept: x. y is made again from it.
#include "tape/record.h"

typedef struct GeluRecord {
    Record base;
    Tensor *x;
    bool erf;
} GeluRecord;

static void forward(Tape *tape, bool erf, Tensor *x, Tensor *y) {
    const KernelContext *kc = hone_tape_kernels(tape);
    const int64_t count = hone_tensor_count(y);
    const float *from = hone_tape_data(tape, x);
    float *to = hone_tape_data(tape, y);
    if (!hone_tape_runs(tape)) return;
    if (erf)
        hone_gelu_erf_forward(kc, count, from, to);
    else
        hone_gelu_forward(kc, count, from, to);
}

static void recompute(Tape *tape, Record *base) {
    const GeluRecord *record = (const GeluRecord *)base;
    forward(tape, record->erf, record->x, base->output);
}

static void backward(Tape *tape, Record *base) {
    const KernelContext *kc = hone_tape_kernels(tape);
    const GeluRecord *record = (const GeluRecord *)base;
    Tensor *const x = record->x;
    const int64_t count = hone_tensor_count(x);
    const float *from = hone_tape_data(tape, x), *dy = hone_tape_gradient(tape, base->output);
    float *dx;
    HeapBlock *unused;
    bool writes = hone_tape_gradients_to_write(tape, 1, &x, &dx, &unused);
    if (hone_tape_runs(tape) && record->erf)
        hone_gelu_erf_backward(kc, count, from, dy, !writes, dx);
    else if (hone_tape_runs(tape))
        hone_gelu_backward(kc, count, from, dy, !writes, dx);
    hone_tape_give(tape, unused);
}

static Tensor *gelu(Tape *tape, bool erf, Tensor *x) {
    if (!hone_tape_given(tape, x)) return NULL;
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    if (!y) return NULL;
    forward(tape, erf, x, y);

    GeluRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->x = x;
    record->erf = erf;
    record->base.recompute = recompute;
    record->base.reads[0] = x;
    y->requires_grad = x->requires_grad;
    if (y->requires_grad) hone_tape_save(tape, &record->base, x);
    return y;
}

Tensor *hone_gelu(Tape *tape, Tensor *x) {
    return gelu(tape, false, x);
}

Tensor *hone_gelu_erf(Tape *tape, Tensor *x) {
    return gelu(tape, true, x);
}
