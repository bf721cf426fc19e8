// SPDX-License-Identifier: Apache-2.0
// What a written model holds: values with adapters merged in, packed as a type.
#ifndef HONE_TRAIN_MERGE_H
#define HONE_TRAIN_MERGE_H

#include "train/session.h"

// Whether an adapter or training has changed what the file holds. A vector that was read as another
// type counts as changed.
bool hone_is_changed(HoneModel *model, const GgufTensor *stored);
// A model whose head is the embedding, with an adapter on one of the two, is written with a head of
// its own: `head` is that tensor as it is before merging. false: there is none to add.
bool hone_untied_head(HoneModel *model, GgufTensor *head);
// values = gain ⊙ W + Σ scale·B·A in f32, rows as the model has them. *merged: there was an
// adapter.
hone_status hone_merged_values(HoneModel *model, const GgufTensor *stored, float *values,
                               bool *merged, HoneError *err);
// count values, whole blocks, as `type` into packed, on all threads. HONE_ERROR_NUMERIC: a value
// that the type cannot hold; `name` is the tensor's.
hone_status hone_values_pack(const KernelContext *kc, int type, const float *values, void *packed,
                             int64_t count, const char *name, HoneError *err);

#endif
