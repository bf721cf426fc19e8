// SPDX-License-Identifier: Apache-2.0
#include "base/base64.h"

#include <stdint.h>

static int sextet(int c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool hone_base64_decode(const char *text, size_t length, char *bytes, size_t *count) {
    uint32_t bits = 0;
    int have = 0;
    size_t end = length;
    *count = 0;
    while (end > 0 && text[end - 1] == '=') end--;
    if (length % 4 != 0 || length - end > 2) return false;
    for (size_t i = 0; i < end; i++) {
        const int value = sextet((unsigned char)text[i]);
        if (value < 0) return false;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        bytes[(*count)++] = (char)(bits >> have & 0xff);
    }
    return true;
}
