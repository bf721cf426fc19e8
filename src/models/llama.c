// SPDX-License-Identifier: Apache-2.0
// Llama (Touvron et al. 2023): a pre-norm decoder with rotary positions, grouped key/value heads
// and SwiGLU.
//     x ← x + o(attention(rotary(q(h)), rotary(k(h)), v(h))),  h = norm(x)
//     x ← x + down(silu(gate(h)) ⊙ up(h)),                     h = norm(x)
#include <math.h>

#include "models/family.h"

typedef struct LlamaLayer {
    Tensor attention_norm, feed_forward_norm; // (C)
    Weight q, k, v, o;                        // (H·D,C), (K·D,C), (K·D,C), (C,H·D)
    Weight gate, up, down;                    // (F,C), (F,C), (C,F)
} LlamaLayer;

typedef struct Llama {
    Weight embedding; // (V,C)
    LlamaLayer *layers;
    Tensor norm; // (C)
    Weight head; // (V,C); not there when tied
} Llama;

static Weight weight(int64_t out, int64_t in) {
    return (Weight){.base = hone_model_tensor(out, in)};
}

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const size_t layers = (size_t)config->layers;
    Llama *llama = hone_arena_calloc(&model->arena, 1, sizeof *llama);
    if (!llama) return hone_fail_memory(err, sizeof *llama, "a model");
    model->parameters = llama;
    llama->layers = hone_arena_calloc(&model->arena, layers, sizeof *llama->layers);
    if (!llama->layers) return hone_fail_memory(err, layers * sizeof *llama->layers, "its layers");

    const int64_t C = config->channels, F = config->feed_forward, V = config->vocabulary;
    const int64_t HD = (int64_t)config->heads * config->head_size;
    const int64_t KD = (int64_t)config->kv_heads * config->head_size;
    llama->embedding = weight(V, C);
    llama->norm = hone_model_tensor(C, 0);
    llama->head = weight(V, C);
    for (size_t i = 0; i < layers; i++)
        llama->layers[i] = (LlamaLayer){.attention_norm = hone_model_tensor(C, 0),
                                        .feed_forward_norm = hone_model_tensor(C, 0),
                                        .q = weight(HD, C),
                                        .k = weight(KD, C),
                                        .v = weight(KD, C),
                                        .o = weight(C, HD),
                                        .gate = weight(F, C),
                                        .up = weight(F, C),
                                        .down = weight(C, F)};
    return HONE_OK;
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    Llama *llama = model->parameters;
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "token_embd.weight", -1, "embed", &llama->embedding, err));
    for (int i = 0; i < model->config.layers; i++) {
        LlamaLayer *layer = &llama->layers[i];
        const struct {
            const char *name, *target;
            Weight *weight;
        } attention[] = {{"attn_q.weight", "q", &layer->q},
                         {"attn_k.weight", "k", &layer->k},
                         {"attn_v.weight", "v", &layer->v},
                         {"attn_output.weight", "o", &layer->o}},
          feed_forward[] = {{"ffn_gate.weight", "gate", &layer->gate},
                            {"ffn_up.weight", "up", &layer->up},
                            {"ffn_down.weight", "down", &layer->down}};
        RETURN_IF_ERROR(
            hone_visit_tensor(visitor, user, "attn_norm.weight", i, &layer->attention_norm, err));
        for (int j = 0; j < 4; j++)
            RETURN_IF_ERROR(hone_visit_weight(visitor, user, attention[j].name, i,
                                              attention[j].target, attention[j].weight, err));
        RETURN_IF_ERROR(
            hone_visit_tensor(visitor, user, "ffn_norm.weight", i, &layer->feed_forward_norm, err));
        for (int j = 0; j < 3; j++)
            RETURN_IF_ERROR(hone_visit_weight(visitor, user, feed_forward[j].name, i,
                                              feed_forward[j].target, feed_forward[j].weight, err));
    }
    RETURN_IF_ERROR(hone_visit_tensor(visitor, user, "output_norm.weight", -1, &llama->norm, err));
    if (model->config.tied_head) return HONE_OK;
    return hone_visit_weight(visitor, user, "output.weight", -1, "head", &llama->head, err);
}

static Weight *head(Model *model) {
    Llama *llama = model->parameters;
    return model->config.tied_head ? &llama->embedding : &llama->head;
}

// ---- forward -----------------------------------------------------------------------------------

// Where a layer is: its model's numbers, what it runs over, and its part of the cache.
typedef struct Place {
    const Model *model;
    LayerRows rows;
    KeyValueCache *cache; // NULL in training
    int layer;
} Place;

static Tensor *rotate(Tape *tape, const Place *at, Tensor *x, int heads, const int32_t *position) {
    const ModelConfig *config = &at->model->config;
    const Rotation rotation = {config->rotary, config->rope_interleaved, at->model->frequency, 0};
    return hone_rotary(tape, x, heads, rotation, position);
}

static Tensor *self_attention(Tape *tape, const Place *at, LlamaLayer *layer, Tensor *x) {
    const ModelConfig *config = &at->model->config;
    const LayerRows *rows = &at->rows;
    Tensor *h = hone_rms_norm(tape, &layer->attention_norm, config->norm_eps, x);
    Tensor *k = hone_linear(tape, &layer->k, h, rows->path);
    k = rotate(tape, at, k, config->kv_heads, rows->position);
    Tensor *v = hone_linear(tape, &layer->v, h, rows->path);
    if (at->cache) {
        k = hone_append_rows(tape, &at->cache->k[at->layer], at->cache->length, k);
        v = hone_append_rows(tape, &at->cache->v[at->layer], at->cache->length, v);
    }
    Tensor *q = hone_linear(tape, &layer->q, hone_layer_rows(tape, rows, h), rows->query_path);
    q = rotate(tape, at, q, config->heads, rows->query_position);
    const float scale = 1.0f / sqrtf((float)config->head_size);
    Tensor *o =
        hone_attention(tape, q, k, v, config->heads, config->kv_heads, scale, 0, rows->visible);
    return hone_linear(tape, &layer->o, o, rows->query_path);
}

static Tensor *feed_forward(Tape *tape, const Place *at, LlamaLayer *layer, Tensor *x) {
    const uint64_t *path = at->rows.query_path;
    Tensor *h = hone_rms_norm(tape, &layer->feed_forward_norm, at->model->config.norm_eps, x);
    Tensor *gate = hone_linear(tape, &layer->gate, h, path);
    Tensor *up = hone_linear(tape, &layer->up, h, path);
    return hone_linear(tape, &layer->down, hone_swiglu(tape, gate, up), path);
}

static Tensor *decoder_layer(Tape *tape, const void *place, Tensor *x) {
    const Place *at = place;
    LlamaLayer *layer = &((Llama *)at->model->parameters)->layers[at->layer];
    Tensor *attended = self_attention(tape, at, layer, x);
    x = hone_add(tape, hone_layer_rows(tape, &at->rows, x), attended);
    return hone_add(tape, x, feed_forward(tape, at, layer, x));
}

static Tensor *forward(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    Llama *llama = model->parameters;
    const int layers = model->config.layers;
    const LayerRows all = hone_all_rows(batch, cache);
    const LayerRows chosen = hone_chosen_rows(tape, batch, cache);
    hone_tape_enter(tape);
    Tensor *x = hone_embedding(tape, &llama->embedding, batch->token, batch->tokens);
    for (int i = 0; i < layers; i++) {
        const Place at = {model, i + 1 < layers ? all : chosen, cache, i};
        x = hone_tape_renew(tape, hone_run_layer(model, tape, i, decoder_layer, &at, sizeof at, x));
    }
    return hone_tape_leave(tape, hone_rms_norm(tape, &llama->norm, model->config.norm_eps, x));
}

const ModelFamily hone_llama = {"llama", make, visit, forward, head};
