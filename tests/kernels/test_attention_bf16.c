// SPDX-License-Identifier: Apache-2.0
// Attention whose products run on bf16 operands: the micro-kernels bit by bit, and both passes
// against the f64 reference of the same inputs, where the error of the plain bf16 computation is
// the measure (Dao et al. judge theirs so). What stands between the products is tested in
// test_attention_features.c.
#include "attention_bf16.h"

#include "attention_case.h"
#include "base/half.h"

// ---- the micro-kernels -------------------------------------------------------------------------

// Numbers of every size but subnormal ones, ties, infinities and NaN.
static float any_number(RandomStream *random) {
    uint32_t bits = (uint32_t)hone_random_below(random, 1ull << 32);
    if (hone_random_below(random, 4) == 0) bits = (bits & 0xffff0000u) | 0x8000u;
    if ((bits & 0x7f800000u) == 0) bits = 0;
    return hone_bits_to_f32(bits);
}

static void check_rounding(const KernelTable *table) {
    enum { ROWS = 9, LD = 21, TO_LD = 23 };
    RandomStream random = hone_random_stream(3, RANDOM_TEST, 21);
    float X[ROWS * LD];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < ROWS * LD; i++) X[i] = any_number(&random);
        int rows = 1 + round % ROWS, columns = 1 + round % LD;
        uint16_t pairs[(ROWS + 1) * HONE_PANEL], Y[ROWS * TO_LD];
        int64_t wrong = 0;
        memset(pairs, 0xff, sizeof pairs);
        memset(Y, 0xff, sizeof Y);
        table->attention.pack_pairs(rows, X, LD, pairs);
        table->attention.narrow(rows, columns, X, LD, Y, TO_LD);
        for (int r = 0; r < ROWS + 1; r++)
            for (int n = 0; n < HONE_PANEL; n++) {
                uint16_t want = r < rows ? hone_f32_to_bf16(X[r * LD + n]) : 0;
                if (r >= rows + rows % 2) want = 0xffff;
                wrong += pairs[(r / 2 * HONE_PANEL + n) * 2 + r % 2] != want;
            }
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < TO_LD; c++) {
                bool inside = r < rows && c < columns;
                wrong += Y[r * TO_LD + c] != (inside ? hone_f32_to_bf16(X[r * LD + c]) : 0xffff);
            }
        if (!CHECK_INT(wrong, 0)) printf("  %s, %d rows, %d columns\n", table->name, rows, columns);
    }
}

enum { MOST_M = 41, PANEL_M = 10, MOST_PAIRS = 9, ROW = 2 * MOST_PAIRS + 1, LDC = HONE_PANEL + 3 };

// Panels side by side: the second's B begins a pair further on, its C below the first's.
static void check_panels(const KernelTable *table, const uint16_t *A, const uint16_t *B, float *C) {
    for (int panels = 2; panels <= HONE_MOST_PANELS; panels++) {
        float all[HONE_MOST_PANELS * HONE_PANEL];
        for (int n = 0; n < HONE_MOST_PANELS * HONE_PANEL; n++) all[n] = -INFINITY;
        table->attention.product_bf16(&(PairProduct){.M = PANEL_M,
                                                     .pairs = 1,
                                                     .A = A,
                                                     .row = ROW,
                                                     .B = B,
                                                     .C = C,
                                                     .ldc = LDC,
                                                     .panels = panels,
                                                     .B_apart = 2 * HONE_PANEL,
                                                     .C_apart = PANEL_M * LDC,
                                                     .factor = 1,
                                                     .highest = all});
        int64_t wrong = 0;
        for (int m = 0; m < panels * PANEL_M; m++)
            for (int n = 0; n < HONE_PANEL; n++) {
                const uint16_t *a = A + m % PANEL_M * ROW;
                const uint16_t *b = B + (m / PANEL_M * HONE_PANEL + n) * 2;
                bool nan = m % PANEL_M == 5;
                float got = C[m * LDC + n], most = all[m / PANEL_M * HONE_PANEL + n];
                float want = hone_bf16_to_f32(a[0]) * hone_bf16_to_f32(b[0]) +
                             hone_bf16_to_f32(a[1]) * hone_bf16_to_f32(b[1]);
                wrong += nan ? !isnan(got) : got != want;
                wrong += !isfinite(most) || (!nan && most < want);
            }
        if (!CHECK_INT(wrong, 0)) printf("  %s, %d panels\n", table->name, panels);
    }
}

// Sums of products that f32 holds: any order of adding gives the same.
static void check_product(const KernelTable *table) {
    RandomStream random = hone_random_stream(3, RANDOM_TEST, 22);
    uint16_t A[MOST_M * ROW], B[MOST_PAIRS * HONE_PANEL * 2];
    float C[MOST_M * LDC], before[MOST_M * LDC], highest[HONE_PANEL];
    for (int i = 0; i < MOST_M * ROW; i++)
        A[i] = hone_f32_to_bf16((float)hone_random_below(&random, 17) - 8);
    for (int i = 0; i < MOST_PAIRS * HONE_PANEL * 2; i++)
        B[i] = hone_f32_to_bf16((float)hone_random_below(&random, 17) - 8);
    for (int M = 1; M <= MOST_M; M++)
        for (int kind = 0; kind < 4; kind++) {
            bool accumulate = kind & 1;
            int pairs = 1 + M % MOST_PAIRS;
            int64_t wrong = 0;
            for (int i = 0; i < MOST_M * LDC; i++) before[i] = C[i] = (float)(i % 5);
            for (int n = 0; n < HONE_PANEL; n++) highest[n] = n == 3 ? 1e9f : -INFINITY;
            table->attention.product_bf16(&(PairProduct){.M = M,
                                                         .pairs = pairs,
                                                         .A = A,
                                                         .row = ROW,
                                                         .B = B,
                                                         .C = C,
                                                         .ldc = LDC,
                                                         .panels = 1,
                                                         .factor = 0.25f,
                                                         .accumulate = accumulate,
                                                         .highest = kind & 2 ? highest : NULL});
            float most[HONE_PANEL];
            for (int n = 0; n < HONE_PANEL; n++) most[n] = n == 3 ? 1e9f : -INFINITY;
            for (int m = 0; m < MOST_M; m++)
                for (int n = 0; n < LDC; n++) {
                    float want = before[m * LDC + n], sum = 0;
                    for (int k = 0; k < 2 * pairs && n < HONE_PANEL; k++)
                        sum += hone_bf16_to_f32(A[m * ROW + k]) *
                               hone_bf16_to_f32(B[(k / 2 * HONE_PANEL + n) * 2 + k % 2]);
                    if (m < M && n < HONE_PANEL) {
                        want = (accumulate ? want : 0) + 0.25f * sum;
                        most[n] = fmaxf(most[n], want);
                    }
                    wrong += C[m * LDC + n] != want;
                }
            for (int n = 0; n < HONE_PANEL && kind & 2; n++) wrong += highest[n] != most[n];
            if (!CHECK_INT(wrong, 0)) printf("  %s, %d rows, kind %d\n", table->name, M, kind);
        }
    A[5 * ROW] = hone_f32_to_bf16(NAN); // is no maximum, and stays in its row
    check_panels(table, A, B, C);
}

// What is rounded where it is made is to the bit what is rounded behind.
static void check_rounded_where_made(const KernelTable *table) {
    enum { KEYS = 9, LD = HONE_PANEL + 4, SIZE = KEYS * LD };
    const AttentionTable *t = &table->attention;
    if (!t->exponent_bf16) return;
    RandomStream random = hone_random_stream(3, RANDOM_TEST, 23);
    int32_t query[HONE_PANEL], begin[KEYS], end[KEYS];
    float S[SIZE], dP[SIZE], S2[SIZE], dP2[SIZE], lse[HONE_PANEL], D[HONE_PANEL];
    for (int n = 0; n < HONE_PANEL; n++) {
        query[n] = n;
        lse[n] = 2 + hone_random_normal(&random);
        D[n] = hone_random_normal(&random);
    }
    for (int k = 0; k < KEYS; k++) begin[k] = k, end[k] = 12 + k % 3;
    for (int keys = 1; keys <= KEYS; keys++)
        for (int test = 0; test < 2; test++) {
            for (int i = 0; i < SIZE; i++) {
                S[i] = S2[i] = i % 11 ? hone_random_normal(&random) : -INFINITY;
                dP[i] = dP2[i] = hone_random_normal(&random);
            }
            float sum[2][HONE_PANEL] = {{0}};
            uint16_t pairs[2][(KEYS + 1) * HONE_PANEL] = {{0}}, P[2][SIZE] = {{0}};
            uint16_t dS[2][SIZE] = {{0}};
            PanelScores scores = {.S = S, .ld = LD, .keys = keys};
            t->exponent_bf16(&scores, lse, sum[0], pairs[0]);
            scores.S = S2;
            t->exponent(&scores, lse, sum[1]);
            t->pack_pairs(keys, S2, LD, pairs[1]);
            CHECK(memcmp(sum[0], sum[1], sizeof sum[0]) == 0);
            CHECK(memcmp(pairs[0], pairs[1], sizeof pairs[0]) == 0);
            for (int i = 0; i < SIZE; i++) S[i] = S2[i] = dP[SIZE - 1 - i];
            scores.query = query;
            scores.begin = test ? begin : NULL;
            scores.end = test ? end : NULL;
            t->gradient(&scores, dP2, lse, D);
            t->narrow(keys, HONE_PANEL, S2, LD, P[1], LD);
            t->narrow(keys, HONE_PANEL, dP2, LD, dS[1], LD);
            scores.S = S;
            t->gradient_bf16(&scores, dP, lse, D, P[0], dS[0]);
            CHECK(memcmp(dP, dP2, sizeof dP) == 0);
            CHECK(memcmp(P[0], P[1], sizeof P[0]) == 0);
            CHECK(memcmp(dS[0], dS[1], sizeof dS[0]) == 0);
        }
}

static void the_micro_kernels_are_exact(void) {
    Bf16Tables found;
    find_bf16_tables(&found);
    for (int i = 0; i < found.count; i++) {
        printf("%s\n", found.tables[i]->name);
        check_rounding(found.tables[i]);
        check_product(found.tables[i]);
        check_rounded_where_made(found.tables[i]);
    }
}

// ---- a problem in bf16 -------------------------------------------------------------------------

enum { INPUTS = 5, RESULTS = 4 };

typedef struct Bf16Problem {
    Problem p;
    uint16_t *stored[INPUTS];    // q, k, v, d_o, o, in the layout of the views
    double plain_error[RESULTS]; // of o, dq, dk and dv
    float *kept[RESULTS];        // the bits of one thread
} Bf16Problem;

static CaseTensor *input_of(Problem *p, int i) {
    CaseTensor *tensors[] = {&p->q, &p->k, &p->v, &p->d_o, &p->o};
    return tensors[i];
}

static CaseTensor *result_of(Problem *p, int i) {
    CaseTensor *tensors[] = {&p->o, &p->dq, &p->dk, &p->dv};
    return tensors[i];
}

// The inputs as bf16 holds them, in the f32 views, in double and where the kernels read.
static void store_inputs(Bf16Problem *b) {
    AttentionArgs *args = &b->p.args;
    AttentionView *views[] = {&args->q, &args->k, &args->v, &args->d_o, &args->o};
    args->dtype = HONE_BF16;
    for (int i = 0; i < INPUTS; i++) {
        CaseTensor *t = input_of(&b->p, i);
        fill_view(t);
        if (!b->stored[i]) b->stored[i] = hone_alloc((size_t)t->floats * 2 + 2);
        hone_quantise(HONE_BF16, floats_of(&t->view), b->stored[i], t->floats, NULL);
        hone_dequantise(HONE_BF16, b->stored[i], floats_of(&t->view), t->floats);
        for (int64_t n = 0; n < dense_count(t); n++)
            t->dense[n] = (double)floats_of(&t->view)[place(t, n)];
        views[i]->data = b->stored[i];
    }
}

static Bf16Problem make_bf16(Case what, uint64_t seed) {
    Bf16Problem b = {.p = problem_from_zero_gradients(what, seed)};
    store_inputs(&b);
    return b;
}

static void free_bf16(Bf16Problem *b) {
    for (int i = 0; i < INPUTS; i++) hone_free(b->stored[i]);
    free_problem(&b->p);
}

static float *as_floats(const CaseTensor *t) {
    float *x = hone_calloc((size_t)dense_count(t) + 1, sizeof *x);
    for (int64_t i = 0; i < dense_count(t); i++) x[i] = (float)t->dense[i];
    return x;
}

// The f64 reference, and how far from it the plain bf16 computation is.
static void run_references(Bf16Problem *b) {
    Problem *p = &b->p;
    float *in[INPUTS], *out[RESULTS];
    float *lse = hone_calloc((size_t)(p->what.queries * p->what.heads) + 1, sizeof *lse);
    float *row = hone_calloc((size_t)p->what.keys + 1, sizeof *row);
    for (int i = 0; i < INPUTS; i++) in[i] = as_floats(input_of(p, i));
    for (int i = 1; i < RESULTS; i++) out[i] = as_floats(result_of(p, i)); // zeros
    out[0] = in[4];
    hone_reference_bf16_attention_forward(&p->reference, in[0], in[1], in[2], out[0], lse, row);
    for (int64_t i = 0; i < dense_count(&p->o); i++)
        out[0][i] = hone_bf16_to_f32(hone_f32_to_bf16(out[0][i]));
    hone_reference_bf16_attention_backward(&p->reference, in[0], in[1], in[2], out[0], lse, in[3],
                                           out[1], out[2], out[3]);
    run_reference(p);
    for (int i = 0; i < RESULTS; i++) {
        b->plain_error[i] = 0;
        for (int64_t n = 0; n < dense_count(result_of(p, i)); n++) {
            double error = fabs((double)out[i][n] - result_of(p, i)->dense[n]);
            if (error > b->plain_error[i]) b->plain_error[i] = error;
        }
        if (i > 0) hone_free(out[i]);
    }
    for (int i = 0; i < INPUTS; i++) hone_free(in[i]);
    hone_free(lse);
    hone_free(row);
}

static void run_bf16(Bf16Problem *b, const KernelTable *table, ThreadPool *pool) {
    Problem *p = &b->p;
    KernelContext kc = {.table = table, .pool = pool};
    for (int64_t i = 0; i < p->o.floats; i++) b->stored[4][i] = 0x7fc0;
    for (int i = 1; i < RESULTS; i++) { // zeros, and NaN in the gaps
        CaseTensor *t = result_of(p, i);
        for (int64_t n = 0; n < t->floats; n++) floats_of(&t->view)[n] = case_poison;
        for (int64_t n = 0; n < dense_count(t); n++) floats_of(&t->view)[place(t, n)] = 0;
    }
    void *scratch = poisoned(hone_attention_forward_scratch(&kc, &p->args));
    hone_attention_forward(&kc, &p->args, scratch);
    hone_free(scratch);
    scratch = poisoned(hone_attention_backward_scratch(&kc, &p->args));
    hone_attention_backward(&kc, &p->args, scratch);
    hone_free(scratch);
    hone_dequantise(HONE_BF16, b->stored[4], floats_of(&p->o.view), p->o.floats);
}

// At most twice the plain error, three times for gradients, and half a unit of bf16 at the largest
// value: two that round alike may still round apart.
static bool bf16_close(const Bf16Problem *b) {
    static const char *const names[] = {"o", "dq", "dk", "dv"};
    const Problem *p = &b->p;
    const CaseTensor *results[] = {&p->o, &p->dq, &p->dk, &p->dv};
    bool ok = true;
    for (int i = 0; i < RESULTS; i++)
        ok = close_to(results[i], 0x1p-9, (i == 0 ? 2 : 3) * b->plain_error[i] + 1e-6, names[i]) &&
             ok;
    for (int64_t i = 0; i < p->what.queries * p->what.heads; i++) {
        double got = (double)p->args.lse[i], want = p->lse[i];
        bool same = got == want || (isnan(got) && isnan(want)) ||
                    fabs(got - want) <= 2e-6 * fabs(want) + 2e-6;
        if (ok && !same) printf("lse[%lld] is %.9g, want %.9g\n", (long long)i, got, want);
        ok = ok && same;
    }
    return ok;
}

static void check_bf16(Case what, uint64_t seed, ThreadPool *pool) {
    Bf16Tables found;
    Bf16Problem b = make_bf16(what, seed);
    find_bf16_tables(&found);
    run_references(&b);
    for (int i = 0; i < found.count; i++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            run_bf16(&b, found.tables[i], threads == 1 ? NULL : pool);
            if (!check_true(bf16_close(&b), "results are close", __FILE__, __LINE__))
                print_case(&what, found.tables[i]->name);
            for (int t = 0; t < RESULTS; t++) {
                const CaseTensor *result = result_of(&b.p, t);
                size_t bytes = (size_t)result->floats * sizeof(float);
                if (threads == 1)
                    b.kept[t] = memcpy(hone_alloc(bytes + 1), result->view.data, bytes);
                if (threads == 1) continue;
                if (!CHECK(memcmp(b.kept[t], result->view.data, bytes) == 0))
                    print_case(&what, found.tables[i]->name);
                hone_free(b.kept[t]);
            }
        }
    }
    free_bf16(&b);
}

// ---- both passes -------------------------------------------------------------------------------

static void sizes_around_the_tiles(void) {
    const int64_t sizes[] = {1, 2, 3, 15, 16, 17, 33, 64, 129, 145};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++)
            check_bf16((Case){.queries = sizes[i],
                              .keys = sizes[j],
                              .heads = 2,
                              .kv_heads = 2,
                              .head_size = 8,
                              .value_size = 11,
                              .visibility = (Visibility)((i * COUNT + j) % VISIBILITIES),
                              .gap = 1,
                              .spread = 1.0f},
                       (uint64_t)(i * COUNT + j), pool);
    hone_pool_free(pool);
}

static void steps_windows_parts_and_chunks(void) {
    const int64_t queries[] = {17, 128, 129, 193}, keys[] = {131, 133, 264, 513, 1025, 2051};
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6; j++)
            check_bf16((Case){.queries = queries[i],
                              .keys = keys[j],
                              .heads = 1,
                              .kv_heads = 1,
                              .head_size = 4,
                              .value_size = 5,
                              .visibility = (Visibility)((i * 6 + j) % VISIBILITIES),
                              .gap = 1,
                              .spread = 1.0f},
                       (uint64_t)(500 + i * 6 + j), pool);
    hone_pool_free(pool);
}

static void every_kind_of_head_size(void) {
    const int sizes[] = {1, 2, 3, 7, 15, 16, 17, 31, 48, 64, 65, 80, 127, 128, 129, 192, 255, 256};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < COUNT; i++)
        for (int other = 0; other < 2; other++)
            check_bf16((Case){.queries = 83,
                              .keys = 83,
                              .heads = 2,
                              .kv_heads = 1,
                              .head_size = sizes[i],
                              .value_size = other ? sizes[(i * 7 + 5) % COUNT] : sizes[i],
                              .visibility = other ? SEE_PACKED : SEE_CAUSAL,
                              .gap = 3,
                              .spread = 1.0f},
                       (uint64_t)(i * 3 + other), pool);
    hone_pool_free(pool);
}

static void groups_and_every_visibility(void) {
    const int heads[][2] = {{9, 3}, {4, 1}, {16, 1}, {5, 5}};
    const int64_t lengths[][2] = {{100, 100}, {37, 190}, {190, 37}, {2, 101}};
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 4; i++)
        for (int visibility = 0; visibility < VISIBILITIES; visibility++)
            check_bf16((Case){.queries = lengths[(i + visibility) % 4][0],
                              .keys = lengths[(i + visibility) % 4][1],
                              .heads = heads[i][0],
                              .kv_heads = heads[i][1],
                              .head_size = 16,
                              .value_size = 18,
                              .visibility = (Visibility)visibility,
                              .gap = 5,
                              .head_major = visibility % 2,
                              .spread = 1.0f},
                       (uint64_t)(i * 100 + visibility), pool);
    hone_pool_free(pool);
}

// Scores of some hundreds: large inputs spread the exponents.
static void large_inputs(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int visibility = 0; visibility < VISIBILITIES; visibility++)
        check_bf16((Case){.queries = 90,
                          .keys = 130,
                          .heads = 2,
                          .kv_heads = 1,
                          .head_size = 33,
                          .value_size = 20,
                          .visibility = (Visibility)visibility,
                          .spread = 5.0f},
                   (uint64_t)(700 + visibility), pool);
    hone_pool_free(pool);
}

// ---- NaN and infinity ---------------------------------------------------------------------------

static void put(CaseTensor *t, int64_t row, double value) {
    for (int64_t c = 0; c < t->heads * t->size; c++) t->dense[row * t->heads * t->size + c] = value;
}

// NaN in some key, value and query: exactly those who see it are NaN, forward and backward. Steps
// of an odd number of keys must not meet what stands behind their last.
static void check_nan(Case what, uint64_t seed) {
    Bf16Tables found;
    find_bf16_tables(&found);
    for (int kind = 0; kind < 3; kind++)
        for (int64_t at = 0; at < 4; at++) {
            Bf16Problem b = make_bf16(what, seed + (uint64_t)at);
            CaseTensor *t = kind == 0 ? &b.p.k : kind == 1 ? &b.p.v : &b.p.q;
            put(t, (t->rows - 1) * (3 + 7 * at) / 30, (double)NAN);
            store_inputs(&b);
            run_references(&b);
            for (int i = 0; i < RESULTS; i++)
                if (isnan(b.plain_error[i])) b.plain_error[i] = 0;
            for (int i = 0; i < found.count; i++) {
                run_bf16(&b, found.tables[i], NULL);
                bool ok = true;
                for (int r = 0; r < RESULTS; r++) {
                    const CaseTensor *result = result_of(&b.p, r);
                    for (int64_t n = 0; n < dense_count(result); n++)
                        ok = ok && !isnan(result->dense[n]) ==
                                       !isnan(floats_of(&result->view)[place(result, n)]);
                }
                if (!CHECK(ok) || !CHECK(bf16_close(&b))) {
                    printf("  NaN in %s\n", kind == 0 ? "k" : kind == 1 ? "v" : "q");
                    print_case(&what, found.tables[i]->name);
                }
            }
            free_bf16(&b);
        }
}

static void nan_reaches_only_those_who_see_it(void) {
    const int64_t lengths[][2] = {{70, 70}, {61, 203}, {150, 97}, {300, 301}};
    for (int visibility = 0; visibility < VISIBILITIES; visibility++)
        for (int i = 0; i < 4; i++)
            check_nan((Case){.queries = lengths[i][0],
                             .keys = lengths[i][1],
                             .heads = 2,
                             .kv_heads = 1,
                             .head_size = 5,
                             .value_size = 7,
                             .visibility = (Visibility)visibility,
                             .gap = 1,
                             .spread = 1.0f},
                      (uint64_t)(800 + visibility * 4 + i));
}

// ---- bias ---------------------------------------------------------------------------------------

typedef struct Bias {
    double error, product, square, count;
} Bias;

static void add_bias(const CaseTensor *t, Bias *sum) {
    for (int64_t n = 0; n < dense_count(t); n++) {
        double want = t->dense[n], e = (double)floats_of(&t->view)[place(t, n)] - want;
        sum->error += e, sum->product += e * want, sum->square += want * want;
    }
    sum->count += (double)dense_count(t);
}

// Rounding to the nearest has no direction: on the average over some 200,000 values, and of their
// size, the error is far below the 2^-9 of one rounding. Cutting off would be 2^-9 here. From one
// such problem to the next the average varies by half of what is allowed, so it is taken over four.
static void roundings_have_no_bias(void) {
    enum { PROBLEMS = 4 };
    Bf16Tables found;
    find_bf16_tables(&found);
    Bias sums[sizeof found.tables / sizeof *found.tables][RESULTS] = {0};
    for (int problem = 0; problem < PROBLEMS; problem++) {
        Bf16Problem b = make_bf16((Case){.queries = 300,
                                         .keys = 300,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_size = 32,
                                         .value_size = 32,
                                         .visibility = SEE_ALL,
                                         .spread = 1.0f},
                                  (uint64_t)(12 + problem));
        run_references(&b);
        for (int i = 0; i < found.count; i++) {
            run_bf16(&b, found.tables[i], NULL);
            for (int r = 0; r < RESULTS; r++) add_bias(result_of(&b.p, r), &sums[i][r]);
        }
        free_bf16(&b);
    }
    for (int i = 0; i < found.count; i++)
        for (int r = 0; r < RESULTS; r++) {
            const Bias *sum = &sums[i][r];
            double mean = sum->error / sum->count / sqrt(sum->square / sum->count);
            double slope = sum->product / sum->square;
            if (!CHECK_NEAR(mean, 0, 0, 0x1p-14) || !CHECK_NEAR(slope, 0, 0, 0x1p-14))
                printf("  %s, result %d: mean %g, slope %g\n", found.tables[i]->name, r, mean,
                       slope);
        }
}

// ---- when ---------------------------------------------------------------------------------------

// Never for f32 inputs, nor where one panel of queries is all there is; scratch says so too.
static void only_for_bf16_inputs(void) {
    Bf16Tables found;
    find_bf16_tables(&found);
    KernelTable without = found.plain;
    without.attention.product_bf16 = NULL;
    for (int kind = 0; kind < 3; kind++) {
        Case what = {.queries = kind == 2 ? 16 : 40,
                     .keys = 50,
                     .heads = 1,
                     .kv_heads = 1,
                     .head_size = 8,
                     .value_size = 8,
                     .spread = 1.0f};
        Problem p = make_problem(what, 1);
        p.args.dtype = kind == 1 ? HONE_F32 : HONE_BF16;
        KernelContext with = {.table = &found.plain}, none = {.table = &without};
        bool differs = hone_attention_forward_scratch(&with, &p.args) !=
                       hone_attention_forward_scratch(&none, &p.args);
        bool used = hone_attention_forward_keys(&with, &p.args).bf16;
        CHECK(differs == (kind == 0) && used == (kind == 0));
        CHECK(!hone_attention_forward_keys(&none, &p.args).bf16);
        free_problem(&p);
    }
}

int main(void) {
    RUN(the_micro_kernels_are_exact);
    RUN(sizes_around_the_tiles);
    RUN(steps_windows_parts_and_chunks);
    RUN(every_kind_of_head_size);
    RUN(groups_and_every_visibility);
    RUN(large_inputs);
    RUN(nan_reaches_only_those_who_see_it);
    RUN(roundings_have_no_bias);
    RUN(only_for_bf16_inputs);
    return check_report();
}
