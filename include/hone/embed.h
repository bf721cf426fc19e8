// SPDX-License-Identifier: Apache-2.0
// Vectors of texts by an encoder.
#ifndef HONE_EMBED_H
#define HONE_EMBED_H

#include <hone/data.h>

#ifdef __cplusplus
extern "C" {
#endif

// From the last hidden states of a text to one vector.
typedef enum HonePooling {
    HONE_POOLING_AUTO, // as the model's file says, else the mean
    HONE_POOLING_MEAN, // of all tokens, those that frame the text too
    HONE_POOLING_CLS,  // the first token's
    HONE_POOLING_MAX,  // the largest of each channel
} HonePooling;

typedef enum HoneNormalize {
    HONE_NORMALIZE_AUTO, // as the model's file says, else off
    HONE_NORMALIZE_ON,   // to length 1
    HONE_NORMALIZE_OFF,
} HoneNormalize;

// The defaults are the zero value.
typedef struct HoneEmbedOptions {
    HonePooling pooling;
    HoneNormalize normalize;
    int64_t max_length; // tokens a text is cut to; 0: as the model's file says, else its context
} HoneEmbedOptions;

// Put what the model's file says in the place of what is not given.
void hone_embed_options(const HoneModel *model, HoneEmbedOptions *options);

// Called after each batch; false stops (HONE_INTERRUPTED).
typedef bool (*HoneEmbedSink)(void *user, int64_t done, int64_t count);

// vectors (count, channels): of the texts that hone_data_read read for HONE_TASK_EMBED, in their
// order. Texts go in batches of like length, each as it is, without padding: a vector depends on
// its text alone but for the rounding of sums. options and sink may be NULL. HONE_ERROR_UNSUPPORTED
// for a model that is no encoder.
hone_status hone_embed(HoneModel *model, const HoneData *data, const HoneEmbedOptions *options,
                       HoneEmbedSink sink, void *user, float *vectors);

// Write them to a file: NumPy's where path ends in ".npy" (float32, count × channels), else JSON
// lines {"line":…,"embedding":[…]}. The file is there whole or not at all.
hone_status hone_embed_write(HoneModel *model, const HoneData *data, const float *vectors,
                             const char *path);

// The texts are given, not read from a file. Caller frees *data with hone_data_free.
hone_status hone_data_texts(HoneModel *model, const char *const *texts, int64_t count,
                            const HoneDataOptions *options, HoneData **data);

#ifdef __cplusplus
}
#endif
#endif
