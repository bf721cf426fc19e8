// SPDX-License-Identifier: Apache-2.0
// BERT (Devlin et al. 2019): a post-norm encoder with learned positions, biases and GELU.
//     x ← n0(embedding(token) + positions(position) + types(type))
//     x ← n1(x + o(attention(q(x), k(x), v(x))))
//     x ← n2(x + down(gelu(up(x))))
// with dropout behind the first norm and behind o and down, as the paper has it but for that of the
// attention's weights. gelu is the one with erf, in GGUF files too, whatever they are computed with
// elsewhere.
#include <inttypes.h>
#include <math.h>

#include "models/family.h"

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

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels, F = config->feed_forward;
    RETURN_IF_ERROR(hone_check_whole_heads(config, err));
    const size_t layers = (size_t)config->layers;
    Bert *bert = hone_arena_calloc(&model->arena, 1, sizeof *bert);
    if (!bert) return hone_fail_memory(err, sizeof *bert, "a model");
    model->parameters = bert;
    bert->layers = hone_arena_calloc(&model->arena, layers, sizeof *bert->layers);
    if (!bert->layers) return hone_fail_memory(err, layers * sizeof *bert->layers, "its layers");

    bert->embedding = table(config->vocabulary, C);
    bert->positions = table(config->context, C);
    if (config->token_types > 0) bert->types = table(config->token_types, C);
    bert->n0 = hone_make_norm(C);
    for (size_t i = 0; i < layers; i++)
        bert->layers[i] = (BertLayer){.q = hone_make_linear(C, C),
                                      .k = hone_make_linear(C, C),
                                      .v = hone_make_linear(C, C),
                                      .o = hone_make_linear(C, C),
                                      .n1 = hone_make_norm(C),
                                      .up = hone_make_linear(F, C),
                                      .down = hone_make_linear(C, F),
                                      .n2 = hone_make_norm(C)};
    return hone_heads_make(model, err);
}

// ---- parameters --------------------------------------------------------------------------------

static hone_status visit_layer(const PartVisitor *to, BertLayer *layer) {
    RETURN_IF_ERROR(hone_visit_linear(to, "attn_q", "q", &layer->q));
    RETURN_IF_ERROR(hone_visit_linear(to, "attn_k", "k", &layer->k));
    RETURN_IF_ERROR(hone_visit_linear(to, "attn_v", "v", &layer->v));
    RETURN_IF_ERROR(hone_visit_linear(to, "attn_output", "o", &layer->o));
    RETURN_IF_ERROR(hone_visit_norm(to, "attn_output_norm", &layer->n1));
    RETURN_IF_ERROR(hone_visit_linear(to, "ffn_up", "up", &layer->up));
    RETURN_IF_ERROR(hone_visit_linear(to, "ffn_down", "down", &layer->down));
    return hone_visit_norm(to, "layer_output_norm", &layer->n2);
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    Bert *bert = model->parameters;
    PartVisitor to = {visitor, user, NULL, -1, -1, err};
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "token_embd.weight", -1, "embed", &bert->embedding, err));
    if (model->config.token_types > 0)
        RETURN_IF_ERROR(
            hone_visit_weight(visitor, user, "token_types.weight", -1, NULL, &bert->types, err));
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "position_embd.weight", -1, NULL, &bert->positions, err));
    RETURN_IF_ERROR(hone_visit_norm(&to, "token_embd_norm", &bert->n0));
    for (int i = 0; i < model->config.layers; i++) {
        to.number = to.layer = i;
        RETURN_IF_ERROR(visit_layer(&to, &bert->layers[i]));
    }
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

// Behind the embedding: 0; behind each layer's two parts: 1, 2, ….
static Tensor *drop(Tape *tape, const Place *at, uint32_t place, const uint64_t *path, Tensor *x) {
    return hone_dropout(tape, at->model->dropout, place, path, x);
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
    const uint64_t *path = at->rows.query_path;
    const uint32_t number = 2 * (uint32_t)at->layer + 1;
    Tensor *attended = drop(tape, at, number, path, self_attention(tape, at, layer, x));
    x = hone_add(tape, hone_layer_rows(tape, &at->rows, x), attended);
    x = normalise(tape, at, &layer->n1, x);
    x = hone_add(tape, x, drop(tape, at, number + 1, path, feed_forward(tape, at, layer, x)));
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
    x = hone_tape_renew(tape, drop(tape, &first, 0, batch->path, x));
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
