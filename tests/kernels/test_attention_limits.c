// SPDX-License-Identifier: Apache-2.0
// Attention at its edges: rows that see nothing, NaN behind a mask, huge scores, odd scales and
// layouts, no keys, and lengths at which memory must still be linear.
#include "attention_case.h"

// ---- rows and keys that nobody sees ------------------------------------------------------------

static void check_unseen(const KernelTable *table, const char *name) {
    Problem p = problem_from_zero_gradients((Case){.queries = 90,
                                                   .keys = 70,
                                                   .heads = 3,
                                                   .kv_heads = 1,
                                                   .head_size = 20,
                                                   .value_size = 12,
                                                   .visibility = SEE_SOME,
                                                   .spread = 1.0f},
                                            5);
    (void)name;
    for (int64_t j = 0; j < 70; j++) { // queries 0 … 9 and 50 … 69, keys 30 … 49: nobody
        p.begin[j] = j < 30 ? 10 : 70;
        p.end[j] = j < 30 ? 50 : j < 50 ? 70 : 90;
    }
    run_kernel(&p, table, NULL);
    for (int64_t i = 0; i < 90; i++)
        for (int64_t h = 0; h < 3; h++) {
            bool empty = i < 10 || (i >= 50 && i < 70);
            CHECK((p.args.lse[h * 90 + i] == -INFINITY) == empty);
            for (int64_t c = 0; c < 12; c++)
                if (empty) CHECK(floats_of(&p.o.view)[place(&p.o, (i * 3 + h) * 12 + c)] == 0.0f);
            for (int64_t c = 0; c < 20; c++)
                if (empty) CHECK(floats_of(&p.dq.view)[place(&p.dq, (i * 3 + h) * 20 + c)] == 0.0f);
        }
    for (int64_t j = 30; j < 50; j++) {
        for (int64_t c = 0; c < 20; c++) CHECK(floats_of(&p.dk.view)[j * 20 + c] == 0.0f);
        for (int64_t c = 0; c < 12; c++) CHECK(floats_of(&p.dv.view)[j * 12 + c] == 0.0f);
    }
    run_reference(&p);
    CHECK(results_close(&p));
    free_problem(&p);
}

static void unseen_rows_and_keys_are_zero(void) {
    on_every_level(check_unseen);
}

// ---- NaN ---------------------------------------------------------------------------------------

// The reference reads only pairs that see each other, so its NaN are those that must be.
static void check_nan(const KernelTable *table, const char *name) {
    for (int visibility = 0; visibility < VISIBILITIES; visibility++)
        for (int where = 0; where < 4; where++)
            for (int group = 1; group <= 3; group += 2) {
                Problem p = problem_from_zero_gradients((Case){.queries = 75,
                                                               .keys = 75,
                                                               .heads = group,
                                                               .kv_heads = 1,
                                                               .head_size = 9,
                                                               .value_size = 6,
                                                               .visibility = (Visibility)visibility,
                                                               .spread = 1.0f},
                                                        (uint64_t)visibility);
                CaseTensor *t = where == 0 ? &p.q : where == 1 ? &p.k : where == 2 ? &p.v : &p.d_o;
                t->dense[(40 * t->heads) * t->size + 2] = (double)NAN;
                fill_view(t);
                run_reference(&p);
                run_kernel(&p, table, NULL);
                if (!CHECK(results_close(&p))) {
                    printf("  NaN in tensor %d\n", where);
                    print_case(&p.what, name);
                }
                free_problem(&p);
            }
}

static void nan_reaches_only_those_who_see_it(void) {
    on_every_level(check_nan);
}

// ---- scores ------------------------------------------------------------------------------------

// Scores of exactly ±size or 0: q holds `size`, k holds 1, 0 or −1, one score a head.
static Problem problem_of_scores(float size, int64_t keys, const double *k) {
    Problem p = problem_from_zero_gradients((Case){.queries = 20,
                                                   .keys = keys,
                                                   .heads = 1,
                                                   .kv_heads = 1,
                                                   .head_size = 1,
                                                   .value_size = 5,
                                                   .spread = 1.0f},
                                            3);
    for (int64_t i = 0; i < 20; i++) p.q.dense[i] = (double)size;
    memcpy(p.k.dense, k, (size_t)keys * sizeof *k);
    fill_view(&p.q);
    fill_view(&p.k);
    return p;
}

static void check_huge(const KernelTable *table, const char *name) {
    static const float sizes[] = {1.0f, 1e4f, -1e4f, 1e30f, -1e30f};
    double k[200];
    (void)name;
    for (int kind = 0; kind < 3; kind++) // all equal; one stands out; rising
        for (int i = 0; i < 5; i++) {
            for (int j = 0; j < 200; j++) k[j] = kind == 0 ? 1 : kind == 1 ? j == 150 : j / 256.0;
            Problem p = problem_of_scores(sizes[i], 200, k);
            run_reference(&p);
            run_kernel(&p, table, NULL);
            // lse is handed on as f32: half a unit in its last place is the relative error of p,
            // unless it is exact, as where one key stands out.
            double unit = kind == 1 ? 0 : ldexp(fabs((double)sizes[i]), -24);
            CHECK(close_to(&p.o, 2e-6, 1e-6, "o"));
            if (unit < 1) CHECK(close_to(&p.dv, 5e-6 + unit, 2e-6, "dv"));
            if (unit < 1) CHECK(close_to(&p.dq, 5e-6 + unit, 2e-6, "dq"));
            for (int64_t r = 0; r < 20; r++) {
                CHECK(isfinite(p.args.lse[r]));
                CHECK(isfinite(floats_of(&p.dq.view)[r]));
            }
            free_problem(&p);
        }
}

static void huge_and_equal_scores(void) {
    on_every_level(check_huge);
}

static void check_scales(const KernelTable *table, const char *name) {
    static const float scales[] = {0.0f, -0.5f, 1.0f, 0.01f};
    for (int i = 0; i < 4; i++) {
        Problem p = problem_from_zero_gradients((Case){.queries = 50,
                                                       .keys = 60,
                                                       .heads = 2,
                                                       .kv_heads = 1,
                                                       .head_size = 6,
                                                       .value_size = 7,
                                                       .visibility = SEE_CAUSAL,
                                                       .spread = 1.0f},
                                                (uint64_t)i);
        p.args.scale = scales[i];
        p.reference.scale = (double)scales[i];
        run_reference(&p);
        run_kernel(&p, table, NULL);
        if (!CHECK(results_close(&p))) print_case(&p.what, name);
        free_problem(&p);
    }
}

static void any_scale(void) {
    on_every_level(check_scales);
}

// ---- layouts and sizes -------------------------------------------------------------------------

static void check_layouts(const KernelTable *table, const char *name) {
    for (int gap = 0; gap < 20; gap += 5) {
        Problem p = problem_from_zero_gradients((Case){.queries = 66,
                                                       .keys = 77,
                                                       .heads = 6,
                                                       .kv_heads = 2,
                                                       .head_size = 24,
                                                       .value_size = 10,
                                                       .visibility = SEE_CAUSAL,
                                                       .gap = gap,
                                                       .head_major = true,
                                                       .spread = 1.0f},
                                                (uint64_t)gap);
        run_reference(&p);
        run_kernel(&p, table, NULL);
        if (!CHECK(results_close(&p))) print_case(&p.what, name);
        free_problem(&p);
    }
}

static void head_major_layout(void) {
    on_every_level(check_layouts);
}

static void check_empty(const KernelTable *table, const char *name) {
    (void)name;
    Case what = {.queries = 5,
                 .keys = 0,
                 .heads = 2,
                 .kv_heads = 1,
                 .head_size = 3,
                 .value_size = 4,
                 .spread = 1.0f};
    Problem p = problem_from_zero_gradients(what, 1);
    run_reference(&p);
    run_kernel(&p, table, NULL);
    CHECK(results_close(&p));
    for (int i = 0; i < 10; i++) CHECK(p.args.lse[i] == -INFINITY);
    free_problem(&p);
    what.queries = 0;
    what.keys = 5;
    p = problem_from_zero_gradients(what, 1);
    run_kernel(&p, table, NULL);
    run_reference(&p);
    CHECK(results_close(&p));
    free_problem(&p);
}

static void no_keys_and_no_queries(void) {
    on_every_level(check_empty);
}

// Told to overwrite, backward writes every row of dq, dk and dv, those that nobody sees too, and
// nothing between them.
static void check_overwrites(const KernelTable *table, const char *name) {
    const int64_t sizes[][2] = {{75, 90}, {3, 40}, {300, 300}, {2, 1500}, {5, 0}, {0, 5}};
    for (int s = 0; s < 6; s++)
        for (int visibility = 0; visibility < VISIBILITIES; visibility++)
            for (int group = 1; group <= 3; group += 2) {
                Problem p = problem_from_zero_gradients((Case){.queries = sizes[s][0],
                                                               .keys = sizes[s][1],
                                                               .heads = 2 * group,
                                                               .kv_heads = 2,
                                                               .head_size = 9,
                                                               .value_size = 18,
                                                               .visibility = (Visibility)visibility,
                                                               .gap = 2,
                                                               .spread = 1.0f},
                                                        (uint64_t)visibility);
                run_reference(&p);
                CaseTensor *gradients[] = {&p.dq, &p.dk, &p.dv};
                for (int t = 0; t < 3; t++)
                    for (int64_t i = 0; i < gradients[t]->floats; i++)
                        floats_of(&gradients[t]->view)[i] = case_poison;
                p.args.overwrites = true;
                run_kernel(&p, table, NULL);
                if (!CHECK(results_close(&p))) print_case(&p.what, name);
                free_problem(&p);
            }
}

static void backward_overwrites_when_told_to(void) {
    on_every_level(check_overwrites);
}

static void same_bits_when_run_again(void) {
    const KernelTable *table;
    HoneError err = {0};
    if (!CHECK(hone_kernel_table(NULL, &table, &err) == HONE_OK)) return;
    Case what = {.queries = 300,
                 .keys = 300,
                 .heads = 4,
                 .kv_heads = 2,
                 .head_size = 32,
                 .value_size = 32,
                 .visibility = SEE_TRIE,
                 .spread = 1.0f};
    Problem a = problem_from_zero_gradients(what, 9), b = problem_from_zero_gradients(what, 9);
    run_kernel(&a, table, NULL);
    run_kernel(&b, table, NULL);
    CHECK(memcmp(a.o.view.data, b.o.view.data, (size_t)a.o.floats * sizeof(float)) == 0);
    CHECK(memcmp(a.dq.view.data, b.dq.view.data, (size_t)a.dq.floats * sizeof(float)) == 0);
    CHECK(memcmp(a.dk.view.data, b.dk.view.data, (size_t)a.dk.floats * sizeof(float)) == 0);
    CHECK(memcmp(a.dv.view.data, b.dv.view.data, (size_t)a.dv.floats * sizeof(float)) == 0);
    free_problem(&a);
    free_problem(&b);
}

// ---- length ------------------------------------------------------------------------------------

static void scratch_is_linear_in_length(void) {
    KernelContext kc = {0};
    HoneError err = {0};
    if (!CHECK(hone_kernel_table(NULL, &kc.table, &err) == HONE_OK)) return;
    AttentionArgs args = {.batch = 1, .heads = 8, .kv_heads = 2, .head_size = 64, .value_size = 64};
    for (int64_t n = 4096; n <= 65536; n *= 2) {
        AttentionArgs twice = args;
        args.queries = args.keys = n;
        twice.queries = twice.keys = 2 * n;
        CHECK(hone_attention_forward_scratch(&kc, &twice) <
              2.1 * (double)hone_attention_forward_scratch(&kc, &args));
        CHECK(hone_attention_backward_scratch(&kc, &twice) <
              2.1 * (double)hone_attention_backward_scratch(&kc, &args));
    }
}

// Single rows of a long problem against the reference, and sums that hold for any softmax:
// Σ_j dV_j = Σ_i dO_i and Σ_j K_j·dK_j = Σ_i Q_i·dQ_i.
static void long_sequences(void) {
    enum { N = 16384, D = 3 };
    KernelContext kc = {0};
    HoneError err = {0};
    if (!CHECK(hone_kernel_table(NULL, &kc.table, &err) == HONE_OK)) return;
    Problem p = problem_from_zero_gradients((Case){.queries = N,
                                                   .keys = N,
                                                   .heads = 1,
                                                   .kv_heads = 1,
                                                   .head_size = D,
                                                   .value_size = D,
                                                   .visibility = SEE_CAUSAL,
                                                   .spread = 1.0f},
                                            4);
    kc.pool = hone_pool_create(2);
    run_kernel(&p, kc.table, kc.pool);
    double values[D] = {0}, slopes = 0, size = 0;
    for (int64_t i = 0; i < N; i++)
        for (int c = 0; c < D; c++) {
            values[c] += (double)floats_of(&p.dv.view)[i * D + c] - p.d_o.dense[i * D + c];
            double q = p.q.dense[i * D + c] * (double)floats_of(&p.dq.view)[i * D + c];
            slopes += q - p.k.dense[i * D + c] * (double)floats_of(&p.dk.view)[i * D + c];
            size += fabs(q);
        }
    for (int c = 0; c < D; c++) CHECK_NEAR(values[c], 0, 0, 1e-2);
    CHECK_NEAR(slopes / size, 0, 0, 1e-5);
    double *row = doubles(N), *unused = doubles(N * D), o[D], lse, dq[D];
    for (int64_t i = 100; i < N; i += 4001) {
        ReferenceAttention one = {.queries = 1,
                                  .keys = i + 1,
                                  .heads = 1,
                                  .kv_heads = 1,
                                  .head_size = D,
                                  .value_size = D,
                                  .scale = p.reference.scale};
        memset(dq, 0, sizeof dq);
        hone_reference_f64_attention_forward(&one, p.q.dense + i * D, p.k.dense, p.v.dense, o, &lse,
                                             row);
        hone_reference_f64_attention_backward(&one, p.q.dense + i * D, p.k.dense, p.v.dense, o,
                                              &lse, p.d_o.dense + i * D, dq, unused, unused);
        CHECK_NEAR(p.args.lse[i], lse, 1e-6, 1e-6);
        for (int c = 0; c < D; c++) {
            CHECK_NEAR(floats_of(&p.o.view)[i * D + c], o[c], 0, 2e-6);
            CHECK_NEAR(floats_of(&p.dq.view)[i * D + c], dq[c], 0, 4e-6);
        }
    }
    hone_free(row);
    hone_free(unused);
    hone_pool_free(kc.pool);
    free_problem(&p);
}

int main(void) {
    RUN(unseen_rows_and_keys_are_zero);
    RUN(nan_reaches_only_those_who_see_it);
    RUN(huge_and_equal_scores);
    RUN(any_scale);
    RUN(head_major_layout);
    RUN(no_keys_and_no_queries);
    RUN(backward_overwrites_when_told_to);
    RUN(same_bits_when_run_again);
    RUN(scratch_is_linear_in_length);
    RUN(long_sequences);
    return check_report();
}
