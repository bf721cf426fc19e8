// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/tokenizer.h"

#include <string.h>

#include "tokenizer/alphabet.h"
#include "tokenizer/vocabulary.h"

static const char *const answer_ends[] = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>",
                                          "<end_of_turn>", "</s>"};
enum { ANSWER_END_COUNT = sizeof answer_ends / sizeof *answer_ends };

// ---- reading the source ------------------------------------------------------------------------

// "merge 12, "a b": problem", the text quoted and cut to a readable length.
static hone_status fail_with_text(HoneError *err, const char *what, int64_t index, const char *text,
                                  size_t length, const char *problem) {
    TextBuffer quoted = {0};
    hone_text_json(&quoted, text, length < 80 ? length : 80);
    hone_fail(err, HONE_ERROR_INPUT, "%s %lld, %s%s: %s", what, (long long)index,
              quoted.data && !quoted.failed ? quoted.data : "?", length < 80 ? "" : "…", problem);
    hone_text_free(&quoted);
    return HONE_ERROR_INPUT;
}

static bool is_spelled_out(int kind) {
    return kind != TOKEN_NORMAL && kind != TOKEN_BYTE;
}

static hone_status read_token(Tokenizer *tokenizer, const TokenizerSource *source,
                              const Alphabet *alphabet, int64_t id, HoneError *err) {
    TokenizerText text = source->tokens[id];
    if (text.length == 0) text.data = ""; // an empty text may have no address
    int kind = source->kinds && source->kinds[id] ? source->kinds[id] : TOKEN_NORMAL;
    if (kind < TOKEN_NORMAL || kind > TOKEN_BYTE)
        return hone_fail(err, HONE_ERROR_INPUT, "token %lld has type %d; there are 1 to 6",
                         (long long)id, kind);
    if (text.length > UINT32_MAX)
        return hone_fail(err, HONE_ERROR_INPUT, "token %lld has %zu bytes", (long long)id,
                         text.length);
    char *spelling = hone_arena_strndup(&tokenizer->arena, text.data, text.length);
    char *bytes = hone_arena_alloc(&tokenizer->arena, text.length + 1);
    if (!spelling || !bytes || !hone_map_put(&tokenizer->by_spelling, spelling, text.length, id))
        return hone_fail_memory(err, text.length, "the vocabulary");
    int64_t length = -1;
    if (!is_spelled_out(kind))
        length = hone_alphabet_decode(alphabet, spelling, text.length, bytes);
    VocabularyToken *token = &tokenizer->tokens[id];
    *token = (VocabularyToken){.bytes = length < 0 ? spelling : bytes,
                               .length = length < 0 ? (uint32_t)text.length : (uint32_t)length,
                               .kind = (uint8_t)kind};
    if (kind == TOKEN_NORMAL && hone_pretokenizer_takes_whole_pieces(tokenizer->pre) &&
        !hone_map_put(&tokenizer->by_bytes, token->bytes, token->length, id))
        return hone_fail_memory(err, text.length, "the vocabulary");
    return HONE_OK;
}

static hone_status read_tokens(Tokenizer *tokenizer, const TokenizerSource *source,
                               HoneError *err) {
    int64_t count = source->token_count;
    if (count <= 0 || count > INT32_MAX)
        return hone_fail(err, HONE_ERROR_INPUT, "a vocabulary of %lld tokens", (long long)count);
    tokenizer->tokens = hone_calloc((size_t)count, sizeof *tokenizer->tokens);
    if (!tokenizer->tokens)
        return hone_fail_memory(err, (size_t)count * sizeof *tokenizer->tokens, "the vocabulary");
    tokenizer->token_count = count;
    Alphabet alphabet;
    hone_alphabet_fill(&alphabet);
    for (int64_t id = 0; id < count; id++)
        RETURN_IF_ERROR(read_token(tokenizer, source, &alphabet, id, err));
    for (int byte = 0; byte < 256; byte++) {
        char spelling[4];
        int length = hone_utf8_encode(alphabet.character[byte], spelling);
        tokenizer->byte_tokens[byte] =
            (int32_t)hone_map_get(&tokenizer->by_spelling, spelling, (size_t)length, -1);
    }
    return HONE_OK;
}

static hone_status read_merge(Tokenizer *tokenizer, int64_t rank, TokenizerText text,
                              HoneError *err) {
    // A part is never empty, so a space at the very front belongs to the left one.
    const char *space = text.length > 1 ? memchr(text.data + 1, ' ', text.length - 1) : NULL;
    size_t left_length = space ? (size_t)(space - text.data) : 0;
    if (!space || left_length + 1 == text.length)
        return fail_with_text(err, "merge", rank, text.data, text.length,
                              "not two parts with a space between them");
    char *joined = hone_arena_alloc(&tokenizer->arena, text.length);
    if (!joined) return hone_fail_memory(err, text.length, "the merges");
    size_t right_length = text.length - left_length - 1;
    memcpy(joined, text.data, left_length);
    memcpy(joined + left_length, space + 1, right_length);
    const StringMap *map = &tokenizer->by_spelling;
    MergeSlot merge = {.left = (int32_t)hone_map_get(map, joined, left_length, -1),
                       .right = (int32_t)hone_map_get(map, space + 1, right_length, -1),
                       .result = (int32_t)hone_map_get(map, joined, text.length - 1, -1),
                       .rank = (uint32_t)rank};
    const char *problem = merge.left < 0     ? "the left part is not in the vocabulary"
                          : merge.right < 0  ? "the right part is not in the vocabulary"
                          : merge.result < 0 ? "the two parts joined are not in the vocabulary"
                                             : NULL;
    if (problem) return fail_with_text(err, "merge", rank, text.data, text.length, problem);
    hone_merge_table_put(&tokenizer->merges, merge);
    return HONE_OK;
}

static hone_status read_merges(Tokenizer *tokenizer, const TokenizerSource *source,
                               HoneError *err) {
    if (source->merge_count < 0 || source->merge_count >= UINT32_MAX)
        return hone_fail(err, HONE_ERROR_INPUT, "a vocabulary of %lld merges",
                         (long long)source->merge_count);
    RETURN_IF_ERROR(hone_merge_table_create(&tokenizer->merges, source->merge_count, err));
    for (int64_t rank = 0; rank < source->merge_count; rank++)
        RETURN_IF_ERROR(read_merge(tokenizer, rank, source->merges[rank], err));
    return HONE_OK;
}

static hone_status collect_specials(Tokenizer *tokenizer, bool only_users, SpecialSet *set,
                                    HoneError *err) {
    size_t count = 0, capacity = 0;
    for (int64_t id = 0; id < tokenizer->token_count; id++)
        capacity += is_spelled_out(tokenizer->tokens[id].kind);
    SpecialToken *found = hone_calloc(capacity, sizeof *found);
    if (!found) return hone_fail_memory(err, capacity * sizeof *found, "special tokens");
    for (int64_t id = 0; id < tokenizer->token_count; id++) {
        const VocabularyToken *token = &tokenizer->tokens[id];
        bool wanted =
            token->kind == TOKEN_USER ||
            (!only_users && (token->kind == TOKEN_CONTROL || token->kind == TOKEN_UNKNOWN));
        if (wanted) found[count++] = (SpecialToken){token->bytes, token->length, (int32_t)id};
    }
    hone_status status = hone_special_create(set, found, count, err);
    hone_free(found);
    return status;
}

static hone_status read_roles(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err) {
    const struct {
        const char *name;
        int32_t id;
    } roles[] = {{"bos", source->bos},
                 {"eos", source->eos},
                 {"eot", source->eot},
                 {"unknown", source->unknown},
                 {"padding", source->padding}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (roles[i].id < -1 || roles[i].id >= tokenizer->token_count)
            return hone_fail(err, HONE_ERROR_INPUT, "the %s token is %d, the vocabulary has %lld",
                             roles[i].name, (int)roles[i].id, (long long)tokenizer->token_count);
    if (source->eos >= 0) tokenizer->tokens[source->eos].ends = true;
    if (source->eot >= 0) tokenizer->tokens[source->eot].ends = true;
    for (int i = 0; i < ANSWER_END_COUNT; i++) {
        int32_t id = hone_tokenizer_find(tokenizer, answer_ends[i]);
        if (id >= 0 && tokenizer->tokens[id].kind == TOKEN_CONTROL)
            tokenizer->tokens[id].ends = true;
    }
    tokenizer->bos = source->bos;
    tokenizer->eos = source->eos;
    tokenizer->adds_bos = source->add_bos;
    tokenizer->adds_eos = source->add_eos;
    return HONE_OK;
}

// ---- making and freeing ------------------------------------------------------------------------

static hone_status fill(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err) {
    const char *pre = source->pre ? source->pre : "gpt-2";
    RETURN_IF_ERROR(hone_pretokenizer_create(pre, &tokenizer->pre, err));
    RETURN_IF_ERROR(read_tokens(tokenizer, source, err));
    RETURN_IF_ERROR(read_merges(tokenizer, source, err));
    RETURN_IF_ERROR(collect_specials(tokenizer, false, &tokenizer->specials, err));
    RETURN_IF_ERROR(collect_specials(tokenizer, true, &tokenizer->users, err));
    RETURN_IF_ERROR(read_roles(tokenizer, source, err));
    tokenizer->cache = hone_calloc(CACHE_SIZE, sizeof *tokenizer->cache);
    if (!tokenizer->cache)
        return hone_fail_memory(err, CACHE_SIZE * sizeof *tokenizer->cache, "the tokeniser");
    return HONE_OK;
}

hone_status hone_tokenizer_create(const TokenizerSource *source, Tokenizer **tokenizer,
                                  HoneError *err) {
    *tokenizer = NULL;
    const char *model = source->model ? source->model : "";
    if (strcmp(model, "gpt2") != 0) {
        TextBuffer quoted = {0};
        hone_text_json(&quoted, model, strnlen(model, 64));
        hone_fail(err, HONE_ERROR_UNSUPPORTED,
                  "tokeniser model %s is not supported; there is gpt2 (byte-level BPE)",
                  quoted.data && !quoted.failed ? quoted.data : "?");
        hone_text_free(&quoted);
        return HONE_ERROR_UNSUPPORTED;
    }
    Tokenizer *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a tokeniser");
    hone_status status = fill(made, source, err);
    if (status != HONE_OK) {
        hone_tokenizer_free(made);
        return status;
    }
    *tokenizer = made;
    return HONE_OK;
}

void hone_tokenizer_free(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    hone_map_free(&tokenizer->by_spelling);
    hone_map_free(&tokenizer->by_bytes);
    hone_merge_table_free(&tokenizer->merges);
    hone_special_free(&tokenizer->specials);
    hone_special_free(&tokenizer->users);
    hone_pretokenizer_free(tokenizer->pre);
    hone_free(tokenizer->tokens);
    hone_free(tokenizer->cache);
    hone_arena_free(&tokenizer->arena);
    hone_free(tokenizer);
}

// ---- questions ---------------------------------------------------------------------------------

static const VocabularyToken *token_of(const Tokenizer *tokenizer, int32_t token) {
    return token >= 0 && token < tokenizer->token_count ? &tokenizer->tokens[token] : NULL;
}

TokenizerText hone_token_bytes(const Tokenizer *tokenizer, int32_t token, bool special) {
    const VocabularyToken *found = token_of(tokenizer, token);
    bool shown = found && (special || found->kind == TOKEN_NORMAL || found->kind == TOKEN_USER ||
                           found->kind == TOKEN_BYTE);
    return shown ? (TokenizerText){found->bytes, found->length} : (TokenizerText){"", 0};
}

int64_t hone_tokenizer_size(const Tokenizer *tokenizer) {
    return tokenizer->token_count;
}

int32_t hone_tokenizer_find(const Tokenizer *tokenizer, const char *spelling) {
    return (int32_t)hone_map_get(&tokenizer->by_spelling, spelling, strlen(spelling), -1);
}

int32_t hone_tokenizer_bos(const Tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t hone_tokenizer_eos(const Tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool hone_tokenizer_adds_bos(const Tokenizer *tokenizer) {
    return tokenizer->adds_bos;
}

bool hone_tokenizer_adds_eos(const Tokenizer *tokenizer) {
    return tokenizer->adds_eos;
}

bool hone_token_ends(const Tokenizer *tokenizer, int32_t token) {
    const VocabularyToken *found = token_of(tokenizer, token);
    return found && found->ends;
}

TokenKind hone_token_kind(const Tokenizer *tokenizer, int32_t token) {
    const VocabularyToken *found = token_of(tokenizer, token);
    return found ? (TokenKind)found->kind : TOKEN_UNKNOWN;
}
