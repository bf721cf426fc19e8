// SPDX-License-Identifier: Apache-2.0
// Cutting text into the pieces ("words") inside which tokens are merged, by a pattern.
#ifndef HONE_TOKENIZER_PRETOKENIZER_H
#define HONE_TOKENIZER_PRETOKENIZER_H

#include "base/error.h"

typedef struct PreTokenizer PreTokenizer;

// What becomes of the text that the pattern matches, and of the text between.
typedef enum CutBehaviour {
    CUT_BOTH,     // each match is a piece, and so is what lies between two
    CUT_MATCHES,  // each match is a piece, what lies between is left out
    CUT_GAPS,     // what lies between is a piece, matches are left out
    CUT_PREVIOUS, // a match ends the piece before it
    CUT_NEXT,     // a match begins the piece behind it
    CUT_RUNS,     // matches that touch are one piece
} CutBehaviour;

// `name` is for messages; both texts are borrowed for as long as the pre-tokeniser lives.
// HONE_ERROR_UNSUPPORTED: a pattern that PCRE2 refuses.
hone_status hone_pretokenizer_create(const char *name, const char *pattern, CutBehaviour behaviour,
                                     PreTokenizer **pre, HoneError *err);
void hone_pretokenizer_free(PreTokenizer *pre);

// Begin with a text (borrowed until the last piece). Bytes that are no UTF-8 count as symbols.
hone_status hone_pretokenizer_start(PreTokenizer *pre, const char *text, size_t length,
                                    HoneError *err);
// The next piece, which begins at or after the last one's *end. Call while *end < length; at the
// end of a text there may be none, an empty piece then.
hone_status hone_pretokenizer_next(PreTokenizer *pre, size_t *begin, size_t *end, HoneError *err);

// The first match at or after `from` in the text begun with; *begin is its length when there is
// none.
hone_status hone_pretokenizer_match(PreTokenizer *pre, size_t from, size_t *begin, size_t *end,
                                    HoneError *err);

#endif
