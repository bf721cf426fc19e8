// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "io/adapter.h"
#include "io/gguf.h"

bool hone_adapter_folder_holds(const char *folder, const char *name) {
    char *path = hone_path_join(folder, name);
    bool found = path && hone_is_file(path);
    hone_free(path);
    return found;
}

hone_status hone_adapter_read(const char *path, const AdapterBase *base, AdapterFile *file,
                              HoneError *err) {
    *file = (AdapterFile){.path = hone_strdup(path)};
    if (!file->path) return hone_fail_memory(err, strlen(path) + 1, "a path");
    hone_status status;
    if (!hone_is_directory(path))
        status = hone_adapter_read_gguf(path, base, file, err);
    else if (hone_adapter_folder_holds(path, "adapters.safetensors") &&
             !hone_adapter_folder_holds(path, "adapter_model.safetensors"))
        status = hone_adapter_read_mlx(path, base, file, err);
    else
        status = hone_adapter_read_peft(path, base, file, err);
    if (status != HONE_OK) hone_adapter_close(file);
    return status;
}

void hone_adapter_close(AdapterFile *file) {
    hone_arena_free(&file->memory);
    hone_free(file->path);
    *file = (AdapterFile){0};
}

// ---- drafts ------------------------------------------------------------------------------------

hone_status hone_drafts_create(AdapterDrafts *drafts, const char *path, int64_t tensors,
                               HoneError *err) {
    *drafts = (AdapterDrafts){.path = path};
    drafts->items = hone_calloc((size_t)tensors, sizeof *drafts->items);
    if (!drafts->items)
        return hone_fail_memory(err, (size_t)tensors * sizeof *drafts->items, "adapter pairs");
    return HONE_OK;
}

void hone_drafts_free(AdapterDrafts *drafts) {
    hone_map_free(&drafts->index);
    hone_free(drafts->items);
    *drafts = (AdapterDrafts){0};
}

hone_status hone_drafts_add(AdapterDrafts *drafts, const char *name, int which,
                            const AdapterHalf *half, HoneError *err) {
    int64_t found = hone_map_get(&drafts->index, name, strlen(name), -1);
    if (found < 0) {
        found = drafts->count++;
        AdapterDraft *fresh = &drafts->items[found];
        snprintf(fresh->name, sizeof fresh->name, "%s", name);
        if (!hone_map_put(&drafts->index, fresh->name, strlen(fresh->name), found))
            return hone_fail_memory(err, sizeof *fresh, "an adapter pair");
    }
    AdapterDraft *draft = &drafts->items[found];
    if (draft->half[which].label)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: tensors %.200s and %.200s say the same thing",
                         drafts->path, draft->half[which].label, half->label);
    draft->half[which] = *half;
    return HONE_OK;
}

// ---- values ------------------------------------------------------------------------------------

static uint16_t load_u16(const unsigned char *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

// q8_0: blocks of 32 of an f16 scale and 32 signed bytes, as llama.cpp's converter can make them.
static void unpack_q8_0(const unsigned char *data, int64_t count, float *values) {
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *block = data + i / 32 * 34;
        values[i] = hone_f16_to_f32(load_u16(block)) * (float)(int8_t)block[2 + i % 32];
    }
}

static bool is_readable(int dtype) {
    return dtype == HONE_F32 || dtype == HONE_F16 || dtype == HONE_BF16 || dtype == HONE_Q8_0;
}

void hone_adapter_unpack(int dtype, const unsigned char *data, int64_t count, float *values) {
    if (dtype == HONE_F32)
        memcpy(values, data, (size_t)count * sizeof *values);
    else if (dtype == HONE_F16)
        for (int64_t i = 0; i < count; i++) values[i] = hone_f16_to_f32(load_u16(data + 2 * i));
    else if (dtype == HONE_BF16)
        for (int64_t i = 0; i < count; i++) values[i] = hone_bf16_to_f32(load_u16(data + 2 * i));
    else
        unpack_q8_0(data, count, values);
}

static hone_status unpack_transposed(const AdapterHalf *half, float *values, HoneError *err) {
    const int64_t rows = half->shape[0], columns = half->shape[1];
    const size_t bytes = (size_t)(rows * columns) * sizeof(float);
    float *stored = hone_alloc(bytes);
    if (!stored) return hone_fail_memory(err, bytes, half->label);
    hone_adapter_unpack(half->dtype, half->data, rows * columns, stored);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) values[r * columns + c] = stored[c * rows + r];
    hone_free(stored);
    return HONE_OK;
}

hone_status hone_half_values(const char *path, const AdapterHalf *half, Arena *memory,
                             float **values, HoneError *err) {
    if (!is_readable(half->dtype))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s: an adapter of type %s cannot be read; F32, F16, BF16 "
                         "and Q8_0 can",
                         path, half->label, hone_dtype_name(half->dtype));
    int64_t count = half->shape[0] * half->shape[1]; // inside the file, so it cannot overflow
    *values = hone_arena_alloc(memory, (size_t)count * sizeof **values);
    if (!*values) return hone_fail_memory(err, (size_t)count * sizeof **values, half->label);
    if (half->transposed)
        RETURN_IF_ERROR(unpack_transposed(half, *values, err));
    else
        hone_adapter_unpack(half->dtype, half->data, count, *values);
    for (int64_t i = 0; i < count; i++)
        if (!isfinite((*values)[i]))
            return hone_fail(err, HONE_ERROR_INPUT,
                             "%s: tensor %.200s: value %lld is %g: the adapter is spoilt", path,
                             half->label, (long long)i, (double)(*values)[i]);
    return HONE_OK;
}

// ---- pairs -------------------------------------------------------------------------------------

static hone_status check_draft(const AdapterDrafts *drafts, const AdapterDraft *draft,
                               HoneError *err) {
    const AdapterHalf *A = &draft->half[0], *B = &draft->half[1];
    if (!A->label && !B->label)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s has a magnitude and no pair", drafts->path,
                         draft->name);
    if (!A->label || !B->label)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: tensor %.200s has no partner %s for %s",
                         drafts->path, A->label ? A->label : B->label, A->label ? "B" : "A",
                         draft->name);
    const AdapterHalf *odd = A->rank != 2 ? A : B;
    if (odd->rank != 2)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: tensor %.200s has %d dimensions, a matrix is wanted", drafts->path,
                         odd->label, odd->rank);
    if (A->shape[0] != B->shape[1])
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the rank of %.200s (%lld,%lld) is %lld, that of its partner "
                         "(%lld,%lld) is %lld",
                         drafts->path, A->label, (long long)A->shape[0], (long long)A->shape[1],
                         (long long)A->shape[0], (long long)B->shape[0], (long long)B->shape[1],
                         (long long)B->shape[1]);
    if (A->shape[0] < 1 || A->shape[0] > 1 << 20 || A->shape[1] < 1 || B->shape[0] < 1)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: tensor %.200s: a rank of %lld over %lld×%lld is no adapter",
                         drafts->path, A->label, (long long)A->shape[0], (long long)B->shape[0],
                         (long long)A->shape[1]);
    return HONE_OK;
}

// Rows of `rank` values into the base's order.
static hone_status permute_B(const AdapterDrafts *drafts, const AdapterBase *base,
                             const AdapterDraft *draft, bool peft_rows, int rank, Arena *memory,
                             float **B, HoneError *err) {
    int heads = peft_rows ? hone_adapter_permuted_heads(base, draft->name)
                          : hone_adapter_gguf_heads(base, draft->name);
    if (heads == 0) return HONE_OK;
    int64_t rows = draft->half[1].shape[0];
    if (rows != (int64_t)heads * base->head_size || base->head_size % 2 != 0)
        return hone_fail(
            err, HONE_ERROR_INPUT,
            "%s: tensor %.200s has %lld rows, the base has %d heads of %d (%lld rows): "
            "the adapter was made for another model",
            drafts->path, draft->half[1].label, (long long)rows, heads, base->head_size,
            (long long)heads * base->head_size);
    float *moved = hone_arena_alloc(memory, (size_t)(rows * rank) * sizeof *moved);
    if (!moved) return hone_fail_memory(err, (size_t)(rows * rank) * sizeof *moved, draft->name);
    if (peft_rows)
        hone_adapter_rows_to_gguf(moved, *B, heads, base->head_size, rank);
    else
        hone_adapter_rows_to_peft(moved, *B, heads, base->head_size, rank);
    *B = moved;
    return HONE_OK;
}

static hone_status read_magnitude(const AdapterDrafts *drafts, const AdapterBase *base,
                                  const AdapterDraft *draft, bool peft_rows, Arena *memory,
                                  AdapterPair *pair, HoneError *err) {
    const AdapterHalf *half = &draft->half[2];
    if (!half->label) return HONE_OK;
    if (half->rank != 1 || half->shape[0] != pair->out)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: tensor %.200s has %d dimensions of %lld …, a magnitude for each of "
                         "the %lld rows of B is wanted",
                         drafts->path, half->label, half->rank,
                         (long long)(half->rank > 0 ? half->shape[0] : 0), (long long)pair->out);
    const int64_t shape[2] = {pair->out, 1};
    AdapterHalf column = *half;
    column.shape = shape;
    float *values;
    RETURN_IF_ERROR(hone_half_values(drafts->path, &column, memory, &values, err));
    RETURN_IF_ERROR(permute_B(drafts, base, draft, peft_rows, 1, memory, &values, err));
    pair->magnitude = values;
    return HONE_OK;
}

hone_status hone_drafts_finish(const AdapterDrafts *drafts, const AdapterBase *base, bool peft_rows,
                               AdapterFile *file, HoneError *err) {
    if (drafts->count == 0) // whole tensors alone are no LoRA either
        return hone_fail(err, HONE_ERROR_INPUT, "%s: the adapter has no LoRA tensors",
                         drafts->path);
    file->pairs = hone_arena_calloc(&file->memory, (size_t)drafts->count, sizeof *file->pairs);
    if (!file->pairs)
        return hone_fail_memory(err, (size_t)drafts->count * sizeof *file->pairs, "pairs");
    for (int64_t i = 0; i < drafts->count; i++) {
        const AdapterDraft *draft = &drafts->items[i];
        RETURN_IF_ERROR(check_draft(drafts, draft, err));
        int rank = (int)draft->half[0].shape[0];
        float *A, *B;
        RETURN_IF_ERROR(hone_half_values(drafts->path, &draft->half[0], &file->memory, &A, err));
        RETURN_IF_ERROR(hone_half_values(drafts->path, &draft->half[1], &file->memory, &B, err));
        RETURN_IF_ERROR(permute_B(drafts, base, draft, peft_rows, rank, &file->memory, &B, err));
        AdapterPair *pair = &file->pairs[i];
        *pair = (AdapterPair){.rank = rank,
                              .in = draft->half[0].shape[1],
                              .out = draft->half[1].shape[0],
                              .A = A,
                              .B = B};
        memcpy(pair->name, draft->name, sizeof pair->name);
        RETURN_IF_ERROR(read_magnitude(drafts, base, draft, peft_rows, &file->memory, pair, err));
    }
    file->count = drafts->count;
    hone_adapter_sort(file->pairs, file->count);
    return HONE_OK;
}
