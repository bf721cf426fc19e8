// SPDX-License-Identifier: Apache-2.0
// A constant factor: y = f·x;  dx += f·dy. Nothing is kept.
#include "tape/record.h"

typedef struct ScaleRecord {
    Record base;
    Tensor *x;
    float factor;
} ScaleRecord;

static void backward(Tape *tape, Record *base) {
    const ScaleRecord *record = (const ScaleRecord *)base;
    Tensor *const x = record->x;
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx;
    HeapBlock *unused;
    bool writes = hone_tape_gradients_to_write(tape, 1, &x, &dx, &unused);
    if (hone_tape_runs(tape))
        hone_scaled(hone_tape_kernels(tape), hone_tensor_count(x), record->factor, dy, !writes, dx);
    hone_tape_give(tape, unused);
}

Tensor *hone_scale(Tape *tape, float factor, Tensor *x) {
    if (!hone_tape_given(tape, x) || factor == 1) return x;
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    const float *from = hone_tape_data(tape, x);
    if (!y) return NULL;
    if (hone_tape_runs(tape))
        hone_scaled(hone_tape_kernels(tape), hone_tensor_count(y), factor, from, false, y->data);

    y->requires_grad = hone_tape_gradients(tape) && x->requires_grad;
    if (!y->requires_grad) return y;
    ScaleRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->x = x;
    record->factor = factor;
    return y;
}
