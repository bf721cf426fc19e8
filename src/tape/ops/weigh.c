// SPDX-License-Identifier: Apache-2.0
// Rows times numbers of their own: y_r = w_r·x_r, x (T,C), w (T,1).
//   dx_r += w_r·dy_r;  dw_r += dy_r·x_r
// Kept: w, and x where w has a gradient. y is made again from them.
#include "tape/record.h"

typedef struct WeighRecord {
    Record base;
    Tensor *x, *w;
} WeighRecord;

static void forward(Tape *tape, Tensor *x, Tensor *w, Tensor *y) {
    const float *from = hone_tape_data(tape, x), *factor = hone_tape_data(tape, w);
    float *to = hone_tape_data(tape, y);
    if (hone_tape_runs(tape))
        hone_weigh_rows(hone_tape_kernels(tape), x->shape[0], x->shape[1], factor, from, false, to);
}

static void recompute(Tape *tape, Record *base) {
    const WeighRecord *record = (const WeighRecord *)base;
    forward(tape, record->x, record->w, base->output);
}

static void backward(Tape *tape, Record *base) {
    const WeighRecord *record = (const WeighRecord *)base;
    const KernelContext *kc = hone_tape_kernels(tape);
    Tensor *x = record->x;
    const float *dy = hone_tape_gradient(tape, base->output);
    if (record->w->requires_grad) {
        const float *from = hone_tape_data(tape, x);
        float *dw = hone_tape_gradient(tape, record->w);
        if (hone_tape_runs(tape)) hone_dot_rows(kc, x->shape[0], x->shape[1], from, dy, dw);
    }
    if (!x->requires_grad) return;
    const float *w = hone_tape_data(tape, record->w);
    float *dx;
    HeapBlock *unused;
    const bool writes = hone_tape_gradients_to_write(tape, 1, &x, &dx, &unused);
    if (hone_tape_runs(tape)) hone_weigh_rows(kc, x->shape[0], x->shape[1], w, dy, !writes, dx);
}

Tensor *hone_weigh(Tape *tape, Tensor *x, Tensor *weight) {
    if (!hone_tape_given(tape, x) || !hone_tape_given(tape, weight)) return NULL;
    char text[2][64];
    if (hone_tensor_count(weight) != x->shape[0])
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "weights %s were given for rows %s",
                                hone_shape_text(weight, text[0]), hone_shape_text(x, text[1]));
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    if (!y) return NULL;
    forward(tape, x, weight, y);

    WeighRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->x = x;
    record->w = weight;
    record->base.recompute = recompute;
    record->base.reads[0] = x;
    record->base.reads[1] = weight;
    y->requires_grad = x->requires_grad || weight->requires_grad;
    if (!y->requires_grad) return y;
    if (x->requires_grad) hone_tape_save(tape, &record->base, weight);
    if (weight->requires_grad) hone_tape_save(tape, &record->base, x);
    return y;
}
