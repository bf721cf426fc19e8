// SPDX-License-Identifier: Apache-2.0
// What encoder-decoders share: the sides of their tensors' names (llama.cpp's:
// "dec.blk.0.cross_attn_q.weight"), and generation, for which what the decoder attends to of the
// sources is computed once.
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
