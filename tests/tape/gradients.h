// SPDX-License-Identifier: Apache-2.0
// Each operator's gradients against finite differences of its own forward pass: the scalar
// L = Σ c ⊙ y for random c, along random directions of each input, extrapolated from two step
// widths.
#ifndef HONE_TESTS_TAPE_GRADIENTS_H
#define HONE_TESTS_TAPE_GRADIENTS_H

#include "base/random.h"
#include "check.h"
#include "tape/record.h"

enum { INPUTS = 8 };

typedef struct Bench Bench;
struct Bench {
    Tape *tape;
    Arena memory;
    RandomStream random;
    Tensor *inputs[INPUTS]; // those that require a gradient
    int count;
    Tensor *(*run)(Bench *bench); // the operator under test
    void *call;                   // its arguments
};

static inline void make_bench(Bench *bench) {
    HoneError err = {0};
    KernelContext kc = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    *bench = (Bench){.random = hone_random_stream(11, RANDOM_TEST, 1)};
    bench->tape = hone_tape_create(&kc, (TapeOptions){.gradients = true});
}

static inline void free_bench(Bench *bench) {
    hone_tape_free(bench->tape);
    hone_arena_free(&bench->memory);
}

static inline float *normal(Bench *bench, int64_t count) {
    float *values = hone_arena_alloc(&bench->memory, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = hone_random_normal(&bench->random);
    return values;
}

static inline Tensor random_tensor(Bench *bench, int64_t rows, int64_t columns) {
    return (Tensor){.rank = columns ? 2 : 1,
                    .shape = {rows, columns},
                    .data = normal(bench, rows * (columns ? columns : 1))};
}

static inline void require(Bench *bench, Tensor *tensor) {
    tensor->requires_grad = true;
    tensor->grad =
        hone_arena_calloc(&bench->memory, (size_t)hone_tensor_count(tensor), sizeof(float));
    bench->inputs[bench->count++] = tensor;
}

static inline Tensor input(Bench *bench, int64_t rows, int64_t columns) {
    return random_tensor(bench, rows, columns);
}

static inline double weighted_sum(Bench *bench, const float *c) {
    hone_tape_reset(bench->tape, true);
    Tensor *y = bench->run(bench);
    double sum = 0;
    CHECK(y != NULL);
    for (int64_t i = 0; y && i < hone_tensor_count(y); i++)
        sum += (double)c[i] * (double)((const float *)y->data)[i];
    return sum;
}

static inline void move(Tensor *tensor, const float *from, const float *direction, double step) {
    for (int64_t i = 0; i < hone_tensor_count(tensor); i++)
        ((float *)tensor->data)[i] = (float)((double)from[i] + step * (double)direction[i]);
}

// dL along direction, by central differences with step and 2·step: the error is of fourth order.
static inline double slope(Bench *bench, Tensor *tensor, const float *direction, const float *c,
                           double step) {
    const int64_t count = hone_tensor_count(tensor);
    float *from = hone_arena_alloc(&bench->memory, (size_t)count * sizeof *from);
    memcpy(from, tensor->data, (size_t)count * sizeof *from);
    double value[4];
    const double at[] = {step, -step, 2 * step, -2 * step};
    for (int i = 0; i < 4; i++) {
        move(tensor, from, direction, at[i]);
        value[i] = weighted_sum(bench, c);
    }
    memcpy(tensor->data, from, (size_t)count * sizeof *from);
    const double near = (value[0] - value[1]) / (2 * step);
    const double far = (value[2] - value[3]) / (4 * step);
    return (4 * near - far) / 3;
}

// The tape's gradients of Σ c ⊙ y into the inputs' grad.
static inline void gradients(Bench *bench, float **c) {
    hone_tape_reset(bench->tape, true);
    for (int i = 0; i < bench->count; i++)
        memset(bench->inputs[i]->grad, 0, hone_tensor_bytes(bench->inputs[i]));
    Tensor *y = bench->run(bench);
    HoneError err = {0};
    if (!y) {
        hone_tape_status(bench->tape, &err);
        printf("%s\n", err.message);
        CHECK(y != NULL);
        return;
    }
    *c = normal(bench, hone_tensor_count(y));
    CHECK(y->requires_grad);
    memcpy(hone_tape_gradient(bench->tape, y), *c, hone_tensor_bytes(y));
    CHECK_INT(hone_tape_backward(bench->tape), HONE_OK);
    CHECK_INT(hone_tape_used(bench->tape), 0);
}

static inline void check_gradients(Bench *bench, double step) {
    float *c = NULL;
    gradients(bench, &c);
    for (int i = 0; i < bench->count && c; i++) {
        Tensor *tensor = bench->inputs[i];
        const int64_t count = hone_tensor_count(tensor);
        double size = 0;
        for (int64_t j = 0; j < count; j++)
            size += (double)tensor->grad[j] * (double)tensor->grad[j];
        CHECK(size > 0);
        for (int direction = 0; direction < 3; direction++) {
            float *d = normal(bench, count);
            double got = 0;
            for (int64_t j = 0; j < count; j++) got += (double)tensor->grad[j] * (double)d[j];
            const double want = slope(bench, tensor, d, c, step);
            if (!CHECK(fabs(got - want) <= 3e-4 * sqrt(size)))
                printf("input %d: slope %.6g, want %.6g; size of the gradient %.3g\n", i, got, want,
                       sqrt(size));
        }
    }
}

#endif
