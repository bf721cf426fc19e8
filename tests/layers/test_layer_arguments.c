// SPDX-License-Identifier: Apache-2.0
// The weights of torch and Keras in and out of a layer, additive attention as a layer, and what is
// refused with which words.
#include <hone/layers.h>

#include "attention_run.h"

static HoneContext *make_context(void) {
    HoneContext *context = NULL;
    CHECK_INT(hone_context_create(&(HoneContextOptions){.threads = 2}, &context), HONE_OK);
    return context;
}

#define REFUSED(call, status, part)                                                                \
    do {                                                                                           \
        CHECK_INT(call, status);                                                                   \
        CHECK_CONTAINS(hone_context_error(context), part);                                         \
    } while (0)

static const HoneMultiHeadAttentionOptions self = {
    .attention = {.batch = 1, .queries = 2, .keys = 2, .heads = 2, .head_size = 3},
    .query_channels = 6,
    .input_bias = true,
    .output_bias = true};

static HoneMultiHeadAttention *make_layer(HoneContext *context,
                                          const HoneMultiHeadAttentionOptions *options,
                                          HoneParameter parameters[HONE_MOST_PARAMETERS]) {
    HoneMultiHeadAttention *layer = NULL;
    if (!CHECK_INT(hone_multi_head_attention_create(context, options, &layer), HONE_OK))
        printf("%s\n", hone_context_error(context));
    hone_multi_head_attention_parameters(layer, parameters);
    return layer;
}

// ---- weights of other libraries ----------------------------------------------------------------

static void count_up(float *array, int64_t count, float from) {
    for (int64_t i = 0; i < count; i++) array[i] = from + (float)i;
}

static void torch_weights_come_and_go(void) {
    HoneContext *context = make_context();
    HoneParameter p[HONE_MOST_PARAMETERS];
    HoneMultiHeadAttention *layer = make_layer(context, &self, p);
    float in[108], in_bias[18], out[36], out_bias[6], back[108];
    count_up(in, 108, 0);
    count_up(in_bias, 18, 200);
    count_up(out, 36, 300);
    count_up(out_bias, 6, 400);
    HoneTorchAttention torch = {.in_proj_weight = in,
                                .in_proj_bias = in_bias,
                                .out_proj_weight = out,
                                .out_proj_bias = out_bias};
    CHECK_INT(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch), HONE_OK);
    CHECK(p[0].value[7] == 7 && p[1].value[7] == 43 && p[2].value[35] == 107);
    CHECK(p[3].value[1] == 201 && p[4].value[0] == 206 && p[5].value[5] == 217);
    CHECK(p[6].value[35] == 335 && p[7].value[5] == 405);
    torch.in_proj_weight = back;
    CHECK_INT(hone_multi_head_attention_to_torch(layer, HONE_WEIGHTS, &torch), HONE_OK);
    CHECK(memcmp(in, back, sizeof in) == 0);
    p[1].gradient[3] = 9;
    CHECK_INT(hone_multi_head_attention_to_torch(layer, HONE_GRADIENTS, &torch), HONE_OK);
    CHECK(back[39] == 9 && back[38] == 0);
    torch.out_proj_bias = NULL;
    REFUSED(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch), HONE_ERROR_ARGUMENT,
            "out_proj.bias is NULL, and the layer has output_bias");
    torch.bias_k = out;
    REFUSED(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch),
            HONE_ERROR_UNSUPPORTED, "bias_k is not supported");
    torch = (HoneTorchAttention){.add_zero_attn = true};
    REFUSED(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch),
            HONE_ERROR_UNSUPPORTED, "add_zero_attn is not supported");
    hone_multi_head_attention_free(layer);

    // kdim and vdim of their own; no biases.
    HoneMultiHeadAttentionOptions options = self;
    options.inputs = HONE_INPUTS_SEPARATE;
    options.key_channels = 4;
    options.value_channels = 5;
    options.input_bias = options.output_bias = false;
    layer = make_layer(context, &options, p);
    float q[36], k[24], v[30];
    count_up(q, 36, 0);
    count_up(k, 24, 50);
    count_up(v, 30, 80);
    torch = (HoneTorchAttention){
        .q_proj_weight = q, .k_proj_weight = k, .v_proj_weight = v, .out_proj_weight = out};
    CHECK_INT(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch), HONE_OK);
    CHECK(p[0].value[35] == 35 && p[1].value[23] == 73 && p[2].value[29] == 109);
    torch.in_proj_weight = in;
    REFUSED(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch), HONE_ERROR_ARGUMENT,
            "in_proj_weight is given, and kdim 4, vdim 5");
    torch.in_proj_weight = NULL;
    torch.in_proj_bias = in;
    REFUSED(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch), HONE_ERROR_ARGUMENT,
            "in_proj_bias is given, and the layer has no query_bias");
    hone_multi_head_attention_free(layer);

    options = self;
    options.attention.kv_heads = 1;
    layer = make_layer(context, &options, p);
    REFUSED(hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch),
            HONE_ERROR_UNSUPPORTED, "2:1 heads of sizes 3 and 3");
    hone_multi_head_attention_free(layer);
    hone_context_free(context);
}

static void keras_weights_come_and_go(void) {
    HoneContext *context = make_context();
    HoneParameter p[HONE_MOST_PARAMETERS];
    HoneMultiHeadAttentionOptions options = self;
    options.inputs = HONE_INPUTS_CROSS;
    options.key_channels = 4;
    options.attention.value_size = 5;
    options.output_channels = 7;
    HoneMultiHeadAttention *layer = make_layer(context, &options, p);
    float q[36], qb[6], k[24], kb[6], v[40], vb[10], o[70], ob[7], back[70];
    float *arrays[] = {q, qb, k, kb, v, vb, o, ob};
    const int counts[] = {36, 6, 24, 6, 40, 10, 70, 7};
    for (int i = 0; i < 8; i++) count_up(arrays[i], counts[i], 100 * (float)i);
    HoneKerasAttention keras = {q, qb, k, kb, v, vb, o, ob};
    CHECK_INT(hone_multi_head_attention_from_keras(layer, HONE_WEIGHTS, &keras), HONE_OK);
    for (int n = 0; n < 2; n++) // element (in, head, c) is ours at (head · size + c, in)
        for (int c = 0; c < 3; c++)
            for (int in = 0; in < 4; in++) {
                CHECK(p[0].value[(n * 3 + c) * 6 + in] == q[in * 6 + n * 3 + c]);
                CHECK(p[1].value[(n * 3 + c) * 4 + in] == k[in * 6 + n * 3 + c]);
            }
    CHECK(p[2].value[9 * 4 + 3] == v[3 * 10 + 9] && p[5].value[9] == vb[9]);
    CHECK_STRING(p[6].name, "output_weight"); // (7, 10) of (2, 5, 7)
    CHECK(p[6].value[3 * 10 + 8] == o[8 * 7 + 3] && p[7].value[6] == ob[6]);
    keras.output_kernel = back;
    CHECK_INT(hone_multi_head_attention_to_keras(layer, HONE_WEIGHTS, &keras), HONE_OK);
    CHECK(memcmp(o, back, sizeof o) == 0);
    keras.value_bias = NULL;
    REFUSED(hone_multi_head_attention_to_keras(layer, HONE_WEIGHTS, &keras), HONE_ERROR_ARGUMENT,
            "value_bias is NULL, and the layer has value_bias");
    REFUSED(hone_multi_head_attention_to_keras(layer, (HoneArrays)2, &keras), HONE_ERROR_ARGUMENT,
            "which is 2");
    REFUSED(hone_multi_head_attention_to_keras(layer, HONE_WEIGHTS, NULL), HONE_ERROR_ARGUMENT,
            "arrays is NULL");
    hone_multi_head_attention_free(layer);
    hone_context_free(context);
}

// ---- additive attention ------------------------------------------------------------------------

enum { B = 2, T = 5, S = 7, U = 6, E = 3, ARRAYS = 4 };

// Σ d_o · o of the layer's formula in f64, top-left causal, with a boolean mask (B, S).
static double additive_loss(double *const x[ARRAYS], const uint8_t *mask, const double *d_o,
                            bool causal, double *o) {
    double loss = 0;
    for (int row = 0; row < B * T; row++) {
        double weight[S], sum = 0, out[E] = {0};
        for (int j = 0; j < S; j++) {
            double s = 0;
            for (int u = 0; u < U; u++)
                s += x[3][u] * tanh(x[0][row * U + u] + x[1][(row / T * S + j) * U + u]);
            bool seen = mask[row / T * S + j] && (!causal || j <= row % T);
            sum += weight[j] = seen ? exp(s) : 0;
        }
        for (int c = 0; c < E; c++) {
            for (int j = 0; j < S && sum > 0; j++)
                out[c] += weight[j] / sum * x[2][(row / T * S + j) * E + c];
            loss += out[c] * d_o[row * E + c];
            if (o) o[row * E + c] = out[c];
        }
    }
    return loss;
}

// Along a random direction in each input, and in all of them at once.
static void check_additive(bool scaled, bool causal) {
    const int64_t counts[ARRAYS] = {B * T * U, B * S * U, B * S * E, U};
    double *x[ARRAYS], *direction[ARRAYS], o[B * T * E], d_o[B * T * E];
    float *x32[ARRAYS], *gradient[ARRAYS], o32[B * T * E], d_o32[B * T * E];
    uint8_t mask[B * S];
    RandomStream random = hone_random_stream(4, RANDOM_TEST, 2);
    for (int i = 0; i < B * S; i++) mask[i] = i % 3 != 0 || i > S; // the first query sees nothing
    for (int i = 0; i < B * T * E; i++) d_o[i] = (double)(d_o32[i] = hone_random_normal(&random));
    for (int a = 0; a < ARRAYS; a++) {
        x[a] = doubles(counts[a]);
        direction[a] = doubles(counts[a]);
        x32[a] = floats(counts[a], 0);
        gradient[a] = floats(counts[a], 0);
        for (int64_t i = 0; i < counts[a]; i++) {
            x[a][i] = (double)(x32[a][i] = hone_random_normal(&random));
            if (a == 3 && !scaled) x[a][i] = 1;
            direction[a][i] = (double)hone_random_normal(&random);
        }
    }
    HoneContext *context = make_context();
    HoneAdditiveAttention *layer = NULL;
    HoneAdditiveAttentionOptions options = {
        .batch = B, .queries = T, .keys = S, .units = U, .value_size = E, .scaled = scaled};
    options.causal = causal ? HONE_CAUSAL_TOP_LEFT : HONE_CAUSAL_NONE;
    options.mask = (HoneMask){.type = HONE_MASK_BOOLEAN, .batch = S, .key = 1, .elements = B * S};
    CHECK_INT(hone_additive_attention_create(context, &options, &layer), HONE_OK);
    HoneAdditiveTensors t = {.q = x32[0], .k = x32[1], .v = x32[2], .mask = mask, .o = o32};
    t.d_o = d_o32;
    t.dq = gradient[0], t.dk = gradient[1], t.dv = gradient[2];
    if (scaled) t.scale = x32[3], t.d_scale = gradient[3];
    CHECK_INT(hone_additive_attention_forward(layer, &t), HONE_OK);
    CHECK_INT(hone_additive_attention_backward(layer, &t), HONE_OK);
    additive_loss(x, mask, d_o, causal, o);
    for (int i = 0; i < B * T * E; i++) CHECK_NEAR(o32[i], o[i], 2e-6, 2e-6);
    const double h = 1e-5;
    for (int a = 0; a < (scaled ? ARRAYS : 3); a++) {
        double slope = 0, size = 0;
        for (int64_t i = 0; i < counts[a]; i++) {
            slope += (double)gradient[a][i] * direction[a][i];
            size += fabs((double)gradient[a][i] * direction[a][i]);
            x[a][i] += h * direction[a][i];
        }
        double above = additive_loss(x, mask, d_o, causal, NULL);
        for (int64_t i = 0; i < counts[a]; i++) x[a][i] -= 2 * h * direction[a][i];
        double below = additive_loss(x, mask, d_o, causal, NULL);
        for (int64_t i = 0; i < counts[a]; i++) x[a][i] += h * direction[a][i];
        CHECK_NEAR(slope, (above - below) / (2 * h), 0, 1e-6 * size + 1e-7);
    }
    for (int a = 0; a < ARRAYS; a++) {
        hone_free(x[a]);
        hone_free(direction[a]);
        hone_free(x32[a]);
        hone_free(gradient[a]);
    }
    hone_additive_attention_free(layer);
    hone_context_free(context);
}

static void additive_attention_agrees(void) {
    for (int n = 0; n < 4; n++) check_additive(n & 1, n & 2);
}

// With values of the identity o is drop · p, and p is what comes out as weights: how many pairs are
// dropped, what the others weigh, and that forward again, and backward, drop the same.
static void additive_dropout_is_replayed(void) {
    enum { N = 64, PAIRS = 2 * N * N };
    HoneContext *context = make_context();
    HoneAdditiveAttention *layer = NULL;
    HoneAdditiveAttentionOptions options = {
        .batch = 2, .queries = N, .keys = N, .units = 3, .value_size = N};
    options.dropout = 0.25f;
    options.weights = true;
    CHECK_INT(hone_additive_attention_create(context, &options, &layer), HONE_OK);
    RandomStream random = hone_random_stream(6, RANDOM_TEST, 2);
    float *q = floats(2 * N * 3, 0), *k = floats(2 * N * 3, 0), *v = floats(PAIRS, 0);
    float *o[2] = {floats(PAIRS, 0), floats(PAIRS, 0)}, *weights = floats(PAIRS, 0);
    float *dq = floats(2 * N * 3, 0), *dk = floats(2 * N * 3, 0), *dv = floats(PAIRS, 0);
    for (int i = 0; i < 2 * N * 3; i++) q[i] = hone_random_normal(&random);
    for (int i = 0; i < 2 * N * 3; i++) k[i] = hone_random_normal(&random);
    for (int i = 0; i < PAIRS; i++) v[i] = i % N == i / N % N;
    HoneAdditiveTensors t = {.q = q, .k = k, .v = v, .weights = weights};
    t.seed = 5;
    for (int n = 0; n < 2; n++) {
        t.o = o[n];
        CHECK_INT(hone_additive_attention_forward(layer, &t), HONE_OK);
    }
    CHECK(memcmp(o[0], o[1], PAIRS * sizeof(float)) == 0);
    int64_t dropped = 0, odd = 0, equal = 0, across = 0;
    for (int i = 0; i < PAIRS; i++) {
        double factor = (double)o[0][i] / (double)weights[i];
        odd += factor != 0 && fabs(factor - 4.0 / 3) > 1e-6;
        dropped += factor == 0;
        across += (factor == 0) == (o[0][(i + N * N) % PAIRS] == 0); // the other of the batch
    }
    CHECK_INT(odd, 0);
    CHECK_NEAR((double)dropped / PAIRS, 0.25, 0, 5 * sqrt(0.25 * 0.75 / PAIRS));
    CHECK_NEAR((double)across / PAIRS, 0.625, 0, 0.03);
    float *d_o = floats(PAIRS, 1); // dv_j = Σ_i drop · p in each column
    t.d_o = d_o, t.dq = dq, t.dk = dk, t.dv = dv;
    CHECK_INT(hone_additive_attention_backward(layer, &t), HONE_OK);
    for (int row = 0; row < 2 * N; row++) {
        double sum = 0;
        for (int i = 0; i < N; i++) sum += (double)o[0][(row / N * N + i) * N + row % N];
        CHECK_NEAR(dv[row * N], sum, 5e-6, 2e-6);
    }
    t.seed = 6;
    CHECK_INT(hone_additive_attention_forward(layer, &t), HONE_OK);
    for (int i = 0; i < PAIRS; i++) equal += (o[0][i] == 0) == (o[1][i] == 0);
    CHECK_NEAR((double)equal / PAIRS, 0.625, 0, 0.03);
    float *arrays[] = {q, k, v, o[0], o[1], weights, dq, dk, dv, d_o};
    for (int i = 0; i < 10; i++) hone_free(arrays[i]);
    hone_additive_attention_free(layer);
    hone_context_free(context);
}

static void additive_arguments_are_checked(void) {
    HoneContext *context = make_context();
    HoneAdditiveAttention *layer = NULL;
    const HoneAdditiveAttentionOptions fine = {
        .batch = 1, .queries = 1, .keys = 1, .units = 1, .value_size = 1, .scaled = true};
    HoneAdditiveAttentionOptions o = fine;
    o.units = 0;
    REFUSED(hone_additive_attention_create(context, &o, &layer), HONE_ERROR_ARGUMENT, "units is 0");
    o = fine;
    o.value_size = -1;
    REFUSED(hone_additive_attention_create(context, &o, &layer), HONE_ERROR_ARGUMENT,
            "value_size is -1");
    o = fine;
    o.keys = -1;
    REFUSED(hone_additive_attention_create(context, &o, &layer), HONE_ERROR_ARGUMENT, "keys is -1");
    o = fine;
    o.mask = (HoneMask){HONE_MASK_FLOAT, 0, 2, 0, 0, 1, false};
    REFUSED(hone_additive_attention_create(context, &o, &layer), HONE_ERROR_ARGUMENT,
            "mask.head is 2");
    o = fine;
    o.dropout = 1;
    REFUSED(hone_additive_attention_create(context, &o, &layer), HONE_ERROR_ARGUMENT,
            "dropout is 1");
    o = fine;
    o.mask = (HoneMask){HONE_MASK_FLOAT, 0, 0, 0, 0, 1, true};
    REFUSED(hone_additive_attention_create(context, &o, &layer), HONE_ERROR_ARGUMENT,
            "mask.gradient is 1, want 0");
    o = fine;
    o.batch = INT32_MAX;
    o.queries = o.units = INT32_MAX;
    REFUSED(hone_additive_attention_create(context, &o, &layer), HONE_ERROR_ARGUMENT,
            "can be counted");
    CHECK(layer == NULL);
    CHECK_INT(hone_additive_attention_create(context, &fine, &layer), HONE_OK);
    float x[1] = {1}, y[4];
    HoneAdditiveTensors t = {.q = x, .k = x, .v = x, .scale = x, .o = y};
    REFUSED(hone_additive_attention_backward(layer, &t), HONE_ERROR_ARGUMENT, "before any forward");
    t.scale = NULL;
    REFUSED(hone_additive_attention_forward(layer, &t), HONE_ERROR_ARGUMENT, "scale is NULL");
    t.scale = t.mask = x;
    REFUSED(hone_additive_attention_forward(layer, &t), HONE_ERROR_ARGUMENT, "mask is given");
    t.mask = NULL;
    CHECK_INT(hone_additive_attention_forward(layer, &t), HONE_OK);
    REFUSED(hone_additive_attention_backward(layer, &t), HONE_ERROR_ARGUMENT, "d_o is NULL");
    t.o = x;
    REFUSED(hone_additive_attention_forward(layer, &t), HONE_ERROR_ARGUMENT,
            "additive attention: q and o share memory, and o is written");
    t = (HoneAdditiveTensors){x, x, x, x, NULL, 0, y, NULL, x, y + 1, y + 1, y + 2, y + 3};
    REFUSED(hone_additive_attention_backward(layer, &t), HONE_ERROR_ARGUMENT,
            "dq and dk share memory, and dk is written");
    hone_additive_attention_free(layer);
    hone_context_free(context);
}

// ---- wrong arguments ---------------------------------------------------------------------------

static void refuse(HoneContext *context, HoneMultiHeadAttentionOptions options, const char *part) {
    HoneMultiHeadAttention *layer = NULL;
    REFUSED(hone_multi_head_attention_create(context, &options, &layer), HONE_ERROR_ARGUMENT, part);
    CHECK(layer == NULL);
}

static void wrong_options_are_refused(void) {
    HoneContext *context = make_context();
    HoneMultiHeadAttentionOptions o = self;
    o.inputs = (HoneInputs)3;
    refuse(context, o, "inputs is 3");
    o = self;
    o.query_channels = 0;
    refuse(context, o, "query_channels is 0");
    o = self;
    o.output_channels = -1;
    refuse(context, o, "output_channels is -1");
    o = self;
    o.key_channels = 8;
    refuse(context, o, "key_channels is 8, value_channels is 6: they are the same input");
    o.value_channels = 8;
    refuse(context, o, "query_channels is 6, key_channels is 8");
    o = self;
    o.attention.keys = 3;
    refuse(context, o, "queries is 2, keys is 3: they are the same input");
    o = self;
    o.attention.kv_heads = 3;
    refuse(context, o, "kv_heads is 3, want 1…2");
    o = self;
    o.attention.element = HONE_ELEMENT_BF16;
    refuse(context, o, "the layer is f32");
    HoneSelfAttentionOptions simple = {.batch = 1, .length = 2, .channels = 3, .units = 257};
    HoneSelfAttention *layer = NULL;
    REFUSED(hone_self_attention_create(context, &simple, &layer), HONE_ERROR_ARGUMENT,
            "head_size is 257");
    simple.units = 4;
    simple.length = -1;
    REFUSED(hone_self_attention_create(context, &simple, &layer), HONE_ERROR_ARGUMENT,
            "queries is -1");
    hone_context_free(context);
}

static void wrong_arrays_are_refused(void) {
    HoneContext *context = make_context();
    HoneParameter p[HONE_MOST_PARAMETERS];
    HoneMultiHeadAttention *layer = make_layer(context, &self, p);
    float x[12] = {0}, y[12];
    HoneMultiHeadTensors t = {.query = x, .output = y};
    CHECK_INT(hone_multi_head_attention_forward(layer, &t), HONE_OK);
    REFUSED(hone_multi_head_attention_backward(layer, &t), HONE_ERROR_ARGUMENT, "d_output is NULL");
    t.d_output = x;
    t.d_key = y;
    REFUSED(hone_multi_head_attention_backward(layer, &t), HONE_ERROR_ARGUMENT, "d_key is given");
    t.key = x;
    REFUSED(hone_multi_head_attention_forward(layer, &t), HONE_ERROR_ARGUMENT,
            "key is given, and another input stands for it");
    t = (HoneMultiHeadTensors){.query = x};
    REFUSED(hone_multi_head_attention_forward(layer, &t), HONE_ERROR_ARGUMENT, "output is NULL");
    t = (HoneMultiHeadTensors){.query = x, .output = y, .weights = y};
    REFUSED(hone_multi_head_attention_forward(layer, &t), HONE_ERROR_ARGUMENT, "weights is given");
    REFUSED(hone_multi_head_attention_forward(layer, NULL), HONE_ERROR_ARGUMENT, "tensors is NULL");
    t = (HoneMultiHeadTensors){.query = x, .output = x};
    REFUSED(hone_multi_head_attention_forward(layer, &t), HONE_ERROR_ARGUMENT,
            "multi-head attention: query and output share memory, and output is written");
    t = (HoneMultiHeadTensors){.query = x, .output = y, .d_output = x, .d_query = y};
    REFUSED(hone_multi_head_attention_backward(layer, &t), HONE_ERROR_ARGUMENT,
            "output and d_query share memory, and d_query is written");
    hone_multi_head_attention_free(layer);
    hone_context_free(context);
}

// One array may take the gradients of several inputs that are one: they are added in turn.
static void gradients_of_inputs_may_be_one_array(void) {
    HoneContext *context = make_context();
    HoneParameter p[HONE_MOST_PARAMETERS];
    HoneMultiHeadAttentionOptions o = self;
    o.inputs = HONE_INPUTS_SEPARATE;
    HoneMultiHeadAttention *layer = make_layer(context, &o, p);
    float x[12], y[12], apart[3][12] = {{0}}, together[12] = {0};
    for (int i = 0; i < 12; i++) x[i] = 0.25f * (float)(i % 5) - 0.5f;
    HoneMultiHeadTensors t = {.query = x, .key = x, .value = x, .output = y};
    CHECK_INT(hone_multi_head_attention_forward(layer, &t), HONE_OK);
    t.d_output = x;
    t.d_query = apart[0];
    t.d_key = apart[1];
    t.d_value = apart[2];
    CHECK_INT(hone_multi_head_attention_backward(layer, &t), HONE_OK);
    t.d_query = t.d_key = t.d_value = together;
    CHECK_INT(hone_multi_head_attention_backward(layer, &t), HONE_OK);
    for (int i = 0; i < 12; i++) {
        double sum = (double)apart[0][i] + (double)apart[1][i] + (double)apart[2][i];
        CHECK(sum != 0 && fabs((double)together[i] - sum) <= 1e-6);
    }
    hone_multi_head_attention_free(layer);
    hone_context_free(context);
}

int main(void) {
    RUN(torch_weights_come_and_go);
    RUN(keras_weights_come_and_go);
    RUN(additive_attention_agrees);
    RUN(additive_dropout_is_replayed);
    RUN(additive_arguments_are_checked);
    RUN(wrong_options_are_refused);
    RUN(wrong_arrays_are_refused);
    RUN(gradients_of_inputs_may_be_one_array);
    return check_report();
}
