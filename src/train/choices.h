// SPDX-License-Identifier: Apache-2.0
// Ranking fixed answers after a prompt: all of them in one pass, a trie behind the prompt's cache.
#ifndef HONE_TRAIN_CHOICES_H
#define HONE_TRAIN_CHOICES_H

#include "train/decode.h"

// scores[c] = log p(choice c and its end token | prompt), for an example that has an answer. The
// answer's place in the example's text is where each choice is put.
hone_status hone_score_choices(HoneGenerator *generator, const Example *example,
                               const char *const *choices, int64_t count, Arena *memory,
                               double *scores);

#endif
