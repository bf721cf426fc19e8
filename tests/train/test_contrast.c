// SPDX-License-Identifier: Apache-2.0
// The contrastive loss by its differences, and its way into the tape.
#include <math.h>

#include "base/random.h"
#include "check.h"
#include "train/contrast.h"

enum { PAIRS = 5, C = 7, NUMBERS = 2 * PAIRS * C };

static void draw(float *x, int count, uint64_t stream) {
    RandomStream random = hone_random_stream(7, RANDOM_TEST, stream);
    for (int i = 0; i < count; i++) x[i] = hone_random_normal(&random);
}

static void the_gradient_is_the_difference_of_losses(void) {
    float x[NUMBERS], gradient[NUMBERS];
    double own[PAIRS], sum = 0;
    int64_t right;
    draw(x, NUMBERS, 0);
    const double loss = hone_contrast_loss(x, PAIRS, C, gradient, own, &right);
    for (int i = 0; i < PAIRS; i++) sum += own[i];
    CHECK(fabs(sum / PAIRS - loss) < 1e-12);
    for (int i = 0; i < NUMBERS; i++) {
        const float kept = x[i], step = 0x1p-9f;
        x[i] = kept + step;
        const double above = hone_contrast_loss(x, PAIRS, C, NULL, NULL, &right);
        x[i] = kept - step;
        const double below = hone_contrast_loss(x, PAIRS, C, NULL, NULL, &right);
        x[i] = kept;
        // The third derivative of a loss of scale 20 times step² / 6 is below 1e-3.
        CHECK(fabs((above - below) / (2 * (double)step) - (double)gradient[i]) < 2e-3);
    }
}

static void an_anchor_is_right_that_is_nearest_to_its_own(void) {
    const float x[] = {1, 0, 2, 0.1f, 0, 3, 0.1f, 1, 0.2f, 1, 1, 0}; // the third one is not
    int64_t right;
    const double loss = hone_contrast_loss(x, 3, 2, NULL, NULL, &right);
    CHECK(right == 1); // nor is the first: the third one's positive is nearer
    CHECK(loss > 0 && isfinite(loss));
    CHECK(hone_contrast_loss(x, 1, 2, NULL, NULL, &right) < 1e-12 && right == 1);
}

static void what_is_seeded_flows_back(void) {
    HoneContext *context;
    float values[6] = {1, 2, 3, 4, 5, 6}, grad[6] = {0}, seed[6] = {1, -1, 2, 0, 3, 1};
    const float given[6] = {1, -1, 2, 0, 3, 1};
    CHECK(hone_context_create(NULL, &context) == HONE_OK);
    Tape *tape = hone_tape_create(&context->kernels, (TapeOptions){.gradients = true});
    Tensor x = {.dtype = HONE_F32,
                .rank = 2,
                .shape = {2, 3},
                .data = values,
                .grad = grad,
                .requires_grad = true};
    Tensor *y = hone_scale(tape, 3, &x);
    hone_seed_gradient(tape, y, seed);
    CHECK(hone_tape_backward(tape) == HONE_OK);
    for (int i = 0; i < 6; i++) {
        CHECK(grad[i] == 3 * seed[i]);
        CHECK(seed[i] == given[i]); // what was given is as it was
    }
    hone_tape_free(tape);
    hone_context_free(context);
}

int main(void) {
    RUN(the_gradient_is_the_difference_of_losses);
    RUN(an_anchor_is_right_that_is_nearest_to_its_own);
    RUN(what_is_seeded_flows_back);
    return check_report();
}
