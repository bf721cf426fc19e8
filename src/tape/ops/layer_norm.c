// SPDX-License-Identifier: Apache-2.0
// Layer norm of rows: y = n ⊙ gain + bias, n = (x − mean)·r, r = 1/√(variance + eps), x (T,C).
//   dx += r·(g − mean(g) − n·mean(g⊙n)), g = dy⊙gain;  dgain += Σ_t dy⊙n;  dbias += Σ_t dy
// Kept: x, and mean and r (T,2). y is made again from x.
#include "tape/record.h"

typedef struct LayerNormRecord {
    Record base;
    Tensor *gain, *bias, *x, *statistics;
    float eps;
} LayerNormRecord;

static void forward(Tape *tape, const LayerNormRecord *call, Tensor *y) {
    const float *x = hone_tape_data(tape, call->x), *w = hone_tape_data(tape, call->gain);
    const float *b = hone_tape_data(tape, call->bias);
    float *to = hone_tape_data(tape, y), *statistics = hone_tape_data(tape, call->statistics);
    if (hone_tape_runs(tape))
        hone_layer_norm_forward(hone_tape_kernels(tape), y->shape[0], y->shape[1], x, w, b,
                                call->eps, to, statistics);
}

static void recompute(Tape *tape, Record *base) {
    forward(tape, (const LayerNormRecord *)base, base->output);
}

static void backward(Tape *tape, Record *base) {
    const LayerNormRecord *record = (const LayerNormRecord *)base;
    const int64_t T = base->output->shape[0], C = base->output->shape[1];
    const float *x = hone_tape_data(tape, record->x), *w = hone_tape_data(tape, record->gain);
    const float *statistics = hone_tape_data(tape, record->statistics);
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx = hone_tape_gradient(tape, record->x);
    float *dw = hone_tape_gradient(tape, record->gain),
          *db = hone_tape_gradient(tape, record->bias);
    HeapBlock *scratch = hone_tape_take(tape, hone_layer_norm_backward_scratch(T, C));
    // The kernel makes both sums or none: where one of the two is frozen, its sum is made and lost.
    HeapBlock *lost = !dw != !db ? hone_tape_take(tape, (size_t)C * sizeof(float)) : NULL;
    if (hone_tape_runs(tape)) {
        float *sum = lost ? hone_block_address(lost) : NULL;
        for (int64_t i = 0; i < C && sum; i++) sum[i] = 0;
        hone_layer_norm_backward(hone_tape_kernels(tape), T, C, x, w, statistics, dy, dx,
                                 dw ? dw : sum, db ? db : sum, hone_block_address(scratch));
    }
    if (lost) hone_tape_give(tape, lost);
    hone_tape_give(tape, scratch);
}

Tensor *hone_layer_norm(Tape *tape, Tensor *gain, Tensor *bias, float eps, Tensor *x) {
    if (!hone_tape_given(tape, x)) return NULL;
    char text[3][64];
    if (hone_tensor_count(gain) != x->shape[1] || hone_tensor_count(bias) != x->shape[1])
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "a norm's gain %s and bias %s were given rows %s",
                                hone_shape_text(gain, text[0]), hone_shape_text(bias, text[1]),
                                hone_shape_text(x, text[2]));
    // The statistics first: y can be made again from them, so y is to be settled before they go.
    LayerNormRecord call = {.gain = gain, .bias = bias, .x = x, .eps = eps};
    call.statistics = hone_tape_new_tensor(tape, x->shape[0], 2);
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    if (!y || !call.statistics) return NULL;
    forward(tape, &call, y);

    LayerNormRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    call.base = record->base;
    *record = call;
    record->base.recompute = recompute;
    record->base.reads[0] = x;
    record->base.reads[1] = call.statistics;
    y->requires_grad = x->requires_grad || gain->requires_grad || bias->requires_grad;
    if (!y->requires_grad) return y;
    hone_tape_save(tape, &record->base, x);
    hone_tape_save(tape, &record->base, call.statistics);
    return y;
}
