// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding of each head: pairs (a,b) are turned by the angle position·frequency.
//   y = m·R·x, and as a rotation is orthogonal:  dx += m·Rᵀ·dy, the turn back. Nothing is kept.
#include "tape/record.h"

typedef struct RotaryRecord {
    Record base;
    Tensor *x;
    RopeArgs args;
} RotaryRecord;

static void backward(Tape *tape, Record *base) {
    const RotaryRecord *record = (const RotaryRecord *)base;
    RopeArgs args = record->args;
    args.inverse = true;
    args.x = hone_tape_gradient(tape, base->output);
    args.y = hone_tape_gradient(tape, record->x);
    if (hone_tape_runs(tape)) hone_rope(hone_tape_kernels(tape), &args);
}

Tensor *hone_rotary(Tape *tape, Tensor *x, int heads, Rotation rotation, const int32_t *position) {
    if (!hone_tape_given(tape, x)) return NULL;
    const int rotary = rotation.rotary;
    char text[64];
    if (heads < 1 || x->shape[1] % heads || rotary < 0 || rotary % 2 ||
        rotary > x->shape[1] / heads)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "rows %s cannot be %d heads of which %d elements turn",
                                hone_shape_text(x, text), heads, rotary);
    Tensor *y = hone_tape_new_tensor(tape, x->shape[0], x->shape[1]);
    if (!y) return NULL;
    RopeArgs args = {.T = x->shape[0],
                     .heads = heads,
                     .head_size = (int)(x->shape[1] / heads),
                     .rotary = rotary,
                     .interleaved = rotation.interleaved,
                     .position = position,
                     .frequency = rotation.frequency,
                     .magnitude = rotation.magnitude,
                     .x = hone_tape_data(tape, x),
                     .y = y->data};
    if (hone_tape_runs(tape)) hone_rope(hone_tape_kernels(tape), &args);

    y->requires_grad = hone_tape_gradients(tape) && x->requires_grad;
    if (!y->requires_grad) return y;
    RotaryRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->x = x;
    record->args = args;
    return y;
}
