// SPDX-License-Identifier: Apache-2.0
// A mixture's experts: GGUF has those of a layer in one tensor of three dimensions, Hone a matrix
// each by the name that llama.cpp gave them before.
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/gguf.h"

static const char *const kinds[] = {"ffn_gate", "ffn_up", "ffn_down"};
enum { KINDS = sizeof kinds / sizeof *kinds, MOST_LAYERS = 100000 };

bool hone_gguf_expert(const char *name, char stacked[GGUF_NAME], int *expert) {
    char again[GGUF_NAME];
    for (int kind = 0; kind < KINDS; kind++) {
        int layer, end = 0;
        const size_t length = strlen(kinds[kind]);
        if (sscanf(name, "blk.%6d.%n", &layer, &end) != 1 || end == 0 || layer < 0 ||
            layer >= MOST_LAYERS || strncmp(name + end, kinds[kind], length) != 0 ||
            sscanf(name + end + length, ".%4d.", expert) != 1 || *expert < 0)
            continue;
        snprintf(again, sizeof again, "blk.%d.%s.%d.weight", layer, kinds[kind], *expert);
        if (strcmp(again, name) != 0) continue; // "blk.03…"
        snprintf(stacked, GGUF_NAME, "blk.%d.%s_exps.weight", layer, kinds[kind]);
        return true;
    }
    return false;
}

bool hone_gguf_expert_name(const char *stacked, int expert, char name[GGUF_NAME]) {
    char again[GGUF_NAME];
    int layer, own;
    for (int kind = 0; kind < KINDS; kind++) {
        if (sscanf(stacked, "blk.%6d.", &layer) != 1) return false;
        snprintf(name, GGUF_NAME, "blk.%d.%s.%d.weight", layer, kinds[kind], expert);
        if (hone_gguf_expert(name, again, &own) && strcmp(again, stacked) == 0) return true;
    }
    return false;
}

static bool is_stack(const GgufTensor *tensor) {
    char name[GGUF_NAME];
    return tensor->rank == 3 && tensor->shape[0] >= 1 && tensor->shape[0] <= GGUF_EXPERTS &&
           hone_gguf_expert_name(tensor->name, 0, name);
}

static hone_status enter_parts(GgufFile *file, const GgufTensor *stack, HoneError *err) {
    const size_t bytes = stack->bytes / (size_t)stack->shape[0];
    for (int e = 0; e < stack->shape[0]; e++) {
        GgufTensor *part = &file->tensors[file->tensor_count];
        *part =
            (GgufTensor){.dtype = stack->dtype,
                         .rank = 2,
                         .shape = {stack->shape[1], stack->shape[2], 1, 1},
                         .data = stack->data ? (const char *)stack->data + (size_t)e * bytes : NULL,
                         .bytes = bytes};
        hone_gguf_expert_name(stack->name, e, part->name);
        RETURN_IF_ERROR(hone_gguf_enter_tensor(file, err));
    }
    return HONE_OK;
}

hone_status hone_gguf_part_experts(GgufFile *file, HoneError *err) {
    const int64_t stored = file->tensor_count;
    int64_t count = 0;
    for (int64_t i = 0; i < stored; i++)
        count += is_stack(&file->tensors[i]) ? file->tensors[i].shape[0] : 1;
    if (count == stored) return HONE_OK;
    GgufTensor *before = file->tensors;
    file->tensors = hone_calloc((size_t)count, sizeof *file->tensors);
    hone_map_free(file->tensor_index);
    memset(file->tensor_index, 0, sizeof *file->tensor_index);
    file->tensor_count = 0;
    hone_status status = HONE_OK;
    if (!file->tensors) status = hone_fail_memory(err, (size_t)count * sizeof *before, "tensors");
    for (int64_t i = 0; i < stored && status == HONE_OK; i++) {
        if (is_stack(&before[i])) {
            status = enter_parts(file, &before[i], err);
        } else {
            file->tensors[file->tensor_count] = before[i];
            status = hone_gguf_enter_tensor(file, err);
        }
    }
    hone_free(before);
    return status;
}
