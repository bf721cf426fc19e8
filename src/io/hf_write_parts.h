// SPDX-License-Identifier: Apache-2.0
// Inside the writer of Hugging Face folders.
#ifndef HONE_IO_HF_WRITE_PARTS_H
#define HONE_IO_HF_WRITE_PARTS_H

#include <jansson.h>

#include "base/text.h"
#include "io/hf_write.h"

// A text that config files name, of a token's id (−1: none).
typedef struct HfRoles {
    int64_t bos, eos, eot, unknown, padding;
    bool adds_bos, adds_eos;
} HfRoles;

void hone_hf_roles(const GgufFile *file, HfRoles *roles);
// An optional text key; length 0: absent.
GgufString hone_hf_text(const GgufFile *file, const char *name);

// hf_write_config.c
hone_status hone_hf_make_config(const GgufFile *file, const HfModel *model, TextBuffer *json,
                                HoneError *err);
const char *hone_hf_dtype_word(int dtype); // "float16"
// Append ,"KEY": VALUE on a line of its own, in the shortest decimals that come back as the float.
void hone_hf_write_real(TextBuffer *json, const char *indent, const char *key, double value);

// hf_write_tokenizer.c: tokenizer.json and tokenizer_config.json.
hone_status hone_hf_tokenizer_json(const GgufFile *file, TextBuffer *json, HoneError *err);
hone_status hone_hf_tokenizer_config(const GgufFile *file, const HfModel *model, TextBuffer *json,
                                     HoneError *err);

// hf_metadata.c: the keys that the folder's other files do not say again. config: what config.json
// will be; the tokeniser's and generation_config.json are there.
hone_status hone_hf_write_metadata(const char *folder, const GgufFile *file,
                                   const TextBuffer *config, HoneError *err);

// Numbers as people write them, unless that would change one.
void hone_hf_dump(const json_t *root, TextBuffer *text);
hone_status hone_hf_write_text(const char *folder, const char *name, const TextBuffer *text,
                               HoneError *err);

#endif
