// SPDX-License-Identifier: Apache-2.0
#include "train/loss.h"

// Behind a cache there are keys for what it holds, which all tokens see.
static hone_status prepare(const LossCall *call, double weight, PreparedBatch *prepared) {
    const TokenBatch *batch = &prepared->batch;
    const int64_t held = call->cache ? hone_cache_length(call->cache) : 0;
    const size_t keys = (size_t)(held + batch->tokens), entries = (size_t)batch->entries;
    const size_t numbers = 2 * keys + (size_t)(batch->tokens + batch->rows) + entries;
    int32_t *begin = hone_arena_calloc(call->memory, numbers + 1, sizeof *begin);
    prepared->weight = hone_arena_alloc(call->memory, (entries + 1) * sizeof(float));
    prepared->row_path = hone_arena_alloc(call->memory, (entries + 1) * sizeof(uint64_t));
    if (!begin || !prepared->weight || !prepared->row_path)
        return hone_fail_memory(call->err, (numbers + entries) * 4, "a batch");
    int32_t *end = begin + keys, *position = end + keys, *rows = position + batch->tokens;
    prepared->entry_row = rows + batch->rows;
    for (int64_t k = 0; k < held; k++) end[k] = (int32_t)batch->tokens;
    for (int64_t t = 0; t < batch->tokens; t++) {
        begin[held + t] = batch->begin[t];
        end[held + t] = batch->end[t];
        position[t] = (int32_t)held + batch->position[t];
    }
    int64_t row = 0;
    for (size_t e = 0; e < entries; e++) {
        if (row == 0 || rows[row - 1] != batch->row[e]) rows[row++] = batch->row[e];
        prepared->row_path[row - 1] = batch->path[batch->row[e]];
        prepared->entry_row[e] = (int32_t)(row - 1);
        prepared->weight[e] = (float)(weight * (double)batch->learners[e]);
    }
    prepared->model = (ModelBatch){.tokens = batch->tokens,
                                   .token = batch->token,
                                   .position = position,
                                   .begin = begin,
                                   .end = end,
                                   .path = batch->path,
                                   .row = rows,
                                   .rows = batch->rows,
                                   .source = {.tokens = batch->source.tokens,
                                              .token = batch->source.token,
                                              .position = batch->source.position,
                                              .begin = batch->source.begin,
                                              .end = batch->source.end,
                                              .seen_begin = batch->source.seen_begin,
                                              .seen_end = batch->source.seen_end,
                                              .path = batch->source.path}};
    return HONE_OK;
}

// From entries to the targets that share them.
static hone_status spread(const LossCall *call, const TokenBatch *batch, const HeadLoss *head,
                          BatchLoss *result) {
    const size_t targets = (size_t)batch->targets;
    result->logprob = hone_arena_alloc(call->memory, (targets + 1) * sizeof(float));
    result->correct = hone_arena_alloc(call->memory, targets + 1);
    if (!result->logprob || !result->correct)
        return hone_fail_memory(call->err, targets * 5, "the results of a batch");
    for (size_t k = 0; k < targets; k++) {
        result->logprob[k] = head->logprob[batch->result[k]];
        result->correct[k] = head->correct[batch->result[k]];
    }
    return HONE_OK;
}

hone_status hone_batch_prepare(const LossCall *call, const Example *const *examples, int64_t count,
                               double weight, PreparedBatch *prepared) {
    RETURN_IF_ERROR(hone_batch_pack(examples, count, call->memory, &prepared->batch, call->err));
    return prepare(call, weight, prepared);
}

HeadLoss hone_prepared_head(const PreparedBatch *prepared) {
    return (HeadLoss){.entries = prepared->batch.entries,
                      .row = prepared->entry_row,
                      .target = prepared->batch.target,
                      .weight = prepared->weight,
                      .path = prepared->row_path};
}

hone_status hone_batch_loss(const LossCall *call, const Example *const *examples, int64_t count,
                            double weight, BatchLoss *result) {
    PreparedBatch prepared;
    RETURN_IF_ERROR(hone_batch_prepare(call, examples, count, weight, &prepared));
    HeadLoss head = hone_prepared_head(&prepared);
    head.z_loss = call->z_loss;
    head.smoothing = call->smoothing;
    if (call->by_target) {
        const size_t entries = (size_t)prepared.batch.entries + 1;
        head.logprob = hone_arena_alloc(call->memory, entries * sizeof(float));
        head.correct = hone_arena_alloc(call->memory, entries);
        if (!head.logprob || !head.correct)
            return hone_fail_memory(call->err, entries * 5, "the results of a batch");
    }
    // On the same tape: nothing of it requires a gradient, so that nothing but its result stays.
    HeadTeacher teacher = {0};
    if (call->teacher) {
        teacher.head = hone_model_head(call->teacher->model);
        teacher.x = hone_model_forward(call->teacher->model, call->tape, &prepared.model);
        teacher.temperature = call->teacher->temperature;
        teacher.share = call->teacher->share;
        head.teacher = &teacher;
    }
    Tensor *hidden = call->cache
                         ? hone_model_extend(call->model, call->tape, call->cache, &prepared.model)
                         : hone_model_forward(call->model, call->tape, &prepared.model);
    hone_head_cross_entropy(call->tape, hone_model_head(call->model), hidden, &head);
    *result = (BatchLoss){.loss = head.loss, .head_seconds = head.seconds};
    RETURN_IF_ERROR(hone_tape_status(call->tape, call->err));
    return call->by_target ? spread(call, &prepared.batch, &head, result) : HONE_OK;
}
