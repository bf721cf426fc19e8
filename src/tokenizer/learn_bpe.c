// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE from counted words (Sennrich, Haddow, Birch 2016: Neural machine translation of
// rare words with subword units). A heap holds the pairs by how often they stood when they were
// entered; counts only fall, but for pairs with a new token, which are entered again. So the
// topmost pair is right when its count still is; else it goes back with the one that it has now.
#include <string.h>

#include "tokenizer/alphabet.h"
#include "tokenizer/learn.h"

// The words in which a pair stood when it was entered.
typedef struct Places {
    int32_t *words;
    int64_t count, capacity;
} Places;

typedef struct Pair {
    uint64_t ids; // left in the upper half
    int64_t times;
    Places places; // since it was last entered
    int32_t last;  // word in places
    bool touched;
} Pair;

typedef struct Entry {
    int64_t times;
    uint64_t ids;
    Places places;
} Entry;

typedef struct Learning {
    const LearnOptions *options;
    const Word *words;
    int64_t word_count;
    int32_t *symbols; // of all words, one word behind the other
    int64_t *first;   // of each word
    int32_t *length;
    Pair *pairs;
    int64_t pair_count, pair_capacity;
    int32_t *slots; // open addressing: the pair's number + 1
    size_t slot_mask;
    int32_t *touched; // pairs that are to be entered
    int64_t touched_count, touched_capacity;
    Entry *heap;
    int64_t heap_count, heap_capacity;
    StringMap ids; // by spelling
    LearntVocabulary *learnt;
    HoneError *err;
} Learning;

// Room for one more of `size` bytes.
static hone_status grow(void *list, int64_t count, int64_t *capacity, size_t size, HoneError *err) {
    if (count < *capacity) return HONE_OK;
    void *old, *grown;
    memcpy(&old, list, sizeof old);
    const int64_t larger = *capacity ? 2 * *capacity : 16;
    grown = hone_realloc(old, (size_t)count * size, (size_t)larger * size);
    if (!grown) return hone_fail_memory(err, (size_t)larger * size, "the pairs of a vocabulary");
    memcpy(list, &grown, sizeof grown);
    *capacity = larger;
    return HONE_OK;
}

// ---- pairs -------------------------------------------------------------------------------------

static size_t slot_of(const Learning *l, uint64_t ids) {
    size_t slot = (size_t)(ids * 0x9E3779B97F4A7C15u >> 20) & l->slot_mask;
    while (l->slots[slot] && l->pairs[l->slots[slot] - 1].ids != ids)
        slot = (slot + 1) & l->slot_mask;
    return slot;
}

static hone_status grow_slots(Learning *l) {
    const size_t larger = l->slot_mask ? 2 * (l->slot_mask + 1) : 1 << 12;
    int32_t *slots = hone_calloc(larger, sizeof *slots);
    if (!slots)
        return hone_fail_memory(l->err, larger * sizeof *slots, "the pairs of a vocabulary");
    hone_free(l->slots);
    l->slots = slots;
    l->slot_mask = larger - 1;
    for (int64_t i = 0; i < l->pair_count; i++)
        l->slots[slot_of(l, l->pairs[i].ids)] = (int32_t)(i + 1);
    return HONE_OK;
}

static hone_status pair_of(Learning *l, int32_t left, int32_t right, Pair **pair) {
    const uint64_t ids = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if ((size_t)l->pair_count * 2 >= l->slot_mask) RETURN_IF_ERROR(grow_slots(l));
    const size_t slot = slot_of(l, ids);
    if (!l->slots[slot]) {
        RETURN_IF_ERROR(
            grow(&l->pairs, l->pair_count, &l->pair_capacity, sizeof *l->pairs, l->err));
        l->pairs[l->pair_count++] = (Pair){.ids = ids, .last = -1};
        l->slots[slot] = (int32_t)l->pair_count;
    }
    *pair = &l->pairs[l->slots[slot] - 1];
    return HONE_OK;
}

// The pair stands `change` times more often in a word; if it does, it is to be entered.
static hone_status change_pair(Learning *l, int32_t left, int32_t right, int change, int32_t word) {
    Pair *pair;
    RETURN_IF_ERROR(pair_of(l, left, right, &pair));
    pair->times += change * l->words[word].times;
    if (change < 0) return HONE_OK;
    if (!pair->touched) {
        RETURN_IF_ERROR(
            grow(&l->touched, l->touched_count, &l->touched_capacity, sizeof *l->touched, l->err));
        l->touched[l->touched_count++] = (int32_t)(pair - l->pairs);
        pair->touched = true;
    }
    if (pair->last == word) return HONE_OK;
    RETURN_IF_ERROR(grow(&pair->places.words, pair->places.count, &pair->places.capacity,
                         sizeof *pair->places.words, l->err));
    pair->places.words[pair->places.count++] = word;
    pair->last = word;
    return HONE_OK;
}

// ---- the heap ----------------------------------------------------------------------------------

static bool is_before(const Entry *a, const Entry *b) {
    return a->times != b->times ? a->times > b->times : a->ids < b->ids;
}

static hone_status push(Learning *l, Entry entry) {
    RETURN_IF_ERROR(grow(&l->heap, l->heap_count, &l->heap_capacity, sizeof *l->heap, l->err));
    int64_t at = l->heap_count++;
    for (; at > 0 && is_before(&entry, &l->heap[(at - 1) / 2]); at = (at - 1) / 2)
        l->heap[at] = l->heap[(at - 1) / 2];
    l->heap[at] = entry;
    return HONE_OK;
}

static Entry pop(Learning *l) {
    const Entry top = l->heap[0], last = l->heap[--l->heap_count];
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < l->heap_count; at = child) {
        if (child + 1 < l->heap_count && is_before(&l->heap[child + 1], &l->heap[child])) child++;
        if (!is_before(&l->heap[child], &last)) break;
        l->heap[at] = l->heap[child];
    }
    if (l->heap_count > 0) l->heap[at] = last;
    return top;
}

static hone_status enter_touched(Learning *l) {
    for (int64_t i = 0; i < l->touched_count; i++) {
        Pair *pair = &l->pairs[l->touched[i]];
        const Entry entry = {pair->times, pair->ids, pair->places};
        pair->places = (Places){0};
        pair->last = -1;
        pair->touched = false;
        hone_status status = entry.times > 0 ? push(l, entry) : HONE_OK;
        if (entry.times <= 0 || status != HONE_OK) hone_free(entry.places.words);
        RETURN_IF_ERROR(status);
    }
    l->touched_count = 0;
    return HONE_OK;
}

// ---- words -------------------------------------------------------------------------------------

// Join each (left, right) of a word, first to last.
static hone_status merge_in_word(Learning *l, int32_t word, int32_t left, int32_t right,
                                 int32_t joined) {
    int32_t *symbols = l->symbols + l->first[word], length = l->length[word], kept = 0;
    for (int32_t i = 0; i < length; i++) {
        if (symbols[i] != left || i + 1 == length || symbols[i + 1] != right) {
            symbols[kept++] = symbols[i];
            continue;
        }
        if (kept > 0) {
            RETURN_IF_ERROR(change_pair(l, symbols[kept - 1], left, -1, word));
            RETURN_IF_ERROR(change_pair(l, symbols[kept - 1], joined, 1, word));
        }
        if (i + 2 < length) {
            RETURN_IF_ERROR(change_pair(l, right, symbols[i + 2], -1, word));
            RETURN_IF_ERROR(change_pair(l, joined, symbols[i + 2], 1, word));
        }
        symbols[kept++] = joined;
        i++;
    }
    l->length[word] = kept;
    return HONE_OK;
}

static hone_status read_words(Learning *l, const int32_t byte_id[256]) {
    int64_t total = 0;
    for (int64_t w = 0; w < l->word_count; w++) total += l->words[w].length;
    if (l->word_count >= INT32_MAX)
        return hone_fail(l->err, HONE_ERROR_INPUT,
                         "the texts have %lld different words, at most %d",
                         (long long)l->word_count, INT32_MAX - 1);
    l->symbols = hone_alloc((size_t)(total + 1) * sizeof *l->symbols);
    l->first = hone_alloc((size_t)(l->word_count + 1) * sizeof *l->first);
    l->length = hone_alloc((size_t)(l->word_count + 1) * sizeof *l->length);
    if (!l->symbols || !l->first || !l->length)
        return hone_fail_memory(l->err, (size_t)total * sizeof *l->symbols, "the words");
    int64_t used = 0;
    for (int64_t w = 0; w < l->word_count; w++) {
        const Word *word = &l->words[w];
        l->first[w] = used;
        l->length[w] = (int32_t)word->length;
        for (int64_t i = 0; i < word->length; i++)
            l->symbols[used++] = byte_id[(unsigned char)word->text[i]];
        const int32_t *symbols = l->symbols + l->first[w];
        for (int64_t i = 0; i + 1 < word->length; i++)
            RETURN_IF_ERROR(change_pair(l, symbols[i], symbols[i + 1], 1, (int32_t)w));
    }
    return enter_touched(l);
}

// ---- the vocabulary ----------------------------------------------------------------------------

// The token so spelled; made if there is none.
static hone_status token_of(Learning *l, const char *spelling, size_t length, int32_t kind,
                            int32_t *id) {
    LearntVocabulary *learnt = l->learnt;
    *id = (int32_t)hone_map_get(&l->ids, spelling, length, -1);
    if (*id >= 0) return HONE_OK;
    const char *copy = hone_arena_strndup(&learnt->memory, spelling, length);
    *id = (int32_t)learnt->token_count;
    if (!copy || !hone_map_put(&l->ids, copy, length, *id))
        return hone_fail_memory(l->err, length, "a vocabulary");
    learnt->tokens[learnt->token_count] = (TokenizerText){copy, length};
    learnt->kinds[learnt->token_count++] = kind;
    return HONE_OK;
}

// Special tokens, then the bytes as they are spelled.
static hone_status begin_vocabulary(Learning *l, int32_t byte_id[256]) {
    const LearnOptions *options = l->options;
    LearntVocabulary *learnt = l->learnt;
    const size_t room = (size_t)options->vocabulary;
    Alphabet alphabet;
    hone_alphabet_fill(&alphabet);
    learnt->tokens = hone_arena_calloc(&learnt->memory, room, sizeof *learnt->tokens);
    learnt->kinds = hone_arena_calloc(&learnt->memory, room, sizeof *learnt->kinds);
    learnt->merges = hone_arena_calloc(&learnt->memory, room, sizeof *learnt->merges);
    if (!learnt->tokens || !learnt->kinds || !learnt->merges)
        return hone_fail_memory(l->err, room * 40, "a vocabulary");
    for (int i = 0; i < options->special_count; i++) {
        const char *text = options->special[i];
        int32_t id;
        RETURN_IF_ERROR(token_of(l, text, strlen(text), TOKEN_CONTROL, &id));
        if (id != i)
            return hone_fail(l->err, HONE_ERROR_ARGUMENT, "the special token \"%s\" is given twice",
                             text);
    }
    for (int code = 0; code < ALPHABET_END; code++) {
        if (alphabet.byte[code] < 0) continue;
        char spelling[4];
        const int length = hone_utf8_encode((uint32_t)code, spelling);
        RETURN_IF_ERROR(
            token_of(l, spelling, (size_t)length, TOKEN_NORMAL, &byte_id[alphabet.byte[code]]));
    }
    return HONE_OK;
}

static hone_status add_merge(Learning *l, int32_t left, int32_t right, int32_t *joined) {
    LearntVocabulary *learnt = l->learnt;
    const TokenizerText a = learnt->tokens[left], b = learnt->tokens[right];
    const size_t length = a.length + b.length + 1;
    char *merge = hone_arena_alloc(&learnt->memory, 2 * length + 1);
    if (!merge) return hone_fail_memory(l->err, 2 * length, "a merge");
    memcpy(merge, a.data, a.length);
    merge[a.length] = ' ';
    memcpy(merge + a.length + 1, b.data, b.length);
    char *spelling = merge + length;
    memcpy(spelling, a.data, a.length);
    memcpy(spelling + a.length, b.data, b.length);
    RETURN_IF_ERROR(token_of(l, spelling, length - 1, TOKEN_NORMAL, joined));
    learnt->merges[learnt->merge_count++] = (TokenizerText){merge, length};
    return HONE_OK;
}

// A spelling that two pairs make is one token and two merges: there are more merges then.
static hone_status room_for_merge(Learning *l, int64_t *room) {
    LearntVocabulary *learnt = l->learnt;
    if (learnt->merge_count < *room) return HONE_OK;
    TokenizerText *larger = hone_arena_calloc(&learnt->memory, (size_t)(2 * *room), sizeof *larger);
    if (!larger) return hone_fail_memory(l->err, (size_t)*room * sizeof *larger, "merges");
    memcpy(larger, learnt->merges, (size_t)learnt->merge_count * sizeof *larger);
    learnt->merges = larger;
    *room *= 2;
    return HONE_OK;
}

static hone_status apply(Learning *l, const Entry *top, int64_t *room) {
    const int32_t left = (int32_t)(top->ids >> 32), right = (int32_t)(top->ids & UINT32_MAX);
    int32_t joined;
    RETURN_IF_ERROR(room_for_merge(l, room));
    RETURN_IF_ERROR(add_merge(l, left, right, &joined));
    for (int64_t i = 0; i < top->places.count; i++)
        RETURN_IF_ERROR(merge_in_word(l, top->places.words[i], left, right, joined));
    return enter_touched(l);
}

static hone_status learn(Learning *l) {
    int32_t byte_id[256];
    RETURN_IF_ERROR(begin_vocabulary(l, byte_id));
    RETURN_IF_ERROR(read_words(l, byte_id));
    int64_t room = l->options->vocabulary;
    while (l->learnt->token_count < l->options->vocabulary && l->heap_count > 0) {
        Entry top = pop(l);
        Pair *pair;
        hone_status status =
            pair_of(l, (int32_t)(top.ids >> 32), (int32_t)(top.ids & UINT32_MAX), &pair);
        if (status == HONE_OK && pair->times != top.times) {
            top.times = pair->times;
            status = push(l, top);
            if (status == HONE_OK) continue;
        }
        const bool rare = top.times < 1 || top.times < l->options->min_frequency;
        if (status == HONE_OK && !rare) status = apply(l, &top, &room);
        hone_free(top.places.words);
        RETURN_IF_ERROR(status);
        if (rare) break;
    }
    return HONE_OK;
}

hone_status hone_learn_bpe(const WordCounts *counts, const LearnOptions *options,
                           LearntVocabulary *learnt, HoneError *err) {
    *learnt = (LearntVocabulary){0};
    const int64_t least = 256 + options->special_count;
    if (options->vocabulary < least || options->vocabulary > INT32_MAX)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "a vocabulary of %lld tokens: 256 bytes and %d special tokens need %lld",
                         (long long)options->vocabulary, options->special_count, (long long)least);
    Learning l = {.options = options, .learnt = learnt, .err = err};
    l.words = hone_word_counts_list(counts, &l.word_count);
    hone_status status = learn(&l);
    for (int64_t i = 0; i < l.heap_count; i++) hone_free(l.heap[i].places.words);
    for (int64_t i = 0; i < l.pair_count; i++) hone_free(l.pairs[i].places.words);
    hone_free(l.heap);
    hone_free(l.pairs);
    hone_free(l.slots);
    hone_free(l.touched);
    hone_free(l.symbols);
    hone_free(l.first);
    hone_free(l.length);
    hone_map_free(&l.ids);
    if (status != HONE_OK) hone_learnt_free(learnt);
    return status;
}
