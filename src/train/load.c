// SPDX-License-Identifier: Apache-2.0
// From a GGUF file or a Hugging Face folder to a model: sizes, parameters, tokeniser, template. The
// weights stay in the map.
#include "train/session.h"

#include <stdio.h>
#include <string.h>

#include "hub/cache.h"
#include "io/hf.h"

// ---- sizes -------------------------------------------------------------------------------------

// Read A.suffix as an integer in [low, high]; absent: the given default, or an error if it is < 0.
static hone_status read_size(const GgufFile *file, const char *architecture, const char *suffix,
                             int64_t missing, int64_t low, int64_t high, int64_t *value,
                             HoneError *err) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", architecture, suffix);
    if (!hone_gguf_key(file, name) && missing >= 0) {
        *value = missing;
        return HONE_OK;
    }
    RETURN_IF_ERROR(hone_gguf_int(file, name, value, err));
    if (*value < low || *value > high)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s is %lld, want %lld…%lld", file->map.path,
                         name, (long long)*value, (long long)low, (long long)high);
    return HONE_OK;
}

static hone_status read_real(const GgufFile *file, const char *architecture, const char *suffix,
                             double missing, double *value, HoneError *err) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", architecture, suffix);
    *value = missing;
    if (!hone_gguf_key(file, name) && missing > 0) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_float(file, name, value, err));
    if (!(*value > 0))
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s is %g, want a number above 0",
                         file->map.path, name, *value);
    return HONE_OK;
}

// Position scalings that are not yet computed would give wrong numbers without a word: refuse them.
static hone_status refuse_scaling(const GgufFile *file, const char *architecture, HoneError *err) {
    char name[128];
    snprintf(name, sizeof name, "%s.rope.scaling.type", architecture);
    if (!hone_gguf_key(file, name)) return HONE_OK;
    GgufString type;
    RETURN_IF_ERROR(hone_gguf_string(file, name, &type, err));
    if (type.length == 4 && memcmp(type.data, "none", 4) == 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: %s is \"%.*s\"; only unscaled positions and rope_freqs.weight are "
                     "supported",
                     file->map.path, name, (int)type.length, type.data);
}

static hone_status read_config(HoneModel *model, HoneError *err) {
    const GgufFile *file = &model->file;
    GgufString name;
    if (!hone_gguf_key(file, "general.architecture"))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: has no general.architecture: it is not a model file", file->map.path);
    RETURN_IF_ERROR(hone_gguf_string(file, "general.architecture", &name, err));
    char *architecture = hone_arena_strndup(&model->memory, name.data, name.length);
    if (!architecture) return hone_fail_memory(err, name.length, "a name");
    GgufString kind;
    if (hone_gguf_key(file, "general.type") &&
        hone_gguf_string(file, "general.type", &kind, NULL) == HONE_OK && kind.length == 7 &&
        memcmp(kind.data, "adapter", 7) == 0)
        return hone_fail(
            err, HONE_ERROR_INPUT,
            "%s: is an adapter, not a model: give it as --adapter, and to hone convert "
            "its base as --model",
            file->map.path);
    const bool gpt2 = strcmp(architecture, "gpt2") == 0;
    if (!gpt2 && strcmp(architecture, "llama") != 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: architecture \"%s\" is not supported; supported: llama, gpt2",
                         file->map.path, architecture);
    RETURN_IF_ERROR(refuse_scaling(file, architecture, err));
    const int64_t large = (int64_t)1 << 24;
    int64_t layers, heads, kv_heads, key, value, rotary, vocabulary = 0, experts;
    double eps, base;
    ModelConfig *config = &model->config;
    *config = (ModelConfig){.architecture = architecture,
                            .rope_interleaved = !gpt2 && !file->hugging_face};
    RETURN_IF_ERROR(read_size(file, architecture, "expert_count", 0, 0, large, &experts, err));
    if (experts > 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: a mixture of %lld experts is not supported", file->map.path,
                         (long long)experts);
    RETURN_IF_ERROR(read_size(file, architecture, "block_count", -1, 1, 4096, &layers, err));
    RETURN_IF_ERROR(
        read_size(file, architecture, "embedding_length", -1, 1, large, &config->channels, err));
    RETURN_IF_ERROR(read_size(file, architecture, "feed_forward_length", -1, 1, large,
                              &config->feed_forward, err));
    RETURN_IF_ERROR(read_size(file, architecture, "context_length", -1, 1, (int64_t)1 << 31,
                              &config->context, err));
    RETURN_IF_ERROR(
        read_size(file, architecture, "attention.head_count", -1, 1, 65536, &heads, err));
    RETURN_IF_ERROR(
        read_size(file, architecture, "attention.head_count_kv", heads, 1, heads, &kv_heads, err));
    int64_t head_size = config->channels / heads;
    RETURN_IF_ERROR(
        read_size(file, architecture, "attention.key_length", head_size, 1, 256, &key, err));
    RETURN_IF_ERROR(
        read_size(file, architecture, "attention.value_length", head_size, 1, 256, &value, err));
    rotary = 0;
    if (!gpt2)
        RETURN_IF_ERROR(
            read_size(file, architecture, "rope.dimension_count", key, 1, key, &rotary, err));
    if (key != value)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: keys of size %lld and values of size %lld: they must be equal",
                         file->map.path, (long long)key, (long long)value);
    const char *epsilon =
        gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    RETURN_IF_ERROR(read_real(file, architecture, epsilon, -1, &eps, err));
    RETURN_IF_ERROR(read_real(file, architecture, "rope.freq_base", 10000, &base, err));
    const GgufTensor *embedding = hone_gguf_tensor(file, "token_embd.weight");
    if (embedding && embedding->rank == 2) vocabulary = embedding->shape[0];
    config->layers = (int)layers;
    config->heads = (int)heads;
    config->kv_heads = (int)kv_heads;
    config->head_size = (int)key;
    config->rotary = (int)rotary;
    config->vocabulary = vocabulary;
    config->norm_eps = (float)eps;
    config->rope_base = (float)base;
    config->tied_head = hone_gguf_tensor(file, "output.weight") == NULL;
    if (vocabulary == 0)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: has no matrix token_embd.weight",
                         file->map.path);
    return HONE_OK;
}

// ---- parameters --------------------------------------------------------------------------------

// Norms are read by f32 kernels: another type is converted once, into the model's own memory.
static hone_status convert_vector(HoneModel *model, Tensor *tensor, const GgufTensor *stored,
                                  HoneError *err) {
    int64_t count = hone_tensor_count(tensor);
    float *values = hone_arena_alloc(&model->memory, (size_t)count * sizeof *values);
    if (!values) return hone_fail_memory(err, (size_t)count * sizeof *values, stored->name);
    hone_dequantise(stored->dtype, stored->data, values, count);
    tensor->dtype = HONE_F32;
    tensor->data = values;
    return HONE_OK;
}

hone_status hone_model_add_slot(HoneModel *model, const ParameterVisit *visit, HoneError *err) {
    if (model->slot_count == model->slot_capacity) {
        int64_t capacity = model->slot_capacity ? model->slot_capacity * 2 : 64;
        ParameterSlot *grown = hone_realloc(model->slots, (size_t)model->slot_count * sizeof *grown,
                                            (size_t)capacity * sizeof *grown);
        if (!grown) return hone_fail_memory(err, (size_t)capacity * sizeof *grown, "parameters");
        model->slots = grown;
        model->slot_capacity = capacity;
    }
    ParameterSlot *slot = &model->slots[model->slot_count++];
    *slot = (ParameterSlot){.tensor = visit->tensor,
                            .weight = visit->weight,
                            .target = visit->target,
                            .layer = visit->layer};
    snprintf(slot->name, sizeof slot->name, "%s", visit->name);
    return HONE_OK;
}

static hone_status load_parameter(void *user, const ParameterVisit *visit, HoneError *err) {
    HoneModel *model = user;
    const char *path = model->file.map.path;
    const GgufTensor *stored = hone_gguf_tensor(&model->file, visit->name);
    Tensor *tensor = visit->tensor;
    if (!stored && visit->optional) return HONE_OK;
    if (!stored)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: tensor %s is missing", path, visit->name);
    if (!hone_dtype_is_weight(stored->dtype))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %s has type %s (%d); supported: F32 F16 BF16 Q4_0 Q4_1 Q5_0 "
                         "Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4",
                         path, visit->name, hone_dtype_name(stored->dtype), stored->dtype);
    Tensor found = {.rank = stored->rank};
    memcpy(found.shape, stored->shape, sizeof found.shape);
    bool same = stored->rank == tensor->rank;
    for (int axis = 0; same && axis < tensor->rank; axis++)
        same = stored->shape[axis] == tensor->shape[axis];
    if (!same) {
        char got[64], want[64];
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: tensor %s has shape %s, the model's sizes want %s", path, visit->name,
                         hone_shape_text(&found, got), hone_shape_text(tensor, want));
    }
    if (!visit->weight && stored->dtype != HONE_F32) {
        RETURN_IF_ERROR(convert_vector(model, tensor, stored, err));
    } else {
        tensor->dtype = (HoneDtype)stored->dtype;
        tensor->data = (void *)(uintptr_t)stored->data;
    }
    return hone_model_add_slot(model, visit, err);
}

// A tensor that the model does not use would be left out of the computation without a word.
static hone_status refuse_unused(HoneModel *model, HoneError *err) {
    for (int64_t i = 0; i < model->file.tensor_count; i++) {
        const char *name = model->file.tensors[i].name;
        if (strcmp(name, "rope_freqs.weight") == 0 || hone_model_slot(model, name)) continue;
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %s is not part of a %s model as Hone computes it", model->path,
                         name, model->config.architecture);
    }
    return HONE_OK;
}

static hone_status load_rope_factors(HoneModel *model, HoneError *err) {
    const GgufTensor *stored = hone_gguf_tensor(&model->file, "rope_freqs.weight");
    if (!stored) return HONE_OK;
    int64_t want = model->config.rotary / 2;
    if (stored->dtype != HONE_F32 || stored->rank != 1 || stored->shape[0] != want)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: rope_freqs.weight is %s with %lld values, want F32 with %lld",
                         model->path, hone_dtype_name(stored->dtype), (long long)stored->shape[0],
                         (long long)want);
    hone_model_set_rope_factors(model->model, stored->data);
    return HONE_OK;
}

// ---- tokeniser and template --------------------------------------------------------------------

static hone_status load_tokenizer(HoneModel *model, HoneError *err) {
    RETURN_IF_ERROR(hone_read_tokenizer(&model->file, &model->tokenizer, err));
    int64_t tokens = hone_tokenizer_size(model->tokenizer);
    if (tokens != model->config.vocabulary)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: %lld tokens, but token_embd.weight has %lld rows", model->path,
                         (long long)tokens, (long long)model->config.vocabulary);
    return HONE_OK;
}

static hone_status load_template(HoneModel *model, HoneError *err) {
    GgufString text;
    if (!hone_gguf_key(&model->file, "tokenizer.chat_template")) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_string(&model->file, "tokenizer.chat_template", &text, err));
    return hone_template_parse(model->path, text.data, text.length, &model->chat_template, err);
}

// ---- the whole ---------------------------------------------------------------------------------

static hone_status load(HoneModel *model, const char *path, HoneError *err) {
    model->name = hone_arena_strndup(&model->memory, path, strlen(path));
    char *found;
    RETURN_IF_ERROR(hone_hub_resolve(path, &found, err)); // a name that was pulled
    model->path = hone_arena_strndup(&model->memory, found, strlen(found));
    hone_free(found);
    if (!model->name || !model->path) return hone_fail_memory(err, strlen(path), "a path");
    RETURN_IF_ERROR(hone_model_file_open(model->path, &model->file, err));
    if (model->context->copies) RETURN_IF_ERROR(hone_file_copy(&model->file.map, err));
    RETURN_IF_ERROR(read_config(model, err));
    hone_status status = hone_model_make(&model->config, &model->model, err);
    if (status != HONE_OK) return hone_fail_in(err, "%s", path);
    RETURN_IF_ERROR(hone_model_visit(model->model, load_parameter, model, err));
    RETURN_IF_ERROR(refuse_unused(model, err));
    RETURN_IF_ERROR(load_rope_factors(model, err));
    RETURN_IF_ERROR(load_tokenizer(model, err));
    return load_template(model, err);
}

hone_status hone_model_load(HoneContext *context, const char *path, HoneModel **model) {
    *model = NULL;
    HoneError *err = hone_begin(context);
    if (!path || !*path) return hone_fail(err, HONE_ERROR_ARGUMENT, "no model was given");
    HoneModel *loaded = hone_calloc(1, sizeof *loaded);
    if (!loaded) return hone_fail_memory(err, sizeof *loaded, "a model");
    loaded->context = context;
    loaded->adapters_enabled = true;
    hone_status status = load(loaded, path, err);
    if (status != HONE_OK) {
        hone_model_free(loaded);
        return status;
    }
    *model = loaded;
    return HONE_OK;
}

void hone_model_free(HoneModel *model) {
    if (!model) return;
    for (int64_t i = 0; i < model->slot_count; i++)
        if (model->slots[i].weight) hone_free(model->slots[i].weight->adapters);
    hone_template_free(model->chat_template);
    hone_tokenizer_free(model->tokenizer);
    hone_model_destroy(model->model);
    hone_gguf_close(&model->file);
    hone_free(model->slots);
    hone_arena_free(&model->memory);
    hone_free(model);
}

ParameterSlot *hone_model_slot(HoneModel *model, const char *name) {
    for (int64_t i = 0; i < model->slot_count; i++)
        if (strcmp(model->slots[i].name, name) == 0) return &model->slots[i];
    return NULL;
}

int64_t hone_model_parameters(const HoneModel *model) {
    int64_t count = 0;
    for (int64_t i = 0; i < model->slot_count; i++)
        count += hone_tensor_count(model->slots[i].tensor);
    return count;
}
