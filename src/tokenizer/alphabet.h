// SPDX-License-Identifier: Apache-2.0
// GPT-2's byte alphabet: every byte spelled as one visible character (space is Ġ, newline is Ċ).
#ifndef HONE_TOKENIZER_ALPHABET_H
#define HONE_TOKENIZER_ALPHABET_H

#include "base/error.h"

enum { ALPHABET_END = 256 + 68 }; // 68 bytes are not visible; they take U+0100 onwards, in order

typedef struct Alphabet {
    uint16_t character[256];    // the code point that spells a byte
    int16_t byte[ALPHABET_END]; // the byte that a code point spells; -1: none
} Alphabet;

void hone_alphabet_fill(Alphabet *alphabet);

// The bytes that a spelling stands for, written to `out` (room for `length`). Returns their number,
// or -1 when a character is not of the alphabet.
int64_t hone_alphabet_decode(const Alphabet *alphabet, const char *spelling, size_t length,
                             char *out);

#endif
