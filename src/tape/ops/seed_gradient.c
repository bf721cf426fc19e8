// SPDX-License-Identifier: Apache-2.0
// A loss that is computed outside of the tape: x's gradient begins with what is given. There is no
// record, as of every loss.
#include "tape/record.h"

void hone_seed_gradient(Tape *tape, Tensor *x, const float *dx) {
    if (!hone_tape_given(tape, x) || !hone_tape_gradients(tape) || !x->requires_grad) return;
    if (hone_tape_runs_again(tape)) {
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a loss is inside of a checkpointed segment");
        return;
    }
    float *to = hone_tape_gradient(tape, x);
    if (hone_tape_runs(tape))
        hone_accumulate(hone_tape_kernels(tape), hone_tensor_count(x), dx, to);
}
