// SPDX-License-Identifier: Apache-2.0
// Names of an encoder's tensors in Hugging Face folders and in GGUF files.
#include <stdio.h>
#include <string.h>

#include "io/hf_parts.h"

// Modules without ".weight" and ".bias".
typedef struct EncoderName {
    const char *module, *name;
    bool outside; // of the encoder itself: written without its prefix
} EncoderName;

typedef struct EncoderNames {
    const char *architecture, *prefix, *layers;
    const EncoderName *outer, *inner; // ended by NULL
} EncoderNames;

static const EncoderName bert_outer[] = {
    {"embeddings.word_embeddings", "token_embd", false},
    {"embeddings.position_embeddings", "position_embd", false},
    {"embeddings.token_type_embeddings", "token_types", false},
    {"embeddings.LayerNorm", "token_embd_norm", false},
    {"pooler.dense", "cls", false},
    {"classifier", "cls.output", true},
    {"qa_outputs", "cls.output", true},
    {"cls.predictions.transform.dense", "mask.dense", true},
    {"cls.predictions.transform.LayerNorm", "mask.norm", true},
    {"cls.predictions", "mask", true},
    {NULL, NULL, false},
};
static const EncoderName bert_inner[] = {
    {"attention.self.query", "attn_q", false},
    {"attention.self.key", "attn_k", false},
    {"attention.self.value", "attn_v", false},
    {"attention.output.dense", "attn_output", false},
    {"attention.output.LayerNorm", "attn_output_norm", false},
    {"intermediate.dense", "ffn_up", false},
    {"output.dense", "ffn_down", false},
    {"output.LayerNorm", "layer_output_norm", false},
    {NULL, NULL, false},
};
static const EncoderNames families[] = {
    {"bert", "bert.", "encoder.layer.", bert_outer, bert_inner},
};

static const EncoderNames *names_of(const char *architecture) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].architecture, architecture) == 0) return &families[i];
    return NULL;
}

bool hone_hf_is_encoder(const char *architecture) {
    return names_of(architecture) != NULL;
}

// The part that stands behind the module, or what old files call it there.
static const char *part_of(const char *stored, size_t *module) {
    static const char *const parts[][2] = {
        {".weight", ".weight"}, {".bias", ".bias"}, {".gamma", ".weight"}, {".beta", ".bias"}};
    const size_t length = strlen(stored);
    for (int i = 0; i < 4; i++) {
        const size_t part = strlen(parts[i][0]);
        if (length <= part || strcmp(stored + length - part, parts[i][0]) != 0) continue;
        *module = length - part;
        return parts[i][1];
    }
    return NULL;
}

static const char *name_in(const EncoderName *rows, const char *module, size_t length) {
    for (; rows->module; rows++)
        if (strlen(rows->module) == length && memcmp(rows->module, module, length) == 0)
            return rows->name;
    return NULL;
}

bool hone_hf_encoder_gguf_name(const char *architecture, const char *stored, char name[HF_NAME]) {
    const EncoderNames *names = names_of(architecture);
    size_t length;
    const char *part = part_of(stored, &length), *found;
    if (!part) return false;
    const size_t prefix = strlen(names->prefix), layers = strlen(names->layers);
    if (length > prefix && memcmp(stored, names->prefix, prefix) == 0) {
        stored += prefix;
        length -= prefix;
    }
    if ((found = name_in(names->outer, stored, length))) {
        snprintf(name, HF_NAME, "%s%s", found, part);
        return true;
    }
    int layer, end = 0;
    if (length <= layers || memcmp(stored, names->layers, layers) != 0 ||
        sscanf(stored + layers, "%6d.%n", &layer, &end) != 1 || end == 0 || layer < 0)
        return false;
    const size_t before = layers + (size_t)end;
    if (before >= length || !(found = name_in(names->inner, stored + before, length - before)))
        return false;
    snprintf(name, HF_NAME, "blk.%d.%s%s", layer, found, part);
    return true;
}

bool hone_hf_encoder_name(const char *architecture, const char *name, char stored[HF_STORED_NAME]) {
    const EncoderNames *names = names_of(architecture);
    size_t length;
    const char *part = part_of(name, &length);
    if (!part) return false;
    int layer, end = 0;
    if (sscanf(name, "blk.%6d.%n", &layer, &end) == 1 && end > 0) {
        for (const EncoderName *row = names->inner; row->module; row++) {
            if (strlen(row->name) + (size_t)end != length ||
                strncmp(name + end, row->name, strlen(row->name)) != 0)
                continue;
            snprintf(stored, HF_STORED_NAME, "%s%s%d.%s%s", names->prefix, names->layers, layer,
                     row->module, part);
            return true;
        }
        return false;
    }
    for (const EncoderName *row = names->outer; row->module; row++) {
        if (strlen(row->name) != length || strncmp(name, row->name, length) != 0) continue;
        snprintf(stored, HF_STORED_NAME, "%s%s%s", row->outside ? "" : names->prefix, row->module,
                 part);
        return true;
    }
    return false;
}

// What heads that Hone does not compute have, and copies of the embedding.
bool hone_hf_encoder_ignores(const char *stored) {
    static const char *const ends[] = {
        "embeddings.position_ids", "cls.seq_relationship.weight", "cls.seq_relationship.bias",
        "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"};
    const size_t length = strlen(stored);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t end = strlen(ends[i]);
        if (length >= end && strcmp(stored + length - end, ends[i]) == 0) return true;
    }
    return false;
}
