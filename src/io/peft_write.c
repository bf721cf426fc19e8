// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/adapter.h"
#include "io/hf_parts.h"
#include "io/gguf.h"
#include "io/safetensors.h"

// ---- adapter_config.json -----------------------------------------------------------------------

static const char *bool_text(bool value) {
    return value ? "true" : "false";
}

// The shortest text that reads back as the same float; whole numbers without a point, as PEFT has
// them.
static void put_number(TextBuffer *text, float value) {
    char digits[40];
    for (int precision = 1; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value) break;
    }
    if (value == floorf(value) && fabsf(value) < 0x1p24f)
        snprintf(digits, sizeof digits, "%d", (int)value);
    hone_text_puts(text, digits);
}

// The alpha that gives this pair its scale; the settings' own wherever that does.
static float pair_alpha(const AdapterSettings *settings, const AdapterPair *pair) {
    double divisor = settings->rslora ? sqrt((double)pair->rank) : (double)pair->rank;
    if ((float)((double)settings->alpha / divisor) == pair->scale) return settings->alpha;
    double alpha = (double)pair->scale * divisor, whole = round(alpha);
    return (float)((float)(whole / divisor) == pair->scale ? whole : alpha);
}

static int compare_names(const void *left, const void *right) {
    return strcmp(left, right);
}

typedef struct PatternEntry {
    char module[ADAPTER_MODULE]; // first, so that compare_names sorts entries
    float value;
} PatternEntry;

// The modules whose rank (or alpha) is not the settings' own, sorted by name.
static hone_status put_pattern(TextBuffer *text, const char *key, const AdapterBase *base,
                               const AdapterSettings *settings, const AdapterPair *pairs,
                               int64_t count, bool of_rank, HoneError *err) {
    PatternEntry *entries = hone_calloc((size_t)count, sizeof *entries);
    if (!entries) return hone_fail_memory(err, (size_t)count * sizeof *entries, key);
    int64_t listed = 0;
    for (int64_t i = 0; i < count; i++) {
        float value = of_rank ? (float)pairs[i].rank : pair_alpha(settings, &pairs[i]);
        if (value == (of_rank ? (float)settings->rank : settings->alpha)) continue;
        hone_adapter_module(base, pairs[i].name, entries[listed].module);
        entries[listed++].value = value;
    }
    qsort(entries, (size_t)listed, sizeof *entries, compare_names);
    hone_text_printf(text, "  \"%s\": {", key);
    for (int64_t i = 0; i < listed; i++) {
        hone_text_printf(text, "%s    \"%s\": ", i ? ",\n" : "\n", entries[i].module);
        put_number(text, entries[i].value);
    }
    hone_text_puts(text, listed ? "\n  },\n" : "},\n");
    hone_free(entries);
    return HONE_OK;
}

// How many layers have a pair for this leaf, of the `layers` that have any.
static bool in_all_layers(const AdapterBase *base, const AdapterPair *pairs, int64_t count,
                          const char *leaf, int64_t layers) {
    int64_t found = 0, experts = 0;
    char module[ADAPTER_MODULE], stacked[GGUF_NAME];
    int expert;
    for (int64_t i = 0; i < count; i++) {
        if (!hone_adapter_module(base, pairs[i].name, module) ||
            strcmp(hone_adapter_leaf(base, module), leaf) != 0)
            continue;
        if (hone_gguf_expert(pairs[i].name, stacked, &expert))
            experts++;
        else
            found++;
    }
    return found + experts / (base->experts ? base->experts : 1) == layers;
}

static int64_t count_layers(const AdapterPair *pairs, int64_t count) {
    int last = -1, layer;
    for (int64_t i = 0; i < count; i++)
        if (sscanf(pairs[i].name, "blk.%d.", &layer) == 1 && layer > last) last = layer;
    return last + 1;
}

// Leaf names; the full path where a leaf is adapted in some layers only, or PEFT would adapt it in
// all.
static hone_status put_targets(TextBuffer *text, const AdapterBase *base, const AdapterPair *pairs,
                               int64_t count, HoneError *err) {
    int64_t layers = count_layers(pairs, count);
    char(*names)[ADAPTER_MODULE] = hone_calloc((size_t)count, sizeof *names);
    if (!names) return hone_fail_memory(err, (size_t)count * sizeof *names, "module names");
    char counted[ADAPTER_MODULE] = ""; // experts of a layer have one leaf: it is looked for once
    bool everywhere = false;
    for (int64_t i = 0; i < count; i++) {
        char module[ADAPTER_MODULE] = {0};
        hone_adapter_module(base, pairs[i].name, module);
        const char *leaf = hone_adapter_leaf(base, module);
        int layer;
        if (strcmp(counted, leaf) != 0) {
            snprintf(counted, sizeof counted, "%s", leaf);
            everywhere = in_all_layers(base, pairs, count, leaf, layers);
            if (strcmp(leaf, "output.dense") == 0) // BERT's attention has one of that end too
                everywhere = everywhere &&
                             in_all_layers(base, pairs, count, "attention.output.dense", layers);
        }
        const bool outside = sscanf(pairs[i].name, "blk.%d.", &layer) != 1;
        const bool whole = outside ? strchr(leaf, '.') || strcmp(leaf, "dense") != 0 : everywhere;
        snprintf(names[i], sizeof names[i], "%s", whole ? leaf : module);
    }
    qsort(names, (size_t)count, sizeof *names, compare_names);
    hone_text_puts(text, "  \"target_modules\": [");
    for (int64_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(names[i], names[i - 1]) == 0) continue;
        hone_text_printf(text, "%s\n    \"%s\"", i ? "," : "", names[i]);
    }
    hone_text_puts(text, "\n  ],\n");
    hone_free(names);
    return HONE_OK;
}

// Is this whole tensor a bias trained beside a weight that is not whole? PEFT has such by "bias",
// not by modules_to_save. *adapted: its weight has a pair.
static bool is_bias(const AdapterSettings *settings, const AdapterWhole *whole,
                    const AdapterPair *pairs, int64_t count, bool *adapted) {
    const char *part = strrchr(whole->name, '.');
    const size_t stem = part ? (size_t)(part - whole->name) : 0;
    *adapted = false;
    if (!part || strcmp(part, ".bias") != 0) return false;
    char weight[ADAPTER_NAME + 8];
    snprintf(weight, sizeof weight, "%.*s.weight", (int)stem, whole->name);
    for (int64_t i = 0; i < settings->whole_count; i++)
        if (strcmp(settings->whole[i].name, weight) == 0) return false;
    for (int64_t i = 0; i < count && !*adapted; i++) *adapted = strcmp(pairs[i].name, weight) == 0;
    return true;
}

// What "bias" says: "all" where a module that has no pair has a trained bias.
static const char *bias_kind(const AdapterSettings *settings, const AdapterPair *pairs,
                             int64_t count) {
    const char *kind = "none";
    bool adapted;
    for (int64_t i = 0; i < settings->whole_count; i++) {
        if (!is_bias(settings, &settings->whole[i], pairs, count, &adapted)) continue;
        if (!adapted) return "all";
        kind = "lora_only";
    }
    return kind;
}

// The modules of whole tensors, sorted, each once: a weight and its bias are one.
static hone_status put_saved(TextBuffer *text, const AdapterBase *base,
                             const AdapterSettings *settings, const AdapterPair *pairs,
                             int64_t pair_count, HoneError *err) {
    const size_t most = (size_t)settings->whole_count;
    char(*names)[ADAPTER_MODULE] = hone_calloc(most + 1, sizeof *names);
    if (!names) return hone_fail_memory(err, most * sizeof *names, "module names");
    hone_status status = HONE_OK;
    size_t count = 0;
    bool adapted;
    for (size_t i = 0; i < most && status == HONE_OK; i++) {
        if (is_bias(settings, &settings->whole[i], pairs, pair_count, &adapted)) continue;
        status = hone_whole_module(&settings->whole[i], base, names[count], err);
        *strrchr(names[count++], '.') = '\0';
    }
    qsort(names, count, sizeof *names, compare_names);
    hone_text_puts(text, count ? "[" : "null");
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(names[i], names[i - 1]) == 0) continue;
        hone_text_printf(text, "%s\n    \"%s\"", i ? "," : "", names[i]);
    }
    if (count) hone_text_puts(text, "\n  ]");
    hone_free(names);
    return status;
}

static hone_status make_config(const AdapterBase *base, const AdapterSettings *settings,
                               const AdapterPair *pairs, int64_t count, TextBuffer *text,
                               HoneError *err) {
    hone_text_puts(text, "{\n");
    RETURN_IF_ERROR(put_pattern(text, "alpha_pattern", base, settings, pairs, count, false, err));
    hone_text_puts(text, "  \"base_model_name_or_path\": ");
    if (base->path)
        hone_text_json(text, base->path, strlen(base->path));
    else
        hone_text_puts(text, "null");
    hone_text_printf(text,
                     ",\n  \"bias\": \"%s\",\n  \"fan_in_fan_out\": %s,\n"
                     "  \"inference_mode\": true,\n  \"init_lora_weights\": true,\n"
                     "  \"lora_alpha\": ",
                     bias_kind(settings, pairs, count), bool_text(hone_adapter_in_out(base)));
    put_number(text, settings->alpha);
    hone_text_puts(text, ",\n  \"lora_dropout\": ");
    put_number(text, settings->dropout);
    hone_text_puts(text, ",\n  \"modules_to_save\": ");
    RETURN_IF_ERROR(put_saved(text, base, settings, pairs, count, err));
    hone_text_printf(text,
                     ",\n  \"peft_type\": \"LORA\",\n"
                     "  \"peft_version\": \"0.21.2\",\n  \"r\": %d,\n",
                     settings->rank);
    RETURN_IF_ERROR(put_pattern(text, "rank_pattern", base, settings, pairs, count, true, err));
    RETURN_IF_ERROR(put_targets(text, base, pairs, count, err));
    hone_text_printf(text,
                     "  \"task_type\": \"%s\",\n  \"use_dora\": %s,\n"
                     "  \"use_rslora\": %s\n}\n",
                     settings->task                   ? settings->task
                     : hone_is_t5(base->architecture) ? "SEQ_2_SEQ_LM"
                                                      : "CAUSAL_LM",
                     bool_text(pairs->magnitude != NULL), bool_text(settings->rslora));
    if (text->failed) return hone_fail_memory(err, text->length, "adapter_config.json");
    return HONE_OK;
}

// ---- adapter_model.safetensors -----------------------------------------------------------------

static hone_status name_tensor(Arena *memory, const AdapterBase *base, const AdapterPair *pair,
                               const char *ending, SafeTensorEntry *entry, HoneError *err) {
    char module[ADAPTER_MODULE] = {0}, name[ADAPTER_MODULE + 64];
    hone_adapter_module(base, pair->name, module);
    int length = snprintf(name, sizeof name, "base_model.model.%s.%s", module, ending);
    entry->name = hone_arena_strndup(memory, name, (size_t)length);
    return entry->name ? HONE_OK : hone_fail_memory(err, (size_t)length, pair->name);
}

static hone_status turned(Arena *memory, const float *values, int64_t rows, int64_t columns,
                          const float **to, HoneError *err) {
    const size_t bytes = (size_t)(rows * columns) * sizeof(float);
    float *other = hone_arena_alloc(memory, bytes);
    if (!other) return hone_fail_memory(err, bytes, "an adapter");
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) other[c * rows + r] = values[r * columns + c];
    *to = other;
    return HONE_OK;
}

// embedding_A (rank, tokens) = Bᵀ, embedding_B (width, rank) = Aᵀ
static hone_status add_embedding(const AdapterBase *base, const AdapterPair *pair, Arena *memory,
                                 SafeTensorEntry entries[2], HoneError *err) {
    const float *A = NULL, *B = NULL;
    RETURN_IF_ERROR(turned(memory, pair->B, pair->out, pair->rank, &A, err));
    RETURN_IF_ERROR(turned(memory, pair->A, pair->rank, pair->in, &B, err));
    entries[0] = (SafeTensorEntry){
        .dtype = HONE_F32, .rank = 2, .shape = {pair->rank, pair->out}, .data = A};
    entries[1] =
        (SafeTensorEntry){.dtype = HONE_F32, .rank = 2, .shape = {pair->in, pair->rank}, .data = B};
    RETURN_IF_ERROR(name_tensor(memory, base, pair, "lora_embedding_A", &entries[0], err));
    return name_tensor(memory, base, pair, "lora_embedding_B", &entries[1], err);
}

// Rows of `columns` values as PEFT has them.
static hone_status peft_rows(const AdapterBase *base, const AdapterPair *pair, int columns,
                             Arena *memory, const float **rows, HoneError *err) {
    const int heads = hone_adapter_permuted_heads(base, pair->name);
    if (!heads) return HONE_OK;
    const size_t bytes = (size_t)(pair->out * columns) * sizeof(float);
    float *moved = hone_arena_alloc(memory, bytes);
    if (!moved) return hone_fail_memory(err, bytes, pair->name);
    hone_adapter_rows_to_peft(moved, *rows, heads, base->head_size, columns);
    *rows = moved;
    return HONE_OK;
}

static hone_status add_pair(const AdapterBase *base, const AdapterPair *pair, Arena *memory,
                            SafeTensorEntry entries[3], int64_t *count, HoneError *err) {
    *count = pair->magnitude ? 3 : 2;
    if (hone_adapter_is_embedding(pair->name))
        return add_embedding(base, pair, memory, entries, err);
    const float *B = pair->B, *magnitude = pair->magnitude;
    RETURN_IF_ERROR(peft_rows(base, pair, pair->rank, memory, &B, err));
    entries[0] = (SafeTensorEntry){
        .dtype = HONE_F32, .rank = 2, .shape = {pair->rank, pair->in}, .data = pair->A};
    entries[1] = (SafeTensorEntry){
        .dtype = HONE_F32, .rank = 2, .shape = {pair->out, pair->rank}, .data = B};
    RETURN_IF_ERROR(name_tensor(memory, base, pair, "lora_A.weight", &entries[0], err));
    RETURN_IF_ERROR(name_tensor(memory, base, pair, "lora_B.weight", &entries[1], err));
    if (!magnitude) return HONE_OK;
    RETURN_IF_ERROR(peft_rows(base, pair, 1, memory, &magnitude, err));
    entries[2] =
        (SafeTensorEntry){.dtype = HONE_F32, .rank = 1, .shape = {pair->out}, .data = magnitude};
    return name_tensor(memory, base, pair, "lora_magnitude_vector", &entries[2], err);
}

static hone_status write_tensors(const char *path, const AdapterBase *base,
                                 const AdapterSettings *settings, const AdapterPair *pairs,
                                 int64_t count, HoneError *err) {
    Arena memory = {0};
    const size_t most = (size_t)(count * 3 + settings->whole_count);
    SafeTensorEntry *entries = hone_arena_calloc(&memory, most, sizeof *entries);
    int64_t used = 0, added;
    hone_status status = HONE_OK;
    if (!entries) status = hone_fail_memory(err, most * sizeof *entries, "adapter tensors");
    for (int64_t i = 0; i < count && status == HONE_OK; i++) {
        status = add_pair(base, &pairs[i], &memory, &entries[used], &added, err);
        used += added;
    }
    for (int64_t i = 0; i < settings->whole_count && status == HONE_OK; i++) {
        bool adapted;
        is_bias(settings, &settings->whole[i], pairs, count, &adapted);
        status =
            hone_whole_entry(&settings->whole[i], base, adapted, &memory, &entries[used++], err);
    }
    if (status == HONE_OK) status = hone_safetensors_write(path, entries, used, err);
    hone_arena_free(&memory);
    return status;
}

// ---- the folder --------------------------------------------------------------------------------

static hone_status check_modules(const char *folder, const AdapterBase *base,
                                 const AdapterSettings *settings, const AdapterPair *pairs,
                                 int64_t count, HoneError *err) {
    char module[ADAPTER_MODULE];
    for (int64_t i = 0; i < count; i++)
        if (!hone_adapter_module(base, pairs[i].name, module))
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: %s has no name in PEFT that Hone knows", folder, pairs[i].name);
    if (settings->rank >= 1) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: an adapter of rank %d cannot be written",
                     folder, settings->rank);
}

static hone_status write_files(const char *tensors_path, const char *config_path,
                               const AdapterBase *base, const AdapterSettings *settings,
                               const AdapterPair *pairs, int64_t count, HoneError *err) {
    TextBuffer config = {0};
    hone_status status = make_config(base, settings, pairs, count, &config, err);
    if (status == HONE_OK) status = write_tensors(tensors_path, base, settings, pairs, count, err);
    if (status == HONE_OK) status = hone_file_write(config_path, config.data, config.length, err);
    hone_text_free(&config);
    return status;
}

hone_status hone_peft_write(const char *folder, const AdapterBase *base,
                            const AdapterSettings *settings, const AdapterPair *pairs,
                            int64_t count, HoneError *err) {
    RETURN_IF_ERROR(hone_adapter_check(folder, base, settings, pairs, count, err));
    RETURN_IF_ERROR(check_modules(folder, base, settings, pairs, count, err));
    RETURN_IF_ERROR(hone_directory_make(folder, err));
    char *tensors_path = hone_path_join(folder, "adapter_model.safetensors");
    char *config_path = hone_path_join(folder, "adapter_config.json");
    hone_status status = HONE_OK;
    if (!tensors_path || !config_path)
        status = hone_fail_memory(err, strlen(folder) + 32, "a path");
    else
        status = write_files(tensors_path, config_path, base, settings, pairs, count, err);
    hone_free(tensors_path);
    hone_free(config_path);
    return status;
}
