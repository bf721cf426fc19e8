// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/alphabet.h"

#include <string.h>

#include "base/text.h"

static bool is_visible(int byte) {
    return (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
}

void hone_alphabet_fill(Alphabet *alphabet) {
    memset(alphabet->byte, -1, sizeof alphabet->byte);
    int hidden = 256;
    for (int byte = 0; byte < 256; byte++) {
        int character = is_visible(byte) ? byte : hidden++;
        alphabet->character[byte] = (uint16_t)character;
        alphabet->byte[character] = (int16_t)byte;
    }
}

int64_t hone_alphabet_decode(const Alphabet *alphabet, const char *spelling, size_t length,
                             char *out) {
    int64_t count = 0;
    for (size_t i = 0; i < length;) {
        uint32_t character;
        int bytes = hone_utf8_decode(spelling + i, length - i, &character);
        if (bytes == 0 || character >= ALPHABET_END || alphabet->byte[character] < 0) return -1;
        out[count++] = (char)alphabet->byte[character];
        i += (size_t)bytes;
    }
    return count;
}
