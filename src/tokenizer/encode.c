// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tokenizer/vocabulary.h"

// ---- the list ----------------------------------------------------------------------------------

void hone_token_list_free(TokenList *list) {
    hone_free(list->tokens);
    hone_free(list->begin);
    hone_free(list->end);
    *list = (TokenList){0};
}

static bool grow(void **array, int64_t count, size_t bytes) {
    void *larger = hone_realloc(*array, (size_t)count * 4, bytes);
    if (larger) *array = larger;
    return larger != NULL;
}

static hone_status reserve(TokenList *list, size_t more, HoneError *err) {
    size_t need = (size_t)list->count + more;
    if (need <= (size_t)list->capacity) return HONE_OK;
    size_t capacity = (size_t)list->capacity * 2;
    if (capacity < 64) capacity = 64;
    if (capacity < need) capacity = need;
    size_t bytes = capacity * sizeof(int32_t);
    void *arrays[] = {list->tokens, list->begin, list->end};
    bool ok = true;
    for (int i = 0; i < 3; i++) ok = grow(&arrays[i], list->count, bytes) && ok;
    list->tokens = arrays[0];
    list->begin = arrays[1];
    list->end = arrays[2];
    if (!ok) return hone_fail_memory(err, 3 * bytes, "tokens");
    list->capacity = (int64_t)capacity;
    return HONE_OK;
}

static inline void append(TokenList *list, int32_t token, size_t begin, size_t end) {
    int64_t i = list->count++;
    list->tokens[i] = token;
    list->begin[i] = (uint32_t)begin;
    list->end[i] = (uint32_t)end;
}

// ---- pieces ------------------------------------------------------------------------------------

// Append the merged tokens of a piece that begins at byte `place`; a byte that has no token is
// passed over.
static hone_status append_merged(TokenList *list, const int32_t *ids, const uint32_t *ends,
                                 size_t count, size_t place, HoneError *err) {
    RETURN_IF_ERROR(reserve(list, count, err));
    uint32_t begin = 0;
    for (size_t i = 0; i < count; begin = ends[i++])
        if (ids[i] >= 0) append(list, ids[i], place + begin, place + ends[i]);
    return HONE_OK;
}

static hone_status merge_piece(const Tokenizer *tokenizer, const char *piece, size_t length,
                               int32_t *ids, uint32_t *ends, size_t *count, HoneError *err) {
    int64_t whole = hone_map_get(&tokenizer->by_bytes, piece, length, -1);
    if (whole >= 0) {
        ids[0] = (int32_t)whole;
        ends[0] = (uint32_t)length;
        *count = 1;
        return HONE_OK;
    }
    for (size_t i = 0; i < length; i++) {
        ids[i] = tokenizer->byte_tokens[(unsigned char)piece[i]];
        ends[i] = (uint32_t)i + 1;
    }
    *count = length;
    return hone_bpe_merge(&tokenizer->merges, ids, ends, count, err);
}

static hone_status append_long_piece(const Tokenizer *tokenizer, const char *piece, size_t length,
                                     size_t place, TokenList *list, HoneError *err) {
    int32_t *ids = hone_calloc(length, sizeof *ids);
    uint32_t *ends = hone_calloc(length, sizeof *ends);
    size_t count;
    hone_status status = ids && ends ? merge_piece(tokenizer, piece, length, ids, ends, &count, err)
                                     : hone_fail_memory(err, length * 8, "a long piece of text");
    if (status == HONE_OK) status = append_merged(list, ids, ends, count, place, err);
    hone_free(ids);
    hone_free(ends);
    return status;
}

static void remember(CachedPiece *cached, const char *piece, size_t length, const int32_t *ids,
                     const uint32_t *ends, size_t count) {
    if (count > CACHED_TOKENS) return;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0) return;
    memcpy(cached->bytes, piece, length);
    cached->length = (uint8_t)length;
    cached->count = (uint8_t)count;
    for (size_t i = 0; i < count; i++) {
        cached->tokens[i] = ids[i];
        cached->ends[i] = (uint8_t)ends[i];
    }
}

static hone_status append_piece(Tokenizer *tokenizer, const char *piece, size_t length,
                                size_t place, TokenList *list, HoneError *err) {
    if (length > CACHED_BYTES) return append_long_piece(tokenizer, piece, length, place, list, err);
    CachedPiece *cached = &tokenizer->cache[hone_hash_bytes(piece, length) % CACHE_SIZE];
    if (cached->length == length && memcmp(cached->bytes, piece, length) == 0) {
        RETURN_IF_ERROR(reserve(list, cached->count, err));
        size_t begin = 0;
        for (int i = 0; i < cached->count; begin = cached->ends[i++])
            append(list, cached->tokens[i], place + begin, place + cached->ends[i]);
        return HONE_OK;
    }
    int32_t ids[CACHED_BYTES];
    uint32_t ends[CACHED_BYTES];
    size_t count;
    RETURN_IF_ERROR(merge_piece(tokenizer, piece, length, ids, ends, &count, err));
    remember(cached, piece, length, ids, ends, count);
    return append_merged(list, ids, ends, count, place, err);
}

// ---- text --------------------------------------------------------------------------------------

// Text without special tokens in it, which begins at byte `place` of the whole.
static hone_status append_plain(Tokenizer *tokenizer, const char *text, size_t length, size_t place,
                                TokenList *list, HoneError *err) {
    if (length == 0) return HONE_OK;
    RETURN_IF_ERROR(hone_pretokenizer_start(tokenizer->pre, text, length, err));
    for (size_t begin = 0, end = 0; begin < length; begin = end) {
        RETURN_IF_ERROR(hone_pretokenizer_next(tokenizer->pre, &end, err));
        RETURN_IF_ERROR(
            append_piece(tokenizer, text + begin, end - begin, place + begin, list, err));
    }
    return HONE_OK;
}

static hone_status append_text(Tokenizer *tokenizer, const char *text, size_t length, bool special,
                               TokenList *list, HoneError *err) {
    const SpecialSet *set = special ? &tokenizer->specials : &tokenizer->users;
    for (size_t from = 0; from < length;) {
        size_t begin;
        const SpecialToken *token = hone_special_find(set, text, length, from, &begin);
        RETURN_IF_ERROR(append_plain(tokenizer, text + from, begin - from, from, list, err));
        from = begin;
        if (!token) continue;
        RETURN_IF_ERROR(reserve(list, 1, err));
        append(list, token->id, begin, begin + token->length);
        from += token->length;
    }
    return HONE_OK;
}

hone_status hone_tokenize_append(Tokenizer *tokenizer, const char *text, size_t length,
                                 bool special, TokenList *list, HoneError *err) {
    if (length > UINT32_MAX)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "a text of %zu bytes: one text may have %u, cut it first", length,
                         UINT32_MAX);
    int64_t before = list->count;
    hone_status status = append_text(tokenizer, text, length, special, list, err);
    if (status != HONE_OK) list->count = before;
    return status;
}
