// SPDX-License-Identifier: Apache-2.0
// From a piece of text to its tokens.
#include <string.h>

#include "tokenizer/vocabulary.h"

static size_t character_at(const char *piece, size_t length, size_t at) {
    int bytes = hone_utf8_decode(piece + at, length - at, NULL);
    return bytes ? (size_t)bytes : 1; // a byte that is not UTF-8 stands for itself
}

// ---- what no token spells ----------------------------------------------------------------------

void hone_append_unknown(const Tokenizer *tokenizer, const char *piece, size_t begin, size_t end,
                         int32_t *ids, uint32_t *ends, size_t *count) {
    bool bytes = tokenizer->byte_fallback;
    for (size_t i = begin; bytes && i < end; i++)
        bytes = tokenizer->byte_tokens[(unsigned char)piece[i]] >= 0;
    for (size_t i = begin; bytes && i < end; i++) {
        ids[*count] = tokenizer->byte_tokens[(unsigned char)piece[i]];
        ends[(*count)++] = (uint32_t)i + 1;
    }
    if (bytes) return;
    bool again = tokenizer->fuses_unknown && *count > 0 && ids[*count - 1] == tokenizer->unknown;
    if (!again) ids[(*count)++] = tokenizer->unknown;
    ends[*count - 1] = (uint32_t)end;
}

// ---- merged characters -------------------------------------------------------------------------

// Symbols that are no tokens are spelled in another way. The symbols are moved to the end of the
// arrays first: what is written never passes what is yet to be read, since each covers a byte.
static void resolve(const Tokenizer *tokenizer, const char *piece, size_t length, int32_t *ids,
                    uint32_t *ends, size_t *count) {
    size_t first = 0, last = *count;
    while (first < last && ids[first] >= 0 && ids[first] < tokenizer->token_count) first++;
    if (first == last) return;
    size_t shift = length - last;
    memmove(ids + first + shift, ids + first, (last - first) * sizeof *ids);
    memmove(ends + first + shift, ends + first, (last - first) * sizeof *ends);
    *count = first;
    size_t begin = first ? ends[first - 1] : 0;
    for (size_t i = first + shift; i < length; i++) {
        int32_t id = ids[i];
        uint32_t end = ends[i];
        if (id >= 0 && id < tokenizer->token_count) {
            ids[*count] = id;
            ends[(*count)++] = end;
        } else {
            hone_append_unknown(tokenizer, piece, begin, end, ids, ends, count);
        }
        begin = end;
    }
}

static hone_status merge_characters(const Tokenizer *tokenizer, const char *piece, size_t length,
                                    int32_t *ids, uint32_t *ends, size_t *count, HoneError *err) {
    *count = 0;
    for (size_t i = 0; i < length;) {
        size_t bytes = character_at(piece, length, i);
        ids[*count] = (int32_t)hone_map_get(&tokenizer->characters, piece + i, bytes, -1);
        i += bytes;
        ends[(*count)++] = (uint32_t)i;
    }
    RETURN_IF_ERROR(hone_bpe_merge(&tokenizer->merges, ids, ends, count, err));
    resolve(tokenizer, piece, length, ids, ends, count);
    return HONE_OK;
}

static hone_status merge_bytes(const Tokenizer *tokenizer, const char *piece, size_t length,
                               int32_t *ids, uint32_t *ends, size_t *count, HoneError *err) {
    for (size_t i = 0; i < length; i++) {
        ids[i] = tokenizer->byte_tokens[(unsigned char)piece[i]];
        ends[i] = (uint32_t)i + 1;
    }
    *count = length;
    return hone_bpe_merge(&tokenizer->merges, ids, ends, count, err);
}

// ---- words -------------------------------------------------------------------------------------

// The longest token that a word begins with (or goes on with) at `from`; its end, or `from`.
static size_t longest_part(const Trie *trie, const char *word, size_t length, size_t from,
                           int32_t *token) {
    size_t best = from;
    uint32_t node = 0;
    for (size_t i = from; i < length; i++) {
        node = hone_trie_child(trie, node, (unsigned char)word[i]);
        if (node == 0) break;
        if (trie->nodes[node].token < 0) continue;
        *token = trie->nodes[node].token;
        best = i + 1;
    }
    return best;
}

static size_t characters_of(const char *word, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i += character_at(word, length, i)) count++;
    return count;
}

static void word_tokens(const Tokenizer *tokenizer, const char *word, size_t length, int32_t *ids,
                        uint32_t *ends, size_t *count) {
    *count = 0;
    if (tokenizer->longest_word && characters_of(word, length) > tokenizer->longest_word) {
        hone_append_unknown(tokenizer, word, 0, length, ids, ends, count);
        return;
    }
    for (size_t from = 0; from < length;) {
        const Trie *trie = from == 0 ? &tokenizer->words : &tokenizer->parts;
        size_t end = longest_part(trie, word, length, from, &ids[*count]);
        if (end == from) { // one part unknown: the word is
            *count = 0;
            hone_append_unknown(tokenizer, word, 0, length, ids, ends, count);
            return;
        }
        ends[(*count)++] = (uint32_t)end;
        from = end;
    }
}

// ---- all ---------------------------------------------------------------------------------------

hone_status hone_piece_tokens(const Tokenizer *tokenizer, const char *piece, size_t length,
                              int32_t *ids, uint32_t *ends, size_t *count, HoneError *err) {
    int64_t whole = -1;
    if (tokenizer->whole_pieces) whole = hone_map_get(&tokenizer->by_bytes, piece, length, -1);
    if (whole >= 0) {
        ids[0] = (int32_t)whole;
        ends[0] = (uint32_t)length;
        *count = 1;
        return HONE_OK;
    }
    switch (tokenizer->model) {
    case PIECES_BYTES:
        return merge_bytes(tokenizer, piece, length, ids, ends, count, err);
    case PIECES_CHARACTERS:
        return merge_characters(tokenizer, piece, length, ids, ends, count, err);
    case PIECES_UNIGRAM:
        return hone_unigram_tokens(tokenizer, piece, length, ids, ends, count, err);
    case PIECES_WORDPIECE:
        word_tokens(tokenizer, piece, length, ids, ends, count);
        break;
    }
    return HONE_OK;
}
