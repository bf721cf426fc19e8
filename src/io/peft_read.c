// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "io/adapter.h"
#include "io/peft_config.h"
#include "io/safetensors.h"

// What one tensor of adapter_model.safetensors is.
typedef enum TensorRole { ROLE_A, ROLE_B, ROLE_BASE_COPY, ROLE_REFUSED } TensorRole;

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && strcmp(text + length - tail, ending) == 0;
}

// The role, the length of the module's path before ".lora_…", or why it is refused.
static TensorRole classify(const char *name, size_t *module_length, const char **why) {
    static const char *const endings[] = {".lora_A.weight", ".lora_B.weight",
                                          ".lora_A.default.weight", ".lora_B.default.weight"};
    for (int i = 0; i < 4; i++) {
        if (!ends_with(name, endings[i])) continue;
        *module_length = strlen(name) - strlen(endings[i]);
        return i % 2 == 0 ? ROLE_A : ROLE_B;
    }
    if (ends_with(name, ".base_layer.weight")) return ROLE_BASE_COPY;
    if (strstr(name, ".lora_magnitude_vector"))
        *why = "a DoRA magnitude, which cannot be used: merge it with PEFT's merge_and_unload";
    else if (strstr(name, ".lora_embedding_"))
        *why = "an adapter of the embedding, which cannot be used: merge it with PEFT's "
               "merge_and_unload";
    else if (strstr(name, ".lora_B.") && ends_with(name, ".bias"))
        *why = "a bias of lora_B (lora_bias), which cannot be used: train without it";
    else if (ends_with(name, ".bias"))
        *why = "a trained bias, which cannot be used: train with bias \"none\"";
    else if (ends_with(name, ".lora_a") || ends_with(name, ".lora_b"))
        *why = "of an MLX adapter, whose file is adapters.safetensors";
    else if (ends_with(name, ".weight"))
        *why = "a module trained whole (modules_to_save), which cannot be used: train without it";
    else
        *why = "no part of a LoRA";
    return ROLE_REFUSED;
}

static hone_status add_tensor(const char *path, const SafeTensor *tensor, const AdapterBase *base,
                              AdapterDrafts *drafts, HoneError *err) {
    static const char prefix[] = "base_model.model.";
    size_t skip = strlen(prefix), length = 0;
    const char *why = NULL;
    TensorRole role = classify(tensor->name, &length, &why);
    if (role == ROLE_BASE_COPY) return HONE_OK; // the base's own weight, saved beside a head's pair
    if (role == ROLE_REFUSED)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s: tensor %.200s is %s", path, tensor->name,
                         why);
    char name[ADAPTER_NAME] = {0};
    if (strncmp(tensor->name, prefix, skip) != 0 || length < skip ||
        !hone_adapter_name(base, tensor->name + skip, length - skip, name)) {
        char known[ADAPTER_KNOWN];
        hone_adapter_known_modules(base, known);
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s: this module cannot be adapted; of a %s model %s can",
                         path, tensor->name, base->architecture, known);
    }
    AdapterHalf half = {tensor->name,  tensor->dtype, tensor->rank,
                        tensor->shape, tensor->data,  false};
    return hone_drafts_add(drafts, name, role == ROLE_B, &half, err);
}

static hone_status read_pairs(const char *path, const PeftConfig *config, const AdapterBase *base,
                              AdapterFile *file, HoneError *err) {
    SafeTensorsFile tensors;
    AdapterDrafts drafts = {0};
    RETURN_IF_ERROR(hone_safetensors_open(path, &tensors, err));
    hone_status status = hone_drafts_create(&drafts, path, tensors.count, err);
    for (int64_t i = 0; i < tensors.count && status == HONE_OK; i++)
        status = add_tensor(path, &tensors.tensors[i], base, &drafts, err);
    if (status == HONE_OK) status = hone_drafts_finish(&drafts, base, true, file, err);
    for (int64_t i = 0; i < file->count && status == HONE_OK; i++) {
        AdapterPair *pair = &file->pairs[i];
        char module[ADAPTER_MODULE] = {0};
        hone_adapter_module(base, pair->name, module); // the name came from a module
        status = hone_peft_config_check_target(config, module, err);
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
