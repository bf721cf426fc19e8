// SPDX-License-Identifier: Apache-2.0
// The public operator of attention against plain f64 loops: shapes, strides, who sees whom; plans
// and what they say; wrong arguments.
#include "attention_run.h"
#include "base/error.h"

static HoneContext *make_context(int threads) {
    HoneContext *context = NULL;
    HoneContextOptions options = {.threads = threads};
    CHECK_INT(hone_context_create(&options, &context), HONE_OK);
    return context;
}

// ---- the oracle itself -------------------------------------------------------------------------

static double weighted_output(const Oracle *x) {
    oracle_run(x, false);
    double sum = 0;
    const HoneAttentionOptions *o = &x->options;
    int64_t count = o->batch * o->queries * o->heads * size_of(o, true);
    for (int64_t i = 0; i < count; i++) sum += x->o[i] * x->d_o[i];
    return sum;
}

static void check_slopes(const Oracle *x, double *values, const double *gradient, int64_t count) {
    const double h = 1e-5;
    for (int64_t i = 0; i < count; i++) {
        double kept = values[i];
        if (isinf(kept)) continue;
        values[i] = kept + h;
        double above = weighted_output(x);
        values[i] = kept - h;
        double below = weighted_output(x);
        values[i] = kept;
        CHECK_NEAR(gradient[i], (above - below) / (2 * h), 1e-6, 1e-7);
    }
}

static void oracle_gradients_are_the_slopes(void) {
    const float slopes[4] = {0.5f, 0.25f, 0.125f, 0.0625f};
    for (int features = 0; features < 2; features++) {
        HoneAttentionOptions options = {.batch = 2,
                                        .queries = 5,
                                        .keys = 6,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_size = 3,
                                        .value_size = 2,
                                        .causal = HONE_CAUSAL_BOTTOM_RIGHT};
        if (features) options.slopes = slopes, options.softcap = 2.0f, options.sinks = true;
        Oracle x = oracle_create(&options, 3);
        x.mask = doubles(pairs_of(&options));
        x.drop = doubles(pairs_of(&options));
        for (int64_t i = 0; i < pairs_of(&options); i++) {
            x.mask[i] = i % 7 == 0 && features ? (double)-INFINITY : (double)(i % 5) * 0.3;
            x.drop[i] = i % 4 == 0 && features ? 0 : 4.0 / 3;
        }
        oracle_run(&x, false);
        oracle_run(&x, true);
        check_slopes(&x, x.q, x.dq, 2 * 5 * 4 * 3);
        check_slopes(&x, x.k, x.dk, 2 * 6 * 2 * 3);
        check_slopes(&x, x.v, x.dv, 2 * 6 * 2 * 2);
        check_slopes(&x, x.mask, x.d_mask, pairs_of(&options));
        if (features) check_slopes(&x, x.sinks, x.d_sinks, 4);
        oracle_free(&x);
    }
}

// ---- results -----------------------------------------------------------------------------------

// Forward and backward in a layout, on one thread and on three.
static bool agrees(const HoneAttentionOptions *options, Layout layout) {
    Oracle x = oracle_create(options, 5);
    oracle_run(&x, false);
    oracle_run(&x, true);
    Run runs[2];
    bool ok = true;
    for (int n = 0; n < 2; n++) {
        HoneContext *context = make_context(n ? 3 : 1);
        HoneAttention *attention = NULL;
        runs[n] = make_run(&x, layout, NULL, 0);
        ok = CHECK_INT(hone_attention_create(context, options, &attention), HONE_OK) && ok;
        if (attention) {
            CHECK_INT(hone_attend(attention, &runs[n].tensors), HONE_OK);
            CHECK_INT(hone_attend_backward(attention, &runs[n].tensors), HONE_OK);
        }
        hone_attention_free(attention);
        hone_context_free(context);
        ok = ok && forward_close(&x, &runs[n]) && backward_close(&x, &runs[n]);
    }
    ok = CHECK(same_bits(&runs[0], &runs[1])) && ok;
    for (int n = 0; n < 2; n++) free_run(&runs[n]);
    oracle_free(&x);
    if (!check_true(ok, "results are close", __FILE__, __LINE__))
        printf("  batch %lld queries %lld keys %lld heads %d:%d sizes %d %d causal %d window %lld "
               "layout %d\n",
               (long long)options->batch, (long long)options->queries, (long long)options->keys,
               options->heads, options->kv_heads, options->head_size, options->value_size,
               (int)options->causal, (long long)options->window, (int)layout);
    return ok;
}

static void shapes_and_layouts_agree(void) {
    const HoneAttentionOptions cases[] = {
        {.batch = 1, .queries = 1, .keys = 1, .heads = 1, .head_size = 1},
        {.batch = 3, .queries = 10, .keys = 10, .heads = 1, .head_size = 64},
        {.batch = 2, .queries = 17, .keys = 33, .heads = 6, .kv_heads = 2, .head_size = 7},
        {.batch = 2, .queries = 65, .keys = 31, .heads = 4, .kv_heads = 1, .head_size = 16},
        {.batch = 1, .queries = 70, .keys = 129, .heads = 2, .head_size = 5, .value_size = 11},
        {.batch = 1, .queries = 9, .keys = 40, .heads = 3, .head_size = 256, .value_size = 1},
        {.batch = 2, .queries = 130, .keys = 150, .heads = 2, .head_size = 24, .scale = -0.3f},
        {.batch = 1, .queries = 8, .keys = 8, .heads = 2, .head_size = 4, .scale = 1.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int layout = 0; layout < LAYOUTS; layout++) agrees(&cases[i], (Layout)layout);
}

static void causality_and_windows_agree(void) {
    const int64_t sizes[][2] = {{20, 20}, {50, 70}, {70, 50}, {1, 30}, {30, 1}, {150, 150}};
    const int64_t windows[] = {0, 1, 2, 17, 1000, (int64_t)1 << 40};
    for (int s = 0; s < 6; s++)
        for (int causal = 0; causal < 3; causal++)
            for (int w = 0; w < 6; w++)
                agrees(&(HoneAttentionOptions){.batch = 2,
                                               .queries = sizes[s][0],
                                               .keys = sizes[s][1],
                                               .heads = 2,
                                               .head_size = 8,
                                               .causal = (HoneCausal)causal,
                                               .window = windows[w]},
                       ROWS);
}

static void intervals_are_intersected(void) {
    enum { KEYS = 37, QUERIES = 41 };
    int32_t begin[KEYS], end[KEYS];
    for (int j = 0; j < KEYS; j++) {
        begin[j] = (j * 7) % 30;
        end[j] = j % 5 == 0 ? begin[j] : (j * 11) % (QUERIES + 1); // some empty, some backwards
    }
    for (int causal = 0; causal < 3; causal++)
        for (int window = 0; window < 12; window += 11)
            agrees(&(HoneAttentionOptions){.batch = 2,
                                           .queries = QUERIES,
                                           .keys = KEYS,
                                           .heads = 2,
                                           .kv_heads = 1,
                                           .head_size = 6,
                                           .causal = (HoneCausal)causal,
                                           .window = window,
                                           .begin = begin,
                                           .end = end},
                   WITH_GAPS);
}

static void a_context_wants_a_place(void) {
    CHECK_INT(hone_context_create(NULL, NULL), HONE_ERROR_ARGUMENT);
}

static void empty_sizes_are_fine(void) {
    const HoneAttentionOptions cases[] = {
        {.batch = 2, .queries = 0, .keys = 5, .heads = 2, .head_size = 4},
        {.batch = 2, .queries = 5, .keys = 0, .heads = 2, .head_size = 4},
        {.batch = 0, .queries = 5, .keys = 5, .heads = 2, .head_size = 4},
        {.batch = 1, .queries = 0, .keys = 0, .heads = 1, .head_size = 1, .causal = 2, .window = 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) agrees(&cases[i], ROWS);
}

// q, k and v of one product's rows, o beside them, one gradient buffer: as a layer has them.
static void slices_of_one_array_agree(void) {
    enum { B = 2, T = 19, H = 3, D = 5, ROW = 3 * H * D };
    HoneAttentionOptions options = {
        .batch = B, .queries = T, .keys = T, .heads = H, .head_size = D};
    Oracle x = oracle_create(&options, 9);
    oracle_run(&x, false);
    oracle_run(&x, true);
    float *qkv = floats(B * T * ROW, 0), *d_qkv = floats(B * T * ROW, (float)start);
    const double *parts[3] = {x.q, x.k, x.v}, *gradients[3] = {x.dq, x.dk, x.dv};
    for (int64_t i = 0; i < B * T * ROW; i++)
        qkv[i] = (float)parts[i % ROW / (H * D)][i / ROW * H * D + i % (H * D)];
    Run r = make_run(&x, ROWS, NULL, 0);
    HoneConstView *inputs[3] = {&r.tensors.q, &r.tensors.k, &r.tensors.v};
    HoneView *outputs[3] = {&r.tensors.dq, &r.tensors.dk, &r.tensors.dv};
    for (int n = 0; n < 3; n++) {
        *inputs[n] = (HoneConstView){qkv + n * H * D, T * ROW, ROW, D};
        *outputs[n] = (HoneView){d_qkv + n * H * D, T * ROW, ROW, D};
    }
    HoneContext *context = make_context(2);
    HoneAttention *attention = NULL;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
    CHECK_INT(hone_attend_backward(attention, &r.tensors), HONE_OK);
    CHECK(forward_close(&x, &r));
    float *dense = floats(B * T * H * D, 0);
    for (int n = 0; n < 3; n++) {
        for (int64_t i = 0; i < B * T * H * D; i++)
            dense[i] = d_qkv[i / (H * D) * ROW + n * H * D + i % (H * D)];
        CHECK(close_to("gradient", dense, gradients[n], B * T * H * D, 5e-6, 2e-6, start));
    }
    hone_attention_free(attention);
    hone_context_free(context);
    hone_free(dense);
    hone_free(qkv);
    hone_free(d_qkv);
    free_run(&r);
    oracle_free(&x);
}

// Inputs may repeat themselves: one head of keys and values for the whole batch.
static void repeated_inputs_agree(void) {
    HoneAttentionOptions options = {
        .batch = 3, .queries = 12, .keys = 14, .heads = 4, .kv_heads = 2, .head_size = 6};
    Oracle x = oracle_create(&options, 10);
    int64_t row = 2 * 6;
    for (int64_t i = 0; i < 3 * 14 * row; i++) { // as if key head 0 of batch 0 stood everywhere
        x.k[i] = x.k[i / row % 14 * row + i % 6];
        x.v[i] = x.v[i / row % 14 * row + i % 6];
    }
    oracle_run(&x, false);
    Run r = make_run(&x, ROWS, NULL, 0);
    r.tensors.k = (HoneConstView){r.k.view.data, 0, row, 0};
    r.tensors.v = (HoneConstView){r.v.view.data, 0, row, 0};
    HoneContext *context = make_context(1);
    HoneAttention *attention = NULL;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    r.tensors.lse = NULL; // not wanted
    CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
    CHECK(array_close("o", &r.o, x.o, 2e-6, 1e-6, 0));
    r.tensors.o.row = 0; // an output may not
    CHECK_INT(hone_attend(attention, &r.tensors), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(hone_context_error(context), "o (3, 12, 4, 6) has the strides 288, 0, 6");
    hone_attention_free(attention);
    hone_context_free(context);
    free_run(&r);
    oracle_free(&x);
}

// One gradient for every query, head and element of the batch, as of a loss that is a sum; one key
// and value for all heads and elements, whose gradients then lie apart.
static void repeated_gradients_agree(void) {
    enum { B = 2, Q = 37, K = 30, H = 4, D = 6 };
    HoneAttentionOptions options = {
        .batch = B, .queries = Q, .keys = K, .heads = H, .kv_heads = 2, .head_size = D};
    for (int half = 0; half < 2; half++) {
        options.element = half ? HONE_ELEMENT_BF16 : HONE_ELEMENT_F32;
        Oracle x = oracle_create(&options, 12);
        int64_t row = 2 * D;
        for (int64_t i = 0; i < B * Q * H * D; i++) x.d_o[i] = x.d_o[i % D];
        for (int64_t i = 0; i < B * K * row; i++) {
            x.k[i] = x.k[i / row % K * row + i % D];
            x.v[i] = x.v[i / row % K * row + i % D];
        }
        oracle_run(&x, false);
        oracle_run(&x, true);
        Run r = make_run(&x, ROWS, NULL, 0);
        r.tensors.d_o = (HoneConstView){r.d_o.view.data, 0, 0, 0};
        r.tensors.k = (HoneConstView){r.k.view.data, 0, row, 0};
        r.tensors.v = (HoneConstView){r.v.view.data, 0, row, 0};
        HoneContext *context = make_context(2);
        HoneAttention *attention = NULL;
        CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
        CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
        CHECK_INT(hone_attend_backward(attention, &r.tensors), HONE_OK);
        CHECK(forward_close(&x, &r));
        CHECK(backward_close(&x, &r));
        hone_attention_free(attention);
        hone_context_free(context);
        free_run(&r);
        oracle_free(&x);
    }
}

// Queries, keys and values that are one tensor: its gradient comes in three parts.
static void one_tensor_for_all_inputs_agrees(void) {
    HoneAttentionOptions options = {
        .batch = 2, .queries = 45, .keys = 45, .heads = 3, .head_size = 10};
    Oracle x = oracle_create(&options, 13);
    int64_t count = 2 * 45 * 3 * 10;
    memcpy(x.k, x.q, (size_t)count * sizeof *x.k);
    memcpy(x.v, x.q, (size_t)count * sizeof *x.v);
    oracle_run(&x, false);
    oracle_run(&x, true);
    Run r = make_run(&x, HEADS_OUTSIDE, NULL, 0);
    r.tensors.k = r.tensors.v = r.tensors.q;
    HoneContext *context = make_context(2);
    HoneAttention *attention = NULL;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
    CHECK_INT(hone_attend_backward(attention, &r.tensors), HONE_OK);
    CHECK(forward_close(&x, &r));
    CHECK(backward_close(&x, &r));
    hone_attention_free(attention);
    hone_context_free(context);
    free_run(&r);
    oracle_free(&x);
}

// Forward writes o, lse and weights over what is there, backward adds: a second pass changes
// nothing but the gradients, which become twice as much.
static void forward_overwrites_and_backward_adds(void) {
    HoneAttentionOptions options = {
        .batch = 2, .queries = 50, .keys = 40, .heads = 2, .head_size = 8, .weights = true};
    Oracle x = oracle_create(&options, 14);
    oracle_run(&x, false);
    for (int pass = 0; pass < 2; pass++) oracle_run(&x, true);
    Run r = make_run(&x, ROWS, NULL, 0);
    HoneContext *context = make_context(2);
    HoneAttention *attention = NULL;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    for (int pass = 0; pass < 2; pass++) {
        CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
        CHECK_INT(hone_attend_backward(attention, &r.tensors), HONE_OK);
    }
    CHECK(forward_close(&x, &r));
    CHECK(backward_close(&x, &r));
    hone_attention_free(attention);
    hone_context_free(context);
    free_run(&r);
    oracle_free(&x);
}

// ---- plans -------------------------------------------------------------------------------------

static void plans_say_what_will_run(void) {
    HoneContext *context = NULL;
    CHECK_INT(hone_context_create(&(HoneContextOptions){.threads = 2, .isa = "generic"}, &context),
              HONE_OK);
    HoneAttentionOptions options = {
        .batch = 2, .queries = 100, .keys = 100, .heads = 4, .kv_heads = 2, .head_size = 8};
    options.value_size = 16;
    HoneAttention *attention = NULL;
    HoneAttentionInfo info;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    hone_attention_info(attention, &info);
    CHECK_STRING(info.path, "fused f32, generic kernels, 4:2 heads, all pairs, keys packed");
    CHECK_NEAR(info.pairs, 2 * 4 * 100 * 100, 0, 0);
    CHECK_NEAR(info.flops_forward, info.pairs * (2 * 8 + 2 * 16), 0, 0);
    CHECK_NEAR(info.flops_backward, info.pairs * (6 * 8 + 4 * 16), 0, 0);
    CHECK(info.scratch_forward > 0 && info.scratch_backward > 0);
    hone_attention_free(attention);

    options.causal = HONE_CAUSAL_TOP_LEFT;
    options.window = 10;
    options.forward_only = true;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    hone_attention_info(attention, &info);
    CHECK_CONTAINS(info.path, "intervals with 9.55% of the pairs");
    CHECK_NEAR(info.pairs, 2 * 4 * (100 * 10 - 45), 0, 0);
    CHECK_INT(info.scratch_backward, 0);
    HoneAttentionTensors tensors = {0};
    CHECK_INT(hone_attend_backward(attention, &tensors), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(hone_context_error(context), "forward_only");
    hone_attention_free(attention);

    // One query at the end of its keys, as when decoding, sees all of them: no test is planned.
    options = (HoneAttentionOptions){.batch = 1, .queries = 1, .keys = 50, .heads = 1};
    options.head_size = 8;
    options.causal = HONE_CAUSAL_BOTTOM_RIGHT;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    hone_attention_info(attention, &info);
    CHECK_CONTAINS(info.path, "all pairs, keys where they lie");
    CHECK(!strstr(info.path, "parts"));
    hone_attention_free(attention);
    options.keys = 4000; // more than one task has time for
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    hone_attention_info(attention, &info);
    CHECK_CONTAINS(info.path, "all pairs, keys where they lie in 4 parts");
    hone_attention_free(attention);
    options.queries = 0; // nothing will run
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    hone_attention_info(attention, &info);
    CHECK(!strstr(info.path, ", keys"));
    hone_attention_free(attention);
    hone_attention_free(NULL);
    hone_context_free(context);
}

static void slopes_are_the_paper_s(void) {
    float slopes[12];
    hone_alibi_slopes(8, slopes);
    for (int h = 0; h < 8; h++) CHECK_NEAR(slopes[h], ldexp(1, -1 - h), 1e-7, 0);
    hone_alibi_slopes(12, slopes); // those of 8, then every other one of 16
    for (int h = 0; h < 8; h++) CHECK_NEAR(slopes[h], ldexp(1, -1 - h), 1e-7, 0);
    for (int h = 8; h < 12; h++) CHECK_NEAR(slopes[h], pow(2, -0.5 * (2 * (h - 8) + 1)), 1e-7, 0);
    hone_alibi_slopes(1, slopes);
    CHECK_NEAR(slopes[0], 1.0 / 256, 1e-7, 0);
}

// ---- wrong arguments ---------------------------------------------------------------------------

static const HoneAttentionOptions fine = {
    .batch = 2, .queries = 3, .keys = 4, .heads = 4, .kv_heads = 2, .head_size = 8};

static void refused(HoneContext *context, HoneAttentionOptions options, const char *part) {
    HoneAttention *attention = (HoneAttention *)&options;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_ERROR_ARGUMENT);
    CHECK(attention == NULL);
    CHECK_CONTAINS(hone_context_error(context), part);
}

#define REFUSED(change, part)                                                                      \
    do {                                                                                           \
        HoneAttentionOptions o = fine;                                                             \
        change;                                                                                    \
        refused(context, o, part);                                                                 \
    } while (0)

static void wrong_options_are_refused_with_their_values(void) {
    HoneContext *context = make_context(1);
    const int32_t interval[4] = {0, 1, 4, 3};
    const float slopes[4] = {1, NAN, 1, 1};
    REFUSED(o.batch = -1, "batch is -1");
    REFUSED(o.queries = -3, "queries is -3");
    REFUSED(o.keys = (int64_t)1 << 31, "keys is 2147483648");
    REFUSED(o.heads = 0, "heads is 0");
    REFUSED(o.kv_heads = 3, "heads is 4, kv_heads is 3");
    REFUSED(o.kv_heads = 8, "kv_heads is 8, want 1…4");
    REFUSED(o.kv_heads = -2, "kv_heads is -2");
    REFUSED(o.head_size = 0, "head_size is 0, want 1…256");
    REFUSED(o.head_size = 257, "head_size is 257");
    REFUSED(o.value_size = 300, "value_size is 300");
    REFUSED(o.scale = NAN, "scale is nan");
    REFUSED(o.scale = INFINITY, "scale is inf");
    REFUSED(o.softcap = -1, "softcap is -1");
    REFUSED(o.softcap = 1e-40f, "want a finite number of at least 1.17549e-38");
    REFUSED(o.dropout = 1, "dropout is 1");
    REFUSED(o.dropout = -0.1f, "dropout is -0.1");
    REFUSED(o.dropout = NAN, "dropout is nan");
    REFUSED(o.window = -1, "window is -1");
    REFUSED(o.element = (HoneElement)7, "element is 7");
    REFUSED(o.causal = (HoneCausal)3, "causal is 3");
    REFUSED(o.begin = interval, "end is NULL and begin is not");
    REFUSED((o.begin = interval, o.end = interval), "key 2 is seen by the queries 4 to 4");
    REFUSED(o.slopes = slopes, "slopes[1] is nan");
    REFUSED((o.batch = INT32_MAX, o.queries = INT32_MAX), "more values than can be counted");
    REFUSED((o.weights = true, o.batch = 1, o.queries = o.keys = INT32_MAX), "can be counted");
    REFUSED(o.mask.gradient = true, "mask.gradient is wanted of no mask");
    REFUSED((o.mask = (HoneMask){HONE_MASK_BOOLEAN, 0, 0, 4, 1, 12, true}), "of a boolean mask");
    REFUSED((o.mask = (HoneMask){HONE_MASK_FLOAT, 0, 0, 4, 1, 11, false}),
            "a mask of 11 elements with strides 0, 0, 4, 1 does not hold (2, 4, 3, 4)");
    REFUSED((o.mask = (HoneMask){HONE_MASK_FLOAT, 0, 0, -4, 1, 12, false}), "none may be negative");
    REFUSED((o.mask = (HoneMask){HONE_MASK_FLOAT, INT64_MAX, 9, 4, 1, 12, false}), "does not hold");
    REFUSED((o.mask = (HoneMask){HONE_MASK_FLOAT, 0, 0, 1, 1, 12, true}), "overlaps itself");
    REFUSED(o.mask.type = (HoneMaskType)9, "mask.type is 9");
    HoneAttention *attention = NULL;
    CHECK_INT(hone_attention_create(NULL, &fine, &attention), HONE_ERROR_ARGUMENT);
    CHECK_INT(hone_attention_create(context, NULL, &attention), HONE_ERROR_ARGUMENT);
    CHECK_INT(hone_attention_create(context, &fine, NULL), HONE_ERROR_ARGUMENT);
    hone_context_free(context);
}

static void wrong_tensors_are_refused_with_their_values(void) {
    HoneContext *context = make_context(1);
    HoneAttention *attention = NULL;
    Oracle x = oracle_create(&fine, 1);
    Run r = make_run(&x, ROWS, NULL, 0);
    HoneAttentionTensors t = r.tensors;
    CHECK_INT(hone_attention_create(context, &fine, &attention), HONE_OK);
#define REFUSED_CALL(function, change, part)                                                       \
    do {                                                                                           \
        t = r.tensors;                                                                             \
        change;                                                                                    \
        CHECK_INT(function(attention, &t), HONE_ERROR_ARGUMENT);                                   \
        CHECK_CONTAINS(hone_context_error(context), part);                                         \
    } while (0)
    REFUSED_CALL(hone_attend, t.q.data = NULL, "q is NULL, want (2, 3, 4, 8)");
    REFUSED_CALL(hone_attend, t.v.row = -8, "none may be negative");
    REFUSED_CALL(hone_attend, t.k.batch = INT64_MAX / 2, "further than can be counted");
    REFUSED_CALL(hone_attend, t.o.head = 7, "its elements overlap");
    REFUSED_CALL(hone_attend, t.mask = &x, "mask is given");
    REFUSED_CALL(hone_attend, t.sinks = r.lse, "sinks is given");
    REFUSED_CALL(hone_attend, t.weights = r.lse, "weights is given");
    REFUSED_CALL(hone_attend_backward, t.lse = NULL, "lse is NULL");
    REFUSED_CALL(hone_attend_backward, t.d_o.data = NULL, "d_o is NULL");
    REFUSED_CALL(hone_attend_backward, t.dk.row = 1, "its elements overlap");
    REFUSED_CALL(hone_attend_backward, t.d_mask = r.lse, "d_mask is given");
    CHECK_INT(hone_attend(attention, NULL), HONE_ERROR_ARGUMENT);
    CHECK_INT(hone_attend(NULL, &t), HONE_ERROR_ARGUMENT);
    CHECK_INT(hone_attend(attention, &r.tensors), HONE_OK);
    CHECK_STRING(hone_context_error(context), "");
    hone_attention_free(attention);
    free_run(&r);
    oracle_free(&x);
    hone_context_free(context);
}

// What is written may lie between the rows of other arrays, as slices_of_one_array_agree has it,
// but not on them.
static void arrays_that_share_memory_are_refused(void) {
    HoneContext *context = make_context(1);
    HoneAttention *attention = NULL;
    HoneAttentionOptions options = fine;
    float mask[12] = {0};
    options.mask = (HoneMask){HONE_MASK_FLOAT, 0, 0, 4, 1, 12, true};
    options.sinks = options.weights = true;
    Oracle x = oracle_create(&options, 1);
    Run r = make_run(&x, WITH_GAPS, mask, 0);
    HoneAttentionTensors t = r.tensors;
    CHECK_INT(hone_attention_create(context, &options, &attention), HONE_OK);
    REFUSED_CALL(hone_attend, t.o.data = r.q.view.data, "q and o share memory, and o is written");
    REFUSED_CALL(hone_attend, t.o.data = (float *)r.v.view.data + 7, "and o share memory");
    REFUSED_CALL(hone_attend, t.lse = (float *)r.k.view.data + 1, "k and lse share memory");
    REFUSED_CALL(hone_attend, t.weights = t.lse, "lse and weights share memory");
    REFUSED_CALL(hone_attend, t.weights = mask, "mask and weights share memory");
    REFUSED_CALL(hone_attend, t.sinks = t.lse + 23, "lse and sinks share memory");
    REFUSED_CALL(hone_attend_backward, t.dk.data = r.dq.view.data, "dq and dk share memory");
    REFUSED_CALL(hone_attend_backward, t.dv = t.dk, "dk and dv share memory");
    REFUSED_CALL(hone_attend_backward, t.dq.data = r.q.view.data, "q and dq share memory");
    REFUSED_CALL(hone_attend_backward, t.dq.data = r.d_o.view.data, "d_o and dq share memory");
    REFUSED_CALL(hone_attend_backward, t.dv.data = r.o.view.data, "o and dv share memory");
    REFUSED_CALL(hone_attend_backward, t.d_mask = mask, "mask and d_mask share memory");
    REFUSED_CALL(hone_attend_backward, t.d_sinks = r.sinks, "sinks and d_sinks share memory");
    REFUSED_CALL(hone_attend_backward, t.d_sinks = (float *)r.dq.view.data, "dq and d_sinks share");

    // The gap after each head of 8 is 3 floats: an array of such columns fits in between, and not
    // one of four.
    HoneAttentionOptions narrow = fine;
    narrow.value_size = 3;
    HoneAttention *columns = NULL;
    CHECK_INT(hone_attention_create(context, &narrow, &columns), HONE_OK);
    HoneAttentionTensors between = r.tensors;
    between.mask = between.sinks = between.weights = NULL;
    between.v = read_only(&r.v);
    between.o = r.q.view;
    between.o.data = (float *)r.q.view.data + 8;
    CHECK_INT(hone_attend(columns, &between), HONE_OK);
    hone_attention_free(columns);
    narrow.value_size = 4;
    CHECK_INT(hone_attention_create(context, &narrow, &columns), HONE_OK);
    CHECK_INT(hone_attend(columns, &between), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(hone_context_error(context), "q and o share memory");

    // Inputs may share with each other.
    t = r.tensors;
    t.d_o = (HoneConstView){r.o.view.data, r.o.view.batch, r.o.view.row, r.o.view.head};
    CHECK_INT(hone_attend(attention, &t), HONE_OK);
    CHECK_INT(hone_attend_backward(attention, &t), HONE_OK);
    hone_attention_free(columns);
    hone_attention_free(attention);
    free_run(&r);
    oracle_free(&x);
    hone_context_free(context);
}

int main(void) {
    RUN(oracle_gradients_are_the_slopes);
    RUN(shapes_and_layouts_agree);
    RUN(causality_and_windows_agree);
    RUN(intervals_are_intersected);
    RUN(a_context_wants_a_place);
    RUN(empty_sizes_are_fine);
    RUN(slices_of_one_array_agree);
    RUN(repeated_inputs_agree);
    RUN(repeated_gradients_agree);
    RUN(one_tensor_for_all_inputs_agrees);
    RUN(forward_overwrites_and_backward_adds);
    RUN(plans_say_what_will_run);
    RUN(slopes_are_the_paper_s);
    RUN(wrong_options_are_refused_with_their_values);
    RUN(wrong_tensors_are_refused_with_their_values);
    RUN(arrays_that_share_memory_are_refused);
    return check_report();
}
