// SPDX-License-Identifier: Apache-2.0
// The tape itself: what scopes give back and what is made again, errors, dry runs.
#include "base/random.h"
#include "check.h"
#include "tape/record.h"

enum { T = 16, C = 32, ROW_BYTES = T * C * 4, STATISTICS = T * 4 };

typedef struct Bench {
    Tape *tape;
    float values[5][C * C], gradient[5][C * C];
    Tensor x, gain, bias;
    Weight weight[2];
} Bench;

static void make_tensor(Bench *bench, Tensor *tensor, int slot, int64_t rows, int64_t columns,
                        bool trained) {
    RandomStream random = hone_random_stream(5, RANDOM_TEST, (uint64_t)slot);
    for (int i = 0; i < C * C; i++) bench->values[slot][i] = 0.3f * hone_random_normal(&random);
    memset(bench->gradient[slot], 0, sizeof bench->gradient[slot]);
    *tensor = (Tensor){.rank = columns ? 2 : 1,
                       .shape = {rows, columns},
                       .data = bench->values[slot],
                       .grad = bench->gradient[slot],
                       .requires_grad = trained};
}

static void make_bench(Bench *bench, TapeOptions options, bool trained) {
    KernelContext kc = {0};
    HoneError err = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    *bench = (Bench){.tape = hone_tape_create(&kc, options)};
    make_tensor(bench, &bench->x, 0, T, C, false);
    make_tensor(bench, &bench->gain, 1, C, 0, trained);
    make_tensor(bench, &bench->weight[0].base, 2, C, C, trained);
    make_tensor(bench, &bench->weight[1].base, 3, C, C, trained);
    make_tensor(bench, &bench->bias, 4, C, 0, trained);
}

// y = h + h·W0ᵀ, h = norm(x): one block, in a scope of its own
static Tensor *block(Bench *bench, Tensor *x, int weight) {
    hone_tape_enter(bench->tape);
    Tensor *h = hone_rms_norm(bench->tape, &bench->gain, 1e-5f, x);
    Tensor *y = hone_linear(bench->tape, &bench->weight[weight], h, NULL);
    return hone_tape_leave(bench->tape, hone_add(bench->tape, x, y));
}

static void scopes_keep_what_backward_needs(void) {
    Bench bench;
    make_bench(&bench, (TapeOptions){.gradients = true}, true);
    Tensor *y = block(&bench, &bench.x, 0);
    // h is made again from x, which is the caller's; its statistics and the result stay
    CHECK_INT(hone_tape_used(bench.tape), ROW_BYTES + STATISTICS);
    y = block(&bench, y, 1);
    CHECK_INT(hone_tape_used(bench.tape), 2 * (ROW_BYTES + STATISTICS));
    hone_fill(hone_tape_kernels(bench.tape), T * C, 1.0f, hone_tape_gradient(bench.tape, y));
    CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
    CHECK_INT(hone_tape_used(bench.tape), 0);
    hone_tape_free(bench.tape);
}

static void scopes_without_gradients_keep_their_result(void) {
    Bench bench;
    make_bench(&bench, (TapeOptions){.gradients = false}, true);
    Tensor *y = block(&bench, &bench.x, 0);
    CHECK_INT(hone_tape_used(bench.tape), ROW_BYTES);
    CHECK(!y->requires_grad);
    hone_tape_enter(bench.tape);
    Tensor *z = hone_add(bench.tape, y, y);
    for (int i = 0; i < 3; i++) z = hone_tape_renew(bench.tape, block(&bench, z, 1));
    CHECK_INT(hone_tape_used(bench.tape), 2 * ROW_BYTES);
    z = hone_tape_leave(bench.tape, z);
    CHECK_INT(hone_tape_used(bench.tape), 2 * ROW_BYTES);
    float values[T * C];
    hone_tape_read(bench.tape, z, values);
    CHECK(isfinite(values[T * C - 1]));
    hone_tape_reset(bench.tape, true);
    CHECK_INT(hone_tape_used(bench.tape), 0);
    CHECK(hone_tape_gradients(bench.tape));
    hone_tape_free(bench.tape);
}

// A frozen model records nothing that stays.
static void frozen_scopes_keep_their_result(void) {
    Bench bench;
    make_bench(&bench, (TapeOptions){.gradients = true}, false);
    Tensor *y = block(&bench, &bench.x, 0);
    CHECK_INT(hone_tape_used(bench.tape), ROW_BYTES);
    CHECK(!y->requires_grad);
    hone_tape_free(bench.tape);
}

// What a product reads is made again from what was made again, down to x.
static Tensor *chain(Bench *bench) {
    hone_tape_enter(bench->tape);
    Tensor *x = hone_linear(bench->tape, &bench->weight[0], &bench->x, NULL);
    Tensor *h = hone_rms_norm(bench->tape, &bench->gain, 1e-5f, x);
    h = hone_swiglu(bench->tape, hone_rms_norm(bench->tape, &bench->gain, 1e-5f, h), h);
    h = hone_geglu(bench->tape, hone_rms_norm(bench->tape, &bench->gain, 1e-5f, h), h);
    h = hone_gelu(bench->tape, hone_layer_norm(bench->tape, &bench->gain, &bench->bias, 1e-5f, h));
    return hone_tape_leave(bench->tape, hone_linear(bench->tape, &bench->weight[1], h, NULL));
}

static void chains_are_made_again_with_the_same_bits(void) {
    float gradient[2][5 * C * C];
    for (int keep = 0; keep < 2; keep++) {
        Bench bench;
        make_bench(&bench, (TapeOptions){.gradients = true, .keep = keep != 0}, true);
        Tensor *y = chain(&bench);
        if (!keep) CHECK_INT(hone_tape_used(bench.tape), 2 * ROW_BYTES + 5 * STATISTICS);
        hone_fill(hone_tape_kernels(bench.tape), T * C, 1.0f, hone_tape_gradient(bench.tape, y));
        CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
        CHECK_INT(hone_tape_used(bench.tape), 0);
        memcpy(gradient[keep], bench.gradient, sizeof gradient[keep]);
        hone_tape_free(bench.tape);
    }
    CHECK(memcmp(gradient[0], gradient[1], sizeof gradient[0]) == 0);
    double sum = 0;
    for (int i = 0; i < 5 * C * C; i++) sum += fabs((double)gradient[0][i]);
    CHECK(sum > 0);
}

// A scope's result that could be made again, but not from what that scope has given back.
static void a_result_stays_whose_input_is_gone(void) {
    static const int32_t rows[T] = {1, 0};
    float gradient[2][5 * C * C];
    for (int keep = 0; keep < 2; keep++) {
        Bench bench;
        make_bench(&bench, (TapeOptions){.gradients = true, .keep = keep != 0}, true);
        hone_tape_enter(bench.tape);
        Tensor *h = hone_linear(bench.tape, &bench.weight[0], &bench.x, NULL);
        h = hone_tape_renew(bench.tape, hone_select_rows(bench.tape, h, rows, 2));
        Tensor *y = hone_linear(bench.tape, &bench.weight[1], h, NULL);
        y = hone_tape_leave(bench.tape, y);
        hone_fill(hone_tape_kernels(bench.tape), 2 * C, 1.0f, hone_tape_gradient(bench.tape, y));
        CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
        memcpy(gradient[keep], bench.gradient, sizeof gradient[keep]);
        hone_tape_free(bench.tape);
    }
    CHECK(memcmp(gradient[0], gradient[1], sizeof gradient[0]) == 0);
    CHECK(gradient[0][2 * C * C] != 0 && gradient[0][3 * C * C] != 0);
}

static void gradients_accumulate_over_steps(void) {
    Bench bench;
    float once[C * C];
    make_bench(&bench, (TapeOptions){.gradients = true}, true);
    for (int step = 1; step <= 2; step++) {
        hone_tape_reset(bench.tape, true);
        Tensor *y = chain(&bench);
        hone_fill(hone_tape_kernels(bench.tape), T * C, 1.0f, hone_tape_gradient(bench.tape, y));
        CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
        CHECK_INT(hone_tape_backward(bench.tape), HONE_OK); // nothing is left to walk
        if (step == 1) memcpy(once, bench.gradient[2], sizeof once);
    }
    for (int i = 0; i < C * C; i++) once[i] *= 2;
    CHECK_CLOSE(bench.gradient[2], once, C * C, 1e-6, 1e-9);
    hone_tape_free(bench.tape);
}

static void a_dry_tape_touches_nothing(void) {
    size_t peak[2], used[2];
    for (int dry = 0; dry < 2; dry++) {
        Bench bench;
        make_bench(&bench, (TapeOptions){.gradients = true, .dry = dry != 0}, true);
        if (dry) {
            bench.x.data = bench.gain.data = NULL;
            for (int i = 0; i < 2; i++) {
                bench.weight[i].base.data = NULL;
                bench.weight[i].base.grad = NULL;
            }
        }
        Tensor *y = chain(&bench);
        used[dry] = hone_tape_used(bench.tape);
        float *gradient = hone_tape_gradient(bench.tape, y);
        if (!dry) hone_fill(hone_tape_kernels(bench.tape), T * C, 1.0f, gradient);
        CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
        peak[dry] = hone_tape_peak(bench.tape);
        hone_tape_free(bench.tape);
    }
    CHECK_INT(used[1], used[0]);
    CHECK_INT(peak[1], peak[0]);
}

static void check_error(Bench *bench, hone_status status, const char *part) {
    HoneError err = {0};
    CHECK_INT(hone_tape_status(bench->tape, &err), status);
    CHECK_CONTAINS(err.message, part);
}

static void the_first_error_stays(void) {
    Bench bench;
    make_bench(&bench, (TapeOptions){.gradients = true}, true);
    bench.weight[0].base.shape[1] = C - 1;
    CHECK(hone_linear(bench.tape, &bench.weight[0], &bench.x, NULL) == NULL);
    CHECK(hone_swiglu(bench.tape, NULL, &bench.x) == NULL);
    CHECK(block(&bench, &bench.x, 1) == NULL);
    CHECK(hone_tape_host(bench.tape, 1, 4) == NULL);
    CHECK_INT(hone_tape_backward(bench.tape), HONE_ERROR_ARGUMENT);
    HeadLoss loss = {.entries = 1};
    hone_head_cross_entropy(bench.tape, &bench.weight[1], &bench.x, &loss);
    check_error(&bench, HONE_ERROR_ARGUMENT, "a weight (32, 31) was given rows (16, 32)");
    hone_tape_reset(bench.tape, true);
    CHECK_INT(hone_tape_status(bench.tape, NULL), HONE_OK);
    CHECK(block(&bench, &bench.x, 1) != NULL);
    hone_tape_free(bench.tape);
}

static void misuse_is_refused(void) {
    Bench bench;
    make_bench(&bench, (TapeOptions){.gradients = true}, true);
    hone_tape_leave(bench.tape, NULL);
    check_error(&bench, HONE_ERROR_ARGUMENT, "not entered");
    hone_tape_reset(bench.tape, true);
    hone_add(bench.tape, NULL, &bench.x);
    check_error(&bench, HONE_ERROR_ARGUMENT, "no input");
    hone_tape_reset(bench.tape, true);
    bench.weight[0].base.grad = NULL;
    Tensor *y = hone_linear(bench.tape, &bench.weight[0], &bench.x, NULL);
    hone_tape_gradient(bench.tape, y);
    hone_tape_backward(bench.tape);
    check_error(&bench, HONE_ERROR_ARGUMENT, "(32, 32) requires a gradient and has no memory");
    hone_tape_reset(bench.tape, true);
    y = hone_linear(bench.tape, &bench.weight[1], &bench.x, NULL);
    hone_tape_enter(bench.tape);
    Tensor *inner = hone_add(bench.tape, y, y);
    hone_tape_leave(bench.tape, hone_add(bench.tape, inner, y));
    hone_add(bench.tape, inner, y);
    check_error(&bench, HONE_ERROR_ARGUMENT, "after its scope was left");
    hone_tape_reset(bench.tape, true);
    hone_append_rows(bench.tape, &bench.x, 0, &bench.x);
    check_error(&bench, HONE_ERROR_ARGUMENT, "where gradients are recorded");
    hone_tape_reset(bench.tape, false);
    hone_append_rows(bench.tape, &bench.x, 1, &bench.x);
    check_error(&bench, HONE_ERROR_ARGUMENT, "(16, 32) do not fit at row 1 of (16, 32)");
    hone_tape_reset(bench.tape, true);
    CHECK(hone_tape_new_tensor(bench.tape, INT64_MAX / 8, 1000) == NULL);
    check_error(&bench, HONE_ERROR_MEMORY, "out of memory");
    hone_tape_free(bench.tape);
}

static void bad_indices_are_refused(void) {
    Bench bench;
    make_bench(&bench, (TapeOptions){.gradients = true}, true);
    const int32_t falling[] = {3, 2}, outside[] = {0, 32}, inside[] = {0, 1};
    const float weight[] = {1, 1};
    HeadLoss loss = {.entries = 2, .row = falling, .target = inside, .weight = weight};
    hone_head_cross_entropy(bench.tape, &bench.weight[0], &bench.x, &loss);
    check_error(&bench, HONE_ERROR_ARGUMENT, "loss entry 1 has row 2");
    hone_tape_reset(bench.tape, true);
    loss = (HeadLoss){.entries = 2, .row = inside, .target = outside, .weight = weight};
    hone_head_cross_entropy(bench.tape, &bench.weight[0], &bench.x, &loss);
    check_error(&bench, HONE_ERROR_INPUT, "target 32 of loss entry 1");
    hone_tape_reset(bench.tape, true);
    hone_embedding(bench.tape, &bench.weight[0], outside, 2);
    check_error(&bench, HONE_ERROR_INPUT, "token 32 at place 1");
    hone_tape_reset(bench.tape, true);
    hone_select_rows(bench.tape, &bench.x, outside, 2);
    check_error(&bench, HONE_ERROR_ARGUMENT, "row 32 was chosen out of 16");
    hone_tape_free(bench.tape);
}

int main(void) {
    RUN(scopes_keep_what_backward_needs);
    RUN(scopes_without_gradients_keep_their_result);
    RUN(frozen_scopes_keep_their_result);
    RUN(chains_are_made_again_with_the_same_bits);
    RUN(a_result_stays_whose_input_is_gone);
    RUN(gradients_accumulate_over_steps);
    RUN(a_dry_tape_touches_nothing);
    RUN(the_first_error_stays);
    RUN(misuse_is_refused);
    RUN(bad_indices_are_refused);
    return check_report();
}
