// SPDX-License-Identifier: Apache-2.0
// One attention problem for the tests: tensors with poisoned gaps between heads and rows, the
// kernel's results on a level and a number of threads, and the f64 reference's.
#ifndef HONE_TESTS_KERNELS_ATTENTION_CASE_H
#define HONE_TESTS_KERNELS_ATTENTION_CASE_H

#include "base/memory.h"
#include "base/random.h"
#include "check.h"
#include "kernels/kernels.h"
#include "kernels/reference/attention.h"

typedef enum Visibility {
    SEE_ALL,
    SEE_CAUSAL, // aligned at the last query and key; the first rows are empty if queries > keys
    SEE_CAUSAL_FIRST, // aligned at the first
    SEE_PACKED,       // causal within pieces of different lengths
    SEE_PREFIX,       // causal, but the first third is seen by all
    SEE_TRIE,         // causal in a tree laid out depth first
    SEE_WINDOW,       // causal, 20 keys back
    SEE_LATE,         // only the last quarter of the keys is seen at all
    SEE_SOME,         // any intervals, empty ones and rows that see nothing among them
    VISIBILITIES
} Visibility;

typedef struct Case {
    int64_t queries, keys;
    int heads, kv_heads, head_size, value_size;
    Visibility visibility;
    int gap;         // poisoned floats after each head, and as many more after each row
    bool head_major; // rows of one head lie together
    float spread;    // of q, k, v and d_o
} Case;

// A tensor (rows, heads, size) both dense in double and as the kernel's view.
typedef struct CaseTensor {
    int64_t rows, size, floats;
    int heads;
    double *dense;
    AttentionView view;
} CaseTensor;

typedef struct Problem {
    Case what;
    AttentionArgs args;
    ReferenceAttention reference;
    int32_t *begin, *end;
    CaseTensor q, k, v, o, d_o, dq, dk, dv;
    double *lse;
} Problem;

static const float case_poison = NAN;

static inline float *floats_of(const AttentionView *view) {
    return view->data;
}

static inline double *doubles(int64_t count) {
    return hone_calloc((size_t)(count > 0 ? count : 1), sizeof(double));
}

static inline int64_t dense_count(const CaseTensor *t) {
    return t->rows * t->heads * t->size;
}

static inline int64_t place(const CaseTensor *t, int64_t dense) {
    int64_t c = dense % t->size, h = dense / t->size % t->heads, row = dense / t->size / t->heads;
    return row * t->view.row + h * t->view.head + c;
}

// The view's elements from the dense ones, every gap poisoned.
static inline void fill_view(CaseTensor *t) {
    for (int64_t i = 0; i < t->floats; i++) floats_of(&t->view)[i] = case_poison;
    for (int64_t i = 0; i < dense_count(t); i++)
        floats_of(&t->view)[place(t, i)] = (float)t->dense[i];
}

// Random normal numbers as f32 holds them.
static inline CaseTensor case_tensor(const Case *what, int64_t rows, int heads, int size,
                                     float spread, RandomStream *random) {
    CaseTensor t = {.rows = rows, .size = size, .heads = heads};
    t.view.head = size + what->gap;
    t.view.row = heads * t.view.head + what->gap;
    if (what->head_major) {
        t.view.row = size + what->gap;
        t.view.head = rows * t.view.row + what->gap;
    }
    t.dense = doubles(dense_count(&t));
    t.floats = rows ? (rows - 1) * t.view.row + (heads - 1) * t.view.head + size : 0;
    t.view.data = hone_alloc((size_t)(t.floats ? t.floats : 1) * sizeof(float));
    for (int64_t i = 0; i < dense_count(&t); i++)
        t.dense[i] = (double)(spread * hone_random_normal(random));
    fill_view(&t);
    return t;
}

static inline void free_tensor(CaseTensor *t) {
    hone_free(t->dense);
    hone_free(t->view.data);
}

// begin and end of a tree of keys in depth-first order: each key goes below one of its last
// ancestors.
static inline void grow_trie(int64_t keys, int32_t *begin, int32_t *end, RandomStream *random) {
    for (int64_t j = 0; j < keys; j++) {
        begin[j] = (int32_t)j;
        end[j] = (int32_t)keys;
        if (j == 0 || hone_random_below(random, 12) != 0) continue;
        // A new branch: close the subtrees of all keys at or after some earlier one.
        int64_t cut = 1 + (int64_t)hone_random_below(random, (uint64_t)j);
        for (int64_t i = cut; i < j; i++)
            if (end[i] > j) end[i] = (int32_t)j;
    }
}

static inline void fill_intervals(const Case *what, int32_t *begin, int32_t *end,
                                  RandomStream *random) {
    int64_t queries = what->queries, keys = what->keys, piece = 0;
    for (int64_t j = 0; j < keys; j++) {
        int64_t from = 0, to = queries, diagonal = j - (keys - queries);
        if (diagonal < 0) diagonal = 0;
        if (j == piece) piece += 1 + (int64_t)hone_random_below(random, 70);
        switch (what->visibility) {
        case SEE_CAUSAL:
            from = diagonal;
            break;
        case SEE_CAUSAL_FIRST:
            from = j;
            break;
        case SEE_PACKED:
            from = j, to = piece;
            break;
        case SEE_PREFIX:
            from = j < keys / 3 ? 0 : diagonal;
            break;
        case SEE_WINDOW:
            from = diagonal, to = diagonal + 20;
            break;
        case SEE_LATE:
            to = j < keys - (keys + 3) / 4 ? 0 : queries;
            break;
        case SEE_SOME:
            from = (int64_t)hone_random_below(random, (uint64_t)queries + 1);
            to = (int64_t)hone_random_below(random, (uint64_t)queries + 1);
            break;
        default:
            break;
        }
        begin[j] = (int32_t)(from < queries ? from : queries);
        end[j] = (int32_t)(to < queries ? to : queries);
    }
    if (what->visibility == SEE_TRIE) grow_trie(keys, begin, end, random);
    for (int64_t j = 0; j < keys; j++)
        if (end[j] > queries) end[j] = (int32_t)queries;
}

static inline Problem make_problem(Case what, uint64_t seed) {
    RandomStream random = hone_random_stream(seed, RANDOM_TEST, 7);
    Problem p = {.what = what};
    int H = what.heads, K = what.kv_heads, D = what.head_size, E = what.value_size;
    p.q = case_tensor(&what, what.queries, H, D, what.spread, &random);
    p.k = case_tensor(&what, what.keys, K, D, what.spread, &random);
    p.v = case_tensor(&what, what.keys, K, E, what.spread, &random);
    p.o = case_tensor(&what, what.queries, H, E, 1.0f, &random);
    p.d_o = case_tensor(&what, what.queries, H, E, what.spread, &random);
    p.dq = case_tensor(&what, what.queries, H, D, 1.0f, &random);
    p.dk = case_tensor(&what, what.keys, K, D, 1.0f, &random);
    p.dv = case_tensor(&what, what.keys, K, E, 1.0f, &random);
    p.lse = doubles(what.queries * H);
    p.begin = hone_calloc((size_t)what.keys + 1, sizeof *p.begin);
    p.end = hone_calloc((size_t)what.keys + 1, sizeof *p.end);
    fill_intervals(&what, p.begin, p.end, &random);
    bool all = what.visibility == SEE_ALL;
    float scale = 1.0f / sqrtf((float)D);
    p.args = (AttentionArgs){.batch = 1,
                             .queries = what.queries,
                             .keys = what.keys,
                             .heads = H,
                             .kv_heads = K,
                             .head_size = D,
                             .value_size = E,
                             .scale = scale,
                             .begin = all ? NULL : p.begin,
                             .end = all ? NULL : p.end,
                             .q = p.q.view,
                             .k = p.k.view,
                             .v = p.v.view,
                             .o = p.o.view,
                             .d_o = p.d_o.view,
                             .dq = p.dq.view,
                             .dk = p.dk.view,
                             .dv = p.dv.view};
    p.args.lse = hone_alloc((size_t)(what.queries * H + 1) * sizeof(float));
    p.reference = (ReferenceAttention){.queries = what.queries,
                                       .keys = what.keys,
                                       .heads = H,
                                       .kv_heads = K,
                                       .head_size = D,
                                       .value_size = E,
                                       .scale = (double)scale,
                                       .begin = p.args.begin,
                                       .end = p.args.end};
    return p;
}

static inline void free_problem(Problem *p) {
    CaseTensor *tensors[] = {&p->q, &p->k, &p->v, &p->o, &p->d_o, &p->dq, &p->dk, &p->dv};
    for (int i = 0; i < 8; i++) free_tensor(tensors[i]);
    hone_free(p->lse);
    hone_free(p->args.lse);
    hone_free(p->begin);
    hone_free(p->end);
}

// o, lse and the gradients of the dense tensors, in double.
static inline void run_reference(Problem *p) {
    double *row = doubles(p->what.keys);
    hone_reference_f64_attention_forward(&p->reference, p->q.dense, p->k.dense, p->v.dense,
                                         p->o.dense, p->lse, row);
    hone_reference_f64_attention_backward(&p->reference, p->q.dense, p->k.dense, p->v.dense,
                                          p->o.dense, p->lse, p->d_o.dense, p->dq.dense,
                                          p->dk.dense, p->dv.dense);
    hone_free(row);
}

static inline void *poisoned(size_t bytes) {
    void *memory = hone_alloc(bytes ? bytes : 1);
    memset(memory, 0xff, bytes); // NaN in every float
    return memory;
}

// Forward and backward on poisoned scratch. The views of the gradients must hold what is added to.
static inline void run_kernel(Problem *p, const KernelTable *table, ThreadPool *pool) {
    KernelContext kc = {.table = table, .pool = pool};
    for (int64_t i = 0; i < p->o.floats; i++) floats_of(&p->o.view)[i] = case_poison;
    for (int64_t i = 0; i < p->what.queries * p->what.heads; i++) p->args.lse[i] = NAN;
    void *scratch = poisoned(hone_attention_forward_scratch(&kc, &p->args));
    hone_attention_forward(&kc, &p->args, scratch);
    hone_free(scratch);
    scratch = poisoned(hone_attention_backward_scratch(&kc, &p->args));
    hone_attention_backward(&kc, &p->args, scratch);
    hone_free(scratch);
}

// The view against the dense reference: |error| ≤ relative · max|reference| + absolute, and no gap
// written. A NaN in the reference wants a NaN.
static inline bool close_to(const CaseTensor *t, double relative, double absolute,
                            const char *name) {
    double highest = 0, worst = 0;
    int64_t at = -1, inside = 0, written = 0;
    for (int64_t i = 0; i < dense_count(t); i++)
        if (fabs(t->dense[i]) > highest) highest = fabs(t->dense[i]);
    for (int64_t i = 0; i < dense_count(t); i++) {
        double got = (double)floats_of(&t->view)[place(t, i)], error = fabs(got - t->dense[i]);
        if (isnan(t->dense[i]))
            error = isnan(got) ? 0 : (double)INFINITY;
        else if (isnan(got))
            error = (double)INFINITY;
        if (error > worst) worst = error, at = i;
        inside += !isnan(got);
    }
    for (int64_t i = 0; i < t->floats; i++) written += !isnan(floats_of(&t->view)[i]);
    bool ok = worst <= relative * highest + absolute && written == inside;
    if (!ok && written != inside) printf("%s: a gap was written\n", name);
    if (!ok && at >= 0)
        printf("%s[%lld] is %.9g, want %.9g (off by %.3g, largest %.3g)\n", name, (long long)at,
               (double)floats_of(&t->view)[place(t, at)], t->dense[at], worst, highest);
    return ok;
}

static inline void print_case(const Case *c, const char *level) {
    printf("  %s: queries %lld keys %lld heads %d:%d sizes %d %d visibility %d gap %d\n", level,
           (long long)c->queries, (long long)c->keys, c->heads, c->kv_heads, c->head_size,
           c->value_size, (int)c->visibility, c->gap);
}

// Tolerances of the results for inputs of unit scale.
static inline bool results_close(const Problem *p) {
    bool ok = close_to(&p->o, 2e-6, 1e-6, "o");
    for (int64_t i = 0; i < p->what.queries * p->what.heads; i++) {
        double got = (double)p->args.lse[i], want = p->lse[i];
        bool same = got == want || (isnan(got) && isnan(want)) ||
                    fabs(got - want) <= 2e-6 * fabs(want) + 1e-6;
        if (ok && !same) printf("lse[%lld] is %.9g, want %.9g\n", (long long)i, got, want);
        ok = ok && same;
    }
    ok = close_to(&p->dq, 5e-6, 2e-6, "dq") && ok;
    ok = close_to(&p->dk, 5e-6, 2e-6, "dk") && ok;
    return close_to(&p->dv, 5e-6, 2e-6, "dv") && ok;
}

// ---- levels ------------------------------------------------------------------------------------

typedef void (*LevelTest)(const KernelTable *table, const char *name);

static inline void on_every_level(LevelTest test) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    for (int i = 0; i < levels; i++) {
        const KernelTable *table;
        HoneError err = {0};
        if (CHECK(hone_kernel_table(names[i], &table, &err) == HONE_OK)) test(table, names[i]);
    }
}

static inline void clear(CaseTensor *t) {
    memset(t->dense, 0, (size_t)dense_count(t) * sizeof *t->dense);
    fill_view(t);
}

static inline Problem problem_from_zero_gradients(Case what, uint64_t seed) {
    Problem p = make_problem(what, seed);
    clear(&p.dq);
    clear(&p.dk);
    clear(&p.dv);
    return p;
}

#endif
