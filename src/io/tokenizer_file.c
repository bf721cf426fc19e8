// SPDX-License-Identifier: Apache-2.0
#include "io/tokenizer_file.h"

#include <string.h>

#include "base/memory.h"
#include "io/hf_parts.h"
#include "io/hf_write_parts.h"

// The keys that were collected are the file's from now on.
static hone_status as_file(HfKeys *keys, const char *path, GgufFile *file, HoneError *err) {
    if (keys->bytes.failed) return hone_fail_memory(err, keys->bytes.length, "a vocabulary");
    const size_t bytes = keys->bytes.length;
    file->map.path = hone_strdup(path);
    file->metadata = keys->bytes.data;
    keys->bytes = (TextBuffer){0};
    if (!file->map.path) return hone_fail_memory(err, strlen(path), "a path");
    return hone_gguf_from_keys(file->metadata, bytes, keys->count, 1, file, err);
}

static void put_text(HfKeys *keys, const char *name, const char *value) {
    hone_hf_put_string(keys, name, value, strlen(value));
}

static void put_strings(HfKeys *keys, const char *name, const GgufString *list, int64_t count) {
    hone_hf_begin_array(keys, name, GGUF_STRING, count);
    for (int64_t i = 0; i < count; i++) hone_hf_append_string(keys, list[i].data, list[i].length);
}

hone_status hone_tokenizer_file_make(const LearntKeys *learnt, GgufFile *file, HoneError *err) {
    *file = (GgufFile){0};
    HfKeys keys = {0};
    const int64_t count = learnt->token_count;
    put_text(&keys, "tokenizer.ggml.model", learnt->model);
    if (learnt->pre) put_text(&keys, "tokenizer.ggml.pre", learnt->pre);
    put_strings(&keys, "tokenizer.ggml.tokens", learnt->tokens, count);
    hone_hf_begin_array(&keys, "tokenizer.ggml.token_type", GGUF_I32, count);
    hone_text_append(&keys.bytes, learnt->kinds, (size_t)count * sizeof *learnt->kinds);
    if (learnt->scores) {
        hone_hf_begin_array(&keys, "tokenizer.ggml.scores", GGUF_F32, count);
        hone_text_append(&keys.bytes, learnt->scores, (size_t)count * sizeof *learnt->scores);
        hone_hf_put_bool(&keys, "tokenizer.ggml.add_space_prefix", true);
        hone_hf_put_bool(&keys, "tokenizer.ggml.remove_extra_whitespaces", false);
    } else {
        put_strings(&keys, "tokenizer.ggml.merges", learnt->merges, learnt->merge_count);
    }
    if (learnt->bos >= 0) hone_hf_put_u32(&keys, "tokenizer.ggml.bos_token_id", learnt->bos);
    if (learnt->eos >= 0) hone_hf_put_u32(&keys, "tokenizer.ggml.eos_token_id", learnt->eos);
    if (learnt->unknown >= 0)
        hone_hf_put_u32(&keys, "tokenizer.ggml.unknown_token_id", learnt->unknown);
    hone_hf_put_bool(&keys, "tokenizer.ggml.add_bos_token", learnt->bos >= 0);
    hone_hf_put_bool(&keys, "tokenizer.ggml.add_eos_token", false);
    hone_status status = as_file(&keys, "the learnt tokeniser", file, err);
    hone_text_free(&keys.bytes);
    if (status != HONE_OK) hone_gguf_close(file);
    return status;
}

// ---- reading -----------------------------------------------------------------------------------

static void raise_limit(const json_t *id, int64_t *limit) {
    const json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    if (number >= *limit && number < INT32_MAX) *limit = (int64_t)number + 1;
}

// One more than the highest id.
static hone_status count_tokens(const char *folder, int64_t *count, HoneError *err) {
    json_t *root, *id;
    const json_t *added;
    const char *text;
    size_t i;
    *count = 0;
    RETURN_IF_ERROR(hone_hf_json(folder, "tokenizer.json", true, 0, &root, err));
    json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    json_object_foreach(vocabulary, text, id) raise_limit(id, count);
    if (json_is_array(vocabulary)) *count = (int64_t)json_array_size(vocabulary);
    json_array_foreach(json_object_get(root, "added_tokens"), i, added)
        raise_limit(json_object_get(added, "id"), count);
    json_decref(root);
    if (*count > 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s/tokenizer.json: has no tokens", folder);
}

static hone_status open_json(const char *folder, GgufFile *file, HoneError *err) {
    int64_t count;
    HfKeys keys = {0};
    RETURN_IF_ERROR(count_tokens(folder, &count, err));
    hone_status status = hone_hf_tokenizer(folder, NULL, count, &keys, err);
    if (status == HONE_OK) status = as_file(&keys, folder, file, err);
    hone_text_free(&keys.bytes);
    if (status != HONE_OK) hone_gguf_close(file);
    return status;
}

hone_status hone_tokenizer_file_open(const char *path, GgufFile *file, HoneError *err) {
    static const char name[] = "tokenizer.json";
    *file = (GgufFile){0};
    if (hone_is_directory(path)) return open_json(path, file, err);
    const size_t length = strlen(path), tail = sizeof name - 1;
    if (length < tail || strcmp(path + length - tail, name) != 0)
        return hone_gguf_open(path, file, err);
    if (length > tail && path[length - tail - 1] != '/')
        return hone_fail(err, HONE_ERROR_INPUT, "%s: a tokeniser's file is named tokenizer.json",
                         path);
    char *folder = length == tail ? hone_strdup(".") : hone_strndup(path, length - tail - 1);
    if (!folder) return hone_fail_memory(err, length, "a path");
    hone_status status = open_json(*folder ? folder : "/", file, err);
    hone_free(folder);
    return status;
}

// ---- writing -----------------------------------------------------------------------------------

static hone_status write_one(const char *folder, const char *name, const TextBuffer *text,
                             HoneError *err) {
    char *path = text->failed ? NULL : hone_path_join(folder, name);
    if (!path) return hone_fail_memory(err, text->length, name);
    hone_status status = hone_file_write(path, text->data, text->length, err);
    hone_free(path);
    return status;
}

hone_status hone_tokenizer_file_write(const GgufFile *file, const char *folder, int64_t context,
                                      HoneError *err) {
    const HfModel model = {.context = context};
    TextBuffer json = {0}, settings = {0};
    hone_status status = hone_hf_tokenizer_json(file, &json, err);
    if (status == HONE_OK) status = hone_hf_tokenizer_config(file, &model, &settings, err);
    if (status == HONE_OK) status = write_one(folder, "tokenizer.json", &json, err);
    if (status == HONE_OK) status = write_one(folder, "tokenizer_config.json", &settings, err);
    hone_text_free(&json);
    hone_text_free(&settings);
    return status;
}
