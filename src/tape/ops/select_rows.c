// SPDX-License-Identifier: Apache-2.0
// Choice of rows: y_r = x_rows[r];  dx_rows[r] += dy_r. Nothing is kept but x where y is needed
// again.
#include <inttypes.h>

#include "tape/record.h"

typedef struct SelectRecord {
    Record base;
    Tensor *x;
    const int32_t *rows;
} SelectRecord;

static void forward(Tape *tape, Tensor *x, const int32_t *rows, Tensor *y) {
    const float *from = hone_tape_data(tape, x);
    float *to = hone_tape_data(tape, y);
    if (hone_tape_runs(tape))
        hone_gather_rows(hone_tape_kernels(tape), y->shape[0], y->shape[1], HONE_F32, from, rows,
                         to);
}

static void recompute(Tape *tape, Record *base) {
    const SelectRecord *record = (const SelectRecord *)base;
    forward(tape, record->x, record->rows, base->output);
}

static void backward(Tape *tape, Record *base) {
    const SelectRecord *record = (const SelectRecord *)base;
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx = hone_tape_gradient(tape, record->x);
    if (hone_tape_runs(tape))
        hone_scatter_rows(hone_tape_kernels(tape), base->output->shape[0], base->output->shape[1],
                          record->rows, dy, dx);
}

Tensor *hone_select_rows(Tape *tape, Tensor *x, const int32_t *rows, int64_t count) {
    if (!hone_tape_given(tape, x)) return NULL;
    for (int64_t i = 0; i < count && hone_tape_runs(tape); i++)
        if (rows[i] < 0 || rows[i] >= x->shape[0])
            return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                    "row %" PRId32 " was chosen out of %" PRId64, rows[i],
                                    x->shape[0]);
    Tensor *y = hone_tape_new_tensor(tape, count, x->shape[1]);
    if (!y) return NULL;
    forward(tape, x, rows, y);

    SelectRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return y;
    record->x = x;
    record->rows = rows;
    record->base.recompute = recompute;
    record->base.reads[0] = x;
    y->requires_grad = x->requires_grad;
    return y;
}
