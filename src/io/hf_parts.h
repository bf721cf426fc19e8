// SPDX-License-Identifier: Apache-2.0
// Inside the reader of Hugging Face folders: metadata being collected as GGUF stores it.
#ifndef HONE_IO_HF_PARTS_H
#define HONE_IO_HF_PARTS_H

#include <jansson.h>

#include "base/text.h"
#include "io/gguf_value.h"
#include "io/hf.h"

typedef struct HfKeys {
    TextBuffer bytes; // keys and values as in a GGUF file
    int64_t count;
} HfKeys;

void hone_hf_put_head(HfKeys *keys, const char *name, GgufType type); // the value is to follow
void hone_hf_put_u32(HfKeys *keys, const char *name, int64_t value);
void hone_hf_put_f32(HfKeys *keys, const char *name, double value);
void hone_hf_put_bool(HfKeys *keys, const char *name, bool value);
void hone_hf_put_string(HfKeys *keys, const char *name, const char *value, size_t length);
// An array: its head, then `count` elements appended to keys->bytes by the caller.
void hone_hf_begin_array(HfKeys *keys, const char *name, GgufType element, int64_t count);
void hone_hf_append_string(HfKeys *keys, const char *value, size_t length);

// A JSON file of the folder, an object, read with jansson's flags. Missing: *root NULL unless
// `needed`.
hone_status hone_hf_json(const char *folder, const char *name, bool needed, size_t flags,
                         json_t **root, HoneError *err);

typedef enum HfWindowed {
    HF_WINDOW_GIVEN, // wherever a size is given
    HF_WINDOW_ASKED, // only with use_sliding_window
    HF_WINDOW_NEVER,
} HfWindowed;

// A model_type of transformers.
typedef struct HfFamily {
    const char *model_type, *architecture; // transformers' and GGUF's name
    const char *class_name;                // transformers' with a language model's head
    int64_t kv_heads, head_size, context;
    double eps;
    bool tied;
    int64_t window;
    HfWindowed windowed;
    double base, sliding_base; // of rotary positions; 0: 10000, and no other in sliding layers
    int period, turning;       // of the layers that see everything, that have no rotary positions
    int64_t experts, expert_size; // 0: none; of the feed-forward's size
    bool gemma;                   // norms are stored less 1; GELU; soft-caps
} HfFamily;

const HfFamily *hone_hf_family_of(const char *architecture); // GGUF's; NULL: unknown

typedef struct HfConfig {
    const char *architecture; // GGUF's
    int64_t layers, heads, kv_heads, head_size, rotary, vocabulary;
    bool tied, qkv_bias, output_bias, feed_forward_bias;
    bool gated; // of a T5
    double base;
    bool scaled; // Llama 3.1's positions:
    double factor, low, high, original;
    const json_t *short_factors, *long_factors; // LongRoPE's, of config.json; NULL: none
} HfConfig;

// hf_config.c: config.json, and its keys.
hone_status hone_hf_config(const char *folder, const json_t *root, HfConfig *config, HfKeys *keys,
                           HoneError *err);
// values (head_size/2): what each frequency is divided by (Dubey et al. 2024).
void hone_hf_rope_factors(const HfConfig *config, float *values);

// hf_names.c: "model.layers.3.self_attn.q_proj.weight" is "blk.3.attn_q.weight" in GGUF, and back.
// false: not of the model.
enum { HF_NAME = sizeof((GgufTensor *)0)->name, HF_STORED_NAME = 128 };
bool hone_hf_gguf_name(const char *architecture, const char *stored, char name[HF_NAME]);
// gated: of a T5, whose feed-forward is named otherwise with a gate.
bool hone_hf_name(const char *architecture, bool gated, const char *name,
                  char stored[HF_STORED_NAME]);
bool hone_hf_is_constant(const char *name); // that files of old versions hold
// hf_encoder_names.c: the same of encoders, whose names the two above ask for.
bool hone_hf_is_encoder(const char *architecture);
bool hone_hf_encoder_gguf_name(const char *architecture, const char *stored, char name[HF_NAME]);
bool hone_hf_encoder_name(const char *architecture, const char *name, char stored[HF_STORED_NAME]);
bool hone_hf_encoder_ignores(const char *stored); // a part of no head that Hone computes

// hf_t5.c: the same of T5's modules, without ".weight"; and copies of the embedding.
bool hone_is_t5(const char *architecture);
bool hone_t5_name(bool gated, const char *module, size_t length, char name[HF_NAME]);
bool hone_t5_module(bool gated, const char *name, char module[HF_STORED_NAME]);
bool hone_t5_is_copy(const char *stored);

// hf_encoder.c: where the folder is sentence-transformers', how it makes a vector of a text:
// hone.pooling (mean, cls, max), hone.normalize, hone.max_length.
hone_status hone_hf_sentence(const char *folder, const char *architecture, HfKeys *keys,
                             HoneError *err);

// hf_tokenizer.c: tokenizer.json and its neighbours, and the keys.
const char *hone_hf_pattern(const char *rule, size_t length); // NULL: that rule has no expression
hone_status hone_hf_tokenizer(const char *folder, const json_t *config, int64_t vocabulary,
                              HfKeys *keys, HoneError *err);

// hf_generation.c: generation_config.json, where there is one; the end tokens as the array
// hone.eos_token_ids, the way of drawing by llama.cpp's names, general.sampling.…
hone_status hone_hf_generation(const char *folder, const json_t *config, int64_t vocabulary,
                               HfKeys *keys, HoneError *err);

// hf_metadata.c: gguf_metadata.json, where there is one: keys that `keys` does not have yet. A
// model that gets no general.name from it has the folder's.
hone_status hone_hf_metadata(const char *folder, int64_t vocabulary, HfKeys *keys, HoneError *err);

#endif
