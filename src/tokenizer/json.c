// SPDX-License-Identifier: Apache-2.0
// Hugging Face's tokenizer.json, alone or in a folder with tokenizer_config.json.
#include "tokenizer/json.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

// ---- helpers -----------------------------------------------------------------------------------

hone_status hone_json_wants(const char *place, const char *wanted, HoneError *err) {
    return hone_fail(err, HONE_ERROR_INPUT, "%s: %s is wanted", place, wanted);
}

const char *hone_json_type(const json_t *value) {
    return json_string_value(json_object_get(value, "type"));
}

hone_status hone_json_unknown(const char *place, const char *name, HoneError *err) {
    TextBuffer quoted = {0};
    hone_text_json(&quoted, name, strnlen(name, 64));
    hone_fail(err, HONE_ERROR_UNSUPPORTED, "%s: %s is not supported", place,
              quoted.data && !quoted.failed ? quoted.data : "?");
    hone_text_free(&quoted);
    return HONE_ERROR_UNSUPPORTED;
}

bool hone_json_flag(const json_t *object, const char *key, bool missing) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : missing;
}

TokenizerText hone_json_text(const json_t *value) {
    const char *text = json_string_value(value);
    return (TokenizerText){text ? text : "", text ? json_string_length(value) : 0};
}

hone_status hone_json_copy(JsonReading *reading, TokenizerText text, TokenizerText *copy,
                           HoneError *err) {
    copy->data = hone_arena_strndup(&reading->tokenizer->arena, text.data, text.length);
    copy->length = text.length;
    return copy->data ? HONE_OK : hone_fail_memory(err, text.length, "a tokeniser");
}

// The JSON object in a file, read with jansson's flags. Caller frees with json_decref.
static hone_status load(const char *path, size_t flags, json_t **root, HoneError *err) {
    char *text = NULL;
    size_t bytes = 0;
    json_error_t fault = {0};
    *root = NULL;
    RETURN_IF_ERROR(hone_file_read(path, &text, &bytes, err));
    hone_memory_watch();
    json_t *value =
        json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | flags, &fault);
    const bool lacked = !value && hone_memory_lacked();
    hone_free(text);
    if (lacked) return hone_fail_memory(err, bytes, path);
    if (json_is_object(value)) {
        *root = value;
        return HONE_OK;
    }
    hone_fail(err, HONE_ERROR_INPUT, "%s: line %d: %s", path, value ? 1 : fault.line,
              value ? "a JSON object is wanted" : fault.text);
    json_decref(value);
    return HONE_ERROR_INPUT;
}

// ---- tokenizer.json ----------------------------------------------------------------------------

static bool has_late(const Tokenizer *tokenizer) {
    for (int64_t id = 0; id < tokenizer->token_count; id++)
        if (tokenizer->tokens[id].finding & FIND_LATE) return true;
    return false;
}

static hone_status read_root(JsonReading *reading, const json_t *root, HoneError *err) {
    Tokenizer *tokenizer = reading->tokenizer;
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *cutter = json_object_get(root, "pre_tokenizer");
    reading->byte_level = hone_json_mentions(cutter, "ByteLevel", 0) ||
                          hone_json_mentions(normalizer, "ByteLevel", 0);
    RETURN_IF_ERROR(hone_json_decoder(reading, json_object_get(root, "decoder"), err));
    RETURN_IF_ERROR(hone_json_tokens(reading, root, err));
    RETURN_IF_ERROR(hone_json_normalizer(reading, normalizer, err));
    if (has_late(tokenizer)) tokenizer->late_step = tokenizer->step_count;
    RETURN_IF_ERROR(hone_json_cutter(reading, cutter, err));
    RETURN_IF_ERROR(hone_json_model(reading, json_object_get(root, "model"), err));
    bool words = tokenizer->model == PIECES_CHARACTERS || tokenizer->model == PIECES_UNIGRAM;
    if (words && reading->replaces_space && (!cutter || json_is_null(cutter)))
        RETURN_IF_ERROR(hone_cut_words(tokenizer, err));
    RETURN_IF_ERROR(hone_fill_specials(tokenizer, err));
    return hone_json_processor(reading, json_object_get(root, "post_processor"), err);
}

static hone_status read_file(const char *path, Tokenizer *tokenizer, HoneError *err) {
    JsonReading reading = {.tokenizer = tokenizer};
    json_t *root;
    RETURN_IF_ERROR(load(path, 0, &root, err));
    hone_status status = read_root(&reading, root, err);
    if (status != HONE_OK) hone_fail_in(err, "%s", path);
    json_decref(root);
    hone_arena_free(&reading.memory);
    return status;
}

// ---- tokenizer_config.json ---------------------------------------------------------------------

// "bos_token": a text, or an object with the text "content"; -1: none.
static int32_t role(const Tokenizer *tokenizer, const json_t *root, const char *key) {
    const json_t *value = json_object_get(root, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? hone_tokenizer_find(tokenizer, json_string_value(value)) : -1;
}

// Its model_max_length is often 10^30, which is no integer that jansson reads.
static hone_status read_config(const char *path, Tokenizer *tokenizer, HoneError *err) {
    json_t *root;
    RETURN_IF_ERROR(load(path, JSON_DECODE_INT_AS_REAL, &root, err));
    int32_t eos = role(tokenizer, root, "eos_token");
    if (tokenizer->bos < 0) tokenizer->bos = role(tokenizer, root, "bos_token");
    if (tokenizer->eos < 0) tokenizer->eos = eos;
    if (eos >= 0) tokenizer->tokens[eos].ends = true;
    json_decref(root);
    return HONE_OK;
}

static hone_status read_folder(const char *path, Tokenizer *tokenizer, HoneError *err) {
    TextBuffer file = {0}, config = {0};
    hone_text_printf(&file, "%s/tokenizer.json", path);
    hone_text_printf(&config, "%s/tokenizer_config.json", path);
    hone_status status = file.failed || config.failed ? hone_fail_memory(err, file.length, "a path")
                                                      : read_file(file.data, tokenizer, err);
    if (status == HONE_OK && hone_is_file(config.data))
        status = read_config(config.data, tokenizer, err);
    hone_text_free(&file);
    hone_text_free(&config);
    return status;
}

hone_status hone_tokenizer_read_json(const char *path, Tokenizer **tokenizer, HoneError *err) {
    *tokenizer = NULL;
    Tokenizer *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a tokeniser");
    made->bos = made->eos = -1;
    hone_status status =
        hone_is_directory(path) ? read_folder(path, made, err) : read_file(path, made, err);
    if (status != HONE_OK) {
        hone_tokenizer_free(made);
        return status;
    }
    *tokenizer = made;
    return HONE_OK;
}
