// SPDX-License-Identifier: Apache-2.0
// Names of tensors in Hugging Face folders and in GGUF files. Those of linear layers are
// adapter_names.c's, which adapters have too.
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "io/hf_parts.h"

// Of the whole model. Every architecture but GPT-2 has the same.
static const struct FixedName {
    const char *module, *name; // without ".weight" and ".bias"
} outer[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"transformer.wte", "token_embd"},
    {"transformer.wpe", "position_embd"},
    {"transformer.ln_f", "output_norm"},
};

// Of a layer: which architectures, the module after `layers` and the layer's number.
static const struct InnerName {
    const char *architectures, *module, *name;
} inner[] = {
    {"llama granite smollm3 qwen2 qwen3 qwen3moe olmoe phi3 gemma2 gemma3", "input_layernorm",
     "attn_norm"},
    {"llama granite smollm3 qwen2 qwen3 qwen3moe olmoe phi3", "post_attention_layernorm",
     "ffn_norm"},
    {"olmo2 gemma2 gemma3", "post_attention_layernorm", "post_attention_norm"},
    {"gemma2 gemma3", "pre_feedforward_layernorm", "ffn_norm"},
    {"olmo2 gemma2 gemma3", "post_feedforward_layernorm", "post_ffw_norm"},
    {"qwen3 qwen3moe olmoe olmo2 gemma3", "self_attn.q_norm", "attn_q_norm"},
    {"qwen3 qwen3moe olmoe olmo2 gemma3", "self_attn.k_norm", "attn_k_norm"},
    {"gpt2", "ln_1", "attn_norm"},
    {"gpt2", "ln_2", "ffn_norm"},
};

enum { OUTER = sizeof outer / sizeof *outer, INNER = sizeof inner / sizeof *inner };

static const char *layers_of(const char *architecture) {
    return strcmp(architecture, "gpt2") == 0 ? "transformer.h." : "model.layers.";
}

// Is the word one of the list's?
static bool lists(const char *list, const char *word) {
    const size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
    return false;
}

static bool is_outer(int i, const char *architecture) {
    const bool gpt2 = strcmp(architecture, "gpt2") == 0;
    const bool own = strncmp(outer[i].module, "transformer.", 12) == 0;
    return own == gpt2 || strcmp(outer[i].module, "lm_head") == 0;
}

static bool ends_in(const char *text, const char *end) {
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

bool hone_hf_is_constant(const char *name) {
    return ends_in(name, ".rotary_emb.inv_freq") || ends_in(name, ".attn.bias") ||
           ends_in(name, ".attn.masked_bias");
}

const char *hone_hf_embedding(const char *architecture) {
    if (hone_hf_is_encoder(architecture)) return NULL;
    if (hone_is_t5(architecture)) return "shared";
    for (int i = 0; i < OUTER; i++)
        if (is_outer(i, architecture) && strcmp(outer[i].name, "token_embd") == 0)
            return outer[i].module;
    return NULL;
}

static bool norm_name(const char *architecture, const char *module, const char *part, char *name) {
    for (int i = 0; i < INNER; i++) {
        const size_t length = strlen(layers_of(architecture));
        int layer, end = 0;
        if (!lists(inner[i].architectures, architecture) ||
            strncmp(module, layers_of(architecture), length) != 0 ||
            sscanf(module + length, "%6d.%n", &layer, &end) != 1 || end == 0 || layer < 0 ||
            strcmp(module + length + end, inner[i].module) != 0)
            continue;
        snprintf(name, HF_NAME, "blk.%d.%s%s", layer, inner[i].name, part);
        return true;
    }
    return false;
}

bool hone_hf_gguf_name(const char *architecture, const char *stored, char name[HF_NAME]) {
    const AdapterBase base = {.architecture = architecture};
    if (hone_hf_is_encoder(architecture))
        return hone_hf_encoder_gguf_name(architecture, stored, name);
    if (hone_is_t5(architecture)) {
        const size_t length = ends_in(stored, ".weight") ? strlen(stored) - 7 : 0;
        return hone_t5_name(false, stored, length, name) ||
               hone_t5_name(true, stored, length, name);
    }
    const bool bare = strcmp(architecture, "gpt2") == 0 &&
                      strncmp(stored, "transformer.", 12) != 0 &&
                      strncmp(stored, "lm_head.", 8) != 0; // saved without the head
    const char *part = ends_in(stored, ".weight") ? ".weight" : ".bias";
    char module[256];
    if (!ends_in(stored, part) || strlen(stored) + 12 >= sizeof module) return false;
    snprintf(module, sizeof module, "%s%s", bare ? "transformer." : "", stored);
    module[strlen(module) - strlen(part)] = '\0';
    for (int i = 0; i < OUTER; i++)
        if (is_outer(i, architecture) && strcmp(outer[i].module, module) == 0) {
            snprintf(name, HF_NAME, "%s%s", outer[i].name, part);
            return true;
        }
    if (norm_name(architecture, module, part, name)) return true;
    if (!hone_adapter_name(&base, module, strlen(module), name)) return false;
    snprintf(name + strlen(name) - strlen(".weight"), 10, "%s", part);
    return true;
}

bool hone_hf_name(const char *architecture, bool gated, const char *name,
                  char stored[HF_STORED_NAME]) {
    const AdapterBase base = {.architecture = architecture};
    const char *part = ends_in(name, ".weight") ? ".weight" : ".bias";
    if (hone_hf_is_encoder(architecture)) return hone_hf_encoder_name(architecture, name, stored);
    if (hone_is_t5(architecture)) {
        char own[HF_STORED_NAME];
        if (!hone_t5_module(gated, name, own)) return false;
        return snprintf(stored, HF_STORED_NAME, "%s.weight", own) < HF_STORED_NAME;
    }
    if (!ends_in(name, part) || strlen(name) >= HF_NAME) return false;
    char stem[HF_NAME], matrix[HF_NAME + 8], module[ADAPTER_MODULE], whole[HF_NAME];
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(name) - strlen(part)), name);
    int layer, end = 0;
    for (int i = 0; i < OUTER; i++)
        if (is_outer(i, architecture) && strcmp(outer[i].name, stem) == 0) {
            snprintf(stored, HF_STORED_NAME, "%s%s", outer[i].module, part);
            return true;
        }
    const bool numbered = sscanf(stem, "blk.%6d.%n", &layer, &end) == 1 && end > 0;
    for (int i = 0; i < INNER && numbered; i++)
        if (lists(inner[i].architectures, architecture) && strcmp(inner[i].name, stem + end) == 0) {
            snprintf(stored, HF_STORED_NAME, "%s%d.%s%s", layers_of(architecture), layer,
                     inner[i].module, part);
            return true;
        }
    snprintf(matrix, sizeof matrix, "%s.weight", stem);
    if (!hone_adapter_module(&base, matrix, module)) return false;
    snprintf(stored, HF_STORED_NAME, "%s%s", module, part);
    // What cannot be read back is not written: "blk.03…".
    return hone_hf_gguf_name(architecture, stored, whole) && strcmp(whole, name) == 0;
}
