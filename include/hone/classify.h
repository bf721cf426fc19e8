// SPDX-License-Identifier: Apache-2.0
// Classes of texts by an encoder.
#ifndef HONE_CLASSIFY_H
#define HONE_CLASSIFY_H

#include <hone/data.h>

#ifdef __cplusplus
extern "C" {
#endif

// The classes that the model tells apart, those of an added adapter too: borrowed, valid until
// another adapter is added. 0: it tells none apart.
int64_t hone_model_labels(const HoneModel *model, const char *const **labels);

// Called after each batch; false stops (HONE_INTERRUPTED).
typedef bool (*HoneClassifySink)(void *user, int64_t done, int64_t count);

// probability (count, labels): of the texts that hone_data_read or hone_data_texts read for
// HONE_TASK_CLASSIFY, in their order. Texts go in batches of like length, each as it is, without
// padding. HONE_ERROR_UNSUPPORTED for a model that tells no classes apart. sink may be NULL, and of
// such a model all else.
hone_status hone_classify(HoneModel *model, const HoneData *data, HoneClassifySink sink, void *user,
                          float *probability);

#ifdef __cplusplus
}
#endif
#endif
