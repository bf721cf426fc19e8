// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "io/peft_config.h"
#include "io/safetensors.h"

// What one tensor of adapter_model.safetensors is.
typedef enum TensorRole {
    ROLE_A,
    ROLE_B,
    ROLE_MAGNITUDE,
    ROLE_EMBEDDING_A,
    ROLE_EMBEDDING_B,
    ROLE_BASE_COPY,
    ROLE_WHOLE,
    ROLE_BIAS, // of a module that is adapted too
    ROLE_REFUSED
} TensorRole;

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && strcmp(text + length - tail, ending) == 0;
}

// The role, the length of the module's path before ".lora_…", or why it is refused.
static TensorRole classify(const char *name, size_t *module_length, const char **why) {
    static const struct {
        const char *ending;
        TensorRole role;
    } known[] = {{".lora_A.weight", ROLE_A},
                 {".lora_B.weight", ROLE_B},
                 {".lora_A.default.weight", ROLE_A},
                 {".lora_B.default.weight", ROLE_B},
                 {".lora_magnitude_vector", ROLE_MAGNITUDE},
                 {".lora_magnitude_vector.weight", ROLE_MAGNITUDE},
                 {".lora_magnitude_vector.default.weight", ROLE_MAGNITUDE},
                 {".lora_embedding_A", ROLE_EMBEDDING_A},
                 {".lora_embedding_B", ROLE_EMBEDDING_B},
                 {".lora_embedding_A.default", ROLE_EMBEDDING_A},
                 {".lora_embedding_B.default", ROLE_EMBEDDING_B},
                 {".base_layer.bias", ROLE_BIAS}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!ends_with(name, known[i].ending)) continue;
        *module_length = strlen(name) - strlen(known[i].ending);
        return known[i].role;
    }
    if (ends_with(name, ".base_layer.weight")) return ROLE_BASE_COPY;
    const bool of_adapter = strstr(name, ".lora_") || strstr(name, ".base_layer.");
    if (!of_adapter && (ends_with(name, ".weight") || ends_with(name, ".bias"))) {
        *module_length = (size_t)(strrchr(name, '.') - name);
        return ROLE_WHOLE;
    }
    if (strstr(name, ".lora_B.") && ends_with(name, ".bias"))
        *why = "a bias of lora_B (lora_bias), which cannot be used: train without it";
    else if (ends_with(name, ".lora_a") || ends_with(name, ".lora_b"))
        *why = "of an MLX adapter, whose file is adapters.safetensors";
    else
        *why = "no part of a LoRA";
    return ROLE_REFUSED;
}

// PEFT's embedding_A (rank, tokens) is our B the other way round, its embedding_B (width, rank) our
// A. Other than two dimensions: refused with the other shapes.
static hone_status turn_half(const SafeTensor *tensor, AdapterHalf *half, Arena *memory,
                             HoneError *err) {
    if (tensor->rank != 2) return HONE_OK;
    int64_t *shape = hone_arena_alloc(memory, 2 * sizeof *shape);
    if (!shape) return hone_fail_memory(err, 2 * sizeof *shape, tensor->name);
    shape[0] = tensor->shape[1];
    shape[1] = tensor->shape[0];
    half->shape = shape;
    half->transposed = true;
    return HONE_OK;
}

static hone_status unknown_module(const char *path, const SafeTensor *tensor,
                                  const AdapterBase *base, HoneError *err) {
    char known[ADAPTER_KNOWN];
    hone_adapter_known_modules(base, known);
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: tensor %.200s: this module cannot be adapted; of a %s model %s can", path,
                     tensor->name, base->architecture, known);
}

static const char prefix[] = "base_model.model.";

// Of modules_to_save, or a trained bias, whose module's name has base_layer behind it where the
// matrix is adapted.
static hone_status add_whole(const char *path, const SafeTensor *tensor, size_t length,
                             const PeftConfig *config, const AdapterBase *base, AdapterFile *file,
                             HoneError *err) {
    const size_t skip = strlen(prefix);
    char module[ADAPTER_MODULE];
    if (strncmp(tensor->name, prefix, skip) != 0 || length < skip || length - skip >= sizeof module)
        return unknown_module(path, tensor, base, err);
    memcpy(module, tensor->name + skip, length - skip);
    module[length - skip] = '\0';
    const char *part = strrchr(tensor->name, '.');
    char stored[ADAPTER_MODULE + 8];
    if (!config->biases || strcmp(part, ".bias") != 0)
        RETURN_IF_ERROR(hone_peft_config_check_saved(config, module, err));
    snprintf(stored, sizeof stored, "%s%s", module, part);
    return hone_whole_add(path, tensor, stored, base, file, err);
}

static hone_status add_tensor(const char *path, const SafeTensor *tensor, const PeftConfig *config,
                              const AdapterBase *base, AdapterDrafts *drafts, AdapterFile *file,
                              HoneError *err) {
    Arena *memory = &file->memory;
    size_t skip = strlen(prefix), length = 0;
    const char *why = NULL;
    TensorRole role = classify(tensor->name, &length, &why);
    if (role == ROLE_BASE_COPY) return HONE_OK; // the base's own weight, saved beside a head's pair
    if (role == ROLE_BIAS && !config->biases)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: tensor %.200s is a trained bias, and \"bias\" is \"none\" in %s",
                         path, tensor->name, config->path);
    if (role == ROLE_WHOLE || role == ROLE_BIAS)
        return add_whole(path, tensor, length, config, base, file, err);
    if (role == ROLE_REFUSED)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s: tensor %.200s is %s", path, tensor->name,
                         why);
    char name[ADAPTER_NAME] = {0};
    const bool turned = role == ROLE_EMBEDDING_A || role == ROLE_EMBEDDING_B;
    if (strncmp(tensor->name, prefix, skip) != 0 || length < skip ||
        !hone_adapter_name(base, tensor->name + skip, length - skip, name))
        return unknown_module(path, tensor, base, err);
    if (hone_adapter_is_embedding(name) && role == ROLE_MAGNITUDE)
        return hone_fail(
            err, HONE_ERROR_UNSUPPORTED,
            "%s: tensor %.200s is a DoRA of the embedding, which cannot be used: merge "
            "it with PEFT's merge_and_unload",
            path, tensor->name);
    if (hone_adapter_is_embedding(name) != turned) return unknown_module(path, tensor, base, err);
    AdapterHalf half = {tensor->name,  tensor->dtype, tensor->rank,
                        tensor->shape, tensor->data,  false};
    if (turned) RETURN_IF_ERROR(turn_half(tensor, &half, memory, err));
    const int which = role == ROLE_MAGNITUDE                       ? 2
                      : role == ROLE_B || role == ROLE_EMBEDDING_A ? 1
                                                                   : 0;
    return hone_drafts_add(drafts, name, which, &half, err);
}

// With use_dora every pair has its magnitude, without it none has: else PEFT computes other values.
static hone_status check_magnitude(const char *path, const PeftConfig *config, const char *module,
                                   const AdapterPair *pair, HoneError *err) {
    if (config->dora == (pair->magnitude != NULL)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: \"use_dora\" is %s in %s, and %s has %s magnitude",
                     path, config->dora ? "true" : "false", config->path, module,
                     pair->magnitude ? "a" : "no");
}

static hone_status read_pairs(const char *path, const PeftConfig *config, const AdapterBase *base,
                              AdapterFile *file, HoneError *err) {
    SafeTensorsFile tensors;
    AdapterDrafts drafts = {0};
    RETURN_IF_ERROR(hone_safetensors_open(path, &tensors, err));
    hone_status status = hone_drafts_create(&drafts, path, tensors.count, err);
    file->whole = hone_arena_calloc(&file->memory, (size_t)tensors.count + 1, sizeof *file->whole);
    if (status == HONE_OK && !file->whole)
        status = hone_fail_memory(err, (size_t)tensors.count * sizeof *file->whole, "tensors");
    for (int64_t i = 0; i < tensors.count && status == HONE_OK; i++)
        status = add_tensor(path, &tensors.tensors[i], config, base, &drafts, file, err);
    if (status == HONE_OK) status = hone_drafts_finish(&drafts, base, true, file, err);
    for (int64_t i = 0; i < file->count && status == HONE_OK; i++) {
        AdapterPair *pair = &file->pairs[i];
        char module[ADAPTER_MODULE] = {0};
        hone_adapter_module(base, pair->name, module); // the name came from a module
        status = hone_peft_config_check_target(config, module, err);
        if (status == HONE_OK) status = check_magnitude(path, config, module, pair, err);
        if (status == HONE_OK)
            status = hone_peft_config_scale(config, module, pair->rank, &pair->scale, err);
    }
    hone_drafts_free(&drafts);
    hone_safetensors_close(&tensors);
    return status;
}

static hone_status check_folder(const char *folder, HoneError *err) {
    hone_memory_watch();
    if (hone_adapter_folder_holds(folder, "adapter_model.safetensors") &&
        hone_adapter_folder_holds(folder, "adapter_config.json"))
        return HONE_OK;
    if (hone_memory_lacked()) return hone_fail_memory(err, strlen(folder), "a path");
    if (hone_adapter_folder_holds(folder, "adapter_model.bin"))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: adapter_model.bin is a Python pickle: save the adapter as "
                         "adapter_model.safetensors with PEFT (safe_serialization=True)",
                         folder);
    return hone_fail(
        err, HONE_ERROR_INPUT, "%s: not a PEFT adapter: %s is missing in this folder", folder,
        hone_adapter_folder_holds(folder, "adapter_config.json") ? "adapter_model.safetensors"
                                                                 : "adapter_config.json");
}

hone_status hone_adapter_read_peft(const char *folder, const AdapterBase *base, AdapterFile *file,
                                   HoneError *err) {
    RETURN_IF_ERROR(check_folder(folder, err));
    PeftConfig config = {0};
    char *config_path = hone_path_join(folder, "adapter_config.json");
    char *tensors_path = hone_path_join(folder, "adapter_model.safetensors");
    hone_status status = HONE_OK;
    if (!config_path || !tensors_path)
        status = hone_fail_memory(err, strlen(folder) + 32, "a path");
    if (status == HONE_OK) status = hone_peft_config_open(config_path, &config, err);
    if (status == HONE_OK) {
        status = read_pairs(tensors_path, &config, base, file, err);
        hone_peft_config_close(&config);
    }
    hone_free(config_path);
    hone_free(tensors_path);
    return status;
}
