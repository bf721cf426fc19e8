// SPDX-License-Identifier: Apache-2.0
// Tokens that are found in the text as they are spelled, before it is cut into pieces.
#ifndef HONE_TOKENIZER_SPECIAL_H
#define HONE_TOKENIZER_SPECIAL_H

#include "tokenizer/span.h"

// Bits.
typedef enum FindRule {
    FIND_WHOLE_WORD = 1, // not inside a word
    FIND_EATS_LEFT = 2,  // white space before it belongs to it
    FIND_EATS_RIGHT = 4, // and white space behind it
    FIND_LATE = 8,       // in the text as it is after normalisation
    FIND_CONTROL = 16,   // not in content: see hone_special_find
} FindRule;

typedef struct SpecialToken {
    const char *text; // borrowed
    size_t length;
    int32_t id;
    int rules;
} SpecialToken;

typedef struct SpecialSet {
    SpecialToken *items; // sorted by text: those that share a prefix are neighbours
    uint32_t first[257]; // items[first[c]…first[c + 1]) begin with byte c
} SpecialSet;

// Copies the items; empty texts are left out. Zero-initialised sets are empty and may be freed.
hone_status hone_special_create(SpecialSet *set, const SpecialToken *items, size_t count,
                                HoneError *err);
void hone_special_free(SpecialSet *set);

// The leftmost special token at or after `from`, the longest of those there; NULL: none.
// [*begin, *end): the text that is its (both the span's length when none). content: of each byte of
// the caller's text, whether it is somebody's content, in which no FIND_CONTROL token is found, nor
// where it takes part in one; NULL: nothing is.
const SpecialToken *hone_special_find(const SpecialSet *set, const Span *span,
                                      const uint8_t *content, size_t from, size_t *begin,
                                      size_t *end);

#endif
