// SPDX-License-Identifier: Apache-2.0
// The vocabulary, the added tokens and the model of tokenizer.json.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tokenizer/json.h"

enum { PLACE = 96 };

// ---- ids ---------------------------------------------------------------------------------------

static hone_status fail_text(const char *place, TokenizerText text, const char *problem,
                             HoneError *err) {
    TextBuffer quoted = {0};
    hone_text_json(&quoted, text.data, text.length < 80 ? text.length : 80);
    hone_fail(err, HONE_ERROR_INPUT, "%s: %s %s", place,
              quoted.data && !quoted.failed ? quoted.data : "?", problem);
    hone_text_free(&quoted);
    return HONE_ERROR_INPUT;
}

// Numbers may be left out, but not so many that memory is taken for nothing.
static hone_status read_id(const char *place, const json_t *value, int64_t entries, int64_t *id,
                           HoneError *err) {
    if (!json_is_integer(value)) return hone_json_wants(place, "a token's number", err);
    *id = json_integer_value(value);
    if (*id >= 0 && *id < 2 * entries + 1024) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: token number %lld in a vocabulary of %lld tokens",
                     place, (long long)*id, (long long)entries);
}

static hone_status reserve(JsonReading *reading, int64_t count, HoneError *err) {
    size_t most = (size_t)count;
    Arena *memory = &reading->memory;
    reading->tokens = hone_arena_calloc(memory, most, sizeof *reading->tokens);
    reading->kinds = hone_arena_calloc(memory, most, sizeof *reading->kinds);
    reading->finding = hone_arena_calloc(memory, most, sizeof *reading->finding);
    reading->added = hone_arena_calloc(memory, most, sizeof *reading->added);
    if (!reading->tokens || !reading->kinds || !reading->finding || !reading->added)
        return hone_fail_memory(err, most * 24, "the vocabulary");
    for (int64_t id = 0; id < count; id++) {
        reading->tokens[id].data = NULL; // a number without a token
        reading->kinds[id] = TOKEN_UNUSED;
        reading->added[id] = true;
    }
    reading->source.token_count = count;
    return HONE_OK;
}

static hone_status largest_id(json_t *vocabulary, const json_t *added, int64_t *largest,
                              HoneError *err) {
    const char *key;
    json_t *value;
    int64_t id = 0;
    int64_t listed = (int64_t)json_array_size(vocabulary);
    int64_t entries =
        listed + (int64_t)json_object_size(vocabulary) + (int64_t)json_array_size(added);
    *largest = listed - 1;
    json_object_foreach(vocabulary, key, value) {
        RETURN_IF_ERROR(read_id("model.vocab", value, entries, &id, err));
        if (id > *largest) *largest = id;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        value = json_object_get(json_array_get(added, i), "id");
        RETURN_IF_ERROR(read_id("added_tokens", value, entries, &id, err));
        if (id > *largest) *largest = id;
    }
    return HONE_OK;
}

// ---- tokens ------------------------------------------------------------------------------------

static hone_status add_model_token(JsonReading *reading, int64_t id, TokenizerText text,
                                   HoneError *err) {
    if (reading->tokens[id].data) {
        char problem[PLACE];
        snprintf(problem, sizeof problem, "has number %lld, as another token does", (long long)id);
        return fail_text("model.vocab", text, problem, err);
    }
    unsigned byte;
    char end = 0;
    bool is_byte = reading->source.add_space_prefix && text.length == 6 &&
                   sscanf(text.data, "<0x%2X%c", &byte, &end) == 2 && end == '>';
    reading->tokens[id] = text;
    reading->kinds[id] = is_byte ? TOKEN_BYTE : TOKEN_NORMAL;
    reading->added[id] = false;
    return HONE_OK;
}

static hone_status read_vocabulary(JsonReading *reading, json_t *vocabulary, HoneError *err) {
    const char *key;
    json_t *value;
    json_object_foreach(vocabulary, key, value) RETURN_IF_ERROR(add_model_token(
        reading, json_integer_value(value), (TokenizerText){key, strlen(key)}, err));
    for (size_t i = 0; i < json_array_size(vocabulary); i++) {
        const json_t *pair = json_array_get(vocabulary, i), *text = json_array_get(pair, 0);
        char place[PLACE];
        snprintf(place, sizeof place, "model.vocab[%zu]", i);
        if (!json_is_string(text) || !json_is_number(json_array_get(pair, 1)))
            return hone_json_wants(place, "a text and a score", err);
        RETURN_IF_ERROR(add_model_token(reading, (int64_t)i, hone_json_text(text), err));
    }
    return HONE_OK;
}

static hone_status read_added(JsonReading *reading, size_t index, const json_t *item,
                              HoneError *err) {
    const json_t *content = json_object_get(item, "content");
    char place[PLACE];
    snprintf(place, sizeof place, "added_tokens[%zu]", index);
    if (!json_is_string(content)) return hone_json_wants(place, "a text \"content\"", err);
    int64_t id = json_integer_value(json_object_get(item, "id"));
    TokenizerText text = hone_json_text(content), there = reading->tokens[id];
    if (there.data &&
        (there.length != text.length || memcmp(there.data, text.data, text.length) != 0))
        return fail_text(place, text, "has the number of another token", err);
    reading->tokens[id] = text;
    reading->kinds[id] = hone_json_flag(item, "special", false) ? TOKEN_CONTROL : TOKEN_USER;
    reading->finding[id] =
        (uint8_t)((hone_json_flag(item, "single_word", false) ? FIND_WHOLE_WORD : 0) |
                  (hone_json_flag(item, "lstrip", false) ? FIND_EATS_LEFT : 0) |
                  (hone_json_flag(item, "rstrip", false) ? FIND_EATS_RIGHT : 0) |
                  (hone_json_flag(item, "normalized", false) ? FIND_LATE : 0));
    return HONE_OK;
}

static hone_status keep_tokens(JsonReading *reading, HoneError *err) {
    TokenizerSource *source = &reading->source;
    for (int64_t id = 0; id < source->token_count; id++)
        if (!reading->tokens[id].data) reading->tokens[id].data = "";
    source->tokens = reading->tokens;
    source->kinds = reading->kinds;
    source->bos = source->eos = source->eot = source->unknown = source->padding = -1;
    RETURN_IF_ERROR(hone_fill_tokens(reading->tokenizer, source, true, err));
    for (int64_t id = 0; id < source->token_count; id++) {
        reading->tokenizer->tokens[id].added = reading->added[id];
        reading->tokenizer->tokens[id].finding = reading->finding[id];
    }
    return HONE_OK;
}

// ---- the kind of model -------------------------------------------------------------------------

// Old files do not name it.
static const char *type_of(const json_t *model) {
    const char *type = hone_json_type(model);
    if (type) return type;
    if (json_object_get(model, "merges")) return "BPE";
    return json_is_array(json_object_get(model, "vocab")) ? "Unigram" : "WordPiece";
}

static hone_status choose_model(JsonReading *reading, const json_t *model, HoneError *err) {
    Tokenizer *tokenizer = reading->tokenizer;
    const char *type = type_of(model);
    reading->source.model = type;
    if (strcmp(type, "BPE") == 0) {
        tokenizer->model = reading->byte_level ? PIECES_BYTES : PIECES_CHARACTERS;
        tokenizer->whole_pieces = hone_json_flag(model, "ignore_merges", false);
    } else if (strcmp(type, "Unigram") == 0) {
        tokenizer->model = PIECES_UNIGRAM;
    } else if (strcmp(type, "WordPiece") == 0) {
        const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
        TokenizerText text = prefix ? hone_json_text(prefix) : (TokenizerText){"##", 2}, kept;
        if (text.length == 0 || memchr(text.data, 0, text.length))
            return hone_json_wants("model.continuing_subword_prefix", "a text", err);
        RETURN_IF_ERROR(hone_json_copy(reading, text, &kept, err));
        tokenizer->model = PIECES_WORDPIECE;
        tokenizer->part_prefix = kept.data;
        tokenizer->strips_space = true;
    } else {
        return hone_json_unknown("model", type, err);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return hone_json_unknown("model", "dropout", err);
    bool list = tokenizer->model == PIECES_UNIGRAM;
    const json_t *vocabulary = json_object_get(model, "vocab");
    if (list ? !json_is_array(vocabulary) : !json_is_object(vocabulary))
        return hone_json_wants("model.vocab",
                               list ? "a list of texts and scores" : "an object of numbers", err);
    return HONE_OK;
}

hone_status hone_json_tokens(JsonReading *reading, const json_t *root, HoneError *err) {
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    if (!json_is_object(model)) return hone_json_wants("model", "an object", err);
    if (added && !json_is_array(added)) return hone_json_wants("added_tokens", "a list", err);
    RETURN_IF_ERROR(choose_model(reading, model, err));
    // While tokens are read: <0x0A> is a byte.
    reading->source.add_space_prefix = hone_json_flag(model, "byte_fallback", false);
    json_t *vocabulary = json_object_get(model, "vocab");
    int64_t largest;
    RETURN_IF_ERROR(largest_id(vocabulary, added, &largest, err));
    if (largest < 0) return hone_json_wants("model.vocab", "at least one token", err);
    RETURN_IF_ERROR(reserve(reading, largest + 1, err));
    RETURN_IF_ERROR(read_vocabulary(reading, vocabulary, err));
    reading->model_count = (int64_t)json_array_size(vocabulary);
    for (size_t i = 0; i < json_array_size(added); i++)
        RETURN_IF_ERROR(read_added(reading, i, json_array_get(added, i), err));
    return keep_tokens(reading, err);
}

// ---- BPE ---------------------------------------------------------------------------------------

static hone_status read_unknown(Tokenizer *tokenizer, const json_t *model, HoneError *err) {
    const json_t *value = json_object_get(model, "unk_token");
    tokenizer->unknown = -1;
    if (!json_is_string(value) || json_string_length(value) == 0) return HONE_OK;
    tokenizer->unknown = hone_tokenizer_find(tokenizer, json_string_value(value));
    if (tokenizer->unknown >= 0) return HONE_OK;
    return fail_text("model.unk_token", hone_json_text(value), "is not in the vocabulary", err);
}

static hone_status read_merge(Tokenizer *tokenizer, size_t rank, const json_t *value,
                              HoneError *err) {
    TokenizerText text = hone_json_text(value), left, right;
    if (json_is_string(value)) {
        const char *space = text.length ? memchr(text.data, ' ', text.length) : NULL;
        size_t at = space ? (size_t)(space - text.data) : 0;
        if (!space || memchr(space + 1, ' ', text.length - at - 1))
            return hone_fail_with_text(err, "merge", (int64_t)rank, text.data, text.length,
                                       "not two parts with a space between them");
        left = (TokenizerText){text.data, at};
        right = (TokenizerText){space + 1, text.length - at - 1};
    } else {
        left = hone_json_text(json_array_get(value, 0));
        right = hone_json_text(json_array_get(value, 1));
        char place[PLACE];
        snprintf(place, sizeof place, "model.merges[%zu]", rank);
        if (json_array_size(value) != 2) return hone_json_wants(place, "two texts", err);
    }
    return hone_add_merge(tokenizer, (int64_t)rank, left, right, err);
}

static hone_status read_characters(Tokenizer *tokenizer, HoneError *err) {
    for (int64_t id = 0; id < tokenizer->token_count; id++) {
        const VocabularyToken *token = &tokenizer->tokens[id];
        TokenizerText text = token->spelling;
        if (token->added || text.length == 0 ||
            (size_t)hone_utf8_decode(text.data, text.length, NULL) != text.length)
            continue;
        if (!hone_map_put(&tokenizer->characters, text.data, text.length, id))
            return hone_fail_memory(err, text.length, "the vocabulary");
    }
    return HONE_OK;
}

static bool is_set(const json_t *model, const char *key) {
    return json_string_length(json_object_get(model, key)) > 0;
}

static hone_status read_bpe(JsonReading *reading, const json_t *model, HoneError *err) {
    Tokenizer *tokenizer = reading->tokenizer;
    const json_t *merges = json_object_get(model, "merges");
    if (is_set(model, "continuing_subword_prefix"))
        return hone_json_unknown("model", "continuing_subword_prefix", err);
    if (is_set(model, "end_of_word_suffix"))
        return hone_json_unknown("model", "end_of_word_suffix", err);
    if (!json_is_array(merges)) return hone_json_wants("model.merges", "a list", err);
    RETURN_IF_ERROR(read_unknown(tokenizer, model, err));
    tokenizer->fuses_unknown = hone_json_flag(model, "fuse_unk", false);
    size_t count = json_array_size(merges);
    RETURN_IF_ERROR(hone_merge_table_create(&tokenizer->merges, (int64_t)count, err));
    for (size_t rank = 0; rank < count; rank++)
        RETURN_IF_ERROR(read_merge(tokenizer, rank, json_array_get(merges, rank), err));
    if (tokenizer->model == PIECES_CHARACTERS) {
        if (hone_json_flag(model, "byte_fallback", false)) hone_find_byte_spellings(tokenizer);
        return read_characters(tokenizer, err);
    }
    hone_fill_byte_tokens(tokenizer);
    for (int byte = 0; byte < 256; byte++)
        if (tokenizer->byte_tokens[byte] < 0) tokenizer->byte_tokens[byte] = tokenizer->unknown;
    return HONE_OK;
}

// ---- the others --------------------------------------------------------------------------------

enum { UNKNOWN_PENALTY = 10 }; // below the worst token's score

static hone_status read_unigram(JsonReading *reading, const json_t *model, HoneError *err) {
    Tokenizer *tokenizer = reading->tokenizer;
    const json_t *vocabulary = json_object_get(model, "vocab");
    const json_t *unknown = json_object_get(model, "unk_id");
    size_t count = (size_t)tokenizer->token_count;
    tokenizer->fuses_unknown = true;
    tokenizer->unknown = -1;
    if (json_is_integer(unknown)) {
        long long id = (long long)json_integer_value(unknown);
        if (id < 0 || id >= reading->model_count)
            return hone_fail(err, HONE_ERROR_INPUT,
                             "model.unk_id: token number %lld, the vocabulary has %lld tokens", id,
                             (long long)reading->model_count);
        tokenizer->unknown = (int32_t)id;
    }
    if (hone_json_flag(model, "byte_fallback", false)) hone_find_byte_spellings(tokenizer);
    tokenizer->scores = hone_arena_calloc(&tokenizer->arena, count, sizeof *tokenizer->scores);
    if (!tokenizer->scores) return hone_fail_memory(err, count * 8, "the scores");
    double worst = (double)INFINITY;
    for (size_t i = 0; i < json_array_size(vocabulary); i++) {
        double score = json_number_value(json_array_get(json_array_get(vocabulary, i), 1));
        tokenizer->scores[i] = score;
        if (score < worst) worst = score;
    }
    tokenizer->unknown_score = worst - UNKNOWN_PENALTY;
    return hone_fill_trie(tokenizer, NULL, &tokenizer->words, err);
}

static TokenizerText part_of(const Tokenizer *tokenizer, TokenizerText text) {
    size_t prefix = strlen(tokenizer->part_prefix);
    if (text.length <= prefix || memcmp(text.data, tokenizer->part_prefix, prefix) != 0)
        return (TokenizerText){"", 0};
    return (TokenizerText){text.data + prefix, text.length - prefix};
}

static hone_status read_wordpiece(JsonReading *reading, const json_t *model, HoneError *err) {
    Tokenizer *tokenizer = reading->tokenizer;
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    if (longest && (!json_is_integer(longest) || json_integer_value(longest) <= 0))
        return hone_json_wants("model.max_input_chars_per_word", "a number above 0", err);
    tokenizer->longest_word = longest ? (size_t)json_integer_value(longest) : 100;
    RETURN_IF_ERROR(read_unknown(tokenizer, model, err));
    RETURN_IF_ERROR(hone_fill_trie(tokenizer, NULL, &tokenizer->words, err));
    return hone_fill_trie(tokenizer, part_of, &tokenizer->parts, err);
}

hone_status hone_json_model(JsonReading *reading, const json_t *model, HoneError *err) {
    if (reading->tokenizer->model != PIECES_BYTES)
        RETURN_IF_ERROR(hone_check_lengths(reading->tokenizer, err));
    switch (reading->tokenizer->model) {
    case PIECES_UNIGRAM:
        return read_unigram(reading, model, err);
    case PIECES_WORDPIECE:
        return read_wordpiece(reading, model, err);
    default:
        return read_bpe(reading, model, err);
    }
}
