// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "tokenizer/vocabulary.h"

static int compare(const void *left, const void *right) {
    const SpecialToken *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    if (order) return order;
    return (a->length > b->length) - (a->length < b->length);
}

hone_status hone_special_create(SpecialSet *set, const SpecialToken *items, size_t count,
                                HoneError *err) {
    *set = (SpecialSet){0};
    set->items = hone_calloc(count, sizeof *items);
    if (!set->items) return hone_fail_memory(err, count * sizeof *items, "special tokens");
    uint32_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (items[i].length) set->items[kept++] = items[i];
    qsort(set->items, kept, sizeof *items, compare);
    for (uint32_t i = 0; i < kept; i++) set->first[(unsigned char)set->items[i].text[0] + 1]++;
    for (int byte = 0; byte < 256; byte++) set->first[byte + 1] += set->first[byte];
    return HONE_OK;
}

void hone_special_free(SpecialSet *set) {
    hone_free(set->items);
    *set = (SpecialSet){0};
}

// In items[low…high), all longer than `depth` and equal before it: the first whose byte there is
// not below `byte`.
static uint32_t lower_bound(const SpecialSet *set, uint32_t low, uint32_t high, size_t depth,
                            int byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)set->items[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_allowed(const SpecialToken *token, const Span *span, const uint8_t *content,
                       size_t at) {
    if (!content || !(token->rules & FIND_CONTROL)) return true;
    const uint32_t begin = hone_span_begin(span, at), end = hone_span_end(span, at + token->length);
    return begin >= end || !memchr(content + begin, 1, end - begin);
}

static const SpecialToken *longest_at(const SpecialSet *set, const Span *span,
                                      const uint8_t *content, size_t at) {
    const char *text = span->text + at;
    int byte = (unsigned char)text[0];
    uint32_t low = set->first[byte], high = set->first[byte + 1];
    const SpecialToken *best = NULL;
    for (size_t depth = 1; low < high; depth++) {
        for (; low < high && set->items[low].length == depth; low++)
            if (is_allowed(&set->items[low], span, content, at)) best = &set->items[low];
        if (depth == span->length - at) break;
        byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return best;
}

// The leftmost, longest one as it is spelled.
static const SpecialToken *find_text(const SpecialSet *set, const Span *span,
                                     const uint8_t *content, size_t from, size_t *begin) {
    for (size_t i = from; i < span->length; i++) {
        int byte = (unsigned char)span->text[i];
        if (set->first[byte] == set->first[byte + 1]) continue;
        const SpecialToken *token = longest_at(set, span, content, i);
        if (token) {
            *begin = i;
            return token;
        }
    }
    return NULL;
}

// ---- what is around it -------------------------------------------------------------------------

// The beginning of the character that ends before `at`.
static size_t character_before(const char *text, size_t at) {
    size_t begin = at - 1;
    while (begin > 0 && at - begin < 4 && ((unsigned char)text[begin] & 0xc0) == 0x80) begin--;
    return begin;
}

static bool is_before(const char *text, size_t at, bool (*is)(uint32_t c)) {
    if (at == 0) return false;
    size_t begin = character_before(text, at);
    uint32_t c;
    return hone_utf8_decode(text + begin, at - begin, &c) == (int)(at - begin) && is(c);
}

static bool is_behind(const char *text, size_t length, size_t at, bool (*is)(uint32_t c)) {
    uint32_t c;
    return at < length && hone_utf8_decode(text + at, length - at, &c) > 0 && is(c);
}

const SpecialToken *hone_special_find(const SpecialSet *set, const Span *span,
                                      const uint8_t *content, size_t from, size_t *begin,
                                      size_t *end) {
    const char *text = span->text;
    const size_t length = span->length;
    size_t least = from;
    *begin = *end = length;
    if (set->first[256] == 0) return NULL;
    const SpecialToken *token;
    size_t at = length;
    while ((token = find_text(set, span, content, from, &at))) {
        size_t behind = at + token->length;
        bool inside = is_before(text, at, hone_is_word_character) ||
                      is_behind(text, length, behind, hone_is_word_character);
        from = behind;
        if ((token->rules & FIND_WHOLE_WORD) && inside) continue;
        if (token->rules & FIND_EATS_LEFT)
            while (at > least && is_before(text, at, hone_is_space))
                at = character_before(text, at);
        if (token->rules & FIND_EATS_RIGHT)
            while (is_behind(text, length, behind, hone_is_space))
                behind += (size_t)hone_utf8_decode(text + behind, length - behind, NULL);
        *begin = at > least ? at : least;
        *end = behind;
        return token;
    }
    return NULL;
}

// ---- those of a vocabulary ---------------------------------------------------------------------

// A token as it is spelled when it is looked for.
static hone_status spelled(Tokenizer *tokenizer, int64_t id, SpecialToken *special,
                           HoneError *err) {
    const VocabularyToken *token = &tokenizer->tokens[id];
    *special = (SpecialToken){token->spelling.data, token->spelling.length, (int32_t)id,
                              token->finding | (token->kind == TOKEN_USER ? 0 : FIND_CONTROL)};
    if (!(token->finding & FIND_LATE)) return HONE_OK;
    Span span = {.text = special->text, .length = special->length};
    for (int step = 0; step < tokenizer->late_step; step++)
        RETURN_IF_ERROR(hone_change_apply(tokenizer->steps[step].change, span, &span, err));
    special->text = hone_arena_strndup(&tokenizer->arena, span.text, span.length);
    special->length = span.length;
    return special->text ? HONE_OK : hone_fail_memory(err, span.length, "special tokens");
}

static hone_status collect(Tokenizer *tokenizer, bool only_users, bool late, SpecialSet *set,
                           HoneError *err) {
    size_t count = 0, capacity = 0;
    for (int64_t id = 0; id < tokenizer->token_count; id++)
        capacity += tokenizer->tokens[id].kind != TOKEN_NORMAL;
    SpecialToken *found = hone_calloc(capacity, sizeof *found);
    if (!found) return hone_fail_memory(err, capacity * sizeof *found, "special tokens");
    hone_status status = HONE_OK;
    for (int64_t id = 0; status == HONE_OK && id < tokenizer->token_count; id++) {
        const VocabularyToken *token = &tokenizer->tokens[id];
        bool wanted =
            token->kind == TOKEN_USER ||
            (!only_users && (token->kind == TOKEN_CONTROL || token->kind == TOKEN_UNKNOWN));
        if (wanted && !(token->finding & FIND_LATE) == !late)
            status = spelled(tokenizer, id, &found[count++], err);
    }
    if (status == HONE_OK) status = hone_special_create(set, found, count, err);
    hone_free(found);
    return status;
}

hone_status hone_fill_specials(Tokenizer *tokenizer, HoneError *err) {
    RETURN_IF_ERROR(collect(tokenizer, false, false, &tokenizer->specials, err));
    RETURN_IF_ERROR(collect(tokenizer, true, false, &tokenizer->users, err));
    if (tokenizer->late_step < 0) return HONE_OK;
    RETURN_IF_ERROR(collect(tokenizer, false, true, &tokenizer->late_specials, err));
    return collect(tokenizer, true, true, &tokenizer->late_users, err);
}
