// SPDX-License-Identifier: Apache-2.0
#include <jansson.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"
#include "check.h"

// ---- text --------------------------------------------------------------------------------------

static void text_grows(void) {
    TextBuffer text = {0};
    for (int i = 0; i < 1000; i++) hone_text_printf(&text, "%d,", i);
    CHECK_INT(text.length, 3890);
    CHECK_INT(strlen(text.data), text.length);
    CHECK_CONTAINS(text.data, ",998,999,");
    hone_text_clear(&text);
    CHECK_STRING(text.data, "");
    hone_text_append(&text, "a\0b", 3);
    hone_text_puts(&text, "c");
    CHECK(text.length == 4 && memcmp(text.data, "a\0bc", 5) == 0);
    hone_text_append(&text, NULL, 0);
    CHECK_INT(text.length, 4);
    hone_text_append(&text, "x", SIZE_MAX / 2); // cannot be: sticky
    CHECK(text.failed);
    hone_text_puts(&text, "more");
    CHECK_INT(text.length, 4);
    hone_text_free(&text);
    CHECK(!text.data && !text.failed);
}

static void check_json(const char *string, size_t length, const char *want) {
    TextBuffer text = {0};
    hone_text_json(&text, string, length);
    CHECK_STRING(text.data, want);
    hone_text_free(&text);
}

static void json_escapes(void) {
    check_json("", 0, "\"\"");
    check_json("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
    check_json("\n\r\t\b\x01\x1f\x7f", 7, "\"\\n\\r\\t\\u0008\\u0001\\u001f\\u007f\"");
    check_json("a\0b", 3, "\"a\\u0000b\"");
    check_json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
               "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    check_json("\xff", 1, "\"\xef\xbf\xbd\"");
    check_json("\xc3", 1, "\"\xef\xbf\xbd\"");
    check_json("\xc3(", 2, "\"\xef\xbf\xbd(\"");
    check_json("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); // a surrogate
}

// Whatever the bytes, a JSON parser takes the literal; valid text comes back as it was.
static void json_is_json(void) {
    RandomStream random = hone_random_stream(1, RANDOM_TEST, 0);
    for (int round = 0; round < 3000; round++) {
        char bytes[64];
        size_t length = hone_random_below(&random, sizeof bytes);
        for (size_t i = 0; i < length; i++) bytes[i] = (char)hone_random_below(&random, 256);
        bool valid = true;
        for (size_t i = 0; i < length && valid;) {
            int step = hone_utf8_decode(bytes + i, length - i, NULL);
            valid = step > 0;
            i += (size_t)step;
        }
        TextBuffer text = {0};
        hone_text_json(&text, bytes, length);
        json_error_t error;
        json_t *parsed =
            json_loadb(text.data, text.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
        if (CHECK(parsed) && valid) {
            CHECK_INT(json_string_length(parsed), length);
            CHECK(memcmp(json_string_value(parsed), bytes, length) == 0);
        }
        json_decref(parsed);
        hone_text_free(&text);
    }
}

// ---- map ---------------------------------------------------------------------------------------

static void map_holds_what_was_put(void) {
    enum { KEYS = 20000 };
    StringMap map = {0};
    CHECK_INT(hone_map_get(&map, "x", 1, -5), -5);
    Arena arena = {0};
    for (int64_t i = 0; i < KEYS; i++) {
        char *key = hone_arena_alloc(&arena, 16);
        int length = snprintf(key, 16, "key %lld", (long long)i);
        CHECK(hone_map_put(&map, key, (size_t)length, i * i));
    }
    CHECK_INT(map.count, KEYS);
    for (int64_t i = 0; i < KEYS + 100; i++) {
        char key[16];
        int length = snprintf(key, sizeof key, "key %lld", (long long)i);
        CHECK_INT(hone_map_get(&map, key, (size_t)length, -1), i < KEYS ? i * i : -1);
        if (i == 7) CHECK(hone_map_put(&map, "key 7", 5, -7) && map.count == KEYS);
    }
    CHECK_INT(hone_map_get(&map, "key 7", 5, -1), -7);
    CHECK_INT(hone_map_get(&map, "key 77", 5, -1), -7); // by length, not by NUL
    hone_map_free(&map);
    CHECK_INT(hone_map_get(&map, "key 7", 5, -1), -1);
    hone_arena_free(&arena);
}

static void map_keys_are_bytes(void) {
    StringMap map = {0};
    CHECK(hone_map_put(&map, "", 0, 1));
    CHECK(hone_map_put(&map, "\0", 1, 2));
    CHECK(hone_map_put(&map, "\0\0", 2, 3));
    CHECK(hone_map_put(&map, "a\0b", 3, 4));
    CHECK(hone_map_put(&map, "a\0c", 3, 5));
    CHECK_INT(hone_map_get(&map, "", 0, -1), 1);
    CHECK_INT(hone_map_get(&map, "\0", 1, -1), 2);
    CHECK_INT(hone_map_get(&map, "\0\0", 2, -1), 3);
    CHECK_INT(hone_map_get(&map, "a\0b", 3, -1), 4);
    CHECK_INT(hone_map_get(&map, "a\0c", 3, -1), 5);
    CHECK_INT(hone_map_get(&map, "a", 1, -1), -1);
    CHECK_INT(map.count, 5);
    hone_map_free(&map);
}

// ---- UTF-8 -------------------------------------------------------------------------------------

static void every_code_point_comes_back(void) {
    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        char bytes[4] = {0};
        uint32_t back = 0xffffffff;
        int length = hone_utf8_encode(code, bytes);
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        CHECK_INT(hone_utf8_decode(bytes, 4, &back), surrogate ? 0 : length);
        if (!surrogate) CHECK_INT(back, code);
        if (length > 1) CHECK_INT(hone_utf8_decode(bytes, (size_t)length - 1, NULL), 0);
    }
}

// Well-formed byte sequences as the Unicode standard's table 3-7 lists them.
static int length_by_the_table(const unsigned char *p) {
    bool second = p[1] >= 0x80 && p[1] <= 0xbf, third = p[2] >= 0x80 && p[2] <= 0xbf;
    bool fourth = p[3] >= 0x80 && p[3] <= 0xbf;
    if (p[0] <= 0x7f) return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) return second ? 2 : 0;
    if (p[0] == 0xe0) return p[1] >= 0xa0 && second && third ? 3 : 0;
    if (p[0] == 0xed) return p[1] <= 0x9f && second && third ? 3 : 0;
    if (p[0] >= 0xe1 && p[0] <= 0xef) return second && third ? 3 : 0;
    if (p[0] == 0xf0) return p[1] >= 0x90 && second && third && fourth ? 4 : 0;
    if (p[0] == 0xf4) return p[1] <= 0x8f && second && third && fourth ? 4 : 0;
    if (p[0] >= 0xf1 && p[0] <= 0xf3) return second && third && fourth ? 4 : 0;
    return 0;
}

static void every_sequence_is_judged_by_the_table(void) {
    static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0xbf, 0xc0, 0xff};
    long long wrong = 0;
    for (unsigned first = 0; first < 256; first++)
        for (unsigned second = 0; second < 256; second++)
            for (unsigned third = 0; third < 256; third++)
                for (size_t fourth = 0; fourth < sizeof edges; fourth++) {
                    unsigned char p[4] = {(unsigned char)first, (unsigned char)second,
                                          (unsigned char)third, edges[fourth]};
                    char text[4];
                    memcpy(text, p, 4);
                    wrong += hone_utf8_decode(text, 4, NULL) != length_by_the_table(p);
                }
    CHECK_INT(wrong, 0);
    CHECK_INT(hone_utf8_decode("", 0, NULL), 0);
}

int main(void) {
    RUN(text_grows);
    RUN(json_escapes);
    RUN(json_is_json);
    RUN(map_holds_what_was_put);
    RUN(map_keys_are_bytes);
    RUN(every_code_point_comes_back);
    RUN(every_sequence_is_judged_by_the_table);
    return check_report();
}
