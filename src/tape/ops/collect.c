// SPDX-License-Identifier: Apache-2.0
// The rows for experts back to their tokens: y_t = Σ_r x_r over the rows of token t, in the order
// of experts;  dx_r += dy_t. Nothing is kept.
#include "tape/record.h"

typedef struct CollectRecord {
    Record base;
    Tensor *x;
    const Routing *routing;
} CollectRecord;

static void backward(Tape *tape, Record *base) {
    const CollectRecord *record = (const CollectRecord *)base;
    const KernelContext *kc = hone_tape_kernels(tape);
    Tensor *x = record->x;
    const int64_t rows = x->shape[0], C = x->shape[1];
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx;
    HeapBlock *unused;
    const bool writes = hone_tape_gradients_to_write(tape, 1, &x, &dx, &unused);
    HeapBlock *scratch = writes ? NULL : hone_tape_take_floats(tape, rows, C);
    float *to = writes ? dx : hone_block_address(scratch);
    if (hone_tape_runs(tape)) {
        hone_gather_rows(kc, rows, C, HONE_F32, dy, record->routing->token, to);
        if (!writes) hone_accumulate(kc, rows * C, to, dx);
    }
    hone_tape_give(tape, scratch);
}

Tensor *hone_collect(Tape *tape, const Routing *routing, Tensor *x) {
    if (!routing || !hone_tape_given(tape, x)) return NULL;
    const int64_t C = x->shape[1];
    char text[64];
    if (x->shape[0] != routing->rows)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "%lld rows of tokens were given as %s",
                                (long long)routing->rows, hone_shape_text(x, text));
    Tensor *y = hone_tape_new_tensor(tape, routing->tokens, C);
    const float *from = hone_tape_data(tape, x);
    if (!y) return NULL;
    if (hone_tape_runs(tape)) {
        const KernelContext *kc = hone_tape_kernels(tape);
        hone_fill(kc, routing->tokens * C, 0.0f, y->data);
        hone_scatter_rows(kc, routing->rows, C, routing->token, from, y->data);
    }

    y->requires_grad = hone_tape_gradients(tape) && x->requires_grad;
    if (!y->requires_grad) return y;
    CollectRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->x = x;
    record->routing = routing;
    return y;
}
