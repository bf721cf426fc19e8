// SPDX-License-Identifier: Apache-2.0
// Reading Hugging Face's tokenizer.json; only the json_*.c files of this floor see it.
#ifndef HONE_TOKENIZER_JSON_H
#define HONE_TOKENIZER_JSON_H

#include <jansson.h>

#include "tokenizer/vocabulary.h"

typedef struct JsonReading {
    Tokenizer *tokenizer;
    TokenizerSource source; // tokens and kinds lie in `memory`
    Arena memory;
    TokenizerText *tokens;
    int32_t *kinds;
    uint8_t *finding;
    bool *added;
    int64_t model_count; // tokens of the model; those of added_tokens come on top
    bool byte_level;     // text is spelled in GPT-2's byte alphabet
    bool replaces_space; // a space becomes ▁
} JsonReading;

// HONE_ERROR_INPUT "place: wanted is wanted".
hone_status hone_json_wants(const char *place, const char *wanted, HoneError *err);
// The text "type" of an object; NULL: none.
const char *hone_json_type(const json_t *value);
// HONE_ERROR_UNSUPPORTED "place: "name" is not supported".
hone_status hone_json_unknown(const char *place, const char *name, HoneError *err);
bool hone_json_flag(const json_t *object, const char *key, bool missing);
TokenizerText hone_json_text(const json_t *value); // of a string, borrowed
// A copy that lives as long as the tokeniser.
hone_status hone_json_copy(JsonReading *reading, TokenizerText text, TokenizerText *copy,
                           HoneError *err);

// json_model.c: the vocabulary and the added tokens, then what the model makes of them.
hone_status hone_json_tokens(JsonReading *reading, const json_t *root, HoneError *err);
hone_status hone_json_model(JsonReading *reading, const json_t *model, HoneError *err);
// json_steps.c
hone_status hone_json_normalizer(JsonReading *reading, const json_t *value, HoneError *err);
hone_status hone_json_cutter(JsonReading *reading, const json_t *value, HoneError *err);
bool hone_json_mentions(const json_t *value, const char *type, int depth);
// json_pattern.c: {"String": "…"} or {"Regex": "…"} as a PCRE2 pattern, kept by the tokeniser.
// *literal: the string itself, or no data.
hone_status hone_json_pattern(JsonReading *reading, const char *place, const json_t *value,
                              const char **pattern, TokenizerText *literal, HoneError *err);
// json_ends.c: what a text begins and ends with, and how tokens are written back.
hone_status hone_json_processor(JsonReading *reading, const json_t *value, HoneError *err);
hone_status hone_json_decoder(JsonReading *reading, const json_t *value, HoneError *err);

#endif
