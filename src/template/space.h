// SPDX-License-Identifier: Apache-2.0
// White space as Python's str and re know it, over UTF-8.
#ifndef HONE_TEMPLATE_SPACE_H
#define HONE_TEMPLATE_SPACE_H

#include "base/text.h"

static inline bool hone_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 ||
           code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

// Bytes of the white-space character that begins here, or 0.
static inline int hone_space_at(const char *text, size_t length) {
    uint32_t code = 0;
    int bytes = hone_utf8_decode(text, length, &code);
    return bytes && hone_is_space(code) ? bytes : 0;
}

// Bytes of the character that begins here; an invalid byte counts as a character of its own.
static inline size_t hone_character(const char *text, size_t length) {
    int bytes = hone_utf8_decode(text, length, NULL);
    return bytes ? (size_t)bytes : 1;
}

// Bytes of the character that ends at `end`.
static inline size_t hone_character_before(const char *text, size_t end) {
    for (size_t bytes = 2; bytes <= 4 && bytes <= end; bytes++)
        if (hone_utf8_decode(text + end - bytes, bytes, NULL) == (int)bytes) return bytes;
    return 1;
}

// Length without the white space at the end.
static inline size_t hone_space_before(const char *text, size_t length) {
    while (length > 0) {
        size_t bytes = hone_character_before(text, length);
        if (!hone_space_at(text + length - bytes, bytes)) break;
        length -= bytes;
    }
    return length;
}

#endif
