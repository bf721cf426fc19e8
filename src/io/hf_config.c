// SPDX-License-Identifier: Apache-2.0
// config.json of the families that Hone computes, as GGUF's keys.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/hf_config.h"

// ---- keys as GGUF stores them ------------------------------------------------------------------

void hone_hf_append_string(HfKeys *keys, const char *value, size_t length) {
    const uint64_t count = length;
    hone_text_append(&keys->bytes, &count, sizeof count);
    hone_text_append(&keys->bytes, value, length);
}

void hone_hf_put_head(HfKeys *keys, const char *name, GgufType type) {
    const uint32_t number = (uint32_t)type;
    hone_hf_append_string(keys, name, strlen(name));
    hone_text_append(&keys->bytes, &number, sizeof number);
    keys->count++;
}

void hone_hf_put_u32(HfKeys *keys, const char *name, int64_t value) {
    const uint32_t stored = (uint32_t)value;
    hone_hf_put_head(keys, name, GGUF_U32);
    hone_text_append(&keys->bytes, &stored, sizeof stored);
}

void hone_hf_put_f32(HfKeys *keys, const char *name, double value) {
    const float stored = (float)value;
    hone_hf_put_head(keys, name, GGUF_F32);
    hone_text_append(&keys->bytes, &stored, sizeof stored);
}

void hone_hf_put_bool(HfKeys *keys, const char *name, bool value) {
    const uint8_t stored = value;
    hone_hf_put_head(keys, name, GGUF_BOOL);
    hone_text_append(&keys->bytes, &stored, 1);
}

void hone_hf_put_string(HfKeys *keys, const char *name, const char *value, size_t length) {
    hone_hf_put_head(keys, name, GGUF_STRING);
    hone_hf_append_string(keys, value, length);
}

void hone_hf_begin_array(HfKeys *keys, const char *name, GgufType element, int64_t count) {
    const uint32_t type = (uint32_t)element;
    const uint64_t elements = (uint64_t)count;
    hone_hf_put_head(keys, name, GGUF_ARRAY);
    hone_text_append(&keys->bytes, &type, sizeof type);
    hone_text_append(&keys->bytes, &elements, sizeof elements);
}

// ---- values ------------------------------------------------------------------------------------

hone_status hone_hf_json(const char *folder, const char *name, bool needed, size_t flags,
                         json_t **root, HoneError *err) {
    *root = NULL;
    char *path = hone_path_join(folder, name), *text = NULL;
    if (!path) return hone_fail_memory(err, strlen(folder), "a path");
    hone_status status = HONE_OK;
    size_t length = 0;
    if (needed || hone_is_file(path)) status = hone_file_read(path, &text, &length, err);
    if (text) {
        json_error_t fault = {0};
        hone_memory_watch();
        *root = json_loadb(text, length, JSON_REJECT_DUPLICATES | flags, &fault);
        if (!*root && hone_memory_lacked())
            status = hone_fail_memory(err, length, path);
        else if (!*root)
            status = hone_fail(err, HONE_ERROR_INPUT, "%s:%d: not JSON: %s", path, fault.line,
                               fault.text);
        else if (!json_is_object(*root))
            status = hone_fail(err, HONE_ERROR_INPUT, "%s: is no JSON object", path);
    }
    if (status != HONE_OK) {
        json_decref(*root);
        *root = NULL;
    }
    hone_free(text);
    hone_free(path);
    return status;
}

hone_status hone_hf_refuse(const ConfigReading *reading, const char *key, const char *problem) {
    char text[100] = "missing";
    const json_t *value = json_object_get(reading->root, key);
    if (value) {
        const size_t length = json_dumpb(value, text, sizeof text, JSON_ENCODE_ANY | JSON_COMPACT);
        text[length < sizeof text ? length : sizeof text - 1] = '\0';
    }
    return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED, "%s/config.json: \"%s\" is %s: %s",
                     reading->folder, key, text, problem);
}

hone_status hone_hf_read_count(const ConfigReading *reading, const char *key, int64_t missing,
                               int64_t *value) {
    const json_t *found = json_object_get(reading->root, key);
    *value = missing;
    if ((!found || json_is_null(found)) && missing >= 0) return HONE_OK;
    if (!found)
        return hone_fail(reading->err, HONE_ERROR_INPUT, "%s/config.json: \"%s\" is missing",
                         reading->folder, key);
    *value = json_integer_value(found);
    if (json_is_integer(found) && *value >= 1 && *value <= INT32_MAX) return HONE_OK;
    return hone_fail(reading->err, HONE_ERROR_INPUT,
                     "%s/config.json: \"%s\" is not a whole number from 1 to 2147483647",
                     reading->folder, key);
}

hone_status hone_hf_read_real(const ConfigReading *reading, const json_t *object, const char *key,
                              double missing, double *value) {
    const json_t *found = json_object_get(object, key);
    *value = missing;
    if ((!found || json_is_null(found)) && missing > 0) return HONE_OK;
    if (json_is_number(found)) *value = json_number_value(found);
    if (json_is_number(found) && *value > 0) return HONE_OK;
    return hone_fail(reading->err, HONE_ERROR_INPUT,
                     "%s/config.json: \"%s\" is %s, a number above 0 is wanted", reading->folder,
                     key, found ? "something else" : "missing");
}

bool hone_hf_flag(const ConfigReading *reading, const char *key, bool missing) {
    const json_t *found = json_object_get(reading->root, key);
    return json_is_boolean(found) ? json_is_true(found) : missing;
}

bool hone_hf_text_is(const ConfigReading *reading, const char *key, const char *wanted) {
    const char *text = json_string_value(json_object_get(reading->root, key));
    return text ? strcmp(text, wanted) == 0 : !json_object_get(reading->root, key);
}

static const char *key_name(const ConfigReading *reading, const char *suffix, char name[96]) {
    snprintf(name, 96, "%s.%s", reading->family->architecture, suffix);
    return name;
}

void hone_hf_put_count(const ConfigReading *reading, const char *suffix, int64_t value) {
    char name[96];
    hone_hf_put_u32(reading->keys, key_name(reading, suffix, name), value);
}

void hone_hf_put_sizes(const ConfigReading *reading, const HfConfig *config, int64_t context,
                       int64_t width, int64_t feed_forward) {
    hone_hf_put_count(reading, "block_count", config->layers);
    hone_hf_put_count(reading, "context_length", context);
    hone_hf_put_count(reading, "embedding_length", width);
    hone_hf_put_count(reading, "feed_forward_length", feed_forward);
    hone_hf_put_count(reading, "attention.head_count", config->heads);
}

void hone_hf_put_real(const ConfigReading *reading, const char *suffix, double value) {
    char name[96];
    hone_hf_put_f32(reading->keys, key_name(reading, suffix, name), value);
}

void hone_hf_put_flag(const ConfigReading *reading, const char *suffix, bool value) {
    char name[96];
    hone_hf_put_bool(reading->keys, key_name(reading, suffix, name), value);
}

void hone_hf_put_text(const ConfigReading *reading, const char *suffix, const char *value) {
    char name[96];
    hone_hf_put_string(reading->keys, key_name(reading, suffix, name), value, strlen(value));
}

void hone_hf_put_flags(const ConfigReading *reading, const char *suffix, const bool *flags,
                       int64_t count) {
    char name[96];
    hone_hf_begin_array(reading->keys, key_name(reading, suffix, name), GGUF_BOOL, count);
    for (int64_t i = 0; i < count; i++) {
        const uint8_t stored = flags[i];
        hone_text_append(&reading->keys->bytes, &stored, 1);
    }
}

// ---- families ----------------------------------------------------------------------------------

// By transformers' model_type. What follows the architecture's names is what transformers takes
// where a config.json says nothing; 0: as many as there are heads, their share of the width.
static const HfFamily families[] = {
    {"llama", "llama", "LlamaForCausalLM", .context = 2048, .eps = 1e-6},
    {"mistral", "llama", "MistralForCausalLM", .kv_heads = 8, .context = 131072, .eps = 1e-6,
     .window = 4096},
    {"granite", "granite", "GraniteForCausalLM", .context = 2048, .eps = 1e-6},
    {"smollm3", "smollm3", "SmolLM3ForCausalLM", .kv_heads = 4, .context = 32768, .eps = 1e-6,
     .tied = true, .base = 2e6, .turning = 4, .windowed = HF_WINDOW_ASKED},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", .kv_heads = 32, .context = 32768, .eps = 1e-6,
     .window = 4096, .windowed = HF_WINDOW_ASKED},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", .kv_heads = 32, .head_size = 128, .context = 32768,
     .eps = 1e-6, .window = 4096, .windowed = HF_WINDOW_ASKED},
    {"qwen3_moe", "qwen3moe", "Qwen3MoeForCausalLM", .kv_heads = 4, .context = 32768, .eps = 1e-6,
     .window = 4096, .windowed = HF_WINDOW_ASKED, .experts = 128, .expert_size = 768},
    {"olmoe", "olmoe", "OlmoeForCausalLM", .context = 4096, .eps = 1e-5,
     .windowed = HF_WINDOW_NEVER, .experts = 64},
    {"phi3", "phi3", "Phi3ForCausalLM", .context = 4096, .eps = 1e-5},
    {"olmo2", "olmo2", "Olmo2ForCausalLM", .context = 2048, .eps = 1e-5,
     .windowed = HF_WINDOW_NEVER},
    {"gemma2", "gemma2", "Gemma2ForCausalLM", .kv_heads = 4, .head_size = 256, .context = 8192,
     .eps = 1e-6, .tied = true, .window = 4096, .period = 2, .gemma = true},
    {"gemma3_text", "gemma3", "Gemma3ForCausalLM", .kv_heads = 4, .head_size = 256,
     .context = 131072, .eps = 1e-6, .tied = true, .window = 4096, .base = 1e6,
     .sliding_base = 10000, .period = 6, .gemma = true},
    {"gpt2", "gpt2", "GPT2LMHeadModel", .context = 1024, .eps = 1e-5, .tied = true},
    {"bert", "bert", "BertModel", .context = 512, .eps = 1e-12, .tied = true},
    {"t5", "t5", "T5ForConditionalGeneration", .context = 512, .eps = 1e-6, .tied = true},
};

enum { FAMILIES = sizeof families / sizeof *families };

const HfFamily *hone_hf_family_of(const char *architecture) {
    for (int i = 0; i < FAMILIES; i++)
        if (strcmp(families[i].architecture, architecture) == 0) return &families[i];
    return NULL;
}

static hone_status find_family(const char *folder, const char *type, const HfFamily **family,
                               HoneError *err) {
    TextBuffer known = {0};
    for (int i = 0; i < FAMILIES; i++) {
        *family = &families[i];
        if (strcmp(families[i].model_type, type) == 0) {
            hone_text_free(&known);
            return HONE_OK;
        }
        hone_text_printf(&known, "%s%s", i ? ", " : "", families[i].model_type);
    }
    hone_status status =
        hone_fail(err, HONE_ERROR_UNSUPPORTED,
                  "%s/config.json: model_type \"%.60s\" is not supported; supported: %s", folder,
                  type, known.failed ? "llama" : known.data);
    hone_text_free(&known);
    return status;
}

hone_status hone_hf_config(const char *folder, const json_t *root, HfConfig *config, HfKeys *keys,
                           HoneError *err) {
    *config = (HfConfig){0};
    ConfigReading reading = {.folder = folder, .root = root, .keys = keys, .err = err};
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type)
        return hone_fail(err, HONE_ERROR_INPUT, "%s/config.json: has no text \"model_type\"",
                         folder);
    RETURN_IF_ERROR(find_family(folder, type, &reading.family, err));
    const char *architecture = config->architecture = reading.family->architecture;
    RETURN_IF_ERROR(hone_hf_read_count(&reading, "vocab_size", -1, &config->vocabulary));
    hone_hf_put_string(keys, "general.architecture", architecture, strlen(architecture));
    hone_hf_put_string(keys, "general.type", "model", 5);
    config->tied = hone_hf_flag(&reading, "tie_word_embeddings", reading.family->tied);
    if (hone_hf_is_encoder(architecture)) return hone_hf_read_encoder(&reading, config);
    if (hone_is_t5(architecture)) return hone_hf_read_t5(&reading, config);
    return strcmp(architecture, "gpt2") == 0 ? hone_hf_read_gpt2(&reading, config)
                                             : hone_hf_read_decoder(&reading, config);
}
