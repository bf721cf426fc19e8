// SPDX-License-Identifier: Apache-2.0
// The public tokeniser calls, and from a GGUF file's metadata to a tokeniser.
#include <hone/tokenizer.h>

#include <string.h>

#include "hub/cache.h"
#include "tokenizer/rules.h"
#include "train/session.h"

// ---- a GGUF file's metadata --------------------------------------------------------------------

// What is read before the tokeniser copies it: strings lie in the map, arrays are freed after.
typedef struct Reading {
    const GgufFile *file;
    TokenizerSource source;
    Arena memory;
    GgufString *tokens, *merges;
    int32_t *kinds;
    float *scores;
} Reading;

// What a file that does not say is taken to say, as llama.cpp takes it.
static const struct Defaults {
    const char *model;
    int32_t bos, eos, unknown, padding;
    bool add_bos, add_eos, space_prefix;
} defaults[] = {
    {"llama", 1, 2, 0, -1, true, false, true},
    {"t5", -1, 1, 2, 0, false, true, false},
    {"bert", 101, 102, 100, 0, true, true, false},
    {"", -1, -1, -1, -1, false, false, false}, // the others
};

static const struct Defaults *defaults_of(const char *model) {
    const struct Defaults *found = defaults;
    while (*found->model && strcmp(found->model, model) != 0) found++;
    return found;
}

// An optional token id: `missing`, if the vocabulary is that large, when the key is absent.
static hone_status read_id(const Reading *reading, const char *name, int32_t missing,
                           int32_t *token, HoneError *err) {
    int64_t limit = reading->source.token_count, value;
    *token = missing < limit ? missing : -1;
    if (!hone_gguf_key(reading->file, name)) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_int(reading->file, name, &value, err));
    if (value < 0 || value >= limit)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s is %lld, the vocabulary has %lld tokens",
                         reading->file->map.path, name, (long long)value, (long long)limit);
    *token = (int32_t)value;
    return HONE_OK;
}

static bool read_flag(const Reading *reading, const char *name, bool missing) {
    const GgufKey *key = hone_gguf_key(reading->file, name);
    return key && key->type == GGUF_BOOL ? key->value.u != 0 : missing;
}

static hone_status read_name(Reading *reading, const char *name, const char **text,
                             HoneError *err) {
    *text = NULL;
    GgufString found;
    if (!hone_gguf_key(reading->file, name)) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_string(reading->file, name, &found, err));
    *text = hone_arena_strndup(&reading->memory, found.data, found.length);
    return *text ? HONE_OK : hone_fail_memory(err, found.length, "the vocabulary");
}

static hone_status as_texts(Reading *reading, const GgufString *strings, int64_t count,
                            const TokenizerText **texts, HoneError *err) {
    size_t bytes = (size_t)count * sizeof **texts;
    TokenizerText *made = hone_arena_alloc(&reading->memory, bytes + 1);
    if (!made) return hone_fail_memory(err, bytes, "the vocabulary");
    for (int64_t i = 0; i < count; i++)
        made[i] = (TokenizerText){strings[i].data, strings[i].length};
    *texts = made;
    return HONE_OK;
}

static hone_status read_scores(Reading *reading, HoneError *err) {
    const char *name = "tokenizer.ggml.scores";
    int64_t count;
    if (!hone_gguf_key(reading->file, name)) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_floats(reading->file, name, &reading->scores, &count, err));
    if (count != reading->source.token_count)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %lld scores for %lld tokens",
                         reading->file->map.path, (long long)count,
                         (long long)reading->source.token_count);
    reading->source.scores = reading->scores;
    return HONE_OK;
}

static hone_status read_charsmap(Reading *reading, HoneError *err) {
    const char *name = "tokenizer.ggml.precompiled_charsmap";
    const GgufKey *key = hone_gguf_key(reading->file, name);
    if (!key) return HONE_OK;
    if (key->type != GGUF_ARRAY || (key->element != GGUF_U8 && key->element != GGUF_I8))
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s is not an array of bytes",
                         reading->file->map.path, name);
    reading->source.charsmap = (TokenizerText){(const char *)key->elements, key->element_bytes};
    return HONE_OK;
}

static hone_status read_arrays(Reading *reading, HoneError *err) {
    const GgufFile *file = reading->file;
    TokenizerSource *source = &reading->source;
    RETURN_IF_ERROR(hone_gguf_strings(file, "tokenizer.ggml.tokens", &reading->tokens,
                                      &source->token_count, err));
    RETURN_IF_ERROR(as_texts(reading, reading->tokens, source->token_count, &source->tokens, err));
    if (hone_gguf_key(file, "tokenizer.ggml.merges"))
        RETURN_IF_ERROR(hone_gguf_strings(file, "tokenizer.ggml.merges", &reading->merges,
                                          &source->merge_count, err));
    RETURN_IF_ERROR(as_texts(reading, reading->merges, source->merge_count, &source->merges, err));
    RETURN_IF_ERROR(read_scores(reading, err));
    if (!hone_gguf_key(file, "tokenizer.ggml.token_type")) return HONE_OK;
    int64_t count;
    RETURN_IF_ERROR(
        hone_gguf_ints(file, "tokenizer.ggml.token_type", &reading->kinds, &count, err));
    if (count != source->token_count)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %lld token types for %lld tokens",
                         file->map.path, (long long)count, (long long)source->token_count);
    source->kinds = reading->kinds;
    return HONE_OK;
}

static hone_status read_ids(Reading *reading, HoneError *err) {
    TokenizerSource *source = &reading->source;
    const struct Defaults *missing = defaults_of(source->model);
    RETURN_IF_ERROR(
        read_id(reading, "tokenizer.ggml.bos_token_id", missing->bos, &source->bos, err));
    RETURN_IF_ERROR(
        read_id(reading, "tokenizer.ggml.eos_token_id", missing->eos, &source->eos, err));
    RETURN_IF_ERROR(read_id(reading, "tokenizer.ggml.eot_token_id", -1, &source->eot, err));
    RETURN_IF_ERROR(read_id(reading, "tokenizer.ggml.unknown_token_id", missing->unknown,
                            &source->unknown, err));
    RETURN_IF_ERROR(read_id(reading, "tokenizer.ggml.padding_token_id", missing->padding,
                            &source->padding, err));
    // BERT's texts begin with its class token and end with its separator.
    if (strcmp(source->model, "bert") == 0)
        RETURN_IF_ERROR(
            read_id(reading, "tokenizer.ggml.cls_token_id", source->bos, &source->bos, err));
    int64_t longest;
    if (hone_gguf_key(reading->file, "hone.longest_word")) {
        RETURN_IF_ERROR(hone_gguf_int(reading->file, "hone.longest_word", &longest, err));
        if (longest > 0) source->longest_word = (size_t)longest;
    }
    if (strcmp(source->model, "bert") == 0)
        RETURN_IF_ERROR(
            read_id(reading, "tokenizer.ggml.seperator_token_id", source->eos, &source->eos, err));
    return HONE_OK;
}

static void read_flags(Reading *reading) {
    TokenizerSource *source = &reading->source;
    const struct Defaults *missing = defaults_of(source->model);
    // Old Llama 3 files leave the flag out; llama.cpp adds BOS for their pre-tokeniser then.
    const PreRule *rule =
        source->pre && strcmp(source->model, "gpt2") == 0 ? hone_rule_named(source->pre) : NULL;
    bool add_bos = missing->add_bos || (rule && rule->adds_bos);
    source->add_bos = read_flag(reading, "tokenizer.ggml.add_bos_token", add_bos);
    source->add_eos = read_flag(reading, "tokenizer.ggml.add_eos_token", missing->add_eos);
    source->add_space_prefix =
        read_flag(reading, "tokenizer.ggml.add_space_prefix", missing->space_prefix);
    source->merge_spaces = read_flag(reading, "tokenizer.ggml.remove_extra_whitespaces", false);
    source->lowercase = read_flag(reading, "tokenizer.ggml.normalizer.lowercase", true);
    source->strip_accents =
        read_flag(reading, "tokenizer.ggml.normalizer.strip_accents", source->lowercase);
}

static hone_status make_tokenizer(Reading *reading, Tokenizer **tokenizer, HoneError *err) {
    const char *path = reading->file->map.path;
    TokenizerSource *source = &reading->source;
    RETURN_IF_ERROR(read_name(reading, "tokenizer.ggml.model", &source->model, err));
    RETURN_IF_ERROR(read_name(reading, "tokenizer.ggml.pre", &source->pre, err));
    if (!source->model)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: has no tokenizer.ggml.model", path);
    RETURN_IF_ERROR(read_arrays(reading, err));
    RETURN_IF_ERROR(read_charsmap(reading, err));
    RETURN_IF_ERROR(read_ids(reading, err));
    read_flags(reading);
    hone_status status = hone_tokenizer_create(source, tokenizer, err);
    return status == HONE_OK ? HONE_OK : hone_fail_in(err, "%s", path);
}

// What ends an answer beside EOS, as generation_config.json had it.
static hone_status add_ends(const GgufFile *file, Tokenizer *tokenizer, HoneError *err) {
    static const char key[] = "hone.eos_token_ids";
    int32_t *ids;
    int64_t count;
    if (!hone_gguf_key(file, key)) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_ints(file, key, &ids, &count, err));
    for (int64_t i = 0; i < count; i++) hone_tokenizer_add_end(tokenizer, ids[i]);
    hone_free(ids);
    return HONE_OK;
}

hone_status hone_read_tokenizer(const GgufFile *file, Tokenizer **tokenizer, HoneError *err) {
    *tokenizer = NULL;
    Reading reading = {.file = file};
    hone_status status = make_tokenizer(&reading, tokenizer, err);
    if (status == HONE_OK) status = add_ends(file, *tokenizer, err);
    if (status != HONE_OK) {
        hone_tokenizer_free(*tokenizer);
        *tokenizer = NULL;
    }
    hone_free(reading.tokens);
    hone_free(reading.merges);
    hone_free(reading.kinds);
    hone_free(reading.scores);
    hone_arena_free(&reading.memory);
    return status;
}

// ---- text and tokens ---------------------------------------------------------------------------

hone_status hone_copy_tokens(Tokenizer *tokenizer, const char *text, size_t length, bool special,
                             int32_t **tokens, int64_t *count, HoneError *err) {
    *tokens = NULL;
    *count = 0;
    TokenList list = {0};
    hone_status status = hone_tokenize_append(tokenizer, text, length, special, &list, err);
    if (status == HONE_OK) {
        size_t bytes = (size_t)list.count * sizeof **tokens;
        *tokens = hone_alloc(bytes);
        if (*tokens) {
            if (bytes) memcpy(*tokens, list.tokens, bytes);
            *count = list.count;
        } else {
            status = hone_fail_memory(err, bytes, "tokens");
        }
    }
    hone_token_list_free(&list);
    return status;
}

hone_status hone_check_tokens(const Tokenizer *tokenizer, const int32_t *tokens, int64_t count,
                              HoneError *err) {
    int64_t limit = hone_tokenizer_size(tokenizer);
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= limit)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "token %lld is %d, the vocabulary has %lld tokens", (long long)i,
                             tokens[i], (long long)limit);
    return HONE_OK;
}

hone_status hone_give_text(TextBuffer *buffer, char **text, size_t *length, HoneError *err) {
    hone_text_append(buffer, "", 0);
    if (buffer->failed) {
        hone_text_free(buffer);
        return hone_fail_memory(err, buffer->length, "text");
    }
    *text = buffer->data;
    *length = buffer->length;
    return HONE_OK;
}

// ---- the public calls --------------------------------------------------------------------------

struct HoneTokenizer {
    HoneContext *context;
    Tokenizer *tokenizer;
};

static hone_status open_file(const char *path, Tokenizer **tokenizer, HoneError *err) {
    size_t length = strlen(path);
    if (hone_is_directory(path) || (length > 5 && strcmp(path + length - 5, ".json") == 0))
        return hone_tokenizer_read_json(path, tokenizer, err);
    GgufFile file;
    RETURN_IF_ERROR(hone_gguf_open(path, &file, err));
    hone_status status = hone_read_tokenizer(&file, tokenizer, err);
    hone_gguf_close(&file);
    return status;
}

hone_status hone_tokenizer_open(HoneContext *context, const char *path, HoneTokenizer **tokenizer) {
    *tokenizer = NULL;
    HoneError *err = hone_begin(context);
    if (!path || !*path) return hone_fail(err, HONE_ERROR_ARGUMENT, "no tokeniser was given");
    HoneTokenizer *opened = hone_calloc(1, sizeof *opened);
    if (!opened) return hone_fail_memory(err, sizeof *opened, "a tokeniser");
    opened->context = context;
    char *found;
    hone_status status = hone_hub_resolve(path, &found, err);
    if (status == HONE_OK) status = open_file(found, &opened->tokenizer, err);
    hone_free(found);
    if (status != HONE_OK) {
        hone_tokenizer_close(opened);
        return status;
    }
    *tokenizer = opened;
    return HONE_OK;
}

void hone_tokenizer_close(HoneTokenizer *tokenizer) {
    if (!tokenizer) return;
    hone_tokenizer_free(tokenizer->tokenizer);
    hone_free(tokenizer);
}

hone_status hone_tokenizer_encode(HoneTokenizer *tokenizer, const char *text, size_t length,
                                  bool special, int32_t **tokens, int64_t *count) {
    HoneError *err = hone_begin(tokenizer->context);
    return hone_copy_tokens(tokenizer->tokenizer, text, length, special, tokens, count, err);
}

hone_status hone_tokenizer_decode(HoneTokenizer *tokenizer, const int32_t *tokens, int64_t count,
                                  bool special, char **text, size_t *length) {
    HoneError *err = hone_begin(tokenizer->context);
    *text = NULL;
    *length = 0;
    RETURN_IF_ERROR(hone_check_tokens(tokenizer->tokenizer, tokens, count, err));
    TextBuffer buffer = {0};
    hone_tokenizer_text(tokenizer->tokenizer, tokens, count, special, &buffer);
    return hone_give_text(&buffer, text, length, err);
}
