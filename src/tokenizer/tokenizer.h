// SPDX-License-Identifier: Apache-2.0
// Tokenisers: byte-level BPE (Sennrich et al. 2016; GPT-2's byte alphabet), sentencepiece's BPE and
// unigram models (Kudo 2018), WordPiece (Schuster and Nakajima 2012).
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
    const char *model;           // "gpt2", "llama" (sentencepiece BPE), "t5" (unigram), "bert"
    const char *pre;             // gpt2: a rule of rules.c; NULL: "default"
    const TokenizerText *tokens; // gpt2: in GPT-2's byte alphabet; else ▁ is a space
    const int32_t *kinds;        // TokenKind, or NULL: all normal
    int64_t token_count;
    const TokenizerText *merges; // gpt2: "left right", best first
    int64_t merge_count;
    const float *scores;           // llama, t5: one a token, higher is better
    TokenizerText charsmap;        // t5: sentencepiece's compiled normalisation; may be empty
    bool add_space_prefix;         // llama, t5: a space is put before each text
    bool merge_spaces;             // t5: several spaces are one
    bool lowercase, strip_accents; // bert
    size_t longest_word;           // bert: characters, longer words are unknown; 0: any number
    int32_t bos, eos, eot, unknown, padding; // -1: none
    bool add_bos, add_eos;
} TokenizerSource;

typedef struct Tokenizer Tokenizer;

// HONE_ERROR_UNSUPPORTED for another model or pre-tokeniser, naming those that are there.
// HONE_ERROR_INPUT for what contradicts itself, naming token or merge.
hone_status hone_tokenizer_create(const TokenizerSource *source, Tokenizer **tokenizer,
                                  HoneError *err);
// From Hugging Face's tokenizer.json, or a folder with one: then its tokenizer_config.json names
// bos and eos, if it is there. The errors as above, naming the file and the place in it.
hone_status hone_tokenizer_read_json(const char *path, Tokenizer **tokenizer, HoneError *err);
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
// No BOS or EOS is added. A byte that a gpt2 vocabulary has no token for gives none (as in
// llama.cpp); the other models have an unknown token, or tokens for bytes. Tokens are in order;
// text that normalisation leaves out lies in none, and a space that it puts in has no bytes. Up to
// 4 GiB: time grows linearly (log factor), also without a space. On failure the list is as it was.
// One thread at a time: a tokeniser remembers words.
hone_status hone_tokenize_append(Tokenizer *tokenizer, const char *text, size_t length,
                                 bool special, TokenList *list, HoneError *err);
// The same with special, but control tokens are found only where none of their bytes is content:
// content[i] is 1 for such a byte i of the text, else 0. What somebody writes into a conversation
// ends no turn and begins none.
hone_status hone_tokenize_chat(Tokenizer *tokenizer, const char *text, size_t length,
                               const uint8_t *content, TokenList *list, HoneError *err);
// The bytes of one token (not NUL-terminated; "" for an id outside the vocabulary). Control,
// unknown and unused tokens give their spelling when special is true, else nothing. Borrowed.
TokenizerText hone_token_bytes(const Tokenizer *tokenizer, int32_t token, bool special);

// Append what tokens stand for; a space that the tokeniser put before the text is taken back. Ids
// outside the vocabulary stand for nothing. Out of memory: text->failed.
struct TextBuffer;
void hone_tokenizer_text(const Tokenizer *tokenizer, const int32_t *tokens, int64_t count,
                         bool special, struct TextBuffer *text);

int64_t hone_tokenizer_size(const Tokenizer *tokenizer);
// The token spelled so in the vocabulary file (byte alphabet, specials as they are); -1: none.
int32_t hone_tokenizer_find(const Tokenizer *tokenizer, const char *spelling);
int32_t hone_tokenizer_bos(const Tokenizer *tokenizer); // -1: none
int32_t hone_tokenizer_eos(const Tokenizer *tokenizer);
bool hone_tokenizer_adds_bos(const Tokenizer *tokenizer);
bool hone_tokenizer_adds_eos(const Tokenizer *tokenizer);
// Ends an answer: eos, eot, or a control token spelled <|im_end|>, <|eot_id|>, <|endoftext|>, </s>
// and so on: see tokenizer.c.
// One that ends as well: what generation_config.json lists beside EOS. Outside of the vocabulary:
// nothing.
void hone_tokenizer_add_end(Tokenizer *tokenizer, int32_t token);
bool hone_token_ends(const Tokenizer *tokenizer, int32_t token);
TokenKind hone_token_kind(const Tokenizer *tokenizer, int32_t token);

#endif
