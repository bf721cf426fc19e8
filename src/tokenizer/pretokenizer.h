// SPDX-License-Identifier: Apache-2.0
// Cutting text into the pieces ("words") inside which tokens are merged: one pattern a rule.
#ifndef HONE_TOKENIZER_PRETOKENIZER_H
#define HONE_TOKENIZER_PRETOKENIZER_H

#include "base/error.h"

typedef struct PreTokenizer PreTokenizer;

// HONE_ERROR_UNSUPPORTED for a rule that is not in the table, naming those that are.
hone_status hone_pretokenizer_create(const char *name, PreTokenizer **pre, HoneError *err);
void hone_pretokenizer_free(PreTokenizer *pre);

// A piece that is spelled in the vocabulary as it stands is that token, without merging.
bool hone_pretokenizer_takes_whole_pieces(const PreTokenizer *pre);

// Begin with a text (borrowed until the last piece). Bytes that are no UTF-8 count as symbols.
hone_status hone_pretokenizer_start(PreTokenizer *pre, const char *text, size_t length,
                                    HoneError *err);
// *end moves from the end of one piece to the end of the next. Call while *end < length.
hone_status hone_pretokenizer_next(PreTokenizer *pre, size_t *end, HoneError *err);

#endif
