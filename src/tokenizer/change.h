// SPDX-License-Identifier: Apache-2.0
// What a tokeniser does to text before it is cut: one step of its normalisation.
#ifndef HONE_TOKENIZER_CHANGE_H
#define HONE_TOKENIZER_CHANGE_H

#include "tokenizer/charsmap.h"
#include "tokenizer/span.h"
#include "tokenizer/tokenizer.h"

typedef enum ChangeKind {
    CHANGE_PREPEND,  // `put` before a text that is not empty
    CHANGE_REPLACE,  // `find`, a fixed string, by `put`
    CHANGE_SPACES,   // sentencepiece's spaces: see hone_change_apply's spaces()
    CHANGE_CHARSMAP, // sentencepiece's compiled table of replacements, the longest match first
    CHANGE_BERT,     // BERT's BasicTokenizer: clean, space out, strip accents, lower-case
} ChangeKind;

typedef struct Change {
    ChangeKind kind;
    TokenizerText find, put;         // borrowed
    bool prefix, merge;              // CHANGE_SPACES
    bool clean, apart, strip, lower; // CHANGE_BERT
    Charsmap charsmap;               // borrowed
    MappedText out;                  // what the step wrote last
} Change;

// *result is valid until the next call with this change, and `span` itself where nothing changes.
hone_status hone_change_apply(Change *change, Span span, Span *result, HoneError *err);
void hone_change_free(Change *change);

// change_unicode.c
void hone_change_bert(Change *change, const Span *span);

#endif
