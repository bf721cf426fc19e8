// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, tokenizer_config.json and their neighbours as GGUF's tokenizer keys: byte-level
// BPE whose pre-tokeniser GGUF has a name for, the BPE that came from sentencepiece, unigram models
// that leave texts as they are, WordPiece.
#include <string.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/hf_parts.h"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

typedef struct Reading {
    const char *folder;
    const json_t *config, *root, *model; // config.json, tokenizer.json, its "model"
    const json_t *settings;              // tokenizer_config.json; NULL: none
    int64_t count;
    const char **token; // by id; NULL: none has it
    int32_t *kind;
    float *score; // of sentencepiece's BPE
    StringMap ids;
    Arena memory;
    HfKeys *keys;
    HoneError *err;
} Reading;

static hone_status fail(const Reading *reading, hone_status status, const char *problem) {
    return hone_fail(reading->err, status, "%s/tokenizer.json: %s", reading->folder, problem);
}

static const char *type_of(const json_t *value) {
    const char *type = json_string_value(json_object_get(value, "type"));
    return type ? type : "";
}

// ---- tokens ------------------------------------------------------------------------------------

static hone_status set_token(Reading *reading, const char *text, const json_t *id, int32_t kind) {
    const json_int_t number = json_integer_value(id);
    if (!text || !json_is_integer(id) || number < 0 || number >= reading->count)
        return hone_fail(reading->err, HONE_ERROR_INPUT,
                         "%s/tokenizer.json: token \"%.60s\" has the id %lld, the model has %lld "
                         "tokens",
                         reading->folder, text ? text : "", (long long)number,
                         (long long)reading->count);
    const char *there = reading->token[number];
    if (there && strcmp(there, text) != 0)
        return hone_fail(reading->err, HONE_ERROR_INPUT,
                         "%s/tokenizer.json: \"%.60s\" and \"%.60s\" both have the id %lld",
                         reading->folder, there, text, (long long)number);
    reading->token[number] = text;
    reading->kind[number] = kind;
    if (hone_map_put(&reading->ids, text, strlen(text), number)) return HONE_OK;
    return hone_fail_memory(reading->err, strlen(text), "the vocabulary");
}

static bool is_unigram(const Reading *reading) {
    return strcmp(type_of(reading->model), "Unigram") == 0;
}

// A unigram model's: ["text", score], by number.
static hone_status read_scored(Reading *reading, const json_t *vocabulary) {
    size_t i;
    const json_t *entry;
    if (!json_is_array(vocabulary))
        return fail(reading, HONE_ERROR_INPUT, "model.vocab is no JSON array");
    json_array_foreach(vocabulary, i, entry) {
        const json_t *score = json_array_get(entry, 1);
        if (!json_is_string(json_array_get(entry, 0)) || !json_is_number(score))
            return hone_fail(reading->err, HONE_ERROR_INPUT,
                             "%s/tokenizer.json: model.vocab: entry %zu is not [text, score]",
                             reading->folder, i);
        json_t *id = json_integer((json_int_t)i);
        hone_status status =
            set_token(reading, json_string_value(json_array_get(entry, 0)), id, NORMAL);
        json_decref(id);
        RETURN_IF_ERROR(status);
        reading->score[i] = (float)json_number_value(score);
    }
    return HONE_OK;
}

static hone_status read_tokens(Reading *reading) {
    const char *text;
    json_t *id;
    size_t i;
    const json_t *vocabulary = json_object_get(reading->model, "vocab"), *added;
    const size_t room = (size_t)reading->count;
    reading->token = hone_arena_calloc(&reading->memory, room, sizeof *reading->token);
    reading->kind = hone_arena_calloc(&reading->memory, room, sizeof *reading->kind);
    reading->score = hone_arena_calloc(&reading->memory, room, sizeof *reading->score);
    if (!reading->token || !reading->kind || !reading->score)
        return hone_fail_memory(reading->err, room * sizeof *reading->token, "the vocabulary");
    if (is_unigram(reading))
        RETURN_IF_ERROR(read_scored(reading, vocabulary));
    else if (!json_is_object(vocabulary))
        return fail(reading, HONE_ERROR_INPUT, "model.vocab is no JSON object");
    json_object_foreach((json_t *)(uintptr_t)vocabulary, text, id)
        RETURN_IF_ERROR(set_token(reading, text, id, NORMAL));
    json_array_foreach(json_object_get(reading->root, "added_tokens"), i, added) {
        const bool special = json_is_true(json_object_get(added, "special"));
        RETURN_IF_ERROR(set_token(reading, json_string_value(json_object_get(added, "content")),
                                  json_object_get(added, "id"), special ? CONTROL : USER_DEFINED));
    }
    return HONE_OK;
}

// Rows of the embedding that no token has: padding up to a round number.
static hone_status fill_gaps(Reading *reading) {
    for (int64_t i = 0; i < reading->count; i++) {
        if (reading->token[i]) continue;
        char *name = hone_arena_alloc(&reading->memory, 32);
        if (!name) return hone_fail_memory(reading->err, 32, "the vocabulary");
        snprintf(name, 32, "[PAD%lld]", (long long)i);
        reading->token[i] = name;
        reading->kind[i] = UNUSED;
    }
    return HONE_OK;
}

// ---- merges ------------------------------------------------------------------------------------

// "a b", or in newer files ["a", "b"].
static hone_status merge_parts(const Reading *reading, size_t number, const char **left,
                               size_t *left_length, const char **right) {
    const json_t *merge = json_array_get(json_object_get(reading->model, "merges"), number);
    const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
    if (space) {
        *left = text;
        *left_length = (size_t)(space - text);
        *right = space + 1;
        return HONE_OK;
    }
    *left = json_string_value(json_array_get(merge, 0));
    *right = json_string_value(json_array_get(merge, 1));
    if (*left && *right) {
        *left_length = strlen(*left);
        return HONE_OK;
    }
    return hone_fail(reading->err, HONE_ERROR_INPUT,
                     "%s/tokenizer.json: merge %zu is not two texts", reading->folder, number);
}

static hone_status put_merges(Reading *reading) {
    const json_t *merges = json_object_get(reading->model, "merges");
    if (!json_is_array(merges))
        return fail(reading, HONE_ERROR_INPUT, "model.merges is no JSON array");
    const size_t count = json_array_size(merges);
    hone_hf_begin_array(reading->keys, "tokenizer.ggml.merges", GGUF_STRING, (int64_t)count);
    TextBuffer both = {0};
    hone_status status = HONE_OK;
    for (size_t i = 0; i < count && status == HONE_OK; i++) {
        const char *left, *right;
        size_t length;
        status = merge_parts(reading, i, &left, &length, &right);
        if (status != HONE_OK) break;
        hone_text_clear(&both);
        hone_text_append(&both, left, length);
        hone_text_puts(&both, " ");
        hone_text_puts(&both, right);
        if (both.failed) status = hone_fail_memory(reading->err, both.length, "merges");
        if (status == HONE_OK) hone_hf_append_string(reading->keys, both.data, both.length);
    }
    hone_text_free(&both);
    return status;
}

// sentencepiece joins what makes the token of the best score: the earlier a merge, the better.
static hone_status score_merges(Reading *reading) {
    const size_t count = json_array_size(json_object_get(reading->model, "merges"));
    TextBuffer both = {0};
    hone_status status = HONE_OK;
    for (size_t i = 0; i < count && status == HONE_OK; i++) {
        const char *left, *right;
        size_t length;
        status = merge_parts(reading, i, &left, &length, &right);
        if (status != HONE_OK) break;
        hone_text_clear(&both);
        hone_text_append(&both, left, length);
        hone_text_puts(&both, right);
        if (both.failed) status = hone_fail_memory(reading->err, both.length, "merges");
        const int64_t id =
            status == HONE_OK ? hone_map_get(&reading->ids, both.data, both.length, -1) : -1;
        if (id >= 0 && reading->score[id] == 0) reading->score[id] = -1 - (float)i;
    }
    hone_text_free(&both);
    return status;
}

// ---- which kind --------------------------------------------------------------------------------

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

// Patterns as tokenizer.json files have them. The first of one pattern takes a piece that is a
// token as it stands without merging it.
static const struct Pattern {
    const char *pattern, *name;
    bool whole;
} patterns[] = {
    {CONTRACTIONS "\\p{N}{1,3}" REST, "llama-bpe", true},
    {CONTRACTIONS "\\p{N}{1,3}" REST, "dbrx", false},
    {CONTRACTIONS "\\p{N}" REST, "qwen2", false},
};

const char *hone_hf_pattern(const char *rule, size_t length) {
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (strlen(patterns[i].name) == length && memcmp(patterns[i].name, rule, length) == 0)
            return patterns[i].pattern;
    return NULL;
}

// Each match of the pattern is a piece, and what lies between too: there is nothing between those
// of the patterns above.
static bool cuts_matches(const json_t *split) {
    const char *behaviour = json_string_value(json_object_get(split, "behavior"));
    const bool inverted = json_is_true(json_object_get(split, "invert"));
    return behaviour && strcmp(behaviour, inverted ? "Removed" : "Isolated") == 0;
}

// GGUF's name of a pre-tokeniser; NULL: it has none that is known here. whole: ignore_merges.
static const char *rule_of(const json_t *value, bool whole) {
    const json_t *parts = json_object_get(value, "pretokenizers");
    const size_t count = json_array_size(parts);
    const json_t *last = strcmp(type_of(value), "Sequence") == 0
                             ? (count ? json_array_get(parts, count - 1) : NULL)
                             : value;
    if (strcmp(type_of(last), "ByteLevel") != 0 ||
        json_is_true(json_object_get(last, "add_prefix_space")))
        return NULL;
    const bool cuts = !json_is_false(json_object_get(last, "use_regex"));
    const json_t *first = count > 1 ? json_array_get(parts, 0) : NULL;
    if (count <= 1) return cuts ? "gpt-2" : NULL;
    if (count == 2 && cuts && strcmp(type_of(first), "Digits") == 0 &&
        json_is_true(json_object_get(first, "individual_digits")))
        return "smollm";
    const char *regex =
        json_string_value(json_object_get(json_object_get(first, "pattern"), "Regex"));
    if (count != 2 || cuts || !regex || !cuts_matches(first)) return NULL;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (patterns[i].whole == whole && strcmp(patterns[i].pattern, regex) == 0)
            return patterns[i].name;
    return NULL;
}

static bool mentions(const json_t *value, const char *text, int depth) {
    const char *key;
    json_t *item;
    size_t i;
    if (depth == 0) return false;
    if (json_is_string(value)) return strcmp(json_string_value(value), text) == 0;
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        if (mentions(item, text, depth - 1)) return true;
    }
    json_array_foreach(value, i, item) {
        if (mentions(item, text, depth - 1)) return true;
    }
    return false;
}

static void put_text(Reading *reading, const char *key, const char *text) {
    hone_hf_put_string(reading->keys, key, text, strlen(text));
}

static bool is_wordpiece(const Reading *reading) {
    return strcmp(type_of(reading->model), "WordPiece") == 0;
}

static hone_status put_wordpiece(Reading *reading) {
    const json_t *normalizer = json_object_get(reading->root, "normalizer");
    const json_t *strips = json_object_get(normalizer, "strip_accents");
    const char *prefix =
        json_string_value(json_object_get(reading->model, "continuing_subword_prefix"));
    const json_t *cutter = json_object_get(reading->root, "pre_tokenizer");
    if (strcmp(type_of(normalizer), "BertNormalizer") != 0 ||
        json_is_false(json_object_get(normalizer, "clean_text")) ||
        json_is_false(json_object_get(normalizer, "handle_chinese_chars")))
        return fail(reading, HONE_ERROR_UNSUPPORTED,
                    "its normalizer is none that GGUF files can say");
    if (strcmp(type_of(cutter), "BertPreTokenizer") != 0)
        return fail(reading, HONE_ERROR_UNSUPPORTED,
                    "its pre_tokenizer is not BERT's, the only one of WordPiece that GGUF has");
    if (prefix && strcmp(prefix, "##") != 0)
        return fail(reading, HONE_ERROR_UNSUPPORTED, "its continuing_subword_prefix is not \"##\"");
    const json_t *longest = json_object_get(reading->model, "max_input_chars_per_word");
    if (longest && (!json_is_integer(longest) || json_integer_value(longest) < 1 ||
                    json_integer_value(longest) > INT32_MAX))
        return fail(reading, HONE_ERROR_INPUT,
                    "model.max_input_chars_per_word is no number above 0");
    // llama.cpp knows no such limit, and no key for it.
    hone_hf_put_u32(reading->keys, "hone.longest_word",
                    longest ? json_integer_value(longest) : 100);
    const bool lowercase = !json_is_false(json_object_get(normalizer, "lowercase"));
    put_text(reading, "tokenizer.ggml.model", "bert");
    put_text(reading, "tokenizer.ggml.pre", "default");
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.normalizer.lowercase", lowercase);
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.normalizer.strip_accents",
                     json_is_boolean(strips) ? json_is_true(strips) : lowercase);
    return HONE_OK;
}

// GGUF marks the beginnings of words where WordPiece marks what goes on: "word", "##s" are "▁word",
// "s".
static hone_status mark_beginnings(Reading *reading) {
    for (int64_t i = 0; i < reading->count; i++) {
        const char *text = reading->token[i];
        if (reading->kind[i] != NORMAL && reading->kind[i] != USER_DEFINED) continue;
        if (strncmp(text, "##", 2) == 0) {
            reading->token[i] = text + 2;
            continue;
        }
        const size_t length = strlen(text) + sizeof "\xe2\x96\x81";
        char *marked = hone_arena_alloc(&reading->memory, length);
        if (!marked) return hone_fail_memory(reading->err, length, "the vocabulary");
        snprintf(marked, length, "\xe2\x96\x81%s", text);
        reading->token[i] = marked;
    }
    return HONE_OK;
}

// The one step of a normaliser of one, else the normaliser.
static const json_t *only_step(const json_t *value) {
    const json_t *steps = json_object_get(value, "normalizers");
    return json_array_size(steps) == 1 ? json_array_get(steps, 0) : value;
}

static hone_status put_charsmap(Reading *reading, const json_t *step) {
    const json_t *stored = json_object_get(step, "precompiled_charsmap");
    const size_t length = json_string_length(stored);
    char *bytes = hone_arena_alloc(&reading->memory, length + 1);
    size_t count;
    if (!bytes) return hone_fail_memory(reading->err, length, "the charsmap");
    if (length == 0) return HONE_OK;
    if (!hone_base64_decode(json_string_value(stored), length, bytes, &count))
        return fail(reading, HONE_ERROR_INPUT, "its precompiled_charsmap is no base64");
    hone_hf_begin_array(reading->keys, "tokenizer.ggml.precompiled_charsmap", GGUF_U8,
                        (int64_t)count);
    hone_text_append(&reading->keys->bytes, bytes, count);
    return HONE_OK;
}

// T5's: words apart by spaces, ▁ before each. Older files leave the spaces to Metaspace alone.
static hone_status put_t5(Reading *reading) {
    const json_t *step = only_step(json_object_get(reading->root, "normalizer"));
    const json_t *cutter = json_object_get(reading->root, "pre_tokenizer");
    const json_t *parts = json_object_get(cutter, "pretokenizers"), *last = cutter;
    const bool words = strcmp(type_of(cutter), "Sequence") == 0;
    if (words && json_array_size(parts) == 2 &&
        strcmp(type_of(json_array_get(parts, 0)), "WhitespaceSplit") == 0)
        last = json_array_get(parts, 1);
    const char *mark = json_string_value(json_object_get(last, "replacement"));
    const bool always =
        mentions(last, "always", 4) || (!json_object_get(last, "prepend_scheme") &&
                                        json_is_true(json_object_get(last, "add_prefix_space")));
    if (strcmp(type_of(last), "Metaspace") != 0 || !mark || strcmp(mark, "\xe2\x96\x81") != 0 ||
        !always || json_is_false(json_object_get(last, "split")))
        return fail(reading, HONE_ERROR_UNSUPPORTED,
                    "its pre_tokenizer is not T5's, and its normalizer leaves spaces");
    put_text(reading, "tokenizer.ggml.model", "t5");
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.add_space_prefix", true);
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.remove_extra_whitespaces", words);
    return put_charsmap(reading, step);
}

static bool is_json(const json_t *value, const char *text) {
    json_t *wanted = json_loads(text, 0, NULL);
    const bool equal = wanted && json_equal((json_t *)(uintptr_t)value, wanted);
    json_decref(wanted);
    return equal;
}

#define REPLACE_SPACES                                                                             \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}"

// Spaces become ▁, one is put before each text or none, and words are cut or not, which changes
// nothing. What sentencepiece's normalisation does besides is not read.
static hone_status put_unigram(Reading *reading) {
    static const char prefixed[] =
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"\xe2\x96\x81\"}," REPLACE_SPACES "]}";
    static const char bare[] = "{\"type\":\"Sequence\",\"normalizers\":[" REPLACE_SPACES "]}";
    static const char words[] = "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","
                                "\"prepend_scheme\":\"never\",\"split\":true}";
    const json_t *normalizer = json_object_get(reading->root, "normalizer");
    const json_t *cutter = json_object_get(reading->root, "pre_tokenizer");
    const json_t *step = only_step(normalizer);
    if (!step || json_is_null(step) || strcmp(type_of(step), "Precompiled") == 0)
        return put_t5(reading);
    const bool prefix = is_json(normalizer, prefixed);
    if (!prefix && !is_json(normalizer, bare) && !is_json(normalizer, REPLACE_SPACES))
        return fail(reading, HONE_ERROR_UNSUPPORTED,
                    "its normalizer is none that GGUF files can say of a unigram model");
    if (cutter && !json_is_null(cutter) && !is_json(cutter, words))
        return fail(reading, HONE_ERROR_UNSUPPORTED,
                    "its pre_tokenizer is none that GGUF files can say of a unigram model");
    put_text(reading, "tokenizer.ggml.model", "t5");
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.add_space_prefix", prefix);
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.remove_extra_whitespaces", false);
    return HONE_OK;
}

static hone_status put_model(Reading *reading, bool *scored) {
    const json_t *normalizer = json_object_get(reading->root, "normalizer");
    const json_t *cutter = json_object_get(reading->root, "pre_tokenizer");
    *scored = json_is_true(json_object_get(reading->model, "byte_fallback"));
    if (is_wordpiece(reading)) return put_wordpiece(reading);
    if (is_unigram(reading)) {
        *scored = true;
        return put_unigram(reading);
    }
    if (strcmp(type_of(reading->model), "BPE") != 0)
        return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED,
                         "%s/tokenizer.json: a model of type \"%.40s\" in a folder is not "
                         "supported yet; BPE, Unigram and WordPiece are",
                         reading->folder, type_of(reading->model));
    if (*scored) { // ▁ for spaces, by a normaliser or by Metaspace
        const bool spaced =
            mentions(normalizer, "\xe2\x96\x81", 8) || strcmp(type_of(cutter), "Metaspace") == 0;
        if (!spaced || mentions(normalizer, "NFKC", 8))
            return fail(reading, HONE_ERROR_UNSUPPORTED,
                        "its normalizer is none that GGUF files can say");
        const bool prefix = mentions(normalizer, "Prepend", 8) || mentions(cutter, "always", 4) ||
                            mentions(cutter, "first", 4);
        put_text(reading, "tokenizer.ggml.model", "llama");
        put_text(reading, "tokenizer.ggml.pre", "default");
        hone_hf_put_bool(reading->keys, "tokenizer.ggml.add_space_prefix", prefix);
        return HONE_OK;
    }
    const bool whole = json_is_true(json_object_get(reading->model, "ignore_merges"));
    const char *rule = rule_of(cutter, whole);
    if (normalizer && !json_is_null(normalizer) && strcmp(type_of(normalizer), "NFC") != 0)
        return fail(reading, HONE_ERROR_UNSUPPORTED,
                    "its normalizer is none that GGUF files can say");
    if (!rule)
        return fail(reading, HONE_ERROR_UNSUPPORTED,
                    "its pre_tokenizer is none of those that folders are read with: gpt-2, smollm, "
                    "llama-bpe, dbrx, qwen2");
    put_text(reading, "tokenizer.ggml.model", "gpt2");
    put_text(reading, "tokenizer.ggml.pre", rule);
    return HONE_OK;
}

// ---- the rest ----------------------------------------------------------------------------------

// The number of a unigram model's unknown token; -1: none.
static int64_t unknown_id(const Reading *reading) {
    const json_t *id = json_object_get(reading->model, "unk_id");
    const json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    return number >= 0 && number < reading->count ? (int64_t)number : -1;
}

static void name_kinds(Reading *reading) {
    const char *unknown = json_string_value(json_object_get(reading->model, "unk_token"));
    for (int64_t i = 0; i < reading->count; i++) {
        const char *text = reading->token[i];
        unsigned byte;
        char end;
        if (reading->kind[i] == UNUSED) continue;
        if (unknown && strcmp(text, unknown) == 0)
            reading->kind[i] = UNKNOWN;
        else if (strlen(text) == 6 && sscanf(text, "<0x%2X%c", &byte, &end) == 2 && end == '>')
            reading->kind[i] = BYTE;
    }
    if (unknown_id(reading) >= 0) reading->kind[unknown_id(reading)] = UNKNOWN;
}

static void put_arrays(Reading *reading, bool scored) {
    const int64_t count = reading->count;
    HfKeys *keys = reading->keys;
    hone_hf_begin_array(keys, "tokenizer.ggml.tokens", GGUF_STRING, count);
    for (int64_t i = 0; i < count; i++)
        hone_hf_append_string(keys, reading->token[i], strlen(reading->token[i]));
    hone_hf_begin_array(keys, "tokenizer.ggml.token_type", GGUF_I32, count);
    hone_text_append(&keys->bytes, reading->kind, (size_t)count * sizeof *reading->kind);
    if (!scored) return;
    hone_hf_begin_array(keys, "tokenizer.ggml.scores", GGUF_F32, count);
    hone_text_append(&keys->bytes, reading->score, (size_t)count * sizeof *reading->score);
}

// The id of a role: tokenizer_config.json names the token (a text, or an object with its content),
// config.json gives the number, or several of which the first counts. −1: none.
static int64_t role_id(const Reading *reading, const char *token_key, const char *id_key) {
    const json_t *named = json_object_get(reading->settings, token_key);
    if (json_is_object(named)) named = json_object_get(named, "content");
    const char *text = json_string_value(named);
    const int64_t found = text ? hone_map_get(&reading->ids, text, strlen(text), -1) : -1;
    const json_t *id = json_object_get(reading->config, id_key); // no name, or of no token

    if (json_is_array(id)) id = json_array_get(id, 0);
    const json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    return found >= 0 ? found : number < reading->count ? (int64_t)number : -1;
}

// What frames BERT's texts: by its role, or as it is always spelled.
static int64_t framing_id(const Reading *reading, const char *role, const char *spelling) {
    const int64_t id = role_id(reading, role, "");
    return id >= 0 ? id : hone_map_get(&reading->ids, spelling, strlen(spelling), -1);
}

static void put_roles(Reading *reading) {
    static const struct {
        const char *token, *id, *key;
    } roles[] = {
        {"bos_token", "bos_token_id", "tokenizer.ggml.bos_token_id"},
        {"eos_token", "eos_token_id", "tokenizer.ggml.eos_token_id"},
        {"unk_token", "unk_token_id", "tokenizer.ggml.unknown_token_id"},
        {"pad_token", "pad_token_id", "tokenizer.ggml.padding_token_id"},
        {"mask_token", "", "tokenizer.ggml.mask_token_id"},
    };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        const int64_t id = role_id(reading, roles[i].token, roles[i].id);
        if (id >= 0) hone_hf_put_u32(reading->keys, roles[i].key, id);
    }
    if (role_id(reading, "unk_token", "unk_token_id") < 0 && unknown_id(reading) >= 0)
        hone_hf_put_u32(reading->keys, "tokenizer.ggml.unknown_token_id", unknown_id(reading));
    // What a post-processor puts before and after a text; a flag says so in files without one.
    const json_t *processor = json_object_get(reading->root, "post_processor");
    const json_t *begins = json_object_get(reading->settings, "add_bos_token");
    const json_t *ends = json_object_get(reading->settings, "add_eos_token");
    const bool framed = is_wordpiece(reading);
    const int64_t bos = framed ? framing_id(reading, "cls_token", "[CLS]")
                               : role_id(reading, "bos_token", "bos_token_id");
    const int64_t eos = framed ? framing_id(reading, "sep_token", "[SEP]")
                               : role_id(reading, "eos_token", "eos_token_id");
    if (framed && bos >= 0) hone_hf_put_u32(reading->keys, "tokenizer.ggml.cls_token_id", bos);
    // Spelled so in llama.cpp's files.
    if (framed && eos >= 0)
        hone_hf_put_u32(reading->keys, "tokenizer.ggml.seperator_token_id", eos);
    const bool adds_bos = bos >= 0 && mentions(processor, reading->token[bos], 8);
    const bool adds_eos = eos >= 0 && eos != bos && mentions(processor, reading->token[eos], 8);
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.add_bos_token",
                     json_is_boolean(begins) ? json_is_true(begins) : adds_bos);
    hone_hf_put_bool(reading->keys, "tokenizer.ggml.add_eos_token",
                     json_is_boolean(ends) ? json_is_true(ends) : adds_eos);
}

// chat_template.jinja; else a text in tokenizer_config.json, or of several the one named default.
static hone_status put_template(Reading *reading) {
    static const char key[] = "tokenizer.chat_template";
    char *path = hone_path_join(reading->folder, "chat_template.jinja"), *text = NULL;
    if (!path) return hone_fail_memory(reading->err, 0, "a path");
    size_t length, i;
    hone_status status = HONE_OK;
    if (hone_is_file(path)) status = hone_file_read(path, &text, &length, reading->err);
    if (text) hone_hf_put_string(reading->keys, key, text, length);
    hone_free(path);
    if (text || status != HONE_OK) {
        hone_free(text);
        return status;
    }
    const json_t *given = json_object_get(reading->settings, "chat_template"), *one;
    const json_t *chosen = json_is_string(given) ? given : NULL;
    json_array_foreach(given, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && strcmp(name, "default") == 0) chosen = json_object_get(one, "template");
    }
    if (json_is_string(chosen))
        hone_hf_put_string(reading->keys, key, json_string_value(chosen),
                           json_string_length(chosen));
    return HONE_OK;
}

static hone_status put_all(Reading *reading) {
    bool scored;
    reading->model = json_object_get(reading->root, "model");
    RETURN_IF_ERROR(put_model(reading, &scored));
    RETURN_IF_ERROR(read_tokens(reading));
    RETURN_IF_ERROR(fill_gaps(reading));
    name_kinds(reading);
    if (is_wordpiece(reading))
        RETURN_IF_ERROR(mark_beginnings(reading));
    else if (!is_unigram(reading))
        RETURN_IF_ERROR(scored ? score_merges(reading) : put_merges(reading));
    put_arrays(reading, scored);
    put_roles(reading);
    return put_template(reading);
}

hone_status hone_hf_tokenizer(const char *folder, const json_t *config, int64_t vocabulary,
                              HfKeys *keys, HoneError *err) {
    json_t *root, *settings;
    RETURN_IF_ERROR(hone_hf_json(folder, "tokenizer.json", true, 0, &root, err));
    // Its model_max_length is often 10^30.
    hone_status status = hone_hf_json(folder, "tokenizer_config.json", false,
                                      JSON_DECODE_INT_AS_REAL, &settings, err);
    Reading reading = {.folder = folder,
                       .config = config,
                       .root = root,
                       .settings = settings,
                       .count = vocabulary,
                       .keys = keys,
                       .err = err};
    if (status == HONE_OK) status = put_all(&reading);
    hone_map_free(&reading.ids);
    hone_arena_free(&reading.memory);
    json_decref(root);
    json_decref(settings);
    return status;
}
