// SPDX-License-Identifier: Apache-2.0
// T5 in a Hugging Face folder: config.json, and the names of its tensors. A block of the encoder is
// layer.0 (self attention) and layer.1 (feed-forward), of the decoder layer.0, layer.1 (attention
// to the encoder's result) and layer.2; each has a norm before it.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "io/hf_config.h"

// ---- names -------------------------------------------------------------------------------------

static const char sides[2][2][8] = {{"encoder", "enc"}, {"decoder", "dec"}};

// Of a block; the number of the layer is that of the decoder, in the encoder the last one is 1.
static const struct T5Name {
    int layer;
    const char *module, *name; // without ".weight"
    int gated;                 // −1: always there; 0, 1: without, with a gate
} inner[] = {
    {0, "SelfAttention.q", "attn_q", -1},
    {0, "SelfAttention.k", "attn_k", -1},
    {0, "SelfAttention.v", "attn_v", -1},
    {0, "SelfAttention.o", "attn_o", -1},
    {0, "SelfAttention.relative_attention_bias", "attn_rel_b", -1},
    {0, "layer_norm", "attn_norm", -1},
    {1, "EncDecAttention.q", "cross_attn_q", -1},
    {1, "EncDecAttention.k", "cross_attn_k", -1},
    {1, "EncDecAttention.v", "cross_attn_v", -1},
    {1, "EncDecAttention.o", "cross_attn_o", -1},
    {1, "layer_norm", "cross_attn_norm", -1},
    {2, "DenseReluDense.wi", "ffn_up", 0},
    {2, "DenseReluDense.wi_0", "ffn_gate", 1},
    {2, "DenseReluDense.wi_1", "ffn_up", 1},
    {2, "DenseReluDense.wo", "ffn_down", -1},
    {2, "layer_norm", "ffn_norm", -1},
};
enum { INNER = sizeof inner / sizeof *inner, FEED_FORWARD = 2, CROSS = 1 };

bool hone_is_t5(const char *architecture) {
    return strcmp(architecture, "t5") == 0;
}

bool hone_t5_is_copy(const char *stored) {
    return strcmp(stored, "encoder.embed_tokens.weight") == 0 ||
           strcmp(stored, "decoder.embed_tokens.weight") == 0;
}

static bool is_module(const char *text, size_t length, const char *wanted) {
    return strlen(wanted) == length && memcmp(text, wanted, length) == 0;
}

// The module of a block behind "encoder.block.".
static bool inner_name(int side, bool gated, const char *module, size_t length,
                       char name[HF_NAME]) {
    char rest[64], again[64];
    int block, layer, end = 0;
    if (length >= sizeof rest) return false;
    snprintf(rest, sizeof rest, "%.*s", (int)length, module);
    if (sscanf(rest, "%6d.layer.%1d.%n", &block, &layer, &end) != 2 || end == 0 || block < 0 ||
        layer < 0)
        return false;
    snprintf(again, sizeof again, "%d.layer.%d.", block, layer);
    if (strncmp(rest, again, strlen(again)) != 0) return false; // "03", "+3"
    const int kind = side == 0 && layer == 1 ? FEED_FORWARD : layer;
    if (side == 0 && layer > 1) return false;
    for (int i = 0; i < INNER; i++) {
        if (inner[i].layer != kind || strcmp(inner[i].module, rest + end) != 0 ||
            (inner[i].gated >= 0 && inner[i].gated != gated))
            continue;
        snprintf(name, HF_NAME, "%s.blk.%d.%s.weight", sides[side][1], block, inner[i].name);
        return true;
    }
    return false;
}

bool hone_t5_name(bool gated, const char *module, size_t length, char name[HF_NAME]) {
    if (is_module(module, length, "shared") || is_module(module, length, "lm_head")) {
        snprintf(name, HF_NAME, "%s.weight", *module == 's' ? "token_embd" : "output");
        return true;
    }
    for (int side = 0; side < 2; side++) {
        char end[64], blocks[64];
        snprintf(end, sizeof end, "%s.final_layer_norm", sides[side][0]);
        snprintf(blocks, sizeof blocks, "%s.block.", sides[side][0]);
        if (is_module(module, length, end)) {
            snprintf(name, HF_NAME, "%s.output_norm.weight", sides[side][1]);
            return true;
        }
        const size_t skip = strlen(blocks);
        if (length > skip && memcmp(module, blocks, skip) == 0)
            return inner_name(side, gated, module + skip, length - skip, name);
    }
    return false;
}

bool hone_t5_module(bool gated, const char *name, char module[HF_STORED_NAME]) {
    const int side = strncmp(name, "dec.", 4) == 0;
    int block, end = 0;
    char kind[64], back[HF_NAME];
    if (strcmp(name, "token_embd.weight") == 0 || strcmp(name, "output.weight") == 0) {
        snprintf(module, HF_STORED_NAME, "%s", *name == 't' ? "shared" : "lm_head");
    } else if (strcmp(name, "enc.output_norm.weight") == 0 ||
               strcmp(name, "dec.output_norm.weight") == 0) {
        snprintf(module, HF_STORED_NAME, "%s.final_layer_norm", sides[side][0]);
    } else if (sscanf(name + 4, "blk.%6d.%63[a-z_].weight%n", &block, kind, &end) == 2 && end > 0) {
        *module = '\0';
        for (int i = 0; i < INNER; i++) {
            if (strcmp(inner[i].name, kind) != 0 ||
                (inner[i].gated >= 0 && inner[i].gated != gated))
                continue;
            const int layer = side == 0 && inner[i].layer == FEED_FORWARD ? 1 : inner[i].layer;
            snprintf(module, HF_STORED_NAME, "%s.block.%d.layer.%d.%s", sides[side][0], block,
                     layer, inner[i].module);
        }
    } else {
        return false;
    }
    // What cannot be read back is not written.
    return hone_t5_name(gated, module, strlen(module), back) && strcmp(back, name) == 0;
}

// ---- config.json -------------------------------------------------------------------------------

static hone_status read_kind(const ConfigReading *reading, HfConfig *config) {
    const json_t *given = json_object_get(reading->root, "feed_forward_proj");
    const char *kind = given ? json_string_value(given) : "relu";
    config->gated = kind && strcmp(kind, "gated-gelu") == 0;
    if (config->gated || (kind && strcmp(kind, "relu") == 0)) return HONE_OK;
    return hone_hf_refuse(reading, "feed_forward_proj", "only relu and gated-gelu are computed");
}

hone_status hone_hf_read_t5(const ConfigReading *reading, HfConfig *config) {
    int64_t width, feed, context, decoder, numbers, farthest;
    double eps;
    const json_t *start = json_object_get(reading->root, "decoder_start_token_id");
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_layers", 6, &config->layers));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_decoder_layers", config->layers, &decoder));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "d_model", 512, &width));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "d_ff", 2048, &feed));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "d_kv", 64, &config->head_size));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_heads", 8, &config->heads));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "n_positions", reading->family->context, &context));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "relative_attention_num_buckets", 32, &numbers));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "relative_attention_max_distance", 128, &farthest));
    RETURN_IF_ERROR(hone_hf_read_real(reading, reading->root, "layer_norm_epsilon",
                                      reading->family->eps, &eps));
    RETURN_IF_ERROR(read_kind(reading, config));
    if (farthest != 128) // GGUF has no key for it
        return hone_hf_refuse(reading, "relative_attention_max_distance", "only 128 is computed");
    if (start && !json_is_null(start) && !json_is_integer(start))
        return hone_hf_refuse(reading, "decoder_start_token_id", "it is no token");
    config->kv_heads = config->heads;
    // A head that is the embedding has its logits scaled. transformers 5 writes that apart, and
    // "tie_word_embeddings" true in any case.
    config->tied = hone_hf_flag(reading, "scale_decoder_outputs", config->tied);
    hone_hf_put_sizes(reading, config, context, width, feed);
    hone_hf_put_count(reading, "decoder_block_count", decoder);
    hone_hf_put_count(reading, "attention.key_length", config->head_size);
    hone_hf_put_count(reading, "attention.value_length", config->head_size);
    hone_hf_put_count(reading, "attention.relative_buckets_count", numbers);
    hone_hf_put_count(reading, "decoder_start_token_id",
                      json_is_integer(start) ? json_integer_value(start) : 0);
    hone_hf_put_real(reading, "attention.layer_norm_epsilon", eps);
    hone_hf_put_real(reading, "attention.layer_norm_rms_epsilon", eps);
    return HONE_OK;
}
