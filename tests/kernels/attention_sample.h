// SPDX-License-Identifier: Apache-2.0
// A sample of attention with what may stand between its products, its results by the references,
// and what of it must hold on each table of kernels.
#ifndef HONE_TESTS_KERNELS_ATTENTION_SAMPLE_H
#define HONE_TESTS_KERNELS_ATTENTION_SAMPLE_H

#include <math.h>
#include <string.h>

#include "attention_bf16.h"
#include "base/memory.h"
#include "base/random.h"
#include "kernels/reference/attention.h"

typedef enum MaskKind { MASK_NONE, MASK_BOOLEAN, MASK_FLOAT } MaskKind;

typedef struct Features {
    int64_t batch, queries, keys;
    int heads, kv_heads, head_size, value_size;
    bool causal, slopes, sinks, weights, mask_gradient, bf16;
    MaskKind mask;
    int32_t window;
    bool depths;
    bool along_batch, along_head, along_query, along_key; // where the mask differs
    bool keys_apart; // the mask's keys lie apart from each other
    float softcap, dropout;
} Features;

enum { Q, K, V, O, D_O, DQ, DK, DV, TENSORS };

typedef struct Sample {
    Features what;
    AttentionArgs args;
    float *data[TENSORS];
    uint16_t *half[TENSORS]; // q, k, v, o and d_o of bf16
    double *dense[TENSORS];
    int64_t count[TENSORS];
    int32_t *begin, *end;
    void *mask;
    int32_t *query_depth, *key_depth;
    int64_t mask_count;
    float *slopes, *sinks, *d_mask, *d_sinks, *lse, *weights;
    double *want_lse, *want_d_mask, *want_d_sinks;
    // The plain computation's error of o and of each gradient: what large scores cost anybody, and
    // products on bf16 operands.
    double plain_error[TENSORS], plain_error_of_sinks, plain_error_of_mask;
} Sample;

static inline double *zeros(int64_t count) {
    return hone_calloc((size_t)count + 1, sizeof(double));
}

static inline float *floats(int64_t count) {
    return hone_calloc((size_t)count + 1, sizeof(float));
}

// (batch, rows, heads, size), dense.
static inline AttentionView view_of(float *data, int64_t rows, int heads, int size) {
    return (AttentionView){
        .data = data, .row = heads * size, .head = size, .batch = rows * heads * size};
}

// Rounds the floats to bf16, and keeps what is stored.
static inline void to_bf16(float *x, uint16_t *stored, int64_t count) {
    hone_quantise(HONE_BF16, x, stored, count, NULL);
    hone_dequantise(HONE_BF16, stored, x, count);
}

static inline void make_mask(Sample *s, RandomStream *random) {
    const Features *w = &s->what;
    AttentionMask *m = &s->args.mask;
    int64_t keys = w->along_key ? w->keys : 1, queries = w->along_query ? w->queries : 1;
    int64_t apart = w->keys_apart ? 2 : 1, heads = w->along_head ? w->heads : 1;
    m->key = w->along_key ? apart : 0;
    m->query = w->along_query ? keys * apart : 0;
    m->head = w->along_head ? queries * keys * apart : 0;
    m->batch = w->along_batch ? heads * queries * keys * apart : 0;
    s->mask_count = (w->along_batch ? w->batch : 1) * heads * queries * keys * apart;
    m->boolean = w->mask == MASK_BOOLEAN;
    s->mask = hone_alloc((size_t)s->mask_count * sizeof(float));
    for (int64_t i = 0; i < s->mask_count; i++) {
        bool hidden = hone_random_below(random, 4) == 0;
        if (m->boolean)
            ((uint8_t *)s->mask)[i] = !hidden;
        else
            ((float *)s->mask)[i] = hidden ? -INFINITY : hone_random_normal(random);
    }
    m->data = s->mask;
    if (!w->mask_gradient) return;
    s->args.d_mask = s->d_mask = floats(s->mask_count);
    s->want_d_mask = zeros(s->mask_count);
}

static inline Sample make_sample(Features what, uint64_t seed) {
    RandomStream random = hone_random_stream(seed, RANDOM_TEST, 11);
    Sample s = {.what = what};
    const int64_t rows[] = {what.queries, what.keys,    what.keys, what.queries,
                            what.queries, what.queries, what.keys, what.keys};
    const int heads[] = {what.heads, what.kv_heads, what.kv_heads, what.heads,
                         what.heads, what.heads,    what.kv_heads, what.kv_heads};
    const bool wide[] = {false, false, true, true, true, false, false, true};
    AttentionView views[TENSORS];
    for (int t = 0; t < TENSORS; t++) {
        int size = wide[t] ? what.value_size : what.head_size;
        s.count[t] = what.batch * rows[t] * heads[t] * size;
        s.data[t] = floats(s.count[t]);
        s.dense[t] = zeros(s.count[t]);
        views[t] = view_of(s.data[t], rows[t], heads[t], size);
        for (int64_t i = 0; i < s.count[t]; i++) s.data[t][i] = hone_random_normal(&random);
        if (what.bf16 && t <= D_O) {
            s.half[t] = hone_alloc((size_t)s.count[t] * sizeof *s.half[t]);
            views[t].data = s.half[t];
            to_bf16(s.data[t], s.half[t], s.count[t]);
        }
        for (int64_t i = 0; i < s.count[t]; i++) s.dense[t][i] = (double)s.data[t][i];
    }
    int64_t lines = what.batch * what.heads * what.queries;
    s.lse = floats(lines);
    s.want_lse = zeros(lines);
    s.begin = hone_calloc((size_t)what.keys + 1, sizeof *s.begin);
    s.end = hone_calloc((size_t)what.keys + 1, sizeof *s.end);
    for (int64_t j = 0; j < what.keys; j++) {
        s.begin[j] = (int32_t)(j < what.queries ? j : what.queries);
        s.end[j] = (int32_t)what.queries;
    }
    s.query_depth = hone_calloc((size_t)what.queries + 1, sizeof *s.query_depth);
    s.key_depth = hone_calloc((size_t)what.keys + 1, sizeof *s.key_depth);
    // Branches that begin at depths of their own, as in a trie.
    for (int64_t j = 0; j < what.keys; j++) s.key_depth[j] = (int32_t)(j % 41 + j / 41 * 5);
    for (int64_t i = 0; i < what.queries; i++) {
        const int64_t j = i + what.keys - what.queries;
        s.query_depth[i] = j < 0 ? 0 : s.key_depth[j];
    }
    s.slopes = floats(what.heads);
    s.sinks = floats(what.heads);
    for (int h = 0; h < what.heads; h++) s.slopes[h] = exp2f(-(float)(h + 1));
    for (int h = 0; h < what.heads; h++) s.sinks[h] = hone_random_normal(&random);
    s.args = (AttentionArgs){.batch = what.batch,
                             .queries = what.queries,
                             .keys = what.keys,
                             .heads = what.heads,
                             .kv_heads = what.kv_heads,
                             .head_size = what.head_size,
                             .value_size = what.value_size,
                             .dtype = what.bf16 ? HONE_BF16 : HONE_F32,
                             .scale = 1.0f / sqrtf((float)what.head_size),
                             .begin = what.causal ? s.begin : NULL,
                             .end = what.causal ? s.end : NULL,
                             .slopes = what.slopes ? s.slopes : NULL,
                             .window = what.window,
                             .query_depth = what.depths ? s.query_depth : NULL,
                             .key_depth = what.depths ? s.key_depth : NULL,
                             .offset = what.keys - what.queries,
                             .softcap = what.softcap,
                             .sinks = what.sinks ? s.sinks : NULL,
                             .dropout = what.dropout,
                             .seed = seed,
                             .q = views[Q],
                             .k = views[K],
                             .v = views[V],
                             .o = views[O],
                             .lse = s.lse,
                             .d_o = views[D_O],
                             .dq = views[DQ],
                             .dk = views[DK],
                             .dv = views[DV]};
    if (what.mask != MASK_NONE) make_mask(&s, &random);
    if (what.sinks) s.args.d_sinks = s.d_sinks = floats(what.heads);
    s.want_d_sinks = zeros(what.heads);
    if (what.weights) s.args.weights = s.weights = floats(lines * what.keys);
    return s;
}

static inline void free_sample(Sample *s) {
    for (int t = 0; t < TENSORS; t++) hone_free(s->data[t]);
    for (int t = 0; t < TENSORS; t++) hone_free(s->dense[t]);
    for (int t = 0; t < TENSORS; t++) hone_free(s->half[t]);
    hone_free(s->query_depth);
    hone_free(s->key_depth);
    void *rest[] = {s->begin, s->end,     s->mask,    s->slopes,   s->sinks,       s->d_mask,
                    s->lse,   s->d_sinks, s->weights, s->want_lse, s->want_d_mask, s->want_d_sinks};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) hone_free(rest[i]);
}

static inline ReferenceAttention reference_of(const Sample *s, int64_t element) {
    const AttentionArgs *a = &s->args;
    return (ReferenceAttention){.queries = a->queries,
                                .keys = a->keys,
                                .heads = a->heads,
                                .kv_heads = a->kv_heads,
                                .head_size = a->head_size,
                                .value_size = a->value_size,
                                .scale = (double)a->scale,
                                .begin = a->begin,
                                .end = a->end,
                                .mask = a->mask,
                                .window = a->window,
                                .query_depth = a->query_depth,
                                .key_depth = a->key_depth,
                                .slopes = a->slopes,
                                .sinks = a->sinks,
                                .offset = a->offset,
                                .softcap = (double)a->softcap,
                                .dropout = (double)a->dropout,
                                .seed = a->seed,
                                .element = element,
                                .d_mask = s->want_d_mask,
                                .d_sinks = s->want_d_sinks};
}

static inline void run_reference(Sample *s) {
    double *row = zeros(s->what.keys);
    for (int64_t b = 0; b < s->what.batch; b++) {
        ReferenceAttention args = reference_of(s, b);
        double *at[TENSORS], *lse = s->want_lse + b * s->what.heads * s->what.queries;
        for (int t = 0; t < TENSORS; t++) at[t] = s->dense[t] + b * s->count[t] / s->what.batch;
        hone_reference_f64_attention_forward(&args, at[Q], at[K], at[V], at[O], lse, row);
        hone_reference_f64_attention_backward(&args, at[Q], at[K], at[V], at[O], lse, at[D_O],
                                              at[DQ], at[DK], at[DV]);
    }
    hone_free(row);
}

// The distance from the f64 reference of the f32 one, or of that which rounds to bf16.
static inline void run_plain(Sample *s, bool bf16) {
    float *lse = floats(s->what.heads * s->what.queries), *row = floats(s->what.keys);
    double *sinks = zeros(s->what.heads), *d_mask = zeros(s->mask_count);
    memset(s->plain_error, 0, sizeof s->plain_error);
    s->plain_error_of_sinks = s->plain_error_of_mask = 0;
    for (int64_t b = 0; b < s->what.batch; b++) {
        ReferenceAttention args = reference_of(s, b);
        if (args.d_mask) args.d_mask = d_mask;
        args.d_sinks = sinks;
        float *at[TENSORS];
        int64_t count[TENSORS];
        for (int t = 0; t < TENSORS; t++) {
            count[t] = s->count[t] / s->what.batch;
            at[t] = floats(count[t]);
            memcpy(at[t], s->data[t] + b * count[t], (size_t)count[t] * sizeof(float));
        }
        (bf16 ? hone_reference_bf16_attention_forward
              : hone_reference_f32_attention_forward)(&args, at[Q], at[K], at[V], at[O], lse, row);
        if (s->what.bf16) {
            uint16_t *stored = hone_alloc((size_t)count[O] * sizeof *stored);
            to_bf16(at[O], stored, count[O]);
            hone_free(stored);
        }
        (bf16 ? hone_reference_bf16_attention_backward : hone_reference_f32_attention_backward)(
            &args, at[Q], at[K], at[V], at[O], lse, at[D_O], at[DQ], at[DK], at[DV]);
        for (int t = 0; t < TENSORS; t++) {
            for (int64_t i = 0; i < count[t]; i++) {
                double error = fabs((double)at[t][i] - s->dense[t][b * count[t] + i]);
                if (error > s->plain_error[t]) s->plain_error[t] = error;
            }
            hone_free(at[t]);
        }
    }
    for (int h = 0; h < s->what.heads; h++)
        s->plain_error_of_sinks =
            fmax(s->plain_error_of_sinks, fabs(sinks[h] - s->want_d_sinks[h]));
    for (int64_t i = 0; s->d_mask && i < s->mask_count; i++)
        s->plain_error_of_mask = fmax(s->plain_error_of_mask, fabs(d_mask[i] - s->want_d_mask[i]));
    hone_free(d_mask);
    hone_free(sinks);
    hone_free(lse);
    hone_free(row);
}

// |error| ≤ relative · max|want| + absolute; an infinity must be the same infinity.
static inline bool close_to(const char *name, int64_t count, const float *got, const double *want,
                            double relative, double absolute) {
    double highest = 0, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(want[i]) && fabs(want[i]) > highest) highest = fabs(want[i]);
    for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (isinf(want[i]) && (double)got[i] == want[i]) error = 0;
        if (isnan(error)) error = (double)INFINITY;
        if (error > worst) worst = error, at = i;
    }
    bool fine = worst <= relative * highest + absolute;
    if (!fine)
        printf("  %s[%lld] is %.9g, want %.9g (largest %.3g)\n", name, (long long)at,
               (double)got[at], want[at], highest);
    return fine;
}

// Σ over the keys of the weights is 1 but for what the sink takes, and o = weights · v without
// dropout.
static inline bool weights_fit(const Sample *s) {
    const Features *w = &s->what;
    const AttentionArgs *a = &s->args;
    bool fine = true;
    for (int64_t b = 0; b < w->batch; b++)
        for (int h = 0; h < w->heads; h++)
            for (int64_t i = 0; i < w->queries; i++) {
                int64_t line = (b * w->heads + h) * w->queries + i;
                const float *weights = s->weights + line * w->keys;
                double sum = 0, o = 0, lse = s->want_lse[line];
                for (int64_t j = 0; j < w->keys; j++) {
                    int64_t g = h / (w->heads / w->kv_heads);
                    sum += (double)weights[j];
                    o += (double)weights[j] *
                         s->dense[V][((b * w->keys + j) * w->kv_heads + g) * w->value_size];
                }
                double taken = w->sinks ? exp((double)a->sinks[h] - lse) : 0;
                double want = lse == -(double)INFINITY ? 0 : 1 - taken;
                double got = s->dense[O][((b * w->queries + i) * w->heads + h) * w->value_size];
                fine = fine && fabs(sum - want) < 2e-6;
                if (w->dropout <= 0) fine = fine && fabs(o - got) < 1e-5 + s->plain_error[O];
            }
    return fine;
}

static inline void run_kernel(Sample *s, const KernelTable *table, ThreadPool *pool,
                              float *const before[TENSORS]) {
    KernelContext kc = {.table = table, .pool = pool};
    for (int t = DQ; t < TENSORS; t++)
        memcpy(s->data[t], before[t], (size_t)s->count[t] * sizeof(float));
    for (int64_t i = 0; i < s->count[O]; i++) s->data[O][i] = NAN;
    if (s->d_mask) memset(s->d_mask, 0, (size_t)s->mask_count * sizeof(float));
    if (s->d_sinks) memset(s->d_sinks, 0, (size_t)s->what.heads * sizeof(float));
    size_t bytes = hone_attention_forward_scratch(&kc, &s->args);
    void *scratch = hone_alloc(bytes);
    memset(scratch, 0xff, bytes); // NaN in every float
    hone_attention_forward(&kc, &s->args, scratch);
    hone_free(scratch);
    if (s->what.bf16) hone_dequantise(HONE_BF16, s->half[O], s->data[O], s->count[O]);
    bytes = hone_attention_backward_scratch(&kc, &s->args);
    scratch = hone_alloc(bytes);
    memset(scratch, 0xff, bytes);
    hone_attention_backward(&kc, &s->args, scratch);
    hone_free(scratch);
}

static inline bool results_close(const Sample *s) {
    bool fine = true;
    static const char *const names[] = {"", "", "", "o", "", "dq", "dk", "dv"};
    int64_t lines = s->what.batch * s->what.heads * s->what.queries;
    const double *plain_error = s->plain_error;
    fine &= close_to("o", s->count[O], s->data[O], s->dense[O], 2e-6, 1e-6 + 2 * plain_error[O]);
    fine &= close_to("lse", lines, s->lse, s->want_lse, 2e-6, 1e-6);
    for (int t = DQ; t < TENSORS; t++)
        fine &= close_to(names[t], s->count[t], s->data[t], s->dense[t], 5e-6,
                         2e-6 + 3 * plain_error[t]);
    // The roundings of a sum of many terms, of either sign, grow with the root of their number.
    double terms = s->mask_count ? (double)(lines * s->what.keys) / (double)s->mask_count : 1;
    double large = 1 + plain_error[DQ] / 1e-6;
    if (s->d_mask)
        fine &= close_to("d_mask", s->mask_count, s->d_mask, s->want_d_mask, 5e-6,
                         2e-6 * large * sqrt(terms) + 3 * s->plain_error_of_mask);
    if (s->d_sinks)
        fine &= close_to("d_sinks", s->what.heads, s->d_sinks, s->want_d_sinks, 5e-6,
                         2e-6 * large + 3 * s->plain_error_of_sinks);
    if (s->weights) fine &= check_true(weights_fit(s), "the weights fit", __FILE__, __LINE__);
    return fine;
}

static inline void print_features(const Features *w, const char *level) {
    printf("  %s: batch %lld, %lld queries, %lld keys, heads %d:%d, sizes %d %d, causal %d, "
           "mask %d (%d%d%d%d apart %d), slopes %d, softcap %g, sinks %d, dropout %g\n",
           level, (long long)w->batch, (long long)w->queries, (long long)w->keys, w->heads,
           w->kv_heads, w->head_size, w->value_size, w->causal, (int)w->mask, w->along_batch,
           w->along_head, w->along_query, w->along_key, w->keys_apart, w->slopes,
           (double)w->softcap, w->sinks, (double)w->dropout);
}

// One table: close to the reference, and the same bits on three threads.
static inline void check_table(Sample *s, const KernelTable *table, ThreadPool *pool,
                               float *const before[TENSORS]) {
    KernelContext kc = {.table = table};
    run_plain(s, hone_attention_forward_keys(&kc, &s->args).bf16);
    run_kernel(s, table, NULL, before);
    if (!check_true(results_close(s), "results are close", __FILE__, __LINE__))
        print_features(&s->what, hone_kernel_table_name(table));
    float *kept[TENSORS] = {0}, *d_mask = floats(s->mask_count);
    for (int t = O; t < TENSORS; t++) {
        kept[t] = floats(s->count[t]);
        memcpy(kept[t], s->data[t], (size_t)s->count[t] * sizeof(float));
    }
    if (s->d_mask) memcpy(d_mask, s->d_mask, (size_t)s->mask_count * sizeof(float));
    run_kernel(s, table, pool, before);
    for (int t = O; t < TENSORS; t++) {
        CHECK(memcmp(kept[t], s->data[t], (size_t)s->count[t] * sizeof(float)) == 0);
        hone_free(kept[t]);
    }
    if (s->d_mask) CHECK(memcmp(d_mask, s->d_mask, (size_t)s->mask_count * sizeof(float)) == 0);
    hone_free(d_mask);
}

// Every level; for a sample in bf16 the plain C that multiplies it as it is, too. Returns how many.
static inline int tables_of(const Features *what, const KernelTable *tables[9], Bf16Tables *found) {
    const char *names[8];
    int levels = hone_kernel_levels(names), count = 0;
    for (int i = 0; i < levels; i++) {
        HoneError err = {0};
        if (CHECK(hone_kernel_table(names[i], &tables[count], &err) == HONE_OK)) count++;
    }
    if (what->bf16) {
        find_bf16_tables(found);
        tables[count++] = &found->plain;
    }
    return count;
}

static inline void check_features(Features what, uint64_t seed, ThreadPool *pool) {
    if (!check_runs(5)) return;
    const KernelTable *tables[9];
    Bf16Tables found;
    Sample s = make_sample(what, seed);
    int count = tables_of(&what, tables, &found);
    float *before[TENSORS] = {0};
    for (int t = DQ; t < TENSORS; t++) {
        before[t] = floats(s.count[t]);
        memcpy(before[t], s.data[t], (size_t)s.count[t] * sizeof(float));
    }
    run_reference(&s);
    for (int i = 0; i < count; i++) check_table(&s, tables[i], pool, before);
    for (int t = 0; t < TENSORS; t++) hone_free(before[t]);
    free_sample(&s);
}

#endif
