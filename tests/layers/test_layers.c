// SPDX-License-Identifier: Apache-2.0
// The layers against plain f64 loops: every output and every gradient; the weights of other
// libraries; wrong arguments.
#include <hone/layers.h>

#include "attention_run.h"

// ---- multi-head attention in f64 ---------------------------------------------------------------

typedef struct Reference {
    HoneMultiHeadAttentionOptions options;
    Oracle oracle; // attention between the projections
    HoneParameter parameters[HONE_MOST_PARAMETERS];
    double *value[HONE_MOST_PARAMETERS], *gradient[HONE_MOST_PARAMETERS];
    int parameter_count;
    int64_t input_count[3], output_count;
    double *input[3], *d_input[3], *output, *d_output; // input[1] may be input[0], and so on
    bool projects_output;
} Reference;

static int index_of(const Reference *r, const char *name) {
    for (int i = 0; i < r->parameter_count; i++)
        if (strcmp(r->parameters[i].name, name) == 0) return i;
    return -1;
}

// y (rows, N) = x (rows, C) · Wᵀ + b
static void linear(const Reference *r, const char *weight, const char *bias, int64_t rows,
                   const double *x, double *y) {
    int w = index_of(r, weight), b = index_of(r, bias);
    int64_t N = r->parameters[w].shape[0], C = r->parameters[w].shape[1];
    for (int64_t t = 0; t < rows; t++)
        for (int64_t n = 0; n < N; n++) {
            double sum = b < 0 ? 0 : r->value[b][n];
            for (int64_t c = 0; c < C; c++) sum += x[t * C + c] * r->value[w][n * C + c];
            y[t * N + n] = sum;
        }
}

static void linear_backward(const Reference *r, const char *weight, const char *bias, int64_t rows,
                            const double *x, const double *dy, double *dx) {
    int w = index_of(r, weight), b = index_of(r, bias);
    int64_t N = r->parameters[w].shape[0], C = r->parameters[w].shape[1];
    for (int64_t t = 0; t < rows; t++)
        for (int64_t n = 0; n < N; n++) {
            if (b >= 0) r->gradient[b][n] += dy[t * N + n];
            for (int64_t c = 0; c < C; c++) {
                r->gradient[w][n * C + c] += dy[t * N + n] * x[t * C + c];
                dx[t * C + c] += dy[t * N + n] * r->value[w][n * C + c];
            }
        }
}

static double *random_array(int64_t count, uint64_t stream) {
    RandomStream random = hone_random_stream(77, RANDOM_TEST, stream);
    double *array = doubles(count);
    for (int64_t i = 0; i < count; i++) array[i] = (double)hone_random_normal(&random);
    return array;
}

static const char *const weights[3] = {"query_weight", "key_weight", "value_weight"};
static const char *const biases[3] = {"query_bias", "key_bias", "value_bias"};

// Of a layer whose weights this makes random.
static Reference make_reference(const HoneMultiHeadAttentionOptions *options,
                                const HoneParameter *parameters, int count, bool projects_output) {
    Reference r = {.options = *options, .parameter_count = count};
    r.projects_output = projects_output;
    const HoneAttentionOptions *o = &r.options.attention;
    r.oracle = oracle_create(o, 1);
    for (int i = 0; i < count; i++) {
        r.parameters[i] = parameters[i];
        r.value[i] = random_array(parameters[i].count, (uint64_t)i);
        r.gradient[i] = doubles(parameters[i].count);
        double scale = parameters[i].rank == 2 ? 1 / sqrt((double)parameters[i].shape[1]) : 0.3;
        for (int64_t n = 0; n < parameters[i].count; n++) {
            parameters[i].value[n] = (float)(r.value[i][n] * scale);
            r.value[i][n] = (double)parameters[i].value[n];
        }
    }
    const int shared[3][3] = {{0, 0, 0}, {0, 1, 1}, {0, 1, 2}};
    int64_t output_width = o->heads * size_of(o, true);
    if (projects_output) output_width = r.parameters[index_of(&r, "output_weight")].shape[0];
    for (int i = 0; i < 3; i++) {
        int from = shared[options->inputs][i];
        r.input_count[i] = o->batch * (i ? o->keys : o->queries) * parameters[i].shape[1];
        r.input[i] = from < i ? r.input[from] : random_array(r.input_count[i], 20 + (uint64_t)i);
        r.d_input[i] = from < i ? r.d_input[from] : doubles(r.input_count[i]);
        for (int64_t n = 0; n < r.input_count[i]; n++) r.input[i][n] = (double)(float)r.input[i][n];
    }
    r.output_count = o->batch * o->queries * output_width;
    r.output = doubles(r.output_count);
    r.d_output = random_array(r.output_count, 30);
    for (int64_t n = 0; n < r.output_count; n++) r.d_output[n] = (double)(float)r.d_output[n];
    return r;
}

static void run_reference(Reference *r) {
    const HoneAttentionOptions *o = &r->options.attention;
    Oracle *x = &r->oracle;
    double *projected[3] = {x->q, x->k, x->v}, *gradients[3] = {x->dq, x->dk, x->dv};
    int64_t rows[3] = {o->batch * o->queries, o->batch * o->keys, o->batch * o->keys};
    for (int i = 0; i < 3; i++)
        linear(r, weights[i], biases[i], rows[i], r->input[i], projected[i]);
    int sinks = index_of(r, "sinks");
    if (sinks >= 0) memcpy(x->sinks, r->value[sinks], (size_t)o->heads * sizeof(double));
    oracle_run(x, false);
    if (r->projects_output) {
        linear(r, "output_weight", "output_bias", rows[0], x->o, r->output);
        double *d_o = doubles(o->batch * o->queries * o->heads * size_of(o, true));
        linear_backward(r, "output_weight", "output_bias", rows[0], x->o, r->d_output, d_o);
        hone_free(x->d_o);
        x->d_o = d_o;
    } else {
        memcpy(r->output, x->o, (size_t)r->output_count * sizeof(double));
        memcpy(x->d_o, r->d_output, (size_t)r->output_count * sizeof(double));
    }
    oracle_run(x, true);
    for (int i = 0; i < 3; i++)
        linear_backward(r, weights[i], biases[i], rows[i], r->input[i], gradients[i],
                        r->d_input[i]);
    if (sinks >= 0) memcpy(r->gradient[sinks], x->d_sinks, (size_t)o->heads * sizeof(double));
}

static void free_reference(Reference *r) {
    for (int i = 0; i < r->parameter_count; i++) {
        hone_free(r->value[i]);
        hone_free(r->gradient[i]);
    }
    for (int i = 2; i >= 0; i--) {
        if (i > 0 && r->input[i] == r->input[i - 1]) continue;
        hone_free(r->input[i]);
        hone_free(r->d_input[i]);
    }
    hone_free(r->output);
    hone_free(r->d_output);
    oracle_free(&r->oracle);
}

// Some gradients are sums that are 0 in theory, as those of the keys' biases: what is left of them
// is the rounding of their terms.
static double rounding_of(const Reference *r) {
    double largest = 0;
    for (int i = 0; i < r->parameter_count; i++)
        for (int64_t n = 0; n < r->parameters[i].count; n++)
            largest = fmax(largest, fabs(r->gradient[i][n]));
    return 2e-6 + 2e-7 * largest;
}

static float *to_floats(const double *values, int64_t count) {
    float *array = floats(count, (float)start);
    for (int64_t i = 0; values && i < count; i++) array[i] = (float)values[i];
    return array;
}

static HoneContext *make_context(int threads) {
    HoneContext *context = NULL;
    CHECK_INT(hone_context_create(&(HoneContextOptions){.threads = threads}, &context), HONE_OK);
    return context;
}

// Projections in f32 add to attention's error: sums of up to 100 terms.
enum { OUTPUT, D_QUERY, D_KEY, D_VALUE, RESULTS };

static bool agrees(const HoneMultiHeadAttentionOptions *options) {
    bool ok = true;
    float *results[2][RESULTS + HONE_MOST_PARAMETERS] = {0};
    int64_t counts[RESULTS + HONE_MOST_PARAMETERS] = {0};
    for (int n = 0; n < 2; n++) {
        HoneContext *context = make_context(n ? 3 : 1);
        HoneMultiHeadAttention *layer = NULL;
        HoneParameter parameters[HONE_MOST_PARAMETERS];
        if (!CHECK_INT(hone_multi_head_attention_create(context, options, &layer), HONE_OK)) {
            printf("%s\n", hone_context_error(context));
            hone_context_free(context);
            return false;
        }
        int count = hone_multi_head_attention_parameters(layer, parameters);
        Reference r = make_reference(options, parameters, count, true);
        run_reference(&r);
        float *inputs[3] = {0}, **result = results[n];
        for (int i = 0; i <= (int)options->inputs; i++) {
            inputs[i] = to_floats(r.input[i], r.input_count[i]);
            counts[D_QUERY + i] = r.input_count[i];
            result[D_QUERY + i] = to_floats(NULL, r.input_count[i]);
        }
        counts[OUTPUT] = r.output_count;
        result[OUTPUT] = floats(r.output_count, NAN);
        float *d_output = to_floats(r.d_output, r.output_count);
        HoneMultiHeadTensors t = {
            .query = inputs[0], .key = inputs[1], .value = inputs[2], .output = result[OUTPUT]};
        t.d_output = d_output;
        t.d_query = result[D_QUERY];
        t.d_key = result[D_KEY];
        t.d_value = result[D_VALUE];
        for (int pass = 0; pass < 2; pass++) { // gradients of the first are cleared, inputs' left
            hone_clear_gradients(parameters, count);
            for (int i = 0; i <= (int)options->inputs; i++)
                for (int64_t c = 0; c < r.input_count[i]; c++)
                    result[D_QUERY + i][c] = (float)start;
            CHECK_INT(hone_multi_head_attention_forward(layer, &t), HONE_OK);
            CHECK_INT(hone_multi_head_attention_backward(layer, &t), HONE_OK);
        }
        ok = close_to("output", result[OUTPUT], r.output, r.output_count, 4e-6, 1e-6, 0) && ok;
        for (int i = 0; i <= (int)options->inputs; i++)
            ok = close_to("d_input", result[D_QUERY + i], r.d_input[i], r.input_count[i], 1e-5,
                          2e-6, start) &&
                 ok;
        for (int i = 0; i < count; i++) {
            counts[RESULTS + i] = parameters[i].count;
            result[RESULTS + i] = floats(parameters[i].count, 0);
            memcpy(result[RESULTS + i], parameters[i].gradient,
                   (size_t)parameters[i].count * sizeof(float));
            ok = close_to(parameters[i].name, parameters[i].gradient, r.gradient[i],
                          parameters[i].count, 1e-5, rounding_of(&r), 0) &&
                 ok;
        }
        for (int i = 0; i < 3; i++) hone_free(inputs[i]);
        hone_free(d_output);
        free_reference(&r);
        hone_multi_head_attention_free(layer);
        hone_context_free(context);
    }
    for (int i = 0; i < RESULTS + HONE_MOST_PARAMETERS; i++) {
        ok = ok && memcmp(results[0][i] ? results[0][i] : (float[1]){0},
                          results[1][i] ? results[1][i] : (float[1]){0},
                          (size_t)counts[i] * sizeof(float)) == 0;
        hone_free(results[0][i]);
        hone_free(results[1][i]);
    }
    return check_true(ok, "outputs and gradients are close, on 1 and 3 threads alike", __FILE__,
                      __LINE__);
}

static void multi_head_attention_agrees(void) {
    const HoneAttentionOptions square = {
        .batch = 2, .queries = 11, .keys = 11, .heads = 4, .head_size = 6};
    HoneMultiHeadAttentionOptions o = {.attention = square, .query_channels = 24};
    for (int inputs = 0; inputs < 3; inputs++)
        for (int bias = 0; bias < 4; bias++) {
            o.inputs = (HoneInputs)inputs;
            o.input_bias = bias & 1;
            o.output_bias = bias & 2;
            agrees(&o);
        }
}

static void grouped_and_cross_attention_agree(void) {
    HoneMultiHeadAttentionOptions o = {.attention = {.batch = 3,
                                                     .queries = 7,
                                                     .keys = 20,
                                                     .heads = 6,
                                                     .kv_heads = 2,
                                                     .head_size = 5,
                                                     .value_size = 9,
                                                     .causal = HONE_CAUSAL_BOTTOM_RIGHT,
                                                     .window = 6},
                                       .inputs = HONE_INPUTS_CROSS,
                                       .query_channels = 13,
                                       .key_channels = 10,
                                       .output_channels = 3,
                                       .input_bias = true};
    agrees(&o);
    o.inputs = HONE_INPUTS_SEPARATE;
    o.value_channels = 31;
    o.output_bias = true;
    agrees(&o);
    o = (HoneMultiHeadAttentionOptions){
        .attention = {.batch = 1, .queries = 130, .keys = 130, .heads = 2, .head_size = 40},
        .query_channels = 70};
    o.attention.kv_heads = 1;
    o.attention.causal = HONE_CAUSAL_TOP_LEFT;
    agrees(&o);
}

// Cut into chunks of the batch, the last one smaller; and a shape of the same size that is not cut.
static void short_sequences_agree(void) {
    HoneMultiHeadAttentionOptions o = {
        .attention = {.batch = 70, .queries = 9, .keys = 9, .heads = 4, .head_size = 10},
        .query_channels = 40,
        .output_channels = 20,
        .input_bias = true,
        .output_bias = true};
    agrees(&o);
    o.attention.causal = HONE_CAUSAL_TOP_LEFT;
    o.attention.kv_heads = 2;
    o.attention.softcap = 3;
    agrees(&o);
    o.attention.sinks = true;
    agrees(&o);
}

static void empty_inputs_are_fine(void) {
    HoneMultiHeadAttentionOptions o = {
        .attention = {.batch = 2, .queries = 0, .keys = 4, .heads = 2, .head_size = 3},
        .inputs = HONE_INPUTS_CROSS,
        .query_channels = 6,
        .input_bias = true,
        .output_bias = true};
    agrees(&o);
    o.attention.queries = 4;
    o.attention.keys = 0; // the output is its bias
    agrees(&o);
    o.attention.batch = 0;
    o.attention.keys = 4;
    agrees(&o);
}

// ---- the simple layer --------------------------------------------------------------------------

static void check_simple(HoneSelfAttentionOptions options, bool wants_dx) {
    HoneContext *context = make_context(2);
    HoneSelfAttention *layer = NULL;
    HoneParameter parameters[HONE_MOST_PARAMETERS];
    CHECK_INT(hone_self_attention_create(context, &options, &layer), HONE_OK);
    int count = hone_self_attention_parameters(layer, parameters);
    CHECK_INT(count, options.bias ? 6 : 3);
    HoneMultiHeadAttentionOptions whole = {.attention = {.batch = options.batch,
                                                         .queries = options.length,
                                                         .keys = options.length,
                                                         .heads = 1,
                                                         .head_size = options.units,
                                                         .scale = options.unscaled ? 1 : 0,
                                                         .causal = options.causal},
                                           .query_channels = options.channels};
    Reference r = make_reference(&whole, parameters, count, false);
    run_reference(&r);
    float *x = to_floats(r.input[0], r.input_count[0]), *y = floats(r.output_count, NAN);
    float *dy = to_floats(r.d_output, r.output_count), *dx = to_floats(NULL, r.input_count[0]);
    CHECK_INT(hone_self_attention_backward(layer, x, y, dy, dx), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(hone_context_error(context), "before any forward");
    CHECK_INT(hone_self_attention_forward(layer, x, y), HONE_OK);
    CHECK_INT(hone_self_attention_backward(layer, x, y, dy, wants_dx ? dx : NULL), HONE_OK);
    CHECK(close_to("y", y, r.output, r.output_count, 4e-6, 1e-6, 0));
    if (wants_dx) CHECK(close_to("dx", dx, r.d_input[0], r.input_count[0], 1e-5, 2e-6, start));
    for (int i = 0; i < count; i++)
        CHECK(close_to(parameters[i].name, parameters[i].gradient, r.gradient[i],
                       parameters[i].count, 1e-5, 2e-6, 0));
    float *arrays[] = {x, y, dy, dx};
    for (int i = 0; i < 4; i++) hone_free(arrays[i]);
    free_reference(&r);
    hone_self_attention_free(layer);
    hone_context_free(context);
}

static void the_simple_layer_agrees(void) {
    HoneSelfAttentionOptions o = {.batch = 32, .length = 10, .channels = 64, .units = 64};
    check_simple(o, true);
    o.unscaled = true;
    check_simple(o, false);
    o = (HoneSelfAttentionOptions){.batch = 3, .length = 7, .channels = 5, .units = 9};
    o.bias = true;
    o.causal = HONE_CAUSAL_TOP_LEFT;
    check_simple(o, true);
}

static void initial_weights_are_glorot_s(void) {
    HoneContext *context = make_context(1);
    HoneSelfAttentionOptions o = {.batch = 1, .length = 1, .channels = 100, .units = 50};
    o.bias = true;
    float *kept = NULL;
    for (uint64_t seed = 0; seed < 3; seed++) {
        HoneSelfAttention *layer = NULL;
        HoneParameter p[HONE_MOST_PARAMETERS];
        o.seed = seed / 2;
        CHECK_INT(hone_self_attention_create(context, &o, &layer), HONE_OK);
        hone_self_attention_parameters(layer, p);
        CHECK_STRING(p[2].name, "value_weight");
        CHECK_INT(p[2].shape[0], 50);
        CHECK_INT(p[2].shape[1], 100);
        CHECK(p[1].value == p[0].value + 5000 && p[2].value == p[1].value + 5000);
        double sum = 0, squares = 0, largest = 0, limit = sqrt(6.0 / 150);
        for (int64_t i = 0; i < 15000; i++) {
            double w = (double)p[0].value[i];
            sum += w, squares += w * w, largest = fmax(largest, fabs(w));
        }
        CHECK_NEAR(sum / 15000, 0, 0, 5 * limit / sqrt(3.0 * 15000));
        CHECK_NEAR(squares / 15000, limit * limit / 3, 0.03, 0);
        CHECK(largest <= limit);
        CHECK(p[3].value[0] == 0 && p[5].value[49] == 0);
        if (!kept) kept = floats(15000, 0), memcpy(kept, p[0].value, 15000 * sizeof(float));
        CHECK((memcmp(kept, p[0].value, 15000 * sizeof(float)) == 0) == (seed < 2));
        hone_self_attention_free(layer);
    }
    hone_free(kept);
    hone_context_free(context);
}

int main(void) {
    RUN(multi_head_attention_agrees);
    RUN(grouped_and_cross_attention_agree);
    RUN(short_sequences_agree);
    RUN(empty_inputs_are_fine);
    RUN(the_simple_layer_agrees);
    RUN(initial_weights_are_glorot_s);
    return check_report();
}
