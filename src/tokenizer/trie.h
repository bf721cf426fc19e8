// SPDX-License-Identifier: Apache-2.0
// Byte strings and the token of each, walked byte by byte.
#ifndef HONE_TOKENIZER_TRIE_H
#define HONE_TOKENIZER_TRIE_H

#include "tokenizer/tokenizer.h"

typedef struct TrieNode {
    uint32_t first_child; // children are neighbours, by byte
    int32_t token;        // -1: no string ends here
    uint16_t child_count;
    uint8_t byte;
} TrieNode;

// Zero-initialised tries are empty and may be freed.
typedef struct Trie {
    TrieNode *nodes; // the first is the root
    uint32_t count;
    uint32_t root_child[256]; // 0: none
} Trie;

typedef struct TrieItem {
    TokenizerText text;
    int32_t token;
} TrieItem;

// Sorts the items. Empty texts are left out; of equal ones the last token counts.
hone_status hone_trie_create(Trie *trie, TrieItem *items, size_t count, HoneError *err);
void hone_trie_free(Trie *trie);

// The child of a node for a byte; 0: none. Begin at node 0.
static inline uint32_t hone_trie_child(const Trie *trie, uint32_t node, unsigned char byte) {
    if (node == 0) return trie->root_child[byte];
    uint32_t low = trie->nodes[node].first_child, high = low + trie->nodes[node].child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (trie->nodes[middle].byte == byte) return middle;
        if (trie->nodes[middle].byte < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

#endif
