// SPDX-License-Identifier: Apache-2.0
// Adapters written in the other format; those added to a model, as one.
#include <math.h>
#include <string.h>

#include "io/adapter.h"
#include "tensor/dora.h"
#include "train/session.h"

static hone_status check_out(const char *out, bool peft, HoneError *err) {
    if (!*out)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "--out is empty: name the %s to write",
                         peft ? "folder" : "file");
    if (!peft && hone_is_directory(out))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: is a folder; --out names the GGUF file",
                         out);
    return HONE_OK;
}

static hone_status check_apart(const char *in, const char *out, bool peft, HoneError *err) {
    if (!hone_same_file(in, out)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "--out \"%s\": name another %s than the input", out,
                     peft ? "folder" : "file");
}

// rank and alpha of the first pair: the others' are told where they differ.
static hone_status write_pairs(const HoneModel *model, const AdapterPair *pairs, int64_t count,
                               const AdapterWhole *whole, int64_t whole_count, bool peft,
                               const char *out, HoneError *err) {
    const AdapterBase base = hone_model_adapter_base(model);
    const AdapterSettings settings = {.rank = pairs->rank,
                                      .alpha = pairs->scale * (float)pairs->rank,
                                      .whole = whole,
                                      .whole_count = whole_count};
    return peft ? hone_peft_write(out, &base, &settings, pairs, count, err)
                : hone_adapter_gguf_write(out, &base, &settings, pairs, count, err);
}

hone_status hone_convert_adapter(HoneModel *model, const char *adapter, bool peft,
                                 const char *out) {
    HoneError *err = hone_begin(model->context);
    const AdapterBase base = hone_model_adapter_base(model);
    AdapterFile file;
    RETURN_IF_ERROR(check_out(out, peft, err));
    RETURN_IF_ERROR(check_apart(adapter, out, peft, err));
    RETURN_IF_ERROR(hone_adapter_read(adapter, &base, &file, err));
    hone_status status = HONE_OK;
    for (int64_t i = 0; i < file.count && status == HONE_OK; i++)
        status = hone_check_pair(model, adapter, &file.pairs[i]);
    for (int64_t i = 0; i < file.whole_count && status == HONE_OK; i++)
        status = hone_check_whole(model, adapter, &file.whole[i]);
    if (status == HONE_OK)
        status = write_pairs(model, file.pairs, file.count, file.whole, file.whole_count, peft, out,
                             err);
    hone_adapter_close(&file);
    return status;
}

// ---- several as one ----------------------------------------------------------------------------

// The scale that all adapters of a weight have, else 1: then each one's own goes into its B.
static float common_scale(const ParameterSlot *slot) {
    const Adapter *adapters = slot->weight->adapters;
    for (int a = 1; a < slot->adapters; a++)
        if (adapters[a].scale < adapters[0].scale || adapters[a].scale > adapters[0].scale)
            return 1;
    return adapters[0].scale;
}

// c ⊙ W + s·B·A = m/‖W + s·B'·A‖ ⊙ (W + s·B'·A) with B' = B/c and m = c·‖W + s·B'·A‖: DoRAs as one.
static hone_status join_gains(HoneModel *model, const ParameterSlot *slot, Arena *memory,
                              AdapterPair *pair, HoneError *err) {
    const float *gain = slot->gain.data; // NULL: ones
    const int64_t out = pair->out, rank = pair->rank;
    float *B = (float *)(uintptr_t)pair->B; // join's own
    double *squares = hone_arena_alloc(memory, (size_t)out * sizeof *squares);
    float *magnitude = hone_arena_alloc(memory, (size_t)out * sizeof *magnitude);
    if (!squares || !magnitude)
        return hone_fail_memory(err, (size_t)out * sizeof *squares, slot->name);
    for (int64_t i = 0; i < out && gain; i++) {
        if (fabsf(gain[i]) < 1e-6f)
            return hone_fail(err, HONE_ERROR_NUMERIC,
                             "%s: row %lld: the weights leave %g of the base's, too little for one "
                             "DoRA to hold; hone merge can",
                             slot->name, (long long)i, (double)gain[i]);
        for (int64_t k = 0; k < rank; k++) B[i * rank + k] /= gain[i];
    }
    const Tensor A = {.rank = 2, .shape = {rank, pair->in}, .data = (void *)(uintptr_t)pair->A};
    const Tensor part = {.rank = 2, .shape = {out, rank}, .data = B};
    const KernelContext *kc = &model->context->kernels;
    hone_row_squares(kc, slot->tensor, squares);
    RETURN_IF_ERROR(
        hone_adapted_norms(kc, slot->tensor, squares, &A, &part, pair->scale, magnitude, err));
    for (int64_t i = 0; i < out && gain; i++) magnitude[i] *= gain[i];
    pair->magnitude = magnitude;
    return HONE_OK;
}

// Σ scale·B·A = scale·[B₁ B₂ …]·[A₁; A₂; …]
static hone_status join(const ParameterSlot *slot, Arena *memory, AdapterPair *pair,
                        HoneError *err) {
    const Adapter *adapters = slot->weight->adapters;
    int64_t rank = 0, in = adapters->A.shape[1], out = adapters->B.shape[0];
    for (int a = 0; a < slot->adapters; a++) rank += adapters[a].A.shape[0];
    *pair = (AdapterPair){.rank = (int)rank, .in = in, .out = out, .scale = common_scale(slot)};
    memcpy(pair->name, slot->name, sizeof pair->name);
    float *A = hone_arena_alloc(memory, (size_t)(rank * in) * sizeof *A);
    float *B = hone_arena_alloc(memory, (size_t)(out * rank) * sizeof *B);
    if (!A || !B) return hone_fail_memory(err, (size_t)(rank * (in + out)) * sizeof *A, slot->name);
    int64_t before = 0;
    for (int a = 0; a < slot->adapters; a++) {
        const Adapter *adapter = &adapters[a];
        const int64_t own = adapter->A.shape[0];
        const float *from = adapter->B.data;
        const double factor = slot->adapters > 1 && pair->scale == 1 ? (double)adapter->scale : 1;
        memcpy(A + before * in, adapter->A.data, (size_t)(own * in) * sizeof *A);
        for (int64_t i = 0; i < out; i++)
            for (int64_t k = 0; k < own; k++)
                B[i * rank + before + k] = (float)(factor * (double)from[i * own + k]);
        before += own;
    }
    pair->A = A;
    pair->B = B;
    return HONE_OK;
}

static hone_status join_all(HoneModel *model, Arena *memory, AdapterPair **pairs, int64_t *count,
                            HoneError *err) {
    const size_t most = (size_t)model->slot_count + 1;
    *pairs = hone_arena_calloc(memory, most, sizeof **pairs);
    if (!*pairs) return hone_fail_memory(err, most * sizeof **pairs, "pairs");
    const ParameterSlot *slot;
    bool gained = false; // then all are DoRAs, as PEFT has one kind in a folder
    for (int64_t i = 0; (slot = hone_adaptable_slot(model, i)); i++)
        gained = gained || slot->gain.rank > 0;
    for (int64_t i = 0; (slot = hone_adaptable_slot(model, i)); i++) {
        if (slot->adapters == 0) continue;
        AdapterPair *pair = &(*pairs)[(*count)++];
        RETURN_IF_ERROR(join(slot, memory, pair, err));
        if (gained && !hone_adapter_is_embedding(slot->name))
            RETURN_IF_ERROR(join_gains(model, slot, memory, pair, err));
    }
    if (*count > 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "no adapter was given to convert: --adapter");
}

hone_status hone_convert_adapters(HoneModel *model, bool peft, const char *out) {
    HoneError *err = hone_begin(model->context);
    RETURN_IF_ERROR(check_out(out, peft, err));
    for (int i = 0; i < model->adapter_paths; i++)
        RETURN_IF_ERROR(check_apart(model->adapter_path[i], out, peft, err));
    Arena memory = {0};
    AdapterPair *pairs;
    int64_t count = 0;
    hone_status status = join_all(model, &memory, &pairs, &count, err);
    AdapterWhole *whole = hone_arena_calloc(&memory, (size_t)model->slot_count + 1, sizeof *whole);
    int64_t whole_count = 0;
    if (status == HONE_OK && !whole)
        status = hone_fail_memory(err, (size_t)model->slot_count * sizeof *whole, "tensors");
    const ParameterSlot *slot;
    for (int64_t i = 0; status == HONE_OK && (slot = hone_adaptable_slot(model, i)); i++)
        if (slot->whole.rank) whole[whole_count++] = hone_slot_whole(slot);
    if (status == HONE_OK)
        status = write_pairs(model, pairs, count, whole, whole_count, peft, out, err);
    hone_arena_free(&memory);
    return status;
}
