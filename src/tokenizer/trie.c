// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static int compare(const void *left, const void *right) {
    const TrieItem *a = left, *b = right;
    size_t shared = a->text.length < b->text.length ? a->text.length : b->text.length;
    int order = memcmp(a->text.data, b->text.data, shared);
    if (order) return order;
    if (a->text.length != b->text.length) return a->text.length < b->text.length ? -1 : 1;
    return (a->token > b->token) - (a->token < b->token);
}

// The items that a node's string begins; nodes are made in the order of their depth.
typedef struct Range {
    uint32_t low, high, depth;
} Range;

static void add_children(Trie *trie, Range *ranges, const TrieItem *items, uint32_t node) {
    Range range = ranges[node];
    TrieNode *made = &trie->nodes[node];
    for (; range.low < range.high && items[range.low].text.length == range.depth; range.low++)
        made->token = items[range.low].token;
    made->first_child = trie->count;
    while (range.low < range.high) {
        unsigned char byte = (unsigned char)items[range.low].text.data[range.depth];
        uint32_t end = range.low + 1;
        while (end < range.high && (unsigned char)items[end].text.data[range.depth] == byte) end++;
        trie->nodes[trie->count] = (TrieNode){.token = -1, .byte = byte};
        ranges[trie->count] = (Range){range.low, end, range.depth + 1};
        if (node == 0) trie->root_child[byte] = trie->count;
        trie->count++;
        made->child_count++;
        range.low = end;
    }
}

hone_status hone_trie_create(Trie *trie, TrieItem *items, size_t count, HoneError *err) {
    *trie = (Trie){0};
    size_t kept = 0, bytes = 1;
    for (size_t i = 0; i < count; i++) {
        if (items[i].text.length == 0) continue;
        bytes += items[i].text.length;
        items[kept++] = items[i];
    }
    if (bytes > UINT32_MAX)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "a vocabulary of %zu bytes", bytes);
    if (kept) qsort(items, kept, sizeof *items, compare);
    trie->nodes = hone_calloc(bytes, sizeof *trie->nodes);
    Range *ranges = hone_calloc(bytes, sizeof *ranges);
    if (trie->nodes && ranges) {
        trie->nodes[0].token = -1;
        ranges[0] = (Range){0, (uint32_t)kept, 0};
        trie->count = 1;
        for (uint32_t node = 0; node < trie->count; node++) add_children(trie, ranges, items, node);
    }
    hone_status status = trie->nodes && ranges
                             ? HONE_OK
                             : hone_fail_memory(err, bytes * sizeof(TrieNode), "the vocabulary");
    hone_free(ranges);
    return status;
}

void hone_trie_free(Trie *trie) {
    hone_free(trie->nodes);
    *trie = (Trie){0};
}
