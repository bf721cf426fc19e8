// SPDX-License-Identifier: Apache-2.0
// What an encoder-decoder makes of texts: greedy and beam search.
#ifndef HONE_TRANSLATE_H
#define HONE_TRANSLATE_H

#include <hone/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct HoneTranslateOptions {
    int64_t beams; // 1 … 64; 1: greedy
    // A hypothesis scores its log-probability / length^α (its end token counts as one), or, with
    // gnmt, / ((5 + length)/6)^α (Wu et al. 2016). 0: none.
    double length_penalty;
    bool gnmt;
    bool early;         // stop once `beams` have ended, though a run could become better
    int64_t max_tokens; // of a target, its end included (auto 0: 256, at most the context − 1)
    int64_t candidates; // the best so many are wanted, at most `beams`
    int64_t batch;      // sources at a time
    bool alignment;     // of the best candidate, by a second pass over it
} HoneTranslateOptions;
// beams 4, α 1, gnmt and early false, one candidate, 16 at a time.
void hone_translate_defaults(HoneTranslateOptions *options);

typedef struct HoneTranslation {
    const char *text; // without the end token
    const int32_t *tokens;
    int64_t count;
    double score, logprob; // of all tokens, the end too
    bool ended;            // else max_tokens was reached
} HoneTranslation;

typedef struct HoneTranslated { // valid during the call
    int64_t index;              // of the source
    int64_t source_tokens;
    bool cut; // the source is longer than the context, and its end was not read
    const HoneTranslation *candidates; // the best first
    int64_t count;
    // Of the best candidate, or NULL: for each of its tokens, the end too, how much the decoder's
    // last layer attends to each source token, the mean over its heads (tokens, source_tokens).
    const float *alignment;
    int64_t alignment_rows;
    const int32_t *source_ids; // (source_tokens)
} HoneTranslated;

// false stops: HONE_INTERRUPTED.
typedef bool (*HoneTranslatedSink)(void *user, const HoneTranslated *translated);

// Sources are NUL-terminated UTF-8; those of about one length are searched together, and reported
// in their own order when all are done. The same tokens as each alone, but for rounding.
// HONE_ERROR_UNSUPPORTED: the model has no encoder. HONE_ERROR_INPUT: an empty source.
hone_status hone_translate(HoneModel *model, const char *const *sources, int64_t count,
                           const HoneTranslateOptions *options, HoneTranslatedSink sink,
                           void *user);

// The sources of a file: those of records with a source (or a prompt, or an instruction), in all
// forms that examples have; of a .txt file each line. Caller frees.
typedef struct HoneSources HoneSources;
hone_status hone_sources_read(HoneContext *context, const char *path, HoneSources **sources);
void hone_sources_free(HoneSources *sources);
int64_t hone_sources_count(const HoneSources *sources);
const char *const *hone_sources_texts(const HoneSources *sources);
int hone_sources_line(const HoneSources *sources, int64_t index); // in the file, from 1

#ifdef __cplusplus
}
#endif
#endif
