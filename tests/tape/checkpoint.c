// SPDX-License-Identifier: Apache-2.0
// The checkpoint operator on small chains: what is kept, what is made again, and the same bits with
// everything that can stand around and inside of a segment.
#include "base/random.h"
#include "check.h"
#include "tape/record.h"

enum { T = 16, C = 32, SLOTS = 6, BLOCKS = 8, ROW_BYTES = T * C * 4 };

typedef struct Bench {
    Tape *tape;
    float values[SLOTS][C * C], gradient[SLOTS][C * C];
    Tensor x, gain;
    Weight weight[4];
    bool checkpoint; // else the same calls without
    int calls;
} Bench;

static Tensor trained(Bench *bench, int slot, int64_t rows, int64_t columns) {
    RandomStream random = hone_random_stream(5, RANDOM_TEST, (uint64_t)slot);
    for (int i = 0; i < C * C; i++) bench->values[slot][i] = 0.3f * hone_random_normal(&random);
    return (Tensor){.rank = columns ? 2 : 1,
                    .shape = {rows, columns},
                    .data = bench->values[slot],
                    .grad = bench->gradient[slot],
                    .requires_grad = true};
}

static void make_bench(Bench *bench, bool checkpoint, bool dry) {
    KernelContext kc = {0};
    HoneError err = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    memset(bench, 0, sizeof *bench);
    bench->tape = hone_tape_create(&kc, (TapeOptions){.gradients = true, .dry = dry});
    bench->checkpoint = checkpoint;
    bench->x = trained(bench, 0, T, C);
    bench->x.requires_grad = false;
    bench->gain = trained(bench, 1, C, 0);
    for (int i = 0; i < 4; i++) bench->weight[i].base = trained(bench, 2 + i, C, C);
}

typedef struct Arguments {
    Bench *bench;
    Tensor *memory; // made before the segment
    Weight *weight;
} Arguments;

static Tensor *segment(Bench *bench, TapeSegment *run, const Arguments *arguments, Tensor *x) {
    if (bench->checkpoint)
        return hone_checkpoint(bench->tape, run, arguments, sizeof *arguments, x);
    return run(bench->tape, arguments, x);
}

// y = x + swiglu(norm(x)·Wᵀ, memory), the product in a scope of its own
static Tensor *block(Tape *tape, const void *user, Tensor *x) {
    const Arguments *arguments = user;
    arguments->bench->calls++;
    hone_tape_enter(tape);
    Tensor *h = hone_rms_norm(tape, &arguments->bench->gain, 1e-5f, x);
    h = hone_linear(tape, arguments->weight, h, NULL);
    h = hone_tape_leave(tape, hone_swiglu(tape, h, arguments->memory));
    return hone_add(tape, x, h);
}

// Two blocks, the second checkpointed within the first one's segment.
static Tensor *nested(Tape *tape, const void *user, Tensor *x) {
    Arguments inner = *(const Arguments *)user;
    x = block(tape, user, x);
    inner.weight++;
    return segment(inner.bench, block, &inner, x);
}

// `memory` is given back with its scope, so a segment that reads it makes it again.
static Tensor *chain(Bench *bench, TapeSegment *run) {
    Tape *tape = bench->tape;
    hone_tape_enter(tape);
    Tensor *memory = hone_linear(tape, &bench->weight[3], &bench->x, NULL);
    hone_tape_enter(tape);
    memory = hone_rms_norm(tape, &bench->gain, 1e-5f, memory);
    Tensor *x = hone_tape_leave(tape, hone_linear(tape, &bench->weight[0], memory, NULL));
    for (int i = 0; i < BLOCKS; i++) {
        const Arguments arguments = {bench, memory, &bench->weight[i % 2]};
        x = hone_tape_renew(tape, segment(bench, run, &arguments, x));
    }
    return hone_tape_leave(tape, hone_linear(tape, &bench->weight[2], x, NULL));
}

static size_t walk(Bench *bench, Tensor *y) {
    float *gradient = hone_tape_gradient(bench->tape, y);
    if (hone_tape_runs(bench->tape))
        hone_fill(hone_tape_kernels(bench->tape), T * C, 1.0f, gradient);
    CHECK_INT(hone_tape_backward(bench->tape), HONE_OK);
    CHECK_INT(hone_tape_used(bench->tape), 0);
    return hone_tape_peak(bench->tape);
}

static void check_chain(TapeSegment *run) {
    float gradient[2][SLOTS][C * C];
    size_t kept[3], peak[3];
    for (int i = 0; i < 3; i++) { // plain, checkpointed, dry
        Bench bench;
        make_bench(&bench, i > 0, i == 2);
        for (int step = 0; step < 2; step++) { // the second on used memory, adding to the first
            hone_tape_reset(bench.tape, true);
            Tensor *y = chain(&bench, run);
            kept[i] = hone_tape_used(bench.tape);
            peak[i] = walk(&bench, y);
        }
        if (i < 2) memcpy(gradient[i], bench.gradient, sizeof gradient[i]);
        for (int slot = 1; slot < SLOTS && i < 2; slot++) {
            double sum = 0;
            for (int j = 0; j < C; j++) sum += fabs((double)gradient[i][slot][j]);
            CHECK(sum > 0);
        }
        hone_tape_free(bench.tape);
    }
    CHECK(memcmp(gradient[0], gradient[1], sizeof gradient[0]) == 0);
    CHECK(kept[1] < kept[0]);
    CHECK(peak[1] < peak[0]);
    CHECK_INT(kept[2], kept[1]);
    CHECK_INT(peak[2], peak[1]);
}

static void segments_change_no_bit(void) {
    check_chain(block);
}

static void segments_in_segments_change_no_bit(void) {
    check_chain(nested);
}

static void only_what_is_read_inside_is_kept(void) {
    Bench bench;
    make_bench(&bench, true, false);
    hone_tape_enter(bench.tape);
    Tensor *memory = hone_linear(bench.tape, &bench.weight[3], &bench.x, NULL);
    Tensor *x = hone_linear(bench.tape, &bench.weight[2], &bench.x, NULL);
    for (int i = 0; i < 3; i++) {
        const Arguments arguments = {&bench, memory, &bench.weight[i % 2]};
        x = hone_tape_renew(bench.tape, segment(&bench, block, &arguments, x));
    }
    CHECK_INT(hone_tape_used(bench.tape), (1 + 4) * ROW_BYTES);
    CHECK_INT(bench.calls, 3);
    walk(&bench, hone_tape_leave(bench.tape, x));
    CHECK_INT(bench.calls, 6);
    hone_tape_free(bench.tape);
}

static void what_nobody_asks_is_not_run_again(void) {
    Bench bench;
    make_bench(&bench, true, false);
    bench.gain.requires_grad = false;
    for (int i = 0; i < 2; i++) bench.weight[i].base.requires_grad = false;
    const Arguments arguments = {&bench, &bench.x, &bench.weight[0]};
    hone_tape_enter(bench.tape);
    Tensor *y = hone_tape_renew(bench.tape, segment(&bench, block, &arguments, &bench.x));
    CHECK(!y->requires_grad);
    CHECK_INT(hone_tape_used(bench.tape), ROW_BYTES);
    walk(&bench, hone_tape_leave(bench.tape, hone_linear(bench.tape, &bench.weight[2], y, NULL)));
    hone_tape_reset(bench.tape, false); // nor is anything where no gradients are recorded
    y = segment(&bench, block, &arguments, &bench.x);
    CHECK(y != NULL);
    CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
    CHECK_INT(bench.calls, 2);
    hone_tape_free(bench.tape);
}

static Tensor *pass(Tape *tape, const void *user, Tensor *x) {
    (void)tape, (void)user;
    return x;
}

static Tensor *with_loss(Tape *tape, const void *user, Tensor *x) {
    const Arguments *arguments = user;
    const int32_t none[] = {0};
    const float weight[] = {1};
    HeadLoss loss = {.entries = 1, .row = none, .target = none, .weight = weight};
    hone_head_cross_entropy(tape, arguments->weight, x, &loss);
    return x;
}

static Tensor *left_open(Tape *tape, const void *user, Tensor *x) {
    hone_tape_enter(tape);
    return block(tape, user, x);
}

static Tensor *failing(Tape *tape, const void *user, Tensor *x) {
    const Arguments *arguments = user;
    if (arguments->bench->calls++ > 0) return hone_tape_refuse(tape, HONE_ERROR_MEMORY, "no more");
    return hone_linear(tape, arguments->weight, x, NULL);
}

static void check_error(Bench *bench, const char *part) {
    HoneError err = {0};
    CHECK(hone_tape_status(bench->tape, &err) != HONE_OK);
    CHECK_CONTAINS(err.message, part);
    hone_tape_reset(bench->tape, true);
}

static void misuse_and_failures_are_told(void) {
    Bench bench;
    make_bench(&bench, true, false);
    const Arguments arguments = {&bench, &bench.x, &bench.weight[0]};
    CHECK(segment(&bench, pass, &arguments, &bench.x) == &bench.x);
    CHECK(segment(&bench, with_loss, &arguments, &bench.x) == NULL);
    check_error(&bench, "a loss is inside");
    CHECK(segment(&bench, left_open, &arguments, &bench.x) == NULL);
    check_error(&bench, "left a scope open");
    CHECK(segment(&bench, block, &arguments, NULL) == NULL);
    check_error(&bench, "no input");
    bench.calls = 0;
    Tensor *y = segment(&bench, failing, &arguments, &bench.x);
    CHECK(hone_tape_gradient(bench.tape, y) != NULL);
    CHECK_INT(hone_tape_backward(bench.tape), HONE_ERROR_MEMORY);
    check_error(&bench, "no more");
    y = chain(&bench, nested);
    hone_fill(hone_tape_kernels(bench.tape), T * C, 1.0f, hone_tape_gradient(bench.tape, y));
    CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
    hone_tape_free(bench.tape);
}

int main(void) {
    RUN(segments_change_no_bit);
    RUN(segments_in_segments_change_no_bit);
    RUN(only_what_is_read_inside_is_kept);
    RUN(what_nobody_asks_is_not_run_again);
    RUN(misuse_and_failures_are_told);
    return check_report();
}
