// SPDX-License-Identifier: Apache-2.0
// The vocabularies that spell a space as ▁: sentencepiece's two, and BERT's as GGUF files have it.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/rules.h"
#include "tokenizer/vocabulary.h"

#define MARK "\xe2\x96\x81" // ▁
enum { MARK_BYTES = 3, LONGEST_TOKEN = 1000 };

static const TokenizerText mark = {MARK, MARK_BYTES}, one_space = {" ", 1};

// What text may become: tokens that are not written as something else.
static bool is_word(const Tokenizer *tokenizer, int64_t id) {
    int kind = tokenizer->tokens[id].kind;
    return !tokenizer->tokens[id].added &&
           (kind == TOKEN_NORMAL || kind == TOKEN_USER || kind == TOKEN_UNUSED);
}

static TokenizerText spelling_of(const Tokenizer *tokenizer, int64_t id) {
    return tokenizer->tokens[id].spelling;
}

// The time that a text takes grows with the longest token.
hone_status hone_check_lengths(const Tokenizer *tokenizer, HoneError *err) {
    for (int64_t id = 0; id < tokenizer->token_count; id++)
        if (is_word(tokenizer, id) && spelling_of(tokenizer, id).length > LONGEST_TOKEN)
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "token %lld has %zu bytes, at most %d are supported", (long long)id,
                             spelling_of(tokenizer, id).length, (int)LONGEST_TOKEN);
    return HONE_OK;
}

static hone_status check_scores(const TokenizerSource *source, HoneError *err) {
    if (!source->scores)
        return hone_fail(err, HONE_ERROR_INPUT, "a %s vocabulary without scores", source->model);
    for (int64_t id = 0; id < source->token_count; id++)
        if (!isfinite(source->scores[id]))
            return hone_fail(err, HONE_ERROR_INPUT, "token %lld has the score %g", (long long)id,
                             (double)source->scores[id]);
    return HONE_OK;
}

// ---- bytes -------------------------------------------------------------------------------------

void hone_find_byte_spellings(Tokenizer *tokenizer) {
    for (int byte = 0; byte < 256; byte++) {
        char spelling[8];
        snprintf(spelling, sizeof spelling, "<0x%02X>", (unsigned)byte);
        tokenizer->byte_tokens[byte] = hone_tokenizer_find(tokenizer, spelling);
        if (tokenizer->byte_tokens[byte] >= 0) tokenizer->byte_fallback = true;
    }
}

// ---- steps -------------------------------------------------------------------------------------

// Whether a token holds a ▁ behind another character: then it may span two words.
static bool spans_words(TokenizerText text) {
    for (size_t i = 1; i + MARK_BYTES <= text.length; i++)
        if (memcmp(text.data + i, MARK, MARK_BYTES) == 0 &&
            (i < MARK_BYTES || memcmp(text.data + i - MARK_BYTES, MARK, MARK_BYTES) != 0))
            return true;
    return false;
}

// Words may be treated one by one, and remembered, when no token spans two.
hone_status hone_cut_words(Tokenizer *tokenizer, HoneError *err) {
    for (int64_t id = 0; id < tokenizer->token_count; id++)
        if (is_word(tokenizer, id) && spans_words(spelling_of(tokenizer, id))) return HONE_OK;
    return hone_add_cut(tokenizer, "words", "\\x{2581}*[^\\x{2581}]+|\\x{2581}+", CUT_BOTH, err);
}

static Change *add_text_change(Tokenizer *tokenizer, ChangeKind kind, TokenizerText find,
                               TokenizerText put, HoneError *err) {
    Change *change = hone_add_change(tokenizer, kind, err);
    if (!change) return NULL;
    change->find = find;
    change->put = put;
    return change;
}

// ---- merging by score --------------------------------------------------------------------------

typedef struct Ranked {
    float score;
    int32_t token;
} Ranked;

static int by_score(const void *left, const void *right) {
    const Ranked *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return (a->token > b->token) - (a->token < b->token);
}

// The rank of each token: equal scores are equally good.
static hone_status rank_tokens(const TokenizerSource *source, uint32_t **ranks, HoneError *err) {
    size_t count = (size_t)source->token_count;
    *ranks = hone_calloc(count, sizeof **ranks);
    Ranked *order = hone_calloc(count, sizeof *order);
    if (*ranks && order) {
        for (size_t i = 0; i < count; i++) order[i] = (Ranked){source->scores[i], (int32_t)i};
        qsort(order, count, sizeof *order, by_score);
        uint32_t rank = 0;
        for (size_t i = 0; i < count; i++) {
            if (i > 0 && order[i].score != order[i - 1].score) rank++;
            (*ranks)[order[i].token] = rank;
        }
    }
    hone_status status =
        *ranks && order ? HONE_OK : hone_fail_memory(err, count * 12, "the vocabulary");
    hone_free(order);
    return status;
}

typedef struct MergeList {
    MergeSlot *items;
    size_t count, capacity;
} MergeList;

static hone_status add_merge(MergeList *list, MergeSlot merge, HoneError *err) {
    if (list->count == list->capacity) {
        size_t old = list->capacity * sizeof merge, bytes = old ? old * 2 : 4096 * sizeof merge;
        MergeSlot *larger = hone_realloc(list->items, old, bytes);
        if (!larger) return hone_fail_memory(err, bytes, "the merges");
        list->items = larger;
        list->capacity = bytes / sizeof merge;
    }
    list->items[list->count++] = merge;
    return HONE_OK;
}

static size_t character_length(TokenizerText text, size_t at) {
    int bytes = hone_utf8_decode(text.data + at, text.length - at, NULL);
    return bytes ? (size_t)bytes : 1;
}

// Every character of a token has a number: its token's, or one that is no token's.
static hone_status add_characters(Tokenizer *tokenizer, TokenizerText text, HoneError *err) {
    for (size_t i = 0; i < text.length;) {
        size_t bytes = character_length(text, i);
        int64_t id = hone_map_get(&tokenizer->by_bytes, text.data + i, bytes, -1);
        if (id < 0) {
            id = tokenizer->token_count + (int64_t)tokenizer->characters.count;
            if (id > INT32_MAX)
                return hone_fail(err, HONE_ERROR_UNSUPPORTED, "a vocabulary of %lld tokens",
                                 (long long)tokenizer->token_count);
        }
        if (hone_map_get(&tokenizer->characters, text.data + i, bytes, -1) < 0 &&
            !hone_map_put(&tokenizer->characters, text.data + i, bytes, id))
            return hone_fail_memory(err, bytes, "the vocabulary");
        i += bytes;
    }
    return HONE_OK;
}

static int64_t symbol_of(const Tokenizer *tokenizer, const char *text, size_t length) {
    int64_t id = hone_map_get(&tokenizer->by_bytes, text, length, -1);
    return id >= 0 ? id : hone_map_get(&tokenizer->characters, text, length, -1);
}

// All ways to make a token of two symbols.
static hone_status split_token(const Tokenizer *tokenizer, TokenizerText text, int32_t id,
                               uint32_t rank, MergeList *list, HoneError *err) {
    for (size_t i = character_length(text, 0); i < text.length; i += character_length(text, i)) {
        int64_t left = symbol_of(tokenizer, text.data, i);
        int64_t right = left < 0 ? -1 : symbol_of(tokenizer, text.data + i, text.length - i);
        if (right < 0) continue;
        MergeSlot merge = {(int32_t)left, (int32_t)right, id, rank};
        RETURN_IF_ERROR(add_merge(list, merge, err));
    }
    return HONE_OK;
}

static hone_status collect_merges(Tokenizer *tokenizer, const uint32_t *ranks, MergeList *list,
                                  HoneError *err) {
    for (int64_t id = 0; id < tokenizer->token_count; id++) {
        TokenizerText text = spelling_of(tokenizer, id);
        if (is_word(tokenizer, id) && text.length > 0 &&
            !hone_map_put(&tokenizer->by_bytes, text.data, text.length, id))
            return hone_fail_memory(err, text.length, "the vocabulary");
    }
    for (int64_t id = 0; id < tokenizer->token_count; id++)
        if (is_word(tokenizer, id))
            RETURN_IF_ERROR(add_characters(tokenizer, spelling_of(tokenizer, id), err));
    for (int64_t id = 0; id < tokenizer->token_count; id++) {
        TokenizerText text = spelling_of(tokenizer, id);
        bool known = is_word(tokenizer, id) && text.length > 0;
        if (known && hone_map_get(&tokenizer->by_bytes, text.data, text.length, -1) == id)
            RETURN_IF_ERROR(split_token(tokenizer, text, (int32_t)id, ranks[id], list, err));
    }
    return HONE_OK;
}

static hone_status make_merges(Tokenizer *tokenizer, const TokenizerSource *source,
                               HoneError *err) {
    uint32_t *ranks = NULL;
    MergeList list = {0};
    hone_status status = rank_tokens(source, &ranks, err);
    if (status == HONE_OK) status = collect_merges(tokenizer, ranks, &list, err);
    if (status == HONE_OK)
        status = hone_merge_table_create(&tokenizer->merges, (int64_t)list.count, err);
    for (size_t i = 0; status == HONE_OK && i < list.count; i++)
        hone_merge_table_put(&tokenizer->merges, list.items[i]);
    hone_free(list.items);
    hone_free(ranks);
    return status;
}

hone_status hone_fill_sentencepiece(Tokenizer *tokenizer, const TokenizerSource *source,
                                    HoneError *err) {
    tokenizer->model = PIECES_CHARACTERS;
    tokenizer->fuses_unknown = true;
    tokenizer->strips_space = source->add_space_prefix;
    RETURN_IF_ERROR(check_scores(source, err));
    RETURN_IF_ERROR(hone_check_lengths(tokenizer, err));
    hone_find_byte_spellings(tokenizer);
    RETURN_IF_ERROR(make_merges(tokenizer, source, err));
    if (source->add_space_prefix && !add_text_change(tokenizer, CHANGE_PREPEND, mark, mark, err))
        return HONE_ERROR_MEMORY;
    if (!add_text_change(tokenizer, CHANGE_REPLACE, one_space, mark, err)) return HONE_ERROR_MEMORY;
    return hone_cut_words(tokenizer, err);
}

// ---- unigram -----------------------------------------------------------------------------------

enum { UNKNOWN_PENALTY = 10 }; // below the worst token's score

hone_status hone_fill_trie(const Tokenizer *tokenizer,
                           TokenizerText (*part)(const Tokenizer *tokenizer, TokenizerText text),
                           Trie *trie, HoneError *err) {
    size_t count = 0, most = (size_t)tokenizer->token_count;
    TrieItem *items = hone_calloc(most, sizeof *items);
    if (!items) return hone_fail_memory(err, most * sizeof *items, "the vocabulary");
    for (int64_t id = 0; id < tokenizer->token_count; id++) {
        if (!is_word(tokenizer, id)) continue;
        TokenizerText text = spelling_of(tokenizer, id);
        items[count++] = (TrieItem){part ? part(tokenizer, text) : text, (int32_t)id};
    }
    hone_status status = hone_trie_create(trie, items, count, err);
    hone_free(items);
    return status;
}

static hone_status keep_scores(Tokenizer *tokenizer, const TokenizerSource *source,
                               HoneError *err) {
    size_t count = (size_t)source->token_count;
    tokenizer->scores = hone_arena_calloc(&tokenizer->arena, count, sizeof *tokenizer->scores);
    if (!tokenizer->scores) return hone_fail_memory(err, count * 8, "the scores");
    float worst = 0;
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        int kind = tokenizer->tokens[i].kind;
        tokenizer->scores[i] = kind == TOKEN_USER ? 0 : (double)source->scores[i];
        if (kind != TOKEN_NORMAL) continue;
        if (!any || source->scores[i] < worst) worst = source->scores[i];
        any = true;
    }
    tokenizer->unknown_score = (double)worst - UNKNOWN_PENALTY;
    return HONE_OK;
}

static hone_status add_charsmap(Tokenizer *tokenizer, const TokenizerSource *source,
                                HoneError *err) {
    size_t length = source->charsmap.length;
    if (length == 0) return HONE_OK;
    char *copy = hone_arena_strndup(&tokenizer->arena, source->charsmap.data, length);
    Change *change = copy ? hone_add_change(tokenizer, CHANGE_CHARSMAP, err) : NULL;
    if (!change) return hone_fail_memory(err, length, "the charsmap");
    return hone_charsmap_read(&change->charsmap, copy, length, err);
}

hone_status hone_fill_unigram(Tokenizer *tokenizer, const TokenizerSource *source, HoneError *err) {
    tokenizer->model = PIECES_UNIGRAM;
    tokenizer->fuses_unknown = true;
    tokenizer->strips_space = source->add_space_prefix;
    RETURN_IF_ERROR(check_scores(source, err));
    RETURN_IF_ERROR(hone_check_lengths(tokenizer, err));
    hone_find_byte_spellings(tokenizer);
    RETURN_IF_ERROR(hone_fill_trie(tokenizer, NULL, &tokenizer->words, err));
    RETURN_IF_ERROR(keep_scores(tokenizer, source, err));
    RETURN_IF_ERROR(add_charsmap(tokenizer, source, err));
    Change *spaces = add_text_change(tokenizer, CHANGE_SPACES, one_space, mark, err);
    if (!spaces) return HONE_ERROR_MEMORY;
    spaces->prefix = source->add_space_prefix;
    spaces->merge = source->merge_spaces;
    return hone_cut_words(tokenizer, err);
}

// ---- words -------------------------------------------------------------------------------------

static bool begins_word(TokenizerText text) {
    return text.length >= MARK_BYTES && memcmp(text.data, MARK, MARK_BYTES) == 0;
}

static TokenizerText word_of(const Tokenizer *tokenizer, TokenizerText text) {
    (void)tokenizer;
    if (!begins_word(text)) return (TokenizerText){"", 0};
    return (TokenizerText){text.data + MARK_BYTES, text.length - MARK_BYTES};
}

static TokenizerText part_of(const Tokenizer *tokenizer, TokenizerText text) {
    (void)tokenizer;
    return begins_word(text) ? (TokenizerText){"", 0} : text;
}

hone_status hone_fill_wordpiece(Tokenizer *tokenizer, const TokenizerSource *source,
                                HoneError *err) {
    tokenizer->model = PIECES_WORDPIECE;
    tokenizer->strips_space = true;
    tokenizer->longest_word = source->longest_word;
    RETURN_IF_ERROR(hone_check_lengths(tokenizer, err));
    RETURN_IF_ERROR(hone_fill_trie(tokenizer, word_of, &tokenizer->words, err));
    RETURN_IF_ERROR(hone_fill_trie(tokenizer, part_of, &tokenizer->parts, err));
    Change *change = hone_add_change(tokenizer, CHANGE_BERT, err);
    if (!change) return HONE_ERROR_MEMORY;
    change->clean = change->apart = true;
    change->lower = source->lowercase;
    change->strip = source->strip_accents;
    return hone_add_cut(tokenizer, "bert",
                        "[^" HONE_SPACE "\\p{P}!-/:-@\\[-`{-~]+|[\\p{P}!-/:-@\\[-`{-~]",
                        CUT_MATCHES, err);
}
