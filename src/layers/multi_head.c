// SPDX-License-Identifier: Apache-2.0
// Multi-head attention with its projections (Vaswani et al.: Attention is all you need, 2017):
// weights, memory and the two passes.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "layers/attention_plan.h"
#include "layers/projected.h"

enum { QUERY, KEY, VALUE, INPUTS };

// ---- options -----------------------------------------------------------------------------------

static hone_status check_channels(const char *name, int64_t channels, HoneError *err) {
    if (channels >= 1 && channels <= INT32_MAX) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "multi-head attention: %s is %" PRId64 ", want 1…%d",
                     name, channels, INT32_MAX);
}

static hone_status refuse_shared(const char *first, int64_t a, const char *second, int64_t b,
                                 HoneError *err) {
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "multi-head attention: %s is %" PRId64 ", %s is %" PRId64
                     ": they are the same input",
                     first, a, second, b);
}

static hone_status complete(HoneMultiHeadAttentionOptions *o, HoneError *err) {
    if ((unsigned)o->inputs > HONE_INPUTS_SEPARATE)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "multi-head attention: inputs is %d, want HONE_INPUTS_SELF, _CROSS or "
                         "_SEPARATE",
                         (int)o->inputs);
    if (o->attention.element != HONE_ELEMENT_F32)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "multi-head attention: attention.element is %d, the layer is f32",
                         (int)o->attention.element);
    if (o->attention.kv_heads == 0) o->attention.kv_heads = o->attention.heads;
    if (o->attention.value_size == 0) o->attention.value_size = o->attention.head_size;
    if (o->key_channels == 0) o->key_channels = o->query_channels;
    if (o->value_channels == 0)
        o->value_channels = o->inputs == HONE_INPUTS_CROSS ? o->key_channels : o->query_channels;
    if (o->output_channels == 0) o->output_channels = o->query_channels;
    RETURN_IF_ERROR(check_channels("query_channels", o->query_channels, err));
    RETURN_IF_ERROR(check_channels("key_channels", o->key_channels, err));
    RETURN_IF_ERROR(check_channels("value_channels", o->value_channels, err));
    RETURN_IF_ERROR(check_channels("output_channels", o->output_channels, err));
    if (o->inputs != HONE_INPUTS_SEPARATE && o->value_channels != o->key_channels)
        return refuse_shared("key_channels", o->key_channels, "value_channels", o->value_channels,
                             err);
    if (o->inputs == HONE_INPUTS_SELF && o->key_channels != o->query_channels)
        return refuse_shared("query_channels", o->query_channels, "key_channels", o->key_channels,
                             err);
    if (o->inputs == HONE_INPUTS_SELF && o->attention.queries != o->attention.keys)
        return refuse_shared("queries", o->attention.queries, "keys", o->attention.keys, err);
    // Every matrix of a call can be counted in bytes: the largest with rows and columns at most
    // these.
    int64_t widest = o->query_channels, longest = o->attention.queries, largest;
    if (o->key_channels > widest) widest = o->key_channels;
    if (o->value_channels > widest) widest = o->value_channels;
    if (o->output_channels > widest) widest = o->output_channels;
    if (o->attention.keys > longest) longest = o->attention.keys;
    if (__builtin_mul_overflow(o->attention.batch * longest, widest, &largest) ||
        largest > INT64_MAX / 64)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "multi-head attention: batch %" PRId64 ", length %" PRId64 ", %" PRId64
                         " channels hold more values than can be counted",
                         o->attention.batch, longest, widest);
    return HONE_OK;
}

// ---- memory ------------------------------------------------------------------------------------

// Hands out pieces of one block; with base NULL it only measures.
typedef struct Cursor {
    float *base;
    int64_t used;
} Cursor;

static float *take(Cursor *cursor, int64_t count, int64_t unit) {
    cursor->used = (cursor->used + unit - 1) / unit * unit;
    float *piece = cursor->base ? cursor->base + cursor->used : NULL;
    cursor->used += count;
    return piece;
}

static void add_parameter(HoneMultiHeadAttention *layer, const char *name, int64_t rows,
                          int64_t columns, Cursor *cursor) {
    HoneParameter *p = &layer->parameters[layer->parameter_count++];
    // Without gaps, so that what lies behind one another is one matrix.
    int64_t count = rows * (columns ? columns : 1);
    float *value = take(cursor, count, 1);
    *p = (HoneParameter){.name = name,
                         .value = value,
                         .gradient = value ? layer->gradients + (value - layer->weights) : NULL,
                         .rank = columns ? 2 : 1,
                         .shape = {rows, columns},
                         .count = count};
}

static int64_t projected_size(const HoneAttentionOptions *o, int input) {
    if (input == QUERY) return (int64_t)o->heads * o->head_size;
    return (int64_t)o->kv_heads * (input == KEY ? o->head_size : o->value_size);
}

// Floats of all parameters.
static int64_t lay_out_parameters(HoneMultiHeadAttention *layer) {
    const HoneMultiHeadAttentionOptions *o = &layer->options;
    static const char *const weights[] = {"query_weight", "key_weight", "value_weight"};
    static const char *const biases[] = {"query_bias", "key_bias", "value_bias"};
    const int64_t channels[] = {o->query_channels, o->key_channels, o->value_channels};
    const int64_t heads_width = (int64_t)o->attention.heads * o->attention.value_size;
    Cursor cursor = {layer->weights, 0};
    layer->parameter_count = 0;
    for (int i = 0; i < INPUTS; i++)
        add_parameter(layer, weights[i], projected_size(&o->attention, i), channels[i], &cursor);
    for (int i = 0; i < INPUTS && o->input_bias; i++)
        add_parameter(layer, biases[i], projected_size(&o->attention, i), 0, &cursor);
    if (layer->projects_output) {
        add_parameter(layer, "output_weight", o->output_channels, heads_width, &cursor);
        if (o->output_bias) add_parameter(layer, "output_bias", o->output_channels, 0, &cursor);
    }
    if (o->attention.sinks) add_parameter(layer, "sinks", o->attention.heads, 0, &cursor);
    return cursor.used;
}

const HoneParameter *hone_layer_parameter(const HoneMultiHeadAttention *layer, const char *name) {
    for (int i = 0; i < layer->parameter_count; i++)
        if (strcmp(layer->parameters[i].name, name) == 0) return &layer->parameters[i];
    return NULL;
}

// One product for each input that differs: its columns are the projections that read it.
static void group_inputs(HoneMultiHeadAttention *layer) {
    const HoneMultiHeadAttentionOptions *o = &layer->options;
    const int first_of[] = {
        [HONE_INPUTS_SELF] = QUERY, [HONE_INPUTS_CROSS] = KEY, [HONE_INPUTS_SEPARATE] = VALUE};
    const int last_own = first_of[o->inputs]; // those after it read its input
    const int64_t length[] = {o->attention.queries, o->attention.keys, o->attention.keys};
    layer->input_count = last_own + 1;
    for (int i = 0; i < INPUTS; i++) {
        const HoneParameter *weight = &layer->parameters[i];
        const HoneParameter *bias = o->input_bias ? &layer->parameters[INPUTS + i] : NULL;
        Projection *p = &layer->inputs[i < last_own ? i : last_own];
        if (i <= last_own)
            *p = (Projection){.input = i,
                              .rows = o->attention.batch * length[i],
                              .channels = weight->shape[1],
                              .weight = weight->value,
                              .d_weight = weight->gradient,
                              .bias = bias ? bias->value : NULL,
                              .d_bias = bias ? bias->gradient : NULL};
        p->columns += weight->shape[0];
    }
    const HoneParameter *weight = hone_layer_parameter(layer, "output_weight"),
                        *bias = hone_layer_parameter(layer, "output_bias");
    if (weight)
        layer->output = (Projection){.rows = o->attention.batch * o->attention.queries,
                                     .channels = weight->shape[1],
                                     .columns = weight->shape[0],
                                     .weight = weight->value,
                                     .d_weight = weight->gradient,
                                     .bias = bias ? bias->value : NULL,
                                     .d_bias = bias ? bias->gradient : NULL};
}

// Floats of all that a forward keeps for its backward, and of the gradients between them.
static int64_t lay_out_activations(HoneMultiHeadAttention *layer) {
    const HoneAttentionOptions *o = &layer->options.attention;
    enum { LINE = 16 };
    Cursor cursor = {layer->activations, 0};
    for (int i = 0; i < layer->input_count; i++) {
        Projection *p = &layer->inputs[i];
        p->y = take(&cursor, p->rows * p->columns, LINE);
        p->dy = o->forward_only ? NULL : take(&cursor, p->rows * p->columns, LINE);
    }
    int64_t rows = o->batch * o->queries, width = (int64_t)o->heads * o->value_size;
    HoneAttentionTensors *t = &layer->tensors;
    if (layer->projects_output) {
        t->o = hone_view(take(&cursor, rows * width, LINE), o->queries, o->heads, o->value_size);
        layer->d_o = o->forward_only ? NULL : take(&cursor, rows * width, LINE);
        t->d_o = hone_const_view(layer->d_o, o->queries, o->heads, o->value_size);
    }
    t->lse = take(&cursor, rows * o->heads, LINE);
    // q, k and v as columns of the products.
    HoneConstView *views[INPUTS] = {&t->q, &t->k, &t->v};
    HoneView *gradients[INPUTS] = {&t->dq, &t->dk, &t->dv};
    int64_t column = 0;
    for (int i = 0; i < INPUTS; i++) {
        bool own = i < layer->input_count;
        const Projection *p = &layer->inputs[own ? i : layer->input_count - 1];
        if (own) column = 0;
        int64_t length = i == QUERY ? o->queries : o->keys;
        int64_t head = i == VALUE ? o->value_size : o->head_size;
        float *y = p->y ? p->y + column : NULL, *dy = p->dy ? p->dy + column : NULL;
        *views[i] = (HoneConstView){y, length * p->columns, p->columns, head};
        *gradients[i] = (HoneView){dy, length * p->columns, p->columns, head};
        column += projected_size(o, i);
    }
    return cursor.used;
}

static hone_status allocate(void **memory, int64_t count, const char *what, HoneError *err) {
    *memory = hone_calloc((size_t)count, sizeof(float));
    return *memory ? HONE_OK : hone_fail_memory(err, (size_t)count * sizeof(float), what);
}

// Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010.
static void initialise(HoneMultiHeadAttention *layer) {
    for (int i = 0; i < layer->parameter_count; i++) {
        const HoneParameter *p = &layer->parameters[i];
        if (p->rank != 2) continue;
        RandomStream random = hone_random_stream(layer->options.seed, RANDOM_INITIAL, (uint64_t)i);
        float limit = sqrtf(6.0f / (float)(p->shape[0] + p->shape[1]));
        for (int64_t n = 0; n < p->count; n++)
            p->value[n] = limit * (2 * hone_random_uniform(&random) - 1);
    }
}

static hone_status build(HoneMultiHeadAttention *layer, HoneError *err) {
    RETURN_IF_ERROR(
        hone_attention_create(layer->context, &layer->options.attention, &layer->attention));
    layer->attention->args.overwrites = true; // the projections' gradients begin with it
    RETURN_IF_ERROR(complete(&layer->options, err));
    void *memory;
    int64_t count = lay_out_parameters(layer);
    RETURN_IF_ERROR(allocate(&memory, count, "the layer's weights", err));
    layer->weights = memory;
    RETURN_IF_ERROR(allocate(&memory, count, "the layer's gradients", err));
    layer->gradients = memory;
    lay_out_parameters(layer);
    group_inputs(layer);
    RETURN_IF_ERROR(allocate(&memory, lay_out_activations(layer), "the layer's activations", err));
    layer->activations = memory;
    lay_out_activations(layer);
    const KernelContext *kc = &layer->context->kernels;
    size_t bytes = layer->projects_output ? hone_projection_scratch(kc, &layer->output) : 0;
    for (int i = 0; i < layer->input_count; i++) {
        size_t needed = hone_projection_scratch(kc, &layer->inputs[i]);
        if (needed > bytes) bytes = needed;
    }
    layer->chunks = hone_chunks_of(layer);
    if (layer->chunks > 0) {
        layer->chunk_bytes = hone_chunk_scratch(layer);
        size_t all = layer->chunk_bytes * (size_t)hone_pool_threads(layer->context->pool);
        if (all > bytes) bytes = all;
    }
    layer->scratch = hone_alloc(bytes);
    if (!layer->scratch) return hone_fail_memory(err, bytes, "the layer's scratch");
    initialise(layer);
    return HONE_OK;
}

hone_status hone_projected_create(HoneContext *context,
                                  const HoneMultiHeadAttentionOptions *options,
                                  bool projects_output, HoneMultiHeadAttention **layer) {
    HoneError *err = hone_begin(context);
    HoneMultiHeadAttention *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "the layer");
    made->context = context;
    made->options = *options;
    made->projects_output = projects_output;
    hone_status status = build(made, err);
    if (status != HONE_OK) {
        hone_multi_head_attention_free(made);
        return status;
    }
    *layer = made;
    return HONE_OK;
}

hone_status hone_multi_head_attention_create(HoneContext *context,
                                             const HoneMultiHeadAttentionOptions *options,
                                             HoneMultiHeadAttention **layer) {
    if (layer) *layer = NULL;
    if (!context || !context->kernels.table) return HONE_ERROR_ARGUMENT;
    if (!options || !layer)
        return hone_fail(hone_begin(context), HONE_ERROR_ARGUMENT,
                         "multi-head attention: %s is NULL",
                         options ? "the place for the layer" : "options");
    return hone_projected_create(context, options, true, layer);
}

void hone_multi_head_attention_free(HoneMultiHeadAttention *layer) {
    if (!layer) return;
    hone_attention_free(layer->attention);
    hone_free(layer->weights);
    hone_free(layer->gradients);
    hone_free(layer->activations);
    hone_free(layer->scratch);
    hone_free(layer);
}

void hone_multi_head_attention_info(const HoneMultiHeadAttention *layer, HoneAttentionInfo *info) {
    hone_attention_info(layer->attention, info);
}

int hone_multi_head_attention_parameters(const HoneMultiHeadAttention *layer,
                                         HoneParameter parameters[HONE_MOST_PARAMETERS]) {
    for (int i = 0; i < layer->parameter_count; i++) parameters[i] = layer->parameters[i];
    return layer->parameter_count;
}

void hone_clear_gradients(const HoneParameter *parameters, int count) {
    for (int i = 0; i < count; i++)
        memset(parameters[i].gradient, 0, (size_t)parameters[i].count * sizeof(float));
}
