// SPDX-License-Identifier: Apache-2.0
// Classes of texts: the loss of a micro-batch, and what a model says of a text.
#ifndef HONE_TRAIN_CLASSES_H
#define HONE_TRAIN_CLASSES_H

#include "train/loss.h"
#include "train/session.h"

// loss = Σ weight·(−log softmax(classifier(pool(x)))[label]), x the hidden states of each example's
// first token; recorded on call's tape, with its smoothing and z-loss.
hone_status hone_class_loss(const LossCall *call, const Example *const *examples, int64_t count,
                            double weight, BatchLoss *result);

// Logits (count, labels) of each example, on call's tape without gradients.
hone_status hone_class_logits(const LossCall *call, const Example *const *examples, int64_t count,
                              float *logits);

// Softmax of one example's logits → the label that has most, the first of equals; NaN counts as
// least. probability (labels).
int64_t hone_class_softmax(const float *logits, int64_t labels, double *probability);

// What became of the labels: entry [label] of each array.
typedef struct ClassCounts {
    int64_t labels, right, wrong;
    int64_t *hit, *false_hit, *missed;
} ClassCounts;
hone_status hone_class_counts(Arena *memory, int64_t labels, ClassCounts *counts, HoneError *err);
void hone_class_forget(ClassCounts *counts); // all of it 0
void hone_class_count(ClassCounts *counts, int64_t label, int64_t said);
// Of each label that was given or said, 2·hit/(2·hit + false_hit + missed); their mean.
double hone_class_f1(const ClassCounts *counts);

#endif
