// SPDX-License-Identifier: Apache-2.0
// Post-processors and decoders of tokenizer.json: the tokens that a text begins and ends with, and
// how tokens are written back.
#include <string.h>

#include "tokenizer/json.h"

enum { DEEPEST = 8 };

// ---- post-processors ---------------------------------------------------------------------------

static hone_status set_end(JsonReading *reading, const char *name, bool begins, HoneError *err) {
    Tokenizer *tokenizer = reading->tokenizer;
    int32_t id = name ? hone_tokenizer_find(tokenizer, name) : -1;
    if (id < 0)
        return hone_json_wants("post_processor", "a token of the vocabulary for each end", err);
    if (begins) {
        tokenizer->bos = id;
        tokenizer->adds_bos = true;
    } else {
        tokenizer->eos = id;
        tokenizer->adds_eos = true;
        tokenizer->tokens[id].ends = true;
    }
    return HONE_OK;
}

static hone_status read_template(JsonReading *reading, const json_t *value, HoneError *err) {
    const json_t *parts = json_object_get(value, "single");
    bool text = false;
    int before = 0, behind = 0;
    if (!json_is_array(parts)) return hone_json_wants("post_processor: \"single\"", "a list", err);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *special = json_object_get(json_array_get(parts, i), "SpecialToken");
        if (!special) {
            text = true;
            continue;
        }
        if ((text ? ++behind : ++before) > 1)
            return hone_json_unknown("post_processor", "more than one token at an end", err);
        RETURN_IF_ERROR(
            set_end(reading, json_string_value(json_object_get(special, "id")), !text, err));
    }
    return HONE_OK;
}

static hone_status read_pair(JsonReading *reading, const json_t *value, HoneError *err) {
    const json_t *cls = json_object_get(value, "cls"), *sep = json_object_get(value, "sep");
    RETURN_IF_ERROR(set_end(reading, json_string_value(json_array_get(cls, 0)), true, err));
    return set_end(reading, json_string_value(json_array_get(sep, 0)), false, err);
}

static hone_status read_processor(JsonReading *reading, const json_t *value, int depth,
                                  HoneError *err) {
    if (!value || json_is_null(value)) return HONE_OK;
    const char *type = hone_json_type(value);
    if (!type) return hone_json_wants("post_processor", "an object with a text \"type\"", err);
    if (strcmp(type, "ByteLevel") == 0) return HONE_OK; // it trims offsets
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(reading, value, err);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return read_pair(reading, value, err);
    const json_t *parts = json_object_get(value, "processors");
    if (strcmp(type, "Sequence") != 0 || depth >= DEEPEST || !json_is_array(parts))
        return hone_json_unknown("post_processor", type, err);
    for (size_t i = 0; i < json_array_size(parts); i++)
        RETURN_IF_ERROR(read_processor(reading, json_array_get(parts, i), depth + 1, err));
    return HONE_OK;
}

hone_status hone_json_processor(JsonReading *reading, const json_t *value, HoneError *err) {
    return read_processor(reading, value, 0, err);
}

// ---- decoders ----------------------------------------------------------------------------------

// Only a ▁ that becomes a space is more than writing the tokens one after the other.
static hone_status read_decoder(JsonReading *reading, const json_t *value, int depth,
                                HoneError *err) {
    static const char *const plain[] = {"ByteLevel", "ByteFallback", "Fuse", "WordPiece"};
    if (!value || json_is_null(value)) return HONE_OK;
    Tokenizer *tokenizer = reading->tokenizer;
    const char *type = hone_json_type(value);
    if (!type) return hone_json_wants("decoder", "an object with a text \"type\"", err);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(plain[i], type) == 0) return HONE_OK;
    if (strcmp(type, "Metaspace") == 0) {
        const char *scheme = json_string_value(json_object_get(value, "prepend_scheme"));
        tokenizer->spells_mark = false;
        tokenizer->strips_space = !scheme || strcmp(scheme, "never") != 0;
        return HONE_OK;
    }
    if (strcmp(type, "Replace") == 0) {
        const json_t *content = json_object_get(value, "content");
        const json_t *find = json_object_get(json_object_get(value, "pattern"), "String");
        TokenizerText from = hone_json_text(find), to = hone_json_text(content);
        if (from.length != 3 || !hone_has_mark(from.data, 3) || to.length != 1 || *to.data != ' ')
            return hone_json_unknown("decoder", "Replace", err);
        tokenizer->spells_mark = false;
        return HONE_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        tokenizer->strips_space = json_integer_value(json_object_get(value, "start")) > 0;
        return HONE_OK;
    }
    const json_t *parts = json_object_get(value, "decoders");
    if (strcmp(type, "Sequence") != 0 || depth >= DEEPEST || !json_is_array(parts))
        return hone_json_unknown("decoder", type, err);
    for (size_t i = 0; i < json_array_size(parts); i++)
        RETURN_IF_ERROR(read_decoder(reading, json_array_get(parts, i), depth + 1, err));
    return HONE_OK;
}

hone_status hone_json_decoder(JsonReading *reading, const json_t *value, HoneError *err) {
    reading->tokenizer->spells_mark = true;
    return read_decoder(reading, value, 0, err);
}
