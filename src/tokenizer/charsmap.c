// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/charsmap.h"

#include <string.h>

static uint32_t read_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

hone_status hone_charsmap_read(Charsmap *map, const void *bytes, size_t length, HoneError *err) {
    *map = (Charsmap){0};
    if (length == 0) return HONE_OK;
    const uint8_t *data = bytes;
    uint32_t trie = length >= 4 ? read_u32(data) : 0;
    if (length < 4 || trie % 4 != 0 || trie > length - 4)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the charsmap of %zu bytes wants %u for its trie: a multiple of 4 within",
                         length, trie);
    map->units = data + 4;
    map->unit_count = trie / 4;
    map->strings = (const char *)data + 4 + trie;
    map->string_bytes = length - 4 - trie;
    if (map->string_bytes && map->strings[map->string_bytes - 1] != '\0')
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the charsmap's %zu bytes of replacements do not end with a zero",
                         map->string_bytes);
    return HONE_OK;
}

// ---- walking -----------------------------------------------------------------------------------

// A unit holds a label in its low 8 bits (bit 31 set: a value, no label), bit 8 "a string ends
// here", and from bit 10 the offset to its children, shifted 8 further when bit 9 is set.
static uint32_t unit_at(const Charsmap *map, uint32_t index) {
    return index < map->unit_count ? read_u32(map->units + (size_t)index * 4) : 0;
}

static uint32_t offset_of(uint32_t unit) {
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

static bool string_at(const Charsmap *map, uint32_t value, const char **put, size_t *length) {
    value &= 0x7fffffffu;
    if (value >= map->string_bytes) return false;
    *put = map->strings + value;
    *length = strlen(*put); // the table's last byte is a zero
    return true;
}

static size_t walk(const Charsmap *map, const char *text, size_t length, bool longest,
                   const char **put, size_t *put_length) {
    size_t best = 0;
    if (map->unit_count == 0) return 0;
    uint32_t node = offset_of(unit_at(map, 0));
    for (size_t i = 0; i < length; i++) {
        uint32_t byte = (unsigned char)text[i];
        node ^= byte;
        uint32_t unit = unit_at(map, node);
        if (byte == 0 || (unit & 0x800000ffu) != byte) break;
        node ^= offset_of(unit);
        if (!(unit >> 8 & 1)) continue;
        if (string_at(map, unit_at(map, node), put, put_length)) best = i + 1;
        if (best && !longest) break;
    }
    return best;
}

size_t hone_charsmap_longest(const Charsmap *map, const char *text, size_t length, const char **put,
                             size_t *put_length) {
    return walk(map, text, length, true, put, put_length);
}

size_t hone_charsmap_shortest(const Charsmap *map, const char *text, size_t length,
                              const char **put, size_t *put_length) {
    return walk(map, text, length, false, put, put_length);
}
