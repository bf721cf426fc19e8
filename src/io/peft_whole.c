// SPDX-License-Identifier: Apache-2.0
// Tensors that PEFT saves whole (modules_to_save), between transformers' names and orders and ours.
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "io/hf_parts.h"
#include "io/safetensors.h"

// transformers has GPT-2's matrices of a layer (in,out).
static bool is_turned(const AdapterBase *base, const char *name, int rank) {
    return rank == 2 && strncmp(name, "blk.", 4) == 0 && hone_adapter_in_out(base);
}

// Gemma's norms are stored less 1, in memory they are whole.
static float stored_less(const AdapterBase *base, int rank) {
    const HfFamily *family = hone_hf_family_of(base->architecture);
    return family && family->gemma && rank == 1 ? 1.0f : 0.0f;
}

// Heads whose rows are in another order than the folder's; of a bias as of its matrix.
static int moved_heads(const AdapterBase *base, const char *name) {
    char matrix[ADAPTER_NAME + 8];
    const char *dot = strrchr(name, '.');
    snprintf(matrix, sizeof matrix, "%.*s.weight", (int)(dot ? dot - name : 0), name);
    return hone_adapter_permuted_heads(base, matrix);
}

static hone_status check(const char *path, const SafeTensor *tensor, const AdapterBase *base,
                         const AdapterWhole *whole, const AdapterFile *file, HoneError *err) {
    for (int64_t i = 0; i < file->whole_count; i++)
        if (strcmp(file->whole[i].name, whole->name) == 0)
            return hone_fail(err, HONE_ERROR_INPUT, "%s: tensor %.200s is there twice", path,
                             tensor->name);
    const int heads = moved_heads(base, whole->name);
    if (heads == 0 || whole->shape[0] == (int64_t)heads * base->head_size) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: tensor %.200s has %lld rows, %d heads of %d are %lld", path, tensor->name,
                     (long long)whole->shape[0], heads, base->head_size,
                     (long long)heads * base->head_size);
}

hone_status hone_whole_add(const char *path, const SafeTensor *tensor, const char *stored,
                           const AdapterBase *base, AdapterFile *file, HoneError *err) {
    AdapterWhole *whole = &file->whole[file->whole_count];
    *whole = (AdapterWhole){.rank = tensor->rank};
    if (!hone_hf_gguf_name(base->architecture, stored, whole->name))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s is not part of a %s model as Hone computes it", path,
                         tensor->name, base->architecture);
    const bool turned = is_turned(base, whole->name, tensor->rank);
    if (tensor->rank < 1 || tensor->rank > 2 || tensor->shape[0] < 1 ||
        (tensor->rank == 2 && tensor->shape[1] < 1))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: tensor %.200s has %d dimensions, a vector or a matrix is wanted",
                         path, tensor->name, tensor->rank);
    const int64_t columns = tensor->rank == 2 ? tensor->shape[1] : 1;
    whole->shape[0] = turned ? columns : tensor->shape[0];
    whole->shape[1] = turned ? tensor->shape[0] : columns;
    RETURN_IF_ERROR(check(path, tensor, base, whole, file, err));
    const AdapterHalf half = {tensor->name, tensor->dtype, 2, whole->shape, tensor->data, turned};
    float *values;
    RETURN_IF_ERROR(hone_half_values(path, &half, &file->memory, &values, err));
    const float less = stored_less(base, tensor->rank);
    for (int64_t i = 0; i < whole->shape[0] && less != 0; i++) values[i] += less;
    const int heads = moved_heads(base, whole->name);
    if (heads) {
        const size_t bytes = (size_t)(whole->shape[0] * whole->shape[1]) * sizeof *values;
        float *moved = hone_arena_alloc(&file->memory, bytes);
        if (!moved) return hone_fail_memory(err, bytes, whole->name);
        hone_adapter_rows_to_gguf(moved, values, heads, base->head_size, (int)whole->shape[1]);
        values = moved;
    }
    whole->values = values;
    file->whole_count++;
    return HONE_OK;
}

hone_status hone_whole_module(const AdapterWhole *whole, const AdapterBase *base,
                              char name[ADAPTER_MODULE], HoneError *err) {
    char stored[HF_STORED_NAME];
    snprintf(name, ADAPTER_MODULE, "?.?"); // whoever cuts the part off finds a point
    if (!hone_hf_name(base->architecture, base->gated, whole->name, stored) ||
        strlen(stored) >= ADAPTER_MODULE)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s has no name in PEFT that Hone knows",
                         whole->name);
    memcpy(name, stored, strlen(stored) + 1);
    return HONE_OK;
}

hone_status hone_whole_entry(const AdapterWhole *whole, const AdapterBase *base, bool adapted,
                             Arena *memory, SafeTensorEntry *entry, HoneError *err) {
    char stored[ADAPTER_MODULE], name[ADAPTER_MODULE + 40];
    RETURN_IF_ERROR(hone_whole_module(whole, base, stored, err));
    const char *part = strrchr(stored, '.');
    const int length = snprintf(name, sizeof name, "base_model.model.%.*s%s%s",
                                (int)(part - stored), stored, adapted ? ".base_layer" : "", part);
    const int64_t rows = whole->shape[0], columns = whole->shape[1];
    const bool turned = is_turned(base, whole->name, whole->rank);
    const int heads = moved_heads(base, whole->name);
    *entry = (SafeTensorEntry){.name = hone_arena_strndup(memory, name, (size_t)length),
                               .dtype = HONE_F32,
                               .rank = whole->rank,
                               .shape = {turned ? columns : rows, turned ? rows : columns},
                               .data = whole->values};
    if (!entry->name) return hone_fail_memory(err, (size_t)length, whole->name);
    const float less = stored_less(base, whole->rank);
    if (!turned && !heads && less == 0) return HONE_OK;
    const size_t bytes = (size_t)(rows * columns) * sizeof(float);
    float *other = hone_arena_alloc(memory, bytes);
    if (!other) return hone_fail_memory(err, bytes, whole->name);
    if (heads)
        hone_adapter_rows_to_peft(other, whole->values, heads, base->head_size, (int)columns);
    for (int64_t r = 0; r < rows && less != 0; r++) other[r] = whole->values[r] - less;
    for (int64_t r = 0; r < rows && turned; r++)
        for (int64_t c = 0; c < columns; c++) other[c * rows + r] = whole->values[r * columns + c];
    entry->data = other;
    return HONE_OK;
}
