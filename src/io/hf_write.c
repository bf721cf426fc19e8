// SPDX-License-Identifier: Apache-2.0
#include "io/hf_write.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "io/hf_parts.h"
#include "io/hf_write_parts.h"

bool hone_hf_tensor_name(const char *architecture, bool gated, const char *name, char stored[128]) {
    return hone_hf_name(architecture, gated, name, stored);
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

// ---- generation_config.json --------------------------------------------------------------------

static void put_role(TextBuffer *json, const char *key, int64_t id) {
    if (id >= 0) hone_text_printf(json, ",\n  \"%s\": %lld", key, (long long)id);
}

// What ends an answer: the text's end, and a turn's where that is another token.
static void put_ends(const GgufFile *file, const HfRoles roles, TextBuffer *json) {
    int32_t *ids = NULL;
    int64_t count = 0;
    if (hone_gguf_key(file, "hone.eos_token_ids") &&
        hone_gguf_ints(file, "hone.eos_token_ids", &ids, &count, NULL) == HONE_OK && count > 0) {
        hone_text_puts(json, ",\n  \"eos_token_id\": [");
        for (int64_t i = 0; i < count; i++)
            hone_text_printf(json, "%s\n    %d", i ? "," : "", ids[i]);
        hone_text_puts(json, "\n  ]");
    } else if (roles.eot >= 0 && roles.eos >= 0 && roles.eot != roles.eos)
        hone_text_printf(json, ",\n  \"eos_token_id\": [\n    %lld,\n    %lld\n  ]",
                         (long long)roles.eos, (long long)roles.eot);
    else
        put_role(json, "eos_token_id", roles.eos);
    hone_free(ids);
}

static const char *const sampling_names[][2] = {{"general.sampling.temp", "temperature"},
                                                {"general.sampling.top_p", "top_p"},
                                                {"general.sampling.top_k", "top_k"}};
enum { SAMPLING_NAMES = sizeof sampling_names / sizeof *sampling_names };

static bool says_sampling(const GgufFile *file) {
    for (int i = 0; i < SAMPLING_NAMES; i++)
        if (hone_gguf_key(file, sampling_names[i][0])) return true;
    return false;
}

static void put_sampling(const GgufFile *file, TextBuffer *json) {
    if (says_sampling(file)) hone_text_puts(json, ",\n  \"do_sample\": true");
    for (int i = 0; i < SAMPLING_NAMES; i++) {
        const char *key = sampling_names[i][0], *name = sampling_names[i][1];
        double value;
        int64_t whole;
        if (!hone_gguf_key(file, key)) continue;
        if (hone_gguf_int(file, key, &whole, NULL) == HONE_OK)
            put_role(json, name, whole);
        else if (hone_gguf_float(file, key, &value, NULL) == HONE_OK)
            hone_hf_write_real(json, "  ", name, value);
    }
}

static hone_status make_generation(const GgufFile *file, TextBuffer *json) {
    HfRoles roles;
    hone_hf_roles(file, &roles);
    // transformers makes a configuration that says true here again from config.json alone.
    hone_text_printf(json, "{\n  \"_from_model_config\": %s",
                     says_sampling(file) ? "false" : "true");
    put_role(json, "bos_token_id", roles.bos);
    put_ends(file, roles, json);
    put_role(json, "pad_token_id", roles.padding);
    put_sampling(file, json);
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
    "spiece.model",
    "gguf_metadata.json",
    "vocab.txt",
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

void hone_hf_dump(const json_t *root, TextBuffer *text) {
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

// transformers' class for texts' classes, and their names.
static bool set_labels(json_t *root, const HfModel *model) {
    const HfFamily *family = hone_hf_family_of(model->architecture);
    const size_t stem = strlen(family->class_name) - strlen("Model");
    char name[96];
    snprintf(name, sizeof name, "%.*sForSequenceClassification", (int)stem, family->class_name);
    json_t *classes = json_pack("[s]", name), *names = json_object(), *places = json_object();
    for (int64_t i = 0; i < model->label_count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%lld", (long long)i);
        json_object_set_new(names, number, json_string(model->labels[i]));
        json_object_set_new(places, model->labels[i], json_integer(i));
    }
    json_object_del(root, "problem_type");
    json_object_del(root, "num_labels");
    const bool whole = json_object_size(names) == (size_t)model->label_count &&
                       json_object_size(places) == (size_t)model->label_count;
    bool fine = json_object_set_new(root, "architectures", classes) == 0;
    fine = json_object_set_new(root, "id2label", names) == 0 && fine; // each takes its value over
    return json_object_set_new(root, "label2id", places) == 0 && fine && whole;
}

// config.json as it was, but for the type of the weights under the name that it has there, for
// a head that has come to be its own, and for classes.
static hone_status retyped_config(const char *source, const HfModel *model, TextBuffer *json,
                                  HoneError *err) {
    json_t *root;
    const int dtype = model->dtype;
    RETURN_IF_ERROR(hone_hf_json(source, "config.json", true, 0, &root, err));
    const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
    const char *word = json_string_value(json_object_get(root, key));
    hone_status status = HONE_OK;
    if (model->untied && json_object_set_new(root, "tie_word_embeddings", json_false()) != 0)
        status = hone_fail_memory(err, 0, "config.json");
    if (status == HONE_OK && model->labels && !set_labels(root, model))
        status = hone_fail(err, HONE_ERROR_INPUT,
                           "%s/config.json: the labels cannot be written: one is there twice, is "
                           "no UTF-8, or there is no memory",
                           source);
    if (word && strcmp(word, hone_hf_dtype_word(dtype)) == 0 && !model->untied && !model->labels) {
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
    if (status == HONE_OK &&
        json_object_set_new(root, key, json_string(hone_hf_dtype_word(dtype))) == 0)
        hone_hf_dump(root, json);
    else
        status = hone_fail_memory(err, 0, "config.json");
    json_decref(root);
    return status;
}

// ---- the whole ---------------------------------------------------------------------------------

hone_status hone_hf_write_text(const char *folder, const char *name, const TextBuffer *text,
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
    RETURN_IF_ERROR(hone_hf_write_text(folder, "tokenizer.json", text, err));
    hone_text_clear(text);
    RETURN_IF_ERROR(hone_hf_tokenizer_config(file, model, text, err));
    RETURN_IF_ERROR(hone_hf_write_text(folder, "tokenizer_config.json", text, err));
    hone_text_clear(text);
    if (chat.length > 0) {
        hone_text_append(text, chat.data, chat.length);
        RETURN_IF_ERROR(hone_hf_write_text(folder, "chat_template.jinja", text, err));
        hone_text_clear(text);
    }
    RETURN_IF_ERROR(make_generation(file, text));
    RETURN_IF_ERROR(hone_hf_write_text(folder, "generation_config.json", text, err));
    hone_text_clear(text);
    RETURN_IF_ERROR(hone_hf_make_config(file, model, text, err));
    return hone_hf_write_metadata(folder, file, text, err);
}

static hone_status write_copied(const char *folder, const char *source, const HfModel *model,
                                TextBuffer *text, HoneError *err) {
    for (int i = 0; i < COPIED_NAMES; i++)
        RETURN_IF_ERROR(copy_file(source, folder, copied_names[i], err));
    return retyped_config(source, model, text, err);
}

hone_status hone_hf_check(const GgufFile *file, const HfModel *model, HoneError *err) {
    TextBuffer text = {0};
    char stored[HF_STORED_NAME];
    for (int64_t i = 0; i < file->tensor_count; i++) {
        const char *name = file->tensors[i].name;
        if (strncmp(name, "rope_f", 6) != 0 &&
            !hone_hf_name(model->architecture, model->gated, name, stored))
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: tensor %s has no name in a folder of a %s model that Hone knows",
                             file->map.path, name, model->architecture);
    }
    if (file->hugging_face) return HONE_OK;
    if (hone_hf_is_encoder(model->architecture) || hone_is_t5(model->architecture))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: a folder of a %s model is written from a folder, not from a GGUF "
                         "file",
                         file->map.path, model->architecture);
    hone_status status = hone_hf_make_config(file, model, &text, err);
    hone_text_clear(&text);
    if (status == HONE_OK) status = hone_hf_tokenizer_json(file, &text, err);
    hone_text_free(&text);
    return status;
}

hone_status hone_hf_write_settings(const char *folder, const GgufFile *file, const char *source,
                                   const HfModel *model, HoneError *err) {
    TextBuffer text = {0};
    hone_status status = source ? write_copied(folder, source, model, &text, err)
                                : write_made(folder, file, model, &text, err);
    if (status == HONE_OK) status = hone_hf_write_text(folder, "config.json", &text, err);
    hone_text_free(&text);
    return status;
}

hone_status hone_hf_write_sentence(const char *folder, int64_t width, int pooling, bool normalised,
                                   int64_t length, HoneError *err) {
    static const char *const ways[] = {"mean_tokens", "cls_token", "max_tokens"};
    static const char *const kinds[] = {"Transformer", "Pooling", "Normalize"};
    static const char *const paths[] = {"", "1_Pooling", "2_Normalize"};
    TextBuffer text = {0};
    hone_text_puts(&text, "[");
    for (int i = 0; i < 2 + normalised; i++)
        hone_text_printf(&text,
                         "%s\n  {\n    \"idx\": %d,\n    \"name\": \"%d\",\n    \"path\": "
                         "\"%s\",\n    \"type\": \"sentence_transformers.models.%s\"\n  }",
                         i ? "," : "", i, i, paths[i], kinds[i]);
    hone_text_puts(&text, "\n]\n");
    hone_status status = hone_hf_write_text(folder, "modules.json", &text, err);
    hone_text_clear(&text);
    hone_text_printf(&text, "{\n  \"max_seq_length\": %lld,\n  \"do_lower_case\": false\n}\n",
                     (long long)length);
    if (status == HONE_OK)
        status = hone_hf_write_text(folder, "sentence_bert_config.json", &text, err);
    hone_text_clear(&text);
    hone_text_printf(&text, "{\n  \"word_embedding_dimension\": %lld", (long long)width);
    for (int i = 0; i < 3; i++)
        hone_text_printf(&text, ",\n  \"pooling_mode_%s\": %s", ways[i],
                         i + 1 == pooling ? "true" : "false");
    hone_text_puts(&text, "\n}\n");
    for (int i = 1; i < 2 + normalised && status == HONE_OK; i++) {
        char *path = hone_path_join(folder, paths[i]);
        status = path ? hone_directory_make(path, err) : hone_fail_memory(err, 0, "a path");
        if (status == HONE_OK && i == 1)
            status = hone_hf_write_text(path, "config.json", &text, err);
        hone_free(path);
    }
    hone_text_free(&text);
    return status;
}

bool hone_hf_is_written(const char *name) {
    for (int i = 0; i < COPIED_NAMES; i++)
        if (strcmp(copied_names[i], name) == 0) return true;
    static const char *const others[] = {"config.json",  "model.safetensors",
                                         "modules.json", "sentence_bert_config.json",
                                         "1_Pooling",    "2_Normalize"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i], name) == 0) return true;
    return false;
}

void hone_hf_remove_settings(const char *folder) {
    for (int i = 0; i <= COPIED_NAMES; i++) {
        char *path = hone_path_join(folder, i < COPIED_NAMES ? copied_names[i] : "config.json");
        if (path) hone_file_remove(path);
        hone_free(path);
    }
}
