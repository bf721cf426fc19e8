// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/adapter.h"
#include "io/gguf.h"

// ---- reading -----------------------------------------------------------------------------------

static hone_status need_string(const GgufFile *gguf, const char *name, const char *wanted,
                               const char *meaning, HoneError *err) {
    if (!hone_gguf_key(gguf, name))
        return hone_fail(err, HONE_ERROR_INPUT, "%s: not an adapter: key %s is missing",
                         gguf->map.path, name);
    GgufString value;
    RETURN_IF_ERROR(hone_gguf_string(gguf, name, &value, err));
    if (value.length == strlen(wanted) && memcmp(value.data, wanted, value.length) == 0)
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: key %s is \"%.*s\", %s \"%s\"", gguf->map.path,
                     name, value.length < 60 ? (int)value.length : 60, value.data, meaning, wanted);
}

static hone_status check_keys(const GgufFile *gguf, const AdapterBase *base, double *alpha,
                              HoneError *err) {
    RETURN_IF_ERROR(need_string(gguf, "general.type", "adapter", "an adapter's is", err));
    RETURN_IF_ERROR(need_string(gguf, "adapter.type", "lora", "Hone reads", err));
    RETURN_IF_ERROR(
        need_string(gguf, "general.architecture", base->architecture, "the base model's is", err));
    if (hone_gguf_key(gguf, "adapter.alora.invocation_tokens"))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: an activated LoRA (adapter.alora.invocation_tokens) cannot be used "
                         "as a plain one",
                         gguf->map.path);
    *alpha = 0;
    if (hone_gguf_key(gguf, "adapter.lora.alpha"))
        RETURN_IF_ERROR(hone_gguf_float(gguf, "adapter.lora.alpha", alpha, err));
    if (isfinite(*alpha)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: key adapter.lora.alpha is %g", gguf->map.path,
                     *alpha);
}

// An embedding's .lora_a (tokens, rank) is B here, its .lora_b (width, rank) is A the other way
// round: llama.cpp looks the rows of the first up.
static hone_status turn_halves(const GgufTensor *tensor, AdapterHalf *half, int *which,
                               Arena *memory, HoneError *err) {
    *which = 1 - *which;
    if (*which == 1 || tensor->rank != 2) return HONE_OK;
    int64_t *shape = hone_arena_alloc(memory, 2 * sizeof *shape);
    if (!shape) return hone_fail_memory(err, 2 * sizeof *shape, tensor->name);
    shape[0] = tensor->shape[1];
    shape[1] = tensor->shape[0];
    half->shape = shape;
    half->transposed = true;
    return HONE_OK;
}

// A stack of experts' halves (experts, rows, columns): each one's own.
static hone_status add_stack(const GgufTensor *tensor, const char *stacked, int which,
                             AdapterDrafts *drafts, Arena *memory, HoneError *err) {
    const size_t bytes = tensor->bytes / (size_t)tensor->shape[0];
    int64_t *shape = hone_arena_alloc(memory, 2 * sizeof *shape);
    if (!shape) return hone_fail_memory(err, 2 * sizeof *shape, tensor->name);
    memcpy(shape, tensor->shape + 1, 2 * sizeof *shape);
    for (int e = 0; e < tensor->shape[0]; e++) {
        char name[ADAPTER_NAME];
        hone_gguf_expert_name(stacked, e, name);
        const AdapterHalf half = {
            tensor->name, tensor->dtype, 2, shape, (const char *)tensor->data + (size_t)e * bytes,
            false};
        RETURN_IF_ERROR(hone_drafts_add(drafts, name, which, &half, err));
    }
    return HONE_OK;
}

static bool is_stack(const GgufTensor *tensor, const char *name) {
    char part[GGUF_NAME];
    return tensor->rank == 3 && tensor->data && tensor->shape[0] >= 1 &&
           tensor->shape[0] <= GGUF_EXPERTS && hone_gguf_expert_name(name, 0, part);
}

// How many halves a file has.
static int64_t count_halves(const GgufFile *gguf) {
    int64_t count = 0;
    for (int64_t i = 0; i < gguf->tensor_count; i++) {
        const GgufTensor *tensor = &gguf->tensors[i];
        const bool stack = tensor->rank == 3 && tensor->shape[0] <= GGUF_EXPERTS;
        count += stack && tensor->shape[0] > 1 ? tensor->shape[0] : 1;
    }
    return count;
}

static hone_status collect(const GgufFile *gguf, AdapterDrafts *drafts, Arena *memory,
                           HoneError *err) {
    for (int64_t i = 0; i < gguf->tensor_count; i++) {
        const GgufTensor *tensor = &gguf->tensors[i];
        size_t length = strlen(tensor->name);
        const char *ending = length > 7 ? tensor->name + length - 7 : "";
        if (strcmp(ending, ".lora_a") != 0 && strcmp(ending, ".lora_b") != 0)
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: tensor %s is no part of a LoRA (a name ends in .lora_a or "
                             ".lora_b)",
                             gguf->map.path, tensor->name);
        char name[ADAPTER_NAME] = {0};
        memcpy(name, tensor->name, length - 7);
        AdapterHalf half = {tensor->name,  tensor->dtype, tensor->rank,
                            tensor->shape, tensor->data,  false};
        int which = ending[6] - 'a';
        if (is_stack(tensor, name)) {
            RETURN_IF_ERROR(add_stack(tensor, name, which, drafts, memory, err));
            continue;
        }
        if (hone_adapter_is_embedding(name))
            RETURN_IF_ERROR(turn_halves(tensor, &half, &which, memory, err));
        RETURN_IF_ERROR(hone_drafts_add(drafts, name, which, &half, err));
    }
    return HONE_OK;
}

hone_status hone_adapter_read_gguf(const char *path, const AdapterBase *base, AdapterFile *file,
                                   HoneError *err) {
    GgufFile gguf;
    AdapterDrafts drafts = {0};
    double alpha = 0;
    RETURN_IF_ERROR(hone_gguf_open(path, &gguf, err));
    hone_status status = check_keys(&gguf, base, &alpha, err);
    if (status == HONE_OK) status = hone_drafts_create(&drafts, path, count_halves(&gguf), err);
    if (status == HONE_OK) status = collect(&gguf, &drafts, &file->memory, err);
    if (status == HONE_OK) status = hone_drafts_finish(&drafts, base, false, file, err);
    for (int64_t i = 0; i < file->count; i++) { // no alpha, or 0: the product B·A as it is
        AdapterPair *pair = &file->pairs[i];
        pair->scale = alpha == 0 ? 1.0f : (float)(alpha / pair->rank);
    }
    hone_drafts_free(&drafts);
    hone_gguf_close(&gguf);
    return status;
}

// ---- writing -----------------------------------------------------------------------------------

// Equal but for the rounding of alpha and of the scale to f32.
static bool same(double a, double b) {
    return fabs(a - b) <= 0x1p-22 * fabs(b);
}

// One alpha for the file. The user's own where it serves (no rsLoRA), else what the first pair
// wants.
static float file_alpha(const AdapterSettings *settings, const AdapterPair *pairs) {
    double wanted = (double)pairs[0].scale * pairs[0].rank;
    if (settings->alpha != 0 && same((double)settings->alpha, wanted)) return settings->alpha;
    // llama.cpp takes 0 for "no alpha": a scale of 0 is folded into B instead
    return (float)wanted != 0 ? (float)wanted : (float)pairs[0].rank;
}

static void put_base_name(GgufWriter *writer, const char *path) {
    if (!path || !*path) return;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)(length - begin < 200 ? length - begin : 200),
             path + begin);
    char *dot = strrchr(name, '.');
    if (dot && strcmp(dot, ".gguf") == 0) *dot = '\0';
    hone_gguf_put_u32(writer, "general.base_model.count", 1);
    hone_gguf_put_string(writer, "general.base_model.0.name", name);
}

// The pairs from `first` on that one tensor holds: one, or those of the experts that are stacked
// with it.
static int64_t stack_end(const AdapterPair *pairs, int64_t first, int64_t count,
                         char stacked[GGUF_NAME]) {
    char other[GGUF_NAME];
    int expert;
    int64_t end = first + 1;
    if (!hone_gguf_expert(pairs[first].name, stacked, &expert)) {
        snprintf(stacked, GGUF_NAME, "%s", pairs[first].name);
        return end;
    }
    while (end < count && hone_gguf_expert(pairs[end].name, other, &expert) &&
           strcmp(other, stacked) == 0)
        end++;
    return end;
}

static bool is_expert(const AdapterPair *pair) {
    char stacked[GGUF_NAME];
    int expert;
    return hone_gguf_expert(pair->name, stacked, &expert);
}

static void describe_pair(GgufWriter *writer, const AdapterBase *base, const AdapterPair *pair,
                          const char *stacked) {
    char name[ADAPTER_NAME + 8];
    int64_t a_shape[3] = {pair->rank, pair->in}, b_shape[3] = {pair->out, pair->rank};
    int rank = 2;
    if (hone_adapter_is_embedding(pair->name)) {
        b_shape[0] = pair->in;
        a_shape[0] = pair->out;
        a_shape[1] = pair->rank;
    } else if (is_expert(pair)) {
        rank = 3;
        memmove(a_shape + 1, a_shape, 2 * sizeof *a_shape);
        memmove(b_shape + 1, b_shape, 2 * sizeof *b_shape);
        a_shape[0] = b_shape[0] = base->experts;
    }
    snprintf(name, sizeof name, "%s.lora_a", stacked);
    hone_gguf_add_tensor(writer, name, HONE_F32, rank, a_shape);
    snprintf(name, sizeof name, "%s.lora_b", stacked);
    hone_gguf_add_tensor(writer, name, HONE_F32, rank, b_shape);
}

static void describe(GgufWriter *writer, const AdapterBase *base, float alpha,
                     const AdapterPair *pairs, int64_t count) {
    char stacked[GGUF_NAME];
    hone_gguf_put_string(writer, "general.architecture", base->architecture);
    hone_gguf_put_string(writer, "general.type", "adapter");
    hone_gguf_put_string(writer, "adapter.type", "lora");
    hone_gguf_put_f32(writer, "adapter.lora.alpha", alpha);
    put_base_name(writer, base->path);
    hone_gguf_put_u32(writer, "general.file_type", 0); // all F32
    for (int64_t i = 0, end; i < count; i = end) {
        end = stack_end(pairs, i, count, stacked);
        describe_pair(writer, base, &pairs[i], stacked);
    }
}

static hone_status write_embedding(GgufWriter *writer, const AdapterPair *pair, double factor,
                                   HoneError *err) {
    size_t a_bytes = (size_t)(pair->rank * pair->in) * sizeof(float);
    size_t b_bytes = (size_t)(pair->out * pair->rank) * sizeof(float);
    RETURN_IF_ERROR(hone_gguf_write_tensor(writer, pair->B, b_bytes, err));
    float *turned = hone_alloc(a_bytes);
    if (!turned) return hone_fail_memory(err, a_bytes, pair->name);
    for (int64_t c = 0; c < pair->in; c++)
        for (int64_t k = 0; k < pair->rank; k++)
            turned[c * pair->rank + k] = (float)((double)pair->A[k * pair->in + c] * factor);
    hone_status status = hone_gguf_write_tensor(writer, turned, a_bytes, err);
    hone_free(turned);
    return status;
}

// llama.cpp's scale is alpha/rank; what a pair's own scale differs from that goes into its B.
static hone_status write_B(GgufWriter *writer, const AdapterBase *base, const AdapterPair *pair,
                           float alpha, HoneError *err) {
    int heads = hone_adapter_gguf_heads(base, pair->name);
    size_t bytes = (size_t)(pair->out * pair->rank) * sizeof(float);
    double given = (double)alpha / pair->rank;
    double factor = same(given, (double)pair->scale) ? 1 : (double)pair->scale / given;
    if (factor == 1 && heads == 0) return hone_gguf_write_part(writer, pair->B, bytes, err);
    float *folded = hone_alloc(bytes);
    if (!folded) return hone_fail_memory(err, bytes, pair->name);
    if (heads)
        hone_adapter_rows_to_gguf(folded, pair->B, heads, base->head_size, pair->rank);
    else
        memcpy(folded, pair->B, bytes);
    for (int64_t i = 0; i < pair->out * pair->rank; i++)
        folded[i] = (float)((double)folded[i] * factor);
    hone_status status = hone_gguf_write_part(writer, folded, bytes, err);
    hone_free(folded);
    return status;
}

// One half of each expert, in order; zeros for one that is not adapted.
static hone_status write_stack(GgufWriter *writer, const AdapterBase *base,
                               const AdapterPair *pairs, int64_t count, float alpha, bool of_B,
                               HoneError *err) {
    const size_t bytes = (size_t)((of_B ? pairs->out : pairs->in) * pairs->rank) * sizeof(float);
    char stacked[GGUF_NAME];
    hone_status status = HONE_OK;
    float *zeros = hone_calloc(1, bytes);
    if (!zeros) return hone_fail_memory(err, bytes, pairs->name);
    for (int64_t e = 0, next = 0; e < base->experts && status == HONE_OK; e++) {
        int expert = -1;
        if (next < count) hone_gguf_expert(pairs[next].name, stacked, &expert);
        if (expert != e)
            status = hone_gguf_write_part(writer, zeros, bytes, err);
        else if (of_B)
            status = write_B(writer, base, &pairs[next++], alpha, err);
        else
            status = hone_gguf_write_part(writer, pairs[next++].A, bytes, err);
    }
    hone_free(zeros);
    return status;
}

static hone_status write_pairs(GgufWriter *writer, const AdapterBase *base,
                               const AdapterPair *pairs, int64_t count, float alpha,
                               HoneError *err) {
    if (hone_adapter_is_embedding(pairs->name)) {
        const double given = (double)alpha / pairs->rank;
        const double factor = same(given, (double)pairs->scale) ? 1 : (double)pairs->scale / given;
        return write_embedding(writer, pairs, factor, err);
    }
    if (is_expert(pairs)) {
        RETURN_IF_ERROR(write_stack(writer, base, pairs, count, alpha, false, err));
        return write_stack(writer, base, pairs, count, alpha, true, err);
    }
    const size_t bytes = (size_t)(pairs->rank * pairs->in) * sizeof(float);
    RETURN_IF_ERROR(hone_gguf_write_tensor(writer, pairs->A, bytes, err));
    return write_B(writer, base, pairs, alpha, err);
}

const char *hone_adapter_gguf_obstacle(const AdapterBase *base, const AdapterSettings *settings,
                                       const AdapterPair *pairs, int64_t count) {
    if (settings->whole_count > 0)
        return "llama.cpp cannot load tensors that were trained whole; hone merge makes a model "
               "file of them";
    for (int64_t i = 0; i < count; i++) {
        if (pairs[i].magnitude)
            return "llama.cpp cannot load a DoRA; hone merge makes a model file of it";
        if (i > 0 && is_expert(&pairs[i]) && is_expert(&pairs[i - 1]) &&
            pairs[i].rank != pairs[i - 1].rank)
            return "llama.cpp has one rank for all experts of a layer; hone merge makes a model "
                   "file of it";
        const bool shared =
            hone_adapter_is_embedding(pairs[i].name) || strcmp(pairs[i].name, "output.weight") == 0;
        if (shared && base->tied_head)
            return "llama.cpp cannot adapt an embedding that is the head too; hone merge makes a "
                   "model file of it";
    }
    return NULL;
}

hone_status hone_adapter_gguf_write(const char *path, const AdapterBase *base,
                                    const AdapterSettings *settings, const AdapterPair *pairs,
                                    int64_t count, HoneError *err) {
    RETURN_IF_ERROR(hone_adapter_check(path, base, settings, pairs, count, err));
    const char *obstacle = hone_adapter_gguf_obstacle(base, settings, pairs, count);
    if (obstacle)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s: not written: %s", path, obstacle);
    GgufWriter *writer;
    RETURN_IF_ERROR(hone_gguf_writer_create(&writer, err));
    float alpha = file_alpha(settings, pairs);
    describe(writer, base, alpha, pairs, count);
    hone_status status = hone_gguf_writer_begin(writer, path, err);
    char stacked[GGUF_NAME];
    for (int64_t i = 0, end; i < count && status == HONE_OK; i = end) {
        end = stack_end(pairs, i, count, stacked);
        status = write_pairs(writer, base, &pairs[i], end - i, alpha, err);
    }
    if (status == HONE_OK) status = hone_gguf_writer_commit(writer, err);
    hone_gguf_writer_free(writer);
    return status;
}
