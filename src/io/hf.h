// SPDX-License-Identifier: Apache-2.0
// A Hugging Face model folder (config.json, safetensors in one file or several, tokenizer.json),
// presented as the GGUF file that it would become: GGUF's keys and tensor names. Facts:
// docs/formats.md.
#ifndef HONE_IO_HF_H
#define HONE_IO_HF_H

#include "io/gguf.h"

// The tensors lie in the mapped safetensors files; those that GGUF has the other way round
// (GPT-2's) or that follow from the config (scaled positions) are made in memory. Rows of q and k
// are as the folder has them: file->hugging_face says so. The families of docs/families.md and
// docs/encoders.md; F32, F16 and BF16. HONE_ERROR_UNSUPPORTED names what Hone does not compute,
// HONE_ERROR_INPUT what is missing or disagrees. Close with hone_gguf_close.
hone_status hone_hf_open(const char *folder, GgufFile *file, HoneError *err);

// transformers' module of the token embedding, "model.embed_tokens"; NULL for an architecture that
// is not here.
const char *hone_hf_embedding(const char *architecture);

bool hone_is_hf_folder(const char *path); // a folder that holds a config.json
// A folder as above, else a GGUF file.
hone_status hone_model_file_open(const char *path, GgufFile *file, HoneError *err);

#endif
