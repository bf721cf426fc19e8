// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/adapter.h"
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
    int64_t found = 0;
    char module[ADAPTER_MODULE];
    for (int64_t i = 0; i < count; i++)
        found += hone_adapter_module(base, pairs[i].name, module) &&
                 strcmp(hone_adapter_leaf(base, module), leaf) == 0;
    return found == layers;
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
    for (int64_t i = 0; i < count; i++) {
        char module[ADAPTER_MODULE] = {0};
        hone_adapter_module(base, pairs[i].name, module);
        const char *leaf = hone_adapter_leaf(base, module);
        bool whole = leaf == module || in_all_layers(base, pairs, count, leaf, layers);
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
                     ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": %s,\n"
                     "  \"inference_mode\": true,\n  \"init_lora_weights\": true,\n"
                     "  \"lora_alpha\": ",
                     bool_text(hone_adapter_in_out(base)));
    put_number(text, settings->alpha);
    hone_text_puts(text, ",\n  \"lora_dropout\": ");
    put_number(text, settings->dropout);
    hone_text_printf(text,
                     ",\n  \"modules_to_save\": null,\n  \"peft_type\": \"LORA\",\n"
                     "  \"peft_version\": \"0.21.2\",\n  \"r\": %d,\n",
                     settings->rank);
    RETURN_IF_ERROR(put_pattern(text, "rank_pattern", base, settings, pairs, count, true, err));
    RETURN_IF_ERROR(put_targets(text, base, pairs, count, err));
    hone_text_printf(text,
                     "  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n"
                     "  \"use_rslora\": %s\n}\n",
                     bool_text(settings->rslora));
    if (text->failed) return hone_fail_memory(err, text->length, "adapter_config.json");
    return HONE_OK;
}

// ---- adapter_model.safetensors -----------------------------------------------------------------

static char *tensor_name(Arena *memory, const AdapterBase *base, const AdapterPair *pair,
                         const char *ending) {
    char module[ADAPTER_MODULE] = {0}, name[ADAPTER_MODULE + 64];
    hone_adapter_module(base, pair->name, module);
    int length = snprintf(name, sizeof name, "base_model.model.%s.%s.weight", module, ending);
    return hone_arena_strndup(memory, name, (size_t)length);
}

static hone_status add_pair(const AdapterBase *base, const AdapterPair *pair, Arena *memory,
                            SafeTensorEntry entries[2], HoneError *err) {
    size_t values = (size_t)(pair->out * pair->rank);
    const float *B = pair->B;
    int heads = hone_adapter_permuted_heads(base, pair->name);
    if (heads) {
        float *moved = hone_arena_alloc(memory, values * sizeof *moved);
        if (!moved) return hone_fail_memory(err, values * sizeof *moved, pair->name);
        hone_adapter_rows_to_peft(moved, pair->B, heads, base->head_size, pair->rank);
        B = moved;
    }
    entries[0] = (SafeTensorEntry){.name = tensor_name(memory, base, pair, "lora_A"),
                                   .dtype = HONE_F32,
                                   .rank = 2,
                                   .shape = {pair->rank, pair->in},
                                   .data = pair->A};
    entries[1] = (SafeTensorEntry){.name = tensor_name(memory, base, pair, "lora_B"),
                                   .dtype = HONE_F32,
                                   .rank = 2,
                                   .shape = {pair->out, pair->rank},
                                   .data = B};
    if (entries[0].name && entries[1].name) return HONE_OK;
    return hone_fail_memory(err, ADAPTER_MODULE, pair->name);
}

static hone_status write_tensors(const char *path, const AdapterBase *base,
                                 const AdapterPair *pairs, int64_t count, HoneError *err) {
    Arena memory = {0};
    SafeTensorEntry *entries = hone_arena_calloc(&memory, (size_t)count * 2, sizeof *entries);
    hone_status status = HONE_OK;
    if (!entries)
        status = hone_fail_memory(err, (size_t)count * 2 * sizeof *entries, "adapter tensors");
    for (int64_t i = 0; i < count && status == HONE_OK; i++)
        status = add_pair(base, &pairs[i], &memory, &entries[2 * i], err);
    if (status == HONE_OK) status = hone_safetensors_write(path, entries, count * 2, err);
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
    if (status == HONE_OK) status = write_tensors(tensors_path, base, pairs, count, err);
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
