// SPDX-License-Identifier: Apache-2.0
// The operator's options against plain f64 loops: masks and their gradients, ALiBi, soft-cap,
// sinks, dropout, weights out, bf16; each alone and all together, on one thread and on three.
#include <float.h>

#include "attention_run.h"

// What differs from a plain problem.
typedef struct Extras {
    int hide;      // of 8 elements of the mask, how many hide the key; 8: all of the first query
    float lowest;  // what hides in a float mask: -infinity, or -FLT_MAX, which does not
    uint64_t seed; // of dropout
    double *drop;  // pairs, or NULL
    Layout layout; // of the arrays
    double spread; // of the inputs; 0: 1
} Extras;

// A mask as the options describe it; *full (pairs) gets what it means.
static void *make_mask(const HoneAttentionOptions *o, const Extras *extras, double **full) {
    const HoneMask *m = &o->mask;
    if (m->type == HONE_MASK_NONE) return NULL;
    float *numbers = floats(m->elements, 0);
    uint8_t *flags = hone_alloc((size_t)m->elements);
    RandomStream random = hone_random_stream(21, RANDOM_TEST, 0);
    for (int64_t i = 0; i < m->elements; i++) {
        bool hidden = (int)hone_random_below(&random, 8) < extras->hide;
        if (extras->hide == 8) hidden = m->query ? i / m->query % o->queries == 0 : false;
        flags[i] = !hidden * (uint8_t)(1 + i % 3);
        numbers[i] = hidden ? extras->lowest : hone_random_normal(&random);
    }
    *full = doubles(pairs_of(o));
    bool boolean = m->type == HONE_MASK_BOOLEAN;
    for (int64_t pair = 0; pair < pairs_of(o); pair++) {
        int64_t j = pair % o->keys, i = pair / o->keys % o->queries;
        int64_t h = pair / o->keys / o->queries % o->heads;
        int64_t b = pair / o->keys / o->queries / o->heads;
        int64_t at = b * m->batch + h * m->head + i * m->query + j * m->key;
        (*full)[pair] = (double)(boolean ? flags[at] ? 0.0f : -INFINITY : numbers[at]);
    }
    hone_free(boolean ? (void *)numbers : (void *)flags);
    return boolean ? (void *)flags : (void *)numbers;
}

// d_mask of every pair, summed to the mask's elements.
static bool mask_gradient_close(const Oracle *x, const Run *r) {
    const HoneAttentionOptions *o = &x->options;
    const HoneMask *m = &o->mask;
    double *sums = doubles(m->elements);
    for (int64_t pair = 0; pair < pairs_of(o); pair++) {
        int64_t j = pair % o->keys, i = pair / o->keys % o->queries;
        int64_t h = pair / o->keys / o->queries % o->heads;
        int64_t b = pair / o->keys / o->queries / o->heads;
        sums[b * m->batch + h * m->head + i * m->query + j * m->key] += x->d_mask[pair];
    }
    // The rounding of each term stays in a sum: it grows with the root of their number.
    double terms = sqrt((double)pairs_of(o) / (double)m->elements);
    double absolute = 2e-6 * fmax(1, terms / 16);
    bool close = close_to("d_mask", r->d_mask, sums, m->elements, 5e-6, absolute, start);
    hone_free(sums);
    return close;
}

static bool agrees(const char *what, const HoneAttentionOptions *options, Extras extras) {
    Oracle x = oracle_create(options, 5);
    double *full = NULL;
    void *mask = make_mask(options, &extras, &full);
    x.mask = full;
    x.drop = extras.drop;
    double spread = extras.spread > 0 ? extras.spread : 1;
    int64_t count = options->batch * options->queries * options->heads * options->head_size;
    for (int64_t i = 0; i < count; i++) x.q[i] = (double)(float)(x.q[i] * spread);
    oracle_run(&x, false);
    oracle_run(&x, true);
    bool ok = true;
    Run runs[2];
    for (int n = 0; n < 2; n++) {
        HoneContext *context = NULL;
        HoneAttention *attention = NULL;
        hone_context_create(&(HoneContextOptions){.threads = n ? 3 : 1}, &context);
        runs[n] = make_run(&x, extras.layout, mask, extras.seed);
        ok = CHECK_INT(hone_attention_create(context, options, &attention), HONE_OK) && ok;
        ok = ok && CHECK_INT(hone_attend(attention, &runs[n].tensors), HONE_OK);
        ok = ok && forward_close(&x, &runs[n]);
        bool backward = !options->forward_only;
        if (backward)
            ok = ok && CHECK_INT(hone_attend_backward(attention, &runs[n].tensors), HONE_OK) &&
                 backward_close(&x, &runs[n]);
        if (ok && backward && options->mask.gradient) ok = mask_gradient_close(&x, &runs[n]);
        hone_attention_free(attention);
        hone_context_free(context);
    }
    ok = CHECK(same_bits(&runs[0], &runs[1])) && ok;
    if (runs[0].d_mask)
        ok = CHECK(memcmp(runs[0].d_mask, runs[1].d_mask,
                          (size_t)options->mask.elements * sizeof(float)) == 0) &&
             ok;
    for (int n = 0; n < 2; n++) free_run(&runs[n]);
    x.drop = NULL; // the caller's
    oracle_free(&x);
    hone_free(mask);
    if (!check_true(ok, "results are close", __FILE__, __LINE__)) printf("  %s\n", what);
    return ok;
}

enum { BATCH = 2, QUERIES = 37, KEYS = 45, HEADS = 4 };
static const HoneAttentionOptions plain = {.batch = BATCH,
                                           .queries = QUERIES,
                                           .keys = KEYS,
                                           .heads = HEADS,
                                           .kv_heads = 2,
                                           .head_size = 12,
                                           .value_size = 9};

static HoneAttentionOptions with_mask(HoneMaskType type, int shape, bool gradient) {
    enum { PLANE = QUERIES * KEYS };
    const HoneMask shapes[] = {
        {type, 0, 0, KEYS, 1, PLANE, gradient},                                 // (Q, K)
        {type, KEYS, 0, 0, 1, BATCH * KEYS, gradient},                          // (B, 1, 1, K)
        {type, 0, PLANE, KEYS, 1, HEADS * PLANE, gradient},                     // (1, H, Q, K)
        {type, HEADS * PLANE, PLANE, KEYS, 1, BATCH * HEADS * PLANE, gradient}, // (B, H, Q, K)
        {type, 0, QUERIES, 1, 0, HEADS * QUERIES, gradient},                    // (1, H, Q, 1)
        {type, PLANE, 0, 1, QUERIES, BATCH * PLANE, gradient}, // (B, 1, Q, K) transposed
        {type, 0, 0, 0, 0, 1, gradient},                       // one number
    };
    HoneAttentionOptions options = plain;
    options.mask = shapes[shape];
    return options;
}

enum { MASK_SHAPES = 7 };

static void boolean_masks_agree(void) {
    for (int shape = 0; shape < MASK_SHAPES; shape++) {
        HoneAttentionOptions options = with_mask(HONE_MASK_BOOLEAN, shape, false);
        agrees("boolean mask", &options, (Extras){.hide = 3, .layout = shape % LAYOUTS});
        options.causal = HONE_CAUSAL_BOTTOM_RIGHT;
        agrees("boolean mask, causal", &options, (Extras){.hide = 3});
    }
    HoneAttentionOptions options = with_mask(HONE_MASK_BOOLEAN, 3, false);
    agrees("a query that sees nothing", &options, (Extras){.hide = 8});
}

static void float_masks_and_their_gradients_agree(void) {
    for (int shape = 0; shape < MASK_SHAPES; shape++)
        for (int gradient = 0; gradient < 2; gradient++) {
            HoneAttentionOptions options = with_mask(HONE_MASK_FLOAT, shape, gradient);
            Extras extras = {.hide = 2, .lowest = -INFINITY, .layout = shape % LAYOUTS};
            agrees("float mask", &options, extras);
            options.causal = HONE_CAUSAL_TOP_LEFT;
            options.window = 9;
            agrees("float mask, window", &options, extras);
        }
    HoneAttentionOptions options = with_mask(HONE_MASK_FLOAT, 0, true);
    agrees("a query that sees nothing", &options, (Extras){.hide = 8, .lowest = -INFINITY});
    agrees("a query of finfo.min", &options, (Extras){.hide = 8, .lowest = -FLT_MAX});
}

static void what_a_mask_hides_reaches_nothing(void) {
    HoneAttentionOptions options = with_mask(HONE_MASK_BOOLEAN, 1, false);
    Oracle x = oracle_create(&options, 5);
    double *full = NULL;
    uint8_t *mask = make_mask(&options, &(Extras){.hide = 3}, &full);
    x.mask = full;
    oracle_run(&x, false);
    oracle_run(&x, true);
    Run r = make_run(&x, ROWS, mask, 0);
    for (int64_t i = 0; i < BATCH * KEYS * 2; i++)
        if (!mask[i / 2]) { // a padded key
            for (int c = 0; c < 12; c++) ((float *)r.k.view.data)[i * 12 + c] = NAN;
            for (int c = 0; c < 9; c++) ((float *)r.v.view.data)[i * 9 + c] = NAN;
        }
    HoneContext *context = NULL;
    HoneAttention *attention = NULL;
    hone_context_create(NULL, &context);
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
    CHECK_INT(hone_attend_backward(attention, &r.tensors), HONE_OK);
    CHECK(forward_close(&x, &r));
    CHECK(backward_close(&x, &r));
    hone_attention_free(attention);
    hone_context_free(context);
    free_run(&r);
    hone_free(mask);
    oracle_free(&x);
}

static void alibi_agrees(void) {
    float slopes[HEADS];
    hone_alibi_slopes(HEADS, slopes);
    for (int causal = 0; causal < 3; causal++) {
        HoneAttentionOptions options = plain;
        options.slopes = slopes;
        options.causal = (HoneCausal)causal;
        agrees("ALiBi", &options, (Extras){.layout = WITH_GAPS});
        options.queries = KEYS + 9; // more queries than keys: the offset is negative
        agrees("ALiBi, more queries", &options, (Extras){0});
    }
}

static void soft_caps_agree(void) {
    HoneAttentionOptions options = plain;
    options.softcap = 1.5f;
    agrees("soft-cap", &options, (Extras){0});
    agrees("soft-cap, large logits", &options, (Extras){.spread = 30});
    options.causal = HONE_CAUSAL_TOP_LEFT;
    options.softcap = 50;
    agrees("soft-cap, causal", &options, (Extras){.spread = 5});
}

static void sinks_agree(void) {
    HoneAttentionOptions options = plain;
    options.sinks = true;
    agrees("sinks", &options, (Extras){0});
    options.causal = HONE_CAUSAL_BOTTOM_RIGHT;
    options.queries = KEYS + 3; // the first queries see nothing
    agrees("sinks, causal", &options, (Extras){.layout = HEADS_OUTSIDE});
}

static void weights_come_out(void) {
    HoneAttentionOptions options = plain;
    options.weights = true;
    agrees("weights", &options, (Extras){0});
    options.causal = HONE_CAUSAL_TOP_LEFT;
    options.sinks = true;
    agrees("weights, causal, sinks", &options, (Extras){0});
}

// Which pairs are dropped: with values of the identity, o is drop · p. Caller frees.
static double *dropped_pairs(const HoneAttentionOptions *wanted, uint64_t seed) {
    HoneAttentionOptions options = *wanted;
    options.value_size = (int)options.keys;
    Oracle x = oracle_create(&options, 5);
    int64_t K = kv_heads_of(&options), keys = options.keys;
    for (int64_t i = 0; i < options.batch * keys * K * keys; i++)
        x.v[i] = i % keys == i / keys / K % keys;
    oracle_run(&x, false);
    Run r = make_run(&x, ROWS, NULL, seed);
    HoneContext *context = NULL;
    HoneAttention *attention = NULL;
    hone_context_create(NULL, &context);
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
    double *drop = doubles(pairs_of(&options));
    for (int64_t pair = 0; pair < pairs_of(&options); pair++) {
        int64_t j = pair % keys, i = pair / keys % options.queries;
        int64_t h = pair / keys / options.queries % options.heads;
        int64_t b = pair / keys / options.queries / options.heads;
        const float *out = r.o.view.data;
        double o = (double)out[((b * options.queries + i) * options.heads + h) * keys + j];
        drop[pair] = x.p[pair] > 1e-6 ? o / x.p[pair] : 1;
    }
    hone_attention_free(attention);
    hone_context_free(context);
    free_run(&r);
    oracle_free(&x);
    return drop;
}

static void dropout_drops_and_is_replayed(void) {
    HoneAttentionOptions options = plain;
    options.dropout = 0.25f;
    options.weights = true;
    double *drop = dropped_pairs(&options, 7), *other = dropped_pairs(&options, 8);
    int64_t count = pairs_of(&options), dropped = 0, odd = 0, equal = 0, heads_equal = 0;
    for (int64_t i = 0; i < count; i++) {
        bool zero = fabs(drop[i]) < 1e-3;
        odd += !zero && fabs(drop[i] - 4.0 / 3) > 1e-3;
        drop[i] = zero ? 0 : 4.0 / 3;
        dropped += zero;
        equal += zero == (fabs(other[i]) < 1e-3);
        heads_equal += zero == (drop[(i + QUERIES * KEYS) % count] < 1e-3);
    }
    CHECK_INT(odd, 0);
    // 13,320 independent pairs: five standard deviations.
    CHECK_NEAR((double)dropped / (double)count, 0.25, 0, 5 * sqrt(0.25 * 0.75 / (double)count));
    CHECK_NEAR((double)equal / (double)count, 0.625, 0, 0.03);
    CHECK_NEAR((double)heads_equal / (double)count, 0.625, 0, 0.03);
    agrees("dropout", &options, (Extras){.seed = 7, .drop = drop});
    options.weights = false;
    options.causal = HONE_CAUSAL_TOP_LEFT;
    agrees("dropout, causal", &options, (Extras){.seed = 7, .drop = drop, .layout = WITH_GAPS});
    hone_free(drop);
    hone_free(other);
}

static void bf16_agrees(void) {
    const int sizes[][2] = {{64, 64}, {12, 9}, {1, 3}, {80, 17}};
    for (int s = 0; s < 4; s++)
        for (int layout = 0; layout < LAYOUTS; layout++) {
            HoneAttentionOptions options = plain;
            options.element = HONE_ELEMENT_BF16;
            options.head_size = sizes[s][0];
            options.value_size = sizes[s][1];
            agrees("bf16", &options, (Extras){.layout = (Layout)layout});
            options.causal = HONE_CAUSAL_BOTTOM_RIGHT;
            options.queries = 130;
            agrees("bf16, causal", &options, (Extras){.layout = (Layout)layout});
        }
}

static void all_together_agrees(void) {
    float slopes[HEADS];
    hone_alibi_slopes(HEADS, slopes);
    HoneAttentionOptions options = with_mask(HONE_MASK_FLOAT, 2, true);
    options.slopes = slopes;
    options.softcap = 5;
    options.sinks = true;
    options.causal = HONE_CAUSAL_BOTTOM_RIGHT;
    options.window = 20;
    options.weights = true;
    options.dropout = 0.25f;
    HoneAttentionOptions dropping = plain;
    dropping.dropout = 0.25f;
    double *drop = dropped_pairs(&dropping, 3);
    for (int64_t i = 0; i < pairs_of(&plain); i++) drop[i] = drop[i] < 1e-3 ? 0 : 4.0 / 3;
    agrees("all together", &options,
           (Extras){.hide = 1, .lowest = -INFINITY, .seed = 3, .drop = drop, .layout = WITH_GAPS});
    hone_free(drop);
}

int main(void) {
    RUN(boolean_masks_agree);
    RUN(float_masks_and_their_gradients_agree);
    RUN(what_a_mask_hides_reaches_nothing);
    RUN(alibi_agrees);
    RUN(soft_caps_agree);
    RUN(sinks_agree);
    RUN(weights_come_out);
    RUN(dropout_drops_and_is_replayed);
    RUN(bf16_agrees);
    RUN(all_together_agrees);
    return check_report();
}
