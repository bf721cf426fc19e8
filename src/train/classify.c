// SPDX-License-Identifier: Apache-2.0
// What a model says of texts, in batches of like length.
#include <hone/classify.h>

#include <math.h>

#include "train/classes.h"
#include "train/texts.h"

typedef struct Classifying {
    const Example *first; // of the data
    int64_t labels;
    float *logits, *probability; // (HONE_BATCH_TEXTS, labels), (count, labels)
    double *each;                // (labels)
} Classifying;

int64_t hone_model_labels(const HoneModel *model, const char *const **labels) {
    *labels = model->labels;
    return model->label_count;
}

static hone_status run_batch(void *user, const LossCall *call, const Example *const *texts,
                             int64_t count) {
    Classifying *work = user;
    const int64_t labels = work->labels;
    RETURN_IF_ERROR(hone_class_logits(call, texts, count, work->logits));
    for (int64_t i = 0; i < count; i++) {
        float *probability = work->probability + (texts[i] - work->first) * labels;
        hone_class_softmax(work->logits + i * labels, labels, work->each);
        for (int64_t k = 0; k < labels; k++) {
            if (!isfinite(work->each[k]))
                return hone_fail(call->err, HONE_ERROR_NUMERIC,
                                 "the probabilities of line %d are not finite", texts[i]->line);
            probability[k] = (float)work->each[k];
        }
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
    const size_t labels = (size_t)model->label_count;
    Classifying work = {.first = data->set.examples,
                        .labels = model->label_count,
                        .logits = hone_calloc(HONE_BATCH_TEXTS * labels, sizeof *work.logits),
                        .probability = probability,
                        .each = hone_calloc(labels, sizeof *work.each)};
    hone_status status =
        work.logits && work.each
            ? hone_run_texts(model, data, run_batch, &work, sink, user)
            : hone_fail_memory(err, HONE_BATCH_TEXTS * labels * sizeof(float), "classes");
    hone_free(work.logits);
    hone_free(work.each);
    return status;
}
