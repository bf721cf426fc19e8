// SPDX-License-Identifier: Apache-2.0
#include "train/recipe.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kernels/kernels.h"

enum { AS_STORED = -1 };

struct Recipe {
    const char *name;
    int base;      // of most matrices; AS_STORED
    int file_type; // general.file_type, as llama.cpp numbers them; −1: as it was
    int more;      // of what suffers most: value (also fused with query, key) and down projection
    enum { NOWHERE, FIRST_LAYERS, SOME_LAYERS } where;
};

static const Recipe recipes[] = {
    {"f32", HONE_F32, 0, HONE_F32, NOWHERE},
    {"f16", HONE_F16, 1, HONE_F16, NOWHERE},
    {"bf16", HONE_BF16, 32, HONE_BF16, NOWHERE},
    {"q8_0", HONE_Q8_0, 7, HONE_Q8_0, NOWHERE},
    {"q6_k", HONE_Q6_K, 18, HONE_Q6_K, NOWHERE},
    {"q5_k_m", HONE_Q5_K, 17, HONE_Q6_K, SOME_LAYERS},
    {"q5_k_s", HONE_Q5_K, 16, HONE_Q5_K, NOWHERE},
    {"q5_1", HONE_Q5_1, 9, HONE_Q5_1, NOWHERE},
    {"q5_0", HONE_Q5_0, 8, HONE_Q5_0, NOWHERE},
    {"q4_k_m", HONE_Q4_K, 15, HONE_Q6_K, SOME_LAYERS},
    {"q4_k_s", HONE_Q4_K, 14, HONE_Q5_K, FIRST_LAYERS},
    {"q4_1", HONE_Q4_1, 3, HONE_Q4_1, NOWHERE},
    {"q4_0", HONE_Q4_0, 2, HONE_Q4_0, NOWHERE},
    {"same", AS_STORED, -1, AS_STORED, NOWHERE},
};

enum { RECIPES = sizeof recipes / sizeof *recipes };

static const Recipe *recipe_named(const char *name) {
    for (int i = 0; i < RECIPES; i++)
        if (strcasecmp(recipes[i].name, name) == 0) return &recipes[i];
    return NULL;
}

// The type that most values of matrices are stored as.
static int usual_type(const HoneModel *model) {
    int64_t values[HONE_DTYPE_LIMIT] = {0};
    int most = HONE_F32;
    for (int64_t i = 0; i < model->file.tensor_count; i++) {
        const GgufTensor *tensor = &model->file.tensors[i];
        if (tensor->rank < 2 || !hone_dtype_is_weight(tensor->dtype)) continue;
        values[tensor->dtype] += hone_gguf_tensor_values(tensor);
        if (values[tensor->dtype] > values[most]) most = tensor->dtype;
    }
    return most;
}

static const Recipe *recipe_of_model(const HoneModel *model) {
    const int type = usual_type(model);
    return hone_dtype_info(type)->is_quantised ? recipe_named("q8_0")
                                               : recipe_named(hone_dtype_name(type));
}

hone_status hone_recipe_find(const char *name, const HoneModel *model, const char *option,
                             const Recipe **recipe, HoneError *err) {
    const bool automatic = strcasecmp(name, "auto") == 0;
    *recipe = automatic && model ? recipe_of_model(model) : recipe_named(name);
    if (*recipe || (automatic && !model)) return HONE_OK;
    char names[160] = "";
    for (int i = 0; i < RECIPES; i++) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s, ", recipes[i].name);
    }
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s \"%s\" is not one of %sauto", option, name,
                     names);
}

const char *hone_recipe_name(const Recipe *recipe) {
    return recipe->name;
}

bool hone_recipe_is_quantised(const Recipe *recipe) {
    return recipe->base != AS_STORED && hone_dtype_info(recipe->base)->is_quantised;
}

int hone_recipe_file_type(const Recipe *recipe, const HoneModel *model) {
    if (recipe->base != AS_STORED) return recipe->file_type;
    if (hone_gguf_key(&model->file, "general.file_type")) return -1;
    const Recipe *usual = recipe_named(hone_dtype_name(usual_type(model)));
    return usual ? usual->file_type : -1;
}

// ---- llama.cpp's mixtures ----------------------------------------------------------------------

// "blk.7.ffn_down.weight" or "blk.7.ffn_down.3.weight", "ffn_down" → 7; −1: another tensor.
static int layer_of(const char *tensor, const char *part) {
    char rest[64], stacked[GGUF_NAME];
    int layer, expert, end = 0;
    if (hone_gguf_expert(tensor, stacked, &expert)) {
        snprintf(rest, sizeof rest, "%s_exps", part);
        return layer_of(stacked, rest);
    }
    snprintf(rest, sizeof rest, ".%s.weight", part);
    if (sscanf(tensor, "blk.%9d%n", &layer, &end) != 1 || end == 0) return -1;
    return strcmp(tensor + end, rest) == 0 ? layer : -1;
}

// The first and the last eighth of the layers, and every third between.
static bool is_chosen(int layer, int layers) {
    const int eighth = layers / 8;
    return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

static int layer_type(const Recipe *recipe, const HoneModel *model, const char *name) {
    const int layers = model->config.layers;
    const int separate = layer_of(name, "attn_v"), down = layer_of(name, "ffn_down");
    const int value = separate >= 0 ? separate : layer_of(name, "attn_qkv");
    if (recipe->where == FIRST_LAYERS)
        return (value >= 0 && value < 4) || (down >= 0 && down < layers / 8) ? recipe->more
                                                                             : recipe->base;
    if (recipe->where == SOME_LAYERS && (value >= 0 || down >= 0))
        return is_chosen(value >= 0 ? value : down, layers) ? recipe->more : recipe->base;
    return recipe->base;
}

// Where rows are no whole blocks of 256, a type with blocks of 32; where not of 32 either, F16.
static int with_whole_blocks(int type, int64_t columns, bool *falls_back) {
    *falls_back = columns % hone_dtype_info(type)->block != 0;
    if (!*falls_back) return type;
    const int smaller = type == HONE_Q4_K   ? HONE_Q5_0
                        : type == HONE_Q5_K ? HONE_Q5_1
                        : type == HONE_Q6_K ? HONE_Q8_0
                                            : HONE_F16;
    return columns % hone_dtype_info(smaller)->block == 0 ? smaller : HONE_F16;
}

int hone_recipe_type(const Recipe *recipe, const HoneModel *model, const GgufTensor *tensor,
                     bool *falls_back) {
    *falls_back = false;
    if (tensor->rank < 2) return HONE_F32;
    if (recipe->base == AS_STORED) {
        *falls_back = !hone_can_quantise(tensor->dtype);
        return *falls_back ? HONE_Q8_0 : tensor->dtype;
    }
    if (layer_of(tensor->name, "ffn_gate_inp") >= 0) return HONE_F32; // a router
    if (!hone_recipe_is_quantised(recipe)) return recipe->base;
    if (strcmp(tensor->name, "position_embd.weight") == 0) return HONE_F32;
    const int64_t columns = tensor->shape[tensor->rank - 1];
    const char *head = model->config.tied_head ? "token_embd.weight" : "output.weight";
    if (strcmp(tensor->name, head) != 0)
        return with_whole_blocks(layer_type(recipe, model, tensor->name), columns, falls_back);
    // The head, or the embedding that serves as head, whatever the others are.
    const bool large = recipe->base != HONE_Q8_0 && columns % 256 == 0;
    return with_whole_blocks(large ? HONE_Q6_K : HONE_Q8_0, columns, falls_back);
}

int hone_recipe_type_untouched(const Recipe *recipe, const HoneModel *model,
                               const GgufTensor *tensor, bool *falls_back) {
    *falls_back = false;
    if (recipe->base == AS_STORED) return tensor->dtype;
    if (hone_recipe_is_quantised(recipe) && hone_dtype_info(tensor->dtype)->is_quantised)
        return tensor->dtype;
    return hone_recipe_type(recipe, model, tensor, falls_back);
}
