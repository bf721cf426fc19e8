// SPDX-License-Identifier: Apache-2.0
// Examples written as words: a letter is a token, a capital one is a target. "abCD" learns c and d;
// "xy>aB" learns b behind a, of the source xy.
#ifndef HONE_TESTS_EXAMPLES_H
#define HONE_TESTS_EXAMPLES_H

#include <ctype.h>
#include <string.h>

#include "base/random.h"
#include "data/data.h"

enum { WORD_LETTERS = 16, MOST_WORDS = 24 };

typedef struct Words {
    int64_t count;
    Example example[MOST_WORDS];
    const Example *list[MOST_WORDS];
    int32_t token[MOST_WORDS][WORD_LETTERS];
    uint8_t target[MOST_WORDS][WORD_LETTERS];
} Words;

static inline void words_add(Words *words, const char *word) {
    const int64_t i = words->count++;
    Example *example = &words->example[i];
    const char *mark = strchr(word, '>');
    const int64_t source = mark ? mark - word : 0;
    *example = (Example){.token = words->token[i] + source,
                         .target = words->target[i] + source,
                         .source_count = source};
    for (int64_t k = 0; k < source; k++) words->token[i][k] = (int32_t)(word[k] - 'a');
    word += mark ? source + 1 : 0;
    for (; word[example->count]; example->count++) {
        const int64_t k = example->count;
        example->token[k] = (int32_t)(tolower((unsigned char)word[k]) - 'a');
        example->target[k] = k > 0 && isupper((unsigned char)word[k]);
        example->targets += example->target[k];
    }
    words->list[i] = example;
}

// Words of three different letters, so that they often begin alike.
static inline void words_random(Words *words, int count, RandomStream *random) {
    *words = (Words){0};
    for (int i = 0; i < count; i++) {
        char word[WORD_LETTERS] = {0};
        const uint64_t length = 1 + hone_random_below(random, WORD_LETTERS - 1);
        for (uint64_t k = 0; k < length; k++) {
            const bool learnt = k > 0 && hone_random_below(random, 2) == 0;
            word[k] = (char)((learnt ? 'A' : 'a') + (char)hone_random_below(random, 3));
        }
        words_add(words, word);
    }
}

#endif
