// SPDX-License-Identifier: Apache-2.0
// The public model calls: facts, text and tokens, adapters attached for use.
#include "train/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tensor/dora.h"

#include "hub/cache.h"

static const char *weight_types(HoneModel *model) {
    int64_t counts[HONE_DTYPE_LIMIT] = {0};
    for (int64_t i = 0; i < model->file.tensor_count; i++) {
        int dtype = model->file.tensors[i].dtype;
        if (dtype >= 0 && dtype < HONE_DTYPE_LIMIT) counts[dtype]++;
    }
    TextBuffer text = {0};
    for (int listed = 0; listed < HONE_DTYPE_LIMIT; listed++) {
        int most = -1; // most frequent first
        for (int dtype = 0; dtype < HONE_DTYPE_LIMIT; dtype++)
            if (counts[dtype] && (most < 0 || counts[dtype] > counts[most])) most = dtype;
        if (most < 0) break;
        hone_text_printf(&text, "%s%s %lld", text.length ? ", " : "", hone_dtype_name(most),
                         (long long)counts[most]);
        counts[most] = 0;
    }
    char *copy = text.data ? hone_arena_strndup(&model->memory, text.data, text.length) : NULL;
    hone_text_free(&text);
    return copy ? copy : "";
}

static const char *string_key(const HoneModel *model, const char *name) {
    GgufString value;
    if (!hone_gguf_key(&model->file, name) ||
        hone_gguf_string(&model->file, name, &value, NULL) != HONE_OK)
        return "";
    HoneModel *owner =
        (HoneModel *)(uintptr_t)model; // its arena grows, its meaning does not change
    char *copy = hone_arena_strndup(&owner->memory, value.data, value.length);
    return copy ? copy : "";
}

void hone_model_info(const HoneModel *model, HoneModelInfo *info) {
    const ModelConfig *config = &model->config;
    *info = (HoneModelInfo){
        .path = model->name,
        .architecture = config->architecture,
        .name = string_key(model, "general.name"),
        .weight_types = weight_types((HoneModel *)(uintptr_t)model),
        .layers = config->layers,
        .heads = config->heads,
        .kv_heads = config->kv_heads,
        .head_size = config->head_size,
        .channels = config->channels,
        .feed_forward = config->feed_forward,
        .vocabulary = config->vocabulary,
        .context = config->context,
        .parameters = hone_model_parameters(model),
        .file_bytes = (int64_t)model->file.map.bytes,
        .tied_head = config->tied_head,
        .has_template = model->chat_template != NULL,
        .tokenizer = string_key(model, "tokenizer.ggml.model"),
        .pre_tokenizer = string_key(model, "tokenizer.ggml.pre"),
    };
}

hone_status hone_model_set_template(HoneModel *model, const char *path) {
    HoneError *err = hone_begin(model->context);
    char *text;
    size_t length;
    RETURN_IF_ERROR(hone_file_read(path, &text, &length, err));
    ChatTemplate *parsed = NULL;
    hone_status status = hone_template_parse(path, text, length, &parsed, err);
    hone_free(text);
    RETURN_IF_ERROR(status);
    hone_template_free(model->chat_template);
    model->chat_template = parsed;
    return HONE_OK;
}

// ---- text and tokens ---------------------------------------------------------------------------

hone_status hone_model_tokenize(HoneModel *model, const char *text, size_t length, bool special,
                                int32_t **tokens, int64_t *count) {
    HoneError *err = hone_begin(model->context);
    return hone_copy_tokens(model->tokenizer, text, length, special, tokens, count, err);
}

hone_status hone_model_detokenize(HoneModel *model, const int32_t *tokens, int64_t count,
                                  bool special, char **text, size_t *length) {
    HoneError *err = hone_begin(model->context);
    *text = NULL;
    *length = 0;
    RETURN_IF_ERROR(hone_check_tokens(model->tokenizer, tokens, count, err));
    TextBuffer buffer = {0};
    for (int64_t i = 0; i < count; i++) {
        TokenizerText piece = hone_token_bytes(model->tokenizer, tokens[i], special);
        hone_text_append(&buffer, piece.data, piece.length);
    }
    return hone_give_text(&buffer, text, length, err);
}

// ---- adapters ----------------------------------------------------------------------------------

AdapterBase hone_model_adapter_base(const HoneModel *model) {
    return (AdapterBase){.architecture = model->config.architecture,
                         .path = model->name,
                         .experts = model->config.experts,
                         .heads = model->config.heads,
                         .kv_heads = model->config.kv_heads,
                         .head_size = model->config.head_size,
                         .rope_interleaved = model->config.rope_interleaved,
                         .tied_head = model->config.tied_head,
                         .gated = model->config.gated};
}

hone_status hone_slot_add_adapter(HoneModel *model, ParameterSlot *slot, Adapter adapter,
                                  Adapter **added) {
    HoneError *err = &model->context->error;
    Weight *weight = slot->weight;
    size_t used = (size_t)slot->adapters * sizeof(Adapter);
    Adapter *grown = hone_realloc(weight->adapters, used, used + sizeof(Adapter));
    if (!grown) return hone_fail_memory(err, used + sizeof(Adapter), "an adapter");
    grown[slot->adapters++] = adapter;
    weight->adapters = grown;
    weight->adapter_count = model->adapters_enabled ? slot->adapters : 0;
    weight->gain = model->adapters_enabled ? slot->gain : (Tensor){0};
    if (added) *added = &grown[slot->adapters - 1];
    return HONE_OK;
}

static Tensor borrowed_matrix(const float *values, int64_t rows, int64_t columns) {
    return (Tensor){
        .dtype = HONE_F32, .rank = 2, .shape = {rows, columns}, .data = (void *)(uintptr_t)values};
}

hone_status hone_check_pair(HoneModel *model, const char *path, const AdapterPair *pair) {
    HoneError *err = &model->context->error;
    const ParameterSlot *slot = hone_model_slot(model, pair->name);
    if (!slot || !slot->weight || !slot->target)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: adapts %s, which is not a matrix of the model %s", path, pair->name,
                         model->path);
    const int64_t *shape = slot->tensor->shape;
    if (pair->out != shape[0] || pair->in != shape[1])
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: adapts %s of shape (%lld, %lld), the model's is (%lld, %lld)", path,
                         pair->name, (long long)pair->out, (long long)pair->in, (long long)shape[0],
                         (long long)shape[1]);
    return HONE_OK;
}

// A frozen DoRA is row factors and a plain adapter: with g = magnitude/‖W + scale·B·A‖, all that
// was there is multiplied by f = 1 + weight·(g − 1), and weight·scale·(g ⊙ B)·A comes to it:
// several in turn, as PEFT has them.
static hone_status attach_gains(HoneModel *model, const char *path, ParameterSlot *slot,
                                const AdapterPair *pair, float weight, Adapter *adapter) {
    HoneError *err = &model->context->error;
    const int64_t out = pair->out;
    float *B = adapter->B.data, *gain = slot->gain.data;
    double *squares = hone_alloc((size_t)out * sizeof *squares);
    float *norms = hone_alloc((size_t)out * sizeof *norms);
    if (!gain) gain = hone_arena_alloc(&model->memory, (size_t)out * sizeof *gain);
    hone_status status = HONE_OK;
    if (!squares || !norms || !gain)
        status = hone_fail_memory(err, (size_t)out * sizeof *squares, pair->name);
    const KernelContext *kc = &model->context->kernels;
    if (status == HONE_OK) {
        hone_row_squares(kc, slot->tensor, squares);
        status = hone_adapted_norms(kc, slot->tensor, squares, &adapter->A, &adapter->B,
                                    pair->scale, norms, err);
    }
    for (int64_t i = 0; i < out && status == HONE_OK; i++) {
        if (!(norms[i] > 0))
            status = hone_fail(err, HONE_ERROR_INPUT,
                               "%s: row %lld of %s is zero with the adapter: DoRA has no direction "
                               "for it",
                               path, (long long)i, pair->name);
        const float g = pair->magnitude[i] / norms[i], f = 1 + weight * (g - 1);
        gain[i] = slot->gain.rank ? gain[i] * f : f;
        for (int64_t k = 0; k < pair->rank; k++) B[i * pair->rank + k] *= g;
        for (int a = 0; a < slot->adapters; a++) {
            const Tensor *before = &slot->weight->adapters[a].B;
            float *row = (float *)before->data + i * before->shape[1];
            for (int64_t k = 0; k < before->shape[1]; k++) row[k] *= f;
        }
    }
    if (status == HONE_OK)
        slot->gain = (Tensor){.dtype = HONE_F32, .rank = 1, .shape = {out}, .data = gain};
    hone_free(squares);
    hone_free(norms);
    return status;
}

// The pair's values are copied into the model's memory: the file is closed afterwards.
static hone_status attach_pair(HoneModel *model, const char *path, const AdapterPair *pair,
                               float weight) {
    HoneError *err = &model->context->error;
    RETURN_IF_ERROR(hone_check_pair(model, path, pair));
    ParameterSlot *slot = hone_model_slot(model, pair->name);
    size_t a_bytes = (size_t)(pair->rank * pair->in) * sizeof(float);
    size_t b_bytes = (size_t)(pair->out * pair->rank) * sizeof(float);
    float *values = hone_arena_alloc(&model->memory, a_bytes + b_bytes);
    if (!values) return hone_fail_memory(err, a_bytes + b_bytes, pair->name);
    memcpy(values, pair->A, a_bytes);
    memcpy(values + pair->rank * pair->in, pair->B, b_bytes);
    Adapter adapter = {.A = borrowed_matrix(values, pair->rank, pair->in),
                       .B = borrowed_matrix(values + pair->rank * pair->in, pair->out, pair->rank),
                       .scale = pair->scale * weight};
    if (pair->magnitude) RETURN_IF_ERROR(attach_gains(model, path, slot, pair, weight, &adapter));
    return hone_slot_add_adapter(model, slot, adapter, NULL);
}

// An adapter that holds a classifier says by labels.json which classes these are; where it is
// PEFT's own, how many. The model gets room for it.
static hone_status make_classes(HoneModel *model, const char *path, const AdapterFile *file) {
    HoneError *err = &model->context->error;
    int64_t rows = 0, count = 0;
    const char **labels = NULL;
    for (int64_t i = 0; i < file->whole_count; i++)
        if (strcmp(file->whole[i].name, "cls.output.weight") == 0) rows = file->whole[i].shape[0];
    if (rows == 0 || !hone_model_is_encoder(model->model)) return HONE_OK;
    RETURN_IF_ERROR(hone_labels_load(model, file->path, &labels, &count, err));
    if (count > 0 && count != rows)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: labels.json names %lld labels, the classifier has %lld", path,
                         (long long)count, (long long)rows);
    if (count == 0 && model->config.labels == rows) return HONE_OK;
    if (count == 0) {
        count = rows;
        labels = hone_arena_calloc(&model->memory, (size_t)rows, sizeof *labels);
        if (!labels) return hone_fail_memory(err, (size_t)rows * sizeof *labels, "labels");
        for (int64_t i = 0; i < rows; i++) {
            char name[32];
            snprintf(name, sizeof name, "LABEL_%lld", (long long)i);
            labels[i] = hone_arena_strndup(&model->memory, name, strlen(name));
            if (!labels[i]) return hone_fail_memory(err, sizeof name, "a label");
        }
    }
    return hone_model_add_classes(model, labels, count, 0, err);
}

hone_status hone_model_add_adapter(HoneModel *model, const char *path, float weight) {
    HoneError *err = hone_begin(model->context);
    AdapterBase base = hone_model_adapter_base(model);
    AdapterFile file;
    if (!isfinite(weight))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: its weight is %g, want a number", path,
                         (double)weight);
    if (model->adapter_paths == 64)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: more than 64 adapters", path);
    char *found;
    RETURN_IF_ERROR(hone_hub_resolve(path, &found, err));
    hone_status opened = hone_adapter_read(found, &base, &file, err);
    hone_free(found);
    RETURN_IF_ERROR(opened);
    hone_status made = make_classes(model, path, &file);
    if (made != HONE_OK) {
        hone_adapter_close(&file);
        return made;
    }
    char *kept = hone_arena_strndup(&model->memory, path, strlen(path));
    if (kept) model->adapter_path[model->adapter_paths++] = kept;
    hone_status status = HONE_OK;
    for (int64_t i = 0; i < file.count && status == HONE_OK; i++)
        status = attach_pair(model, path, &file.pairs[i], weight);
    for (int64_t i = 0; i < file.whole_count && status == HONE_OK; i++)
        status = hone_attach_whole(model, path, &file.whole[i], weight);
    hone_adapter_close(&file);
    return status;
}

void hone_model_enable_adapters(HoneModel *model, bool enabled) {
    model->adapters_enabled = enabled;
    const ParameterSlot *slot;
    for (int64_t i = 0; (slot = hone_adaptable_slot(model, i)); i++) {
        if (slot->whole.rank) *slot->tensor = enabled ? slot->whole : slot->stored;
        if (!slot->weight) continue;
        slot->weight->adapter_count = enabled ? slot->adapters : 0;
        slot->weight->gain = enabled ? slot->gain : (Tensor){0};
    }
}
