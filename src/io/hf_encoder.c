// SPDX-License-Identifier: Apache-2.0
// config.json of encoders, and what sentence-transformers puts beside it: modules.json, the
// configuration of its pooling, the length of its texts.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/hf_config.h"

// ---- config.json -------------------------------------------------------------------------------

// Labels in the order of their numbers: {"0": "negative", …}.
static hone_status put_labels(const ConfigReading *reading) {
    const json_t *labels = json_object_get(reading->root, "id2label");
    const size_t count = json_object_size(labels);
    char name[96];
    if (count == 0) return HONE_OK;
    snprintf(name, sizeof name, "%s.classifier.output_labels", reading->family->architecture);
    hone_hf_begin_array(reading->keys, name, GGUF_STRING, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        const char *label = json_string_value(json_object_get(labels, key));
        if (!label)
            return hone_fail(reading->err, HONE_ERROR_INPUT,
                             "%s/config.json: \"id2label\" has %zu entries and no text for \"%s\"",
                             reading->folder, count, key);
        hone_hf_append_string(reading->keys, label, strlen(label));
    }
    return HONE_OK;
}

// What the head on the hidden states is for, by transformers' class.
static void put_head(const ConfigReading *reading) {
    static const char *const heads[][2] = {{"ForSequenceClassification", "classify"},
                                           {"ForTokenClassification", "tag"},
                                           {"ForQuestionAnswering", "answer"},
                                           {"ForMaskedLM", "mask"}};
    const char *name =
        json_string_value(json_array_get(json_object_get(reading->root, "architectures"), 0));
    for (int i = 0; i < 4 && name; i++)
        if (strstr(name, heads[i][0]))
            hone_hf_put_string(reading->keys, "hone.head", heads[i][1], strlen(heads[i][1]));
}

static hone_status check_bert(const ConfigReading *reading) {
    if (!hone_hf_text_is(reading, "hidden_act", "gelu"))
        return hone_hf_refuse(reading, "hidden_act", "only gelu is computed");
    if (!hone_hf_text_is(reading, "position_embedding_type", "absolute"))
        return hone_hf_refuse(reading, "position_embedding_type", "only absolute is computed");
    if (hone_hf_flag(reading, "is_decoder", false))
        return hone_hf_refuse(reading, "is_decoder", "only encoders are computed");
    if (hone_hf_flag(reading, "add_cross_attention", false))
        return hone_hf_refuse(reading, "add_cross_attention", "only encoders are computed");
    return HONE_OK;
}

hone_status hone_hf_read_encoder(const ConfigReading *reading, HfConfig *config) {
    int64_t width, feed, context, types;
    double eps;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_hidden_layers", -1, &config->layers));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "hidden_size", -1, &width));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "intermediate_size", -1, &feed));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_attention_heads", -1, &config->heads));
    RETURN_IF_ERROR(
        hone_hf_read_count(reading, "max_position_embeddings", reading->family->context, &context));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "type_vocab_size", 2, &types));
    RETURN_IF_ERROR(
        hone_hf_read_real(reading, reading->root, "layer_norm_eps", reading->family->eps, &eps));
    RETURN_IF_ERROR(check_bert(reading));
    config->kv_heads = config->heads;
    config->tied = true;
    hone_hf_put_sizes(reading, config, context, width, feed);
    hone_hf_put_real(reading, "attention.layer_norm_epsilon", eps);
    hone_hf_put_flag(reading, "attention.causal", false);
    hone_hf_put_u32(reading->keys, "tokenizer.ggml.token_type_count", types);
    put_head(reading);
    return put_labels(reading);
}

// ---- sentence-transformers ---------------------------------------------------------------------

typedef struct Modules {
    const char *folder, *architecture;
    HfKeys *keys;
    HoneError *err;
} Modules;

static hone_status refuse(const Modules *modules, const char *file, const char *what,
                          const char *why) {
    return hone_fail(modules->err, HONE_ERROR_UNSUPPORTED, "%s/%s: %.100s: %s", modules->folder,
                     file, what, why);
}

static hone_status put_pooling(const Modules *modules, const char *path) {
    static const struct {
        const char *key, *pooling;
        int number; // GGUF's
    } ways[] = {{"pooling_mode_mean_tokens", "mean", 1},
                {"pooling_mode_cls_token", "cls", 2},
                {"pooling_mode_max_tokens", "max", 0}};
    char file[256], key[96];
    json_t *root, *value;
    const char *name;
    snprintf(file, sizeof file, "%s/config.json", path);
    RETURN_IF_ERROR(hone_hf_json(modules->folder, file, true, 0, &root, modules->err));
    const char *mode = json_string_value(json_object_get(root, "pooling_mode"));
    hone_status status = HONE_OK;
    int found = -1, given = 0;
    json_object_foreach(root, name, value) {
        if (strncmp(name, "pooling_mode_", 13) != 0 || !json_is_true(value)) continue;
        given++;
        for (int i = 0; i < 3; i++)
            if (strcmp(ways[i].key, name) == 0) found = i;
    }
    for (int i = 0; i < 3 && mode && given == 0; i++)
        if (strcmp(ways[i].pooling, mode) == 0) found = i;
    if (given > 1 || found < 0)
        status =
            refuse(modules, file, "the way of pooling", "one of mean, cls and max is computed");
    if (status == HONE_OK) {
        const char *pooling = ways[found].pooling;
        hone_hf_put_string(modules->keys, "hone.pooling", pooling, strlen(pooling));
        snprintf(key, sizeof key, "%s.pooling_type", modules->architecture);
        if (ways[found].number) hone_hf_put_u32(modules->keys, key, ways[found].number);
    }
    json_decref(root);
    return status;
}

static hone_status put_module(const Modules *modules, const json_t *module) {
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *path = json_string_value(json_object_get(module, "path"));
    const char *dot = type ? strrchr(type, '.') : NULL, *kind = dot ? dot + 1 : type;
    if (!kind || !path)
        return hone_fail(modules->err, HONE_ERROR_INPUT,
                         "%s/modules.json: a module has no text \"type\" or \"path\"",
                         modules->folder);
    if (strstr(path, "..") || *path == '/' || strlen(path) > 200)
        return hone_fail(modules->err, HONE_ERROR_INPUT,
                         "%s/modules.json: \"%.60s\" is no folder of this one", modules->folder,
                         path);
    if (strcmp(kind, "Pooling") == 0) return put_pooling(modules, path);
    if (strcmp(kind, "Normalize") == 0) {
        hone_hf_put_bool(modules->keys, "hone.normalize", true);
        return HONE_OK;
    }
    if (strcmp(kind, "Transformer") == 0 && *path == '\0') return HONE_OK;
    return refuse(modules, "modules.json", type,
                  "only Transformer in the folder itself, Pooling and Normalize are computed");
}

// Tokens that a text is cut to.
static hone_status put_length(const Modules *modules) {
    static const char file[] = "sentence_bert_config.json";
    json_t *root;
    RETURN_IF_ERROR(hone_hf_json(modules->folder, file, false, 0, &root, modules->err));
    const json_t *length = json_object_get(root, "max_seq_length");
    hone_status status = HONE_OK;
    if (json_is_integer(length) && json_integer_value(length) > 2 &&
        json_integer_value(length) < INT32_MAX)
        hone_hf_put_u32(modules->keys, "hone.max_length", json_integer_value(length));
    else if (length && !json_is_null(length))
        status = hone_fail(modules->err, HONE_ERROR_INPUT,
                           "%s/%s: \"max_seq_length\" is no number above 2", modules->folder, file);
    json_decref(root);
    return status;
}

hone_status hone_hf_sentence(const char *folder, const char *architecture, HfKeys *keys,
                             HoneError *err) {
    const Modules modules = {folder, architecture, keys, err};
    char *path = hone_path_join(folder, "modules.json"), *text = NULL;
    size_t length, i;
    if (!path) return hone_fail_memory(err, 0, "a path");
    hone_status status = HONE_OK;
    if (hone_is_file(path)) status = hone_file_read(path, &text, &length, err);
    hone_free(path);
    if (!text || status != HONE_OK) return status;
    json_error_t fault;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault), *module;
    if (!json_is_array(root))
        status = hone_fail(err, HONE_ERROR_INPUT, "%s/modules.json: is no JSON list", folder);
    json_array_foreach(root, i, module) {
        if (status == HONE_OK) status = put_module(&modules, module);
    }
    json_decref(root);
    hone_free(text);
    return status == HONE_OK ? put_length(&modules) : status;
}
