// SPDX-License-Identifier: Apache-2.0
// Additive attention on every level against plain f64 loops, whose gradients are the finite
// differences; and the bias kernels.
#include <float.h>

#include "base/memory.h"
#include "base/random.h"
#include "check.h"
#include "kernels/element_math.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

enum { Q, K, V, SCALE, D_O, O, LSE, P, DQ, DK, DV, D_SCALE, ARRAYS };

typedef struct Problem {
    int64_t batch, queries, keys, units, value_size;
    const int32_t *begin, *end;
    const float *mask; // (batch, 1, queries, keys)
    float dropout;
    int64_t count[ARRAYS];
    double *exact[ARRAYS]; // lse and P: written with the outputs
    float *array[ARRAYS];
} Problem;

static Problem make_problem(int64_t batch, int64_t queries, int64_t keys, int64_t units,
                            int64_t value_size) {
    Problem p = {.batch = batch, .queries = queries, .keys = keys, .units = units};
    p.value_size = value_size;
    const int64_t count[ARRAYS] = {[Q] = batch * queries * units,
                                   [K] = batch * keys * units,
                                   [V] = batch * keys * value_size,
                                   [SCALE] = units,
                                   [D_O] = batch * queries * value_size,
                                   [O] = batch * queries * value_size,
                                   [LSE] = batch * queries,
                                   [P] = batch * queries * keys,
                                   [DQ] = batch * queries * units,
                                   [DK] = batch * keys * units,
                                   [DV] = batch * keys * value_size,
                                   [D_SCALE] = units};
    RandomStream random = hone_random_stream(3, RANDOM_TEST, 0);
    for (int a = 0; a < ARRAYS; a++) {
        p.count[a] = count[a];
        p.exact[a] = hone_calloc((size_t)count[a] + 1, sizeof(double));
        p.array[a] = hone_calloc((size_t)count[a] + 1, sizeof(float));
        for (int64_t i = 0; a <= D_O && i < count[a]; i++)
            p.exact[a][i] = (double)(p.array[a][i] = hone_random_normal(&random));
    }
    return p;
}

static void free_problem(Problem *p) {
    for (int a = 0; a < ARRAYS; a++) {
        hone_free(p->exact[a]);
        hone_free(p->array[a]);
    }
}

static double score(const Problem *p, int64_t b, int64_t i, int64_t j) {
    int64_t row = b * p->queries + i;
    if (p->begin && (i < p->begin[j] || i >= p->end[j])) return (double)-INFINITY;
    double s = p->mask ? (double)p->mask[row * p->keys + j] : 0;
    for (int64_t u = 0; u < p->units; u++)
        s += p->exact[SCALE][u] *
             tanh(p->exact[Q][row * p->units + u] + p->exact[K][(b * p->keys + j) * p->units + u]);
    return s;
}

enum { SEED = 17 };

// A byte below dropout·256 of the 16 that (key, query/16, element of the batch) draw drops a pair.
static double kept(const Problem *p, int64_t b, int64_t i, int64_t j) {
    if (p->dropout <= 0) return 1;
    uint32_t words[4], limit = (uint32_t)lrintf(p->dropout * 256);
    hone_philox(SEED, RANDOM_DROPOUT, (uint64_t)j | (uint64_t)(i / 16) << 32, (uint64_t)b, words);
    uint32_t byte = words[i % 16 / 4] >> (8 * (i % 4)) & 255;
    return byte < limit ? 0 : 256.0 / (256 - limit);
}

static void exact_forward(const Problem *p) {
    int64_t E = p->value_size;
    for (int64_t row = 0; row < p->batch * p->queries; row++) {
        int64_t b = row / p->queries;
        double *weight = p->exact[P] + row * p->keys, *o = p->exact[O] + row * E;
        double most = (double)-INFINITY, sum = 0;
        for (int64_t j = 0; j < p->keys; j++) {
            weight[j] = score(p, b, row % p->queries, j);
            most = fmax(most, weight[j]);
        }
        for (int64_t c = 0; c < E; c++) o[c] = 0;
        bool blind = most == (double)-INFINITY;
        for (int64_t j = 0; j < p->keys; j++) sum += weight[j] = blind ? 0 : exp(weight[j] - most);
        p->exact[LSE][row] = blind ? (double)-INFINITY : most + log(sum);
        for (int64_t j = 0; j < p->keys && !blind; j++) {
            weight[j] /= sum;
            double drop = kept(p, b, row % p->queries, j);
            for (int64_t c = 0; c < E; c++)
                o[c] += drop * weight[j] * p->exact[V][(b * p->keys + j) * E + c];
        }
    }
}

static double loss(const Problem *p) {
    exact_forward(p);
    double sum = 0;
    for (int64_t i = 0; i < p->count[O]; i++) sum += p->exact[O][i] * p->exact[D_O][i];
    return sum;
}

// By central differences: what the formula says, with no derivation that could share an error.
static void exact_backward(const Problem *p) {
    const double h = 1e-5;
    const int pairs[4][2] = {{Q, DQ}, {K, DK}, {V, DV}, {SCALE, D_SCALE}};
    for (int n = 0; n < 4; n++)
        for (int64_t i = 0; i < p->count[pairs[n][0]]; i++) {
            double *value = p->exact[pairs[n][0]] + i, kept = *value;
            *value = kept + h;
            double above = loss(p);
            *value = kept - h;
            p->exact[pairs[n][1]][i] = (above - loss(p)) / (2 * h);
            *value = kept;
        }
    exact_forward(p);
}

static AdditiveArgs args_of(const Problem *p) {
    float *const *a = p->array;
    return (AdditiveArgs){.batch = p->batch,
                          .queries = p->queries,
                          .keys = p->keys,
                          .units = p->units,
                          .value_size = p->value_size,
                          .q = a[Q],
                          .k = a[K],
                          .v = a[V],
                          .scale = a[SCALE],
                          .begin = p->begin,
                          .end = p->end,
                          .mask = {p->mask, false, p->queries * p->keys, 0, p->keys, 1},
                          .dropout = p->dropout,
                          .seed = SEED,
                          .o = a[O],
                          .lse = a[LSE],
                          .weights = a[P],
                          .d_o = a[D_O],
                          .dq = a[DQ],
                          .dk = a[DK],
                          .dv = a[DV],
                          .d_scale = a[D_SCALE]};
}

static void run(const Problem *p, const KernelContext *kc) {
    AdditiveArgs args = args_of(p);
    for (int a = DQ; a < ARRAYS; a++)
        for (int64_t i = 0; i < p->count[a]; i++) p->array[a][i] = 0.5f;
    for (int pass = 0; pass < 2; pass++) {
        size_t bytes = pass ? hone_additive_backward_scratch(kc, &args)
                            : hone_additive_forward_scratch(kc, &args);
        void *scratch = hone_alloc(bytes + 1);
        memset(scratch, 0xff, bytes);
        pass ? hone_additive_backward(kc, &args, scratch)
             : hone_additive_forward(kc, &args, scratch);
        hone_free(scratch);
    }
}

static void check_problem(Problem *p) {
    exact_backward(p);
    const char *names[8];
    int levels = hone_kernel_levels(names);
    ThreadPool *pool = hone_pool_create(3);
    for (int level = 0; level < levels; level++) {
        KernelContext one = {0}, three = {0};
        HoneError err = {0};
        CHECK_INT(hone_kernel_table(names[level], &one.table, &err), HONE_OK);
        three = (KernelContext){.table = one.table, .pool = pool};
        run(p, &one);
        float *kept[ARRAYS];
        for (int a = O; a < ARRAYS; a++) {
            // What the gradients were added to; finite differences are good to 1e-9 or so.
            double shift = a >= DQ ? 0.5 : 0;
            for (int64_t i = 0; i < p->count[a]; i++) {
                if ((double)p->array[a][i] == p->exact[a][i]) continue; // infinities
                if (!CHECK_NEAR(p->array[a][i], p->exact[a][i] + shift, 5e-6, 3e-6)) break;
            }
            kept[a] = hone_alloc((size_t)p->count[a] * sizeof(float) + 1);
            memcpy(kept[a], p->array[a], (size_t)p->count[a] * sizeof(float));
        }
        run(p, &three);
        for (int a = O; a < ARRAYS; a++) {
            CHECK(memcmp(kept[a], p->array[a], (size_t)p->count[a] * sizeof(float)) == 0);
            hone_free(kept[a]);
        }
    }
    hone_pool_free(pool);
    free_problem(p);
}

static void sizes_and_tails_agree(void) {
    const int64_t sizes[][5] = {{1, 1, 1, 1, 1},  {2, 5, 7, 3, 2},  {1, 3, 4, 17, 9},
                                {3, 2, 6, 33, 1}, {1, 40, 5, 4, 3}, {2, 0, 3, 4, 5},
                                {2, 3, 0, 4, 5},  {0, 3, 3, 4, 5},  {1, 2, 3, 67, 16}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t *s = sizes[i];
        Problem p = make_problem(s[0], s[1], s[2], s[3], s[4]);
        check_problem(&p);
    }
}

static void masks_and_intervals_agree(void) {
    const int32_t begin[6] = {0, 1, 2, 3, 4, 5}, end[6] = {5, 5, 5, 5, 5, 0};
    float mask[2 * 5 * 6];
    for (int i = 0; i < 60; i++) mask[i] = i % 7 == 2 || i < 6 ? -INFINITY : (float)(i % 3);
    for (int both = 0; both < 2; both++) { // with the first query of batch 0 blind
        Problem p = make_problem(2, 5, 6, 5, 4);
        p.mask = mask;
        if (both) p.begin = begin, p.end = end;
        check_problem(&p);
    }
}

static void hidden_nan_reaches_nothing(void) {
    const int32_t begin[4] = {0, 0, 4, 0}, end[4] = {4, 4, 0, 4}; // key 2 is seen by none
    Problem p = make_problem(1, 4, 4, 6, 3);
    p.begin = begin;
    p.end = end;
    for (int u = 0; u < 6; u++) p.array[K][2 * 6 + u] = NAN;
    for (int c = 0; c < 3; c++) p.array[V][2 * 3 + c] = INFINITY;
    check_problem(&p);
}

// Tasks that begin anywhere in the 16 queries that draw together, and a last few of them.
static void dropout_agrees(void) {
    const int64_t sizes[][5] = {{2, 5, 7, 3, 2}, {2, 37, 6, 2, 3}, {1, 20, 300, 1, 2}};
    for (int s = 0; s < 3; s++) {
        Problem p = make_problem(sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][3], sizes[s][4]);
        p.dropout = s == 2 ? 0.6f : 0.25f;
        check_problem(&p);
    }
}

static void tanh_is_within_three_units(void) {
    double worst = 0;
    for (double x = 1e-6; x < 20; x *= 1.0007) {
        double want = tanh((double)(float)x), unit = ldexp(1, ilogb(want) - 23);
        worst = fmax(worst, fabs((double)hone_tanh((float)x) - want) / unit);
        CHECK(hone_tanh(-(float)x) == -hone_tanh((float)x));
    }
    CHECK(worst <= 3);
    CHECK(hone_tanh(INFINITY) == 1 && hone_tanh(-INFINITY) == -1 && hone_tanh(0) == 0);
    CHECK(isnan(hone_tanh(NAN)));
    const char *names[8];
    for (int level = hone_kernel_levels(names) - 1; level >= 0; level--) {
        const KernelTable *table;
        HoneError err = {0};
        hone_kernel_table(names[level], &table, &err);
        float x[37], zero[37] = {0}, one[37], t[37];
        for (int i = 0; i < 37; i++) one[i] = 1, x[i] = (float)(i - 18) * (float)(i - 18) * 0.05f;
        for (int i = 0; i < 18; i++) x[i] = -x[i];
        table->element.tanh_dot(36, x, zero, one, t); // no multiple of any width
        for (int i = 0; i < 36; i++) CHECK_NEAR(t[i], tanh((double)x[i]), 2.4e-7, 0);
        x[3] = NAN, x[4] = INFINITY, x[5] = -INFINITY;
        CHECK(isnan(table->element.tanh_dot(37, x, zero, one, t)));
        CHECK(isnan(t[3]) && t[4] == 1 && t[5] == -1 && t[18] == 0);
    }
}

static void biases_are_repeated_and_summed(void) {
    ThreadPool *pool = hone_pool_create(3);
    const int64_t sizes[][2] = {{0, 3}, {1, 1}, {5, 0}, {7, 300}, {300, 260}, {1000, 65}};
    for (int s = 0; s < 6; s++) {
        int64_t T = sizes[s][0], C = sizes[s][1];
        float *b = hone_calloc((size_t)C + 1, 4), *y = hone_calloc((size_t)(T * C) + 1, 4);
        float *sums[2] = {hone_calloc((size_t)C + 1, 4), hone_calloc((size_t)C + 1, 4)};
        for (int64_t c = 0; c < C; c++) b[c] = (float)c + 1;
        KernelContext kc = {.pool = pool};
        HoneError err = {0};
        hone_kernel_table(NULL, &kc.table, &err);
        hone_repeat_row(&kc, T, C, b, y);
        int64_t wrong = 0;
        for (int64_t i = 0; i < T * C; i++) wrong += y[i] != b[i % C];
        CHECK_INT(wrong, 0);
        for (int64_t i = 0; i < T * C; i++) y[i] = (float)(i % 13) - 6;
        hone_sum_rows(&kc, T, C, y, sums[0]);
        kc.pool = NULL;
        hone_sum_rows(&kc, T, C, y, sums[1]);
        CHECK(memcmp(sums[0], sums[1], (size_t)C * 4) == 0);
        for (int64_t c = 0; c < C; c++) {
            float want = 0;
            for (int64_t t = 0; t < T; t++) want += y[t * C + c];
            wrong += sums[0][c] != want;
        }
        CHECK_INT(wrong, 0);
        for (int i = 0; i < 2; i++) hone_free(sums[i]);
        hone_free(b);
        hone_free(y);
    }
    hone_pool_free(pool);
}

// Whole numbers, so that fused and other multiply-adds are equal.
static void columns_are_scaled_and_products_summed(void) {
    const char *names[8];
    const int levels = hone_kernel_levels(names);
    ThreadPool *pool = hone_pool_create(3);
    const int64_t sizes[][2] = {{0, 3}, {1, 1}, {5, 0}, {7, 300}, {300, 260}, {700, 67}};
    for (int n = 0; n < levels * 6; n++) {
        const int64_t T = sizes[n % 6][0], C = sizes[n % 6][1];
        float *g = hone_calloc((size_t)C + 1, 4), *s = hone_calloc((size_t)C + 1, 4);
        float *x = hone_calloc((size_t)(T * C) + 1, 4), *y = hone_calloc((size_t)(T * C) + 1, 4);
        KernelContext kc = {.pool = pool};
        HoneError err = {0};
        hone_kernel_table(names[n / 6], &kc.table, &err);
        for (int64_t c = 0; c < C; c++) g[c] = (float)(c % 17) - 8, s[c] = 3;
        for (int64_t i = 0; i < T * C; i++) x[i] = (float)(i % 13) - 6, y[i] = (float)(i % 7);
        hone_scale_columns(&kc, T, C, g, x, true, y);
        int64_t wrong = 0;
        for (int64_t i = 0; i < T * C; i++) wrong += y[i] != (float)(i % 7) + g[i % C] * x[i];
        hone_scale_columns(&kc, T, C, g, x, false, y);
        for (int64_t i = 0; i < T * C; i++) wrong += y[i] != g[i % C] * x[i];
        hone_sum_products(&kc, T, C, x, y, s);
        for (int64_t c = 0; c < C; c++) {
            float want = 3;
            for (int64_t t = 0; t < T; t++) want += x[t * C + c] * y[t * C + c];
            wrong += s[c] != want;
        }
        if (!CHECK_INT(wrong, 0)) printf("level %s, %d × %d\n", names[n / 6], (int)T, (int)C);
        hone_free(g);
        hone_free(s);
        hone_free(x);
        hone_free(y);
    }
    hone_pool_free(pool);
}

int main(void) {
    RUN(sizes_and_tails_agree);
    RUN(masks_and_intervals_agree);
    RUN(hidden_nan_reaches_nothing);
    RUN(dropout_agrees);
    RUN(tanh_is_within_three_units);
    RUN(biases_are_repeated_and_summed);
    RUN(columns_are_scaled_and_products_summed);
    return check_report();
}
