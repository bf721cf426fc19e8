// SPDX-License-Identifier: Apache-2.0
// The weights of torch.nn.MultiheadAttention and of keras.layers.MultiHeadAttention, to and from a
// layer's own. torch's lie as ours do; Keras's are (in, heads, size): our transposes.
#include <inttypes.h>
#include <string.h>

#include "layers/projected.h"

// One of our arrays and the other library's.
typedef struct Exchange {
    const char *ours, *theirs;
    float *array;
    bool transposed; // (in, out) where ours is (out, in)
} Exchange;

// All arrays are there before any is written.
static hone_status check_all(const HoneMultiHeadAttention *layer, const char *library,
                             const Exchange *exchanges, int count, HoneError *err) {
    if (hone_layer_parameter(layer, "sinks"))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s: the layer has sinks, which it has not",
                         library);
    for (int i = 0; i < count; i++) {
        const Exchange *e = &exchanges[i];
        bool ours = hone_layer_parameter(layer, e->ours) != NULL;
        if (ours != (e->array != NULL))
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             ours ? "%s: %s is NULL, and the layer has %s"
                                  : "%s: %s is given, and the layer has no %s",
                             library, e->theirs, e->ours);
    }
    return HONE_OK;
}

static void copy(const HoneParameter *p, HoneArrays which, const Exchange *e, bool to_layer) {
    float *ours = which == HONE_GRADIENTS ? p->gradient : p->value;
    int64_t out = p->shape[0], in = p->rank == 2 ? p->shape[1] : 1;
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++) {
            float *mine = ours + o * in + i;
            float *other = e->array + (e->transposed ? i * out + o : o * in + i);
            if (to_layer)
                *mine = *other;
            else
                *other = *mine;
        }
}

static hone_status exchange(HoneMultiHeadAttention *layer, const char *library, HoneArrays which,
                            const Exchange *exchanges, int count, bool to_layer, HoneError *err) {
    if (which != HONE_WEIGHTS && which != HONE_GRADIENTS)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%s: which is %d, want HONE_WEIGHTS or HONE_GRADIENTS", library,
                         (int)which);
    RETURN_IF_ERROR(check_all(layer, library, exchanges, count, err));
    for (int i = 0; i < count; i++) {
        const HoneParameter *p = hone_layer_parameter(layer, exchanges[i].ours);
        if (p) copy(p, which, &exchanges[i], to_layer);
    }
    return HONE_OK;
}

// ---- torch -------------------------------------------------------------------------------------

static const char *const torch = "torch.nn.MultiheadAttention";

static hone_status check_torch(const HoneMultiHeadAttention *layer, const HoneTorchAttention *t,
                               HoneError *err) {
    const HoneMultiHeadAttentionOptions *o = &layer->options;
    int64_t E = o->query_channels, heads = o->attention.heads;
    if (t->bias_k || t->bias_v || t->add_zero_attn)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s: %s is not supported", torch,
                         t->bias_k   ? "bias_k"
                         : t->bias_v ? "bias_v"
                                     : "add_zero_attn");
    if (o->attention.kv_heads != heads || heads * o->attention.head_size != E ||
        heads * o->attention.value_size != E || o->output_channels != E)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: %d:%d heads of sizes %d and %d and %" PRId64
                         " outputs do not make up embed_dim %" PRId64,
                         torch, o->attention.heads, o->attention.kv_heads, o->attention.head_size,
                         o->attention.value_size, o->output_channels, E);
    if (t->in_proj_weight && (o->key_channels != E || o->value_channels != E))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%s: in_proj_weight is given, and kdim %" PRId64 ", vdim %" PRId64
                         " are not embed_dim %" PRId64 ": want q_proj_weight, k_proj_weight, "
                         "v_proj_weight",
                         torch, o->key_channels, o->value_channels, E);
    return HONE_OK;
}

static hone_status exchange_torch(HoneMultiHeadAttention *layer, HoneArrays which,
                                  const HoneTorchAttention *arrays, bool to_layer) {
    if (!layer) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(layer->context);
    if (!arrays) return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: arrays is NULL", torch);
    const HoneTorchAttention *t = arrays;
    RETURN_IF_ERROR(check_torch(layer, t, err));
    int64_t E = layer->options.query_channels;
    float *whole = t->in_proj_weight, *bias = t->in_proj_bias;
    const Exchange exchanges[] = {
        {"query_weight", whole ? "in_proj_weight" : "q_proj_weight",
         whole ? whole : t->q_proj_weight, false},
        {"key_weight", "k_proj_weight", whole ? whole + E * E : t->k_proj_weight, false},
        {"value_weight", "v_proj_weight", whole ? whole + 2 * E * E : t->v_proj_weight, false},
        {"query_bias", "in_proj_bias", bias, false},
        {"key_bias", "in_proj_bias", bias ? bias + E : NULL, false},
        {"value_bias", "in_proj_bias", bias ? bias + 2 * E : NULL, false},
        {"output_weight", "out_proj.weight", t->out_proj_weight, false},
        {"output_bias", "out_proj.bias", t->out_proj_bias, false},
    };
    return exchange(layer, torch, which, exchanges, 8, to_layer, err);
}

hone_status hone_multi_head_attention_from_torch(HoneMultiHeadAttention *layer, HoneArrays which,
                                                 const HoneTorchAttention *arrays) {
    return exchange_torch(layer, which, arrays, true);
}

hone_status hone_multi_head_attention_to_torch(HoneMultiHeadAttention *layer, HoneArrays which,
                                               const HoneTorchAttention *arrays) {
    return exchange_torch(layer, which, arrays, false);
}

// ---- Keras -------------------------------------------------------------------------------------

static hone_status exchange_keras(HoneMultiHeadAttention *layer, HoneArrays which,
                                  const HoneKerasAttention *arrays, bool to_layer) {
    static const char *const keras = "keras.layers.MultiHeadAttention";
    if (!layer) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(layer->context);
    if (!arrays) return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: arrays is NULL", keras);
    const HoneKerasAttention *k = arrays;
    const Exchange exchanges[] = {
        {"query_weight", "query_kernel", k->query_kernel, true},
        {"query_bias", "query_bias", k->query_bias, false},
        {"key_weight", "key_kernel", k->key_kernel, true},
        {"key_bias", "key_bias", k->key_bias, false},
        {"value_weight", "value_kernel", k->value_kernel, true},
        {"value_bias", "value_bias", k->value_bias, false},
        {"output_weight", "output_kernel", k->output_kernel, true},
        {"output_bias", "output_bias", k->output_bias, false},
    };
    return exchange(layer, keras, which, exchanges, 8, to_layer, err);
}

hone_status hone_multi_head_attention_from_keras(HoneMultiHeadAttention *layer, HoneArrays which,
                                                 const HoneKerasAttention *arrays) {
    return exchange_keras(layer, which, arrays, true);
}

hone_status hone_multi_head_attention_to_keras(HoneMultiHeadAttention *layer, HoneArrays which,
                                               const HoneKerasAttention *arrays) {
    return exchange_keras(layer, which, arrays, false);
}
