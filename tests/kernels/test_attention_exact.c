// SPDX-License-Identifier: Apache-2.0
// What must hold to the bit, or on the average: the same results in every place of a batch and
// when run again, equal weights for equal scores, errors without a bias, the largest scale.
#include "attention_case.h"
#include "kernels/table.h"

// ---- panels side by side -----------------------------------------------------------------------

enum { PANEL_M = 21, PANEL_K = 19, PANEL_LD = HONE_PANEL + 5, PANEL_APART = 700, PANEL_C = 2600 };

// One product of `panels` panels and as many products of one.
static void check_side_by_side(const KernelTable *table, const char *name, int panels,
                               const float *A, const float *B, float *C) {
    float *alone = C + PANEL_C;
    for (int M = 1; M <= PANEL_M; M++)
        for (int kind = 0; kind < 8; kind++) {
            float highest[2][HONE_MOST_PANELS * HONE_PANEL];
            for (int i = 0; i < PANEL_C; i++) C[i] = alone[i] = B[PANEL_C - 1 - i];
            for (int n = 0; n < HONE_MOST_PANELS * HONE_PANEL; n++)
                highest[0][n] = highest[1][n] = n % 7 ? -9.0f : 99.0f;
            PanelProduct p = {.M = M,
                              .K = PANEL_K - M % 3,
                              .A = {A, kind & 4 ? 1 : PANEL_K, kind & 4 ? PANEL_M : 1},
                              .B = B,
                              .ldb = PANEL_LD,
                              .C = C,
                              .ldc = PANEL_LD,
                              .panels = panels,
                              .B_apart = PANEL_APART,
                              .C_apart = PANEL_APART,
                              .accumulate = kind & 1,
                              .highest = kind & 2 ? highest[0] : NULL};
            table->attention.product(&p);
            p.panels = 1;
            for (int n = 0; n < panels; n++) {
                p.B = B + n * PANEL_APART;
                p.C = alone + n * PANEL_APART;
                if (p.highest) p.highest = highest[1] + n * HONE_PANEL;
                table->attention.product(&p);
            }
            if (!CHECK(memcmp(C, alone, PANEL_C * sizeof *C) == 0) ||
                !CHECK(memcmp(highest[0], highest[1], sizeof highest[0]) == 0))
                printf("  %s, %d panels, %d rows, kind %d\n", name, panels, M, kind);
        }
}

// Each of several panels is to the bit what it is alone, and nothing else is written.
static void check_panels(const KernelTable *table, const char *name) {
    float *A = hone_alloc(PANEL_M * PANEL_K * sizeof *A), *B = hone_alloc(PANEL_C * sizeof *B);
    float *C = hone_alloc(2 * PANEL_C * sizeof *C);
    RandomStream random = hone_random_stream(4, RANDOM_TEST, 0);
    for (int i = 0; i < PANEL_M * PANEL_K; i++) A[i] = hone_random_normal(&random);
    for (int i = 0; i < PANEL_C; i++) B[i] = hone_random_normal(&random);
    for (int panels = 2; panels <= HONE_MOST_PANELS; panels++)
        check_side_by_side(table, name, panels, A, B, C);
    hone_free(A);
    hone_free(B);
    hone_free(C);
}

static void panels_are_what_they_are_alone(void) {
    on_every_level(check_panels);
}

// ---- bits --------------------------------------------------------------------------------------

enum { PLACES = 3 };

typedef struct Dense {
    AttentionArgs args;
    int64_t count[8]; // of one element of the batch: q, k, v, o, d_o, dq, dk, dv
    float *data[8];
} Dense;

static const int64_t dense_shapes[][6] = {
    // queries, keys, heads, kv_heads, head_size, value_size
    {10, 10, 1, 1, 64, 64}, {70, 300, 4, 2, 20, 12}, {260, 260, 2, 2, 16, 33},
    {1, 3000, 8, 1, 32, 8}, {5, 1030, 3, 3, 7, 7},
};

// The same element PLACES times.
static Dense make_dense(const int64_t *shape, bool causal) {
    int64_t Q = shape[0], K = shape[1], H = shape[2], N = shape[3], D = shape[4], E = shape[5];
    Dense d = {.count = {Q * H * D, K * N * D, K * N * E, Q * H * E, Q * H * E, Q * H * D,
                         K * N * D, K * N * E}};
    d.args = (AttentionArgs){.batch = PLACES,
                             .queries = Q,
                             .keys = K,
                             .heads = (int)H,
                             .kv_heads = (int)N,
                             .head_size = (int)D,
                             .value_size = (int)E,
                             .scale = 0.2f};
    AttentionView *views[8] = {&d.args.q,   &d.args.k,  &d.args.v,  &d.args.o,
                               &d.args.d_o, &d.args.dq, &d.args.dk, &d.args.dv};
    RandomStream random = hone_random_stream(9, RANDOM_TEST, 0);
    for (int t = 0; t < 8; t++) {
        bool of_queries = t == 0 || (t >= 3 && t <= 5), wide = t >= 2 && t != 5 && t != 6;
        int64_t size = wide ? E : D, heads = of_queries ? H : N;
        d.data[t] = hone_alloc((size_t)(PLACES * d.count[t]) * sizeof(float));
        for (int64_t i = 0; i < PLACES * d.count[t]; i++)
            d.data[t][i] = i < d.count[t] ? hone_random_normal(&random) : d.data[t][i - d.count[t]];
        *views[t] = (AttentionView){d.data[t], heads * size, size, d.count[t]};
    }
    d.args.lse = hone_alloc((size_t)(PLACES * H * Q) * sizeof(float));
    int32_t *begin = hone_alloc((size_t)(2 * K) * sizeof *begin);
    for (int64_t j = 0; j < K; j++) {
        int64_t first = j - (K - Q);
        begin[j] = (int32_t)(first < 0 ? 0 : first);
        begin[K + j] = (int32_t)Q;
    }
    if (causal) {
        d.args.begin = begin;
        d.args.end = begin + K;
    } else {
        hone_free(begin);
    }
    return d;
}

static void free_dense(Dense *d) {
    for (int t = 0; t < 8; t++) hone_free(d->data[t]);
    hone_free(d->args.lse);
    hone_free((int32_t *)(uintptr_t)d->args.begin);
}

static void run_dense(const Dense *d, const KernelContext *kc) {
    void *scratch = poisoned(hone_attention_forward_scratch(kc, &d->args));
    hone_attention_forward(kc, &d->args, scratch);
    hone_free(scratch);
    scratch = poisoned(hone_attention_backward_scratch(kc, &d->args));
    hone_attention_backward(kc, &d->args, scratch);
    hone_free(scratch);
}

static void check_places(const KernelTable *table, const char *name) {
    KernelContext kc = {.table = table, .pool = hone_pool_create(3)};
    for (size_t s = 0; s < sizeof dense_shapes / sizeof *dense_shapes; s++)
        for (int causal = 0; causal < 2; causal++) {
            Dense d = make_dense(dense_shapes[s], causal),
                  again = make_dense(dense_shapes[s], causal);
            run_dense(&d, &kc);
            run_dense(&again, &kc);
            bool alike = true, repeated = true;
            for (int t = 3; t < 8; t++) {
                size_t bytes = (size_t)d.count[t] * sizeof(float);
                for (int b = 1; b < PLACES; b++)
                    alike = alike && memcmp(d.data[t], d.data[t] + b * d.count[t], bytes) == 0;
                repeated = repeated && memcmp(d.data[t], again.data[t], PLACES * bytes) == 0;
            }
            size_t lines = (size_t)(d.args.heads * d.args.queries);
            for (size_t b = 1; b < PLACES; b++)
                alike = alike && memcmp(d.args.lse, d.args.lse + b * lines, lines * 4) == 0;
            if (!CHECK(alike) || !CHECK(repeated))
                printf("  %s, shape %zu, causal %d\n", name, s, causal);
            free_dense(&d);
            free_dense(&again);
        }
    hone_pool_free(kc.pool);
}

static void every_place_of_a_batch_and_every_run_alike(void) {
    on_every_level(check_places);
}

// Equal scores of any size weigh 1/N each, all with the same bits. A rounding of the log-sum-exp
// would show here at 1e30, and one in the sum of thousands of weights that round alike.
static void check_equal(const KernelTable *table, const char *name) {
    static const float sizes[] = {0, 1, -1e4f, 1e4f, 1e30f, -1e30f};
    static const int64_t keys[] = {1, 7, 64, 1000, 3000};
    for (int i = 0; i < 6; i++)
        for (int n = 0; n < 5; n++) {
            Problem p = problem_from_zero_gradients((Case){.queries = 40,
                                                           .keys = keys[n],
                                                           .heads = 1,
                                                           .kv_heads = 1,
                                                           .head_size = 1,
                                                           .value_size = 3,
                                                           .spread = 1.0f},
                                                    3);
            for (int64_t j = 0; j < keys[n]; j++) p.k.dense[j] = 1;
            for (int64_t q = 0; q < 40; q++) p.q.dense[q] = (double)sizes[i];
            fill_view(&p.k);
            fill_view(&p.q);
            p.args.weights = hone_alloc((size_t)(40 * keys[n]) * sizeof(float));
            run_kernel(&p, table, NULL);
            const float *weights = p.args.weights;
            bool equal = true;
            for (int64_t j = 1; j < 40 * keys[n]; j++) equal = equal && weights[j] == weights[0];
            if (!CHECK(equal) || !CHECK_NEAR(weights[0], 1.0 / (double)keys[n], 2e-6, 0))
                printf("  %s, %lld keys, scores %g\n", name, (long long)keys[n], (double)sizes[i]);
            hone_free(p.args.weights);
            free_problem(&p);
        }
}

static void equal_scores_weigh_the_same(void) {
    on_every_level(check_equal);
}

// ---- the largest scale -------------------------------------------------------------------------

// Each query has eyes for one key only. What is left of dS there is the rounding of two sums of
// value_size terms, which the scale makes large: gradients of q and k are finite, no more.
static void check_scale(const KernelTable *table, const char *name) {
    static const float scales[] = {1e30f, -1e30f};
    for (int i = 0; i < 2; i++) {
        Problem p = problem_from_zero_gradients((Case){.queries = 50,
                                                       .keys = 300,
                                                       .heads = 4,
                                                       .kv_heads = 2,
                                                       .head_size = 6,
                                                       .value_size = 7,
                                                       .visibility = SEE_CAUSAL,
                                                       .spread = 1.0f},
                                                4);
        p.args.scale = scales[i];
        p.reference.scale = (double)scales[i];
        run_reference(&p);
        run_kernel(&p, table, NULL);
        bool fine = close_to(&p.o, 2e-6, 1e-6, "o") && close_to(&p.dv, 5e-6, 2e-6, "dv");
        for (int64_t n = 0; n < p.what.queries * p.what.heads; n++)
            fine = CHECK_NEAR(p.args.lse[n], p.lse[n], 2e-6, 0) && fine;
        const CaseTensor *gradients[] = {&p.dq, &p.dk};
        for (int t = 0; t < 2; t++)
            for (int64_t n = 0; n < gradients[t]->floats; n++)
                fine = fine && isfinite(floats_of(&gradients[t]->view)[n]);
        if (!CHECK(fine)) printf("  %s, scale %g\n", name, (double)scales[i]);
        free_problem(&p);
    }
}

static void a_scale_of_1e30(void) {
    on_every_level(check_scale);
}

// ---- bias --------------------------------------------------------------------------------------

// error = mean + slope · want + noise: the mean error, and by what part of themselves the values
// are too large on the average.
typedef struct Bias {
    double mean, slope;
} Bias;

static Bias bias_of(const CaseTensor *t) {
    double error = 0, product = 0, square = 0;
    for (int64_t i = 0; i < dense_count(t); i++) {
        double e = (double)floats_of(&t->view)[place(t, i)] - t->dense[i];
        error += e, product += e * t->dense[i], square += t->dense[i] * t->dense[i];
    }
    double size = sqrt(square / (double)dense_count(t));
    return (Bias){error / (double)dense_count(t) / size, product / square};
}

// Less than a rounding of f32 would be, at random and in one direction: 2^-24.
static void check_bias(const KernelTable *table, const char *name) {
    Problem p = problem_from_zero_gradients((Case){.queries = 400,
                                                   .keys = 400,
                                                   .heads = 4,
                                                   .kv_heads = 2,
                                                   .head_size = 32,
                                                   .value_size = 32,
                                                   .visibility = SEE_CAUSAL,
                                                   .spread = 2.0f},
                                            12);
    run_reference(&p);
    run_kernel(&p, table, NULL);
    const struct {
        const char *name;
        const CaseTensor *tensor;
    } results[] = {{"o", &p.o}, {"dq", &p.dq}, {"dk", &p.dk}, {"dv", &p.dv}};
    for (int n = 0; n < 4; n++) {
        Bias bias = bias_of(results[n].tensor);
        if (!CHECK_NEAR(bias.mean, 0, 0, 0x1p-26) || !CHECK_NEAR(bias.slope, 0, 0, 0x1p-24))
            printf("  %s, %s\n", name, results[n].name);
    }
    double mean = 0;
    for (int64_t i = 0; i < 1600; i++) mean += ((double)p.args.lse[i] - p.lse[i]) / 1600;
    if (!CHECK_NEAR(mean, 0, 0, 0x1p-24)) printf("  %s, lse\n", name);
    free_problem(&p);
}

static void errors_have_no_bias(void) {
    on_every_level(check_bias);
}

static void check_exponent(const KernelTable *table, const char *name) {
    enum { KEYS = 4096, COUNT = KEYS * HONE_PANEL };
    float *S = hone_alloc(COUNT * sizeof *S), shift[HONE_PANEL] = {0}, sum[HONE_PANEL] = {0};
    double mean = 0, worst = 0;
    for (int i = 0; i < COUNT; i++) S[i] = -(float)i / (float)COUNT;
    PanelScores scores = {.S = S, .ld = HONE_PANEL, .keys = KEYS};
    table->attention.exponent(&scores, shift, sum);
    for (int i = 0; i < COUNT; i++) {
        double want = exp((double)(-(float)i / (float)COUNT)), error = ((double)S[i] - want) / want;
        mean += error / COUNT;
        worst = fmax(worst, fabs(error));
    }
    bool fine = CHECK(S[0] == 1.0f) && CHECK_NEAR(worst, 0, 0, 2.5e-7);
    if (!CHECK_NEAR(mean, 0, 0, 0x1p-26) || !fine) printf("  %s\n", name);
    hone_free(S);
}

static void exponentials_have_no_bias(void) {
    on_every_level(check_exponent);
}

// bf16 keeps 8 bits, rounded to the nearest: cut off, all magnitudes would be half a unit too
// small.
static void check_rounding(const KernelTable *table, const char *name) {
    // Where weights are rounded too, the smallest values are off by many of their own units
    // (test_attention_bf16.c: roundings_have_no_bias).
    if (table->attention.product_bf16) return;
    enum { N = 96, E = 128, COUNT = N * E };
    Problem p = problem_from_zero_gradients((Case){.queries = N,
                                                   .keys = N,
                                                   .heads = 1,
                                                   .kv_heads = 1,
                                                   .head_size = 16,
                                                   .value_size = E,
                                                   .visibility = SEE_CAUSAL,
                                                   .spread = 1.0f},
                                            13);
    KernelContext kc = {.table = table};
    CaseTensor *tensors[] = {&p.q, &p.k, &p.v, &p.o};
    AttentionView *views[] = {&p.args.q, &p.args.k, &p.args.v, &p.args.o};
    p.args.dtype = HONE_BF16;
    for (int t = 0; t < 4; t++) { // the reference sees what bf16 holds
        int64_t count = dense_count(tensors[t]);
        uint16_t *stored = hone_alloc((size_t)count * sizeof *stored);
        hone_quantise(HONE_BF16, floats_of(&tensors[t]->view), stored, count, NULL);
        hone_dequantise(HONE_BF16, stored, floats_of(&tensors[t]->view), count);
        for (int64_t i = 0; i < count; i++)
            tensors[t]->dense[i] = (double)floats_of(&tensors[t]->view)[i];
        views[t]->data = stored;
    }
    run_reference(&p);
    void *scratch = poisoned(hone_attention_forward_scratch(&kc, &p.args));
    hone_attention_forward(&kc, &p.args, scratch);
    hone_free(scratch);
    hone_dequantise(HONE_BF16, p.args.o.data, floats_of(&p.o.view), COUNT);
    double mean = 0;
    for (int i = 0; i < COUNT; i++) {
        double want = fabs(p.o.dense[i]), unit = ldexp(1, ilogb(want) - 7);
        mean += (fabs((double)floats_of(&p.o.view)[i]) - want) / unit / COUNT;
    }
    // Each is off by anything in ±½ unit: five standard deviations of the mean.
    if (!CHECK_NEAR(mean, 0, 0, 5 / sqrt(12.0 * COUNT))) printf("  %s\n", name);
    for (int t = 0; t < 4; t++) hone_free(views[t]->data);
    free_problem(&p);
}

static void bf16_rounds_to_the_nearest(void) {
    on_every_level(check_rounding);
}

int main(void) {
    RUN(panels_are_what_they_are_alone);
    RUN(every_place_of_a_batch_and_every_run_alike);
    RUN(equal_scores_weigh_the_same);
    RUN(a_scale_of_1e30);
    RUN(errors_have_no_bias);
    RUN(exponentials_have_no_bias);
    RUN(bf16_rounds_to_the_nearest);
    return check_report();
}
