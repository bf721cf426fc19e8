// SPDX-License-Identifier: Apache-2.0
// The vocabulary of a model that is developed: read from a file, or learnt from its corpus.
#include <string.h>

#include "data/corpus.h"
#include "io/tokenizer_file.h"
#include "tokenizer/learn.h"
#include "train/develop.h"

static const char *const special[] = {"<|endoftext|>"};

static hone_status count_document(void *user, const char *path, int line, const char *text,
                                  size_t length, HoneError *err) {
    hone_status status = hone_word_counts_add(user, text, length, err);
    return status == HONE_OK ? HONE_OK : hone_fail_in(err, "%s:%d", path, line);
}

// Both languages have one vocabulary.
static hone_status count_translation(void *user, const char *path, int line, const char *source,
                                     const char *target, HoneError *err) {
    (void)path, (void)line; // the reader says them
    RETURN_IF_ERROR(hone_word_counts_add(user, source, strlen(source), err));
    return hone_word_counts_add(user, target, strlen(target), err);
}

static hone_status count_words(Run *run, WordCounts *counts) {
    const bool translates = hone_develop_translates(run->develop);
    for (int64_t s = 0; s < run->options.data_count; s++) {
        const char *path = run->options.data[s].path;
        RETURN_IF_ERROR(
            translates ? hone_translations_each(path, false, count_translation, counts, run->err)
                       : hone_corpus_each(path, count_document, counts, run->err));
    }
    return HONE_OK;
}

static GgufString *as_strings(LearntVocabulary *learnt, const TokenizerText *texts, int64_t count) {
    GgufString *strings = hone_arena_calloc(&learnt->memory, (size_t)count + 1, sizeof *strings);
    for (int64_t i = 0; strings && i < count; i++)
        strings[i] = (GgufString){texts[i].data, texts[i].length};
    return strings;
}

static hone_status keep(LearntVocabulary *learnt, GgufFile *vocabulary, HoneError *err) {
    const bool unigram = learnt->scores;
    const LearntKeys keys = {.model = unigram ? "t5" : "gpt2",
                             .pre = unigram ? NULL : "gpt-2",
                             .tokens = as_strings(learnt, learnt->tokens, learnt->token_count),
                             .merges = as_strings(learnt, learnt->merges, learnt->merge_count),
                             .scores = learnt->scores,
                             .kinds = learnt->kinds,
                             .token_count = learnt->token_count,
                             .merge_count = learnt->merge_count,
                             .bos = 0,
                             .eos = 0,
                             .unknown = unigram ? (int)(sizeof special / sizeof *special) : -1};
    if (!keys.tokens || !keys.merges)
        return hone_fail_memory(err, (size_t)learnt->token_count * sizeof *keys.tokens,
                                "a vocabulary");
    return hone_tokenizer_file_make(&keys, vocabulary, err);
}

static hone_status learn(Run *run, bool unigram, GgufFile *vocabulary) {
    const HoneTrainOptions *options = run->develop;
    const LearnOptions wanted = {.vocabulary = options->vocabulary,
                                 .min_frequency = options->min_frequency,
                                 .special = special,
                                 .special_count = sizeof special / sizeof *special};
    WordCounts *counts;
    LearntVocabulary learnt = {0};
    RETURN_IF_ERROR(unigram ? hone_word_counts_create_marked(&counts, run->err)
                            : hone_word_counts_create("gpt-2", &counts, run->err));
    hone_status status = count_words(run, counts);
    if (status == HONE_OK)
        status = unigram
                     ? hone_learn_unigram(counts, &wanted, run->context->pool, &learnt, run->err)
                     : hone_learn_bpe(counts, &wanted, &learnt, run->err);
    hone_word_counts_free(counts);
    if (status == HONE_OK) status = keep(&learnt, vocabulary, run->err);
    hone_learnt_free(&learnt);
    return status;
}

hone_status hone_develop_vocabulary(Run *run, GgufFile *vocabulary) {
    const char *given = run->develop->tokenizer;
    const bool unigram = strcmp(given, "unigram") == 0;
    if (unigram || strcmp(given, "bpe") == 0) return learn(run, unigram, vocabulary);
    return hone_tokenizer_file_open(given, vocabulary, run->err);
}
