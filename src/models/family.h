// SPDX-License-Identifier: Apache-2.0
// What a model family (llama.c, …) is made of and what model.c gives it. docs/add-a-model.md walks
// through one.
#ifndef HONE_MODELS_FAMILY_H
#define HONE_MODELS_FAMILY_H

#include "models/model.h"

typedef struct ModelFamily {
    const char *architecture; // GGUF's general.architecture
    // Check the sizes that only this family uses and make the parameter structs in model->arena.
    hone_status (*make)(Model *model, HoneError *err);
    hone_status (*visit)(Model *model, ParameterVisitor visitor, void *user, HoneError *err);
    // Last hidden states (rows,C). With a cache (no gradients then) the batch's tokens come after
    // those in the cache, and begin and end have one entry a key: cache length + tokens.
    Tensor *(*forward)(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache);
    Weight *(*head)(Model *model);
    // Of an encoder-decoder: the encoder's last hidden states (sources,C), and the matrices that
    // make a decoder layer's keys and values of them.
    Tensor *(*encode)(const Model *model, Tape *tape, const SourceBatch *source);
    void (*reads_memory)(const Model *model, int layer, Weight **k, Weight **v);
    unsigned norms; // NORM_…
    bool fused;     // q, k and v are one matrix, gate and up another
    bool gelu;      // of the feed-forward, else SiLU
    bool encoder;   // no order of the tokens but their positions; no cache
} ModelFamily;

// Which norms a decoder has besides the last: before attention and feed-forward, after them; of q
// and k, each head by itself or all together.
enum { NORM_BEFORE = 1, NORM_AFTER = 2, NORM_EACH_HEAD = 4, NORM_ALL_HEADS = 8 };

enum { HONE_DECODERS = 11 };
extern const ModelFamily hone_decoders[HONE_DECODERS], hone_gpt2, hone_bert, hone_transformer,
    hone_t5;

// Of a layer norm.
typedef struct Norm {
    Tensor gain, bias; // (C)
} Norm;

// What stands on an encoder's last hidden states x (T,C), alike for all of them:
//     classes:      classifier(act(pooler(x of the first token)))
//     tags, spans:  classifier(x)
//     masked words: embedding(norm(gelu(dense(x)))) + bias
typedef struct EncoderHeads {
    Weight pooler;     // (C,C)
    Weight classifier; // (labels,C)
    Weight mask_dense; // (C,C)
    Norm mask_norm;
    Tensor mask_bias; // (V)
} EncoderHeads;

struct Model {
    ModelConfig config;
    const ModelFamily *family;
    Rotation rotation[2]; // of layers that see all, of sliding ones
    bool *checkpoint;     // (layers)
    Dropout dropout;
    RouterBalance *balance; // NULL: no loss for the even use of experts
    void *parameters;       // the family's struct
    EncoderHeads *heads;    // of an encoder
    Weight tied_head; // the embedding's values where it serves as head, with adapters of its own
    bool head_apart;  // its values are its own too
    Arena arena;      // holds all of the above
};

struct KeyValueCache {
    int64_t capacity, length;
    int layers;
    Tensor *k, *v; // one (capacity, K·D) a layer (of an encoder-decoder: of its decoder), rotated
    Tensor *memory_k, *memory_v; // of an encoder-decoder: (sources, K·D) likewise
    float *memory;
    Arena arena;
    float *data;
};

// f32 until a loader says otherwise. A zero second dimension makes a vector.
Tensor hone_model_tensor(int64_t rows, int64_t columns);
// Visit one parameter; name is GGUF's, a %d in it stands for the layer.
hone_status hone_visit_tensor(ParameterVisitor visitor, void *user, const char *name, int layer,
                              Tensor *tensor, HoneError *err);
hone_status hone_visit_weight(ParameterVisitor visitor, void *user, const char *name, int layer,
                              const char *target, Weight *weight, HoneError *err);

// parts.c: an affine map with its bias, (out,in) and (out); and a layer norm's vectors.
Weight hone_make_linear(int64_t out, int64_t in);
Norm hone_make_norm(int64_t C);
// Fail unless the heads, each with keys of its own, make the channels together.
hone_status hone_check_whole_heads(const ModelConfig *config, HoneError *err);

// Where a family is in its visit: tensors are named SIDE blk.NUMBER.NAME.KIND.
typedef struct PartVisitor {
    ParameterVisitor visit;
    void *user;
    const char *side;  // of an encoder-decoder "enc." or "dec."; NULL: there are none
    int number, layer; // of the layer on its side and among all; -1: none
    HoneError *err;
} PartVisitor;
// kind: "weight" or "bias"; weight and target as of hone_visit_weight, or NULL.
hone_status hone_visit_part(const PartVisitor *to, const char *name, const char *kind,
                            Tensor *tensor, Weight *weight, const char *target);
hone_status hone_visit_linear(const PartVisitor *to, const char *name, const char *target,
                              Weight *weight);
hone_status hone_visit_norm(const PartVisitor *to, const char *name, Norm *norm);
// Encoder-decoders: to a layer, or behind the last one of a side (0: the encoder's).
void hone_side_layer(const Model *model, int layer, PartVisitor *to);
void hone_side_end(int side, PartVisitor *to);

// heads.c: make model->heads, with what the configuration says is there; and visit it.
hone_status hone_heads_make(Model *model, HoneError *err);
hone_status hone_heads_visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err);

// The family's forward, after a look at the batch's numbers.
Tensor *hone_run_batch(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache);

// A layer's output: run(tape, arguments, x), checkpointed where the trainer wants it.
Tensor *hone_run_layer(const Model *model, Tape *tape, int layer, TapeSegment *run,
                       const void *arguments, size_t bytes, Tensor *x);

// experts.c: the feed-forward of a layer that is a mixture of experts, in the model's arena.
typedef struct Experts Experts;
hone_status hone_experts_make(Model *model, Experts **experts, HoneError *err);
hone_status hone_experts_visit(Experts *experts, int count, ParameterVisitor visitor, void *user,
                               int layer, HoneError *err);
Tensor *hone_experts_run(Tape *tape, const Model *model, int layer, Experts *experts, Tensor *h,
                         const uint64_t *path);

// What one layer runs over: keys of all tokens (after those in the cache), queries of some.
typedef struct LayerRows {
    const int32_t *row;                // of the tokens; NULL: all of them
    int64_t rows;                      // queries
    const int32_t *position;           // of the tokens
    const int32_t *query_position;     // of the queries
    const int32_t *key_position;       // of the keys, where ModelBatch says it, or without a cache
    const uint64_t *path, *query_path; // of the tokens and of the queries, or NULL
    Visibility visible;
} LayerRows;

// rope.c: the model's frequencies; and how a layer's heads turn, NULL: not at all.
hone_status hone_make_rotations(Model *model, HoneError *err);
const Rotation *hone_layer_rotation(const Model *model, int layer);

// rows.c
LayerRows hone_all_rows(const ModelBatch *batch, const KeyValueCache *cache);
// The batch's chosen rows: begin and end are counted among them. Index lists live on the tape.
LayerRows hone_chosen_rows(Tape *tape, const ModelBatch *batch, const KeyValueCache *cache);
// The same where a query sees only keys less than `window` below it in its sequence. Cached keys
// stand in one line from depth 0 on.
LayerRows hone_windowed_rows(Tape *tape, const LayerRows *rows, const KeyValueCache *cache,
                             int32_t window);
// What an encoder's layers run over.
LayerRows hone_source_rows(const SourceBatch *source);
// Which of a layer's queries see which source tokens.
Visibility hone_source_visibility(Tape *tape, const LayerRows *rows, const SourceBatch *source);
// x's chosen rows; x itself when all are.
Tensor *hone_layer_rows(Tape *tape, const LayerRows *rows, Tensor *x);

// encoder_decoder.c: where a layer of an encoder-decoder is, what it runs over, and what its cross
// attention reads.
typedef struct SidePlace {
    const Model *model;
    LayerRows rows;
    const SourceBatch *source; // NULL in the encoder
    Tensor *memory;            // (sources,C); NULL where the cache has its keys and values
    Visibility memories;       // of the queries
    KeyValueCache *cache;      // NULL in training
    int layer, number;         // among all; on its side
} SidePlace;

enum { SIDE_SELF, SIDE_CROSS, SIDE_FEED_FORWARD, SIDE_PARTS }; // of a layer: what they drop differs

// What a family makes of a side (0: the encoder).
typedef struct SideFunctions {
    // (rows,C) of the tokens, before dropout; alike on both.
    Tensor *(*embed)(Tape *tape, const Model *model, const int32_t *token, const LayerRows *rows);
    TapeSegment *layer; // its place is a SidePlace
    // What becomes of the last layer's output.
    Tensor *(*finish)(Tape *tape, const Model *model, int side, Tensor *x);
} SideFunctions;
// The family's encode and forward: embedding, layers, checkpointed where the trainer wants it, end.
Tensor *hone_side_encode(const SideFunctions *side, const Model *model, Tape *tape,
                         const SourceBatch *source);
Tensor *hone_side_decode(const SideFunctions *side, const Model *model, Tape *tape,
                         const ModelBatch *batch, KeyValueCache *cache);
// x + drop(y), y of a part of the layer.
Tensor *hone_side_add(Tape *tape, const SidePlace *at, int part, Tensor *x, Tensor *y);
// Keys and values: those of h behind the cached ones; and those of the memory, which a cache has.
void hone_side_own(Tape *tape, const SidePlace *at, Weight *key, Weight *value, Tensor *h,
                   Tensor **k, Tensor **v);
void hone_side_memory(Tape *tape, const SidePlace *at, Weight *key, Weight *value, Tensor **k,
                      Tensor **v);

#endif
