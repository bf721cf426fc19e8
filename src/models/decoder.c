// SPDX-License-Identifier: Apache-2.0
// The decoder of Llama (Touvron et al. 2023) and of those that came after it.
//     x ← e·embedding(token)
//     x ← x + r·n2(o(attention(R·nq(q(h)), R·nk(k(h)), v(h)))),  h = n1(x)
//     x ← x + r·n4(down(act(gate(h)) ⊙ up(h))),                  h = n3(x)
//     last hidden state = s·n5(x)
// with norms n, rotary positions R, act = silu and numbers e, r, s. Layers with experts have those
// in place of down(…): experts.c. What a family has not is the identity, or 1:
//     Llama, Mistral   n1, n3
//     Granite          n1, n3; e, r, s and its own scale of the scores
//     SmolLM3          n1, n3; R in three layers of four
//     Qwen2            n1, n3; biases of q, k and v
//     Qwen3            n1, n3; nq and nk of each head
//     Qwen3-MoE        n1, n3; nq and nk of each head; experts
//     OLMoE            n1, n3; nq and nk of all heads together; experts
//     Phi-3            n1, n3; q, k and v are one matrix, gate and up another
//     OLMo 2           n2, n4; nq and nk of all heads together
//     Gemma 2          n1 … n4; e = √C, act = gelu, soft-caps
//     Gemma 3          n1 … n4; e = √C, act = gelu; nq and nk of each head
#include <math.h>
#include <stdio.h>

#include "models/family.h"

typedef struct DecoderLayer {
    Tensor n1, n2, n3, n4; // (C); rank 0: not there
    Tensor nq, nk;         // (D), or (H·D) and (K·D)
    Weight q, k, v, qkv;   // (H·D,C), (K·D,C), (K·D,C); qkv instead: all their rows
    Weight o;              // (C,H·D)
    Weight gate, up, down; // (F,C), (F,C), (C,F); without gate: up has its rows and then its own
    Experts *experts;      // in place of these; NULL: none
} DecoderLayer;

typedef struct Decoder {
    Weight embedding; // (V,C)
    DecoderLayer *layers;
    Tensor n5;   // (C)
    Weight head; // (V,C); not there when tied
} Decoder;

static Tensor vector(bool there, int64_t size) {
    return there ? hone_model_tensor(size, 0) : (Tensor){0};
}

static Weight matrix(bool there, int64_t out, int64_t in, bool has_bias) {
    if (!there) return (Weight){0};
    return (Weight){.base = hone_model_tensor(out, in), .bias = vector(has_bias, out)};
}

static DecoderLayer make_layer(const ModelConfig *config, const ModelFamily *is, bool sparse) {
    const int64_t C = config->channels, F = config->feed_forward, D = config->head_size;
    const int64_t HD = config->heads * D, KD = config->kv_heads * D;
    const bool whole = is->norms & NORM_ALL_HEADS, each = is->norms & NORM_EACH_HEAD;
    const bool before = is->norms & NORM_BEFORE, after = is->norms & NORM_AFTER;
    const bool b = config->qkv_bias, f = config->feed_forward_bias;
    return (DecoderLayer){.n1 = vector(before, C),
                          .n2 = vector(after, C),
                          .n3 = vector(before, C),
                          .n4 = vector(after, C),
                          .nq = vector(whole || each, whole ? HD : D),
                          .nk = vector(whole || each, whole ? KD : D),
                          .q = matrix(!is->fused, HD, C, b),
                          .k = matrix(!is->fused, KD, C, b),
                          .v = matrix(!is->fused, KD, C, b),
                          .qkv = matrix(is->fused, HD + 2 * KD, C, b),
                          .o = matrix(true, C, HD, config->output_bias),
                          .gate = matrix(!is->fused && !sparse, F, C, f),
                          .up = matrix(!sparse, is->fused ? 2 * F : F, C, f),
                          .down = matrix(!sparse, C, F, f)};
}

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const size_t layers = (size_t)config->layers;
    Decoder *decoder = hone_arena_calloc(&model->arena, 1, sizeof *decoder);
    if (!decoder) return hone_fail_memory(err, sizeof *decoder, "a model");
    model->parameters = decoder;
    decoder->layers = hone_arena_calloc(&model->arena, layers, sizeof *decoder->layers);
    if (!decoder->layers)
        return hone_fail_memory(err, layers * sizeof *decoder->layers, "its layers");
    decoder->embedding = matrix(true, config->vocabulary, config->channels, false);
    decoder->n5 = vector(true, config->channels);
    decoder->head = matrix(true, config->vocabulary, config->channels, false);
    decoder->embedding.softcap = decoder->head.softcap = config->logit_softcap;
    for (size_t i = 0; i < layers; i++) {
        const bool sparse = config->experts > 0 && (!config->sparse || config->sparse[i]);
        decoder->layers[i] = make_layer(config, model->family, sparse);
        if (sparse) RETURN_IF_ERROR(hone_experts_make(model, &decoder->layers[i].experts, err));
    }
    return HONE_OK;
}

// ---- parameters --------------------------------------------------------------------------------

typedef struct Visitor {
    ParameterVisitor visit;
    void *user;
    int layer, experts;
    HoneError *err;
} Visitor;

static hone_status visit_vector(const Visitor *to, const char *name, Tensor *tensor) {
    if (tensor->rank == 0) return HONE_OK;
    return hone_visit_tensor(to->visit, to->user, name, to->layer, tensor, to->err);
}

// name and what follows: ".weight", ".bias".
static hone_status visit_matrix(const Visitor *to, const char *name, const char *target,
                                Weight *weight) {
    char full[32];
    if (weight->base.rank == 0) return HONE_OK;
    snprintf(full, sizeof full, "%s.weight", name);
    RETURN_IF_ERROR(
        hone_visit_weight(to->visit, to->user, full, to->layer, target, weight, to->err));
    snprintf(full, sizeof full, "%s.bias", name);
    return visit_vector(to, full, &weight->bias);
}

static hone_status visit_layer(const Visitor *to, DecoderLayer *layer) {
    RETURN_IF_ERROR(visit_vector(to, "attn_norm.weight", &layer->n1));
    RETURN_IF_ERROR(visit_matrix(to, "attn_q", "q", &layer->q));
    RETURN_IF_ERROR(visit_matrix(to, "attn_k", "k", &layer->k));
    RETURN_IF_ERROR(visit_matrix(to, "attn_v", "v", &layer->v));
    RETURN_IF_ERROR(visit_matrix(to, "attn_qkv", "qkv", &layer->qkv));
    RETURN_IF_ERROR(visit_vector(to, "attn_q_norm.weight", &layer->nq));
    RETURN_IF_ERROR(visit_vector(to, "attn_k_norm.weight", &layer->nk));
    RETURN_IF_ERROR(visit_matrix(to, "attn_output", "o", &layer->o));
    RETURN_IF_ERROR(visit_vector(to, "post_attention_norm.weight", &layer->n2));
    RETURN_IF_ERROR(visit_vector(to, "ffn_norm.weight", &layer->n3));
    RETURN_IF_ERROR(visit_matrix(to, "ffn_gate", "gate", &layer->gate));
    RETURN_IF_ERROR(visit_matrix(to, "ffn_up", "up", &layer->up));
    RETURN_IF_ERROR(visit_matrix(to, "ffn_down", "down", &layer->down));
    if (layer->experts)
        RETURN_IF_ERROR(hone_experts_visit(layer->experts, to->experts, to->visit, to->user,
                                           to->layer, to->err));
    return visit_vector(to, "post_ffw_norm.weight", &layer->n4);
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    Decoder *decoder = model->parameters;
    Visitor to = {visitor, user, -1, model->config.experts, err};
    RETURN_IF_ERROR(visit_matrix(&to, "token_embd", "embed", &decoder->embedding));
    for (to.layer = 0; to.layer < model->config.layers; to.layer++)
        RETURN_IF_ERROR(visit_layer(&to, &decoder->layers[to.layer]));
    to.layer = -1;
    RETURN_IF_ERROR(visit_vector(&to, "output_norm.weight", &decoder->n5));
    return model->config.tied_head ? HONE_OK : visit_matrix(&to, "output", "head", &decoder->head);
}

static Weight *head(Model *model) {
    Decoder *decoder = model->parameters;
    return model->config.tied_head ? &decoder->embedding : &decoder->head;
}

// ---- forward -----------------------------------------------------------------------------------

// Where a layer is: its model's numbers, what it runs over, and its part of the cache.
typedef struct Place {
    const Model *model;
    LayerRows rows;
    KeyValueCache *cache; // NULL in training
    int layer;
} Place;

static Tensor *normalise(Tape *tape, const Place *at, Tensor *gain, Tensor *x) {
    return gain->rank ? hone_rms_norm(tape, gain, at->model->config.norm_eps, x) : x;
}

static Tensor *rotate(Tape *tape, const Place *at, Tensor *x, int heads, const int32_t *position) {
    const Rotation *rotation = hone_layer_rotation(at->model, at->layer);
    return rotation ? hone_rotary(tape, x, heads, *rotation, position) : x;
}

static Tensor *self_attention(Tape *tape, const Place *at, DecoderLayer *layer, Tensor *x) {
    const ModelConfig *config = &at->model->config;
    const LayerRows *rows = &at->rows;
    const int H = config->heads, K = config->kv_heads;
    const int64_t HD = (int64_t)H * config->head_size, KD = (int64_t)K * config->head_size;
    const bool fused = at->model->family->fused;
    Tensor *h = normalise(tape, at, &layer->n1, x);
    if (fused) h = hone_linear(tape, &layer->qkv, h, rows->path);
    Tensor *k =
        fused ? hone_select_columns(tape, h, HD, KD) : hone_linear(tape, &layer->k, h, rows->path);
    k = normalise(tape, at, &layer->nk, k);
    k = rotate(tape, at, k, K, rows->position);
    Tensor *v = fused ? hone_select_columns(tape, h, HD + KD, KD)
                      : hone_linear(tape, &layer->v, h, rows->path);
    if (at->cache) {
        k = hone_append_rows(tape, &at->cache->k[at->layer], at->cache->length, k);
        v = hone_append_rows(tape, &at->cache->v[at->layer], at->cache->length, v);
    }
    h = hone_layer_rows(tape, rows, h);
    Tensor *q = fused ? hone_select_columns(tape, h, 0, HD)
                      : hone_linear(tape, &layer->q, h, rows->query_path);
    q = normalise(tape, at, &layer->nq, q);
    q = rotate(tape, at, q, H, rows->query_position);
    const float scale =
        config->attention_scale ? config->attention_scale : 1.0f / sqrtf((float)config->head_size);
    Tensor *o =
        hone_attention(tape, q, k, v, H, K, scale, config->attention_softcap, rows->visible);
    o = hone_linear(tape, &layer->o, o, rows->query_path);
    return normalise(tape, at, &layer->n2, o);
}

static Tensor *feed_forward(Tape *tape, const Place *at, DecoderLayer *layer, Tensor *x) {
    const int64_t F = at->model->config.feed_forward;
    const ModelFamily *is = at->model->family;
    const uint64_t *path = at->rows.query_path;
    Tensor *h = normalise(tape, at, &layer->n3, x), *both = NULL;
    if (layer->experts)
        return normalise(tape, at, &layer->n4,
                         hone_experts_run(tape, at->model, at->layer, layer->experts, h, path));
    if (is->fused) both = hone_linear(tape, &layer->up, h, path);
    Tensor *gate = is->fused ? hone_select_columns(tape, both, 0, F)
                             : hone_linear(tape, &layer->gate, h, path);
    Tensor *up =
        is->fused ? hone_select_columns(tape, both, F, F) : hone_linear(tape, &layer->up, h, path);
    Tensor *y = is->gelu ? hone_geglu(tape, gate, up) : hone_swiglu(tape, gate, up);
    y = hone_linear(tape, &layer->down, y, path);
    return normalise(tape, at, &layer->n4, y);
}

static Tensor *decoder_layer(Tape *tape, const void *place, Tensor *x) {
    const Place *at = place;
    DecoderLayer *layer = &((Decoder *)at->model->parameters)->layers[at->layer];
    const float r = at->model->config.residual_scale ? at->model->config.residual_scale : 1;
    Tensor *attended = hone_scale(tape, r, self_attention(tape, at, layer, x));
    x = hone_add(tape, hone_layer_rows(tape, &at->rows, x), attended);
    return hone_add(tape, x, hone_scale(tape, r, feed_forward(tape, at, layer, x)));
}

static Tensor *forward(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    Decoder *decoder = model->parameters;
    const ModelConfig *config = &model->config;
    // Balanced routers are asked of all rows: they are chosen after the last layer.
    const bool late = model->balance && hone_tape_gradients(tape);
    const int layers = config->layers;
    LayerRows rows[2][2] = {{hone_all_rows(batch, cache)}, {hone_chosen_rows(tape, batch, cache)}};
    for (int last = 0; last < 2 && config->window > 0; last++)
        rows[last][1] = hone_windowed_rows(tape, &rows[last][0], cache, config->window);
    hone_tape_enter(tape);
    Tensor *x = hone_embedding(tape, &decoder->embedding, batch->token, batch->tokens);
    x = hone_scale(tape, config->embedding_scale ? config->embedding_scale : 1, x);
    for (int i = 0; i < layers; i++) {
        const bool slides = config->window > 0 && config->slides[i];
        const Place at = {model, rows[i + 1 == layers && !late][slides], cache, i};
        x = hone_tape_renew(tape, hone_run_layer(model, tape, i, decoder_layer, &at, sizeof at, x));
    }
    x = hone_rms_norm(tape, &decoder->n5, config->norm_eps, hone_layer_rows(tape, &rows[1][0], x));
    return hone_tape_leave(tape,
                           hone_scale(tape, config->logit_scale ? config->logit_scale : 1, x));
}

#define DECODER(name, ...)                                                                         \
    { name, make, visit, forward, head, __VA_ARGS__ }

const ModelFamily hone_decoders[HONE_DECODERS] = {
    DECODER("llama", .norms = NORM_BEFORE),
    DECODER("granite", .norms = NORM_BEFORE),
    DECODER("smollm3", .norms = NORM_BEFORE),
    DECODER("qwen2", .norms = NORM_BEFORE),
    DECODER("qwen3", .norms = NORM_BEFORE | NORM_EACH_HEAD),
    DECODER("qwen3moe", .norms = NORM_BEFORE | NORM_EACH_HEAD),
    DECODER("olmoe", .norms = NORM_BEFORE | NORM_ALL_HEADS),
    DECODER("phi3", .norms = NORM_BEFORE, .fused = true),
    DECODER("olmo2", .norms = NORM_AFTER | NORM_ALL_HEADS),
    DECODER("gemma2", .norms = NORM_BEFORE | NORM_AFTER, .gelu = true),
    DECODER("gemma3", .norms = NORM_BEFORE | NORM_AFTER | NORM_EACH_HEAD, .gelu = true),
};
