// SPDX-License-Identifier: Apache-2.0
// A tiny random model of odd sizes (a Llama, or a GPT-2 where a test asks for it), its parameters
// in one list, and packed batches for it.
#ifndef HONE_TESTS_TINY_H
#define HONE_TESTS_TINY_H

#include "base/random.h"
#include "check.h"
#include "models/model.h"

enum { TINY_PARAMETERS = 128, TINY_TRAINED = 320, TINY_TOKENS = 64 };

typedef struct TinyParameter {
    char name[48];
    Tensor *tensor;
    Weight *weight;
} TinyParameter;

typedef struct Tiny {
    Model *model;
    Arena memory;
    TinyParameter parameters[TINY_PARAMETERS];
    int count;
    Tensor *trained[TINY_TRAINED];
    char trained_name[TINY_TRAINED][64];
    int trained_count;
    RandomStream random;
} Tiny;

static ModelConfig tiny_config = {.architecture = "llama",
                                  .layers = 2,
                                  .heads = 4,
                                  .kv_heads = 2,
                                  .head_size = 6,
                                  .rotary = 4,
                                  .channels = 19,
                                  .feed_forward = 27,
                                  .vocabulary = 41,
                                  .context = 64,
                                  .norm_eps = 1e-5f,
                                  .rope_base = 100.0f,
                                  .rope_interleaved = true,
                                  .tied_head = true};

// Decoders that between them have everything that decoder.c knows.
typedef struct TinyDecoder {
    const char *what;
    int parameters; // of a layer
    ModelConfig config;
} TinyDecoder;

static const bool tiny_slides[8] = {true, false, true, true, false};
static const bool tiny_turns[8] = {true, true, false, true, true};
static const bool tiny_sparse[8] = {true, false, true};
#define TINY_SIZES(turning)                                                                        \
    .layers = 3, .heads = 4, .kv_heads = 2, .head_size = 6, .rotary = turning, .channels = 19,     \
    .feed_forward = 27, .vocabulary = 41, .context = 64, .norm_eps = 1e-5f, .rope_base = 100.0f,   \
    .tied_head = true
static const TinyDecoder tiny_decoders[] = {
    {"Qwen 2 with windows, biases everywhere",
     16,
     {.architecture = "qwen2",
      TINY_SIZES(6),
      .qkv_bias = true,
      .output_bias = true,
      .feed_forward_bias = true,
      .window = 4,
      .slides = tiny_slides}},
    {"Qwen 3 with YaRN",
     11,
     {.architecture = "qwen3",
      TINY_SIZES(6),
      .rope_magnitude = 1.1f,
      .rope_scaling = {.factor = 4, .yarn = true, .original = 16, .beta_fast = 4, .beta_slow = 1}}},
    {"Qwen 3 with experts, not in all layers",
     0,
     {.architecture = "qwen3moe",
      TINY_SIZES(6),
      .experts = 5,
      .experts_used = 2,
      .experts_normalised = true,
      .expert_feed_forward = 11,
      .sparse = tiny_sparse}},
    {"OLMoE",
     24,
     {.architecture = "olmoe",
      TINY_SIZES(6),
      .experts = 5,
      .experts_used = 3,
      .expert_feed_forward = 13}},
    {"SmolLM3", 9, {.architecture = "smollm3", TINY_SIZES(6), .turns = tiny_turns}},
    {"Granite",
     9,
     {.architecture = "granite",
      TINY_SIZES(6),
      .embedding_scale = 3,
      .residual_scale = 0.4f,
      .attention_scale = 0.3f,
      .logit_scale = 0.5f,
      .rope_scaling = {.factor = 2}}},
    {"Phi-3 with windows",
     6,
     {.architecture = "phi3", TINY_SIZES(4), .window = 3, .slides = tiny_slides}},
    {"OLMo 2", 11, {.architecture = "olmo2", TINY_SIZES(6)}},
    {"Gemma 2",
     11,
     {.architecture = "gemma2",
      TINY_SIZES(6),
      .embedding_scale = 4.4f,
      .attention_softcap = 2,
      .logit_softcap = 3,
      .window = 4,
      .slides = tiny_slides}},
    {"Gemma 3",
     13,
     {.architecture = "gemma3",
      TINY_SIZES(6),
      .embedding_scale = 4.4f,
      .window = 5,
      .slides = tiny_slides,
      .rope_base_sliding = 10}},
};
enum { TINY_DECODERS = sizeof tiny_decoders / sizeof *tiny_decoders };

static inline void tiny_become_decoder(int which) {
    tiny_config = tiny_decoders[which].config;
    printf("-- %s\n", tiny_decoders[which].what);
}

static inline void tiny_become_gpt2(void) {
    tiny_config = (ModelConfig){.architecture = "gpt2",
                                .layers = 2,
                                .heads = 4,
                                .kv_heads = 4,
                                .head_size = 5,
                                .channels = 20,
                                .feed_forward = 27,
                                .vocabulary = 41,
                                .context = 64,
                                .norm_eps = 1e-5f,
                                .tied_head = true};
}

static inline void tiny_become_bert(void) {
    tiny_become_gpt2(); // the same sizes
    tiny_config.architecture = "bert";
    tiny_config.token_types = 2;
}

static inline float *tiny_values(Tiny *tiny, int64_t count, float mean, float deviation) {
    float *values = hone_arena_calloc(&tiny->memory, (size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = mean + (deviation != 0.0f ? deviation * hone_random_normal(&tiny->random) : 0);
    return values;
}

static inline void tiny_train(Tiny *tiny, Tensor *tensor, const char *name, const char *part) {
    tensor->requires_grad = true;
    tensor->grad = tiny_values(tiny, hone_tensor_count(tensor), 0, 0);
    snprintf(tiny->trained_name[tiny->trained_count], 64, "%s%s", name, part);
    tiny->trained[tiny->trained_count++] = tensor;
}

static inline hone_status tiny_visitor(void *user, const ParameterVisit *visit, HoneError *err) {
    (void)err;
    Tiny *tiny = user;
    TinyParameter *parameter = &tiny->parameters[tiny->count++];
    snprintf(parameter->name, sizeof parameter->name, "%s", visit->name);
    parameter->tensor = visit->tensor;
    parameter->weight = visit->weight;
    const bool matrix = visit->weight != NULL;
    const float deviation = matrix ? 1.0f / sqrtf((float)visit->tensor->shape[1]) : 0.1f;
    visit->tensor->data =
        tiny_values(tiny, hone_tensor_count(visit->tensor), matrix ? 0.0f : 1.0f, deviation);
    return HONE_OK;
}

static inline void tiny_make(Tiny *tiny, const ModelConfig *config) {
    HoneError err = {0};
    *tiny = (Tiny){.random = hone_random_stream(7, RANDOM_TEST, 0)};
    CHECK_INT(hone_model_make(config, &tiny->model, &err), HONE_OK);
    CHECK_INT(hone_model_visit(tiny->model, tiny_visitor, tiny, &err), HONE_OK);
}

static inline void tiny_free(Tiny *tiny) {
    hone_model_destroy(tiny->model);
    hone_arena_free(&tiny->memory);
}

static inline void tiny_train_all(Tiny *tiny) {
    for (int i = 0; i < tiny->count; i++)
        tiny_train(tiny, tiny->parameters[i].tensor, tiny->parameters[i].name, "");
}

// Adapters on every matrix but the embeddings (an adapted head must be its own matrix).
static inline void tiny_adapt(Tiny *tiny, int rank, float deviation_of_b) {
    for (int i = 0; i < tiny->count; i++) {
        Weight *weight = tiny->parameters[i].weight;
        if (!weight || strstr(tiny->parameters[i].name, "_embd.weight") ||
            strcmp(tiny->parameters[i].name, "token_types.weight") == 0)
            continue;
        Adapter *adapter = hone_arena_calloc(&tiny->memory, 1, sizeof *adapter);
        const int64_t out = weight->base.shape[0], in = weight->base.shape[1];
        adapter->scale = 0.7f;
        adapter->A = (Tensor){.rank = 2, .shape = {rank, in}};
        adapter->B = (Tensor){.rank = 2, .shape = {out, rank}};
        adapter->A.data = tiny_values(tiny, rank * in, 0, 1.0f / sqrtf((float)in));
        adapter->B.data = tiny_values(tiny, rank * out, 0, deviation_of_b);
        weight->adapters = adapter;
        weight->adapter_count = 1;
        tiny_train(tiny, &adapter->A, tiny->parameters[i].name, ".A");
        tiny_train(tiny, &adapter->B, tiny->parameters[i].name, ".B");
    }
}

// The adapters drop a quarter of what they read, each another.
static inline void tiny_drop(Tiny *tiny) {
    for (int i = 0; i < tiny->count; i++) {
        Weight *weight = tiny->parameters[i].weight;
        if (!weight || weight->adapter_count == 0) continue;
        weight->adapters[0].dropout = 0.25f;
        weight->adapters[0].dropout_place = (uint32_t)i;
        weight->adapters[0].dropout_key = 11;
    }
}

static inline void tiny_zero_gradients(Tiny *tiny) {
    for (int i = 0; i < tiny->trained_count; i++)
        memset(tiny->trained[i]->grad, 0, hone_tensor_bytes(tiny->trained[i]));
}

// All trained gradients one after the other; caller frees with hone_free.
static inline float *tiny_gradients(const Tiny *tiny, int64_t *count) {
    *count = 0;
    for (int i = 0; i < tiny->trained_count; i++) *count += hone_tensor_count(tiny->trained[i]);
    float *all = hone_alloc((size_t)*count * sizeof *all), *next = all;
    for (int i = 0; i < tiny->trained_count; i++) {
        memcpy(next, tiny->trained[i]->grad, hone_tensor_bytes(tiny->trained[i]));
        next += hone_tensor_count(tiny->trained[i]);
    }
    return all;
}

// Examples packed in one line. A token has the next one of its example as target, from place
// `prompt` on; every third such token has a second target, as in a trie.
typedef struct TinyBatch {
    int64_t T, rows, entries;
    int32_t token[TINY_TOKENS], position[TINY_TOKENS], begin[TINY_TOKENS], end[TINY_TOKENS];
    uint64_t path[TINY_TOKENS], row_path[TINY_TOKENS]; // of tokens, of the rows below
    int32_t row[TINY_TOKENS];                          // tokens that have a target
    int32_t entry_token[2 * TINY_TOKENS], entry_row[2 * TINY_TOKENS], target[2 * TINY_TOKENS];
    float weight[2 * TINY_TOKENS];
    int example[2 * TINY_TOKENS]; // of each entry
} TinyBatch;

static inline void tiny_entry(TinyBatch *batch, int64_t t, int32_t target, float weight, int e) {
    batch->entry_token[batch->entries] = (int32_t)t;
    batch->entry_row[batch->entries] = (int32_t)batch->rows;
    batch->target[batch->entries] = target;
    batch->weight[batch->entries] = weight;
    batch->example[batch->entries++] = e;
}

// Two examples that begin alike, as a trie lays them out: `begin` tokens, `first` behind them, and
// `second` behind them too. Targets follow the beginning.
static inline void tiny_make_trie(TinyBatch *batch, int begin, int first, int second) {
    const int length = begin + first + second;
    *batch = (TinyBatch){.T = length};
    for (int t = 0; t < length; t++) {
        const bool late = t >= begin + first;
        batch->token[t] = 1 + (7 * t + t / 5) % 39;
        batch->position[t] = late ? t - first : t;
        batch->begin[t] = t;
        batch->end[t] = t < begin || late ? length : begin + first;
        batch->path[t] = (uint64_t)(t + 1) << 20;
        if (t < begin) continue;
        tiny_entry(batch, t, 3 + t, 0.4f, late);
        batch->row_path[batch->rows] = batch->path[t];
        batch->row[batch->rows++] = t;
    }
}

// One of the two by itself.
static inline void tiny_make_branch(TinyBatch *batch, const TinyBatch *trie, int begin, int first,
                                    int which) {
    *batch = (TinyBatch){0};
    for (int t = 0; t < trie->T; t++) {
        if (t >= begin && (t >= begin + first) != (which == 1)) continue;
        const int64_t to = batch->T++;
        batch->token[to] = trie->token[t];
        batch->position[to] = trie->position[t];
        batch->begin[to] = (int32_t)to;
        batch->path[to] = trie->path[t];
        if (t < begin) continue;
        tiny_entry(batch, to, 3 + t, 0.4f, which);
        batch->row_path[batch->rows] = batch->path[to];
        batch->row[batch->rows++] = (int32_t)to;
    }
    for (int64_t t = 0; t < batch->T; t++) batch->end[t] = (int32_t)batch->T;
}

static inline void tiny_append_example(TinyBatch *batch, int number, int length, int prompt,
                                       int32_t vocabulary) {
    const int64_t start = batch->T;
    RandomStream random = hone_random_stream((uint64_t)number, RANDOM_TEST, 5);
    for (int i = 0; i < length; i++, batch->T++) {
        const int64_t t = batch->T;
        batch->token[t] = (int32_t)hone_random_below(&random, (uint64_t)vocabulary);
        batch->position[t] = i;
        batch->path[t] = (uint64_t)number << 32 | (uint64_t)i;
        batch->begin[t] = (int32_t)t;
        batch->end[t] = (int32_t)(start + length);
        if (i < prompt) continue;
        tiny_entry(batch, t, (int32_t)hone_random_below(&random, (uint64_t)vocabulary), 0.3f,
                   number);
        if (i % 3 == 0)
            tiny_entry(batch, t, (int32_t)hone_random_below(&random, (uint64_t)vocabulary), 0.11f,
                       number);
        batch->row_path[batch->rows] = batch->path[t];
        batch->row[batch->rows++] = (int32_t)t;
    }
}

static inline ModelBatch tiny_model_batch(const TinyBatch *batch, bool chosen) {
    return (ModelBatch){.tokens = batch->T,
                        .token = batch->token,
                        .position = batch->position,
                        .begin = batch->begin,
                        .end = batch->end,
                        .path = batch->path,
                        .row = chosen ? batch->row : NULL,
                        .rows = chosen ? batch->rows : batch->T};
}

// Forward and loss; on a tape with gradients backward too. logprob (entries) may be NULL.
static inline double tiny_loss(Tiny *tiny, Tape *tape, const TinyBatch *batch, bool chosen,
                               float *logprob) {
    const ModelBatch model_batch = tiny_model_batch(batch, chosen);
    HoneError err = {0};
    hone_tape_reset(tape, hone_tape_gradients(tape));
    Tensor *hidden = hone_model_forward(tiny->model, tape, &model_batch);
    HeadLoss loss = {.entries = batch->entries,
                     .row = chosen ? batch->entry_row : batch->entry_token,
                     .target = batch->target,
                     .weight = batch->weight,
                     .path = chosen ? batch->row_path : batch->path,
                     .logprob = logprob};
    hone_head_cross_entropy(tape, hone_model_head(tiny->model), hidden, &loss);
    if (hone_tape_gradients(tape)) hone_tape_backward(tape);
    if (!CHECK_INT(hone_tape_status(tape, &err), HONE_OK)) printf("%s\n", err.message);
    return loss.loss;
}

static inline Tape *tiny_tape(ThreadPool *pool, TapeOptions options) {
    KernelContext kc = {.pool = pool};
    HoneError err = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    return hone_tape_create(&kc, options);
}

// ‖got − want‖ ≤ tolerance·‖want‖
static inline bool tiny_near(const float *got, const float *want, int64_t count, double tolerance) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        size += (double)want[i] * (double)want[i];
    }
    if (sqrt(difference) <= tolerance * sqrt(size)) return true;
    printf("off by %.3g of %.3g\n", sqrt(difference), sqrt(size));
    return false;
}

#endif
