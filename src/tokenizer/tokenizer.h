// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE tokenisers (Sennrich et al. 2016; GPT-2's byte alphabet).
#ifndef HONE_TOKENIZER_TOKENIZER_H
#define HONE_TOKENIZER_TOKENIZER_H

#include "base/error.h"

typedef enum TokenKind { // tokenizer.ggml.token_type
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER,
    TOKEN_UNUSED,
    TOKEN_BYTE,
} TokenKind;

typedef struct TokenizerText {
    const char *data;
    size_t length;
} TokenizerText;

// What a vocabulary file says. All of it is copied.
typedef struct TokenizerSource {
    const char *model;           // "gpt2"
    const char *pre;             // "smollm", "gpt-2", "llama-bpe", "qwen2"; NULL: "gpt-2" is used
    const TokenizerText *tokens; // spelled in GPT-2's byte alphabet, specials as they are
    const int32_t *kinds;        // TokenKind, or NULL: all normal
    int64_t token_count;
    const TokenizerText *merges; // "left right", best first
    int64_t merge_count;
    int32_t bos, eos, eot, unknown, padding; // -1: none
    bool add_bos, add_eos;
} TokenizerSource;

typedef struct Tokenizer Tokenizer;

// HONE_ERROR_UNSUPPORTED for another model or pre-tokeniser, naming those that are there.
// HONE_ERROR_INPUT for a merge whose parts or result are not in the vocabulary: naming it.
hone_status hone_tokenizer_create(const TokenizerSource *source, Tokenizer **tokenizer,
                                  HoneError *err);
void hone_tokenizer_free(Tokenizer *tokenizer);

// A growing list of tokens with the byte range of the text that each came from.
typedef struct TokenList {
    int32_t *tokens;
    uint32_t *begin, *end; // byte offsets into the text
    int64_t count, capacity;
} TokenList;
void hone_token_list_free(TokenList *list);

// Append the tokens of text (any bytes, invalid UTF-8 included). special: control and user-defined
// tokens that are spelled out in the text become that one token; else only user-defined ones do.
// No BOS or EOS is added. A byte that the vocabulary has no token for gives none (as in llama.cpp);
// all others are covered, in order. Up to 4 GiB: time grows linearly (log factor), also without a
// space. On failure the list is as it was. One thread at a time: a tokeniser remembers words.
hone_status hone_tokenize_append(Tokenizer *tokenizer, const char *text, size_t length,
                                 bool special, TokenList *list, HoneError *err);
// The bytes of one token (not NUL-terminated; "" for an id outside the vocabulary). Control,
// unknown and unused tokens give their spelling when special is true, else nothing. Borrowed.
TokenizerText hone_token_bytes(const Tokenizer *tokenizer, int32_t token, bool special);

int64_t hone_tokenizer_size(const Tokenizer *tokenizer);
// The token spelled so in the vocabulary file (byte alphabet, specials as they are); -1: none.
int32_t hone_tokenizer_find(const Tokenizer *tokenizer, const char *spelling);
int32_t hone_tokenizer_bos(const Tokenizer *tokenizer); // -1: none
int32_t hone_tokenizer_eos(const Tokenizer *tokenizer);
bool hone_tokenizer_adds_bos(const Tokenizer *tokenizer);
bool hone_tokenizer_adds_eos(const Tokenizer *tokenizer);
// Ends an answer: eos, eot, or a control token spelled <|im_end|>, <|eot_id|>, <|endoftext|>,
// <end_of_turn> or </s>.
bool hone_token_ends(const Tokenizer *tokenizer, int32_t token);
TokenKind hone_token_kind(const Tokenizer *tokenizer, int32_t token);

#endif
