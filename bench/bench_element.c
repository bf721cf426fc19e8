// SPDX-License-Identifier: Apache-2.0
// Time of the row and element kernels at SmolLM2-135M's shapes, at every level of this processor,
// on one thread and on all cores. GB/s counts each operand once (twice where it is read and
// written).
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/system.h"
#include "kernels/kernels.h"

enum { T = 1024, C = 576, F = 1536, D = 64, HEADS = 9, V = 49152, ROWS = 128, REPEATS = 30 };

static const int64_t parameters = 4 << 20; // an adapter of four million elements

typedef struct Bench {
    KernelContext kc;
    float *a, *b, *c, *d, *e, *w, *r; // each as long as the longest operand
    float *logits, *frequency, *weight, *logprob;
    double loss[ROWS];
    int32_t index[T], target[ROWS];
    void *scratch;
} Bench;

static void norm_forward(Bench *s) {
    hone_rms_norm_forward(&s->kc, T, C, s->a, s->w, 1e-5f, s->b, s->r);
}

static void norm_backward(Bench *s) {
    hone_rms_norm_backward(&s->kc, T, C, s->a, s->w, s->r, s->b, s->c, s->d, s->scratch);
}

static void norm_backward_frozen(Bench *s) {
    hone_rms_norm_backward(&s->kc, T, C, s->a, s->w, s->r, s->b, s->c, NULL, NULL);
}

static void rope_with(Bench *s, bool interleaved, bool inverse) {
    RopeArgs args = {.T = T,
                     .heads = HEADS,
                     .head_size = D,
                     .rotary = D,
                     .interleaved = interleaved,
                     .inverse = inverse,
                     .position = s->index,
                     .frequency = s->frequency,
                     .x = s->a,
                     .y = s->b};
    hone_rope(&s->kc, &args);
}

static void rope_interleaved(Bench *s) {
    rope_with(s, true, false);
}

static void rope_halves(Bench *s) {
    rope_with(s, false, false);
}

static void rope_backward(Bench *s) {
    rope_with(s, true, true);
}

static void swiglu_forward(Bench *s) {
    hone_swiglu_forward(&s->kc, (int64_t)T * F, s->a, s->b, s->c);
}

static void swiglu_backward(Bench *s) {
    hone_swiglu_backward(&s->kc, (int64_t)T * F, s->a, s->b, s->c, true, s->d, s->e);
}

static void add_forward(Bench *s) {
    hone_add_forward(&s->kc, (int64_t)T * C, s->a, s->b, s->c);
}

static void accumulate(Bench *s) {
    hone_accumulate(&s->kc, (int64_t)T * C, s->a, s->c);
}

static void fill(Bench *s) {
    hone_fill(&s->kc, (int64_t)T * C, 0, s->c);
}

static void gather(Bench *s) {
    hone_gather_rows(&s->kc, T, C, HONE_F32, s->logits, s->index, s->b);
}

static void scatter(Bench *s) {
    hone_scatter_rows(&s->kc, T, C, s->index, s->b, s->e);
}

static void cross_entropy(Bench *s) {
    hone_cross_entropy(&s->kc, ROWS, V, s->logits, NULL, s->target, s->weight, 0, false, s->loss,
                       s->logprob);
}

static void cross_entropy_gradient(Bench *s) {
    hone_cross_entropy(&s->kc, ROWS, V, s->logits, NULL, s->target, s->weight, 0, true, s->loss,
                       s->logprob);
}

static void squares(Bench *s) {
    s->loss[0] = hone_sum_of_squares(&s->kc, parameters, s->a);
}

static void adamw(Bench *s) {
    AdamWArgs args = {.count = parameters,
                      .step = 10,
                      .lr = 1e-4f,
                      .beta1 = 0.9f,
                      .beta2 = 0.999f,
                      .eps = 1e-8f,
                      .decay = 0.01f,
                      .scale = 1,
                      .p = s->b,
                      .m = s->c,
                      .v = s->e,
                      .g = s->a};
    hone_adamw(&s->kc, &args);
}

typedef struct Case {
    const char *name;
    void (*run)(Bench *bench);
    double bytes;
} Case;

static const double row = 4.0 * T * C, wide = 4.0 * T * F, chunk = 4.0 * ROWS * V;

static void run_cases(Bench *s, const char *level) {
    const Case cases[] = {
        {"rms_norm_forward (1024,576)", norm_forward, 2 * row},
        {"rms_norm_backward dx,dw", norm_backward, 4 * row},
        {"rms_norm_backward dx", norm_backward_frozen, 4 * row},
        {"rope (1024,9,64) neighbours", rope_interleaved, 2 * row},
        {"rope (1024,9,64) halves", rope_halves, 2 * row},
        {"rope inverse, neighbours", rope_backward, 3 * row},
        {"swiglu_forward (1024,1536)", swiglu_forward, 3 * wide},
        {"swiglu_backward", swiglu_backward, 7 * wide},
        {"add_forward (1024,576)", add_forward, 3 * row},
        {"accumulate (1024,576)", accumulate, 3 * row},
        {"fill (1024,576)", fill, row},
        {"gather_rows F32 (1024,576)", gather, 2 * row},
        {"scatter_rows (1024,576)", scatter, 3 * row},
        {"cross_entropy (128,49152)", cross_entropy, chunk},
        {"cross_entropy with gradient", cross_entropy_gradient, 2 * chunk},
        {"sum_of_squares (4M)", squares, 4.0 * (double)parameters},
        {"adamw (4M)", adamw, 28.0 * (double)parameters},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double best = 1e9;
        for (int repeat = 0; repeat < REPEATS; repeat++) {
            double begin = hone_seconds();
            cases[i].run(s);
            double seconds = hone_seconds() - begin;
            if (seconds < best) best = seconds;
        }
        printf("%-8s %d  %-30s %9.1f us %7.1f GB/s\n", level, hone_pool_threads(s->kc.pool),
               cases[i].name, best * 1e6, cases[i].bytes / best * 1e-9);
    }
}

static float *array(RandomStream *random, int64_t count, float scale) {
    float *x = hone_alloc((size_t)count * sizeof *x);
    for (int64_t i = 0; x && i < count; i++) x[i] = scale * hone_random_uniform(random);
    return x;
}

int main(void) {
    RandomStream random = hone_random_stream(1, RANDOM_TEST, 0);
    static Bench s;
    s.a = array(&random, parameters, 1);
    s.b = array(&random, parameters, 1);
    s.c = array(&random, parameters, 1);
    s.d = array(&random, parameters, 1);
    s.e = array(&random, parameters, 1);
    s.w = array(&random, C, 1);
    s.r = array(&random, T, 1);
    s.logits = array(&random, (int64_t)ROWS * V, 10);
    s.frequency = array(&random, D / 2, 1);
    s.weight = array(&random, ROWS, 1);
    s.logprob = array(&random, ROWS, 1);
    s.kc = (KernelContext){0};
    s.scratch = hone_alloc(hone_rms_norm_backward_scratch(&s.kc, T, C));
    for (int t = 0; t < T; t++) s.index[t] = (int32_t)(t * 7 % 2048);
    for (int r = 0; r < ROWS; r++) s.target[r] = r * 300;

    const char *names[8];
    int levels = hone_kernel_levels(names), cores = hone_physical_cores();
    for (int level = 0; level < levels; level++) {
        HoneError err = {0};
        if (hone_kernel_table(names[level], &s.kc.table, &err) != HONE_OK) continue;
        for (int threads = 1; threads <= cores; threads = threads < cores ? cores : cores + 1) {
            s.kc.pool = hone_pool_create(threads);
            run_cases(&s, names[level]);
            hone_pool_free(s.kc.pool);
        }
    }
    float *all[] = {s.a, s.b, s.c, s.d, s.e, s.w, s.r, s.logits, s.frequency, s.weight, s.logprob};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) hone_free(all[i]);
    hone_free(s.scratch);
    return 0;
}
