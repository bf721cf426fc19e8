// SPDX-License-Identifier: Apache-2.0
// BERT (Devlin et al. 2019): a post-norm encoder with learned positions, biases and GELU.
//     x ← n0(embedding(token) + positions(position) + types(type))
//     x ← n1(x + o(attention(q(x), k(x), v(x))))
//     x ← n2(x + down(gelu(up(x))))
// gelu is the one with erf, in GGUF files too, whatever they are computed with elsewhere.
#include <inttypes.h>
#include <math.h>

#include "models/family.h"

typedef struct Norm {
    Tensor gain, bias; // (C)
} Norm;

typedef struct BertLayer {
    Weight q, k, v, o; // (C,C), each with a bias
    Norm n1;
    Weight up, down; // (F,C), (C,F)
    Norm n2;
} BertLayer;

typedef struct Bert {
    Weight embedding, types, positions; // (V,C), (types,C), (context,C)
    Norm n0;
    BertLayer *layers;
} Bert;

static Weight table(int64_t rows, int64_t C) {
    return (Weight){.base = hone_model_tensor(rows, C)};
}

static Weight linear(int64_t out, int64_t in) {
    return (Weight){.base = hone_model_tensor(out, in), .bias = hone_model_tensor(out, 0)};
}

static Norm norm(int64_t C) {
    return (Norm){hone_model_tensor(C, 0), hone_model_tensor(C, 0)};
}

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels, F = config->feed_forward;
    if ((int64_t)config->heads * config->head_size != C || config->kv_heads != config->heads)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%d heads and %d key/value heads of %d do not make the embedding length "
                         "%" PRId64,
                         config->heads, config->kv_heads, config->head_size, C);
    const size_t layers = (size_t)config->layers;
    Bert *bert = hone_arena_calloc(&model->arena, 1, sizeof *bert);
    if (!bert) return hone_fail_memory(err, sizeof *bert, "a model");
    model->parameters = bert;
    bert->layers = hone_arena_calloc(&model->arena, layers, sizeof *bert->layers);
    if (!bert->layers) return hone_fail_memory(err, layers * sizeof *bert->layers, "its layers");

    bert->embedding = table(config->vocabulary, C);
    bert->positions = table(config->context, C);
    if (config->token_types > 0) bert->types = table(config->token_types, C);
    bert->n0 = norm(C);
    for (size_t i = 0; i < layers; i++)
        bert->layers[i] = (BertLayer){.q = linear(C, C),
                                      .k = linear(C, C),
                                      .v = linear(C, C),
                                      .o = linear(C, C),
                                      .n1 = norm(C),
                                      .up = linear(F, C),
                                      .down = linear(C, F),
                                      .n2 = norm(C)};
    return hone_heads_make(model, err);
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

static hone_status visit_layer(const Visitor *to, BertLayer *layer) {
    RETURN_IF_ERROR(visit_linear(to, "attn_q.weight", "attn_q.bias", "q", &layer->q));
    RETURN_IF_ERROR(visit_linear(to, "attn_k.weight", "attn_k.bias", "k", &layer->k));
    RETURN_IF_ERROR(visit_linear(to, "attn_v.weight", "attn_v.bias", "v", &layer->v));
    RETURN_IF_ERROR(visit_linear(to, "attn_output.weight", "attn_output.bias", "o", &layer->o));
    RETURN_IF_ERROR(visit_norm(to, "attn_output_norm.weight", "attn_output_norm.bias", &layer->n1));
    RETURN_IF_ERROR(visit_linear(to, "ffn_up.weight", "ffn_up.bias", "up", &layer->up));
    RETURN_IF_ERROR(visit_linear(to, "ffn_down.weight", "ffn_down.bias", "down", &layer->down));
    return visit_norm(to, "layer_output_norm.weight", "layer_output_norm.bias", &layer->n2);
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    Bert *bert = model->parameters;
    Visitor to = {visitor, user, -1, err};
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "token_embd.weight", -1, "embed", &bert->embedding, err));
    if (model->config.token_types > 0)
        RETURN_IF_ERROR(
            hone_visit_weight(visitor, user, "token_types.weight", -1, NULL, &bert->types, err));
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "position_embd.weight", -1, NULL, &bert->positions, err));
    RETURN_IF_ERROR(visit_norm(&to, "token_embd_norm.weight", "token_embd_norm.bias", &bert->n0));
    for (to.layer = 0; to.layer < model->config.layers; to.layer++)
        RETURN_IF_ERROR(visit_layer(&to, &bert->layers[to.layer]));
    return hone_heads_visit(model, visitor, user, err);
}

// Of masked words: the embedding, in all that was published.
static Weight *head(Model *model) {
    return &((Bert *)model->parameters)->embedding;
}

// ---- forward -----------------------------------------------------------------------------------

typedef struct Place {
    const Model *model;
    LayerRows rows;
    int layer;
} Place;

static Tensor *normalise(Tape *tape, const Place *at, Norm *norm, Tensor *x) {
    return hone_layer_norm(tape, &norm->gain, &norm->bias, at->model->config.norm_eps, x);
}

static Tensor *self_attention(Tape *tape, const Place *at, BertLayer *layer, Tensor *x) {
    const LayerRows *rows = &at->rows;
    const int H = at->model->config.heads;
    const float scale = 1.0f / sqrtf((float)at->model->config.head_size);
    Tensor *k = hone_linear(tape, &layer->k, x, rows->path);
    Tensor *v = hone_linear(tape, &layer->v, x, rows->path);
    Tensor *q = hone_linear(tape, &layer->q, hone_layer_rows(tape, rows, x), rows->query_path);
    Tensor *o = hone_attention(tape, q, k, v, H, H, scale, 0, rows->visible);
    return hone_linear(tape, &layer->o, o, rows->query_path);
}

static Tensor *feed_forward(Tape *tape, const Place *at, BertLayer *layer, Tensor *x) {
    Tensor *up = hone_linear(tape, &layer->up, x, at->rows.query_path);
    return hone_linear(tape, &layer->down, hone_gelu_erf(tape, up), at->rows.query_path);
}

static Tensor *encoder_layer(Tape *tape, const void *place, Tensor *x) {
    const Place *at = place;
    BertLayer *layer = &((Bert *)at->model->parameters)->layers[at->layer];
    Tensor *attended = self_attention(tape, at, layer, x);
    x = hone_add(tape, hone_layer_rows(tape, &at->rows, x), attended);
    x = normalise(tape, at, &layer->n1, x);
    x = hone_add(tape, x, feed_forward(tape, at, layer, x));
    return normalise(tape, at, &layer->n2, x);
}

static Tensor *embed(Bert *bert, Tape *tape, const ModelBatch *batch) {
    Tensor *x = hone_embedding(tape, &bert->embedding, batch->token, batch->tokens);
    Tensor *depth = hone_embedding(tape, &bert->positions, batch->position, batch->tokens);
    x = hone_add(tape, x, depth);
    if (bert->types.base.rank == 0) return x;
    const int32_t *type = batch->type;
    if (!type) type = hone_tape_host(tape, batch->tokens, sizeof *type);
    if (!type) return NULL;
    return hone_add(tape, x, hone_embedding(tape, &bert->types, type, batch->tokens));
}

static Tensor *forward(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    Bert *bert = model->parameters;
    const int layers = model->config.layers;
    const LayerRows all = hone_all_rows(batch, cache);
    const LayerRows chosen = hone_chosen_rows(tape, batch, cache);
    hone_tape_enter(tape);
    const Place first = {model, all, 0};
    Tensor *x = normalise(tape, &first, &bert->n0, embed(bert, tape, batch));
    x = hone_tape_renew(tape, x);
    for (int i = 0; i < layers; i++) {
        const Place at = {model, i + 1 < layers ? all : chosen, i};
        x = hone_tape_renew(tape, hone_run_layer(model, tape, i, encoder_layer, &at, sizeof at, x));
    }
    return hone_tape_leave(tape, x);
}

const ModelFamily hone_bert = {.architecture = "bert",
                               .make = make,
                               .visit = visit,
                               .forward = forward,
                               .head = head,
                               .encoder = true};
