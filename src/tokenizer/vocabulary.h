// SPDX-License-Identifier: Apache-2.0
// What a tokeniser is made of; only this floor's files see it.
#ifndef HONE_TOKENIZER_VOCABULARY_H
#define HONE_TOKENIZER_VOCABULARY_H

#include "base/memory.h"
#include "base/text.h"
#include "tokenizer/merge.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/special.h"
#include "tokenizer/tokenizer.h"

typedef struct VocabularyToken {
    const char *bytes; // what the token stands for, in the arena
    uint32_t length;
    uint8_t kind; // TokenKind
    bool ends;
} VocabularyToken;

enum { CACHED_BYTES = 32, CACHED_TOKENS = 6, CACHE_SIZE = 1 << 15 };

// The tokens of a short piece, remembered: text repeats its words. length 0: an empty place.
typedef struct CachedPiece {
    char bytes[CACHED_BYTES];
    uint8_t length, count;
    uint8_t ends[CACHED_TOKENS];
    int32_t tokens[CACHED_TOKENS];
} CachedPiece;

struct Tokenizer {
    Arena arena;
    VocabularyToken *tokens;
    int64_t token_count;
    StringMap by_spelling;
    StringMap by_bytes;       // normal tokens; filled when the rule takes whole pieces
    int32_t byte_tokens[256]; // -1: the vocabulary has no token for the byte
    MergeTable merges;
    SpecialSet specials, users; // control, unknown and user-defined tokens; the latter alone
    PreTokenizer *pre;
    CachedPiece *cache;
    int32_t bos, eos;
    bool adds_bos, adds_eos;
};

#endif
