// SPDX-License-Identifier: Apache-2.0
// Forward and backward of attention between its projections.
#include "layers/arrays_apart.h"
#include "layers/projected.h"

enum { QUERY, KEY, VALUE, INPUTS };

static hone_status check_given(const char *name, const void *array, bool wanted, HoneError *err) {
    if (!array == !wanted) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     wanted ? "multi-head attention: %s is NULL"
                            : "multi-head attention: %s is given, and another input stands for it",
                     name);
}

static hone_status check_inputs(const HoneMultiHeadAttention *layer, const HoneMultiHeadTensors *t,
                                HoneError *err) {
    int own = layer->input_count;
    const HoneAttentionOptions *o = &layer->options.attention;
    // An empty array may be NULL, and is as good as given.
    bool queries = o->batch > 0 && o->queries > 0, keys = o->batch > 0 && o->keys > 0;
    if (queries || t->query) RETURN_IF_ERROR(check_given("query", t->query, true, err));
    if (keys || t->key) RETURN_IF_ERROR(check_given("key", t->key, own > KEY, err));
    if (keys || t->value) RETURN_IF_ERROR(check_given("value", t->value, own > VALUE, err));
    if (queries) RETURN_IF_ERROR(check_given("output", t->output, true, err));
    return HONE_OK;
}

// In a pass that the arrays of its gradients take part in, and in one that they do not.
static hone_status check_apart(const HoneMultiHeadAttention *layer, const HoneMultiHeadTensors *t,
                               bool backward, HoneError *err) {
    const HoneMultiHeadAttentionOptions *o = &layer->options;
    const HoneAttentionOptions *a = &o->attention;
    const int64_t queries = a->batch * a->queries, keys = a->batch * a->keys;
    const int64_t sizes[] = {queries * o->query_channels, keys * o->key_channels,
                             keys * o->value_channels};
    const int64_t out =
        queries * (layer->projects_output ? o->output_channels : (int64_t)a->heads * a->value_size);
    const PlainArray arrays[] = {
        {"query", t->query, sizes[QUERY], ARRAY_READ},
        {"key", t->key, sizes[KEY], ARRAY_READ},
        {"value", t->value, sizes[VALUE], ARRAY_READ},
        {"output", t->output, out, backward ? ARRAY_READ : ARRAY_WRITTEN},
        {"d_output", t->d_output, out, ARRAY_READ},
        {"d_query", t->d_query, sizes[QUERY], ARRAY_SUMMED},
        {"d_key", t->d_key, sizes[KEY], ARRAY_SUMMED},
        {"d_value", t->d_value, sizes[VALUE], ARRAY_SUMMED},
    };
    enum { FORWARD = 4, ALL = sizeof arrays / sizeof *arrays };
    return hone_check_arrays_apart("multi-head attention", arrays, backward ? ALL : FORWARD, err);
}

// A mask or weights that the options do not have are attention's to refuse.
static bool is_chunked(const HoneMultiHeadAttention *layer, const HoneMultiHeadTensors *t) {
    return layer->chunks > 0 && !t->mask && !t->weights && !t->d_mask;
}

// The attention's arrays of one call: the layer's own, and the caller's.
static HoneAttentionTensors attention_tensors(const HoneMultiHeadAttention *layer,
                                              const HoneMultiHeadTensors *t) {
    const HoneAttentionOptions *o = &layer->options.attention;
    HoneAttentionTensors tensors = layer->tensors;
    if (!layer->projects_output)
        tensors.o = hone_view(t->output, o->queries, o->heads, o->value_size);
    tensors.mask = t->mask;
    tensors.seed = t->seed;
    tensors.weights = t->weights;
    tensors.d_mask = t->d_mask;
    if (o->sinks) { // the last parameter
        tensors.sinks = layer->parameters[layer->parameter_count - 1].value;
        tensors.d_sinks = layer->parameters[layer->parameter_count - 1].gradient;
    }
    return tensors;
}

hone_status hone_multi_head_attention_forward(HoneMultiHeadAttention *layer,
                                              const HoneMultiHeadTensors *tensors) {
    if (!layer) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(layer->context);
    if (!tensors)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "multi-head attention: tensors is NULL");
    RETURN_IF_ERROR(check_inputs(layer, tensors, err));
    RETURN_IF_ERROR(check_apart(layer, tensors, false, err));
    HoneAttentionTensors arrays = attention_tensors(layer, tensors);
    if (is_chunked(layer, tensors)) {
        hone_run_chunks(layer, tensors, &arrays, false);
        layer->ran = true;
        return HONE_OK;
    }
    const float *const inputs[INPUTS] = {tensors->query, tensors->key, tensors->value};
    const KernelContext *kc = &layer->context->kernels;
    for (int i = 0; i < layer->input_count; i++) {
        const Projection *p = &layer->inputs[i];
        hone_project(kc, p, inputs[p->input], p->y, layer->scratch);
    }
    RETURN_IF_ERROR(hone_attend(layer->attention, &arrays));
    if (layer->projects_output)
        hone_project(kc, &layer->output, arrays.o.data, tensors->output, layer->scratch);
    layer->ran = true;
    return HONE_OK;
}

static hone_status check_gradients(const HoneMultiHeadAttention *layer,
                                   const HoneMultiHeadTensors *t, HoneError *err) {
    if (layer->options.attention.forward_only || !layer->ran)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "multi-head attention: backward %s",
                         layer->ran ? "of a layer made with forward_only" : "before any forward");
    if (layer->output.rows > 0 || layer->inputs[0].rows > 0)
        RETURN_IF_ERROR(check_given("d_output", t->d_output, true, err));
    if (t->d_key) RETURN_IF_ERROR(check_given("d_key", t->d_key, layer->input_count > KEY, err));
    if (t->d_value)
        RETURN_IF_ERROR(check_given("d_value", t->d_value, layer->input_count > VALUE, err));
    return HONE_OK;
}

hone_status hone_multi_head_attention_backward(HoneMultiHeadAttention *layer,
                                               const HoneMultiHeadTensors *tensors) {
    if (!layer) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(layer->context);
    const HoneMultiHeadTensors *t = tensors;
    if (!t) return hone_fail(err, HONE_ERROR_ARGUMENT, "multi-head attention: tensors is NULL");
    RETURN_IF_ERROR(check_gradients(layer, t, err));
    RETURN_IF_ERROR(check_inputs(layer, t, err));
    RETURN_IF_ERROR(check_apart(layer, t, true, err));
    const KernelContext *kc = &layer->context->kernels;
    const HoneAttentionOptions *o = &layer->options.attention;
    HoneAttentionTensors arrays = attention_tensors(layer, t);
    if (!layer->projects_output)
        arrays.d_o = hone_const_view(t->d_output, o->queries, o->heads, o->value_size);
    if (is_chunked(layer, t)) {
        hone_run_chunks(layer, t, &arrays, true);
        return HONE_OK;
    }
    const Projection *out = &layer->output;
    if (layer->projects_output) {
        hone_project_to_weight(kc, out, arrays.o.data, t->d_output, layer->scratch);
        hone_project_to_input(kc, out, t->d_output, false, layer->d_o, layer->scratch);
    }
    RETURN_IF_ERROR(hone_attend_backward(layer->attention, &arrays));
    const float *const inputs[INPUTS] = {t->query, t->key, t->value};
    float *const gradients[INPUTS] = {t->d_query, t->d_key, t->d_value};
    for (int i = 0; i < layer->input_count; i++) {
        const Projection *p = &layer->inputs[i];
        hone_project_to_weight(kc, p, inputs[p->input], p->dy, layer->scratch);
        float *dx = gradients[p->input];
        if (dx) hone_project_to_input(kc, p, p->dy, true, dx, layer->scratch);
    }
    return HONE_OK;
}
