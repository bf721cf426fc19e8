// SPDX-License-Identifier: Apache-2.0
// The model as one GGUF file: adapters merged in, matrices in one type.
#include "train/run.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

// GGUF's general.file_type of a file whose matrices are of this type.
static uint32_t file_type(int dtype) {
    static const struct {
        HoneDtype dtype;
        uint32_t number;
    } types[] = {{HONE_F32, 0},  {HONE_F16, 1},  {HONE_Q4_0, 2}, {HONE_Q4_1, 3},
                 {HONE_Q8_0, 7}, {HONE_Q5_0, 8}, {HONE_Q5_1, 9}, {HONE_BF16, 32}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((int)types[i].dtype == dtype) return types[i].number;
    return 0;
}

static bool key_is(const GgufKey *key, const char *name) {
    return key->name.length == strlen(name) && memcmp(key->name.data, name, key->name.length) == 0;
}

// What a tensor is stored as: matrices in the wanted type, norms and other vectors in f32. As
// llama.cpp has it: the head, or the embedding that serves as head, in no less than Q8_0; positions
// in f32; rows that are no whole blocks in F16.
static int stored_type(const HoneModel *model, const GgufTensor *tensor, int dtype) {
    if (tensor->rank < 2) return HONE_F32;
    const DtypeInfo *info = hone_dtype_info(dtype);
    if (!info->is_quantised) return dtype;
    if (strcmp(tensor->name, "position_embd.weight") == 0) return HONE_F32;
    if (tensor->shape[tensor->rank - 1] % info->block) return HONE_F16;
    const char *head = model->config.tied_head ? "token_embd.weight" : "output.weight";
    return strcmp(tensor->name, head) == 0 ? HONE_Q8_0 : dtype;
}

// values (rows·columns) = W + Σ scale·B·A, in f32.
static hone_status merged_values(HoneModel *model, const GgufTensor *stored, ParameterSlot *slot,
                                 float *values, int64_t count, bool *changed, HoneError *err) {
    const Tensor *tensor = slot ? slot->tensor : NULL;
    *changed = false;
    if (tensor)
        hone_dequantise(tensor->dtype, tensor->data, values, count);
    else
        hone_dequantise(stored->dtype, stored->data, values, count);
    if (!slot || !slot->weight) return HONE_OK;
    for (int i = 0; i < slot->weight->adapter_count; i++) {
        const Adapter *adapter = &slot->weight->adapters[i];
        int64_t rank = adapter->A.shape[0], in = adapter->A.shape[1], out = adapter->B.shape[0];
        MatmulArgs args = {.M = out,
                           .N = in,
                           .K = rank,
                           .A = adapter->B.data,
                           .lda = rank,
                           .B = adapter->A.data,
                           .b_type = HONE_F32,
                           .ldb = in,
                           .C = values,
                           .ldc = in,
                           .alpha = adapter->scale,
                           .accumulate = true};
        const KernelContext *kc = &model->context->kernels;
        size_t bytes = hone_matmul_scratch(kc, &args);
        void *scratch = hone_alloc(bytes);
        if (!scratch) return hone_fail_memory(err, bytes, "merging");
        hone_matmul(kc, &args, scratch);
        hone_free(scratch);
        *changed = true;
    }
    return HONE_OK;
}

typedef struct QuantiseTask {
    int type;
    int64_t count;
    const float *values;
    char *packed;
    atomic_bool spoilt; // a value has no place in a block
} QuantiseTask;

enum { TASK_VALUES = 1 << 16 }; // whole blocks of every type

static void quantise_task(void *argument, int64_t task, int worker) {
    (void)worker;
    QuantiseTask *work = argument;
    const int64_t first = task * TASK_VALUES, left = work->count - first;
    const int64_t count = left < TASK_VALUES ? left : TASK_VALUES;
    const float *values = work->values + first;
    bool finite = true;
    for (int64_t i = 0; i < count; i++) finite = finite && isfinite(values[i]);
    if (!finite && hone_dtype_info(work->type)->is_quantised)
        atomic_store(&work->spoilt, true);
    else
        hone_quantise(work->type, values, work->packed + hone_dtype_bytes(work->type, first), count,
                      NULL);
}

static hone_status quantise_rows(const KernelContext *kc, int type, const float *values,
                                 void *packed, int64_t count, const char *name, HoneError *err) {
    QuantiseTask work = {.type = type, .count = count, .values = values, .packed = packed};
    hone_pool_run(kc->pool, (count + TASK_VALUES - 1) / TASK_VALUES, quantise_task, &work);
    if (!work.spoilt) return HONE_OK;
    return hone_fail(err, HONE_ERROR_NUMERIC, "%s: holds NaN or infinity, which %s cannot store",
                     name, hone_dtype_name(type));
}

static hone_status write_tensor(HoneModel *model, GgufWriter *writer, const GgufTensor *stored,
                                int dtype, HoneMerged *merged, HoneError *err) {
    int64_t count = 1;
    for (int axis = 0; axis < stored->rank; axis++) count *= stored->shape[axis];
    int type = stored_type(model, stored, dtype);
    size_t bytes = hone_dtype_bytes(type, count);
    float *values = hone_alloc((size_t)count * sizeof *values);
    void *packed = type == HONE_F32 ? values : hone_alloc(bytes);
    hone_status status = HONE_OK;
    if (!values || !packed) status = hone_fail_memory(err, bytes, stored->name);
    bool changed = false;
    if (status == HONE_OK)
        status = merged_values(model, stored, hone_model_slot(model, stored->name), values, count,
                               &changed, err);
    if (status == HONE_OK && packed != values)
        status =
            quantise_rows(&model->context->kernels, type, values, packed, count, stored->name, err);
    if (status == HONE_OK) status = hone_gguf_write_tensor(writer, packed, bytes, err);
    if (packed != values) hone_free(packed);
    hone_free(values);
    merged->tensors++;
    merged->merged += changed;
    merged->bytes += (int64_t)bytes;
    return status;
}

static hone_status write_all(HoneModel *model, GgufWriter *writer, int dtype, const char *path,
                             HoneMergeSink sink, void *user, HoneMerged *merged, HoneError *err) {
    const GgufFile *file = &model->file;
    for (int64_t i = 0; i < file->key_count; i++) {
        const GgufKey *key = &file->keys[i];
        if (key_is(key, "general.file_type") || key_is(key, "general.quantization_version") ||
            key_is(key, "general.alignment"))
            continue;
        hone_gguf_put_raw(writer, key);
    }
    hone_gguf_put_u32(writer, "general.file_type", file_type(dtype));
    if (hone_dtype_info(dtype)->is_quantised)
        hone_gguf_put_u32(writer, "general.quantization_version", 2);
    for (int64_t i = 0; i < file->tensor_count; i++) {
        const GgufTensor *stored = &file->tensors[i];
        hone_gguf_add_tensor(writer, stored->name, stored_type(model, stored, dtype), stored->rank,
                             stored->shape);
    }
    RETURN_IF_ERROR(hone_gguf_writer_begin(writer, path, err));
    for (int64_t i = 0; i < file->tensor_count; i++) {
        RETURN_IF_ERROR(write_tensor(model, writer, &file->tensors[i], dtype, merged, err));
        if (sink && !sink(user, i + 1, file->tensor_count))
            return hone_fail(err, HONE_INTERRUPTED, "stopped; %s was not written", path);
    }
    return hone_gguf_writer_commit(writer, err);
}

hone_status hone_model_write(HoneModel *model, int dtype, const char *path, HoneMergeSink sink,
                             void *user, HoneMerged *merged) {
    HoneError *err = &model->context->error;
    *merged = (HoneMerged){0};
    GgufWriter *writer = NULL;
    RETURN_IF_ERROR(hone_gguf_writer_create(&writer, err));
    hone_status status = write_all(model, writer, dtype, path, sink, user, merged, err);
    hone_gguf_writer_free(writer);
    return status;
}

// Would writing `out` replace one of the files that it is made from?
static bool is_an_input(const HoneModel *model, const char *out) {
    static const char *const parts[] = {"adapter.gguf", "adapter_model.safetensors",
                                        "adapter_config.json"};
    bool found = hone_same_file(out, model->path);
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

hone_status hone_merge(HoneModel *model, const char *type, const char *out, HoneMergeSink sink,
                       void *user, HoneMerged *merged) {
    HoneError *err = hone_begin(model->context);
    int dtype = hone_dtype_from_name(type);
    if (dtype < 0 || !hone_can_quantise(dtype))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "type \"%s\" is not one of those that merge writes: f32, f16, bf16, q8_0, "
                         "q5_1, q5_0, q4_1, q4_0",
                         type);
    if (hone_is_directory(out))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: is a folder; --out names the GGUF file",
                         out);
    if (is_an_input(model, out))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "%s: is one of the files that would be merged; give --out another name",
                         out);
    if (!*out)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "--out is empty: name the GGUF file to write");
    return hone_model_write(model, dtype, out, sink, user, merged);
}
