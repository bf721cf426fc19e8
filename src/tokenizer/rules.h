// SPDX-License-Identifier: Apache-2.0
// The pre-tokenisers that GGUF files name.
#ifndef HONE_TOKENIZER_RULES_H
#define HONE_TOKENIZER_RULES_H

#include "base/error.h"

// Unicode's White_Space. PCRE2's own \s has U+180E too, the tokenizers' regular expressions do not.
#define HONE_SPACE "\\p{Z}\\x09-\\x0d\\x{85}"

enum { RULE_PATTERNS = 6 };

typedef struct PreRule {
    const char *names; // tokenizer.ggml.pre: with spaces between them
    // One after the other: each cuts the pieces of the one before, both at what it matches and at
    // what lies between.
    const char *patterns[RULE_PATTERNS];
    bool whole_pieces; // a piece that is a token as it stands is taken without merging
    bool adds_bos;     // unless the file says otherwise, as llama.cpp has it
} PreRule;

const PreRule *hone_rule_named(const char *name); // NULL: none

// HONE_ERROR_UNSUPPORTED for a name that is not in the table, naming those that are.
hone_status hone_rule_find(const char *name, const PreRule **rule, HoneError *err);

#endif
