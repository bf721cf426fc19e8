// SPDX-License-Identifier: Apache-2.0
// Sum: y = a + b;  da += dy;  db += dy. Nothing is kept.
#include "tape/record.h"

typedef struct AddRecord {
    Record base;
    Tensor *a, *b;
} AddRecord;

static void backward(Tape *tape, Record *base) {
    const AddRecord *record = (const AddRecord *)base;
    float *db = hone_tape_gradient(tape, record->b);
    if (db && hone_tape_runs(tape))
        hone_accumulate(hone_tape_kernels(tape), hone_tensor_count(base->output),
                        hone_tape_gradient(tape, base->output), db);
    hone_tape_pass_gradient(tape, base->output, record->a);
}

Tensor *hone_add(Tape *tape, Tensor *a, Tensor *b) {
    if (!hone_tape_given(tape, a) || !hone_tape_given(tape, b)) return NULL;
    char text[2][64];
    if (a->shape[0] != b->shape[0] || a->shape[1] != b->shape[1])
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "%s was to be added to %s",
                                hone_shape_text(b, text[0]), hone_shape_text(a, text[1]));
    Tensor *y = hone_tape_new_tensor(tape, a->shape[0], a->shape[1]);
    const float *first = hone_tape_data(tape, a), *second = hone_tape_data(tape, b);
    if (!y) return NULL;
    if (hone_tape_runs(tape))
        hone_add_forward(hone_tape_kernels(tape), hone_tensor_count(y), first, second, y->data);

    y->requires_grad = hone_tape_gradients(tape) && (a->requires_grad || b->requires_grad);
    if (!y->requires_grad) return y;
    AddRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->a = a;
    record->b = b;
    return y;
}
