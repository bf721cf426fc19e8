// SPDX-License-Identifier: Apache-2.0
// Tokenisers without a model: text to tokens and back by the vocabulary in a file.
#ifndef HONE_TOKENIZER_H
#define HONE_TOKENIZER_H

#include <hone/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct HoneTokenizer HoneTokenizer;

// Read the tokeniser of a GGUF file, be it a model or a vocabulary alone, or of Hugging Face's
// tokenizer.json, named itself or by its folder. HONE_ERROR_INPUT: the file is damaged;
// HONE_ERROR_UNSUPPORTED: a kind of tokeniser that Hone does not know, by name. Caller frees
// *tokenizer with hone_tokenizer_close before the context.
hone_status hone_tokenizer_open(HoneContext *context, const char *path, HoneTokenizer **tokenizer);
void hone_tokenizer_close(HoneTokenizer *tokenizer); // NULL is allowed

// Tokens of text (any bytes). special: spelled-out control tokens become that one token. No BOS or
// EOS is added. Caller frees *tokens with hone_free.
hone_status hone_tokenizer_encode(HoneTokenizer *tokenizer, const char *text, size_t length,
                                  bool special, int32_t **tokens, int64_t *count);
// The text that tokens stand for, NUL-terminated after *length bytes; control tokens are spelled
// out if special. An id outside the vocabulary is HONE_ERROR_ARGUMENT. Caller frees *text with
// hone_free.
hone_status hone_tokenizer_decode(HoneTokenizer *tokenizer, const int32_t *tokens, int64_t count,
                                  bool special, char **text, size_t *length);

#ifdef __cplusplus
}
#endif
#endif
