// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/merge.h"

#include <string.h>

#include "base/memory.h"

static const uint32_t NO_RANK = UINT32_MAX;
static const MergeSlot no_merge = {-1, -1, -1, UINT32_MAX};

// ---- the table ---------------------------------------------------------------------------------

static size_t hash_pair(int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= 0x9E3779B97F4A7C15u;
    return (size_t)(key ^ key >> 32);
}

hone_status hone_merge_table_create(MergeTable *table, int64_t merge_count, HoneError *err) {
    size_t capacity = 64;
    while (capacity < (size_t)merge_count * 2) capacity *= 2;
    size_t bytes;
    table->slots = NULL;
    if (hone_size_product(capacity, sizeof *table->slots, &bytes)) table->slots = hone_alloc(bytes);
    if (!table->slots) return hone_fail_memory(err, capacity * sizeof(MergeSlot), "the merges");
    for (size_t i = 0; i < capacity; i++) table->slots[i] = no_merge;
    table->mask = capacity - 1;
    return HONE_OK;
}

void hone_merge_table_free(MergeTable *table) {
    hone_free(table->slots);
    *table = (MergeTable){0};
}

// The slot of a pair, or the empty one where it would go.
static inline MergeSlot *find(const MergeTable *table, int32_t left, int32_t right) {
    for (size_t i = hash_pair(left, right) & table->mask;; i = (i + 1) & table->mask) {
        MergeSlot *slot = &table->slots[i];
        if (slot->rank == NO_RANK || (slot->left == left && slot->right == right)) return slot;
    }
}

void hone_merge_table_put(MergeTable *table, MergeSlot merge) {
    MergeSlot *slot = find(table, merge.left, merge.right);
    if (merge.rank < slot->rank) *slot = merge;
}

// ---- short pieces: look at every pair for each merge -------------------------------------------

enum { SHORT_PIECE = 96 };

static void merge_short(const MergeTable *table, int32_t *ids, uint32_t *ends, size_t *count) {
    const MergeSlot *pairs[SHORT_PIECE]; // pairs[i] merges ids[i] and ids[i + 1]
    size_t n = *count;
    for (size_t i = 0; i + 1 < n; i++) pairs[i] = find(table, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (pairs[i]->rank < pairs[best]->rank) best = i;
        if (pairs[best]->rank == NO_RANK) break;
        ids[best] = pairs[best]->result;
        ends[best] = ends[best + 1];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            ends[i] = ends[i + 1];
            pairs[i - 1] = pairs[i];
        }
        if (best > 0) pairs[best - 1] = find(table, ids[best - 1], ids[best]);
        if (best + 1 < n) pairs[best] = find(table, ids[best], ids[best + 1]);
    }
    *count = n;
}

// ---- long pieces: a linked list and a heap of candidate pairs ----------------------------------

// A candidate is rank << 32 | place, so that the smallest is the best rank, leftmost first. One
// whose tokens have changed since is found out when it comes up.
typedef struct Candidates {
    uint64_t *heap;
    size_t count, capacity;
} Candidates;

static void sift_down(Candidates *candidates, size_t at) {
    uint64_t *heap = candidates->heap, moving = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= candidates->count) break;
        child += child + 1 < candidates->count && heap[child + 1] < heap[child];
        if (moving <= heap[child]) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static uint64_t pop(Candidates *candidates) {
    uint64_t best = candidates->heap[0];
    candidates->heap[0] = candidates->heap[--candidates->count];
    if (candidates->count) sift_down(candidates, 0);
    return best;
}

static bool push(Candidates *candidates, uint64_t candidate) {
    if (candidates->count == candidates->capacity) {
        size_t old = candidates->capacity * sizeof candidate;
        uint64_t *larger = hone_realloc(candidates->heap, old, old * 2);
        if (!larger) return false;
        candidates->heap = larger;
        candidates->capacity *= 2;
    }
    size_t at = candidates->count++;
    while (at > 0 && candidate < candidates->heap[(at - 1) / 2]) {
        candidates->heap[at] = candidates->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    candidates->heap[at] = candidate;
    return true;
}

// ids[i] and ends[i] belong to the list until token i is swallowed by its left neighbour.
typedef struct LinkedTokens {
    int32_t *ids;
    uint32_t *ends, *next, *previous;
    uint32_t count;
} LinkedTokens;

enum { SWALLOWED = -2 };

static bool consider(const MergeTable *table, const LinkedTokens *tokens, Candidates *candidates,
                     uint32_t left) {
    uint32_t rank = find(table, tokens->ids[left], tokens->ids[tokens->next[left]])->rank;
    return rank == NO_RANK || push(candidates, (uint64_t)rank << 32 | left);
}

static bool merge_list(const MergeTable *table, LinkedTokens *tokens, Candidates *candidates) {
    while (candidates->count) {
        uint64_t candidate = pop(candidates);
        uint32_t left = (uint32_t)candidate, right = tokens->next[left];
        if (tokens->ids[left] == SWALLOWED || right == tokens->count) continue;
        const MergeSlot *merge = find(table, tokens->ids[left], tokens->ids[right]);
        if (merge->rank != candidate >> 32) continue;
        tokens->ids[left] = merge->result;
        tokens->ends[left] = tokens->ends[right];
        tokens->ids[right] = SWALLOWED;
        uint32_t after = tokens->next[left] = tokens->next[right];
        if (after < tokens->count) {
            tokens->previous[after] = left;
            if (!consider(table, tokens, candidates, left)) return false;
        }
        if (left > 0 && !consider(table, tokens, candidates, tokens->previous[left])) return false;
    }
    return true;
}

static hone_status merge_long(const MergeTable *table, int32_t *ids, uint32_t *ends, size_t *count,
                              HoneError *err) {
    size_t n = *count;
    LinkedTokens tokens = {ids, ends, hone_calloc(n, sizeof(uint32_t)),
                           hone_calloc(n, sizeof(uint32_t)), (uint32_t)n};
    Candidates candidates = {hone_calloc(n, sizeof(uint64_t)), 0, n};
    bool ok = tokens.next && tokens.previous && candidates.heap;
    for (uint32_t i = 0; ok && i < n; i++) {
        tokens.next[i] = i + 1;
        tokens.previous[i] = i - 1; // never read for the first
        if (i + 1 == n) break;
        uint32_t rank = find(table, ids[i], ids[i + 1])->rank;
        if (rank != NO_RANK) candidates.heap[candidates.count++] = (uint64_t)rank << 32 | i;
    }
    for (size_t i = candidates.count / 2; i-- > 0;) sift_down(&candidates, i);
    ok = ok && merge_list(table, &tokens, &candidates);
    if (ok) {
        size_t kept = 0;
        for (uint32_t i = 0; i < n; i = tokens.next[i], kept++) {
            ids[kept] = ids[i];
            ends[kept] = ends[i];
        }
        *count = kept;
    }
    hone_free(tokens.next);
    hone_free(tokens.previous);
    hone_free(candidates.heap);
    return ok ? HONE_OK : hone_fail_memory(err, n * 16, "a long piece of text");
}

hone_status hone_bpe_merge(const MergeTable *table, int32_t *ids, uint32_t *ends, size_t *count,
                           HoneError *err) {
    if (*count > SHORT_PIECE) return merge_long(table, ids, ends, count, err);
    merge_short(table, ids, ends, count);
    return HONE_OK;
}
