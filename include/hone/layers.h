// SPDX-License-Identifier: Apache-2.0
// Attention layers on plain f32 arrays, forward and backward, with weights that the caller reads
// and writes: the simple one-head layer, multi-head attention with its projections, and additive
// attention. The operator they stand on is in <hone/attention.h>.
//
//     HoneSelfAttentionOptions options = {.batch = 32, .length = 10, .channels = 64, .units = 64};
//     HoneSelfAttention *layer = NULL;
//     if (hone_self_attention_create(context, &options, &layer) != HONE_OK) …
//     hone_self_attention_forward(layer, x, y);          // x, y (32, 10, 64)
//     hone_self_attention_backward(layer, x, y, dy, NULL);
//     HoneParameter parameters[HONE_MOST_PARAMETERS];
//     int count = hone_self_attention_parameters(layer, parameters);
//
// Backward belongs to the last forward, whose inputs and outputs it is given again, unchanged. All
// gradients, of weights and of inputs, are added to what is there; hone_clear_gradients begins
// anew. A call allocates nothing. What it writes shares no memory with its other arrays; only the
// gradients of several inputs may be one array, and are added in turn. Results have the same bits
// for any number of threads.
#ifndef HONE_LAYERS_H
#define HONE_LAYERS_H

#include <hone/attention.h>
#include <hone/base.h>

#ifdef __cplusplus
extern "C" {
#endif

// One array of a layer's weights and its gradient, both (shape[0], shape[1]) row-major, f32. A
// matrix is (out, in): y = x · Wᵀ + b. The memory is the layer's; the caller may write both.
typedef struct HoneParameter {
    const char *name;
    float *value, *gradient;
    int rank; // 1 or 2
    int64_t shape[2], count;
} HoneParameter;

enum { HONE_MOST_PARAMETERS = 9 };

void hone_clear_gradients(const HoneParameter *parameters, int count);

// ---- one head ----------------------------------------------------------------------------------

// q, k, v = x · Wᵀ [+ b] for each of three matrices; y = softmax(q · kᵀ / √units) · v over the
// positions of each element of the batch. No output projection.
typedef struct HoneSelfAttentionOptions {
    int64_t batch, length, channels; // x (batch, length, channels)
    int units;                       // y (batch, length, units); 1 … 256
    bool bias;
    bool unscaled; // scores are q · kᵀ as they are
    HoneCausal causal;
    uint64_t seed; // of the initial weights: Glorot's uniform distribution; biases are 0
} HoneSelfAttentionOptions;

typedef struct HoneSelfAttention HoneSelfAttention;

// HONE_ERROR_ARGUMENT: options that cannot be, with their values. Caller frees *layer before the
// context.
hone_status hone_self_attention_create(HoneContext *context,
                                       const HoneSelfAttentionOptions *options,
                                       HoneSelfAttention **layer);
void hone_self_attention_free(HoneSelfAttention *layer); // NULL is allowed
hone_status hone_self_attention_forward(HoneSelfAttention *layer, const float *x, float *y);
// y as forward wrote it. dx (batch, length, channels) is added to; NULL: not wanted.
hone_status hone_self_attention_backward(HoneSelfAttention *layer, const float *x, const float *y,
                                         const float *dy, float *dx);
// "query_weight", "key_weight", "value_weight" (units, channels) and, with biases, "query_bias",
// "key_bias", "value_bias" (units). Returns how many. The three matrices lie behind one another.
int hone_self_attention_parameters(const HoneSelfAttention *layer,
                                   HoneParameter parameters[HONE_MOST_PARAMETERS]);

// ---- multi-head attention ----------------------------------------------------------------------

typedef enum HoneInputs {
    HONE_INPUTS_SELF,    // query is key and value too: one product makes all three projections
    HONE_INPUTS_CROSS,   // key is value too: two products
    HONE_INPUTS_SEPARATE // three inputs, three products
} HoneInputs;

// o = attention(query · Wqᵀ [+ bq], key · Wkᵀ [+ bk], value · Wvᵀ [+ bv]) by heads;
// output = o · Woᵀ [+ bo] (Vaswani et al. 2017; grouped: Ainslie et al. 2023).
typedef struct HoneMultiHeadAttentionOptions {
    HoneAttentionOptions attention; // f32; weights' memory only if asked for
    HoneInputs inputs;
    int64_t query_channels;
    int64_t key_channels, value_channels; // 0: query_channels. As it is given by the inputs where
                                          // they are shared
    int64_t output_channels;              // 0: query_channels
    bool input_bias, output_bias;
    uint64_t seed; // of the initial weights: Glorot's uniform distribution; biases and sinks are 0
} HoneMultiHeadAttentionOptions;

typedef struct HoneMultiHeadAttention HoneMultiHeadAttention;

hone_status hone_multi_head_attention_create(HoneContext *context,
                                             const HoneMultiHeadAttentionOptions *options,
                                             HoneMultiHeadAttention **layer);
void hone_multi_head_attention_free(HoneMultiHeadAttention *layer); // NULL is allowed
// The attention inside: what hone_attention_info says of it.
void hone_multi_head_attention_info(const HoneMultiHeadAttention *layer, HoneAttentionInfo *info);

typedef struct HoneMultiHeadTensors {
    const float *query; // (batch, queries, query_channels)
    const float *key;   // (batch, keys, key_channels); NULL with HONE_INPUTS_SELF
    const float *value; // (batch, keys, value_channels); NULL with HONE_INPUTS_SELF and _CROSS
    float *output;      // (batch, queries, output_channels), written by forward
    const void *mask;   // these four as in HoneAttentionTensors
    uint64_t seed;
    float *weights;
    float *d_mask;
    // Backward only. The gradients of inputs are added to; NULL: not wanted.
    const float *d_output;
    float *d_query, *d_key, *d_value;
} HoneMultiHeadTensors;

hone_status hone_multi_head_attention_forward(HoneMultiHeadAttention *layer,
                                              const HoneMultiHeadTensors *tensors);
hone_status hone_multi_head_attention_backward(HoneMultiHeadAttention *layer,
                                               const HoneMultiHeadTensors *tensors);
// "query_weight" (heads · head_size, query_channels), "key_weight" (kv_heads · head_size,
// key_channels), "value_weight" (kv_heads · value_size, value_channels), "query_bias", "key_bias",
// "value_bias", "output_weight" (output_channels, heads · value_size), "output_bias", "sinks"
// (heads): those that the options have. Returns how many.
int hone_multi_head_attention_parameters(const HoneMultiHeadAttention *layer,
                                         HoneParameter parameters[HONE_MOST_PARAMETERS]);

// ---- weights of other libraries ----------------------------------------------------------------

typedef enum HoneArrays { HONE_WEIGHTS, HONE_GRADIENTS } HoneArrays; // which of a layer's are meant

// torch.nn.MultiheadAttention's arrays by their names, contiguous f32; NULL: it has none. With
// embed_dim E: heads · head_size = kv_heads · head_size = kv_heads · value_size = E.
typedef struct HoneTorchAttention {
    float *in_proj_weight;                                // (3E, E); NULL when kdim or vdim is set
    float *q_proj_weight, *k_proj_weight, *v_proj_weight; // (E, E), (E, kdim), (E, vdim) then
    float *in_proj_bias;                                  // (3E)
    float *out_proj_weight, *out_proj_bias;               // (E, E), (E)
    float *bias_k, *bias_v;                               // of add_bias_kv: refused
    bool add_zero_attn;                                   // refused
} HoneTorchAttention;

// Copy into the layer, or out of it. HONE_ERROR_ARGUMENT: an array that one has and the other has
// not, by name. HONE_ERROR_UNSUPPORTED: what torch has and this layer cannot be, by name.
hone_status hone_multi_head_attention_from_torch(HoneMultiHeadAttention *layer, HoneArrays which,
                                                 const HoneTorchAttention *arrays);
hone_status hone_multi_head_attention_to_torch(HoneMultiHeadAttention *layer, HoneArrays which,
                                               const HoneTorchAttention *arrays);

// keras.layers.MultiHeadAttention's (and GroupQueryAttention's) variables, contiguous f32: kernels
// and biases of its sub-layers query, key, value and attention_output. N heads, K key/value heads
// (K = N in the former).
typedef struct HoneKerasAttention {
    float *query_kernel, *query_bias;   // (query dim, N, key_dim), (N, key_dim)
    float *key_kernel, *key_bias;       // (key dim, K, key_dim), (K, key_dim)
    float *value_kernel, *value_bias;   // (value dim, K, value_dim), (K, value_dim)
    float *output_kernel, *output_bias; // (N, value_dim, output dim), (output dim)
} HoneKerasAttention;

hone_status hone_multi_head_attention_from_keras(HoneMultiHeadAttention *layer, HoneArrays which,
                                                 const HoneKerasAttention *arrays);
hone_status hone_multi_head_attention_to_keras(HoneMultiHeadAttention *layer, HoneArrays which,
                                               const HoneKerasAttention *arrays);

// ---- additive attention ------------------------------------------------------------------------

// s_ij = Σ_u scale_u · tanh(q_iu + k_ju) + mask_ij; o_i = Σ_j drop_ij · softmax(s)_ij · v_j
// (Bahdanau, Cho, Bengio 2015; keras.layers.AdditiveAttention). Memory is linear: tanh(q_i + k_j)
// is never held for more than one pair. A mask is a constant here, of booleans or floats: it has no
// gradient.
typedef struct HoneAdditiveAttentionOptions {
    int64_t batch, queries, keys, units, value_size;
    bool scaled; // tensors.scale takes part; else it is 1
    HoneCausal causal;
    int64_t window; // these as in HoneAttentionOptions
    const int32_t *begin, *end;
    HoneMask mask; // its head stride is 0, and mask.gradient false
    float dropout; // as in HoneAttentionOptions
    bool weights;
} HoneAdditiveAttentionOptions;

typedef struct HoneAdditiveTensors { // contiguous
    const float *q;                  // (batch, queries, units)
    const float *k;                  // (batch, keys, units)
    const float *v;                  // (batch, keys, value_size)
    const float *scale;              // (units)
    const void *mask;
    uint64_t seed;  // of dropout: backward is given the same
    float *o;       // (batch, queries, value_size), written by forward
    float *weights; // (batch, queries, keys), p before dropout, written by forward
    // Backward only: o as forward wrote it; the gradients are added to.
    const float *d_o;
    float *dq, *dk, *dv, *d_scale;
} HoneAdditiveTensors;

typedef struct HoneAdditiveAttention HoneAdditiveAttention;

hone_status hone_additive_attention_create(HoneContext *context,
                                           const HoneAdditiveAttentionOptions *options,
                                           HoneAdditiveAttention **layer);
void hone_additive_attention_free(HoneAdditiveAttention *layer); // NULL is allowed
hone_status hone_additive_attention_forward(HoneAdditiveAttention *layer,
                                            const HoneAdditiveTensors *tensors);
hone_status hone_additive_attention_backward(HoneAdditiveAttention *layer,
                                             const HoneAdditiveTensors *tensors);

#ifdef __cplusplus
}
#endif
#endif
