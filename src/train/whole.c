// SPDX-License-Identifier: Apache-2.0
// Tensors that were or are trained whole beside an adapter (PEFT's modules_to_save).
#include <fnmatch.h>
#include <string.h>

#include "kernels/kernels.h"
#include "train/run.h"

hone_status hone_check_whole(HoneModel *model, const char *path, const AdapterWhole *whole) {
    HoneError *err = &model->context->error;
    const ParameterSlot *slot = hone_model_slot(model, whole->name);
    if (!slot)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: has a whole %s, which the model %s has not",
                         path, whole->name, model->path);
    const Tensor *tensor = slot->tensor;
    const int64_t columns = tensor->rank == 2 ? tensor->shape[1] : 1;
    if (tensor->rank == whole->rank && tensor->shape[0] == whole->shape[0] &&
        columns == whole->shape[1])
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: has a whole %s of %lld × %lld, the model's is %lld × %lld", path,
                     whole->name, (long long)whole->shape[0], (long long)whole->shape[1],
                     (long long)tensor->shape[0], (long long)columns);
}

void hone_slot_part(HoneModel *model, const ParameterSlot *slot) {
    const bool shared = slot == &model->tied_head || strcmp(slot->name, "token_embd.weight") == 0;
    if (model->config.tied_head && shared) hone_model_part_head(model->model);
}

AdapterWhole hone_slot_whole(const ParameterSlot *slot) {
    const Tensor *tensor = slot->tensor;
    AdapterWhole whole = {.rank = tensor->rank,
                          .shape = {tensor->shape[0], tensor->rank == 2 ? tensor->shape[1] : 1},
                          .values = tensor->data};
    memcpy(whole.name, slot->name, sizeof whole.name);
    return whole;
}

hone_status hone_attach_whole(HoneModel *model, const char *path, const AdapterWhole *whole,
                              float weight) {
    HoneError *err = &model->context->error;
    RETURN_IF_ERROR(hone_check_whole(model, path, whole));
    ParameterSlot *slot = hone_model_slot(model, whole->name);
    hone_slot_part(model, slot);
    const bool first = slot->whole.rank == 0;
    if (first) slot->stored = *slot->tensor;
    const Tensor *stored = &slot->stored, *now = first ? stored : &slot->whole;
    const int64_t count = hone_tensor_count(stored);
    const size_t bytes = (size_t)count * sizeof(float);
    float *values = hone_arena_alloc(&model->memory, bytes), *base = hone_alloc(bytes);
    if (!values || !base) {
        hone_free(base);
        return hone_fail_memory(err, bytes, whole->name);
    }
    hone_dequantise((int)stored->dtype, stored->data, base, count);
    hone_dequantise((int)now->dtype, now->data, values, count);
    for (int64_t i = 0; i < count; i++) // 1 gives exactly what the file has
        values[i] = first && weight == 1 ? whole->values[i]
                                         : values[i] + weight * (whole->values[i] - base[i]);
    hone_free(base);
    slot->whole = *stored;
    slot->whole.dtype = HONE_F32;
    slot->whole.data = values;
    if (model->adapters_enabled) *slot->tensor = slot->whole;
    return HONE_OK;
}

// ---- --save-modules ----------------------------------------------------------------------------

// "blk.0.attn_q" of "blk.0.attn_q.weight" and of its bias: one module.
static size_t stem_length(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : strlen(name);
}

static bool same_module(const ParameterSlot *a, const ParameterSlot *b) {
    const size_t length = stem_length(a->name);
    return length == stem_length(b->name) && strncmp(a->name, b->name, length) == 0;
}

static bool entry_names(const char *entry, const ParameterSlot *slot) {
    if (slot->target && strcmp(entry, slot->target) == 0) return true;
    if (strcmp(entry, "norm") == 0)
        return stem_length(slot->name) == 11 && strncmp(slot->name, "output_norm", 11) == 0;
    return fnmatch(entry, slot->name, 0) == 0;
}

bool hone_slot_is_saved(const Run *run, const ParameterSlot *slot) {
    const char *list = run->options.save_modules;
    while (list && *list) {
        char entry[128];
        const size_t length = strcspn(list, ",");
        const size_t kept = length < sizeof entry ? length : sizeof entry - 1;
        memcpy(entry, list, kept);
        entry[kept] = '\0';
        list += length + (list[length] == ',');
        const ParameterSlot *other;
        for (int64_t i = 0; (other = hone_adaptable_slot(run->model, i)); i++)
            if (same_module(slot, other) && entry_names(entry, other)) return true;
    }
    return false;
}

hone_status hone_check_saved(const Run *run) {
    const char *list = run->options.save_modules;
    while (list && *list) {
        char entry[128];
        const size_t length = strcspn(list, ",");
        if (length >= sizeof entry)
            return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                             "--save-modules: an entry of %zu characters", length);
        memcpy(entry, list, length);
        entry[length] = '\0';
        list += length + (list[length] == ',');
        const ParameterSlot *slot;
        bool found = false;
        for (int64_t i = 0; (slot = hone_adaptable_slot(run->model, i)) && !found; i++)
            found = entry_names(entry, slot);
        if (!found)
            return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                             "--save-modules: \"%s\" is none of embed, head, norm, the words of "
                             "--targets, or a pattern of the model's tensor names",
                             entry);
    }
    return HONE_OK;
}
