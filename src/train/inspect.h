// SPDX-License-Identifier: Apache-2.0
// Inside hone_inspect: what is no model. Each appends words, or the rest of the JSON object that
// begins with "path".
#ifndef HONE_TRAIN_INSPECT_H
#define HONE_TRAIN_INSPECT_H

#include "base/file.h"
#include "train/session.h"

bool hone_is_run(const char *path); // a folder with config.yaml and what a run writes beside it
bool hone_is_checkpoint(const char *path); // by its name
void hone_inspect_run(const char *path, bool json, TextBuffer *text, HoneError *fault);
void hone_inspect_checkpoint(const char *path, bool json, TextBuffer *text);
// The settings of a PEFT or MLX-LM adapter in the folder; nothing where they cannot be read.
void hone_inspect_adapter_config(const char *folder, bool json, TextBuffer *text);
// What is in an adapter: a PEFT or MLX-LM folder, or a GGUF file of this architecture (else NULL).
// can: `able` where it can be used, else why not, and that in *fault too; about: its kind, ranks,
// scales and targets.
void hone_inspect_adapter(const char *path, const char *architecture, const char *able, bool json,
                          TextBuffer *can, TextBuffer *about, HoneError *fault);
// A tokenizer.json or its folder; the errors are the tokeniser's.
hone_status hone_inspect_tokenizer(const char *path, bool json, TextBuffer *text, HoneError *err);

#endif
