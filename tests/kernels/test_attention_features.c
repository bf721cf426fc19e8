// SPDX-License-Identifier: Apache-2.0
// What may stand between the products of attention, alone and together, over a batch: masks of
// every broadcast shape with their gradient, ALiBi, soft-cap, sinks, dropout, weights, bf16. Every
// level against the f64 reference, the bits of one thread against those of three.
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "check.h"
#include "kernels/kernels.h"
#include "kernels/reference/attention.h"

typedef enum MaskKind { MASK_NONE, MASK_BOOLEAN, MASK_FLOAT } MaskKind;

typedef struct Features {
    int64_t batch, queries, keys;
    int heads, kv_heads, head_size, value_size;
    bool causal, slopes, sinks, weights, mask_gradient, bf16;
    MaskKind mask;
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
    int64_t mask_count;
    float *slopes, *sinks, *d_mask, *d_sinks, *lse, *weights;
    double *want_lse, *want_d_mask, *want_d_sinks;
    // The plain f32 computation's error of o and of each gradient: what large scores cost anybody.
    double plain_error[TENSORS], plain_error_of_sinks;
} Sample;

static double *zeros(int64_t count) {
    return hone_calloc((size_t)count + 1, sizeof(double));
}

static float *floats(int64_t count) {
    return hone_calloc((size_t)count + 1, sizeof(float));
}

// (batch, rows, heads, size), dense.
static AttentionView view_of(float *data, int64_t rows, int heads, int size) {
    return (AttentionView){
        .data = data, .row = heads * size, .head = size, .batch = rows * heads * size};
}

// Rounds the floats to bf16, and keeps what is stored.
static void to_bf16(float *x, uint16_t *stored, int64_t count) {
    hone_quantise(HONE_BF16, x, stored, count, NULL);
    hone_dequantise(HONE_BF16, stored, x, count);
}

static void make_mask(Sample *s, RandomStream *random) {
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

static Sample make_sample(Features what, uint64_t seed) {
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

static void free_sample(Sample *s) {
    for (int t = 0; t < TENSORS; t++) hone_free(s->data[t]);
    for (int t = 0; t < TENSORS; t++) hone_free(s->dense[t]);
    for (int t = 0; t < TENSORS; t++) hone_free(s->half[t]);
    void *rest[] = {s->begin, s->end,     s->mask,    s->slopes,   s->sinks,       s->d_mask,
                    s->lse,   s->d_sinks, s->weights, s->want_lse, s->want_d_mask, s->want_d_sinks};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) hone_free(rest[i]);
}

static ReferenceAttention reference_of(const Sample *s, int64_t element) {
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

static void run_reference(Sample *s) {
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

// The f32 reference's distance from the f64 one.
static void run_plain(Sample *s) {
    float *lse = floats(s->what.heads * s->what.queries), *row = floats(s->what.keys);
    double *sinks = zeros(s->what.heads);
    for (int64_t b = 0; b < s->what.batch; b++) {
        ReferenceAttention args = reference_of(s, b);
        args.d_mask = NULL;
        args.d_sinks = sinks;
        float *at[TENSORS];
        int64_t count[TENSORS];
        for (int t = 0; t < TENSORS; t++) {
            count[t] = s->count[t] / s->what.batch;
            at[t] = floats(count[t]);
            memcpy(at[t], s->data[t] + b * count[t], (size_t)count[t] * sizeof(float));
        }
        hone_reference_f32_attention_forward(&args, at[Q], at[K], at[V], at[O], lse, row);
        if (s->what.bf16) {
            uint16_t *stored = hone_alloc((size_t)count[O] * sizeof *stored);
            to_bf16(at[O], stored, count[O]);
            hone_free(stored);
        }
        hone_reference_f32_attention_backward(&args, at[Q], at[K], at[V], at[O], lse, at[D_O],
                                              at[DQ], at[DK], at[DV]);
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
    hone_free(sinks);
    hone_free(lse);
    hone_free(row);
}

// |error| ≤ relative · max|want| + absolute; an infinity must be the same infinity.
static bool close_to(const char *name, int64_t count, const float *got, const double *want,
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
static bool weights_fit(const Sample *s) {
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

static void run_kernel(Sample *s, const KernelTable *table, ThreadPool *pool,
                       float *const before[TENSORS]) {
    KernelContext kc = {table, pool};
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

static bool results_close(const Sample *s) {
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
                         2e-6 * large * sqrt(terms));
    if (s->d_sinks)
        fine &= close_to("d_sinks", s->what.heads, s->d_sinks, s->want_d_sinks, 5e-6,
                         2e-6 * large + 3 * s->plain_error_of_sinks);
    if (s->weights) fine &= check_true(weights_fit(s), "the weights fit", __FILE__, __LINE__);
    return fine;
}

static void print_features(const Features *w, const char *level) {
    printf("  %s: batch %lld, %lld queries, %lld keys, heads %d:%d, sizes %d %d, causal %d, "
           "mask %d (%d%d%d%d apart %d), slopes %d, softcap %g, sinks %d, dropout %g\n",
           level, (long long)w->batch, (long long)w->queries, (long long)w->keys, w->heads,
           w->kv_heads, w->head_size, w->value_size, w->causal, (int)w->mask, w->along_batch,
           w->along_head, w->along_query, w->along_key, w->keys_apart, w->slopes,
           (double)w->softcap, w->sinks, (double)w->dropout);
}

static void check_features(Features what, uint64_t seed, ThreadPool *pool) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    Sample s = make_sample(what, seed);
    float *before[TENSORS] = {0};
    for (int t = DQ; t < TENSORS; t++) {
        before[t] = floats(s.count[t]);
        memcpy(before[t], s.data[t], (size_t)s.count[t] * sizeof(float));
    }
    run_reference(&s);
    run_plain(&s);
    for (int level = 0; level < levels; level++) {
        const KernelTable *table;
        HoneError err = {0};
        if (!CHECK(hone_kernel_table(names[level], &table, &err) == HONE_OK)) continue;
        run_kernel(&s, table, NULL, before);
        if (!check_true(results_close(&s), "results are close", __FILE__, __LINE__))
            print_features(&what, names[level]);
        float *kept[TENSORS] = {0}, *d_mask = floats(s.mask_count);
        for (int t = O; t < TENSORS; t++) {
            kept[t] = floats(s.count[t]);
            memcpy(kept[t], s.data[t], (size_t)s.count[t] * sizeof(float));
        }
        if (s.d_mask) memcpy(d_mask, s.d_mask, (size_t)s.mask_count * sizeof(float));
        run_kernel(&s, table, pool, before);
        for (int t = O; t < TENSORS; t++) {
            CHECK(memcmp(kept[t], s.data[t], (size_t)s.count[t] * sizeof(float)) == 0);
            hone_free(kept[t]);
        }
        if (s.d_mask) CHECK(memcmp(d_mask, s.d_mask, (size_t)s.mask_count * sizeof(float)) == 0);
        hone_free(d_mask);
    }
    for (int t = 0; t < TENSORS; t++) hone_free(before[t]);
    free_sample(&s);
}

// ---- each by itself ----------------------------------------------------------------------------

static const Features plain = {.batch = 2,
                               .queries = 37,
                               .keys = 150,
                               .heads = 6,
                               .kv_heads = 3,
                               .head_size = 20,
                               .value_size = 12};

static void a_batch(void) {
    ThreadPool *pool = hone_pool_create(3);
    Features what = plain;
    check_features(what, 1, pool);
    what.causal = true;
    check_features(what, 2, pool);
    what.batch = 5;
    what.queries = 1;
    check_features(what, 3, pool);
    hone_pool_free(pool);
}

static void masks_of_every_shape(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int bits = 0; bits < 128; bits++) {
        Features what = plain;
        what.mask = bits & 1 ? MASK_BOOLEAN : MASK_FLOAT;
        what.along_batch = bits & 2;
        what.along_head = bits & 4;
        what.along_query = bits & 8;
        what.along_key = bits & 16;
        what.keys_apart = bits & 32;
        what.causal = bits & 64;
        what.mask_gradient = what.mask == MASK_FLOAT;
        check_features(what, 100 + (uint64_t)bits, pool);
    }
    hone_pool_free(pool);
}

static void the_others_alone(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 5; i++) {
        Features what = plain;
        what.slopes = i == 0;
        what.softcap = i == 1 ? 0.7f : 0;
        what.sinks = i == 2;
        what.dropout = i == 3 ? 0.3f : 0;
        what.weights = i == 4;
        check_features(what, 300 + (uint64_t)i, pool);
        what.heads = what.kv_heads = 2;
        what.queries = 300;
        check_features(what, 310 + (uint64_t)i, pool);
    }
    hone_pool_free(pool);
}

static void in_bf16(void) {
    ThreadPool *pool = hone_pool_create(3);
    Features what = plain;
    what.bf16 = true;
    check_features(what, 400, pool);
    what.causal = what.sinks = true;
    what.mask = MASK_FLOAT;
    what.along_query = what.along_key = what.mask_gradient = true;
    check_features(what, 401, pool);
    hone_pool_free(pool);
}

// ---- masks that break kernels -----------------------------------------------------------------

static void check_sample(Sample *s, ThreadPool *pool, bool (*fits)(const Sample *)) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    float *before[TENSORS] = {0};
    for (int t = DQ; t < TENSORS; t++) {
        before[t] = floats(s->count[t]);
        memcpy(before[t], s->data[t], (size_t)s->count[t] * sizeof(float));
    }
    run_reference(s);
    run_plain(s);
    for (int level = 0; level < levels; level++) {
        const KernelTable *table;
        HoneError err = {0};
        if (!CHECK(hone_kernel_table(names[level], &table, &err) == HONE_OK)) continue;
        run_kernel(s, table, pool, before);
        if (!CHECK(fits(s))) print_features(&s->what, names[level]);
    }
    for (int t = DQ; t < TENSORS; t++) hone_free(before[t]);
}

// Rows of the most negative number average over what they hold alike; rows of -infinity are empty,
// also when a whole block of keys before the first visible one is hidden.
static void hidden_and_nearly_hidden_rows(void) {
    Features what = plain;
    what.mask = MASK_FLOAT;
    what.along_query = what.along_key = what.weights = what.mask_gradient = true;
    what.keys = 600;
    Sample s = make_sample(what, 500);
    for (int64_t i = 0; i < what.queries; i++)
        for (int64_t j = 0; j < what.keys; j++) {
            float *m = (float *)s.mask + i * what.keys + j;
            switch (i % 5) {
            case 0:
                *m = -FLT_MAX;
                break;
            case 1:
                *m = j % 2 ? -FLT_MAX : 0;
                break;
            case 2:
                *m = -INFINITY;
                break;
            case 3:
                *m = j < 550 ? -INFINITY : 0;
                break;
            default:
                *m = j < 550 ? -FLT_MAX : -INFINITY;
                break;
            }
        }
    ThreadPool *pool = hone_pool_create(2);
    check_sample(&s, pool, results_close);
    free_sample(&s);
    hone_pool_free(pool);
}

// A key that is NaN and a value that is infinite, hidden from the even queries: those do not know,
// the others do.
static bool only_odd_queries_know(const Sample *s) {
    bool fine = true;
    int64_t width = s->what.heads * s->what.value_size, wide = s->what.heads * s->what.head_size;
    for (int64_t row = 0; row < s->what.batch * s->what.queries; row++) {
        bool odd = row % s->what.queries % 2;
        for (int64_t c = 0; c < width; c++) {
            float got = s->data[O][row * width + c];
            double want = s->dense[O][row * width + c];
            fine = fine && (odd ? !isfinite(got) : fabs((double)got - want) < 1e-5);
        }
        for (int64_t c = 0; c < wide; c++) {
            float got = s->data[DQ][row * wide + c];
            double want = s->dense[DQ][row * wide + c];
            fine = fine && (odd ? isnan(got) : fabs((double)got - want) < 1e-5);
        }
    }
    return fine;
}

static void what_is_hidden_is_not_there(void) {
    ThreadPool *pool = hone_pool_create(2);
    for (int boolean = 0; boolean < 2; boolean++) {
        Features what = plain;
        what.mask = boolean ? MASK_BOOLEAN : MASK_FLOAT;
        what.along_query = what.along_key = true;
        Sample s = make_sample(what, 501);
        for (int64_t i = 0; i < what.queries; i++)
            for (int64_t j = 0; j < what.keys; j++) {
                bool hidden = i % 2 == 0 && (j == 3 || j == 140);
                if (boolean)
                    ((uint8_t *)s.mask)[i * what.keys + j] = !hidden;
                else
                    ((float *)s.mask)[i * what.keys + j] = hidden ? -INFINITY : 0;
            }
        for (int64_t b = 0; b < what.batch; b++) {
            int64_t k = what.kv_heads * what.head_size, v = what.kv_heads * what.value_size;
            for (int64_t c = 0; c < k; c++) {
                s.data[K][(b * what.keys + 3) * k + c] = NAN;
                s.dense[K][(b * what.keys + 3) * k + c] = (double)NAN;
            }
            for (int64_t c = 0; c < v; c++) {
                s.data[V][(b * what.keys + 140) * v + c] = INFINITY;
                s.dense[V][(b * what.keys + 140) * v + c] = (double)INFINITY;
            }
        }
        check_sample(&s, pool, only_odd_queries_know);
        free_sample(&s);
    }
    hone_pool_free(pool);
}

// ---- any of them together ----------------------------------------------------------------------

static void together(void) {
    ThreadPool *pool = hone_pool_create(3);
    RandomStream random = hone_random_stream(5, RANDOM_TEST, 12);
    for (uint64_t i = 0; i < 150; i++) {
        Features what = {.batch = 1 + (int64_t)hone_random_below(&random, 3),
                         .queries = 1 + (int64_t)hone_random_below(&random, 80),
                         .keys = 1 + (int64_t)hone_random_below(&random, 300),
                         .head_size = 1 + (int)hone_random_below(&random, 40),
                         .value_size = 1 + (int)hone_random_below(&random, 40),
                         .kv_heads = 1 + (int)hone_random_below(&random, 3)};
        what.heads = what.kv_heads * (1 + (int)hone_random_below(&random, 4));
        what.causal = hone_random_below(&random, 2);
        what.slopes = hone_random_below(&random, 2);
        what.sinks = hone_random_below(&random, 2);
        what.weights = hone_random_below(&random, 2);
        what.bf16 = hone_random_below(&random, 4) == 0;
        what.mask = (MaskKind)hone_random_below(&random, 3);
        what.mask_gradient = what.mask == MASK_FLOAT && hone_random_below(&random, 2);
        what.along_batch = hone_random_below(&random, 2);
        what.along_head = hone_random_below(&random, 2);
        what.along_query = hone_random_below(&random, 2);
        what.along_key = hone_random_below(&random, 2);
        if (hone_random_below(&random, 2)) what.softcap = 0.5f + hone_random_uniform(&random) * 20;
        if (hone_random_below(&random, 3) == 0) what.dropout = hone_random_uniform(&random) * 0.9f;
        check_features(what, 1000 + i, pool);
    }
    hone_pool_free(pool);
}

int main(void) {
    RUN(a_batch);
    RUN(masks_of_every_shape);
    RUN(the_others_alone);
    RUN(in_bf16);
    RUN(hidden_and_nearly_hidden_rows);
    RUN(what_is_hidden_is_not_there);
    RUN(together);
    return check_report();
}
