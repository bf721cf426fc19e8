// SPDX-License-Identifier: Apache-2.0
// What stands beside the weights in a Hugging Face folder: config.json, generation_config.json,
// tokenizer.json, tokenizer_config.json and chat_template.jinja, made from a GGUF file's keys or
// copied from the folder that the model was read from. Facts: docs/formats.md.
#ifndef HONE_IO_HF_WRITE_H
#define HONE_IO_HF_WRITE_H

#include "io/gguf.h"

// Of the model, as its loader has checked them.
typedef struct HfModel {
    const char *architecture; // GGUF's
    int64_t layers, width, feed_forward, heads, kv_heads, head_size, rotary, context, vocabulary;
    double norm_eps, rope_base;
    bool tied;   // the head is the embedding
    bool untied; // it is where the model comes from, but has its own values now
    // 0 or NULL: there is none
    bool gated; // of a T5
    bool qkv_bias, output_bias, feed_forward_bias;
    double embedding_scale, residual_scale, attention_scale, logit_scale;
    double attention_softcap, logit_softcap;
    int64_t window;
    const bool *slides, *turns; // (layers)
    double sliding_base, rope_factor, rope_magnitude;
    bool yarn;
    double original, beta_fast, beta_slow;
    int64_t experts, experts_used, expert_size; // a mixture's
    bool experts_normalised;
    const bool *sparse; // (layers) NULL: all have experts
    int dtype;          // of the folder: F32, F16 or BF16
    // An encoder's classes, which config.json names with its class; NULL: as it was
    const char *const *labels;
    int64_t label_count;
} HfModel;

// Whether all of it can be said in a folder, before anything is written. HONE_ERROR_UNSUPPORTED
// names what cannot: a tokeniser of another kind, positions of another kind, vectors in doubt.
hone_status hone_hf_check(const GgufFile *file, const HfModel *model, HoneError *err);
// Write the files but the weights into `folder`, which exists; config.json, which makes it a model,
// last. source: the folder that file was read from, NULL where that is a GGUF file.
hone_status hone_hf_write_settings(const char *folder, const GgufFile *file, const char *source,
                                   const HfModel *model, HoneError *err);
// What sentence-transformers has beside them: modules.json, 1_Pooling/config.json and
// sentence_bert_config.json. pooling: 1 the mean, 2 the first token, 3 the largest.
hone_status hone_hf_write_sentence(const char *folder, int64_t width, int pooling, bool normalised,
                                   int64_t length, HoneError *err);
bool hone_hf_is_written(const char *name); // one of these, or the weights
// Remove what it may have written.
void hone_hf_remove_settings(const char *folder);

// The tensor's name in a folder. false: it has none there (positions, which config.json says).
bool hone_hf_tensor_name(const char *architecture, bool gated, const char *name, char stored[128]);

#endif
