// SPDX-License-Identifier: Apache-2.0
// The simple layer: one head, three projections made by one product, no output projection. What is
// written by attention is the caller's y.
#include "layers/projected.h"

struct HoneSelfAttention {
    HoneMultiHeadAttention *inner;
};

hone_status hone_self_attention_create(HoneContext *context,
                                       const HoneSelfAttentionOptions *options,
                                       HoneSelfAttention **layer) {
    if (layer) *layer = NULL;
    if (!context || !context->kernels.table) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(context);
    if (!options || !layer)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "self-attention: %s is NULL",
                         options ? "the place for the layer" : "options");
    HoneSelfAttention *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "the layer");
    const HoneMultiHeadAttentionOptions whole = {
        .attention = {.batch = options->batch,
                      .queries = options->length,
                      .keys = options->length,
                      .heads = 1,
                      .head_size = options->units,
                      .scale = options->unscaled ? 1.0f : 0.0f,
                      .causal = options->causal},
        .inputs = HONE_INPUTS_SELF,
        .query_channels = options->channels,
        .input_bias = options->bias,
        .seed = options->seed,
    };
    hone_status status = hone_projected_create(context, &whole, false, &made->inner);
    if (status != HONE_OK) {
        hone_free(made);
        return status;
    }
    *layer = made;
    return HONE_OK;
}

void hone_self_attention_free(HoneSelfAttention *layer) {
    if (!layer) return;
    hone_multi_head_attention_free(layer->inner);
    hone_free(layer);
}

hone_status hone_self_attention_forward(HoneSelfAttention *layer, const float *x, float *y) {
    if (!layer) return HONE_ERROR_ARGUMENT;
    const HoneMultiHeadTensors tensors = {.query = x, .output = y};
    return hone_multi_head_attention_forward(layer->inner, &tensors);
}

hone_status hone_self_attention_backward(HoneSelfAttention *layer, const float *x, const float *y,
                                         const float *dy, float *dx) {
    if (!layer) return HONE_ERROR_ARGUMENT;
    const HoneMultiHeadTensors tensors = {.query = x,
                                          .output = (float *)(uintptr_t)y, // read by backward
                                          .d_output = dy,
                                          .d_query = dx};
    return hone_multi_head_attention_backward(layer->inner, &tensors);
}

int hone_self_attention_parameters(const HoneSelfAttention *layer,
                                   HoneParameter parameters[HONE_MOST_PARAMETERS]) {
    return hone_multi_head_attention_parameters(layer->inner, parameters);
}
