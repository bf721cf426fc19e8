// SPDX-License-Identifier: Apache-2.0
#include "train/texts.h"

#include <stdlib.h>

enum { BATCH_TOKENS = 2048 };

// ---- all of them -------------------------------------------------------------------------------

static int longer_first(const void *left, const void *right) {
    const Example *a = *(const Example *const *)left, *b = *(const Example *const *)right;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return a < b ? -1 : a > b;
}

// As many as fit into a batch, at least one.
static int64_t batch_count(const Example *const *texts, int64_t left) {
    int64_t count = 0, tokens = 0;
    while (count < left && count < HONE_BATCH_TEXTS) {
        tokens += texts[count]->count;
        if (count > 0 && tokens > BATCH_TOKENS) break;
        count++;
    }
    return count;
}

static hone_status run_batches(const LossCall *call, const Example *const *texts, int64_t count,
                               TextsFunction *run, void *work,
                               bool (*sink)(void *user, int64_t done, int64_t count), void *user) {
    for (int64_t begin = 0; begin < count;) {
        const int64_t batch = batch_count(texts + begin, count - begin);
        hone_tape_reset(call->tape, false);
        hone_arena_reset(call->memory);
        RETURN_IF_ERROR(run(work, call, texts + begin, batch));
        begin += batch;
        if (sink && !sink(user, begin, count))
            return hone_fail(call->err, HONE_INTERRUPTED, "stopped after %lld of %lld texts",
                             (long long)begin, (long long)count);
    }
    return HONE_OK;
}

hone_status hone_run_texts(HoneModel *model, const HoneData *data, TextsFunction *run, void *work,
                           bool (*sink)(void *user, int64_t done, int64_t count), void *user) {
    HoneError *err = &model->context->error;
    const int64_t count = data->set.count;
    const size_t bytes = (size_t)(count + 1) * sizeof(Example *);
    const Example **texts = hone_alloc(bytes);
    Arena memory = {0};
    const LossCall call = {
        .model = model->model,
        .tape = hone_tape_create(&model->context->kernels, (TapeOptions){.gradients = false}),
        .memory = &memory,
        .err = err};
    hone_status status = HONE_OK;
    if (!texts || !call.tape) status = hone_fail_memory(err, bytes, "the texts");
    for (int64_t i = 0; i < count && texts; i++) texts[i] = &data->set.examples[i];
    if (texts) qsort((void *)texts, (size_t)count, sizeof *texts, longer_first);
    if (status == HONE_OK) status = run_batches(&call, texts, count, run, work, sink, user);
    hone_tape_free(call.tape);
    hone_free((void *)texts);
    hone_arena_free(&memory);
    return status;
}

// ---- one batch ---------------------------------------------------------------------------------

ModelBatch hone_text_model_batch(const TextBatch *texts) {
    return (ModelBatch){.tokens = texts->tokens,
                        .token = texts->token,
                        .position = texts->position,
                        .begin = texts->begin,
                        .end = texts->end,
                        .path = texts->path,
                        .type = texts->type,
                        .rows = texts->tokens};
}

hone_status hone_pooled_texts(const LossCall *call, const Example *const *texts, int64_t count,
                              HonePooling pooling, Tensor **y) {
    TextBatch packed;
    RETURN_IF_ERROR(hone_texts_pack(texts, count, call->memory, &packed, call->err));
    ModelBatch batch = hone_text_model_batch(&packed);
    if (pooling == HONE_POOLING_CLS) {
        batch.row = packed.first;
        batch.rows = count;
    }
    *y = hone_model_forward(call->model, call->tape, &batch);
    if (pooling != HONE_POOLING_CLS)
        *y = hone_pool_rows(call->tape, pooling == HONE_POOLING_MAX, *y, packed.first, count);
    return hone_tape_status(call->tape, call->err);
}
