// SPDX-License-Identifier: Apache-2.0
// What the parts of the unigram trainer share; only learn_seeds.c and learn_unigram.c see it.
#ifndef HONE_TOKENIZER_LEARN_UNIGRAM_H
#define HONE_TOKENIZER_LEARN_UNIGRAM_H

#include "tokenizer/learn.h"

// A token that a vocabulary may come to have. The text is borrowed.
typedef struct Piece {
    const char *text;
    int32_t length;
    bool character; // of one character: always kept, so every word can be spelled
    double score;   // its probability's logarithm; of a seed, how much text it covers
} Piece;

typedef struct PieceList {
    Piece *items;
    int64_t count, capacity;
    char *texts; // what the pieces point into
    size_t text_bytes;
} PieceList;

void hone_pieces_free(PieceList *pieces);
// For qsort: the larger score first, of equal ones the smaller text by bytes.
int hone_piece_compare(const void *left, const void *right);

// Where every vocabulary begins: all characters of the words, then the substrings of 2 to 16
// characters that stand twice and could not be longer at each of their places, those of the largest
// times · characters, a million in all at most. None is spelled as a special token.
hone_status hone_learn_seeds(const Word *words, int64_t word_count, const LearnOptions *options,
                             PieceList *pieces, HoneError *err);

#endif
