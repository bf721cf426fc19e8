// SPDX-License-Identifier: Apache-2.0
// An encoder over texts: all of a data set in batches of like length, and their pooled vectors.
#ifndef HONE_TRAIN_TEXTS_H
#define HONE_TRAIN_TEXTS_H

#include <hone/embed.h>

#include "train/loss.h"
#include "train/session.h"

enum { HONE_BATCH_TEXTS = 512 }; // of a batch, at most

// A batch, on a fresh tape without gradients. Text t has the place t − data's first example.
typedef hone_status TextsFunction(void *work, const LossCall *call, const Example *const *texts,
                                  int64_t count);
// Every text once, the longest first; sink(user, done, count) after each batch, NULL: none; its
// false is HONE_INTERRUPTED.
hone_status hone_run_texts(HoneModel *model, const HoneData *data, TextsFunction *run, void *work,
                           bool (*sink)(void *user, int64_t done, int64_t count), void *user);

ModelBatch hone_text_model_batch(const TextBatch *texts); // all rows of it
// (count,C) on call's tape: the texts side by side, each pooled, not normalised.
hone_status hone_pooled_texts(const LossCall *call, const Example *const *texts, int64_t count,
                              HonePooling pooling, Tensor **y);

#endif
