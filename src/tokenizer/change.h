// SPDX-License-Identifier: Apache-2.0
// What a tokeniser does to text before it is cut: one step of its normalisation.
#ifndef HONE_TOKENIZER_CHANGE_H
#define HONE_TOKENIZER_CHANGE_H

#include "tokenizer/charsmap.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/span.h"
#include "tokenizer/tokenizer.h"

typedef enum ChangeKind {
    CHANGE_PREPEND,  // `put` before a text that is not empty
    CHANGE_LEAD,     // the like, where the text does not begin with `put`
    CHANGE_REPLACE,  // `find`, a fixed string, by `put`
    CHANGE_SPACES,   // sentencepiece's spaces: see hone_change_apply's spaces()
    CHANGE_CHARSMAP, // sentencepiece's compiled table of replacements, the longest match first
    CHANGE_BERT,     // BERT's BasicTokenizer: clean, space out, strip accents, lower-case
    CHANGE_REGEX,    // what `pattern` matches, by `put`
    CHANGE_STRIP,    // white space at the `left` and at the `right` goes
    CHANGE_FORM,     // a Unicode normalisation form
    CHANGE_ACCENTS,  // marks go
    CHANGE_LOWER,    // small letters
    CHANGE_NMT,      // sentencepiece's cleaning: control characters go, others become spaces
    CHANGE_CLUSTERS, // the charsmap as Hugging Face's library reads it, a grapheme at a time
} ChangeKind;

typedef struct Change {
    ChangeKind kind;
    TokenizerText find, put;         // borrowed
    bool prefix, merge;              // CHANGE_SPACES
    bool clean, apart, strip, lower; // CHANGE_BERT
    Charsmap charsmap;               // borrowed
    bool only_first;                 // CHANGE_LEAD: only at the very beginning of the caller's text
    bool left, right;                // CHANGE_STRIP
    bool compose, compatible;        // CHANGE_FORM: NFC and NFKC; NFKC and NFKD
    PreTokenizer *pattern;           // CHANGE_REGEX: owned
    MappedText out;                  // what the step wrote last
} Change;

// *result is valid until the next call with this change, and `span` itself where nothing changes.
hone_status hone_change_apply(Change *change, Span span, Span *result, HoneError *err);
void hone_change_free(Change *change);

// change_unicode.c
bool hone_is_space(uint32_t c);          // Unicode's White_Space
bool hone_is_word_character(uint32_t c); // as \w of Rust's regular expressions
void hone_change_bert(Change *change, const Span *span);
void hone_change_characters(Change *change, const Span *span); // ACCENTS, LOWER, NMT
void hone_change_clusters(Change *change, const Span *span);
// change_form.c
hone_status hone_change_form(Change *change, const Span *span, HoneError *err);

#endif
