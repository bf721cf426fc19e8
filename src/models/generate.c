// SPDX-License-Identifier: Apache-2.0
// Generation: the forward pass over new tokens only, with the keys and values of the earlier ones
// in a cache.
#include "models/family.h"

#include <inttypes.h>
#include <string.h>

static hone_status make_cache(const ModelConfig *config, KeyValueCache *cache, HoneError *err) {
    const size_t layers = (size_t)(config->layers - config->encoder_layers);
    const int64_t KD = (int64_t)config->kv_heads * config->head_size;
    size_t bytes;
    if (!hone_size_product((size_t)cache->capacity, (size_t)KD * sizeof(float), &bytes) ||
        !hone_size_product(bytes, 2 * layers, &bytes))
        bytes = SIZE_MAX;
    cache->k = hone_arena_calloc(&cache->arena, layers, sizeof *cache->k);
    cache->v = hone_arena_calloc(&cache->arena, layers, sizeof *cache->v);
    cache->memory_k = hone_arena_calloc(&cache->arena, layers, sizeof *cache->memory_k);
    cache->memory_v = hone_arena_calloc(&cache->arena, layers, sizeof *cache->memory_v);
    cache->layers = (int)layers;
    cache->data = hone_alloc(bytes);
    if (!cache->k || !cache->v || !cache->memory_k || !cache->memory_v || !cache->data)
        return hone_fail_memory(err, bytes, "the keys and values of a conversation");
    for (size_t i = 0; i < layers; i++) {
        cache->k[i] = cache->v[i] = hone_model_tensor(cache->capacity, KD);
        cache->k[i].data = cache->data + (int64_t)(2 * i) * cache->capacity * KD;
        cache->v[i].data = cache->data + (int64_t)(2 * i + 1) * cache->capacity * KD;
    }
    return HONE_OK;
}

hone_status hone_cache_create(Model *model, int64_t capacity, KeyValueCache **cache,
                              HoneError *err) {
    *cache = NULL;
    if (capacity < 1 || capacity > INT32_MAX)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "a cache of %" PRId64 " tokens was asked for",
                         capacity);
    KeyValueCache *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a cache");
    made->capacity = capacity;
    hone_status status = make_cache(&model->config, made, err);
    if (status != HONE_OK) {
        hone_cache_free(made);
        return status;
    }
    *cache = made;
    return HONE_OK;
}

void hone_cache_free(KeyValueCache *cache) {
    if (!cache) return;
    hone_free(cache->memory);
    hone_free(cache->data);
    hone_arena_free(&cache->arena);
    hone_free(cache);
}

int64_t hone_cache_length(const KeyValueCache *cache) {
    return cache->length;
}

void hone_cache_truncate(KeyValueCache *cache, int64_t length) {
    if (length < cache->length) cache->length = length < 0 ? 0 : length;
}

void hone_cache_lengthen(KeyValueCache *cache, int64_t count) {
    cache->length += count;
}

void hone_cache_keep(KeyValueCache *cache, const int32_t *row, int64_t count) {
    for (int i = 0; i < cache->layers; i++)
        for (int side = 0; side < 2; side++) {
            const Tensor *store = side ? &cache->v[i] : &cache->k[i];
            const size_t columns = (size_t)store->shape[1];
            float *data = store->data;
            for (int64_t r = 0; r < count; r++)
                if (row[r] != r)
                    memcpy(data + (size_t)r * columns, data + (size_t)row[r] * columns,
                           columns * sizeof *data);
        }
    cache->length = count;
}

Tensor *hone_model_extend(Model *model, Tape *tape, KeyValueCache *cache, const ModelBatch *batch) {
    if (batch->tokens < 1 || batch->tokens > cache->capacity - cache->length)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "%" PRId64 " tokens do not fit behind %" PRId64
                                " in a cache of %" PRId64,
                                batch->tokens, cache->length, cache->capacity);
    return hone_run_batch(model, tape, batch, cache);
}

// Hidden states (rows,C) of the last `rows` of `count` tokens in a row. NULL: the tape has an
// error.
static Tensor *append(Model *model, Tape *tape, KeyValueCache *cache, const int32_t *token,
                      int64_t count, int64_t rows) {
    const int64_t keys = cache->length + count;
    hone_tape_reset(tape, false);
    int32_t *position = hone_tape_host(tape, count, sizeof *position);
    int32_t *row = hone_tape_host(tape, rows, sizeof *row);
    int32_t *begin = hone_tape_host(tape, keys, sizeof *begin);
    int32_t *end = hone_tape_host(tape, keys, sizeof *end);
    if (!position || !row || !begin || !end) return NULL;
    for (int64_t i = 0; i < count; i++) position[i] = (int32_t)(cache->length + i);
    for (int64_t i = 0; i < rows; i++) row[i] = (int32_t)(count - rows + i);
    for (int64_t j = 0; j < keys; j++) {
        begin[j] = j < cache->length ? 0 : (int32_t)(j - cache->length);
        end[j] = (int32_t)count;
    }
    const bool one = count == 1; // sees everything
    const ModelBatch batch = {.tokens = count,
                              .token = token,
                              .position = position,
                              .begin = one ? NULL : begin,
                              .end = one ? NULL : end,
                              .row = rows < count ? row : NULL,
                              .rows = rows};
    return hone_model_extend(model, tape, cache, &batch);
}

hone_status hone_model_decode(Model *model, Tape *tape, KeyValueCache *cache, const int32_t *token,
                              int64_t count, float *logits, HoneError *err) {
    Tensor *hidden = append(model, tape, cache, token, count, 1);
    Weight *head = hone_model_head(model);
    Tensor *z = logits && hidden ? hone_linear(tape, head, hidden, NULL) : NULL;
    if (z) z = hone_softcap(tape, head->softcap, z);
    if (z) hone_tape_read(tape, z, logits);
    RETURN_IF_ERROR(hone_tape_status(tape, err));
    cache->length += count;
    return HONE_OK;
}

hone_status hone_model_score(Model *model, Tape *tape, KeyValueCache *cache, const int32_t *token,
                             int64_t count, int32_t next, float *logprob, HoneError *err) {
    const int64_t entries = next >= 0 ? count : count - 1;
    Tensor *hidden = append(model, tape, cache, token, count, count);
    int32_t *row = hone_tape_host(tape, count, sizeof *row);
    int32_t *target = hone_tape_host(tape, count, sizeof *target);
    float *weight = hone_tape_host(tape, count, sizeof *weight); // zeros: no loss is wanted
    if (hidden && row && target && weight) {
        for (int64_t i = 0; i < count; i++) {
            row[i] = (int32_t)i;
            target[i] = i + 1 < count ? token[i + 1] : next;
        }
        HeadLoss loss = {
            .entries = entries, .row = row, .target = target, .weight = weight, .logprob = logprob};
        hone_head_cross_entropy(tape, hone_model_head(model), hidden, &loss);
    }
    RETURN_IF_ERROR(hone_tape_status(tape, err));
    cache->length += count;
    return HONE_OK;
}
