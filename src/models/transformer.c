// SPDX-License-Identifier: Apache-2.0
// The Transformer (Vaswani et al. 2017): an encoder over the source, a decoder over the target that
// also attends to what the encoder gives; one embedding for both and, tied, for the head.
//     x ← drop(√C·embedding(token) + sinusoid(position)),      of both sides
//     encoder: x ← around(self attention), x ← around(feed-forward)
//     decoder: x ← around(self attention), x ← around(attention to memory), x ←
//     around(feed-forward) feed-forward(h) = down(relu(up(h))) around(f): norm(x + drop(f(x))), or
//     with norm_first x + drop(f(norm(x))) (Wang et al. 2019),
//                and then a norm after the last layer of each side
#include <inttypes.h>
#include <math.h>

#include "models/family.h"

typedef struct Attending {
    Norm norm;
    Weight q, k, v, o; // (C,C), each with a bias
} Attending;

typedef struct Layer {
    Attending self, cross; // cross: of the decoder
    Norm feed_forward_norm;
    Weight up, down; // (F,C), (C,F), each with a bias
} Layer;

typedef struct Transformer {
    Weight embedding; // (V,C)
    Weight sinusoid;  // (context,C), computed
    Layer *layers;    // the encoder's, then the decoder's
    Norm norm[2];     // with norm_first: of the encoder, of the decoder
    Weight head;      // (V,C); not there when tied
} Transformer;

static Attending attending(int64_t C) {
    return (Attending){hone_make_norm(C), hone_make_linear(C, C), hone_make_linear(C, C),
                       hone_make_linear(C, C), hone_make_linear(C, C)};
}

// (position, 2i) = sin(position / 10000^(2i/C)), (position, 2i+1) = cos of the same
static hone_status make_sinusoid(Model *model, Weight *sinusoid, HoneError *err) {
    const int64_t C = model->config.channels, context = model->config.context;
    size_t bytes;
    if (!hone_size_product((size_t)context, (size_t)C * sizeof(float), &bytes)) bytes = SIZE_MAX;
    float *values = hone_arena_alloc(&model->arena, bytes);
    if (!values) return hone_fail_memory(err, bytes, "the positions");
    for (int64_t at = 0; at < context; at++)
        for (int64_t c = 0; c < C; c++) {
            const double angle = (double)at / pow(10000, (double)(c - c % 2) / (double)C);
            values[at * C + c] = (float)(c % 2 ? cos(angle) : sin(angle));
        }
    sinusoid->base = hone_model_tensor(context, C);
    sinusoid->base.data = values;
    return HONE_OK;
}

static hone_status make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels, F = config->feed_forward, V = config->vocabulary;
    RETURN_IF_ERROR(hone_check_whole_heads(config, err));
    if (config->encoder_layers < 1)
        return hone_fail(err, HONE_ERROR_INPUT, "a transformer without an encoder layer");
    if (config->decoder_start < 0 || config->decoder_start >= V)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "targets begin with token %" PRId32 ", the vocabulary has %" PRId64,
                         config->decoder_start, V);
    const size_t layers = (size_t)config->layers;
    Transformer *made = hone_arena_calloc(&model->arena, 1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a model");
    model->parameters = made;
    made->layers = hone_arena_calloc(&model->arena, layers, sizeof *made->layers);
    if (!made->layers) return hone_fail_memory(err, layers * sizeof *made->layers, "its layers");
    made->embedding.base = hone_model_tensor(V, C);
    made->head.base = hone_model_tensor(V, C);
    for (int side = 0; side < 2; side++) made->norm[side] = hone_make_norm(C);
    for (size_t i = 0; i < layers; i++) {
        made->layers[i] = (Layer){.self = attending(C),
                                  .feed_forward_norm = hone_make_norm(C),
                                  .up = hone_make_linear(F, C),
                                  .down = hone_make_linear(C, F)};
        if ((int)i >= config->encoder_layers) made->layers[i].cross = attending(C);
    }
    return make_sinusoid(model, &made->sinusoid, err);
}

// ---- parameters --------------------------------------------------------------------------------

static hone_status visit_attending(const PartVisitor *to, bool cross, Attending *part) {
    static const char *const names[2][5] = {
        {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_o"},
        {"cross_attn_norm", "cross_attn_q", "cross_attn_k", "cross_attn_v", "cross_attn_o"}};
    RETURN_IF_ERROR(hone_visit_norm(to, names[cross][0], &part->norm));
    RETURN_IF_ERROR(hone_visit_linear(to, names[cross][1], "q", &part->q));
    RETURN_IF_ERROR(hone_visit_linear(to, names[cross][2], "k", &part->k));
    RETURN_IF_ERROR(hone_visit_linear(to, names[cross][3], "v", &part->v));
    return hone_visit_linear(to, names[cross][4], "o", &part->o);
}

static hone_status visit_layer(const PartVisitor *to, Layer *layer) {
    RETURN_IF_ERROR(visit_attending(to, false, &layer->self));
    if (layer->cross.q.base.rank) RETURN_IF_ERROR(visit_attending(to, true, &layer->cross));
    RETURN_IF_ERROR(hone_visit_norm(to, "ffn_norm", &layer->feed_forward_norm));
    RETURN_IF_ERROR(hone_visit_linear(to, "ffn_up", "up", &layer->up));
    return hone_visit_linear(to, "ffn_down", "down", &layer->down);
}

static hone_status visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    Transformer *made = model->parameters;
    PartVisitor to = {.visit = visitor, .user = user, .err = err};
    RETURN_IF_ERROR(
        hone_visit_weight(visitor, user, "token_embd.weight", -1, "embed", &made->embedding, err));
    for (int i = 0; i < model->config.layers; i++) {
        hone_side_layer(model, i, &to);
        RETURN_IF_ERROR(visit_layer(&to, &made->layers[i]));
    }
    for (int side = 0; side < 2 && model->config.norm_first; side++) {
        hone_side_end(side, &to);
        RETURN_IF_ERROR(hone_visit_norm(&to, "output_norm", &made->norm[side]));
    }
    if (model->config.tied_head) return HONE_OK;
    return hone_visit_weight(visitor, user, "output.weight", -1, "head", &made->head, err);
}

static void reads_memory(const Model *model, int layer, Weight **k, Weight **v) {
    Attending *cross = &((Transformer *)model->parameters)->layers[layer].cross;
    *k = &cross->k;
    *v = &cross->v;
}

static Weight *head(Model *model) {
    Transformer *made = model->parameters;
    return model->config.tied_head ? &made->embedding : &made->head;
}

// ---- forward -----------------------------------------------------------------------------------

static Tensor *normalise(Tape *tape, const Model *model, Norm *norm, Tensor *x) {
    return hone_layer_norm(tape, &norm->gain, &norm->bias, model->config.norm_eps, x);
}

static Tensor *before(Tape *tape, const SidePlace *at, Norm *norm, Tensor *x) {
    return at->model->config.norm_first ? normalise(tape, at->model, norm, x) : x;
}

// x + drop(y), and its norm where norms come behind.
static Tensor *behind(Tape *tape, const SidePlace *at, int part, Norm *norm, Tensor *x, Tensor *y) {
    x = hone_side_add(tape, at, part, x, y);
    return at->model->config.norm_first ? x : normalise(tape, at->model, norm, x);
}

static Tensor *attend(Tape *tape, const SidePlace *at, Attending *part, Tensor *q, Tensor *k,
                      Tensor *v, Visibility visible) {
    const ModelConfig *config = &at->model->config;
    const float scale = 1.0f / sqrtf((float)config->head_size);
    Tensor *o = hone_attention(tape, q, k, v, config->heads, config->heads, scale, 0, visible);
    return hone_linear(tape, &part->o, o, at->rows.query_path);
}

static Tensor *self_attention(Tape *tape, const SidePlace *at, Attending *part, Tensor *x) {
    Tensor *h = before(tape, at, &part->norm, x);
    Tensor *k, *v;
    hone_side_own(tape, at, &part->k, &part->v, h, &k, &v);
    Tensor *chosen = hone_layer_rows(tape, &at->rows, h);
    Tensor *q = hone_linear(tape, &part->q, chosen, at->rows.query_path);
    Tensor *y = attend(tape, at, part, q, k, v, at->rows.visible);
    return behind(tape, at, SIDE_SELF, &part->norm, hone_layer_rows(tape, &at->rows, x), y);
}

static Tensor *cross_attention(Tape *tape, const SidePlace *at, Attending *part, Tensor *x) {
    Tensor *h = before(tape, at, &part->norm, x);
    Tensor *q = hone_linear(tape, &part->q, h, at->rows.query_path);
    Tensor *k, *v;
    hone_side_memory(tape, at, &part->k, &part->v, &k, &v);
    Tensor *y = attend(tape, at, part, q, k, v, at->memories);
    return behind(tape, at, SIDE_CROSS, &part->norm, x, y);
}

static Tensor *feed_forward(Tape *tape, const SidePlace *at, Layer *layer, Tensor *x) {
    Tensor *h = before(tape, at, &layer->feed_forward_norm, x);
    Tensor *up = hone_linear(tape, &layer->up, h, at->rows.query_path);
    Tensor *y = hone_linear(tape, &layer->down, hone_relu(tape, up), at->rows.query_path);
    return behind(tape, at, SIDE_FEED_FORWARD, &layer->feed_forward_norm, x, y);
}

static Tensor *run_layer(Tape *tape, const void *place, Tensor *x) {
    const SidePlace *at = place;
    Layer *layer = &((Transformer *)at->model->parameters)->layers[at->layer];
    x = self_attention(tape, at, &layer->self, x);
    if (at->source) x = cross_attention(tape, at, &layer->cross, x);
    return feed_forward(tape, at, layer, x);
}

static Tensor *embed(Tape *tape, const Model *model, const int32_t *token, const LayerRows *rows) {
    Transformer *made = model->parameters;
    const float root = sqrtf((float)model->config.channels);
    Tensor *x = hone_embedding(tape, &made->embedding, token, rows->rows);
    Tensor *sinusoid = hone_embedding(tape, &made->sinusoid, rows->position, rows->rows);
    return hone_add(tape, hone_scale(tape, root, x), sinusoid);
}

static Tensor *finish(Tape *tape, const Model *model, int side, Tensor *x) {
    Transformer *made = model->parameters;
    return model->config.norm_first ? normalise(tape, model, &made->norm[side], x) : x;
}

static const SideFunctions functions = {embed, run_layer, finish};

static Tensor *encode(const Model *model, Tape *tape, const SourceBatch *source) {
    return hone_side_encode(&functions, model, tape, source);
}

static Tensor *forward(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    return hone_side_decode(&functions, model, tape, batch, cache);
}

const ModelFamily hone_transformer = {.architecture = "transformer",
                                      .make = make,
                                      .visit = visit,
                                      .forward = forward,
                                      .encode = encode,
                                      .reads_memory = reads_memory,
                                      .head = head};
