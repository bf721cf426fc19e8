// SPDX-License-Identifier: Apache-2.0
// The weights of a Hugging Face folder under GGUF's names, and the whole.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/adapter.h"
#include "io/hf_parts.h"
#include "io/safetensors.h"

enum { MOST_FILES = 4096 };

static bool holds(const char *folder, const char *name) {
    char *path = hone_path_join(folder, name);
    const bool found = path && hone_is_file(path);
    hone_free(path);
    return found;
}

bool hone_is_hf_folder(const char *path) {
    return hone_is_directory(path) && holds(path, "config.json");
}

// ---- which files -------------------------------------------------------------------------------

typedef struct Shards {
    const char *folder;
    Arena memory;
    const char **paths;
    int count;
    size_t *begin, *bytes;
    SafeTensorsFile *files; // views of the map
} Shards;

static hone_status add_shard(Shards *shards, const char *name, HoneError *err) {
    if (!*name || strchr(name, '/') || strcmp(name, "..") == 0)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s/model.safetensors.index.json: \"%.60s\" is not the name of a file of "
                         "the folder",
                         shards->folder, name);
    const size_t length = strlen(shards->folder) + strlen(name) + 2;
    char *path = hone_arena_alloc(&shards->memory, length);
    if (!path) return hone_fail_memory(err, length, "a path");
    snprintf(path, length, "%s/%s", shards->folder, name);
    for (int i = 0; i < shards->count; i++)
        if (strcmp(shards->paths[i], path) == 0) return HONE_OK;
    if (shards->count == MOST_FILES)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s/model.safetensors.index.json: names more than %d files",
                         shards->folder, MOST_FILES);
    shards->paths[shards->count++] = path;
    return HONE_OK;
}

static hone_status list_shards(Shards *shards, HoneError *err) {
    json_t *index;
    const char *tensor;
    json_t *name;
    shards->paths = hone_arena_alloc(&shards->memory, MOST_FILES * sizeof *shards->paths);
    if (!shards->paths) return hone_fail_memory(err, MOST_FILES * sizeof *shards->paths, "paths");
    RETURN_IF_ERROR(
        hone_hf_json(shards->folder, "model.safetensors.index.json", false, 0, &index, err));
    if (!index) return add_shard(shards, "model.safetensors", err);
    hone_status status = HONE_OK;
    json_object_foreach(json_object_get(index, "weight_map"), tensor, name) {
        if (status != HONE_OK) break;
        const char *text = json_string_value(name);
        status = add_shard(shards, text ? text : "", err);
    }
    json_decref(index);
    if (status == HONE_OK && shards->count == 0)
        status = hone_fail(err, HONE_ERROR_INPUT,
                           "%s/model.safetensors.index.json: its \"weight_map\" names no file",
                           shards->folder);
    return status;
}

// A folder of pickles is a common mistake.
static hone_status check_there(const Shards *shards, HoneError *err) {
    for (int i = 0; i < shards->count; i++) {
        if (hone_is_file(shards->paths[i])) continue;
        char *pickle = hone_path_join(shards->folder, "pytorch_model.bin");
        const bool found = pickle && hone_is_file(pickle);
        hone_free(pickle);
        return hone_fail(err, HONE_ERROR_INPUT, "%s: is missing%s", shards->paths[i],
                         found ? "; pytorch_model.bin can run code when it is read and is never "
                                 "loaded: save the model again with safe_serialization=True"
                               : "");
    }
    return HONE_OK;
}

static hone_status map_shards(Shards *shards, FileMap *map, HoneError *err) {
    const size_t count = (size_t)shards->count;
    shards->begin = hone_arena_calloc(&shards->memory, count, sizeof *shards->begin);
    shards->bytes = hone_arena_calloc(&shards->memory, count, sizeof *shards->bytes);
    shards->files = hone_arena_calloc(&shards->memory, count, sizeof *shards->files);
    if (!shards->begin || !shards->bytes || !shards->files)
        return hone_fail_memory(err, count * sizeof *shards->files, "files");
    RETURN_IF_ERROR(hone_files_map(shards->folder, shards->paths, shards->count, map, shards->begin,
                                   shards->bytes, err));
    for (int i = 0; i < shards->count; i++) {
        const unsigned char *data = shards->bytes[i] ? map->data + shards->begin[i] : NULL;
        RETURN_IF_ERROR(hone_safetensors_parse(shards->paths[i], data, shards->bytes[i],
                                               &shards->files[i], err));
    }
    return HONE_OK;
}

// ---- tensors -----------------------------------------------------------------------------------

// GPT-2's matrices are (in, out): GGUF has them the other way round.
static hone_status transpose(GgufFile *file, GgufTensor *tensor, HoneError *err) {
    const size_t size = (size_t)hone_dtype_info(tensor->dtype)->block_bytes;
    const size_t rows = (size_t)tensor->shape[0], columns = (size_t)tensor->shape[1];
    const char *from = tensor->data;
    char *to = hone_arena_alloc(file->made, tensor->bytes + 1);
    if (!to) return hone_fail_memory(err, tensor->bytes, tensor->name);
    enum { TILE = 32 }; // both sides stay in the cache
    for (size_t first = 0; first < rows; first += TILE)
        for (size_t c = 0; c < columns; c++)
            for (size_t r = first; r < rows && r < first + TILE; r++)
                memcpy(to + (c * rows + r) * size, from + (r * columns + c) * size, size);
    tensor->data = to;
    tensor->shape[0] = (int64_t)columns;
    tensor->shape[1] = (int64_t)rows;
    return HONE_OK;
}

// Gemma's norms are stored less 1; GGUF has them whole.
static hone_status add_one(GgufFile *file, GgufTensor *tensor, HoneError *err) {
    const int64_t count = tensor->shape[0];
    const size_t bytes = (size_t)count * sizeof(float);
    float *values = hone_arena_alloc(file->made, bytes + 1);
    if (!values) return hone_fail_memory(err, bytes, tensor->name);
    hone_adapter_unpack(tensor->dtype, tensor->data, count, values);
    for (int64_t i = 0; i < count; i++) values[i] += 1;
    tensor->data = values;
    tensor->dtype = HONE_F32;
    tensor->bytes = bytes;
    return HONE_OK;
}

static hone_status add_tensor(GgufFile *file, const HfConfig *config, const char *path,
                              const SafeTensor *stored, HoneError *err) {
    GgufTensor *tensor = &file->tensors[file->tensor_count];
    *tensor = (GgufTensor){
        .dtype = stored->dtype, .rank = stored->rank, .data = stored->data, .bytes = stored->bytes};
    const bool encoder = hone_hf_is_encoder(config->architecture);
    if (hone_hf_is_constant(stored->name) || (encoder && hone_hf_encoder_ignores(stored->name)) ||
        (hone_is_t5(config->architecture) && hone_t5_is_copy(stored->name)))
        return HONE_OK;
    if (!hone_hf_gguf_name(config->architecture, stored->name, tensor->name))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.100s is not part of a %s model as Hone computes it", path,
                         stored->name, config->architecture);
    if (config->tied && strcmp(tensor->name, "output.weight") == 0) return HONE_OK;
    if (stored->dtype != HONE_F32 && stored->dtype != HONE_F16 && stored->dtype != HONE_BF16)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.100s has type %s; F32, F16 and BF16 can be read", path,
                         stored->name, stored->type_name);
    if (stored->rank < 1 || stored->rank > 2)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: tensor %.100s has %d dimensions", path,
                         stored->name, stored->rank);
    for (int axis = 0; axis < 4; axis++)
        tensor->shape[axis] = axis < stored->rank ? stored->shape[axis] : 1;
    const AdapterBase base = {.architecture = config->architecture};
    const bool linear = strncmp(tensor->name, "blk.", 4) == 0 && stored->rank == 2;
    if (linear && hone_adapter_in_out(&base)) RETURN_IF_ERROR(transpose(file, tensor, err));
    if (hone_hf_family_of(config->architecture)->gemma && stored->rank == 1)
        RETURN_IF_ERROR(add_one(file, tensor, err));
    return hone_gguf_enter_tensor(file, err);
}

static hone_status add_rope_factors(GgufFile *file, const HfConfig *config, HoneError *err) {
    if (!config->scaled) return HONE_OK;
    const int64_t half = config->head_size / 2;
    float *values = hone_arena_alloc(file->made, (size_t)half * sizeof *values + 1);
    if (!values) return hone_fail_memory(err, (size_t)half * sizeof *values, "positions");
    hone_hf_rope_factors(config, values);
    file->tensors[file->tensor_count] = (GgufTensor){.name = "rope_freqs.weight",
                                                     .dtype = HONE_F32,
                                                     .rank = 1,
                                                     .shape = {half, 1, 1, 1},
                                                     .data = values,
                                                     .bytes = (size_t)half * sizeof *values};
    return hone_gguf_enter_tensor(file, err);
}

static hone_status add_factors(GgufFile *file, const char *name, const json_t *list,
                               HoneError *err) {
    if (!list) return HONE_OK;
    const size_t count = json_array_size(list);
    float *values = hone_arena_alloc(file->made, count * sizeof *values + 1);
    if (!values) return hone_fail_memory(err, count * sizeof *values, "positions");
    for (size_t i = 0; i < count; i++)
        values[i] = (float)json_number_value(json_array_get(list, i));
    GgufTensor *tensor = &file->tensors[file->tensor_count];
    *tensor = (GgufTensor){.dtype = HONE_F32,
                           .rank = 1,
                           .shape = {(int64_t)count, 1, 1, 1},
                           .data = values,
                           .bytes = count * sizeof *values};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return hone_gguf_enter_tensor(file, err);
}

static hone_status check_gate(const GgufFile *file, const HfConfig *config, const char *folder,
                              HoneError *err) {
    const bool found = hone_gguf_tensor(file, "enc.blk.0.ffn_gate.weight") != NULL;
    if (found == config->gated) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: tensor encoder.block.0.layer.1.DenseReluDense.wi_0.weight is %s, "
                     "config.json's feed_forward_proj is %s",
                     folder, found ? "there" : "missing", config->gated ? "gated-gelu" : "relu");
}

// config.json and the files must say the same of biases: one alone would go unseen.
static hone_status check_biases(const GgufFile *file, const HfConfig *config, const char *folder,
                                HoneError *err) {
    const struct {
        const char *name;
        bool wanted;
    } biases[] = {{"blk.0.attn_q.bias", config->qkv_bias},
                  {"blk.0.attn_output.bias", config->output_bias},
                  {"blk.0.ffn_up.bias", config->feed_forward_bias}};
    if (strcmp(config->architecture, "gpt2") == 0 || hone_hf_is_encoder(config->architecture))
        return HONE_OK; // always there
    if (hone_is_t5(config->architecture)) return check_gate(file, config, folder, err);
    for (int i = 0; i < 3; i++) {
        const bool found = hone_gguf_tensor(file, biases[i].name) != NULL;
        if (found == biases[i].wanted) continue;
        char stored[HF_STORED_NAME] = "";
        hone_hf_name(config->architecture, false, biases[i].name, stored);
        return hone_fail(err, HONE_ERROR_INPUT, "%s: tensor %s is %s, config.json says %s biases",
                         folder, stored, found ? "there" : "missing",
                         biases[i].wanted ? "that there are" : "nothing of");
    }
    return HONE_OK;
}

static hone_status add_tensors(GgufFile *file, const HfConfig *config, const Shards *shards,
                               HoneError *err) {
    for (int s = 0; s < shards->count; s++)
        for (int64_t i = 0; i < shards->files[s].count; i++)
            RETURN_IF_ERROR(
                add_tensor(file, config, shards->paths[s], &shards->files[s].tensors[i], err));
    RETURN_IF_ERROR(add_rope_factors(file, config, err));
    RETURN_IF_ERROR(add_factors(file, "rope_factors_short.weight", config->short_factors, err));
    RETURN_IF_ERROR(add_factors(file, "rope_factors_long.weight", config->long_factors, err));
    RETURN_IF_ERROR(check_biases(file, config, shards->folder, err));
    if (!config->tied && !hone_gguf_tensor(file, "output.weight"))
        return hone_fail(
            err, HONE_ERROR_INPUT,
            "%s: tensor lm_head.weight is missing, and tie_word_embeddings is not true",
            shards->folder);
    return HONE_OK;
}

// ---- the whole ---------------------------------------------------------------------------------

// What else is read has as many entries as the embedding has rows, so the file bounds it.
static hone_status check_vocabulary(const Shards *shards, const HfConfig *config, HoneError *err) {
    char name[HF_NAME];
    for (int s = 0; s < shards->count; s++)
        for (int64_t i = 0; i < shards->files[s].count; i++) {
            const SafeTensor *tensor = &shards->files[s].tensors[i];
            if (!hone_hf_gguf_name(config->architecture, tensor->name, name) ||
                strcmp(name, "token_embd.weight") != 0)
                continue;
            if (tensor->rank == 2 && tensor->shape[0] == config->vocabulary && tensor->bytes > 0)
                return HONE_OK;
            return hone_fail(err, HONE_ERROR_INPUT,
                             "%s: tensor %s has %lld rows, config.json's vocab_size is %lld",
                             shards->paths[s], tensor->name,
                             (long long)(tensor->rank ? tensor->shape[0] : 0),
                             (long long)config->vocabulary);
        }
    return hone_fail(err, HONE_ERROR_INPUT, "%s: no file has the embedding of a %s model",
                     shards->folder, config->architecture);
}

static hone_status read_parts(Shards *shards, const json_t *root, HfKeys *keys, GgufFile *file,
                              HoneError *err) {
    HfConfig config;
    int64_t tensors = 3; // scaled positions
    RETURN_IF_ERROR(hone_hf_config(shards->folder, root, &config, keys, err));
    RETURN_IF_ERROR(list_shards(shards, err));
    RETURN_IF_ERROR(check_there(shards, err));
    RETURN_IF_ERROR(map_shards(shards, &file->map, err));
    RETURN_IF_ERROR(check_vocabulary(shards, &config, err));
    RETURN_IF_ERROR(hone_hf_tokenizer(shards->folder, root, config.vocabulary, keys, err));
    RETURN_IF_ERROR(hone_hf_generation(shards->folder, root, config.vocabulary, keys, err));
    if (hone_hf_is_encoder(config.architecture))
        RETURN_IF_ERROR(hone_hf_sentence(shards->folder, config.architecture, keys, err));
    RETURN_IF_ERROR(hone_hf_metadata(shards->folder, config.vocabulary, keys, err));
    for (int i = 0; i < shards->count; i++) tensors += shards->files[i].count;
    if (keys->bytes.failed) return hone_fail_memory(err, keys->bytes.length, "metadata");
    const size_t bytes = keys->bytes.length;
    file->metadata = keys->bytes.data; // from now on the file's
    keys->bytes = (TextBuffer){0};
    file->hugging_face = true;
    file->made = hone_calloc(1, sizeof *file->made);
    if (!file->made) return hone_fail_memory(err, sizeof *file->made, "tensors");
    RETURN_IF_ERROR(hone_gguf_from_keys(file->metadata, bytes, keys->count, tensors, file, err));
    return add_tensors(file, &config, shards, err);
}

hone_status hone_hf_open(const char *folder, GgufFile *file, HoneError *err) {
    *file = (GgufFile){0};
    json_t *root;
    RETURN_IF_ERROR(hone_hf_json(folder, "config.json", true, 0, &root, err));
    Shards shards = {.folder = folder};
    HfKeys keys = {0};
    hone_status status = read_parts(&shards, root, &keys, file, err);
    json_decref(root);
    for (int i = 0; i < shards.count && shards.files; i++) hone_safetensors_close(&shards.files[i]);
    hone_text_free(&keys.bytes);
    hone_arena_free(&shards.memory);
    if (status != HONE_OK) hone_gguf_close(file);
    return status;
}

hone_status hone_model_file_open(const char *path, GgufFile *file, HoneError *err) {
    // The folder of a run is taken for a model easily.
    if (hone_is_directory(path) && !holds(path, "config.json")) {
        *file = (GgufFile){0};
        if (holds(path, "model.gguf"))
            return hone_fail(err, HONE_ERROR_INPUT, "%s: the model in this folder is %s/model.gguf",
                             path, path);
        if (holds(path, "adapter_config.json"))
            return hone_fail(err, HONE_ERROR_INPUT,
                             "%s: is an adapter, not a model: give it as --adapter, and its base "
                             "as --model",
                             path);
    }
    return hone_is_directory(path) ? hone_hf_open(path, file, err)
                                   : hone_gguf_open(path, file, err);
}
