// SPDX-License-Identifier: Apache-2.0
#include "train/merge.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/kernels.h"

bool hone_is_changed(HoneModel *model, const GgufTensor *stored) {
    const ParameterSlot *slot = hone_model_slot(model, stored->name);
    if (!slot) return false;
    return (slot->weight && slot->weight->adapter_count > 0) || slot->tensor->data != stored->data;
}

bool hone_untied_head(HoneModel *model, GgufTensor *head) {
    const GgufTensor *embedding = hone_gguf_tensor(&model->file, "token_embd.weight");
    const ParameterSlot *table = hone_model_slot(model, "token_embd.weight");
    if (!model->tied_head.weight || !embedding || !table) return false;
    if (table->weight->adapter_count == 0 && model->tied_head.weight->adapter_count == 0 &&
        table->whole.rank == 0 && model->tied_head.whole.rank == 0)
        return false;
    *head = *embedding;
    memcpy(head->name, "output.weight", sizeof "output.weight");
    return true;
}

hone_status hone_merged_values(HoneModel *model, const GgufTensor *stored, float *values,
                               bool *changed, HoneError *err) {
    const ParameterSlot *slot = hone_model_slot(model, stored->name);
    const Tensor *tensor = slot ? slot->tensor : NULL;
    const int64_t count = hone_gguf_tensor_values(stored);
    *changed = false;
    if (tensor)
        hone_dequantise(tensor->dtype, tensor->data, values, count);
    else
        hone_dequantise(stored->dtype, stored->data, values, count);
    *changed = slot && slot->whole.rank > 0;
    if (!slot || !slot->weight) return HONE_OK;
    const float *gain = slot->weight->gain.data;
    for (int64_t i = 0; i < count && gain; i++) values[i] *= gain[i / tensor->shape[1]];
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
    atomic_bool spoilt; // a value has no place in the type
} QuantiseTask;

enum { TASK_VALUES = 1 << 16 }; // whole blocks of every type

static void quantise_task(void *argument, int64_t task, int worker) {
    (void)worker;
    QuantiseTask *work = argument;
    const int64_t first = task * TASK_VALUES, left = work->count - first;
    const int64_t count = left < TASK_VALUES ? left : TASK_VALUES;
    const float *values = work->values + first;
    if (work->type == HONE_F16 || hone_dtype_info(work->type)->is_quantised) {
        bool fits = true; // scales are of f16 too
        for (int64_t i = 0; i < count; i++) fits = fits && fabsf(values[i]) <= 65504;
        if (!fits) {
            atomic_store(&work->spoilt, true);
            return;
        }
    }
    hone_quantise(work->type, values, work->packed + hone_dtype_bytes(work->type, first), count,
                  NULL);
}

hone_status hone_values_pack(const KernelContext *kc, int type, const float *values, void *packed,
                             int64_t count, const char *name, HoneError *err) {
    QuantiseTask work = {.type = type, .count = count, .values = values, .packed = packed};
    hone_pool_run(kc->pool, (count + TASK_VALUES - 1) / TASK_VALUES, quantise_task, &work);
    if (!work.spoilt) return HONE_OK;
    return hone_fail(err, HONE_ERROR_NUMERIC,
                     "%s: holds NaN, or values beyond 65504, which %s cannot store", name,
                     hone_dtype_name(type));
}
