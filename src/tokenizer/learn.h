// SPDX-License-Identifier: Apache-2.0
// Vocabularies learnt from texts: byte-level BPE (Sennrich et al. 2016) and unigram models (Kudo
// 2018).
#ifndef HONE_TOKENIZER_LEARN_H
#define HONE_TOKENIZER_LEARN_H

#include "base/memory.h"
#include "base/pool.h"
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
// Words begin with ▁, which stands for the space before them, and before a text; ends of lines
// stand alone. Zeros and what is not UTF-8 are left out; words of more than 4096 bytes are several.
hone_status hone_word_counts_create_marked(WordCounts **counts, HoneError *err);
void hone_word_counts_free(WordCounts *counts);
hone_status hone_word_counts_add(WordCounts *counts, const char *text, size_t length,
                                 HoneError *err);
const Word *hone_word_counts_list(const WordCounts *counts, int64_t *count);

typedef struct LearnOptions {
    int64_t vocabulary;         // tokens at most, the special ones too
    int64_t min_frequency;      // bpe: a pair that stands less often is not merged
    const char *const *special; // control tokens, which come first
    int special_count;
} LearnOptions;

typedef struct LearntVocabulary {
    TokenizerText *tokens, *merges; // as TokenizerSource has them
    float *scores;                  // unigram: logarithms of probabilities
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

#define HONE_UNKNOWN "<unk>"

// Special tokens, HONE_UNKNOWN, then the pieces of a unigram model, the likeliest first.
// Expectation maximisation (Kudo 2018, after sentencepiece's trainer): from the seeds of
// learn_unigram.h, twice for each piece how often it is expected in the words under the present
// probabilities, which become ∝ exp(digamma(expected)); pieces expected less than 0.5 times go.
// Then a quarter of the pieces goes, those without which the words would lose least likelihood. So
// until 1.1 times the wanted number is left, of which the likeliest stay, and every character.
// Fewer tokens than asked for where words hold no more pieces. Words of
// hone_word_counts_create_marked. The same on any number of threads. HONE_ERROR_ARGUMENT: more
// characters than the vocabulary has room for; HONE_ERROR_INPUT: no words; HONE_ERROR_UNSUPPORTED:
// 4 GiB of distinct words.
hone_status hone_learn_unigram(const WordCounts *counts, const LearnOptions *options,
                               ThreadPool *pool, LearntVocabulary *learnt, HoneError *err);

#endif
