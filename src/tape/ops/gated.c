// SPDX-License-Identifier: Apache-2.0
// Gated units (Shazeer 2020): y = act(gate) ⊙ up, act = silu (SwiGLU), silu(g) = g·σ(g), or gelu
// with tanh (GeGLU).
//   dgate += dy⊙up⊙act'(gate);  dup += dy⊙act(gate)
// Kept: gate and up. y is made again from them.
#include "tape/record.h"

typedef struct GatedRecord {
    Record base;
    Tensor *gate, *up;
    bool gelu;
} GatedRecord;

static void forward(Tape *tape, bool gelu, Tensor *gate, Tensor *up, Tensor *y) {
    const KernelContext *kc = hone_tape_kernels(tape);
    const float *g = hone_tape_data(tape, gate), *u = hone_tape_data(tape, up);
    float *to = hone_tape_data(tape, y);
    const int64_t count = hone_tensor_count(y);
    if (!hone_tape_runs(tape)) return;
    if (!gelu) {
        hone_swiglu_forward(kc, count, g, u, to);
        return;
    }
    hone_gelu_forward(kc, count, g, to);
    hone_multiply(kc, count, to, u, false, to);
}

static void recompute(Tape *tape, Record *base) {
    const GatedRecord *record = (const GatedRecord *)base;
    forward(tape, record->gelu, record->gate, record->up, base->output);
}

// Of GELU, for which there is no kernel of both: gradients of gate and up.
static void gelu_backward(Tape *tape, int64_t count, const float *gate, const float *up,
                          const float *dy, bool writes, float *gradients[2]) {
    const KernelContext *kc = hone_tape_kernels(tape);
    HeapBlock *scratch = hone_tape_take_floats(tape, count, 1);
    float *part = hone_block_address(scratch);
    if (hone_tape_runs(tape)) {
        hone_gelu_forward(kc, count, gate, part);
        hone_multiply(kc, count, dy, part, !writes, gradients[1]);
        hone_multiply(kc, count, dy, up, false, part);
        hone_gelu_backward(kc, count, gate, part, !writes, gradients[0]);
    }
    hone_tape_give(tape, scratch);
}

static void backward(Tape *tape, Record *base) {
    const GatedRecord *record = (const GatedRecord *)base;
    const int64_t count = hone_tensor_count(base->output);
    const float *gate = hone_tape_data(tape, record->gate), *up = hone_tape_data(tape, record->up);
    const float *dy = hone_tape_gradient(tape, base->output);
    Tensor *const inputs[2] = {record->gate, record->up};
    float *gradients[2];
    HeapBlock *unused[2];
    bool writes = hone_tape_gradients_to_write(tape, 2, inputs, gradients, unused);
    if (record->gelu)
        gelu_backward(tape, count, gate, up, dy, writes, gradients);
    else if (hone_tape_runs(tape))
        hone_swiglu_backward(hone_tape_kernels(tape), count, gate, up, dy, !writes, gradients[0],
                             gradients[1]);
    for (int i = 0; i < 2; i++) hone_tape_give(tape, unused[i]);
}

static Tensor *gated(Tape *tape, bool gelu, Tensor *gate, Tensor *up) {
    if (!hone_tape_given(tape, gate) || !hone_tape_given(tape, up)) return NULL;
    char text[2][64];
    if (gate->shape[0] != up->shape[0] || gate->shape[1] != up->shape[1])
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a gate %s was given for values %s",
                                hone_shape_text(gate, text[0]), hone_shape_text(up, text[1]));
    Tensor *y = hone_tape_new_tensor(tape, gate->shape[0], gate->shape[1]);
    if (!y) return NULL;
    forward(tape, gelu, gate, up, y);

    GatedRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->gelu = gelu;
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

Tensor *hone_swiglu(Tape *tape, Tensor *gate, Tensor *up) {
    return gated(tape, false, gate, up);
}

Tensor *hone_geglu(Tape *tape, Tensor *gate, Tensor *up) {
    return gated(tape, true, gate, up);
}
