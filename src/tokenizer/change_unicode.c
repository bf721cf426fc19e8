// SPDX-License-Identifier: Apache-2.0
// Changes that ask what a character is.
#include <utf8proc.h>

#include "base/text.h"
#include "tokenizer/change.h"

// ---- questions ---------------------------------------------------------------------------------

// Unicode's White_Space.
static bool is_space(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return (c >= 9 && c <= 13) || c == 0x85 ||
           (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP);
}

static bool is_other(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_CN || category >= UTF8PROC_CATEGORY_CC;
}

// The ideographs that BERT's tokeniser sets apart. 0x2b920 is what Hugging Face's has in place of
// 0x2b820, and every vocabulary was used with it.
static bool is_ideograph(uint32_t c) {
    static const uint32_t ranges[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df},
                                         {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf},
                                         {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1]) return true;
    return false;
}

// ---- BERT --------------------------------------------------------------------------------------

typedef struct Writing {
    MappedText *out;
    uint32_t begin, end; // of the character that is being changed
} Writing;

static void put(Writing *writing, uint32_t c) {
    char bytes[4];
    int length = hone_utf8_encode(c, bytes);
    hone_mapped_append(writing->out, bytes, (size_t)length, writing->begin, writing->end);
}

static void put_lower(Writing *writing, uint32_t c, bool lower) {
    put(writing, lower ? (uint32_t)utf8proc_tolower((utf8proc_int32_t)c) : c);
    if (lower && c == 0x130) put(writing, 0x307); // the only one that becomes two: i with a dot
}

static void put_stripped(Writing *writing, uint32_t c, bool lower) {
    utf8proc_int32_t parts[32];
    int last = 0;
    utf8proc_ssize_t count =
        utf8proc_decompose_char((utf8proc_int32_t)c, parts, 32, UTF8PROC_DECOMPOSE, &last);
    for (utf8proc_ssize_t i = 0; i < count && i < 32; i++)
        if (utf8proc_category(parts[i]) != UTF8PROC_CATEGORY_MN)
            put_lower(writing, (uint32_t)parts[i], lower);
}

static void put_bert(Writing *writing, const Change *change, uint32_t c) {
    if (change->clean) {
        bool kept = c == '\t' || c == '\n' || c == '\r';
        if (!kept && (c == 0xfffd || is_other(c))) return; // U+0085 too, though it is white space
        if (is_space(c)) c = ' ';
    }
    bool apart = change->apart && is_ideograph(c);
    if (apart) put(writing, ' ');
    if (change->strip)
        put_stripped(writing, c, change->lower);
    else
        put_lower(writing, c, change->lower);
    if (apart) put(writing, ' ');
}

void hone_change_bert(Change *change, const Span *span) {
    for (size_t i = 0; i < span->length;) {
        uint32_t c = 0xfffd; // what a byte that is not UTF-8 stands for
        int length = hone_utf8_decode(span->text + i, span->length - i, &c);
        size_t used = length ? (size_t)length : 1;
        Writing writing = {&change->out, hone_span_begin(span, i), hone_span_end(span, i + used)};
        put_bert(&writing, change, c);
        i += used;
    }
}
