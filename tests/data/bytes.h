// SPDX-License-Identifier: Apache-2.0
// A tokeniser for tests: one token a byte (its number is the byte), and a few special ones.
#ifndef HONE_TESTS_BYTES_H
#define HONE_TESTS_BYTES_H

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tokenizer/tokenizer.h"

enum { TOKEN_START = 256, TOKEN_STOP, TOKEN_BEGIN, TOKEN_FINISH, BYTES_COUNT };

static const char *const special_tokens[] = {"<|im_start|>", "<|im_end|>", "<s>", "</s>"};

// GPT-2's byte alphabet: printable bytes stand for themselves, the others for U+0100 and up.
static inline Tokenizer *bytes_tokenizer(int32_t bos, int32_t eos, bool add_bos) {
    static char spelling[256][4];
    TokenizerText tokens[BYTES_COUNT];
    int32_t kinds[BYTES_COUNT];
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        int length = hone_utf8_encode(shown ? byte : next, spelling[byte]);
        if (!shown) next++;
        tokens[byte] = (TokenizerText){spelling[byte], (size_t)length};
        kinds[byte] = TOKEN_NORMAL;
    }
    for (int i = 256; i < BYTES_COUNT; i++) {
        const char *text = special_tokens[i - 256];
        tokens[i] = (TokenizerText){text, strlen(text)};
        kinds[i] = TOKEN_CONTROL;
    }
    TokenizerSource source = {.model = "gpt2",
                              .pre = "gpt-2",
                              .tokens = tokens,
                              .kinds = kinds,
                              .token_count = BYTES_COUNT,
                              .bos = bos,
                              .eos = eos,
                              .eot = -1,
                              .unknown = -1,
                              .padding = -1,
                              .add_bos = add_bos};
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    if (hone_tokenizer_create(&source, &tokenizer, &err) != HONE_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return tokenizer;
}

#endif
