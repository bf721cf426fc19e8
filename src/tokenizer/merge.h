// SPDX-License-Identifier: Apache-2.0
// The merges of a vocabulary and the loop that applies them, best rank first, leftmost first.
#ifndef HONE_TOKENIZER_MERGE_H
#define HONE_TOKENIZER_MERGE_H

#include "base/error.h"

typedef struct MergeSlot {
    int32_t left, right; // token ids
    int32_t result;
    uint32_t rank; // UINT32_MAX: an empty slot
} MergeSlot;

typedef struct MergeTable {
    MergeSlot *slots; // open addressing by (left, right)
    size_t mask;
} MergeTable;

hone_status hone_merge_table_create(MergeTable *table, int64_t merge_count, HoneError *err);
void hone_merge_table_free(MergeTable *table);
// At most merge_count times; a pair that is there keeps its better rank.
void hone_merge_table_put(MergeTable *table, MergeSlot merge);

// ids[0…count) are the tokens of a piece, token i ending before byte ends[i] of it. Both arrays are
// merged in place; *count becomes smaller. An id of -1 (a byte without a token) merges with
// nothing.
hone_status hone_bpe_merge(const MergeTable *table, int32_t *ids, uint32_t *ends, size_t *count,
                           HoneError *err);

#endif
