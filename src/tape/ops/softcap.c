// SPDX-License-Identifier: Apache-2.0
// Soft-cap (Gemma 2, 2024): y = c·tanh(x/c);  dx += dy⊙(1 − (y/c)²). Kept: y.
#include "tape/record.h"

typedef struct SoftcapRecord {
    Record base;
    Tensor *x;
    float cap;
} SoftcapRecord;

static void backward(Tape *tape, Record *base) {
    const SoftcapRecord *record = (const SoftcapRecord *)base;
    Tensor *const x = record->x;
    const float *y = hone_tape_data(tape, base->output);
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx;
    HeapBlock *unused;
    bool writes = hone_tape_gradients_to_write(tape, 1, &x, &dx, &unused);
    if (hone_tape_runs(tape))
        hone_softcap_backward(hone_tape_kernels(tape), hone_tensor_count(x), record->cap, y, dy,
                              !writes, dx);
    hone_tape_give(tape, unused);
}

Tensor *hone_softcap(Tape *tape, float cap, Tensor *x) {
    if (!hone_tape_given(tape, x) || cap == 0) return x;
    if (!(cap > 0))
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a soft-cap of %g is not above 0",
                                (double)cap);
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    const float *from = hone_tape_data(tape, x);
    if (!y) return NULL;
    if (hone_tape_runs(tape))
        hone_softcap_forward(hone_tape_kernels(tape), hone_tensor_count(y), cap, from, y->data);

    y->requires_grad = hone_tape_gradients(tape) && x->requires_grad;
    if (!y->requires_grad) return y;
    SoftcapRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->x = x;
    record->cap = cap;
    hone_tape_save(tape, &record->base, y);
    return y;
}
