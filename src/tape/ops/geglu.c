// SPDX-License-Identifier: Apache-2.0
// GeGLU (Shazeer 2020): y = gelu(gate) ⊙ up, gelu with tanh.
//   dgate += dy⊙up⊙gelu'(gate);  dup += dy⊙gelu(gate)
// Kept: gate and up. y is made again from them.
#include "tape/record.h"

typedef struct GegluRecord {
    Record base;
    Tensor *gate, *up;
} GegluRecord;

static void forward(Tape *tape, Tensor *gate, Tensor *up, Tensor *y) {
    const float *g = hone_tape_data(tape, gate), *u = hone_tape_data(tape, up);
    float *to = hone_tape_data(tape, y);
    const int64_t count = hone_tensor_count(y);
    if (!hone_tape_runs(tape)) return;
    hone_gelu_forward(hone_tape_kernels(tape), count, g, to);
    hone_multiply(hone_tape_kernels(tape), count, to, u, false, to);
}

static void recompute(Tape *tape, Record *base) {
    const GegluRecord *record = (const GegluRecord *)base;
    forward(tape, record->gate, record->up, base->output);
}

static void backward(Tape *tape, Record *base) {
    const GegluRecord *record = (const GegluRecord *)base;
    const KernelContext *kc = hone_tape_kernels(tape);
    const int64_t count = hone_tensor_count(base->output);
    const float *gate = hone_tape_data(tape, record->gate), *up = hone_tape_data(tape, record->up);
    const float *dy = hone_tape_gradient(tape, base->output);
    Tensor *const inputs[2] = {record->gate, record->up};
    float *gradients[2];
    HeapBlock *unused[2];
    bool writes = hone_tape_gradients_to_write(tape, 2, inputs, gradients, unused);
    HeapBlock *scratch = hone_tape_take_floats(tape, count, 1);
    float *part = hone_block_address(scratch);
    if (hone_tape_runs(tape)) {
        hone_gelu_forward(kc, count, gate, part);
        hone_multiply(kc, count, dy, part, !writes, gradients[1]);
        hone_multiply(kc, count, dy, up, false, part);
        hone_gelu_backward(kc, count, gate, part, !writes, gradients[0]);
    }
    hone_tape_give(tape, scratch);
    for (int i = 0; i < 2; i++) hone_tape_give(tape, unused[i]);
}

Tensor *hone_geglu(Tape *tape, Tensor *gate, Tensor *up) {
    if (!hone_tape_given(tape, gate) || !hone_tape_given(tape, up)) return NULL;
    char text[2][64];
    if (gate->shape[0] != up->shape[0] || gate->shape[1] != up->shape[1])
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a gate %s was given for values %s",
                                hone_shape_text(gate, text[0]), hone_shape_text(up, text[1]));
    Tensor *y = hone_tape_new_tensor(tape, gate->shape[0], gate->shape[1]);
    if (!y) return NULL;
    forward(tape, gate, up, y);

    GegluRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
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
