// SPDX-License-Identifier: Apache-2.0
// The likeliest tokens of a piece (Kudo 2018): of all ways to spell it, the one whose scores have
// the largest sum, found from left to right (Viterbi).
#include <math.h>

#include "tokenizer/vocabulary.h"

// The best way to a place: its score, the token it ends with (-1: an unknown character) and where
// that begins. `next` is filled in when the best path is walked back.
typedef struct Arrival {
    double score;
    int32_t token;
    uint32_t from, next;
} Arrival;

static inline void arrive(Arrival *arrival, double score, int32_t token, size_t from) {
    if (score > arrival->score)
        *arrival = (Arrival){.score = score, .token = token, .from = (uint32_t)from};
}

static void fill(const Tokenizer *tokenizer, const char *piece, size_t length, Arrival *arrivals) {
    const Trie *trie = &tokenizer->words;
    for (size_t i = 1; i <= length; i++) arrivals[i].score = -(double)INFINITY;
    arrivals[0] = (Arrival){0};
    for (size_t from = 0; from < length;) {
        int bytes = hone_utf8_decode(piece + from, length - from, NULL);
        size_t after = from + (bytes ? (size_t)bytes : 1);
        double score = arrivals[from].score;
        bool known = false;
        uint32_t node = 0;
        for (size_t i = from; i < length; i++) {
            node = hone_trie_child(trie, node, (unsigned char)piece[i]);
            if (node == 0) break;
            int32_t token = trie->nodes[node].token;
            if (token < 0) continue;
            known |= i + 1 == after;
            arrive(&arrivals[i + 1], score + tokenizer->scores[token], token, from);
        }
        if (!known) arrive(&arrivals[after], score + tokenizer->unknown_score, -1, from);
        from = after;
    }
}

static void read_out(const Tokenizer *tokenizer, const char *piece, size_t length,
                     Arrival *arrivals, int32_t *ids, uint32_t *ends, size_t *count) {
    for (uint32_t at = (uint32_t)length; at > 0; at = arrivals[at].from)
        arrivals[arrivals[at].from].next = at;
    *count = 0;
    for (uint32_t at = 0; at < length; at = arrivals[at].next) {
        uint32_t next = arrivals[at].next;
        if (arrivals[next].token < 0) {
            hone_append_unknown(tokenizer, piece, at, next, ids, ends, count);
            continue;
        }
        ids[*count] = arrivals[next].token;
        ends[(*count)++] = next;
    }
}

hone_status hone_unigram_tokens(const Tokenizer *tokenizer, const char *piece, size_t length,
                                int32_t *ids, uint32_t *ends, size_t *count, HoneError *err) {
    Arrival few[CACHED_BYTES + 1], *arrivals = few;
    if (length > CACHED_BYTES) arrivals = hone_calloc(length + 1, sizeof *arrivals);
    if (!arrivals)
        return hone_fail_memory(err, (length + 1) * sizeof *arrivals, "a long piece of text");
    fill(tokenizer, piece, length, arrivals);
    read_out(tokenizer, piece, length, arrivals, ids, ends, count);
    if (arrivals != few) hone_free(arrivals);
    return HONE_OK;
}
