// SPDX-License-Identifier: Apache-2.0
// ReLU: y = max(x, 0).  dx += dy where x > 0
// Kept: x. y is made again from it.
#include "tape/record.h"

typedef struct ReluRecord {
    Record base;
    Tensor *x;
} ReluRecord;

static void forward(Tape *tape, Tensor *x, Tensor *y) {
    const float *from = hone_tape_data(tape, x);
    float *to = hone_tape_data(tape, y);
    if (hone_tape_runs(tape))
        hone_relu_forward(hone_tape_kernels(tape), hone_tensor_count(y), from, to);
}

static void recompute(Tape *tape, Record *base) {
    forward(tape, ((const ReluRecord *)base)->x, base->output);
}

static void backward(Tape *tape, Record *base) {
    Tensor *const x = ((const ReluRecord *)base)->x;
    const float *from = hone_tape_data(tape, x), *dy = hone_tape_gradient(tape, base->output);
    float *dx;
    HeapBlock *unused;
    bool writes = hone_tape_gradients_to_write(tape, 1, &x, &dx, &unused);
    if (hone_tape_runs(tape))
        hone_relu_backward(hone_tape_kernels(tape), hone_tensor_count(x), from, dy, !writes, dx);
    hone_tape_give(tape, unused);
}

Tensor *hone_relu(Tape *tape, Tensor *x) {
    if (!hone_tape_given(tape, x)) return NULL;
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    if (!y) return NULL;
    forward(tape, x, y);

    ReluRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->x = x;
    record->base.recompute = recompute;
    record->base.reads[0] = x;
    y->requires_grad = x->requires_grad;
    if (y->requires_grad) hone_tape_save(tape, &record->base, x);
    return y;
}
