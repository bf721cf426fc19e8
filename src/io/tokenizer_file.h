// SPDX-License-Identifier: Apache-2.0
// A tokeniser alone, as GGUF's tokenizer keys: read from a model or from tokenizer.json, or made of
// a vocabulary that was learnt.
#ifndef HONE_IO_TOKENIZER_FILE_H
#define HONE_IO_TOKENIZER_FILE_H

#include "io/gguf.h"

// A vocabulary whose first special token begins and ends every text.
typedef struct LearntKeys {
    const char *model, *pre; // "gpt2" with a pre-tokeniser; "t5", a unigram model without one
    const GgufString *tokens, *merges;
    const float *scores; // of t5, else NULL
    const int32_t *kinds;
    int64_t token_count, merge_count;
    int64_t bos, eos, unknown; // -1: none
} LearntKeys;

// The keys as a file without tensors; close with hone_gguf_close.
hone_status hone_tokenizer_file_make(const LearntKeys *learnt, GgufFile *file, HoneError *err);
// A GGUF file (whose other keys and tensors are there too), tokenizer.json, or a folder that holds
// one. HONE_ERROR_INPUT: none of these; HONE_ERROR_UNSUPPORTED: what GGUF files cannot say.
hone_status hone_tokenizer_file_open(const char *path, GgufFile *file, HoneError *err);
// The file's tokeniser as tokenizer.json and tokenizer_config.json, which names BOS and EOS, of a
// model of that context. HONE_ERROR_UNSUPPORTED: WordPiece, a unigram model
// that changes its text, a rule of BPE that has no pattern there; nothing is written then.
hone_status hone_tokenizer_file_write(const GgufFile *file, const char *folder, int64_t context,
                                      HoneError *err);

#endif
