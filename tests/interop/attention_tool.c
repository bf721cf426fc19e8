// SPDX-License-Identifier: Apache-2.0
// Attention for tests/interop, arrays in and arrays out (safetensors):
//   attention_tool attend|torch|keras|additive|one_head IN OUT [KEY=NUMBER…]
// attend: q, k, v, d_o (batch, rows, heads, size), f32 or bf16; mask (4 axes, 1 where it is the
// same;
//   bool or f32), slopes, sinks where wanted. Gives o, lse, dq, dk, dv, and what was asked for.
// torch, keras: the layer's arrays by their names there; query, key, value, d_output, mask. Gives
//   output, d_query, …, the gradients as "gradient.NAME", and the weights again as "weight.NAME".
// additive: q, k, v, scale, d_o, mask. Gives o, dq, dk, dv, d_scale.
// one_head: x, dy and the layer's parameters. Gives y, dx, the gradients as "gradient.NAME".
#include <hone/hone.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/safetensors.h"

enum { MOST_OUTPUTS = 64 };

typedef struct Tool {
    SafeTensorsFile in;
    SafeTensorEntry out[MOST_OUTPUTS];
    int outputs, argc;
    char **argv;
    HoneContext *context;
} Tool;

static _Noreturn void stop(const char *what, const char *name) {
    fprintf(stderr, "attention_tool: %s %s\n", what, name);
    exit(1);
}

static void check(const Tool *tool, hone_status status) {
    if (status != HONE_OK) stop(hone_status_name(status), hone_context_error(tool->context));
}

static double option(const Tool *tool, const char *key, double missing) {
    size_t length = strlen(key);
    for (int i = 4; i < tool->argc; i++)
        if (strncmp(tool->argv[i], key, length) == 0 && tool->argv[i][length] == '=')
            return atof(tool->argv[i] + length + 1);
    return missing;
}

static const SafeTensor *find(const Tool *tool, const char *name) {
    return hone_safetensors_find(&tool->in, name);
}

static const SafeTensor *need(const Tool *tool, const char *name) {
    const SafeTensor *tensor = find(tool, name);
    if (!tensor) stop("there is no", name);
    return tensor;
}

static const float *data_of(const Tool *tool, const char *name) {
    const SafeTensor *tensor = find(tool, name);
    return tensor ? tensor->data : NULL;
}

// An array of zeros that is written to OUT. like: its shape is that tensor's.
static void *add(Tool *tool, const char *name, int dtype, int rank, const int64_t *shape) {
    if (tool->outputs == MOST_OUTPUTS) stop("too many outputs at", name);
    SafeTensorEntry *entry = &tool->out[tool->outputs++];
    *entry = (SafeTensorEntry){.name = name, .dtype = dtype, .rank = rank};
    size_t count = 1;
    for (int i = 0; i < rank; i++) count *= (size_t)(entry->shape[i] = shape[i]);
    void *data = hone_calloc(count, sizeof(float));
    entry->data = data;
    return data;
}

static float *add_like(Tool *tool, const char *name, const char *like) {
    const SafeTensor *tensor = find(tool, like);
    return tensor ? add(tool, name, HONE_F32, tensor->rank, tensor->shape) : NULL;
}

// Strides of a contiguous (b, h, i, j), 0 along axes of 1.
static HoneMask mask_of(const Tool *tool) {
    const SafeTensor *tensor = find(tool, "mask");
    if (!tensor) return (HoneMask){0};
    const int64_t *shape = tensor->shape;
    int64_t strides[4], step = 1;
    for (int axis = 3; axis >= 0; axis--) {
        strides[axis] = shape[axis] == 1 ? 0 : step;
        step *= shape[axis];
    }
    bool boolean = strcmp(tensor->type_name, "BOOL") == 0;
    return (HoneMask){.type = boolean ? HONE_MASK_BOOLEAN : HONE_MASK_FLOAT,
                      .batch = strides[0],
                      .head = strides[1],
                      .query = strides[2],
                      .key = strides[3],
                      .elements = step,
                      .gradient = !boolean && option(tool, "mask_gradient", 0) > 0};
}

static HoneAttentionOptions options_of(const Tool *tool) {
    return (HoneAttentionOptions){.scale = (float)option(tool, "scale", 0),
                                  .causal = (HoneCausal)option(tool, "causal", 0),
                                  .window = (int64_t)option(tool, "window", 0),
                                  .mask = mask_of(tool),
                                  .slopes = data_of(tool, "slopes"),
                                  .softcap = (float)option(tool, "softcap", 0),
                                  .sinks = find(tool, "sinks") != NULL,
                                  .dropout = (float)option(tool, "dropout", 0),
                                  .weights = option(tool, "weights", 0) > 0};
}

// ---- the operator ------------------------------------------------------------------------------

static void attend(Tool *tool) {
    const SafeTensor *q = need(tool, "q"), *k = need(tool, "k"), *v = need(tool, "v");
    const int64_t B = q->shape[0], Q = q->shape[1], H = q->shape[2], D = q->shape[3];
    const int64_t K = k->shape[1], G = k->shape[2], E = v->shape[3];
    HoneAttentionOptions options = options_of(tool);
    options.batch = B;
    options.queries = Q;
    options.keys = K;
    options.heads = (int)H;
    options.kv_heads = (int)G;
    options.head_size = (int)D;
    options.value_size = (int)E;
    options.element = q->dtype == HONE_BF16 ? HONE_ELEMENT_BF16 : HONE_ELEMENT_F32;
    HoneAttention *attention = NULL;
    check(tool, hone_attention_create(tool->context, &options, &attention));
    const int64_t rows[3] = {B, H, Q}, pairs[4] = {B, H, Q, K}, out[4] = {B, Q, H, E};
    HoneAttentionTensors t = {
        .q = hone_const_view(q->data, Q, H, D),
        .k = hone_const_view(k->data, K, G, D),
        .v = hone_const_view(v->data, K, G, E),
        .o = hone_view(add(tool, "o", q->dtype, 4, out), Q, H, E),
        .lse = add(tool, "lse", HONE_F32, 3, rows),
        .mask = data_of(tool, "mask"),
        .sinks = data_of(tool, "sinks"),
        .seed = (uint64_t)option(tool, "seed", 0),
        .weights = options.weights ? add(tool, "weights", HONE_F32, 4, pairs) : NULL,
        .d_o = hone_const_view(need(tool, "d_o")->data, Q, H, E),
        .dq = hone_view(add_like(tool, "dq", "q"), Q, H, D),
        .dk = hone_view(add_like(tool, "dk", "k"), K, G, D),
        .dv = hone_view(add_like(tool, "dv", "v"), K, G, E),
        .d_mask = options.mask.gradient ? add_like(tool, "d_mask", "mask") : NULL,
        .d_sinks = add_like(tool, "d_sinks", "sinks"),
    };
    check(tool, hone_attend(attention, &t));
    check(tool, hone_attend_backward(attention, &t));
    hone_attention_free(attention);
}

// ---- layers ------------------------------------------------------------------------------------

// The arrays of another library, from IN or, under another name, made for OUT.
typedef float *(*ArrayOf)(Tool *tool, const char *prefix, const char *name);

static float *given(Tool *tool, const char *prefix, const char *name) {
    (void)prefix;
    return (float *)(uintptr_t)data_of(tool, name); // only read
}

static float *made(Tool *tool, const char *prefix, const char *name) {
    if (!find(tool, name)) return NULL;
    size_t length = strlen(prefix) + strlen(name) + 2;
    char *full = hone_alloc(length);
    snprintf(full, length, "%s.%s", prefix, name);
    return add_like(tool, full, name);
}

static HoneTorchAttention torch_arrays(Tool *tool, ArrayOf of, const char *prefix) {
    return (HoneTorchAttention){.in_proj_weight = of(tool, prefix, "in_proj_weight"),
                                .q_proj_weight = of(tool, prefix, "q_proj_weight"),
                                .k_proj_weight = of(tool, prefix, "k_proj_weight"),
                                .v_proj_weight = of(tool, prefix, "v_proj_weight"),
                                .in_proj_bias = of(tool, prefix, "in_proj_bias"),
                                .out_proj_weight = of(tool, prefix, "out_proj.weight"),
                                .out_proj_bias = of(tool, prefix, "out_proj.bias")};
}

static HoneKerasAttention keras_arrays(Tool *tool, ArrayOf of, const char *prefix) {
    return (HoneKerasAttention){.query_kernel = of(tool, prefix, "query/kernel"),
                                .query_bias = of(tool, prefix, "query/bias"),
                                .key_kernel = of(tool, prefix, "key/kernel"),
                                .key_bias = of(tool, prefix, "key/bias"),
                                .value_kernel = of(tool, prefix, "value/kernel"),
                                .value_bias = of(tool, prefix, "value/bias"),
                                .output_kernel = of(tool, prefix, "attention_output/kernel"),
                                .output_bias = of(tool, prefix, "attention_output/bias")};
}

static void exchange(Tool *tool, HoneMultiHeadAttention *layer, bool keras) {
    if (keras) {
        HoneKerasAttention weights = keras_arrays(tool, made, "weight");
        HoneKerasAttention gradients = keras_arrays(tool, made, "gradient");
        check(tool, hone_multi_head_attention_to_keras(layer, HONE_WEIGHTS, &weights));
        check(tool, hone_multi_head_attention_to_keras(layer, HONE_GRADIENTS, &gradients));
    } else {
        HoneTorchAttention weights = torch_arrays(tool, made, "weight");
        HoneTorchAttention gradients = torch_arrays(tool, made, "gradient");
        check(tool, hone_multi_head_attention_to_torch(layer, HONE_WEIGHTS, &weights));
        check(tool, hone_multi_head_attention_to_torch(layer, HONE_GRADIENTS, &gradients));
    }
}

// heads, kv_heads, head_size and value_size are options; what inputs there are is seen.
static void multi_head(Tool *tool, bool keras) {
    const SafeTensor *query = need(tool, "query"), *key = find(tool, "key");
    const SafeTensor *value = find(tool, "value"), *d_output = need(tool, "d_output");
    HoneMultiHeadAttentionOptions options = {.attention = options_of(tool)};
    options.attention.batch = query->shape[0];
    options.attention.queries = query->shape[1];
    options.attention.keys = key ? key->shape[1] : query->shape[1];
    options.attention.heads = (int)option(tool, "heads", 1);
    options.attention.kv_heads = (int)option(tool, "kv_heads", 0);
    options.attention.head_size = (int)option(tool, "head_size", 1);
    options.attention.value_size = (int)option(tool, "value_size", 0);
    options.inputs = value ? HONE_INPUTS_SEPARATE : key ? HONE_INPUTS_CROSS : HONE_INPUTS_SELF;
    options.query_channels = query->shape[2];
    options.key_channels = key ? key->shape[2] : 0;
    options.value_channels = value ? value->shape[2] : 0;
    options.output_channels = d_output->shape[2];
    options.input_bias = find(tool, keras ? "query/bias" : "in_proj_bias") != NULL;
    options.output_bias = find(tool, keras ? "attention_output/bias" : "out_proj.bias") != NULL;
    HoneMultiHeadAttention *layer = NULL;
    check(tool, hone_multi_head_attention_create(tool->context, &options, &layer));
    const HoneTorchAttention torch = torch_arrays(tool, given, "");
    const HoneKerasAttention keras_given = keras_arrays(tool, given, "");
    check(tool, keras ? hone_multi_head_attention_from_keras(layer, HONE_WEIGHTS, &keras_given)
                      : hone_multi_head_attention_from_torch(layer, HONE_WEIGHTS, &torch));
    const int64_t pairs[4] = {options.attention.batch, options.attention.heads,
                              options.attention.queries, options.attention.keys};
    HoneMultiHeadTensors t = {
        .query = query->data,
        .key = key ? key->data : NULL,
        .value = value ? value->data : NULL,
        .output = add_like(tool, "output", "d_output"),
        .mask = data_of(tool, "mask"),
        .seed = (uint64_t)option(tool, "seed", 0),
        .weights = options.attention.weights ? add(tool, "weights", HONE_F32, 4, pairs) : NULL,
        .d_output = d_output->data,
        .d_query = add_like(tool, "d_query", "query"),
        .d_key = add_like(tool, "d_key", "key"),
        .d_value = add_like(tool, "d_value", "value"),
    };
    check(tool, hone_multi_head_attention_forward(layer, &t));
    check(tool, hone_multi_head_attention_backward(layer, &t));
    exchange(tool, layer, keras);
    hone_multi_head_attention_free(layer);
}

static void additive(Tool *tool) {
    const SafeTensor *q = need(tool, "q"), *k = need(tool, "k"), *v = need(tool, "v");
    HoneAdditiveAttentionOptions options = {.batch = q->shape[0],
                                            .queries = q->shape[1],
                                            .keys = k->shape[1],
                                            .units = q->shape[2],
                                            .value_size = v->shape[2],
                                            .scaled = find(tool, "scale") != NULL,
                                            .causal = (HoneCausal)option(tool, "causal", 0),
                                            .mask = mask_of(tool),
                                            .dropout = (float)option(tool, "dropout", 0)};
    HoneAdditiveAttention *layer = NULL;
    check(tool, hone_additive_attention_create(tool->context, &options, &layer));
    HoneAdditiveTensors t = {.q = q->data,
                             .k = k->data,
                             .v = v->data,
                             .scale = data_of(tool, "scale"),
                             .mask = data_of(tool, "mask"),
                             .seed = (uint64_t)option(tool, "seed", 0),
                             .o = add_like(tool, "o", "d_o"),
                             .d_o = need(tool, "d_o")->data,
                             .dq = add_like(tool, "dq", "q"),
                             .dk = add_like(tool, "dk", "k"),
                             .dv = add_like(tool, "dv", "v"),
                             .d_scale = add_like(tool, "d_scale", "scale")};
    check(tool, hone_additive_attention_forward(layer, &t));
    check(tool, hone_additive_attention_backward(layer, &t));
    hone_additive_attention_free(layer);
}

// The layer's parameters are given by their names, biases or not.
static void one_head(Tool *tool) {
    const SafeTensor *x = need(tool, "x"), *dy = need(tool, "dy");
    HoneSelfAttentionOptions options = {.batch = x->shape[0],
                                        .length = x->shape[1],
                                        .channels = x->shape[2],
                                        .units = (int)dy->shape[2],
                                        .bias = find(tool, "query_bias") != NULL,
                                        .unscaled = option(tool, "unscaled", 0) > 0,
                                        .causal = (HoneCausal)option(tool, "causal", 0)};
    HoneSelfAttention *layer = NULL;
    check(tool, hone_self_attention_create(tool->context, &options, &layer));
    HoneParameter parameters[HONE_MOST_PARAMETERS];
    int count = hone_self_attention_parameters(layer, parameters);
    for (int i = 0; i < count; i++)
        memcpy(parameters[i].value, need(tool, parameters[i].name)->data,
               (size_t)parameters[i].count * sizeof(float));
    float *y = add_like(tool, "y", "dy"), *dx = add_like(tool, "dx", "x");
    check(tool, hone_self_attention_forward(layer, x->data, y));
    check(tool, hone_self_attention_backward(layer, x->data, y, dy->data, dx));
    for (int i = 0; i < count; i++)
        memcpy(made(tool, "gradient", parameters[i].name), parameters[i].gradient,
               (size_t)parameters[i].count * sizeof(float));
    hone_self_attention_free(layer);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: attention_tool attend|torch|keras|additive|one_head IN OUT "
                        "[KEY=NUMBER…]\n");
        return 2;
    }
    Tool tool = {.argc = argc, .argv = argv};
    HoneError err = {0};
    if (hone_safetensors_open(argv[2], &tool.in, &err) != HONE_OK) stop(err.message, "");
    HoneContextOptions threads = {.threads = 2};
    check(&tool, hone_context_create(&threads, &tool.context));
    if (strcmp(argv[1], "attend") == 0)
        attend(&tool);
    else if (strcmp(argv[1], "additive") == 0)
        additive(&tool);
    else if (strcmp(argv[1], "one_head") == 0)
        one_head(&tool);
    else
        multi_head(&tool, strcmp(argv[1], "keras") == 0);
    if (hone_safetensors_write(argv[3], tool.out, tool.outputs, &err) != HONE_OK)
        stop(err.message, "");
    hone_safetensors_close(&tool.in);
    hone_context_free(tool.context);
    return 0;
}
