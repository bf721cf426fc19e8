// SPDX-License-Identifier: Apache-2.0
// Store rows behind others: store_{at+t} = x_t; the result is store's first at+T rows, where they
// lie.
#include <inttypes.h>

#include "tape/record.h"

Tensor *hone_append_rows(Tape *tape, Tensor *store, int64_t at, Tensor *x) {
    if (!hone_tape_given(tape, x)) return NULL;
    int64_t T = x->shape[0], C = x->shape[1];
    char text[2][64];
    if (hone_tape_gradients(tape))
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "rows %s were to be stored where gradients are recorded",
                                hone_shape_text(x, text[0]));
    if (store->shape[1] != C || at < 0 || at > store->shape[0] || T > store->shape[0] - at)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "rows %s do not fit at row %" PRId64 " of %s",
                                hone_shape_text(x, text[0]), at, hone_shape_text(store, text[1]));
    Tensor *rows = hone_tape_host(tape, 1, sizeof *rows);
    const float *from = hone_tape_data(tape, x);
    if (!rows) return NULL;
    *rows = *store;
    rows->shape[0] = at + T;
    if (hone_tape_runs(tape)) {
        const KernelContext *kc = hone_tape_kernels(tape);
        float *to = (float *)store->data + at * C;
        hone_fill(kc, T * C, 0.0f, to);
        hone_accumulate(kc, T * C, from, to);
    }
    return rows;
}
