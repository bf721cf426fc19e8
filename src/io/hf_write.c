// SPDX-License-Identifier: Apache-2.0
#include "io/hf_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/hf_parts.h"
#include "io/hf_write_parts.h"

bool hone_hf_tensor_name(const char *architecture, const char *name, char stored[128]) {
    return hone_hf_name(architecture, name, stored);
}

// ---- keys --------------------------------------------------------------------------------------

GgufString hone_hf_text(const GgufFile *file, const char *name) {
    const GgufKey *key = hone_gguf_key(file, name);
    return key && key->type == GGUF_STRING ? key->value.string : (GgufString){"", 0};
}

// −1: absent or no integer.
static int64_t optional_int(const GgufFile *file, const char *name) {
    int64_t value;
    if (!hone_gguf_key(file, name)) return -1;
    return hone_gguf_int(file, name, &value, NULL) == HONE_OK ? value : -1;
}

void hone_hf_roles(const GgufFile *file, HfRoles *roles) {
    *roles = (HfRoles){
        .bos = optional_int(file, "tokenizer.ggml.bos_token_id"),
        .eos = optional_int(file, "tokenizer.ggml.eos_token_id"),
        .eot = optional_int(file, "tokenizer.ggml.eot_token_id"),
        .unknown = optional_int(file, "tokenizer.ggml.unknown_token_id"),
        .padding = optional_int(file, "tokenizer.ggml.padding_token_id"),
        .adds_bos = optional_int(file, "tokenizer.ggml.add_bos_token") > 0,
        .adds_eos = optional_int(file, "tokenizer.ggml.add_eos_token") > 0,
    };
    // A file of sentencepiece's says it when there is none to add.
    const GgufString kind = hone_hf_text(file, "tokenizer.ggml.model");
    if (kind.length == 5 && memcmp(kind.data, "llama", 5) == 0 &&
        !hone_gguf_key(file, "tokenizer.ggml.add_bos_token"))
        roles->adds_bos = true;
}

// ---- positions ---------------------------------------------------------------------------------

// Llama 3.1's scaled positions from their factors (hone_hf_rope_factors); *scaled false: plain.
// Of its four numbers three are the same in all that were published.
static hone_status positions_of(const GgufFile *file, const HfModel *model, HfConfig *config,
                                HoneError *err) {
    const GgufTensor *stored = hone_gguf_tensor(file, "rope_freqs.weight");
    *config = (HfConfig){.head_size = model->head_size, .base = model->rope_base};
    if (strcmp(model->architecture, "llama") == 0 && model->rotary != model->head_size)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: positions turn %lld of %lld channels, which config.json cannot say",
                         file->map.path, (long long)model->rotary, (long long)model->head_size);
    if (!stored) return HONE_OK;
    const int64_t half = model->head_size / 2;
    float *made = hone_alloc((size_t)half * sizeof *made + 1);
    if (!made) return hone_fail_memory(err, (size_t)half * sizeof *made, stored->name);
    const float *given = stored->data;
    bool same = false;
    if (stored->dtype == HONE_F32 && stored->rank == 1 && stored->shape[0] == half && half > 0) {
        config->scaled = true;
        config->low = 1;
        config->high = 4;
        config->factor = (double)given[half - 1];
        for (config->original = 16; config->original <= 1 << 24 && !same; config->original *= 2) {
            hone_hf_rope_factors(config, made);
            same = true;
            for (int64_t i = 0; i < half && same; i++)
                same = fabsf(made[i] - given[i]) <= 1e-5f * made[i];
            if (same) break;
        }
    }
    hone_free(made);
    if (same) return HONE_OK;
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: rope_freqs.weight scales positions in a way that config.json has no "
                     "words for",
                     file->map.path);
}

// ---- config.json -------------------------------------------------------------------------------

static const char *dtype_word(int dtype) {
    return dtype == HONE_F32 ? "float32" : dtype == HONE_F16 ? "float16" : "bfloat16";
}

// The shortest decimals that a float comes back from: 1e-05, not 9.99999975e-06; 10000.0.
static void put_real(TextBuffer *json, const char *indent, const char *key, double value) {
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value) break;
    }
    if (value == floor(value) && fabs(value) < 1e15) snprintf(text, sizeof text, "%.1f", value);
    hone_text_printf(json, ",\n%s\"%s\": %s%s", indent, key, text,
                     strpbrk(text, ".e") ? "" : ".0"); // transformers wants a float
}

static void put_int(TextBuffer *json, const char *key, int64_t value) {
    hone_text_printf(json, ",\n  \"%s\": %lld", key, (long long)value);
}

static void put_role(TextBuffer *json, const char *key, int64_t id) {
    if (id >= 0) put_int(json, key, id);
}

static void put_llama(TextBuffer *json, const HfModel *model, const HfConfig *positions) {
    hone_text_puts(json, "{\n  \"architectures\": [\n    \"LlamaForCausalLM\"\n  ],\n"
                         "  \"model_type\": \"llama\",\n  \"attention_bias\": false,\n"
                         "  \"mlp_bias\": false,\n  \"hidden_act\": \"silu\"");
    put_int(json, "hidden_size", model->width);
    put_int(json, "intermediate_size", model->feed_forward);
    put_int(json, "num_hidden_layers", model->layers);
    put_int(json, "num_attention_heads", model->heads);
    put_int(json, "num_key_value_heads", model->kv_heads);
    put_int(json, "head_dim", model->head_size);
    put_int(json, "max_position_embeddings", model->context);
    put_real(json, "  ", "rms_norm_eps", model->norm_eps);
    put_real(json, "  ", "rope_theta", model->rope_base);
    if (!positions->scaled) {
        hone_text_puts(json, ",\n  \"rope_scaling\": null");
        return;
    }
    hone_text_puts(json, ",\n  \"rope_scaling\": {\n    \"rope_type\": \"llama3\"");
    put_real(json, "    ", "factor", positions->factor);
    put_real(json, "    ", "low_freq_factor", positions->low);
    put_real(json, "    ", "high_freq_factor", positions->high);
    hone_text_printf(json, ",\n    \"original_max_position_embeddings\": %lld\n  }",
                     (long long)positions->original);
}

static void put_gpt2(TextBuffer *json, const HfModel *model) {
    hone_text_puts(json, "{\n  \"architectures\": [\n    \"GPT2LMHeadModel\"\n  ],\n"
                         "  \"model_type\": \"gpt2\",\n  \"activation_function\": \"gelu_new\"");
    put_int(json, "n_embd", model->width);
    put_int(json, "n_inner", model->feed_forward);
    put_int(json, "n_layer", model->layers);
    put_int(json, "n_head", model->heads);
    put_int(json, "n_positions", model->context);
    put_real(json, "  ", "layer_norm_epsilon", model->norm_eps);
}

static hone_status make_config(const GgufFile *file, const HfModel *model, TextBuffer *json,
                               HoneError *err) {
    HfConfig positions;
    HfRoles roles;
    RETURN_IF_ERROR(positions_of(file, model, &positions, err));
    hone_hf_roles(file, &roles);
    if (strcmp(model->architecture, "gpt2") == 0)
        put_gpt2(json, model);
    else
        put_llama(json, model, &positions);
    put_int(json, "vocab_size", model->vocabulary);
    put_role(json, "bos_token_id", roles.bos);
    put_role(json, "eos_token_id", roles.eos);
    put_role(json, "pad_token_id", roles.padding);
    hone_text_printf(json,
                     ",\n  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n"
                     "  \"use_cache\": true\n}\n",
                     model->tied ? "true" : "false", dtype_word(model->dtype));
    return HONE_OK;
}

// What ends an answer: the text's end, and a turn's where that is another token.
static hone_status make_generation(const GgufFile *file, TextBuffer *json) {
    HfRoles roles;
    hone_hf_roles(file, &roles);
    hone_text_puts(json, "{\n  \"_from_model_config\": true");
    put_role(json, "bos_token_id", roles.bos);
    if (roles.eot >= 0 && roles.eos >= 0 && roles.eot != roles.eos)
        hone_text_printf(json, ",\n  \"eos_token_id\": [\n    %lld,\n    %lld\n  ]",
                         (long long)roles.eos, (long long)roles.eot);
    else
        put_role(json, "eos_token_id", roles.eos);
    put_role(json, "pad_token_id", roles.padding);
    hone_text_puts(json, "\n}\n");
    return HONE_OK;
}

// ---- from a folder -----------------------------------------------------------------------------

static const char *const copied_names[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.model",
};

enum { COPIED_NAMES = sizeof copied_names / sizeof *copied_names };

static hone_status copy_file(const char *from, const char *to, const char *name, HoneError *err) {
    char *source = hone_path_join(from, name), *target = hone_path_join(to, name), *text = NULL;
    size_t length = 0;
    hone_status status = HONE_OK;
    if (!source || !target) status = hone_fail_memory(err, strlen(name), "a path");
    if (status == HONE_OK && hone_is_file(source)) {
        status = hone_file_read(source, &text, &length, err);
        if (status == HONE_OK) status = hone_file_write(target, text, length, err);
    }
    hone_free(text);
    hone_free(source);
    hone_free(target);
    return status;
}

static int append_part(const char *part, size_t length, void *text) {
    hone_text_append(text, part, length);
    return ((TextBuffer *)text)->failed ? -1 : 0;
}

// Numbers as people write them, unless that would change one.
static void dump(const json_t *root, TextBuffer *text) {
    json_dump_callback(root, append_part, text, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_t *again = text->failed ? NULL : json_loadb(text->data, text->length, 0, NULL);
    if (again && !json_equal(root, again)) {
        hone_text_clear(text);
        json_dump_callback(root, append_part, text, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    }
    if (!again) text->failed = true; // there was no memory for it
    json_decref(again);
    hone_text_puts(text, "\n");
}

// config.json as it was, but for the type of the weights under the name that it has there.
static hone_status retyped_config(const char *source, int dtype, TextBuffer *json, HoneError *err) {
    json_t *root;
    RETURN_IF_ERROR(hone_hf_json(source, "config.json", true, 0, &root, err));
    const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
    const char *word = json_string_value(json_object_get(root, key));
    hone_status status = HONE_OK;
    if (word && strcmp(word, dtype_word(dtype)) == 0) {
        json_decref(root);
        char *path = hone_path_join(source, "config.json"), *text = NULL;
        size_t length = 0;
        status = path ? hone_file_read(path, &text, &length, err)
                      : hone_fail_memory(err, strlen(source), "a path");
        if (text) hone_text_append(json, text, length);
        hone_free(text);
        hone_free(path);
        return status;
    }
    if (json_object_set_new(root, key, json_string(dtype_word(dtype))) == 0)
        dump(root, json);
    else
        status = hone_fail_memory(err, 0, "config.json");
    json_decref(root);
    return status;
}

// ---- the whole ---------------------------------------------------------------------------------

static hone_status write_text(const char *folder, const char *name, const TextBuffer *text,
                              HoneError *err) {
    if (text->failed) return hone_fail_memory(err, text->length, name);
    char *path = hone_path_join(folder, name);
    if (!path) return hone_fail_memory(err, strlen(name), "a path");
    hone_status status = hone_file_write(path, text->data ? text->data : "", text->length, err);
    hone_free(path);
    return status;
}

static hone_status write_made(const char *folder, const GgufFile *file, const HfModel *model,
                              TextBuffer *text, HoneError *err) {
    const GgufString chat = hone_hf_text(file, "tokenizer.chat_template");
    RETURN_IF_ERROR(hone_hf_tokenizer_json(file, text, err));
    RETURN_IF_ERROR(write_text(folder, "tokenizer.json", text, err));
    hone_text_clear(text);
    RETURN_IF_ERROR(hone_hf_tokenizer_config(file, model, text, err));
    RETURN_IF_ERROR(write_text(folder, "tokenizer_config.json", text, err));
    hone_text_clear(text);
    if (chat.length > 0) {
        hone_text_append(text, chat.data, chat.length);
        RETURN_IF_ERROR(write_text(folder, "chat_template.jinja", text, err));
        hone_text_clear(text);
    }
    RETURN_IF_ERROR(make_generation(file, text));
    RETURN_IF_ERROR(write_text(folder, "generation_config.json", text, err));
    hone_text_clear(text);
    return make_config(file, model, text, err);
}

static hone_status write_copied(const char *folder, const char *source, const HfModel *model,
                                TextBuffer *text, HoneError *err) {
    for (int i = 0; i < COPIED_NAMES; i++)
        RETURN_IF_ERROR(copy_file(source, folder, copied_names[i], err));
    return retyped_config(source, model->dtype, text, err);
}

hone_status hone_hf_check(const GgufFile *file, const HfModel *model, HoneError *err) {
    HfConfig positions;
    TextBuffer text = {0};
    char stored[HF_STORED_NAME];
    for (int64_t i = 0; i < file->tensor_count; i++) {
        const char *name = file->tensors[i].name;
        if (strcmp(name, "rope_freqs.weight") != 0 &&
            !hone_hf_name(model->architecture, name, stored))
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: tensor %s has no name in a folder of a %s model that Hone knows",
                             file->map.path, name, model->architecture);
    }
    if (file->hugging_face) return HONE_OK;
    RETURN_IF_ERROR(positions_of(file, model, &positions, err));
    hone_status status = hone_hf_tokenizer_json(file, &text, err);
    hone_text_free(&text);
    return status;
}

hone_status hone_hf_write_settings(const char *folder, const GgufFile *file, const char *source,
                                   const HfModel *model, HoneError *err) {
    TextBuffer text = {0};
    hone_status status = source ? write_copied(folder, source, model, &text, err)
                                : write_made(folder, file, model, &text, err);
    if (status == HONE_OK) status = write_text(folder, "config.json", &text, err);
    hone_text_free(&text);
    return status;
}

void hone_hf_remove_settings(const char *folder) {
    for (int i = 0; i <= COPIED_NAMES; i++) {
        char *path = hone_path_join(folder, i < COPIED_NAMES ? copied_names[i] : "config.json");
        if (path) hone_file_remove(path);
        hone_free(path);
    }
}
