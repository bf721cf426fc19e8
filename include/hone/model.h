// SPDX-License-Identifier: Apache-2.0
// Models: load a GGUF file (mapped, weights left as stored), attach adapters, turn text into
// tokens.
#ifndef HONE_MODEL_H
#define HONE_MODEL_H

#include <hone/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct HoneModel HoneModel;

// Load a checkpoint: architecture, weights, tokeniser and chat template from one GGUF file.
// HONE_ERROR_INPUT: the file is damaged; HONE_ERROR_UNSUPPORTED: an architecture, tensor type or
// tokeniser that Hone does not know, by name. The file must stay unchanged while the model lives.
// Caller frees *model with hone_model_free before the context.
hone_status hone_model_load(HoneContext *context, const char *path, HoneModel **model);
void hone_model_free(HoneModel *model); // NULL is allowed

// Apply an adapter (PEFT or MLX-LM folder, or GGUF adapter file) with a weight, 1 as it was
// trained. May be called repeatedly: effects add up.
hone_status hone_model_add_adapter(HoneModel *model, const char *path, float weight);
// Switch all adapters off or on again (to compare with and without).
void hone_model_enable_adapters(HoneModel *model, bool enabled);

// Read a chat template from a file in place of the model's own.
hone_status hone_model_set_template(HoneModel *model, const char *path);

typedef struct HoneModelInfo { // strings are borrowed from the model
    const char *path, *architecture, *name;
    const char *weight_types; // "Q4_1 211, F32 61": tensors of each type
    int64_t layers, heads, kv_heads, head_size, channels, feed_forward, vocabulary, context;
    int64_t parameters, file_bytes;
    bool tied_head, has_template;
    const char *tokenizer, *pre_tokenizer;
} HoneModelInfo;
void hone_model_info(const HoneModel *model, HoneModelInfo *info);

// Tokens of text (any bytes). special: spelled-out control tokens become that one token. No BOS or
// EOS is added. Caller frees *tokens with hone_free.
hone_status hone_model_tokenize(HoneModel *model, const char *text, size_t length, bool special,
                                int32_t **tokens, int64_t *count);
// The bytes of tokens, one after the other, NUL-terminated after *length; control tokens are
// spelled out if special. An id outside the vocabulary is HONE_ERROR_ARGUMENT. Caller frees *text
// with hone_free.
hone_status hone_model_detokenize(HoneModel *model, const int32_t *tokens, int64_t count,
                                  bool special, char **text, size_t *length);

#ifdef __cplusplus
}
#endif
#endif
