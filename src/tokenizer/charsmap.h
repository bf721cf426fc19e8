// SPDX-License-Identifier: Apache-2.0
// sentencepiece's "precompiled charsmap": a double-array trie (Yata et al. 2007) of strings, and
// what each is replaced by.
#ifndef HONE_TOKENIZER_CHARSMAP_H
#define HONE_TOKENIZER_CHARSMAP_H

#include "base/error.h"

typedef struct Charsmap {
    const uint8_t *units; // 4 bytes each, little-endian, aligned by chance
    size_t unit_count;
    const char *strings; // replacements, each ended by NUL
    size_t string_bytes; // the last one is a NUL
} Charsmap;

// The bytes are borrowed. HONE_ERROR_INPUT with the values that disagree.
hone_status hone_charsmap_read(Charsmap *map, const void *bytes, size_t length, HoneError *err);

// Bytes of text that are replaced, by *put; 0: none. `longest` looks for the longest string that
// text begins with, `shortest` for the shortest.
size_t hone_charsmap_longest(const Charsmap *map, const char *text, size_t length, const char **put,
                             size_t *put_length);
size_t hone_charsmap_shortest(const Charsmap *map, const char *text, size_t length,
                              const char **put, size_t *put_length);

#endif
