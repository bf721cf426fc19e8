// SPDX-License-Identifier: Apache-2.0
// Names of tensors in Hugging Face folders and in GGUF files. Those of linear layers are
// adapter_names.c's, which adapters have too.
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "io/hf_parts.h"

typedef struct FixedName {
    const char *architecture, *module, *name; // module and name without ".weight" and ".bias"
} FixedName;

static const FixedName outer[] = {
    {"llama", "model.embed_tokens", "token_embd"},
    {"llama", "model.norm", "output_norm"},
    {"llama", "lm_head", "output"},
    {"gpt2", "transformer.wte", "token_embd"},
    {"gpt2", "transformer.wpe", "position_embd"},
    {"gpt2", "transformer.ln_f", "output_norm"},
    {"gpt2", "lm_head", "output"},
};

// Of a layer; the module's path begins with `layers` and its number.
static const struct InnerName {
    const char *architecture, *layers, *module, *name;
} inner[] = {
    {"llama", "model.layers.", "input_layernorm", "attn_norm"},
    {"llama", "model.layers.", "post_attention_layernorm", "ffn_norm"},
    {"gpt2", "transformer.h.", "ln_1", "attn_norm"},
    {"gpt2", "transformer.h.", "ln_2", "ffn_norm"},
};

enum { OUTER = sizeof outer / sizeof *outer, INNER = sizeof inner / sizeof *inner };

static bool ends_in(const char *text, const char *end) {
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

bool hone_hf_is_constant(const char *name) {
    return ends_in(name, ".rotary_emb.inv_freq") || ends_in(name, ".attn.bias") ||
           ends_in(name, ".attn.masked_bias");
}

static bool norm_name(const char *architecture, const char *module, const char *part, char *name) {
    for (int i = 0; i < INNER; i++) {
        const size_t length = strlen(inner[i].layers);
        int layer, end = 0;
        if (strcmp(inner[i].architecture, architecture) != 0 ||
            strncmp(module, inner[i].layers, length) != 0 ||
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
    const bool bare = strcmp(architecture, "gpt2") == 0 &&
                      strncmp(stored, "transformer.", 12) != 0 &&
                      strncmp(stored, "lm_head.", 8) != 0; // saved without the head
    const char *part = ends_in(stored, ".weight") ? ".weight" : ".bias";
    char module[256];
    if (!ends_in(stored, part) || strlen(stored) + 12 >= sizeof module) return false;
    snprintf(module, sizeof module, "%s%s", bare ? "transformer." : "", stored);
    module[strlen(module) - strlen(part)] = '\0';
    for (int i = 0; i < OUTER; i++)
        if (strcmp(outer[i].architecture, architecture) == 0 &&
            strcmp(outer[i].module, module) == 0) {
            snprintf(name, HF_NAME, "%s%s", outer[i].name, part);
            return true;
        }
    if (norm_name(architecture, module, part, name)) return true;
    if (!hone_adapter_name(&base, module, strlen(module), name)) return false;
    snprintf(name + strlen(name) - strlen(".weight"), 10, "%s", part);
    return true;
}

bool hone_hf_name(const char *architecture, const char *name, char stored[HF_STORED_NAME]) {
    const AdapterBase base = {.architecture = architecture};
    const char *part = ends_in(name, ".weight") ? ".weight" : ".bias";
    if (!ends_in(name, part) || strlen(name) >= HF_NAME) return false;
    char stem[HF_NAME], matrix[HF_NAME + 8], module[ADAPTER_MODULE], whole[HF_NAME];
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(name) - strlen(part)), name);
    int layer, end = 0;
    for (int i = 0; i < OUTER; i++)
        if (strcmp(outer[i].architecture, architecture) == 0 && strcmp(outer[i].name, stem) == 0) {
            snprintf(stored, HF_STORED_NAME, "%s%s", outer[i].module, part);
            return true;
        }
    const bool numbered = sscanf(stem, "blk.%6d.%n", &layer, &end) == 1 && end > 0;
    for (int i = 0; i < INNER && numbered; i++)
        if (strcmp(inner[i].architecture, architecture) == 0 &&
            strcmp(inner[i].name, stem + end) == 0) {
            snprintf(stored, HF_STORED_NAME, "%s%d.%s%s", inner[i].layers, layer, inner[i].module,
                     part);
            return true;
        }
    snprintf(matrix, sizeof matrix, "%s.weight", stem);
    if (!hone_adapter_module(&base, matrix, module)) return false;
    snprintf(stored, HF_STORED_NAME, "%s%s", module, part);
    // What cannot be read back is not written: "blk.03…".
    return hone_hf_gguf_name(architecture, stored, whole) && strcmp(whole, name) == 0;
}
