// SPDX-License-Identifier: Apache-2.0
// Generation from tokens, shared by the public calls and by evaluation.
#ifndef HONE_TRAIN_DECODE_H
#define HONE_TRAIN_DECODE_H

#include "train/loss.h"
#include "train/session.h"

struct HoneGenerator {
    HoneModel *model;
    Tape *tape;
    KeyValueCache *cache;
    int32_t *seen; // the tokens in the cache
    int64_t capacity;
    float *logits;
    int32_t *candidates;
};

// Room for `length` tokens: a larger cache forgets what the smaller one held.
hone_status hone_generator_reserve(HoneGenerator *generator, int64_t length, HoneError *err);
// Make the cache hold exactly these tokens; what it already holds of them is not computed again.
// The last token always is: `logits` are those after it.
hone_status hone_generator_feed(HoneGenerator *generator, const int32_t *tokens, int64_t count,
                                HoneError *err);

// The loss of examples that go on from the tokens in the cache, which has room for them; it is not
// lengthened.
hone_status hone_generator_loss(HoneGenerator *generator, const Example *const *examples,
                                int64_t count, Arena *memory, BatchLoss *result);

// Index of the largest logit, the first among equals.
int32_t hone_argmax(const float *logits, int64_t count);

// The tokens of a prompt: control tokens that it spells out are those tokens, and a model that
// begins its texts with BOS is given one unless the prompt spells it out. Caller frees *tokens with
// hone_free.
hone_status hone_prompt_tokens(HoneModel *model, const char *prompt, size_t length,
                               int32_t **tokens, int64_t *count, HoneError *err);

// As hone_generate_text, for a prompt that is tokens already. The caller has cleared the error.
hone_status hone_generate_tokens(HoneGenerator *generator, const int32_t *tokens, int64_t count,
                                 const HoneSampling *sampling, HoneTokenSink sink, void *user,
                                 HoneGenerated *result);

#endif
