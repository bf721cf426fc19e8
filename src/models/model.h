// SPDX-License-Identifier: Apache-2.0
// A model: sizes, parameters, and one forward function. Families are files beside this one.
#ifndef HONE_MODELS_MODEL_H
#define HONE_MODELS_MODEL_H

#include "tape/tape.h"

// What stretches rotary positions to longer texts: all frequencies are divided by factor, or with
// YaRN (Peng et al. 2023) those that turn rarely over the original context.
typedef struct RopeScaling {
    float factor; // 0: none
    bool yarn;
    float original, beta_fast, beta_slow; // YaRN's
} RopeScaling;

typedef struct ModelConfig {
    const char *architecture; // "llama"
    int layers, heads, kv_heads, head_size, rotary;
    int64_t channels, feed_forward, vocabulary, context;
    float norm_eps, rope_base;
    bool rope_interleaved; // GGUF's row order of q and k; Hugging Face folders have halves
    bool tied_head;        // the head is the embedding
    // What only some families have. 0 or NULL: as if it were not there.
    bool qkv_bias, output_bias, feed_forward_bias;
    float embedding_scale, residual_scale, logit_scale;
    float attention_scale; // of q·k, in place of 1/√head_size
    float attention_softcap, logit_softcap;
    int32_t window;          // a query sees itself and window − 1 keys before it …
    const bool *slides;      // … in the layers that this says (layers)
    const bool *turns;       // (layers): those with rotary positions; NULL: all
    float rope_base_sliding; // of sliding layers, never scaled
    float rope_magnitude;    // of what rotary positions turn
    RopeScaling rope_scaling;
    // Of an encoder-decoder
    int encoder_layers;                      // of `layers`, the first ones; 0: there is no encoder
    int32_t decoder_start;                   // what a target begins with
    int relative_numbers, relative_farthest; // of the bias of scores (RelativeBias)
    bool gated;                              // the feed-forward has a gate
    bool norm_first; // norms before what they belong to, else behind the sum
    // A mixture of experts. Each token goes to experts_used of them, whose weights add up to 1
    // where experts_normalised.
    int experts, experts_used; // 0: none
    int64_t expert_feed_forward;
    bool experts_normalised;
    const bool *sparse;  // (layers): those that have experts; NULL: all
    int64_t token_types; // of an encoder: which of a pair's texts a token is of; 0: not told
    // Heads that an encoder has (EncoderHeads).
    bool pooler, mask_head;
    int64_t labels; // rows of the classifier; 0: none
} ModelConfig;

// What an encoder reads: sources in one line, each seen by itself: source token j by those with
// begin[j] ≤ i < end[j], and by the batch's tokens seen_begin[j] ≤ i < seen_end[j].
typedef struct SourceBatch {
    int64_t tokens; // 0: there is none
    const int32_t *token, *position, *begin, *end, *seen_begin, *seen_end;
    const uint64_t *path; // as of the batch
} SourceBatch;

// What a forward pass reads. Tokens of all sequences lie in one line; key j is seen by the queries
// begin[j] ≤ i < end[j] (numbers of tokens). position is the depth of a token in its sequence.
typedef struct ModelBatch {
    int64_t tokens;
    const int32_t *token, *position, *begin, *end;
    const uint64_t *path; // hash of each token and those before it, for dropout; or NULL
    const int32_t *type;  // of encoders with token types; NULL: all 0
    // Rows whose last hidden state is wanted, rising; NULL and count = tokens: all. In the last
    // layer queries, attention output and feed-forward run for these rows only.
    const int32_t *row;
    int64_t rows;
    SourceBatch source;
    // Depths of the keys, those in the cache too; NULL: those of the batch, or behind a cache, one
    // after the other. Only models with a bias by distance read it.
    const int32_t *key_position;
} ModelBatch;

// Keys and values of the tokens seen so far, for generation: (capacity, K·D) a layer, f32.
typedef struct KeyValueCache KeyValueCache;

typedef struct Model Model;

// Whether every token of a sequence sees every other: such a model continues no text.
bool hone_model_is_encoder(const Model *model);

// HONE_ERROR_UNSUPPORTED for an architecture that is not here, naming those that are.
hone_status hone_model_supported(const char *architecture, HoneError *err);
// Check the sizes and make the parameter structs (shapes set, no data yet).
// HONE_ERROR_UNSUPPORTED as above. What config points to need not stay.
hone_status hone_model_make(const ModelConfig *config, Model **model, HoneError *err);
void hone_model_destroy(Model *model); // does not free parameter data: its owner does
const ModelConfig *hone_model_config(const Model *model);

// Visit every parameter in file order. tensor->data is what the loader sets.
hone_status hone_model_visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err);
// rope_freqs.weight (rotary/2), divides the frequencies; call once after loading when the file has
// it.
void hone_model_set_rope_factors(Model *model, const float *factors);

// Last hidden states after the final norm: (rows, C). Recorded on the tape.
Tensor *hone_model_forward(Model *model, Tape *tape, const ModelBatch *batch);
// Whether a layer's activations are dropped in training and made again in backward: less memory, a
// second forward pass of the layer, the same bits. Off at first.
void hone_model_checkpoint(Model *model, int layer, bool on);
// What is dropped of the activations while gradients are recorded, by families that drop any
// (encoders and encoder-decoders). Nothing at first.
void hone_model_drop(Model *model, Dropout dropout);
// Training with a loss for the even use of experts: coefficient · RouterBalance's, whose gradient
// backward adds (tape.h). Its value is that of the last forward pass with gradients. All rows go
// through the last layer then. May be called again for another coefficient.
hone_status hone_model_balance_experts(Model *model, float coefficient, HoneError *err);
double hone_model_router_loss(const Model *model); // 0 where there is no such loss
// For hone_head_cross_entropy. When tied: the embedding's values and gradient as they are at the
// call, and adapters of its own, for what is looked up and what is predicted may be adapted apart.
Weight *hone_model_head(Model *model);
// Encoders' heads. x (T,C): the hidden states of each text's first token → what the classifier
// reads, tanh of the pooler where there is one; path as of hone_linear.
Tensor *hone_model_pool(Model *model, Tape *tape, Tensor *x, const uint64_t *path);
Weight *hone_model_classifier(Model *model); // (labels,C); the model has one
// From now on a tied head keeps the values that it has: embedding or head are about to get others.
void hone_model_part_head(Model *model);

// Generation. Append `count` tokens to the cache and write the logits (V) after the last of them
// (logits NULL: none). Truncate forgets tokens from `length` on (a shared prompt's cache is
// reused).
hone_status hone_cache_create(Model *model, int64_t capacity, KeyValueCache **cache,
                              HoneError *err);
void hone_cache_free(KeyValueCache *cache);
int64_t hone_cache_length(const KeyValueCache *cache);
void hone_cache_truncate(KeyValueCache *cache, int64_t length);
hone_status hone_model_decode(Model *model, Tape *tape, KeyValueCache *cache, const int32_t *token,
                              int64_t count, float *logits, HoneError *err);
// The same, but instead of logits the log-probability of each of token[1…count-1] and none for
// token[0]: logprob (count) where logprob[i] = log p(token[i+1] | …token[i]) for i < count-1; for
// the last one p(next) when next ≥ 0. Used to rank answers on a prompt's cache.
hone_status hone_model_score(Model *model, Tape *tape, KeyValueCache *cache, const int32_t *token,
                             int64_t count, int32_t next, float *logprob, HoneError *err);

// Encoder-decoders: let the cache hold no target tokens, and the keys and values that the decoder
// attends to of these sources. source->seen_begin and seen_end are not read: each later batch says
// anew which of its tokens see a source token; its other source arrays may be NULL then.
hone_status hone_model_read_source(Model *model, Tape *tape, KeyValueCache *cache,
                                   const SourceBatch *source, HoneError *err);
// The `count` tokens that were computed last belong to the cache from now on.
void hone_cache_lengthen(KeyValueCache *cache, int64_t count);
// Keep `count` of the cache's tokens alone, those at row[0] < row[1] < ….
void hone_cache_keep(KeyValueCache *cache, const int32_t *row, int64_t count);

// The general form: the batch's tokens behind those in the cache, on a tape without gradients.
// begin and end have one entry a key, cache length + tokens. → hidden states as
// hone_model_forward's. The cache is not lengthened: its next use overwrites what was computed
// here.
Tensor *hone_model_extend(Model *model, Tape *tape, KeyValueCache *cache, const ModelBatch *batch);

#endif
