// SPDX-License-Identifier: Apache-2.0
// Routing to experts and rows times numbers, against plain loops in double; the same bits on
// threads.
#include "element_support.h"

enum { MOST_EXPERTS = 40 };

typedef struct Plain {
    double p[MOST_EXPERTS];
    int order[MOST_EXPERTS];
} Plain;

static Plain plain_row(const float *z, int experts) {
    Plain row;
    double sum = 0;
    for (int e = 0; e < experts; e++) sum += row.p[e] = exp((double)z[e]);
    for (int e = 0; e < experts; e++) {
        row.p[e] /= sum;
        int at = e;
        for (; at > 0 && z[row.order[at - 1]] < z[e]; at--) row.order[at] = row.order[at - 1];
        row.order[at] = e;
    }
    return row;
}

static void check_forward(const RouteArgs *args) {
    double all[MOST_EXPERTS] = {0}, sums[MOST_EXPERTS];
    for (int64_t t = 0; t < args->T; t++) {
        const Plain row = plain_row(args->logits + t * args->experts, args->experts);
        double chosen = 0;
        for (int j = 0; j < args->used; j++) chosen += row.p[row.order[j]];
        for (int j = 0; j < args->used; j++) {
            CHECK_INT(args->chosen[t * args->used + j], row.order[j]);
            CHECK_NEAR((double)args->weight[t * args->used + j],
                       row.p[row.order[j]] / (args->normalised ? chosen : 1), 2e-7, 0);
        }
        for (int e = 0; e < args->experts; e++) all[e] += row.p[e];
    }
    hone_route_probabilities(args, sums);
    for (int e = 0; e < args->experts; e++) CHECK_NEAR(sums[e], all[e], 1e-12, 1e-12);
}

// Through the softmax: dz_e = p_e·(g_e − Σ p·g), where g = ∂/∂p of the weights and of dp.
static void check_backward(const RouteArgs *args, const float *dw, const double *dp,
                           const float *before, const float *after) {
    for (int64_t t = 0; t < args->T; t++) {
        const Plain row = plain_row(args->logits + t * args->experts, args->experts);
        double g[MOST_EXPERTS] = {0}, mean = 0, chosen = 0, weighed = 0;
        for (int j = 0; j < args->used; j++) {
            chosen += row.p[row.order[j]];
            weighed += row.p[row.order[j]] * (double)dw[t * args->used + j];
        }
        for (int e = 0; e < args->experts; e++) g[e] = dp ? dp[e] : 0;
        for (int j = 0; j < args->used; j++) {
            const double d = (double)dw[t * args->used + j];
            g[row.order[j]] += args->normalised ? d / chosen - weighed / (chosen * chosen) : d;
        }
        for (int e = 0; e < args->experts; e++) mean += row.p[e] * g[e];
        for (int e = 0; e < args->experts; e++) {
            const int64_t at = t * args->experts + e;
            CHECK_NEAR((double)after[at], (double)before[at] + row.p[e] * (g[e] - mean), 1e-6,
                       1e-6);
        }
    }
}

static void route_of(const KernelContext *kc, int64_t T, int experts, int used, bool normalised) {
    Arrays a = arrays_begin((uint64_t)(T * 100 + experts));
    Array *z = array_new(&a, T * experts, 2), *dw = array_new(&a, T * used, 1);
    Array *weight = array_new(&a, T * used, 0), *dz = array_new(&a, T * experts, 1);
    Array *before = array_copy(&a, dz), *again = array_copy(&a, dz);
    int32_t *chosen = hone_calloc((size_t)(T * used), sizeof *chosen);
    double dp[MOST_EXPERTS];
    for (int e = 0; e < experts; e++) dp[e] = 0.1 * e - 0.3;
    const RouteArgs args = {T, experts, used, normalised, z->data, chosen, weight->data};
    hone_route_forward(kc, &args);
    check_forward(&args);
    for (int with = 0; with < 2; with++) {
        memcpy(dz->data, before->data, (size_t)(T * experts) * sizeof(float));
        hone_route_backward(kc, &args, dw->data, with ? dp : NULL, dz->data);
        check_backward(&args, dw->data, with ? dp : NULL, before->data, dz->data);
    }
    const KernelContext alone = {.table = kc->table};
    hone_route_backward(&alone, &args, dw->data, dp, again->data);
    CHECK(array_equal(dz, again));
    hone_free(chosen);
    arrays_end(&a);
}

static void rows_go_to_the_best_experts(void) {
    KernelContext kc = {.pool = hone_pool_create(3)};
    HoneError err = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    for (int experts = 1; experts <= 9; experts++)
        for (int used = 1; used <= experts; used++)
            for (int normalised = 0; normalised < 2; normalised++)
                route_of(&kc, 5 + experts, experts, used, normalised);
    route_of(&kc, 700, 33, 8, true);
    route_of(&kc, 301, MOST_EXPERTS, 3, false);
    hone_pool_free(kc.pool);
}

// Equal ones: the first first. What is no number still gives numbers of experts, each once.
static void ties_and_nan_have_an_order(void) {
    KernelContext kc = {0};
    HoneError err = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    const float z[2][4] = {{1, 2, 2, 1}, {NAN, NAN, NAN, NAN}};
    int32_t chosen[2][3];
    float weight[2][3];
    const RouteArgs args = {2, 4, 3, true, z[0], chosen[0], weight[0]};
    hone_route_forward(&kc, &args);
    const int want[2][3] = {{1, 2, 0}, {0, 1, 2}};
    for (int t = 0; t < 2; t++)
        for (int j = 0; j < 3; j++) CHECK_INT(chosen[t][j], want[t][j]);
    CHECK(isnan(weight[1][0]));
}

static void weigh_of(const KernelContext *kc, int64_t T, int64_t C) {
    Arrays a = arrays_begin((uint64_t)(T * 1000 + C));
    Array *x = array_new(&a, T * C, 1), *y = array_new(&a, T * C, 1), *w = array_new(&a, T, 1);
    Array *to = array_copy(&a, y), *dots = array_copy(&a, w);
    hone_weigh_rows(kc, T, C, w->data, x->data, true, to->data);
    hone_dot_rows(kc, T, C, x->data, y->data, dots->data);
    for (int64_t t = 0; t < T; t++) {
        double dot = (double)w->data[t];
        for (int64_t c = t * C; c < (t + 1) * C; c++) {
            dot += (double)x->data[c] * (double)y->data[c];
            CHECK_NEAR((double)to->data[c],
                       (double)y->data[c] + (double)w->data[t] * (double)x->data[c], 1e-6, 1e-6);
        }
        CHECK_NEAR((double)dots->data[t], dot, 1e-5, 1e-5);
    }
    hone_weigh_rows(kc, T, C, w->data, x->data, false, to->data);
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = t * C; c < (t + 1) * C; c++) CHECK(to->data[c] == w->data[t] * x->data[c]);
    arrays_end(&a);
}

static void check_weigh(const KernelContext *kc) {
    for (int64_t C = 1; C <= 50; C++) weigh_of(kc, 3 + C % 4, C);
    weigh_of(kc, 900, 70);
}

static void rows_times_numbers(void) {
    at_every_level(check_weigh);
}

int main(void) {
    RUN(rows_go_to_the_best_experts);
    RUN(ties_and_nan_have_an_order);
    RUN(rows_times_numbers);
    return check_report();
}
