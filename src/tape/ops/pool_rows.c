// SPDX-License-Identifier: Apache-2.0
// Pooling: y_s = mean of the rows of sequence s of x, or the largest of each column of them.
//   dx_t += dy_s / rows; or dx of the row that was the largest += dy_s.
// Kept: of the largest, which row they are.
#include <inttypes.h>

#include "tape/record.h"

typedef struct PoolRecord {
    Record base;
    Tensor *x;
    PoolRows pool;
} PoolRecord;

static void backward(Tape *tape, Record *base) {
    const PoolRecord *record = (const PoolRecord *)base;
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dx = hone_tape_gradient(tape, record->x);
    if (hone_tape_runs(tape))
        hone_pool_rows_backward(hone_tape_kernels(tape), &record->pool, dy, dx);
}

static bool sequences_fit(Tape *tape, const Tensor *x, const int32_t *first, int64_t count) {
    if (count < 1) {
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "no sequence is to be pooled");
        return false;
    }
    for (int64_t s = 0; s < count && !hone_tape_dry(tape); s++) {
        if (first[s] >= 0 && first[s] < first[s + 1] && first[s + 1] <= x->shape[0]) continue;
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                         "sequence %" PRId64 " is rows %" PRId32 " to %" PRId32 " of %" PRId64, s,
                         first[s], first[s + 1], x->shape[0]);
        return false;
    }
    return true;
}

Tensor *hone_pool_rows(Tape *tape, bool largest, Tensor *x, const int32_t *first, int64_t count) {
    if (!hone_tape_given(tape, x) || !sequences_fit(tape, x, first, count)) return NULL;
    PoolRows pool = {.S = count, .C = x->shape[1], .largest = largest, .first = first};
    if (largest) {
        pool.from = hone_tape_host(tape, count * pool.C, sizeof *pool.from);
        if (!pool.from) return NULL;
    }
    Tensor *y = hone_tape_new_tensor(tape, count, pool.C);
    const float *from = hone_tape_data(tape, x);
    if (!y) return NULL;
    if (hone_tape_runs(tape)) hone_pool_rows_forward(hone_tape_kernels(tape), &pool, from, y->data);

    y->requires_grad = hone_tape_gradients(tape) && x->requires_grad;
    if (!y->requires_grad) return y;
    PoolRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->x = x;
    record->pool = pool;
    return y;
}
