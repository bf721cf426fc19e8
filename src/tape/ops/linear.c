// SPDX-License-Identifier: Apache-2.0
// Linear: y = [bias +] x·Wᵀ + Σ scale·(x·Aᵀ)·Bᵀ, x (T,in), W (out,in) of any weight type. Formulas,
// DoRA's too: weight.h. Kept: x only when W or an A is trained, u = x·Aᵀ (T, ranks) only when a B
// is.
#include "tape/ops/weight.h"

typedef struct LinearRecord {
    Record base;
    Weight *weight;
    Tensor *x, *u, *z;
    const uint64_t *path;
} LinearRecord;

static void backward(Tape *tape, Record *base) {
    const LinearRecord *record = (const LinearRecord *)base;
    Tensor *x = record->x;
    WeightRows rows = {.T = x->shape[0],
                       .path = record->path,
                       .x =
                           hone_weight_reads_input(record->weight) ? hone_tape_data(tape, x) : NULL,
                       .u = record->u ? hone_tape_data(tape, record->u) : NULL,
                       .z = record->z ? hone_tape_data(tape, record->z) : NULL,
                       .dy = hone_tape_gradient(tape, base->output),
                       .wants_dx = x->requires_grad};
    HeapBlock *unused = NULL; // x's gradient is asked for only where it is wanted
    if (rows.wants_dx)
        rows.writes_dx = hone_tape_gradients_to_write(tape, 1, &x, &rows.dx, &unused);
    hone_weight_backward(tape, record->weight, &rows);
}

Tensor *hone_linear(Tape *tape, Weight *weight, Tensor *x, const uint64_t *path) {
    if (!hone_tape_given(tape, x) || !hone_weight_fits(tape, weight, x)) return NULL;
    int64_t T = x->shape[0], ranks = hone_weight_ranks(weight);
    bool trained = hone_tape_gradients(tape) && hone_weight_is_trained(weight);
    if (!hone_tape_gradients(tape)) path = NULL;
    Tensor *y = hone_tape_new_tensor(tape, T, weight->base.shape[0]);
    Tensor *u = NULL, *z = NULL;
    HeapBlock *scratch = NULL;
    if (trained && hone_weight_reads_ranks(weight))
        u = hone_tape_new_tensor(tape, T, ranks);
    else if (ranks > 0)
        scratch = hone_tape_take_floats(tape, T, ranks);
    if (trained && hone_weight_reads_product(weight))
        z = hone_tape_new_tensor(tape, T, weight->base.shape[0]);
    if (!y) return NULL;
    hone_weight_forward(tape, weight,
                        &(WeightRows){.T = T,
                                      .path = path,
                                      .x = hone_tape_data(tape, x),
                                      .u = u ? u->data : hone_block_address(scratch),
                                      .z = z ? z->data : NULL,
                                      .y = y->data});
    hone_tape_give(tape, scratch);

    y->requires_grad = trained || (hone_tape_gradients(tape) && x->requires_grad);
    if (!y->requires_grad) return y;
    LinearRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->weight = weight;
    record->x = x;
    record->u = u;
    record->z = z;
    record->path = path;
    if (hone_weight_reads_input(weight)) hone_tape_save(tape, &record->base, x);
    if (u) hone_tape_save(tape, &record->base, u);
    if (z) hone_tape_save(tape, &record->base, z);
    return y;
}
