// SPDX-License-Identifier: Apache-2.0
// config.json of the families that Hone computes, as GGUF's keys.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/hf_parts.h"

// ---- keys as GGUF stores them ------------------------------------------------------------------

void hone_hf_append_string(HfKeys *keys, const char *value, size_t length) {
    const uint64_t count = length;
    hone_text_append(&keys->bytes, &count, sizeof count);
    hone_text_append(&keys->bytes, value, length);
}

static void put_head(HfKeys *keys, const char *name, GgufType type) {
    const uint32_t number = (uint32_t)type;
    hone_hf_append_string(keys, name, strlen(name));
    hone_text_append(&keys->bytes, &number, sizeof number);
    keys->count++;
}

void hone_hf_put_u32(HfKeys *keys, const char *name, int64_t value) {
    const uint32_t stored = (uint32_t)value;
    put_head(keys, name, GGUF_U32);
    hone_text_append(&keys->bytes, &stored, sizeof stored);
}

void hone_hf_put_f32(HfKeys *keys, const char *name, double value) {
    const float stored = (float)value;
    put_head(keys, name, GGUF_F32);
    hone_text_append(&keys->bytes, &stored, sizeof stored);
}

void hone_hf_put_bool(HfKeys *keys, const char *name, bool value) {
    const uint8_t stored = value;
    put_head(keys, name, GGUF_BOOL);
    hone_text_append(&keys->bytes, &stored, 1);
}

void hone_hf_put_string(HfKeys *keys, const char *name, const char *value, size_t length) {
    put_head(keys, name, GGUF_STRING);
    hone_hf_append_string(keys, value, length);
}

void hone_hf_begin_array(HfKeys *keys, const char *name, GgufType element, int64_t count) {
    const uint32_t type = (uint32_t)element;
    const uint64_t elements = (uint64_t)count;
    put_head(keys, name, GGUF_ARRAY);
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
        json_error_t fault;
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

typedef struct ConfigReading {
    const char *folder;
    const json_t *root;
    HfKeys *keys;
    const char *architecture;
    HoneError *err;
} ConfigReading;

static hone_status refuse(const ConfigReading *reading, const char *key, const char *problem) {
    char text[100] = "missing";
    const json_t *value = json_object_get(reading->root, key);
    if (value) {
        const size_t length = json_dumpb(value, text, sizeof text, JSON_ENCODE_ANY | JSON_COMPACT);
        text[length < sizeof text ? length : sizeof text - 1] = '\0';
    }
    return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED, "%s/config.json: \"%s\" is %s: %s",
                     reading->folder, key, text, problem);
}

// A whole number in 1 … 2^31−1; missing or null: the given one, an error if that is below 0.
static hone_status read_count(const ConfigReading *reading, const char *key, int64_t missing,
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

static hone_status real_of(const ConfigReading *reading, const json_t *object, const char *key,
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

static bool flag(const ConfigReading *reading, const char *key, bool missing) {
    const json_t *found = json_object_get(reading->root, key);
    return json_is_boolean(found) ? json_is_true(found) : missing;
}

static bool text_is(const ConfigReading *reading, const char *key, const char *wanted) {
    const char *text = json_string_value(json_object_get(reading->root, key));
    return text ? strcmp(text, wanted) == 0 : !json_object_get(reading->root, key);
}

static const char *key_name(const ConfigReading *reading, const char *suffix, char name[96]) {
    snprintf(name, 96, "%s.%s", reading->architecture, suffix);
    return name;
}

static void put_count(const ConfigReading *reading, const char *suffix, int64_t value) {
    char name[96];
    hone_hf_put_u32(reading->keys, key_name(reading, suffix, name), value);
}

static void put_real(const ConfigReading *reading, const char *suffix, double value) {
    char name[96];
    hone_hf_put_f32(reading->keys, key_name(reading, suffix, name), value);
}

// The folder's own name.
static void put_name(const ConfigReading *reading) {
    size_t end = strlen(reading->folder);
    while (end > 1 && reading->folder[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && reading->folder[begin - 1] != '/') begin--;
    hone_hf_put_string(reading->keys, "general.name", reading->folder + begin, end - begin);
}

// ---- families ----------------------------------------------------------------------------------

// transformers 5 has rope_parameters, 4 has rope_theta and rope_scaled.
static hone_status read_positions(const ConfigReading *reading, HfConfig *config) {
    const json_t *rope = json_object_get(reading->root, "rope_parameters");
    const char *key = rope ? "rope_parameters" : "rope_scaling";
    if (!rope) rope = json_object_get(reading->root, "rope_scaling");
    const json_t *holder = json_object_get(rope, "rope_theta") ? rope : reading->root;
    RETURN_IF_ERROR(real_of(reading, holder, "rope_theta", 10000, &config->base));
    if (!rope || json_is_null(rope)) return HONE_OK;
    const json_t *type = json_object_get(rope, "rope_type");
    const char *name = json_string_value(type ? type : json_object_get(rope, "type"));
    if (name && strcmp(name, "default") == 0) return HONE_OK;
    if (!name || strcmp(name, "llama3") != 0)
        return refuse(reading, key, "only unscaled and Llama 3.1's positions are computed");
    config->scaled = true;
    RETURN_IF_ERROR(real_of(reading, rope, "factor", -1, &config->factor));
    RETURN_IF_ERROR(real_of(reading, rope, "low_freq_factor", -1, &config->low));
    RETURN_IF_ERROR(real_of(reading, rope, "high_freq_factor", -1, &config->high));
    RETURN_IF_ERROR(
        real_of(reading, rope, "original_max_position_embeddings", -1, &config->original));
    if (config->high > config->low) return HONE_OK;
    return hone_fail(reading->err, HONE_ERROR_INPUT,
                     "%s/config.json: %s: high_freq_factor %g is not above low_freq_factor %g",
                     reading->folder, key, config->high, config->low);
}

static hone_status read_llama(const ConfigReading *reading, HfConfig *config) {
    int64_t width, feed, context, window;
    double eps;
    RETURN_IF_ERROR(read_count(reading, "num_hidden_layers", -1, &config->layers));
    RETURN_IF_ERROR(read_count(reading, "hidden_size", -1, &width));
    RETURN_IF_ERROR(read_count(reading, "intermediate_size", -1, &feed));
    RETURN_IF_ERROR(read_count(reading, "num_attention_heads", -1, &config->heads));
    RETURN_IF_ERROR(read_count(reading, "num_key_value_heads", config->heads, &config->kv_heads));
    RETURN_IF_ERROR(read_count(reading, "head_dim", width / config->heads, &config->head_size));
    RETURN_IF_ERROR(read_count(reading, "max_position_embeddings", 2048, &context));
    RETURN_IF_ERROR(real_of(reading, reading->root, "rms_norm_eps", 1e-6, &eps));
    RETURN_IF_ERROR(read_positions(reading, config));
    config->tied = flag(reading, "tie_word_embeddings", false);
    if (flag(reading, "attention_bias", false))
        return refuse(reading, "attention_bias", "a Llama with biases is not computed");
    if (flag(reading, "mlp_bias", false))
        return refuse(reading, "mlp_bias", "a Llama with biases is not computed");
    if (!text_is(reading, "hidden_act", "silu"))
        return refuse(reading, "hidden_act", "only silu is computed");
    if (!text_is(reading, "model_type", "llama")) { // Mistral
        RETURN_IF_ERROR(read_count(reading, "sliding_window", context, &window));
        if (window < context)
            return refuse(reading, "sliding_window", "a window below the context is not computed");
    }
    put_count(reading, "block_count", config->layers);
    put_count(reading, "context_length", context);
    put_count(reading, "embedding_length", width);
    put_count(reading, "feed_forward_length", feed);
    put_count(reading, "attention.head_count", config->heads);
    put_count(reading, "attention.head_count_kv", config->kv_heads);
    put_count(reading, "attention.key_length", config->head_size);
    put_count(reading, "attention.value_length", config->head_size);
    put_count(reading, "rope.dimension_count", config->head_size);
    put_real(reading, "rope.freq_base", config->base);
    put_real(reading, "attention.layer_norm_rms_epsilon", eps);
    put_count(reading, "vocab_size", config->vocabulary);
    return HONE_OK;
}

static hone_status read_gpt2(const ConfigReading *reading, HfConfig *config) {
    int64_t width, feed, context;
    double eps;
    RETURN_IF_ERROR(read_count(reading, "n_layer", -1, &config->layers));
    RETURN_IF_ERROR(read_count(reading, "n_embd", -1, &width));
    RETURN_IF_ERROR(read_count(reading, "n_inner", 4 * width, &feed));
    RETURN_IF_ERROR(read_count(reading, "n_head", -1, &config->heads));
    RETURN_IF_ERROR(read_count(reading, "n_positions", 1024, &context));
    RETURN_IF_ERROR(real_of(reading, reading->root, "layer_norm_epsilon", 1e-5, &eps));
    config->kv_heads = config->heads;
    config->tied = flag(reading, "tie_word_embeddings", true);
    if (!text_is(reading, "activation_function", "gelu_new") &&
        !text_is(reading, "activation_function", "gelu_pytorch_tanh"))
        return refuse(reading, "activation_function", "only gelu_new is computed");
    if (!flag(reading, "scale_attn_weights", true))
        return refuse(reading, "scale_attn_weights", "only scaled scores are computed");
    if (flag(reading, "scale_attn_by_inverse_layer_idx", false))
        return refuse(reading, "scale_attn_by_inverse_layer_idx", "it is not computed");
    put_count(reading, "block_count", config->layers);
    put_count(reading, "context_length", context);
    put_count(reading, "embedding_length", width);
    put_count(reading, "feed_forward_length", feed);
    put_count(reading, "attention.head_count", config->heads);
    put_real(reading, "attention.layer_norm_epsilon", eps);
    return HONE_OK;
}

typedef struct Family {
    const char *model_type, *architecture;
    hone_status (*read)(const ConfigReading *reading, HfConfig *config);
} Family;

static const Family families[] = {
    {"llama", "llama", read_llama}, {"mistral", "llama", read_llama}, {"gpt2", "gpt2", read_gpt2}};

hone_status hone_hf_config(const char *folder, const json_t *root, HfConfig *config, HfKeys *keys,
                           HoneError *err) {
    *config = (HfConfig){0};
    ConfigReading reading = {.folder = folder, .root = root, .keys = keys, .err = err};
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type)
        return hone_fail(err, HONE_ERROR_INPUT, "%s/config.json: has no text \"model_type\"",
                         folder);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(families[i].model_type, type) != 0) continue;
        config->architecture = reading.architecture = families[i].architecture;
        RETURN_IF_ERROR(read_count(&reading, "vocab_size", -1, &config->vocabulary));
        hone_hf_put_string(keys, "general.architecture", config->architecture,
                           strlen(config->architecture));
        hone_hf_put_string(keys, "general.type", "model", 5);
        put_name(&reading);
        return families[i].read(&reading, config);
    }
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s/config.json: model_type \"%.60s\" is not supported; supported: llama, "
                     "mistral, gpt2",
                     folder, type);
}

void hone_hf_rope_factors(const HfConfig *config, float *values) {
    const int64_t half = config->head_size / 2;
    for (int64_t i = 0; i < half; i++) {
        const double wavelength =
            2 * M_PI * pow(config->base, 2 * (double)i / (double)config->head_size);
        double smooth =
            (config->original / wavelength - config->low) / (config->high - config->low);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        values[i] = (float)(1 / ((1 - smooth) / config->factor + smooth));
    }
}
