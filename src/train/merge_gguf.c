// SPDX-License-Identifier: Apache-2.0
// The model as one GGUF file: adapters merged in, tensors of a recipe's types.
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "train/merge.h"
#include "train/recipe.h"
#include "train/run.h"

static bool key_is(const GgufKey *key, const char *name) {
    return key->name.length == strlen(name) && memcmp(key->name.data, name, key->name.length) == 0;
}

// What is written, and how.
typedef struct Output {
    HoneModel *model;
    const Recipe *recipe;
    bool whole; // what nothing has changed takes the recipe's types too
    int64_t tensors;
    GgufTensor head; // the last of them where the model's file has none and needs one
} Output;

static const GgufTensor *tensor_of(const Output *output, int64_t i) {
    const GgufFile *file = &output->model->file;
    return i < file->tensor_count ? &file->tensors[i] : &output->head;
}

// Heads whose rows the model's file has in another order than a GGUF file.
static int moved_heads(const HoneModel *model, const GgufTensor *stored) {
    const AdapterBase base = hone_model_adapter_base(model);
    return hone_adapter_gguf_heads(&base, stored->name);
}

// Whether the tensor's bytes are no longer the file's.
static bool is_touched(HoneModel *model, const GgufTensor *stored) {
    return moved_heads(model, stored) || hone_is_changed(model, stored);
}

// An expert's matrix of the same stack; NULL: there is none.
static const GgufTensor *sibling(const Output *output, const char *stacked, int expert) {
    char name[GGUF_NAME];
    return hone_gguf_expert_name(stacked, expert, name)
               ? hone_gguf_tensor(&output->model->file, name)
               : NULL;
}

// Is it, or is another one of its stack, which is all of one type?
static bool stack_is_touched(const Output *output, const GgufTensor *stored) {
    char stacked[GGUF_NAME];
    int expert;
    const GgufTensor *other;
    if (!hone_gguf_expert(stored->name, stacked, &expert)) return is_touched(output->model, stored);
    for (expert = 0; (other = sibling(output, stacked, expert)); expert++)
        if (is_touched(output->model, other)) return true;
    return false;
}

static int type_of(const Output *output, const GgufTensor *stored, bool *falls_back) {
    const Recipe *recipe = output->recipe;
    HoneModel *model = output->model;
    return output->whole || stack_is_touched(output, stored)
               ? hone_recipe_type(recipe, model, stored, falls_back)
               : hone_recipe_type_untouched(recipe, model, stored, falls_back);
}

static hone_status order_rows(const HoneModel *model, const GgufTensor *stored, float *values,
                              HoneError *err) {
    const size_t bytes = (size_t)hone_gguf_tensor_values(stored) * sizeof *values;
    float *copy = hone_alloc(bytes);
    if (!copy) return hone_fail_memory(err, bytes, stored->name);
    memcpy(copy, values, bytes);
    hone_adapter_rows_to_gguf(values, copy, moved_heads(model, stored), model->config.head_size,
                              (int)stored->shape[1]);
    hone_free(copy);
    return HONE_OK;
}

static hone_status write_changed(HoneModel *model, GgufWriter *writer, const GgufTensor *stored,
                                 int type, bool *merged, HoneError *err) {
    const int64_t count = hone_gguf_tensor_values(stored);
    const size_t bytes = hone_dtype_bytes(type, count);
    float *values = hone_alloc((size_t)count * sizeof *values);
    void *packed = type == HONE_F32 ? values : hone_alloc(bytes);
    hone_status status = HONE_OK;
    if (!values || !packed) status = hone_fail_memory(err, bytes, stored->name);
    if (status == HONE_OK) status = hone_merged_values(model, stored, values, merged, err);
    if (status == HONE_OK && moved_heads(model, stored))
        status = order_rows(model, stored, values, err);
    if (status == HONE_OK && packed != values)
        status = hone_values_pack(&model->context->kernels, type, values, packed, count,
                                  stored->name, err);
    if (status == HONE_OK) status = hone_gguf_write_part(writer, packed, bytes, err);
    if (packed != values) hone_free(packed);
    hone_free(values);
    return status;
}

// Below 8 bits a value, the scales left aside.
static bool is_narrow(int type) {
    const DtypeInfo *info = hone_dtype_info(type);
    return info->is_quantised && info->block_bytes < info->block;
}

static hone_status write_tensor(const Output *output, GgufWriter *writer, const GgufTensor *stored,
                                HoneMerged *merged, HoneError *err) {
    bool falls_back, changed = false;
    HoneModel *model = output->model;
    const int type = type_of(output, stored, &falls_back);
    const bool copied = type == stored->dtype && !is_touched(model, stored);
    if (copied)
        RETURN_IF_ERROR(hone_gguf_write_part(writer, stored->data, stored->bytes, err));
    else
        RETURN_IF_ERROR(write_changed(model, writer, stored, type, &changed, err));
    merged->tensors++;
    merged->merged += changed;
    merged->copied += copied;
    merged->fallbacks += falls_back;
    merged->narrow += changed && type == stored->dtype && is_narrow(type);
    if (type != stored->dtype && is_narrow(type) && hone_dtype_info(stored->dtype)->is_quantised &&
        merged->again++ == 0)
        snprintf(merged->again_from, sizeof merged->again_from, "%s",
                 hone_dtype_name(stored->dtype));
    merged->bytes += (int64_t)hone_dtype_bytes(type, hone_gguf_tensor_values(stored));
    return HONE_OK;
}

// "Q6_K 12, Q4_K 78, F32 61": the types of those written, most values first.
static void name_types(const Output *output, HoneMerged *merged) {
    int64_t values[HONE_DTYPE_LIMIT] = {0}, tensors[HONE_DTYPE_LIMIT] = {0};
    for (int64_t i = 0; i < output->tensors; i++) {
        bool falls_back;
        const GgufTensor *stored = tensor_of(output, i);
        const int type = type_of(output, stored, &falls_back);
        values[type] += hone_gguf_tensor_values(stored);
        tensors[type]++;
    }
    for (size_t used = 0;;) {
        int most = 0;
        for (int type = 0; type < HONE_DTYPE_LIMIT; type++)
            if (values[type] > values[most]) most = type;
        if (values[most] == 0) return;
        values[most] = 0;
        const int length =
            snprintf(merged->types + used, sizeof merged->types - used, "%s%s %lld",
                     used > 0 ? ", " : "", hone_dtype_name(most), (long long)tensors[most]);
        used += (size_t)length;
        if (used >= sizeof merged->types) return;
    }
}

// The tensors of a GGUF file: those here but for experts', which are stacked where the first is.
static void plan_tensor(const Output *output, GgufWriter *writer, const GgufTensor *stored,
                        int type) {
    char stacked[GGUF_NAME];
    int expert, experts = 0;
    if (!hone_gguf_expert(stored->name, stacked, &expert)) {
        hone_gguf_add_tensor(writer, stored->name, type, stored->rank, stored->shape);
        return;
    }
    while (sibling(output, stacked, experts)) experts++;
    const int64_t shape[3] = {experts, stored->shape[0], stored->shape[1]};
    if (expert == 0) hone_gguf_add_tensor(writer, stacked, type, 3, shape);
}

static hone_status write_planned(const Output *output, GgufWriter *writer, const GgufTensor *stored,
                                 HoneMerged *merged, HoneError *err) {
    char stacked[GGUF_NAME];
    int expert;
    if (!hone_gguf_expert(stored->name, stacked, &expert))
        return write_tensor(output, writer, stored, merged, err);
    for (int e = 0; expert == 0 && (stored = sibling(output, stacked, e)); e++)
        RETURN_IF_ERROR(write_tensor(output, writer, stored, merged, err));
    return HONE_OK;
}

// Whose loader in llama.cpp has no place for output.weight: a file with one is refused there.
static bool head_is_embedding(const char *architecture) {
    return strcmp(architecture, "gemma2") == 0;
}

static hone_status write_all(const Output *output, GgufWriter *writer, const char *path,
                             HoneMergeSink sink, void *user, HoneMerged *merged, HoneError *err) {
    const GgufFile *file = &output->model->file;
    const int file_type = hone_recipe_file_type(output->recipe, output->model);
    for (int64_t i = 0; i < file->key_count; i++) {
        const GgufKey *key = &file->keys[i];
        if ((key_is(key, "general.file_type") && file_type >= 0) ||
            key_is(key, "general.quantization_version") || key_is(key, "general.alignment"))
            continue;
        hone_gguf_put_raw(writer, key);
    }
    if (file_type >= 0) hone_gguf_put_u32(writer, "general.file_type", (uint32_t)file_type);
    bool quantised = false, falls_back;
    for (int64_t i = 0; i < output->tensors; i++) {
        const GgufTensor *stored = tensor_of(output, i);
        const int type = type_of(output, stored, &falls_back);
        quantised = quantised || hone_dtype_info(type)->is_quantised;
        plan_tensor(output, writer, stored, type);
    }
    if (quantised) hone_gguf_put_u32(writer, "general.quantization_version", 2);
    name_types(output, merged);
    merged->own_head =
        head_is_embedding(output->model->config.architecture) &&
        (output->tensors > file->tensor_count || hone_gguf_tensor(file, "output.weight"));
    RETURN_IF_ERROR(hone_gguf_writer_begin(writer, path, err));
    for (int64_t i = 0; i < output->tensors; i++) {
        RETURN_IF_ERROR(write_planned(output, writer, tensor_of(output, i), merged, err));
        if (sink && !sink(user, i + 1, output->tensors))
            return hone_fail(err, HONE_INTERRUPTED, "stopped; %s was not written", path);
    }
    return hone_gguf_writer_commit(writer, err);
}

hone_status hone_model_write(HoneModel *model, const char *type, bool whole, const char *path,
                             HoneMergeSink sink, void *user, HoneMerged *merged) {
    HoneError *err = &model->context->error;
    *merged = (HoneMerged){0};
    GgufWriter *writer = NULL;
    Output output = {.model = model, .whole = whole, .tensors = model->file.tensor_count};
    output.tensors += hone_untied_head(model, &output.head);
    RETURN_IF_ERROR(hone_recipe_find(type, model, "--type", &output.recipe, err));
    snprintf(merged->type, sizeof merged->type, "%s", hone_recipe_name(output.recipe));
    RETURN_IF_ERROR(hone_gguf_writer_create(&writer, err));
    hone_status status = write_all(&output, writer, path, sink, user, merged, err);
    hone_gguf_writer_free(writer);
    return status;
}

// A part of a split model, or a file of its folder.
static bool is_of_model(const HoneModel *model, const char *out) {
    bool found = hone_same_file(out, model->path);
    for (int64_t i = 1; i < model->file.parts && !found; i++) {
        char *part = hone_gguf_part_path(&model->file, i);
        found = part && hone_same_file(out, part);
        hone_free(part);
    }
    const char *slash = strrchr(out, '/');
    char *within =
        model->file.hugging_face ? hone_path_join(model->path, slash ? slash + 1 : out) : NULL;
    found = found || (within && hone_same_file(out, within));
    hone_free(within);
    return found;
}

// Would writing `out` replace one of the files that it is made from?
static bool is_an_input(const HoneModel *model, const char *out) {
    static const char *const parts[] = {"adapter.gguf", "adapter_model.safetensors",
                                        "adapter_config.json"};
    bool found = is_of_model(model, out);
    for (int i = 0; i < model->adapter_paths && !found; i++) {
        found = hone_same_file(out, model->adapter_path[i]);
        for (size_t p = 0; p < sizeof parts / sizeof *parts && !found; p++) {
            char *path = hone_path_join(model->adapter_path[i], parts[p]);
            found = path && hone_same_file(out, path);
            hone_free(path);
        }
    }
    return found;
}

static hone_status write_checked(HoneModel *model, const char *type, bool whole, const char *out,
                                 HoneMergeSink sink, void *user, HoneMerged *merged) {
    HoneError *err = hone_begin(model->context);
    const Recipe *recipe;
    RETURN_IF_ERROR(hone_recipe_find(type, model, "--type", &recipe, err));
    if (hone_is_directory(out))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: is a folder; --out names the GGUF file",
                         out);
    if (is_an_input(model, out))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%s: is one of the files that would be read; give --out another name",
                         out);
    if (!*out)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "--out is empty: name the GGUF file to write");
    return hone_model_write(model, type, whole, out, sink, user, merged);
}

hone_status hone_merge(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                       void *user, HoneMerged *merged) {
    return write_checked(model, type, false, out, sink, user, merged);
}

hone_status hone_convert(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                         void *user, HoneMerged *merged) {
    return write_checked(model, type, true, out, sink, user, merged);
}
