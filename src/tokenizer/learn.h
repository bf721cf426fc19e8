// SPDX-License-Identifier: Apache-2.0
// Vocabularies learnt from texts: byte-level BPE (Sennrich et al. 2016).
#ifndef HONE_TOKENIZER_LEARN_H
#define HONE_TOKENIZER_LEARN_H

#include "base/memory.h"
#include "base/text.h"
#include "tokenizer/tokenizer.h"

// The distinct words of texts and how often each stands in them, in the order of their first
// appearance.
typedef struct Word {
    const char *text; // in the counts' arena
    int64_t length, times;
} Word;

typedef struct WordCounts WordCounts;

// Words are the pieces of a rule of rules.c that has one pattern ("gpt-2"). Caller frees.
hone_status hone_word_counts_create(const char *rule, WordCounts **counts, HoneError *err);
void hone_word_counts_free(WordCounts *counts);
hone_status hone_word_counts_add(WordCounts *counts, const char *text, size_t length,
                                 HoneError *err);
const Word *hone_word_counts_list(const WordCounts *counts, int64_t *count);

typedef struct LearnOptions {
    int64_t vocabulary;         // tokens at most, the special ones too
    int64_t min_frequency;      // a pair that stands less often is not merged
    const char *const *special; // control tokens, which come first
    int special_count;
} LearnOptions;

typedef struct LearntVocabulary {
    TokenizerText *tokens, *merges; // as TokenizerSource has them
    int32_t *kinds;
    int64_t token_count, merge_count;
    Arena memory; // of all
} LearntVocabulary;

void hone_learnt_free(LearntVocabulary *learnt);

// Special tokens, the 256 bytes by the code points that spell them, then merges: again and again
// the pair of neighbours that stands most often, of equal ones the pair of the smaller ids. The
// merges are those of Hugging Face's BpeTrainer with the byte alphabet, to the last. Fewer tokens
// than asked for where no pair is left. HONE_ERROR_ARGUMENT: a vocabulary that the bytes do not fit
// into, a special token given twice.
hone_status hone_learn_bpe(const WordCounts *counts, const LearnOptions *options,
                           LearntVocabulary *learnt, HoneError *err);

#endif
