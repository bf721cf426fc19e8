// SPDX-License-Identifier: Apache-2.0
// GPT-2 (Radford et al. 2019): a pre-norm decoder with learned positions, biases and GELU.
//     x ← embedding(token) + embedding(position)
//     x ← x + o(attention(q, k, v)),  (q, k, v) = qkv(norm(x))
//     x ← x + down(gelu(up(h))),      h = norm(x)
#include <inttypes.h>
#include <math.h>

#include "models/family.h"

typedef struct Norm {
    Tensor gain, bias; // (C)
} Norm;

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

static Weight weight(int64_t out, int64_t in, bool has_bias) {
    Weight made = {.base = hone_model_tensor(out, in)};
    if (has_bias) made.bias = hone_model_tensor(out, 0);
    return made;
}

static Norm norm(int64_t C) {
    return (Norm){hone_model_tensor(C, 0), hone_model_tensor(C, 0)};
}

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels, F = config->feed_forward, V = config->vocabulary;
    if ((int64_t)config->heads * config->head_size != C || config->kv_heads != config->heads)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%d heads and %d key/value heads of %d do not make the embedding length "
                         "%" PRId64,
                         config->heads, config->kv_heads, config->head_size, C);
    const size_t layers = (size_t)config->layers;
    Gpt2 *gpt2 = hone_arena_calloc(&model->arena, 1, sizeof *gpt2);
    if (!gpt2) return hone_fail_memory(err, sizeof *gpt2, "a model");
    model->parameters = gpt2;
    gpt2->layers = hone_arena_calloc(&model->arena, layers, sizeof *gpt2->layers);
    if (!gpt2->layers) return hone_fail_memory(err, layers * sizeof *gpt2->layers, "its layers");

    gpt2->embedding = weight(V, C, false);
    gpt2->positions = weight(config->context, C, false);
    gpt2->norm = norm(C);
    gpt2->head = weight(V, C, false);
    for (size_t i = 0; i < layers; i++)
        gpt2->layers[i] = (Gpt2Layer){.attention_norm = norm(C),
                                      .feed_forward_norm = norm(C),
                                      .qkv = weight(3 * C, C, true),
                                      .o = weight(C, C, true),
                                      .up = weight(F, C, true),
                                      .down = weight(C, F, true)};
    return HONE_OK;
}

// ---- parameters --------------------------------------------------------------------------------

typedef struct Visitor {
    ParameterVisitor visit;
    void *user;
    int layer;
    HoneError *err;
} Visitor;

static hone_status visit_norm(const Visitor *to, const char *gain, const char *bias, Norm *norm) {
    RETURN_IF_ERROR(hone_visit_tensor(to->visit, to->user, gain, to->layer, &norm->gain, to->err));
    return hone_visit_tensor(to->visit, to->user, bias, to->layer, &norm->bias, to->err);
}

static hone_status visit_linear(const Visitor *to, const char *name, const char *bias,
                                const char *target, Weight *weight) {
    RETURN_IF_ERROR(
        hone_visit_weight(to->visit, to->user, name, to->layer, target, weight, to->err));
    return hone_visit_tensor(to->visit, to->user, bias, to->layer, &weight->bias, to->err);
}

static hone_status visit_layer(const Visitor *to, Gpt2Layer *layer) {
    RETURN_IF_ERROR(visit_norm(to, "attn_norm.weight", "attn_norm.bias", &layer->attention_norm));
    RETURN_IF_ERROR(visit_linear(to, "attn_qkv.weight", "attn_qkv.bias", "qkv", &layer->qkv));
    RETURN_IF_ERROR(visit_linear(to, "attn_output.weight", "attn_output.bias", "o", &layer->o));
    RETURN_IF_ERROR(visit_norm(to, "ffn_norm.weight", "ffn_norm.bias", &layer->feed_forward_norm));
    RETURN_IF_ERROR(visit_linear(to, "ffn_up.weight", "ffn_up.bias", "up", &layer->up));
    return visit_linear(to, "ffn_down.weight", "ffn_down.bias", "down", &layer->down);
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    Gpt2 *gpt2 = model->parameters;
    Visitor to = {visitor, user, -1, err};
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "token_embd.weight", -1, "embed", &gpt2->embedding, err));
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "position_embd.weight", -1, NULL, &gpt2->positions, err));
    for (to.layer = 0; to.layer < model->config.layers; to.layer++)
        RETURN_IF_ERROR(visit_layer(&to, &gpt2->layers[to.layer]));
    to.layer = -1;
    RETURN_IF_ERROR(visit_norm(&to, "output_norm.weight", "output_norm.bias", &gpt2->norm));
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
