// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

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

static const SpecialToken *longest_at(const SpecialSet *set, const char *text, size_t length) {
    int byte = (unsigned char)text[0];
    uint32_t low = set->first[byte], high = set->first[byte + 1];
    const SpecialToken *best = NULL;
    for (size_t depth = 1; low < high; depth++) {
        for (; low < high && set->items[low].length == depth; low++) best = &set->items[low];
        if (depth == length) break;
        byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return best;
}

const SpecialToken *hone_special_find(const SpecialSet *set, const char *text, size_t length,
                                      size_t from, size_t *begin) {
    *begin = length;
    if (set->first[256] == 0) return NULL;
    for (size_t i = from; i < length; i++) {
        int byte = (unsigned char)text[i];
        if (set->first[byte] == set->first[byte + 1]) continue;
        const SpecialToken *token = longest_at(set, text + i, length - i);
        if (token) {
            *begin = i;
            return token;
        }
    }
    return NULL;
}
