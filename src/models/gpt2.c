// SPDX-License-Identifier: Apache-2.0
// GPT-2 (Radford et al. 2019): a pre-norm decoder with learned positions, biases and GELU.
//     x ← embedding(token) + embedding(position)
//     x ← x + o(attention(q, k, v)),  (q, k, v) = qkv(norm(x))
//     x ← x + down(gelu(up(h))),      h = norm(x)
#include <inttypes.h>
#include <math.h>

#include "models/family.h"

typedef struct Gpt2Layer {
    Norm attention_norm, feed_forward_norm;
    Weight qkv, o, up, down; // (3·C,C), (C,C), (F,C), (C,F), each with a bias
} Gpt2Layer;

typedef struct Gpt2 {
    Weight embedding, positions; // (V,C), (context,C)
    Gpt2Layer *layers;
    Norm norm;
    Weight head; // (V,C); not there when tied
} Gpt2;

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels, F = config->feed_forward, V = config->vocabulary;
    RETURN_IF_ERROR(hone_check_whole_heads(config, err));
    const size_t layers = (size_t)config->layers;
    Gpt2 *gpt2 = hone_arena_calloc(&model->arena, 1, sizeof *gpt2);
    if (!gpt2) return hone_fail_memory(err, sizeof *gpt2, "a model");
    model->parameters = gpt2;
    gpt2->layers = hone_arena_calloc(&model->arena, layers, sizeof *gpt2->layers);
    if (!gpt2->layers) return hone_fail_memory(err, layers * sizeof *gpt2->layers, "its layers");

    gpt2->embedding.base = hone_model_tensor(V, C);
    gpt2->positions.base = hone_model_tensor(config->context, C);
    gpt2->norm = hone_make_norm(C);
    gpt2->head.base = hone_model_tensor(V, C);
    for (size_t i = 0; i < layers; i++)
        gpt2->layers[i] = (Gpt2Layer){.attention_norm = hone_make_norm(C),
                                      .feed_forward_norm = hone_make_norm(C),
                                      .qkv = hone_make_linear(3 * C, C),
                                      .o = hone_make_linear(C, C),
                                      .up = hone_make_linear(F, C),
                                      .down = hone_make_linear(C, F)};
    return HONE_OK;
}

// ---- parameters --------------------------------------------------------------------------------

static hone_status visit_layer(const PartVisitor *to, Gpt2Layer *layer) {
    RETURN_IF_ERROR(hone_visit_norm(to, "attn_norm", &layer->attention_norm));
    RETURN_IF_ERROR(hone_visit_linear(to, "attn_qkv", "qkv", &layer->qkv));
    RETURN_IF_ERROR(hone_visit_linear(to, "attn_output", "o", &layer->o));
    RETURN_IF_ERROR(hone_visit_norm(to, "ffn_norm", &layer->feed_forward_norm));
    RETURN_IF_ERROR(hone_visit_linear(to, "ffn_up", "up", &layer->up));
    return hone_visit_linear(to, "ffn_down", "down", &layer->down);
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    Gpt2 *gpt2 = model->parameters;
    PartVisitor to = {visitor, user, NULL, -1, -1, err};
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "token_embd.weight", -1, "embed", &gpt2->embedding, err));
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "position_embd.weight", -1, NULL, &gpt2->positions, err));
    for (int i = 0; i < model->config.layers; i++) {
        to.number = to.layer = i;
        RETURN_IF_ERROR(visit_layer(&to, &gpt2->layers[i]));
    }
    to.number = to.layer = -1;
    RETURN_IF_ERROR(hone_visit_norm(&to, "output_norm", &gpt2->norm));
    if (model->config.tied_head) return HONE_OK;
    return hone_visit_weight(visitor, user, "output.weight", -1, "head", &gpt2->head, err);
}

static Weight *head(Model *model) {
    Gpt2 *gpt2 = model->parameters;
    return model->config.tied_head ? &gpt2->embedding : &gpt2->head;
}

// ---- forward -----------------------------------------------------------------------------------

// Where a layer is: its model's numbers, what it runs over, and its part of the cache.
typedef struct Place {
    const Model *model;
    LayerRows rows;
    KeyValueCache *cache; // NULL in training
    int layer;
} Place;

static Tensor *normalise(Tape *tape, const Place *at, Norm *norm, Tensor *x) {
    return hone_layer_norm(tape, &norm->gain, &norm->bias, at->model->config.norm_eps, x);
}

static Tensor *self_attention(Tape *tape, const Place *at, Gpt2Layer *layer, Tensor *x) {
    const ModelConfig *config = &at->model->config;
    const int64_t C = config->channels;
    Tensor *h = normalise(tape, at, &layer->attention_norm, x);
    Tensor *qkv = hone_linear(tape, &layer->qkv, h, at->rows.path);
    Tensor *k = hone_select_columns(tape, qkv, C, C);
    Tensor *v = hone_select_columns(tape, qkv, 2 * C, C);
    if (at->cache) {
        k = hone_append_rows(tape, &at->cache->k[at->layer], at->cache->length, k);
        v = hone_append_rows(tape, &at->cache->v[at->layer], at->cache->length, v);
    }
    Tensor *q = hone_select_columns(tape, hone_layer_rows(tape, &at->rows, qkv), 0, C);
    const float scale = 1.0f / sqrtf((float)config->head_size);
    Tensor *o =
        hone_attention(tape, q, k, v, config->heads, config->heads, scale, 0, at->rows.visible);
    return hone_linear(tape, &layer->o, o, at->rows.query_path);
}

static Tensor *feed_forward(Tape *tape, const Place *at, Gpt2Layer *layer, Tensor *x) {
    Tensor *h = normalise(tape, at, &layer->feed_forward_norm, x);
    Tensor *up = hone_linear(tape, &layer->up, h, at->rows.query_path);
    return hone_linear(tape, &layer->down, hone_gelu(tape, up), at->rows.query_path);
}

static Tensor *decoder_layer(Tape *tape, const void *place, Tensor *x) {
    const Place *at = place;
    Gpt2Layer *layer = &((Gpt2 *)at->model->parameters)->layers[at->layer];
    Tensor *attended = self_attention(tape, at, layer, x);
    x = hone_add(tape, hone_layer_rows(tape, &at->rows, x), attended);
    return hone_add(tape, x, feed_forward(tape, at, layer, x));
}

static Tensor *forward(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    Gpt2 *gpt2 = model->parameters;
    const int layers = model->config.layers;
    const LayerRows all = hone_all_rows(batch, cache);
    const LayerRows chosen = hone_chosen_rows(tape, batch, cache);
    hone_tape_enter(tape);
    Tensor *x = hone_embedding(tape, &gpt2->embedding, batch->token, batch->tokens);
    Tensor *depth = hone_embedding(tape, &gpt2->positions, batch->position, batch->tokens);
    x = hone_tape_renew(tape, hone_add(tape, x, depth));
    for (int i = 0; i < layers; i++) {
        const Place at = {model, i + 1 < layers ? all : chosen, cache, i};
        x = hone_tape_renew(tape, hone_run_layer(model, tape, i, decoder_layer, &at, sizeof at, x));
    }
    const float eps = model->config.norm_eps;
    return hone_tape_leave(tape, hone_layer_norm(tape, &gpt2->norm.gain, &gpt2->norm.bias, eps, x));
}

const ModelFamily hone_gpt2 = {
    .architecture = "gpt2", .make = make, .visit = visit, .forward = forward, .head = head};
