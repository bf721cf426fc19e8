// SPDX-License-Identifier: Apache-2.0
// Some columns of x side by side: y = x[:, first … first+count-1].  dx[:, first …] += dy
// Kept: nothing.
#include <inttypes.h>
#include <string.h>

#include "tape/record.h"

typedef struct ColumnsRecord {
    Record base;
    Tensor *x;
    int64_t first;
} ColumnsRecord;

static void backward(Tape *tape, Record *base) {
    const ColumnsRecord *record = (const ColumnsRecord *)base;
    const int64_t T = base->output->shape[0], count = base->output->shape[1];
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx = hone_tape_gradient(tape, record->x);
    const KernelContext *kc = hone_tape_kernels(tape);
    if (hone_tape_runs(tape))
        hone_accumulate_columns(kc, T, count, dy, count, dx + record->first, record->x->shape[1]);
}

Tensor *hone_select_columns(Tape *tape, Tensor *x, int64_t first, int64_t count) {
    if (!hone_tape_given(tape, x)) return NULL;
    char text[64];
    if (first < 0 || count < 1 || first > x->shape[1] - count)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "columns %" PRId64 " … %" PRId64 " were wanted of rows %s", first,
                                first + count - 1, hone_shape_text(x, text));
    const int64_t T = x->shape[0];
    Tensor *y = hone_tape_new_tensor(tape, T, count);
    if (!y) return NULL;
    const float *from = hone_tape_data(tape, x);
    if (hone_tape_runs(tape))
        hone_copy_columns(hone_tape_kernels(tape), T, count, from + first, x->shape[1], y->data,
                          count);
    y->requires_grad = hone_tape_gradients(tape) && x->requires_grad;
    if (!y->requires_grad) return y;
    ColumnsRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->x = x;
    record->first = first;
    return y;
}
