// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static bool reserve(TextBuffer *text, size_t more) {
    if (text->failed) return false;
    if (more > SIZE_MAX / 4 || text->length > SIZE_MAX / 4) {
        text->failed = true;
        return false;
    }
    size_t need = text->length + more + 1;
    if (need <= text->capacity) return true;
    size_t capacity = text->capacity ? text->capacity * 2 : 64;
    if (capacity < need) capacity = need;
    char *grown = hone_realloc(text->data, text->length, capacity);
    if (!grown) {
        text->failed = true;
        return false;
    }
    text->data = grown;
    text->capacity = capacity;
    return true;
}

void hone_text_append(TextBuffer *text, const void *bytes, size_t length) {
    if (!reserve(text, length)) return;
    if (length) memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void hone_text_puts(TextBuffer *text, const char *string) {
    hone_text_append(text, string, strlen(string));
}

void hone_text_printf(TextBuffer *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !reserve(text, (size_t)length)) return;
    va_start(args, format);
    vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
    va_end(args);
    text->length += (size_t)length;
}

void hone_text_json(TextBuffer *text, const char *string, size_t length) {
    hone_text_append(text, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)string[i];
        if (c == '"' || c == '\\') {
            hone_text_printf(text, "\\%c", c);
            i++;
        } else if (c < 0x20 || c == 0x7f) {
            if (c == '\n')
                hone_text_puts(text, "\\n");
            else if (c == '\t')
                hone_text_puts(text, "\\t");
            else if (c == '\r')
                hone_text_puts(text, "\\r");
            else
                hone_text_printf(text, "\\u%04x", c);
            i++;
        } else {
            int bytes = hone_utf8_decode(string + i, length - i, NULL);
            if (bytes)
                hone_text_append(text, string + i, (size_t)bytes);
            else
                hone_text_puts(text, "\xef\xbf\xbd");
            i += bytes ? (size_t)bytes : 1;
        }
    }
    hone_text_append(text, "\"", 1);
}

void hone_text_clear(TextBuffer *text) {
    text->length = 0;
    text->failed = false;
    if (text->data) text->data[0] = '\0';
}

void hone_text_free(TextBuffer *text) {
    hone_free(text->data);
    *text = (TextBuffer){0};
}

// ---- map ---------------------------------------------------------------------------------------

typedef struct StringMapSlot {
    const char *key;
    size_t length;
    uint64_t hash;
    int64_t value;
} StringMapSlot;

uint64_t hone_hash_bytes(const void *bytes, size_t length) {
    const unsigned char *p = bytes;
    uint64_t hash = 0xcbf29ce484222325u ^ length; // FNV-1a, then a finishing mix
    for (size_t i = 0; i < length; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    hash ^= hash >> 32;
    hash *= 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static StringMapSlot *find(const StringMap *map, const char *key, size_t length, uint64_t hash) {
    size_t mask = map->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        StringMapSlot *slot = &map->slots[i];
        if (!slot->key) return slot;
        if (slot->hash == hash && slot->length == length && memcmp(slot->key, key, length) == 0)
            return slot;
    }
}

static bool grow(StringMap *map) {
    StringMap larger = {.capacity = map->capacity ? map->capacity * 2 : 64, .count = map->count};
    larger.slots = hone_calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots) return false;
    for (size_t i = 0; i < map->capacity; i++) {
        StringMapSlot *slot = &map->slots[i];
        if (slot->key) *find(&larger, slot->key, slot->length, slot->hash) = *slot;
    }
    hone_free(map->slots);
    *map = larger;
    return true;
}

bool hone_map_put(StringMap *map, const char *key, size_t length, int64_t value) {
    if (map->count * 4 >= map->capacity * 3 && !grow(map)) return false;
    uint64_t hash = hone_hash_bytes(key, length);
    StringMapSlot *slot = find(map, key, length, hash);
    if (!slot->key) map->count++;
    *slot = (StringMapSlot){key, length, hash, value};
    return true;
}

int64_t hone_map_get(const StringMap *map, const char *key, size_t length, int64_t missing) {
    if (map->count == 0) return missing;
    const StringMapSlot *slot = find(map, key, length, hone_hash_bytes(key, length));
    return slot->key ? slot->value : missing;
}

void hone_map_free(StringMap *map) {
    hone_free(map->slots);
    *map = (StringMap){0};
}

// ---- UTF-8 -------------------------------------------------------------------------------------

int hone_utf8_decode(const char *text, size_t length, uint32_t *codepoint) {
    if (length == 0) return 0;
    const unsigned char *p = (const unsigned char *)text;
    int bytes = p[0] < 0x80   ? 1
                : p[0] < 0xc2 ? 0
                : p[0] < 0xe0 ? 2
                : p[0] < 0xf0 ? 3
                : p[0] < 0xf5 ? 4
                              : 0;
    if (bytes == 0 || (size_t)bytes > length) return 0;
    uint32_t code = bytes == 1 ? p[0] : p[0] & (0x7fu >> bytes);
    for (int i = 1; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (p[i] & 0x3fu);
    }
    if ((bytes == 3 && code < 0x800) || (bytes == 4 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0xd800 && code <= 0xdfff))
        return 0;
    if (codepoint) *codepoint = code;
    return bytes;
}

int hone_utf8_encode(uint32_t codepoint, char out[4]) {
    if (codepoint < 0x80) {
        out[0] = (char)codepoint;
        return 1;
    }
    int bytes = codepoint < 0x800 ? 2 : codepoint < 0x10000 ? 3 : 4;
    for (int i = bytes - 1; i > 0; i--, codepoint >>= 6) out[i] = (char)(0x80 | (codepoint & 0x3f));
    out[0] = (char)((0xf00u >> bytes & 0xf0u) | codepoint);
    return bytes;
}

int hone_excerpt(const char *text) {
    enum { MOST = 40 };
    int length = (int)strnlen(text, MOST + 1);
    if (length <= MOST) return length;
    for (length = MOST; length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80;) length--;
    return length;
}
