// SPDX-License-Identifier: Apache-2.0
// What encoder-decoders share: the sides of their tensors' names (llama.cpp's:
// "dec.blk.0.cross_attn_q.weight"), the way through both sides, and generation, for which what the
// decoder attends to of the sources is computed once.
#include <inttypes.h>

#include "models/family.h"

void hone_side_layer(const Model *model, int layer, PartVisitor *to) {
    const int encoder = model->config.encoder_layers;
    to->side = layer < encoder ? "enc." : "dec.";
    to->number = layer < encoder ? layer : layer - encoder;
    to->layer = layer;
}

void hone_side_end(int side, PartVisitor *to) {
    to->side = side ? "dec." : "enc.";
    to->number = to->layer = -1;
}

// ---- forward -----------------------------------------------------------------------------------

Tensor *hone_side_add(Tape *tape, const SidePlace *at, int part, Tensor *x, Tensor *y) {
    const uint32_t place = (uint32_t)(at->layer * SIDE_PARTS + part);
    y = hone_dropout(tape, at->model->dropout, place, at->rows.query_path, y);
    return hone_add(tape, x, y);
}

void hone_side_own(Tape *tape, const SidePlace *at, Weight *key, Weight *value, Tensor *h,
                   Tensor **k, Tensor **v) {
    KeyValueCache *cache = at->cache;
    *k = hone_linear(tape, key, h, at->rows.path);
    *v = hone_linear(tape, value, h, at->rows.path);
    if (!cache) return;
    *k = hone_append_rows(tape, &cache->k[at->number], cache->length, *k);
    *v = hone_append_rows(tape, &cache->v[at->number], cache->length, *v);
}

void hone_side_memory(Tape *tape, const SidePlace *at, Weight *key, Weight *value, Tensor **k,
                      Tensor **v) {
    KeyValueCache *cache = at->cache;
    const uint64_t *path = at->source->path;
    *k = cache ? &cache->memory_k[at->number] : hone_linear(tape, key, at->memory, path);
    *v = cache ? &cache->memory_v[at->number] : hone_linear(tape, value, at->memory, path);
}

static Tensor *embed(const SideFunctions *functions, Tape *tape, const Model *model, int side,
                     const int32_t *token, const LayerRows *rows) {
    const uint32_t place = (uint32_t)(model->config.layers * SIDE_PARTS + side);
    Tensor *x = functions->embed(tape, model, token, rows);
    return hone_tape_renew(tape, hone_dropout(tape, model->dropout, place, rows->path, x));
}

static Tensor *run_layer(const SideFunctions *functions, Tape *tape, const SidePlace *at,
                         Tensor *x) {
    x = hone_run_layer(at->model, tape, at->layer, functions->layer, at, sizeof *at, x);
    return hone_tape_renew(tape, x);
}

Tensor *hone_side_encode(const SideFunctions *side, const Model *model, Tape *tape,
                         const SourceBatch *source) {
    const LayerRows rows = hone_source_rows(source);
    hone_tape_enter(tape);
    Tensor *x = embed(side, tape, model, 0, source->token, &rows);
    for (int i = 0; i < model->config.encoder_layers; i++) {
        const SidePlace at = {.model = model, .rows = rows, .layer = i, .number = i};
        x = run_layer(side, tape, &at, x);
    }
    return hone_tape_leave(tape, side->finish(tape, model, 0, x));
}

Tensor *hone_side_decode(const SideFunctions *side, const Model *model, Tape *tape,
                         const ModelBatch *batch, KeyValueCache *cache) {
    const int layers = model->config.layers, first = model->config.encoder_layers;
    const LayerRows all = hone_all_rows(batch, cache);
    const LayerRows chosen = hone_chosen_rows(tape, batch, cache);
    Tensor *memory = cache ? NULL : hone_side_encode(side, model, tape, &batch->source);
    hone_tape_enter(tape);
    Tensor *x = embed(side, tape, model, 1, batch->token, &all);
    for (int i = first; i < layers; i++) {
        const LayerRows *rows = i + 1 < layers ? &all : &chosen;
        const SidePlace at = {.model = model,
                              .rows = *rows,
                              .source = &batch->source,
                              .memory = memory,
                              .memories = hone_source_visibility(tape, rows, &batch->source),
                              .cache = cache,
                              .layer = i,
                              .number = i - first};
        x = run_layer(side, tape, &at, x);
    }
    return hone_tape_leave(tape, side->finish(tape, model, 1, x));
}

// ---- generation --------------------------------------------------------------------------------

static hone_status take_room(const Model *model, KeyValueCache *cache, int64_t sources,
                             HoneError *err) {
    const int64_t KD = (int64_t)model->config.kv_heads * model->config.head_size;
    const size_t layers = (size_t)(model->config.layers - model->config.encoder_layers);
    size_t bytes;
    if (!hone_size_product((size_t)sources, (size_t)KD * 2 * sizeof(float), &bytes) ||
        !hone_size_product(bytes, layers, &bytes))
        bytes = SIZE_MAX;
    hone_free(cache->memory);
    cache->memory = hone_alloc(bytes);
    if (!cache->memory) return hone_fail_memory(err, bytes, "the keys and values of sources");
    for (size_t i = 0; i < layers; i++) {
        cache->memory_k[i] = cache->memory_v[i] = hone_model_tensor(sources, KD);
        cache->memory_k[i].data = cache->memory + (int64_t)(2 * i) * sources * KD;
        cache->memory_v[i].data = cache->memory + (int64_t)(2 * i + 1) * sources * KD;
    }
    return HONE_OK;
}

hone_status hone_model_read_source(Model *model, Tape *tape, KeyValueCache *cache,
                                   const SourceBatch *source, HoneError *err) {
    const int encoder = model->config.encoder_layers;
    if (encoder == 0 || source->tokens < 1)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%" PRId64 " source tokens for %d encoder layers", source->tokens,
                         encoder);
    RETURN_IF_ERROR(take_room(model, cache, source->tokens, err));
    cache->length = 0;
    hone_tape_reset(tape, false);
    Tensor *memory = model->family->encode(model, tape, source);
    for (int i = encoder; i < model->config.layers && memory; i++) {
        Weight *k, *v;
        model->family->reads_memory(model, i, &k, &v);
        hone_tape_enter(tape);
        Tensor *keys = hone_linear(tape, k, memory, NULL);
        Tensor *values = hone_linear(tape, v, memory, NULL);
        if (keys && values) {
            hone_tape_read(tape, keys, cache->memory_k[i - encoder].data);
            hone_tape_read(tape, values, cache->memory_v[i - encoder].data);
        }
        hone_tape_leave(tape, NULL);
    }
    return hone_tape_status(tape, err);
}
