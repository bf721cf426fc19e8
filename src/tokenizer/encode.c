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

// Append the tokens of a piece; a byte that has none is passed over.
static hone_status append_merged(TokenList *list, const int32_t *ids, const uint32_t *ends,
                                 size_t count, const Span *piece, HoneError *err) {
    RETURN_IF_ERROR(reserve(list, count, err));
    uint32_t begin = 0;
    for (size_t i = 0; i < count; begin = ends[i++])
        if (ids[i] >= 0)
            append(list, ids[i], hone_span_begin(piece, begin), hone_span_end(piece, ends[i]));
    return HONE_OK;
}

static hone_status append_long_piece(const Tokenizer *tokenizer, const Span *piece, TokenList *list,
                                     HoneError *err) {
    size_t length = piece->length, count;
    int32_t *ids = hone_calloc(length, sizeof *ids);
    uint32_t *ends = hone_calloc(length, sizeof *ends);
    hone_status status =
        ids && ends ? hone_piece_tokens(tokenizer, piece->text, length, ids, ends, &count, err)
                    : hone_fail_memory(err, length * 8, "a long piece of text");
    if (status == HONE_OK) status = append_merged(list, ids, ends, count, piece, err);
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

static hone_status append_piece(Tokenizer *tokenizer, const Span *piece, TokenList *list,
                                HoneError *err) {
    size_t length = piece->length;
    if (length > CACHED_BYTES) return append_long_piece(tokenizer, piece, list, err);
    CachedPiece *cached = &tokenizer->cache[hone_hash_bytes(piece->text, length) % CACHE_SIZE];
    if (cached->length == length && memcmp(cached->bytes, piece->text, length) == 0) {
        RETURN_IF_ERROR(reserve(list, cached->count, err));
        size_t begin = 0;
        for (int i = 0; i < cached->count; begin = cached->ends[i++])
            append(list, cached->tokens[i], hone_span_begin(piece, begin),
                   hone_span_end(piece, cached->ends[i]));
        return HONE_OK;
    }
    int32_t ids[CACHED_BYTES];
    uint32_t ends[CACHED_BYTES];
    size_t count;
    RETURN_IF_ERROR(hone_piece_tokens(tokenizer, piece->text, length, ids, ends, &count, err));
    remember(cached, piece->text, length, ids, ends, count);
    return append_merged(list, ids, ends, count, piece, err);
}

// ---- text --------------------------------------------------------------------------------------

static hone_status append_steps(Tokenizer *tokenizer, int step, bool special, Span span,
                                TokenList *list, HoneError *err);
static hone_status append_span(Tokenizer *tokenizer, int step, bool special, Span span,
                               TokenList *list, HoneError *err);

// The special tokens of a span, and what lies between them from step number `step` on.
static hone_status append_found(Tokenizer *tokenizer, int step, bool late, bool special, Span span,
                                TokenList *list, HoneError *err) {
    const SpecialSet *all = late ? &tokenizer->late_specials : &tokenizer->specials;
    const SpecialSet *users = late ? &tokenizer->late_users : &tokenizer->users;
    for (size_t from = 0; from < span.length;) {
        size_t begin, end;
        const SpecialToken *token =
            hone_special_find(special ? all : users, &span, tokenizer->content, from, &begin, &end);
        Span plain = hone_span_part(span, from, begin);
        RETURN_IF_ERROR(late ? append_steps(tokenizer, step, special, plain, list, err)
                             : append_span(tokenizer, step, special, plain, list, err));
        from = end;
        if (!token) continue;
        RETURN_IF_ERROR(reserve(list, 1, err));
        append(list, token->id, hone_span_begin(&span, begin), hone_span_end(&span, end));
    }
    return HONE_OK;
}

static hone_status append_pieces(Tokenizer *tokenizer, int step, bool special, Span span,
                                 TokenList *list, HoneError *err) {
    PreTokenizer *cut = tokenizer->steps[step].cut;
    RETURN_IF_ERROR(hone_pretokenizer_start(cut, span.text, span.length, err));
    for (size_t begin = 0, end = 0; end < span.length;) {
        RETURN_IF_ERROR(hone_pretokenizer_next(cut, &begin, &end, err));
        RETURN_IF_ERROR(
            append_span(tokenizer, step + 1, special, hone_span_part(span, begin, end), list, err));
    }
    return HONE_OK;
}

// Step number `step` and those behind it.
static hone_status append_steps(Tokenizer *tokenizer, int step, bool special, Span span,
                                TokenList *list, HoneError *err) {
    if (span.length == 0) return HONE_OK;
    if (step == tokenizer->step_count) return append_piece(tokenizer, &span, list, err);
    if (!tokenizer->steps[step].change)
        return append_pieces(tokenizer, step, special, span, list, err);
    Span changed;
    RETURN_IF_ERROR(hone_change_apply(tokenizer->steps[step].change, span, &changed, err));
    return append_span(tokenizer, step + 1, special, changed, list, err);
}

// The like, after what is to be found before that step.
static hone_status append_span(Tokenizer *tokenizer, int step, bool special, Span span,
                               TokenList *list, HoneError *err) {
    return step == tokenizer->late_step
               ? append_found(tokenizer, step, true, special, span, list, err)
               : append_steps(tokenizer, step, special, span, list, err);
}

hone_status hone_tokenize_chat(Tokenizer *tokenizer, const char *text, size_t length,
                               const uint8_t *content, TokenList *list, HoneError *err) {
    tokenizer->content = content;
    const hone_status status = hone_tokenize_append(tokenizer, text, length, true, list, err);
    tokenizer->content = NULL;
    return status;
}

hone_status hone_tokenize_append(Tokenizer *tokenizer, const char *text, size_t length,
                                 bool special, TokenList *list, HoneError *err) {
    if (length > UINT32_MAX)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "a text of %zu bytes: one text may have %u, cut it first", length,
                         UINT32_MAX);
    int64_t before = list->count;
    Span span = {.text = text, .length = length};
    hone_status status = append_found(tokenizer, 0, false, special, span, list, err);
    if (status != HONE_OK) list->count = before;
    return status;
}
