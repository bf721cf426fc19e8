// SPDX-License-Identifier: Apache-2.0
// What a model says of texts, in batches of like length.
#include <hone/classify.h>

#include <math.h>
#include <stdlib.h>

#include "train/classes.h"

enum { BATCH_TOKENS = 2048, BATCH_TEXTS = 512 };

typedef struct Classifying {
    HoneModel *model;
    const Example *first; // of the data
    const Example **order;
    float *logits, *probability; // (BATCH_TEXTS, labels), (count, labels)
    double *each;                // (labels)
    Tape *tape;
    Arena memory;
    HoneError *err;
} Classifying;

int64_t hone_model_labels(const HoneModel *model, const char *const **labels) {
    *labels = model->labels;
    return model->label_count;
}

static int longer_first(const void *left, const void *right) {
    const Example *a = *(const Example *const *)left, *b = *(const Example *const *)right;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return a < b ? -1 : a > b;
}

static hone_status run_batch(Classifying *work, int64_t begin, int64_t count) {
    const int64_t labels = work->model->label_count;
    const LossCall call = {
        .model = work->model->model, .tape = work->tape, .memory = &work->memory, .err = work->err};
    hone_tape_reset(work->tape, false);
    hone_arena_reset(&work->memory);
    RETURN_IF_ERROR(hone_class_logits(&call, work->order + begin, count, work->logits));
    for (int64_t i = 0; i < count; i++) {
        const Example *example = work->order[begin + i];
        float *probability = work->probability + (example - work->first) * labels;
        hone_class_softmax(work->logits + i * labels, labels, work->each);
        for (int64_t k = 0; k < labels; k++) {
            if (!isfinite(work->each[k]))
                return hone_fail(work->err, HONE_ERROR_NUMERIC,
                                 "the probabilities of line %d are not finite", example->line);
            probability[k] = (float)work->each[k];
        }
    }
    return HONE_OK;
}

static hone_status run_batches(Classifying *work, int64_t count, HoneClassifySink sink,
                               void *user) {
    const size_t labels = (size_t)work->model->label_count;
    work->tape =
        hone_tape_create(&work->model->context->kernels, (TapeOptions){.gradients = false});
    work->logits = hone_calloc(BATCH_TEXTS * labels, sizeof *work->logits);
    work->each = hone_calloc(labels, sizeof *work->each);
    if (!work->tape || !work->logits || !work->each)
        return hone_fail_memory(work->err, BATCH_TEXTS * labels * sizeof(float), "classes");
    for (int64_t begin = 0, texts; begin < count; begin += texts) {
        int64_t tokens = work->order[begin]->count;
        for (texts = 1; begin + texts < count && texts < BATCH_TEXTS; texts++) {
            tokens += work->order[begin + texts]->count;
            if (tokens > BATCH_TOKENS) break;
        }
        RETURN_IF_ERROR(run_batch(work, begin, texts));
        if (sink && !sink(user, begin + texts, count))
            return hone_fail(work->err, HONE_INTERRUPTED, "stopped after %lld of %lld texts",
                             (long long)(begin + texts), (long long)count);
    }
    return HONE_OK;
}

hone_status hone_classify(HoneModel *model, const HoneData *data, HoneClassifySink sink, void *user,
                          float *probability) {
    HoneError *err = hone_begin(model->context);
    if (model->label_count == 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tells no classes apart: hone finetune --task classify teaches them, "
                         "--adapter adds what was learnt",
                         model->name);
    const int64_t count = data->set.count;
    Classifying work = {.model = model,
                        .first = data->set.examples,
                        .order = hone_alloc((size_t)(count + 1) * sizeof *work.order),
                        .probability = probability,
                        .err = err};
    if (!work.order) return hone_fail_memory(err, (size_t)count * sizeof *work.order, "the texts");
    for (int64_t i = 0; i < count; i++) work.order[i] = &data->set.examples[i];
    qsort((void *)work.order, (size_t)count, sizeof *work.order, longer_first);
    hone_status status = run_batches(&work, count, sink, user);
    hone_tape_free(work.tape);
    hone_free(work.logits);
    hone_free(work.each);
    hone_free((void *)work.order);
    hone_arena_free(&work.memory);
    return status;
}
