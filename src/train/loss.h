// SPDX-License-Identifier: Apache-2.0
// The loss of a batch of examples: in training, over held-out data, and behind a prompt's cache.
#ifndef HONE_TRAIN_LOSS_H
#define HONE_TRAIN_LOSS_H

#include "data/data.h"
#include "models/model.h"

typedef struct BatchTeacher {
    Model *model;
    float temperature, share; // of HeadTeacher
} BatchTeacher;

typedef struct LossCall {
    Model *model;
    Tape *tape;                  // reset by the caller, who also runs backward; may be dry
    KeyValueCache *cache;        // the examples go on from the tokens in it; NULL: they are whole
    float z_loss, smoothing;     // of hone_head_cross_entropy
    const BatchTeacher *teacher; // whose distributions are learnt too; NULL: none
    bool by_target;              // what became of every target is wanted
    Arena *memory;               // holds the batch and the results
    HoneError *err;
} LossCall;

typedef struct BatchLoss {
    double loss; // weight·Σ −log p(target), recorded on the tape
    // by_target: example by example as given, each one's targets in order. In the arena.
    float *logprob;      // natural log
    uint8_t *correct;    // 1 where it was the most probable token
    double head_seconds; // of the time, the head's
} BatchLoss;

// A batch as the model reads it: the rows that predict something, each once, and every entry's
// place among them. Arrays live in call's memory.
typedef struct PreparedBatch {
    TokenBatch batch;
    ModelBatch model;
    int32_t *entry_row;
    float *weight; // of each entry: weight · its learners
    uint64_t *row_path;
} PreparedBatch;

hone_status hone_batch_prepare(const LossCall *call, const Example *const *examples, int64_t count,
                               double weight, PreparedBatch *prepared);
HeadLoss hone_prepared_head(const PreparedBatch *prepared);

hone_status hone_batch_loss(const LossCall *call, const Example *const *examples, int64_t count,
                            double weight, BatchLoss *result);

#endif
