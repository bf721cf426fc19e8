// SPDX-License-Identifier: Apache-2.0
// Root-mean-square norm of rows: y = x · r ⊙ gain, r = 1/√(mean(x²) + eps), x (T,C), gain (C).
//   dx += r·(dy⊙gain − x·r²·mean(dy⊙gain⊙x));  dgain += Σ_t dy⊙x·r
// A gain (D) shorter than the row is that of each head: x (T,H·D) is taken for (T·H,D).
// Kept: x and r (T·H,1). y is made again from x.
#include "tape/record.h"

typedef struct RmsNormRecord {
    Record base;
    Tensor *gain, *x, *r;
    float eps;
} RmsNormRecord;

static void forward(Tape *tape, Tensor *gain, float eps, Tensor *x, Tensor *y, Tensor *r) {
    const float *from = hone_tape_data(tape, x), *w = hone_tape_data(tape, gain);
    float *to = hone_tape_data(tape, y), *statistics = hone_tape_data(tape, r);
    if (hone_tape_runs(tape))
        hone_rms_norm_forward(hone_tape_kernels(tape), hone_tensor_count(r),
                              hone_tensor_count(gain), from, w, eps, to, statistics);
}

static void recompute(Tape *tape, Record *base) {
    const RmsNormRecord *record = (const RmsNormRecord *)base;
    forward(tape, record->gain, record->eps, record->x, base->output, record->r);
}

static void backward(Tape *tape, Record *base) {
    const RmsNormRecord *record = (const RmsNormRecord *)base;
    Tensor *x = record->x;
    int64_t T = hone_tensor_count(record->r), C = hone_tensor_count(record->gain);
    const float *from = hone_tape_data(tape, x), *w = hone_tape_data(tape, record->gain);
    const float *r = hone_tape_data(tape, record->r), *dy = hone_tape_gradient(tape, base->output);
    float *dx = hone_tape_gradient(tape, x), *dw = hone_tape_gradient(tape, record->gain);
    HeapBlock *scratch =
        hone_tape_take(tape, hone_rms_norm_backward_scratch(hone_tape_kernels(tape), T, C));
    if (hone_tape_runs(tape))
        hone_rms_norm_backward(hone_tape_kernels(tape), T, C, from, w, r, dy, dx, dw,
                               hone_block_address(scratch));
    hone_tape_give(tape, scratch);
}

Tensor *hone_rms_norm(Tape *tape, Tensor *gain, float eps, Tensor *x) {
    if (!hone_tape_given(tape, x)) return NULL;
    char text[2][64];
    const int64_t size = hone_tensor_count(gain);
    if (size < 1 || x->shape[1] % size)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a norm's gain %s was given rows %s",
                                hone_shape_text(gain, text[0]), hone_shape_text(x, text[1]));
    // r first: y can be made again from it, so y is to be settled before r is given back.
    Tensor *r = hone_tape_new_tensor(tape, x->shape[0] * (x->shape[1] / size), 1);
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    if (!y || !r) return NULL;
    forward(tape, gain, eps, x, y, r);

    RmsNormRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->gain = gain;
    record->eps = eps;
    record->x = x;
    record->r = r;
    record->base.recompute = recompute;
    record->base.reads[0] = x;
    record->base.reads[1] = r;
    y->requires_grad = x->requires_grad || gain->requires_grad;
    if (!y->requires_grad) return y;
    hone_tape_save(tape, &record->base, x);
    hone_tape_save(tape, &record->base, r);
    return y;
}
