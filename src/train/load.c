// SPDX-License-Identifier: Apache-2.0
// From a GGUF file or a Hugging Face folder to a model: sizes, parameters, tokeniser, template. The
// weights stay in the map.
#include "train/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hub/cache.h"
#include "io/hf.h"
#include "train/load_config.h"

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

// A mixture of experts has thousands.
static hone_status index_slots(HoneModel *model, HoneError *err) {
    for (int64_t i = 0; i < model->slot_count; i++) {
        const char *name = model->slots[i].name;
        if (!hone_map_put(&model->slot_index, name, strlen(name), i))
            return hone_fail_memory(err, strlen(name), "an index of names");
    }
    return HONE_OK;
}

static bool is_rope_factors(const char *name) {
    return strcmp(name, "rope_freqs.weight") == 0 ||
           strcmp(name, "rope_factors_short.weight") == 0 ||
           strcmp(name, "rope_factors_long.weight") == 0;
}

// A tensor that the model does not use would be left out of the computation without a word.
static hone_status refuse_unused(HoneModel *model, HoneError *err) {
    for (int64_t i = 0; i < model->file.tensor_count; i++) {
        const char *name = model->file.tensors[i].name;
        if (is_rope_factors(name) || hone_model_slot(model, name)) continue;
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %s is not part of a %s model as Hone computes it", model->path,
                         name, model->config.architecture);
    }
    return HONE_OK;
}

static void make_tied_head(HoneModel *model) {
    if (!model->config.tied_head || hone_model_is_encoder(model->model)) return;
    Weight *head = hone_model_head(model->model);
    model->tied_head = (ParameterSlot){.name = "output.weight",
                                       .tensor = &head->base,
                                       .weight = head,
                                       .target = "head",
                                       .layer = -1};
}

// What divides the frequencies: a tensor of F32 with rotary/2 values above 0.
static hone_status rope_factors(HoneModel *model, const char *name, HoneError *err) {
    const GgufTensor *stored = hone_gguf_tensor(&model->file, name);
    if (!stored) return HONE_OK;
    int64_t want = model->config.rotary / 2;
    if (stored->dtype != HONE_F32 || stored->rank != 1 || stored->shape[0] != want)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s is %s with %lld values, want F32 with %lld",
                         model->path, name, hone_dtype_name(stored->dtype),
                         (long long)stored->shape[0], (long long)want);
    const float *factors = stored->data;
    for (int64_t j = 0; j < want; j++)
        if (!(factors[j] > 0) || !isfinite(factors[j]))
            return hone_fail(err, HONE_ERROR_INPUT, "%s: %s: value %lld is %g, want above 0",
                             model->path, name, (long long)j, (double)factors[j]);
    hone_model_set_rope_factors(model->model, factors);
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

static void forget_parameters(HoneModel *model) {
    hone_model_destroy(model->model);
    hone_map_free(&model->slot_index);
    model->model = NULL;
    model->slot_count = 0;
}

// The model that the file's keys and tensors make.
hone_status hone_model_build(HoneModel *model, HoneError *err) {
    if (model->model) forget_parameters(model);
    RETURN_IF_ERROR(hone_load_config(model, err));
    hone_status status = hone_model_make(&model->config, &model->model, err);
    if (status != HONE_OK) return hone_fail_in(err, "%s", model->name);
    RETURN_IF_ERROR(hone_model_visit(model->model, load_parameter, model, err));
    RETURN_IF_ERROR(index_slots(model, err));
    RETURN_IF_ERROR(refuse_unused(model, err));
    make_tied_head(model);
    RETURN_IF_ERROR(rope_factors(model, "rope_freqs.weight", err));
    return rope_factors(model, "rope_factors_short.weight", err);
}

// model->file is open.
static hone_status load_opened(HoneModel *model, HoneError *err) {
    if (model->context->copies) RETURN_IF_ERROR(hone_file_copy(&model->file.map, err));
    RETURN_IF_ERROR(hone_gguf_part_experts(&model->file, err));
    RETURN_IF_ERROR(hone_model_build(model, err));
    RETURN_IF_ERROR(hone_read_labels(model, err));
    RETURN_IF_ERROR(load_tokenizer(model, err));
    return load_template(model, err);
}

static hone_status load(HoneModel *model, const char *path, HoneError *err) {
    model->name = hone_arena_strndup(&model->memory, path, strlen(path));
    char *found;
    RETURN_IF_ERROR(hone_hub_resolve(path, &found, err)); // a name that was pulled
    model->path = hone_arena_strndup(&model->memory, found, strlen(found));
    hone_free(found);
    if (!model->name || !model->path) return hone_fail_memory(err, strlen(path), "a path");
    RETURN_IF_ERROR(hone_model_file_open(model->path, &model->file, err));
    return load_opened(model, err);
}

static hone_status create(HoneContext *context, HoneModel **model) {
    *model = hone_calloc(1, sizeof **model);
    if (!*model) return hone_fail_memory(&context->error, sizeof **model, "a model");
    (*model)->context = context;
    (*model)->adapters_enabled = true;
    return HONE_OK;
}

static hone_status keep_loaded(hone_status status, HoneModel *loaded, HoneModel **model) {
    if (status == HONE_OK)
        *model = loaded;
    else
        hone_model_free(loaded);
    return status;
}

hone_status hone_model_load(HoneContext *context, const char *path, HoneModel **model) {
    *model = NULL;
    HoneError *err = hone_begin(context);
    HoneModel *loaded;
    if (!path || !*path) return hone_fail(err, HONE_ERROR_ARGUMENT, "no model was given");
    RETURN_IF_ERROR(create(context, &loaded));
    return keep_loaded(load(loaded, path, err), loaded, model);
}

hone_status hone_model_load_file(HoneContext *context, const char *name, GgufFile *file,
                                 HoneModel **model) {
    *model = NULL;
    HoneModel *loaded;
    hone_status status = create(context, &loaded);
    if (status != HONE_OK) {
        hone_gguf_close(file);
        return status;
    }
    loaded->file = *file;
    *file = (GgufFile){0};
    loaded->name = loaded->path = hone_arena_strndup(&loaded->memory, name, strlen(name));
    status = loaded->name ? load_opened(loaded, &context->error)
                          : hone_fail_memory(&context->error, strlen(name), "a name");
    return keep_loaded(status, loaded, model);
}

void hone_model_free(HoneModel *model) {
    if (!model) return;
    for (int64_t i = 0; i < model->slot_count; i++)
        if (model->slots[i].weight) hone_free(model->slots[i].weight->adapters);
    if (model->tied_head.weight) hone_free(model->tied_head.weight->adapters);
    hone_template_free(model->chat_template);
    hone_tokenizer_free(model->tokenizer);
    hone_model_destroy(model->model);
    hone_gguf_close(&model->file);
    hone_map_free(&model->slot_index);
    hone_free(model->slots);
    hone_arena_free(&model->memory);
    hone_free(model);
}

ParameterSlot *hone_model_slot(HoneModel *model, const char *name) {
    if (model->slot_index.capacity > 0) {
        const int64_t found = hone_map_get(&model->slot_index, name, strlen(name), -1);
        if (found >= 0) return &model->slots[found];
    } else {
        for (int64_t i = 0; i < model->slot_count; i++)
            if (strcmp(model->slots[i].name, name) == 0) return &model->slots[i];
    }
    ParameterSlot *tied = &model->tied_head;
    return tied->weight && strcmp(tied->name, name) == 0 ? tied : NULL;
}

ParameterSlot *hone_adaptable_slot(HoneModel *model, int64_t number) {
    if (number < model->slot_count) return &model->slots[number];
    return number == model->slot_count && model->tied_head.weight ? &model->tied_head : NULL;
}

int64_t hone_model_parameters(const HoneModel *model) {
    int64_t count = 0;
    for (int64_t i = 0; i < model->slot_count; i++)
        count += hone_tensor_count(model->slots[i].tensor);
    return count;
}
