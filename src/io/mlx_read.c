// SPDX-License-Identifier: Apache-2.0
// Adapters of MLX-LM: adapters.safetensors with A (in, rank) and B (rank, out) of each module, with
// DoRA its magnitude m (out) too, and adapter_config.json, the arguments of the run, whose scale is
// that of the product.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "io/safetensors.h"

typedef struct MlxConfig {
    float scale;
    bool dora;
} MlxConfig;

static hone_status bad_config(const char *path, const char *what, HoneError *err) {
    return hone_fail(err, HONE_ERROR_INPUT, "%s: %s", path, what);
}

static hone_status read_config(const char *path, const json_t *root, MlxConfig *config,
                               HoneError *err) {
    const char *kind = json_string_value(json_object_get(root, "fine_tune_type"));
    if (kind && strcmp(kind, "lora") != 0 && strcmp(kind, "dora") != 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: \"fine_tune_type\" is \"%.40s\": only lora and dora can be used; "
                         "fuse the model with mlx_lm.fuse",
                         path, kind);
    const json_t *parameters = json_object_get(root, "lora_parameters");
    if (!json_is_object(parameters))
        return bad_config(path, "\"lora_parameters\" is missing, an object is wanted", err);
    config->dora = (kind && strcmp(kind, "dora") == 0) || // and what older versions wrote
                   json_is_true(json_object_get(parameters, "use_dora")) ||
                   json_is_true(json_object_get(root, "use_dora"));
    const json_t *scale = json_object_get(parameters, "scale");
    if (!json_is_number(scale))
        return bad_config(path, "\"lora_parameters\" has no number \"scale\"", err);
    config->scale = (float)json_number_value(scale);
    if (isfinite(config->scale)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: \"scale\" is %g", path, json_number_value(scale));
}

static hone_status open_config(const char *path, MlxConfig *config, HoneError *err) {
    char *text = NULL;
    size_t bytes = 0;
    RETURN_IF_ERROR(hone_file_read(path, &text, &bytes, err));
    json_error_t fault = {0};
    hone_memory_watch();
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &fault);
    const bool lacked = !root && hone_memory_lacked();
    hone_free(text);
    if (lacked) return hone_fail_memory(err, bytes, path);
    hone_status status =
        json_is_object(root)
            ? read_config(path, root, config, err)
            : hone_fail(err, HONE_ERROR_INPUT, "%s: line %d: %s", path, root ? 1 : fault.line,
                        root ? "a JSON object is wanted" : fault.text);
    json_decref(root);
    return status;
}

static hone_status add_tensor(const char *path, const SafeTensor *tensor, const AdapterBase *base,
                              AdapterDrafts *drafts, Arena *memory, HoneError *err) {
    static const char *const endings[] = {".lora_a", ".lora_b", ".m"};
    const size_t length = strlen(tensor->name);
    int role = 0;
    size_t ending = 0;
    for (; role < 3; role++) {
        ending = strlen(endings[role]);
        if (length > ending && strcmp(tensor->name + length - ending, endings[role]) == 0) break;
    }
    char name[ADAPTER_NAME] = {0};
    if (role == 3)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s is no part of a LoRA or DoRA (a name ends in .lora_a, "
                         ".lora_b or .m)",
                         path, tensor->name);
    if (!hone_adapter_name(base, tensor->name, length - ending, name)) {
        char known[ADAPTER_KNOWN];
        hone_adapter_known_modules(base, known);
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s: this module cannot be adapted; of a %s model %s can",
                         path, tensor->name, base->architecture, known);
    }
    AdapterHalf half = {tensor->name,  tensor->dtype, tensor->rank,
                        tensor->shape, tensor->data,  false};
    if (role == 2 && hone_adapter_is_embedding(name))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s is a DoRA of the embedding, which cannot be used; fuse "
                         "the model with mlx_lm.fuse",
                         path, tensor->name);
    if (role == 2) return hone_drafts_add(drafts, name, role, &half, err);
    if (hone_adapter_is_embedding(name)) // lora_a (tokens, rank), lora_b (rank, width)
        return hone_drafts_add(drafts, name, 1 - role, &half, err);
    if (tensor->rank == 2) { // else refused with the other shapes
        int64_t *shape = hone_arena_alloc(memory, 2 * sizeof *shape);
        if (!shape) return hone_fail_memory(err, 2 * sizeof *shape, tensor->name);
        shape[0] = tensor->shape[1];
        shape[1] = tensor->shape[0];
        half.shape = shape;
        half.transposed = true;
    }
    return hone_drafts_add(drafts, name, role, &half, err);
}

static hone_status check_magnitude(const char *path, const MlxConfig *config,
                                   const AdapterPair *pair, HoneError *err) {
    if (config->dora == (pair->magnitude != NULL)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: adapter_config.json says %s, and %s has %s", path,
                     config->dora ? "dora" : "lora", pair->name,
                     pair->magnitude ? "a magnitude (.m)" : "no magnitude (.m)");
}

// MLX-LM's adapter of an embedding that is the head as well works on both.
static hone_status adapt_tied_head(const AdapterBase *base, AdapterFile *file, HoneError *err) {
    if (!base->tied_head || file->count == 0 || !hone_adapter_is_embedding(file->pairs[0].name))
        return HONE_OK;
    const size_t bytes = (size_t)(file->count + 1) * sizeof *file->pairs;
    AdapterPair *pairs = hone_arena_alloc(&file->memory, bytes);
    if (!pairs) return hone_fail_memory(err, bytes, "pairs");
    memcpy(pairs, file->pairs, bytes - sizeof *pairs);
    pairs[file->count] = pairs[0];
    snprintf(pairs[file->count].name, sizeof pairs->name, "output.weight");
    file->pairs = pairs;
    file->count++;
    hone_adapter_sort(file->pairs, file->count);
    return HONE_OK;
}

static hone_status read_pairs(const char *path, const MlxConfig *config, const AdapterBase *base,
                              AdapterFile *file, HoneError *err) {
    SafeTensorsFile tensors;
    AdapterDrafts drafts = {0};
    RETURN_IF_ERROR(hone_safetensors_open(path, &tensors, err));
    hone_status status = hone_drafts_create(&drafts, path, tensors.count, err);
    for (int64_t i = 0; i < tensors.count && status == HONE_OK; i++)
        status = add_tensor(path, &tensors.tensors[i], base, &drafts, &file->memory, err);
    if (status == HONE_OK) status = hone_drafts_finish(&drafts, base, true, file, err);
    for (int64_t i = 0; i < file->count && status == HONE_OK; i++) {
        file->pairs[i].scale = config->scale;
        status = check_magnitude(path, config, &file->pairs[i], err);
    }
    if (status == HONE_OK) status = adapt_tied_head(base, file, err);
    hone_drafts_free(&drafts);
    hone_safetensors_close(&tensors);
    return status;
}

hone_status hone_adapter_read_mlx(const char *folder, const AdapterBase *base, AdapterFile *file,
                                  HoneError *err) {
    char *config_path = hone_path_join(folder, "adapter_config.json");
    char *tensors_path = hone_path_join(folder, "adapters.safetensors");
    MlxConfig config = {0};
    hone_status status = HONE_OK;
    if (!config_path || !tensors_path)
        status = hone_fail_memory(err, strlen(folder) + 32, "a path");
    if (status == HONE_OK) status = open_config(config_path, &config, err);
    if (status == HONE_OK) status = read_pairs(tensors_path, &config, base, file, err);
    hone_free(config_path);
    hone_free(tensors_path);
    return status;
}
