// SPDX-License-Identifier: Apache-2.0
// Growing text and a map from byte strings to numbers.
#ifndef HONE_BASE_TEXT_H
#define HONE_BASE_TEXT_H

#include "base/error.h"

// Zero-initialise to create. `failed` is sticky: appends after an out-of-memory do nothing; check
// once.
typedef struct TextBuffer {
    char *data; // NUL-terminated once anything was appended
    size_t length, capacity;
    bool failed;
} TextBuffer;

void hone_text_append(TextBuffer *text, const void *bytes, size_t length);
void hone_text_puts(TextBuffer *text, const char *string);
void hone_text_printf(TextBuffer *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Append `string` as a JSON string literal, quotes included; invalid UTF-8 becomes U+FFFD.
void hone_text_json(TextBuffer *text, const char *string, size_t length);
void hone_text_clear(TextBuffer *text); // keeps the memory
void hone_text_free(TextBuffer *text);

// Byte string → int64. Keys are borrowed: they must outlive the map. Zero-initialise to create.
typedef struct StringMap {
    struct StringMapSlot *slots;
    size_t capacity, count;
} StringMap;

// false: out of memory. An existing key's value is replaced.
bool hone_map_put(StringMap *map, const char *key, size_t length, int64_t value);
// `missing` when the key is not there.
int64_t hone_map_get(const StringMap *map, const char *key, size_t length, int64_t missing);
void hone_map_free(StringMap *map);
uint64_t hone_hash_bytes(const void *bytes, size_t length);

// The length of the UTF-8 sequence that begins at text (1…4), or 0 when it is not valid UTF-8.
// *codepoint may be NULL.
int hone_utf8_decode(const char *text, size_t length, uint32_t *codepoint);
// Bytes of text that fit a message, at most 40 and whole characters: for "%.*s".
int hone_excerpt(const char *text);
// Write the code point as UTF-8; returns 1…4.
int hone_utf8_encode(uint32_t codepoint, char out[4]);

#endif
