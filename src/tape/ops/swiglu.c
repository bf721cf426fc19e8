// SPDX-License-Identifier: Apache-2.0
// SwiGLU: y = silu(gate) ⊙ up, silu(g) = g·σ(g).
//   dgate += dy⊙up⊙σ(gate)·(1 + gate·(1 − σ(gate)));  dup += dy⊙silu(gate)
// Kept: gate and up. y is made again from them.
#include "tape/record.h"

typedef struct SwigluRecord {
    Record base;
    Tensor *gate, *up;
} SwigluRecord;

static void forward(Tape *tape, Tensor *gate, Tensor *up, Tensor *y) {
    const float *g = hone_tape_data(tape, gate), *u = hone_tape_data(tape, up);
    float *to = hone_tape_data(tape, y);
    if (hone_tape_runs(tape))
        hone_swiglu_forward(hone_tape_kernels(tape), hone_tensor_count(y), g, u, to);
}

static void recompute(Tape *tape, Record *base) {
    const SwigluRecord *record = (const SwigluRecord *)base;
    forward(tape, record->gate, record->up, base->output);
}

static void backward(Tape *tape, Record *base) {
    const SwigluRecord *record = (const SwigluRecord *)base;
    HeapBlock *unused[2];
    const float *gate = hone_tape_data(tape, record->gate), *up = hone_tape_data(tape, record->up);
    const float *dy = hone_tape_gradient(tape, base->output);
    Tensor *const inputs[2] = {record->gate, record->up};
    float *gradients[2];
    bool writes = hone_tape_gradients_to_write(tape, 2, inputs, gradients, unused);
    if (hone_tape_runs(tape))
        hone_swiglu_backward(hone_tape_kernels(tape), hone_tensor_count(base->output), gate, up, dy,
                             !writes, gradients[0], gradients[1]);
    for (int i = 0; i < 2; i++) hone_tape_give(tape, unused[i]);
}

Tensor *hone_swiglu(Tape *tape, Tensor *gate, Tensor *up) {
    if (!hone_tape_given(tape, gate) || !hone_tape_given(tape, up)) return NULL;
    char text[2][64];
    if (gate->shape[0] != up->shape[0] || gate->shape[1] != up->shape[1])
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a gate %s was given for values %s",
                                hone_shape_text(gate, text[0]), hone_shape_text(up, text[1]));
    Tensor *y = hone_tape_new_tensor(tape, gate->shape[0], gate->shape[1]);
    if (!y) return NULL;
    forward(tape, gate, up, y);

    SwigluRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->gate = gate;
    record->up = up;
    record->base.recompute = recompute;
    record->base.reads[0] = gate;
    record->base.reads[1] = up;
    y->requires_grad = gate->requires_grad || up->requires_grad;
    if (!y->requires_grad) return y;
    hone_tape_save(tape, &record->base, gate);
    hone_tape_save(tape, &record->base, up);
    return y;
}
