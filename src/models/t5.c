// SPDX-License-Identifier: Apache-2.0
// T5 (Raffel et al. 2020) and its version 1.1 (Flan-T5): an encoder and a decoder with norms before
// each part, no biases, no positions but a bias of the scores by distance, which is not scaled.
//     x ← drop(embedding(token))
//     encoder: x ← x + drop(o(attention(q, k, v + bias))), x ← x + drop(feed-forward)
//     decoder: the same, with attention to memory (without bias) between them
//     feed-forward(h) = down(relu(up(h))), or with a gate down(gelu(gate(h)) ⊙ up(h)); h = norm(x)
//     logits = head(norm(x)), and times 1/√C where the head is the embedding
// The bias of all layers of a side is one table, which the first of them has.
#include <inttypes.h>
#include <math.h>

#include "models/family.h"

typedef struct Attending {
    Tensor norm;       // (C)
    Weight q, k, v, o; // (H·D,C) three times, (C,H·D)
} Attending;

typedef struct Layer {
    Attending self, cross; // cross: of the decoder
    Tensor feed_forward_norm;
    Weight gate, up, down; // (F,C), (F,C), (C,F); gate where it is gated
} Layer;

typedef struct T5 {
    Weight embedding; // (V,C)
    Tensor bias[2];   // (numbers,H): of the encoder, of the decoder
    Layer *layers;    // the encoder's, then the decoder's
    Tensor norm[2];
    Weight head; // (V,C); not there when tied
} T5;

static Weight weight(int64_t out, int64_t in) {
    return (Weight){.base = hone_model_tensor(out, in)};
}

static Attending attending(int64_t C, int64_t inner) {
    return (Attending){hone_model_tensor(C, 0), weight(inner, C), weight(inner, C),
                       weight(inner, C), weight(C, inner)};
}

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels, F = config->feed_forward, V = config->vocabulary;
    if (config->encoder_layers < 1 || config->kv_heads != config->heads)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%d encoder layers, %d heads and %d key/value heads are not a T5's",
                         config->encoder_layers, config->heads, config->kv_heads);
    if (config->relative_numbers < 4 || config->relative_numbers > 4096 ||
        config->relative_farthest <= config->relative_numbers / 2)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%d relative positions up to a distance of %d; want 4…4096, and a "
                         "distance above their half",
                         config->relative_numbers, config->relative_farthest);
    if (config->decoder_start < 0 || config->decoder_start >= V)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "targets begin with token %" PRId32 ", the vocabulary has %" PRId64,
                         config->decoder_start, V);
    const size_t layers = (size_t)config->layers;
    T5 *t5 = hone_arena_calloc(&model->arena, 1, sizeof *t5);
    if (!t5) return hone_fail_memory(err, sizeof *t5, "a model");
    model->parameters = t5;
    t5->layers = hone_arena_calloc(&model->arena, layers, sizeof *t5->layers);
    if (!t5->layers) return hone_fail_memory(err, layers * sizeof *t5->layers, "its layers");
    t5->embedding = weight(V, C);
    t5->head = weight(V, C);
    for (int side = 0; side < 2; side++) {
        t5->norm[side] = hone_model_tensor(C, 0);
        t5->bias[side] = hone_model_tensor(config->relative_numbers, config->heads);
    }
    const int64_t inner = (int64_t)config->heads * config->head_size;
    for (size_t i = 0; i < layers; i++) {
        t5->layers[i] = (Layer){.self = attending(C, inner),
                                .feed_forward_norm = hone_model_tensor(C, 0),
                                .up = weight(F, C),
                                .down = weight(C, F)};
        if (config->gated) t5->layers[i].gate = weight(F, C);
        if ((int)i >= config->encoder_layers) t5->layers[i].cross = attending(C, inner);
    }
    return HONE_OK;
}

// ---- parameters --------------------------------------------------------------------------------

static hone_status visit_linear(const PartVisitor *to, const char *name, const char *target,
                                Weight *weight) {
    return hone_visit_part(to, name, "weight", &weight->base, weight, target);
}

static hone_status visit_vector(const PartVisitor *to, const char *name, Tensor *tensor) {
    return hone_visit_part(to, name, "weight", tensor, NULL, NULL);
}

static hone_status visit_attending(const PartVisitor *to, bool cross, Attending *part) {
    static const char *const names[2][5] = {
        {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_o"},
        {"cross_attn_norm", "cross_attn_q", "cross_attn_k", "cross_attn_v", "cross_attn_o"}};
    RETURN_IF_ERROR(visit_vector(to, names[cross][0], &part->norm));
    RETURN_IF_ERROR(visit_linear(to, names[cross][1], "q", &part->q));
    RETURN_IF_ERROR(visit_linear(to, names[cross][2], "k", &part->k));
    RETURN_IF_ERROR(visit_linear(to, names[cross][3], "v", &part->v));
    return visit_linear(to, names[cross][4], "o", &part->o);
}

static hone_status visit_layer(const PartVisitor *to, Layer *layer, Tensor *bias) {
    RETURN_IF_ERROR(visit_attending(to, false, &layer->self));
    if (to->number == 0) RETURN_IF_ERROR(visit_vector(to, "attn_rel_b", bias));
    if (layer->cross.q.base.rank) RETURN_IF_ERROR(visit_attending(to, true, &layer->cross));
    RETURN_IF_ERROR(visit_vector(to, "ffn_norm", &layer->feed_forward_norm));
    if (layer->gate.base.rank) RETURN_IF_ERROR(visit_linear(to, "ffn_gate", "gate", &layer->gate));
    RETURN_IF_ERROR(visit_linear(to, "ffn_up", "up", &layer->up));
    return visit_linear(to, "ffn_down", "down", &layer->down);
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    T5 *t5 = model->parameters;
    PartVisitor to = {.visit = visitor, .user = user, .err = err};
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "token_embd.weight", -1, "embed", &t5->embedding, err));
    for (int i = 0; i < model->config.layers; i++) {
        hone_side_layer(model, i, &to);
        RETURN_IF_ERROR(
            visit_layer(&to, &t5->layers[i], &t5->bias[i >= model->config.encoder_layers]));
    }
    for (int side = 0; side < 2; side++) {
        hone_side_end(side, &to);
        RETURN_IF_ERROR(visit_vector(&to, "output_norm", &t5->norm[side]));
    }
    if (model->config.tied_head) return HONE_OK;
    return hone_visit_weight(visitor, user, "output.weight", -1, "head", &t5->head, err);
}

static void reads_memory(const Model *model, int layer, Weight **k, Weight **v) {
    Attending *cross = &((T5 *)model->parameters)->layers[layer].cross;
    *k = &cross->k;
    *v = &cross->v;
}

static Weight *head(Model *model) {
    T5 *t5 = model->parameters;
    return model->config.tied_head ? &t5->embedding : &t5->head;
}

// ---- forward -----------------------------------------------------------------------------------

static Tensor *self_attention(Tape *tape, const SidePlace *at, Attending *part, Tensor *x) {
    const ModelConfig *config = &at->model->config;
    T5 *t5 = at->model->parameters;
    Tensor *h = hone_rms_norm(tape, &part->norm, config->norm_eps, x);
    Tensor *k, *v;
    hone_side_own(tape, at, &part->k, &part->v, h, &k, &v);
    Tensor *chosen = hone_layer_rows(tape, &at->rows, h);
    Tensor *q = hone_linear(tape, &part->q, chosen, at->rows.query_path);
    const RelativeBias bias = {.table = &t5->bias[at->source != NULL],
                               .farthest = config->relative_farthest,
                               .both_ways = !at->source,
                               .query_position = at->rows.query_position,
                               .key_position = at->rows.key_position};
    Tensor *o = hone_relative_attention(tape, q, k, v, config->heads, bias, at->rows.visible);
    Tensor *y = hone_linear(tape, &part->o, o, at->rows.query_path);
    return hone_side_add(tape, at, SIDE_SELF, hone_layer_rows(tape, &at->rows, x), y);
}

static Tensor *cross_attention(Tape *tape, const SidePlace *at, Attending *part, Tensor *x) {
    const ModelConfig *config = &at->model->config;
    Tensor *h = hone_rms_norm(tape, &part->norm, config->norm_eps, x);
    Tensor *q = hone_linear(tape, &part->q, h, at->rows.query_path);
    Tensor *k, *v;
    hone_side_memory(tape, at, &part->k, &part->v, &k, &v);
    Tensor *o = hone_attention(tape, q, k, v, config->heads, config->heads, 1, 0, at->memories);
    return hone_side_add(tape, at, SIDE_CROSS, x,
                         hone_linear(tape, &part->o, o, at->rows.query_path));
}

static Tensor *feed_forward(Tape *tape, const SidePlace *at, Layer *layer, Tensor *x) {
    const uint64_t *path = at->rows.query_path;
    Tensor *h = hone_rms_norm(tape, &layer->feed_forward_norm, at->model->config.norm_eps, x);
    Tensor *gate = layer->gate.base.rank ? hone_linear(tape, &layer->gate, h, path) : NULL;
    Tensor *up = hone_linear(tape, &layer->up, h, path);
    h = layer->gate.base.rank ? hone_geglu(tape, gate, up) : hone_relu(tape, up);
    return hone_side_add(tape, at, SIDE_FEED_FORWARD, x, hone_linear(tape, &layer->down, h, path));
}

static Tensor *run_layer(Tape *tape, const void *place, Tensor *x) {
    const SidePlace *at = place;
    Layer *layer = &((T5 *)at->model->parameters)->layers[at->layer];
    x = self_attention(tape, at, &layer->self, x);
    if (at->source) x = cross_attention(tape, at, &layer->cross, x);
    return feed_forward(tape, at, layer, x);
}

static Tensor *embed(Tape *tape, const Model *model, const int32_t *token, const LayerRows *rows) {
    T5 *t5 = model->parameters;
    return hone_embedding(tape, &t5->embedding, token, rows->rows);
}

static Tensor *finish(Tape *tape, const Model *model, int side, Tensor *x) {
    T5 *t5 = model->parameters;
    const ModelConfig *config = &model->config;
    x = hone_rms_norm(tape, &t5->norm[side], config->norm_eps, x);
    const bool scaled = side == 1 && config->tied_head;
    return scaled ? hone_scale(tape, 1.0f / sqrtf((float)config->channels), x) : x;
}

static const SideFunctions functions = {embed, run_layer, finish};

static Tensor *encode(const Model *model, Tape *tape, const SourceBatch *source) {
    return hone_side_encode(&functions, model, tape, source);
}

static Tensor *forward(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    return hone_side_decode(&functions, model, tape, batch, cache);
}

const ModelFamily hone_t5 = {.architecture = "t5",
                             .make = make,
                             .visit = visit,
                             .forward = forward,
                             .encode = encode,
                             .reads_memory = reads_memory,
                             .head = head};
