// SPDX-License-Identifier: Apache-2.0
// Data: examples as the model will see them, with the loss mask.
#ifndef HONE_DATA_H
#define HONE_DATA_H

#include <hone/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum HoneLossOn {
    HONE_LOSS_AUTO,       // assistant or completion where the data has them, else all
    HONE_LOSS_ASSISTANT,  // every assistant turn, its end token too
    HONE_LOSS_COMPLETION, // only the last answer
    HONE_LOSS_ALL,
} HoneLossOn;

// What an encoder's records are for.
typedef enum HoneTask {
    HONE_TASK_NONE,  // the model continues texts
    HONE_TASK_EMBED, // a vector of each "text"; a .txt file and lines that are no JSON: one a line
    // A class of each "text", with a "text_pair" behind it where there is one: "label", a text or a
    // whole number
    HONE_TASK_CLASSIFY,
    HONE_TASK_PAIRS, // vectors that are alike: "anchor" and "positive"
} HoneTask;

// The defaults are the zero value.
typedef struct HoneDataOptions {
    int64_t max_length; // tokens an example; 0: the model's context, at most 2048
    int64_t stride;     // tokens between the windows that a .txt file is cut into; 0: no overlap
    HoneLossOn loss_on;
    bool skip_bad; // skip and count bad examples instead of stopping at the first
    bool no_eos;   // do not end "text" records with EOS
    bool pairs;    // records of prompt, chosen and rejected, for preference losses
    HoneTask task; // of an encoder
    // Of classes: the names that a label can have; a whole number that is none of them is one's
    // place. NULL: any, but where the data is hone_finetune's those of the model.
    const char *const *labels;
    int64_t label_count;
    bool unlabelled; // records need no label, and what HONE_TASK_EMBED reads is read
    int64_t now; // what strftime_now in a chat template tells, in seconds since 1970, UTC; 0: now
} HoneDataOptions;

typedef struct HoneData HoneData;

// One example; pointers are borrowed from the data.
typedef struct HoneExample {
    const char *text; // as rendered, NUL-terminated
    const int32_t *tokens;
    const uint8_t *mask; // 1: this token is learnt
    int64_t count, targets;
    const char *answer; // the last assistant message or the completion; NULL for plain text
    int line;           // in its file, from 1
    bool cut;           // longer than max_length
} HoneExample;

// Read a file of examples: JSON, one record a line or one list; .csv and .tsv tables; .txt, cut
// into windows of max_length tokens; each also packed with gzip or zstd. What is in it is told from
// its content, and from its name where that cannot tell. The kind of a record its keys or columns
// tell. Caller frees *data with hone_data_free.
hone_status hone_data_read(HoneModel *model, const char *path, const HoneDataOptions *options,
                           HoneData **data);
void hone_data_free(HoneData *data);

typedef struct HoneDataInfo {
    int64_t examples, tokens, targets, longest, cut, skipped;
    const char *first_skipped; // why, with file and line; "" when none was
} HoneDataInfo;
void hone_data_info(const HoneData *data, HoneDataInfo *info);
void hone_data_example(const HoneData *data, int64_t index, HoneExample *example);

#ifdef __cplusplus
}
#endif
#endif
