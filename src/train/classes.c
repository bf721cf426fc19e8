// SPDX-License-Identifier: Apache-2.0
#include "train/classes.h"

#include <math.h>

#include "train/texts.h"

// What the classifier reads: (count,C).
static hone_status pooled(const LossCall *call, const Example *const *examples, int64_t count,
                          Tensor **x, uint64_t **path) {
    TextBatch texts;
    RETURN_IF_ERROR(hone_texts_pack(examples, count, call->memory, &texts, call->err));
    *path = hone_arena_alloc(call->memory, (size_t)(count + 1) * sizeof **path);
    if (!*path) return hone_fail_memory(call->err, (size_t)count * sizeof **path, "a batch");
    for (int64_t i = 0; i < count; i++) (*path)[i] = texts.path[texts.first[i]];
    ModelBatch batch = hone_text_model_batch(&texts);
    batch.row = texts.first;
    batch.rows = count;
    Tensor *hidden = hone_model_forward(call->model, call->tape, &batch);
    *x = hone_model_pool(call->model, call->tape, hidden, *path);
    return HONE_OK;
}

hone_status hone_class_loss(const LossCall *call, const Example *const *examples, int64_t count,
                            double weight, BatchLoss *result) {
    Tensor *x;
    uint64_t *path;
    RETURN_IF_ERROR(pooled(call, examples, count, &x, &path));
    int32_t *numbers = hone_arena_alloc(call->memory, (size_t)count * 2 * sizeof *numbers);
    float *weights = hone_arena_alloc(call->memory, (size_t)count * sizeof *weights);
    if (!numbers || !weights)
        return hone_fail_memory(call->err, (size_t)count * sizeof *weights, "a batch");
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = (int32_t)i;
        numbers[count + i] = examples[i]->label;
        weights[i] = (float)weight;
    }
    HeadLoss head = {.entries = count,
                     .row = numbers,
                     .target = numbers + count,
                     .weight = weights,
                     .path = path,
                     .z_loss = call->z_loss,
                     .smoothing = call->smoothing};
    hone_head_cross_entropy(call->tape, hone_model_classifier(call->model), x, &head);
    *result = (BatchLoss){.loss = head.loss, .head_seconds = head.seconds};
    return hone_tape_status(call->tape, call->err);
}

hone_status hone_class_logits(const LossCall *call, const Example *const *examples, int64_t count,
                              float *logits) {
    Tensor *x;
    uint64_t *path;
    RETURN_IF_ERROR(pooled(call, examples, count, &x, &path));
    Tensor *y = hone_linear(call->tape, hone_model_classifier(call->model), x, path);
    hone_tape_read(call->tape, y, logits);
    return hone_tape_status(call->tape, call->err);
}

int64_t hone_class_softmax(const float *logits, int64_t labels, double *probability) {
    int64_t most = 0;
    for (int64_t i = 1; i < labels; i++)
        if (logits[i] > logits[most] || isnan(logits[most])) most = i;
    const double largest = (double)logits[most];
    double sum = 0;
    for (int64_t i = 0; i < labels; i++) sum += exp((double)logits[i] - largest);
    for (int64_t i = 0; i < labels; i++) probability[i] = exp((double)logits[i] - largest) / sum;
    return most;
}

hone_status hone_class_counts(Arena *memory, int64_t labels, ClassCounts *counts, HoneError *err) {
    int64_t *numbers = hone_arena_calloc(memory, (size_t)labels * 3, sizeof *numbers);
    *counts = (ClassCounts){.labels = labels, .hit = numbers};
    if (!numbers) return hone_fail_memory(err, (size_t)labels * 3 * sizeof *numbers, "counts");
    counts->false_hit = numbers + labels;
    counts->missed = numbers + 2 * labels;
    return HONE_OK;
}

void hone_class_forget(ClassCounts *counts) {
    counts->right = counts->wrong = 0;
    for (int64_t i = 0; i < 3 * counts->labels; i++) counts->hit[i] = 0;
}

void hone_class_count(ClassCounts *counts, int64_t label, int64_t said) {
    if (label == said) {
        counts->right++;
        counts->hit[label]++;
        return;
    }
    counts->wrong++;
    counts->missed[label]++;
    counts->false_hit[said]++;
}

double hone_class_f1(const ClassCounts *counts) {
    double sum = 0;
    int64_t seen = 0;
    for (int64_t i = 0; i < counts->labels; i++) {
        const int64_t all = 2 * counts->hit[i] + counts->false_hit[i] + counts->missed[i];
        if (all == 0) continue;
        sum += 2 * (double)counts->hit[i] / (double)all;
        seen++;
    }
    return seen > 0 ? sum / (double)seen : (double)NAN;
}
