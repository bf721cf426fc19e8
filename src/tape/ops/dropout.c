// SPDX-License-Identifier: Apache-2.0
// Dropout (Srivastava et al. 2014): y = keep ⊙ x / (1 − rate);  dx += keep ⊙ dy / (1 − rate).
// Nothing is kept: what is dropped is drawn again, and y is made again from x.
#include "tape/record.h"

typedef struct DropoutRecord {
    Record base;
    Tensor *x;
    DropoutRows rows;
} DropoutRecord;

static void forward(Tape *tape, const DropoutRows *rows, Tensor *x, Tensor *y) {
    const float *from = hone_tape_data(tape, x);
    float *to = hone_tape_data(tape, y);
    if (hone_tape_runs(tape)) hone_dropout_rows(hone_tape_kernels(tape), rows, from, to, false);
}

static void recompute(Tape *tape, Record *base) {
    const DropoutRecord *record = (const DropoutRecord *)base;
    forward(tape, &record->rows, record->x, base->output);
}

static void backward(Tape *tape, Record *base) {
    const DropoutRecord *record = (const DropoutRecord *)base;
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx = hone_tape_gradient(tape, record->x);
    if (hone_tape_runs(tape) && dx)
        hone_dropout_rows(hone_tape_kernels(tape), &record->rows, dy, dx, true);
}

Tensor *hone_dropout(Tape *tape, Dropout dropout, uint32_t place, const uint64_t *path, Tensor *x) {
    if (!hone_tape_given(tape, x)) return NULL;
    if (!(dropout.rate > 0) || !path || !hone_tape_gradients(tape)) return x;
    const DropoutRows rows = {.T = x->shape[0],
                              .C = x->shape[1],
                              .rate = dropout.rate,
                              .key = dropout.key,
                              .place = place,
                              .path = path};
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    if (!y) return NULL;
    forward(tape, &rows, x, y);

    DropoutRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->x = x;
    record->rows = rows;
    record->base.recompute = recompute;
    record->base.reads[0] = x;
    y->requires_grad = x->requires_grad;
    return y;
}
