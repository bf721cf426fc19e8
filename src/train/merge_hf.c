// SPDX-License-Identifier: Apache-2.0
// The model as a Hugging Face folder, adapters merged in: weights as transformers names and orders
// them in one safetensors file, then what stands beside them, config.json last.
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/adapter.h"
#include "io/hf_write.h"
#include "io/safetensors.h"
#include "train/merge.h"
#include "train/session.h"

typedef struct Output {
    HoneModel *model;
    AdapterBase base;
    const char *folder;
    bool same;                 // tensors of a float type keep it
    int dtype;                 // of the others
    const GgufTensor **stored; // of each entry
    GgufTensor head;           // where the model's file has none and needs one
    bool untied;
    SafeTensorEntry *entries;
    char (*names)[128];
    int64_t count, done;
    char *values; // of the tensor that is being written
    HoneMergeSink sink;
    void *user;
    HoneMerged *merged;
} Output;

// ---- types -------------------------------------------------------------------------------------

static bool is_float(int dtype) {
    return dtype == HONE_F32 || dtype == HONE_F16 || dtype == HONE_BF16;
}

// The float type that most of the values have; F16, the most exact of two bytes, for a model that
// is stored in less.
static int usual_float(const HoneModel *model) {
    int64_t values[HONE_DTYPE_LIMIT] = {0}, quantised = 0;
    int most = HONE_F16;
    for (int64_t i = 0; i < model->file.tensor_count; i++) {
        const GgufTensor *tensor = &model->file.tensors[i];
        if (tensor->rank < 2) continue;
        if (is_float(tensor->dtype))
            values[tensor->dtype] += hone_gguf_tensor_values(tensor);
        else
            quantised += hone_gguf_tensor_values(tensor);
    }
    for (int dtype = 0; dtype < HONE_DTYPE_LIMIT; dtype++)
        if (values[dtype] > values[most]) most = dtype;
    return values[most] >= quantised ? most : HONE_F16;
}

static hone_status choose_type(Output *output, const char *type, HoneError *err) {
    output->same = strcasecmp(type, "same") == 0 || strcasecmp(type, "auto") == 0;
    output->dtype = output->same ? usual_float(output->model) : hone_dtype_from_name(type);
    if (is_float(output->dtype)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "--type \"%s\": a Hugging Face folder has f32, f16 or bf16, or same", type);
}

// Whether the values come back as they are.
static hone_status fits(const float *values, int64_t count, int dtype, bool *exact,
                        HoneError *err) {
    const size_t bytes = hone_dtype_bytes(dtype, count);
    char *packed = hone_alloc(bytes + 1);
    float *again = hone_alloc((size_t)count * sizeof *again + 1);
    if (packed && again) {
        hone_quantise(dtype, values, packed, count, NULL);
        hone_dequantise(dtype, packed, again, count);
        *exact = memcmp(values, again, (size_t)count * sizeof *again) == 0;
    }
    const bool enough = packed && again;
    hone_free(packed);
    hone_free(again);
    return enough ? HONE_OK : hone_fail_memory(err, bytes, "a vector");
}

// Gemma's norms are stored less 1 in a folder.
static bool is_less_one(const Output *output, const GgufTensor *stored) {
    return stored->rank == 1 && strncmp(output->model->config.architecture, "gemma", 5) == 0;
}

static void take_one(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) values[i] -= 1;
}

// Vectors of a GGUF file are f32 whatever they were: they take the folder's type where that loses
// nothing.
static hone_status type_of(const Output *output, const GgufTensor *stored, int *dtype,
                           HoneError *err) {
    const bool keeps =
        stored->rank > 1 || (output->model->file.hugging_face && !is_less_one(output, stored));
    *dtype = output->same && keeps && is_float(stored->dtype) ? stored->dtype : output->dtype;
    if (stored->rank > 1 || *dtype == HONE_F32) return HONE_OK;
    const int64_t count = hone_gguf_tensor_values(stored);
    bool merged, exact = false;
    float *values = hone_alloc((size_t)count * sizeof *values + 1);
    if (!values) return hone_fail_memory(err, (size_t)count * sizeof *values, stored->name);
    hone_status status = hone_merged_values(output->model, stored, values, &merged, err);
    if (is_less_one(output, stored)) take_one(values, count);
    if (status == HONE_OK) status = fits(values, count, *dtype, &exact, err);
    if (!exact) *dtype = HONE_F32;
    hone_free(values);
    return status;
}

// ---- values ------------------------------------------------------------------------------------

// GPT-2's matrices are (in, out) in a folder.
static bool is_transposed(const Output *output, const GgufTensor *stored) {
    return stored->rank == 2 && strncmp(stored->name, "blk.", 4) == 0 &&
           hone_adapter_in_out(&output->base);
}

static void transpose(const float *from, float *to, int64_t rows, int64_t columns) {
    enum { TILE = 32 }; // both sides stay in the cache
    for (int64_t first = 0; first < rows; first += TILE)
        for (int64_t c = 0; c < columns; c++)
            for (int64_t r = first; r < rows && r < first + TILE; r++)
                to[c * rows + r] = from[r * columns + c];
}

// From the model's order of values to the folder's.
static hone_status reorder(const Output *output, const GgufTensor *stored, float **values,
                           HoneError *err) {
    const int heads = hone_adapter_permuted_heads(&output->base, stored->name);
    const bool transposed = is_transposed(output, stored);
    if (heads == 0 && !transposed) return HONE_OK;
    const size_t bytes = (size_t)hone_gguf_tensor_values(stored) * sizeof **values;
    float *ordered = hone_alloc(bytes + 1);
    if (!ordered) return hone_fail_memory(err, bytes, stored->name);
    if (transposed)
        transpose(*values, ordered, stored->shape[0], stored->shape[1]);
    else
        hone_adapter_rows_to_peft(ordered, *values, heads, output->model->config.head_size,
                                  (int)stored->shape[1]);
    hone_free(*values);
    *values = ordered;
    return HONE_OK;
}

static bool is_copied(const Output *output, const GgufTensor *stored, int dtype) {
    const ParameterSlot *slot = hone_model_slot(output->model, stored->name);
    const bool adapted = slot && slot->weight && slot->weight->adapter_count > 0;
    const bool trained = slot && slot->tensor->requires_grad;
    return dtype == stored->dtype && !adapted && !trained && !(slot && slot->whole.rank > 0);
}

static hone_status make_values(Output *output, const GgufTensor *stored, SafeTensorEntry *entry,
                               HoneError *err) {
    const int64_t count = hone_gguf_tensor_values(stored);
    const size_t bytes = hone_dtype_bytes(entry->dtype, count);
    float *values = hone_alloc((size_t)count * sizeof *values + 1);
    bool merged = false;
    if (!values) return hone_fail_memory(err, (size_t)count * sizeof *values, stored->name);
    hone_status status = hone_merged_values(output->model, stored, values, &merged, err);
    if (is_less_one(output, stored)) take_one(values, count);
    if (status == HONE_OK) status = reorder(output, stored, &values, err);
    output->merged->merged += merged;
    if (status != HONE_OK || entry->dtype == HONE_F32) {
        output->values = (char *)values;
    } else {
        output->values = hone_alloc(bytes + 1);
        status = !output->values
                     ? hone_fail_memory(err, bytes, stored->name)
                     : hone_values_pack(&output->model->context->kernels, entry->dtype, values,
                                        output->values, count, stored->name, err);
        hone_free(values);
    }
    entry->data = output->values;
    return status;
}

static hone_status next_tensor(void *user, SafeTensorEntry *entry, HoneError *err) {
    Output *output = user;
    const GgufTensor *stored = output->stored[entry - output->entries];
    hone_free(output->values);
    output->values = NULL;
    const bool copied = is_copied(output, stored, entry->dtype);
    const bool ordered = hone_adapter_permuted_heads(&output->base, stored->name) == 0 &&
                         !is_transposed(output, stored) && !is_less_one(output, stored);
    if (output->sink && !output->sink(output->user, output->done, output->count))
        return hone_fail(err, HONE_INTERRUPTED, "stopped; %s was not written", output->folder);
    output->done++;
    output->merged->tensors++;
    output->merged->copied += copied;
    output->merged->bytes +=
        (int64_t)hone_dtype_bytes(entry->dtype, hone_gguf_tensor_values(stored));
    if (!copied || !ordered) return make_values(output, stored, entry, err);
    entry->data = stored->data;
    return HONE_OK;
}

// ---- the files ---------------------------------------------------------------------------------

static hone_status list_tensors(Output *output, HoneError *err) {
    const GgufFile *file = &output->model->file;
    const size_t most = (size_t)file->tensor_count + output->untied;
    output->stored = hone_calloc(most, sizeof *output->stored);
    output->entries = hone_calloc(most, sizeof *output->entries);
    output->names = hone_calloc(most, sizeof *output->names);
    if (!output->stored || !output->entries || !output->names)
        return hone_fail_memory(err, most * sizeof *output->names, "a list of tensors");
    for (int64_t i = 0; i < (int64_t)most; i++) {
        const GgufTensor *stored = i < file->tensor_count ? &file->tensors[i] : &output->head;
        SafeTensorEntry *entry = &output->entries[output->count];
        if (!hone_hf_tensor_name(output->model->config.architecture, output->base.gated,
                                 stored->name, output->names[output->count]))
            continue; // scaled positions: hone_hf_check has refused what else there is
        *entry = (SafeTensorEntry){.name = output->names[output->count], .rank = stored->rank};
        memcpy(entry->shape, stored->shape, sizeof entry->shape);
        if (is_transposed(output, stored)) {
            entry->shape[0] = stored->shape[1];
            entry->shape[1] = stored->shape[0];
        }
        RETURN_IF_ERROR(type_of(output, stored, &entry->dtype, err));
        output->stored[output->count++] = stored;
    }
    return HONE_OK;
}

// "F16 212, F32 3"
static void name_types(const Output *output, HoneMerged *merged) {
    static const int dtypes[] = {HONE_F32, HONE_F16, HONE_BF16};
    size_t used = 0;
    for (size_t t = 0; t < sizeof dtypes / sizeof *dtypes; t++) {
        long long tensors = 0;
        for (int64_t i = 0; i < output->count; i++)
            tensors += output->entries[i].dtype == dtypes[t];
        if (tensors == 0) continue;
        used += (size_t)snprintf(merged->types + used, sizeof merged->types - used, "%s%s %lld",
                                 used > 0 ? ", " : "", hone_dtype_name(dtypes[t]), tensors);
    }
}

static void first_entry(void *user, const char *name) {
    char *first = user;
    if (!*first || strcmp(name, first) < 0) snprintf(first, 64, "%s", name);
}

// A file of another model beside these would be taken for a part of this one.
static hone_status check_folder(const char *folder, HoneError *err) {
    char entry[64] = "";
    if (!*folder)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "--out is empty: name the folder to write");
    if (hone_is_file(folder))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%s: is a file; --out names a folder for --to hf", folder);
    hone_directory_each(folder, first_entry, entry);
    if (*entry)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%s: holds %s already; --out names a new or an empty folder", folder,
                         entry);
    return hone_directory_check(folder, err);
}

static hone_status write_files(Output *output, const HfModel *described, HoneError *err) {
    const HoneModel *model = output->model;
    char *weights = hone_path_join(output->folder, "model.safetensors");
    if (!weights) return hone_fail_memory(err, strlen(output->folder), "a path");
    hone_status status =
        hone_safetensors_stream(weights, output->entries, output->count, next_tensor, output, err);
    if (status == HONE_OK)
        status =
            hone_hf_write_settings(output->folder, &model->file,
                                   model->file.hugging_face ? model->path : NULL, described, err);
    if (status != HONE_OK) {
        hone_file_remove(weights);
        hone_hf_remove_settings(output->folder);
    }
    hone_free(weights);
    return status;
}

// What positions were scaled from, 0: nothing. A model whose context ends there has more of it.
static double original_context(const HoneModel *model) {
    return hone_gguf_tensor(&model->file, "rope_factors_short.weight")
               ? (double)model->config.context
               : (double)model->config.rope_scaling.original;
}

static int64_t whole_context(const HoneModel *model) {
    char name[96];
    int64_t context;
    snprintf(name, sizeof name, "%s.context_length", model->config.architecture);
    return hone_gguf_int(&model->file, name, &context, NULL) == HONE_OK ? context
                                                                        : model->config.context;
}

static HfModel describe(const HoneModel *model, int dtype) {
    const ModelConfig *config = &model->config;
    return (HfModel){.architecture = config->architecture,
                     .layers = config->layers,
                     .width = config->channels,
                     .feed_forward = config->feed_forward,
                     .heads = config->heads,
                     .kv_heads = config->kv_heads,
                     .head_size = config->head_size,
                     .rotary = config->rotary,
                     .context = whole_context(model),
                     .vocabulary = config->vocabulary,
                     .norm_eps = (double)config->norm_eps,
                     .rope_base = (double)config->rope_base,
                     .tied = config->tied_head,
                     .gated = config->gated,
                     .qkv_bias = config->qkv_bias,
                     .output_bias = config->output_bias,
                     .feed_forward_bias = config->feed_forward_bias,
                     .embedding_scale = (double)config->embedding_scale,
                     .residual_scale = (double)config->residual_scale,
                     .attention_scale = (double)config->attention_scale,
                     .logit_scale = (double)config->logit_scale,
                     .attention_softcap = (double)config->attention_softcap,
                     .logit_softcap = (double)config->logit_softcap,
                     .window = config->window,
                     .slides = config->slides,
                     .turns = config->turns,
                     .sliding_base = (double)config->rope_base_sliding,
                     .rope_factor = (double)config->rope_scaling.factor,
                     .rope_magnitude = (double)config->rope_magnitude,
                     .yarn = config->rope_scaling.yarn,
                     .original = original_context(model),
                     .beta_fast = (double)config->rope_scaling.beta_fast,
                     .beta_slow = (double)config->rope_scaling.beta_slow,
                     .experts = config->experts,
                     .experts_used = config->experts_used,
                     .expert_size = config->expert_feed_forward,
                     .experts_normalised = config->experts_normalised,
                     .sparse = config->sparse,
                     .dtype = dtype};
}

static hone_status write_all(Output *output, HoneError *err) {
    HfModel described = describe(output->model, output->dtype);
    described.untied = output->untied;
    described.tied = described.tied && !output->untied;
    described.labels = output->model->labels;
    described.label_count = output->model->label_count;
    RETURN_IF_ERROR(hone_hf_check(&output->model->file, &described, err));
    RETURN_IF_ERROR(list_tensors(output, err));
    name_types(output, output->merged);
    const bool made = !hone_is_directory(output->folder);
    RETURN_IF_ERROR(hone_directory_make(output->folder, err));
    hone_status status = write_files(output, &described, err);
    if (status != HONE_OK && made) hone_directory_remove(output->folder);
    return status;
}

hone_status hone_merge_hf(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                          void *user, HoneMerged *merged) {
    HoneError *err = hone_begin(model->context);
    Output output = {.model = model,
                     .base = hone_model_adapter_base(model),
                     .folder = out,
                     .sink = sink,
                     .user = user,
                     .merged = merged};
    *merged = (HoneMerged){0};
    output.untied = hone_untied_head(model, &output.head);
    RETURN_IF_ERROR(choose_type(&output, type, err));
    RETURN_IF_ERROR(check_folder(out, err));
    const char *name = hone_dtype_name(output.dtype);
    for (int i = 0; name[i]; i++) merged->type[i] = (char)tolower((unsigned char)name[i]);
    hone_status status = write_all(&output, err);
    hone_free(output.values);
    hone_free(output.names);
    hone_free(output.entries);
    hone_free(output.stored);
    return status;
}
