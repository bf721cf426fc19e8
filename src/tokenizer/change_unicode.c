// SPDX-License-Identifier: Apache-2.0
// Changes that ask what a character is.
#include <utf8proc.h>

#include "base/text.h"
#include "tokenizer/change.h"

// ---- questions ---------------------------------------------------------------------------------

bool hone_is_space(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return (c >= 9 && c <= 13) || c == 0x85 ||
           (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP);
}

bool hone_is_word_character(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    bool circled = (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
                   (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC || circled || c == 0x200c || c == 0x200d;
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
        if (hone_is_space(c)) c = ' ';
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

// ---- character by character --------------------------------------------------------------------

static void put_cleaned(Writing *writing, uint32_t c) {
    bool gone = (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f ||
                c == 0x8f || c == 0x9f;
    bool space = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 ||
                 (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                 c == 0xfeff || c == 0xfffd;
    if (!gone) put(writing, space ? ' ' : c);
}

static bool is_mark(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

static void put_changed(Writing *writing, ChangeKind kind, uint32_t c) {
    if (kind == CHANGE_NMT)
        put_cleaned(writing, c);
    else if (kind == CHANGE_LOWER)
        put_lower(writing, c, true);
    else if (!is_mark(c))
        put(writing, c);
}

void hone_change_characters(Change *change, const Span *span) {
    for (size_t i = 0; i < span->length;) {
        uint32_t c;
        int length = hone_utf8_decode(span->text + i, span->length - i, &c);
        size_t used = length ? (size_t)length : 1;
        Writing writing = {&change->out, hone_span_begin(span, i), hone_span_end(span, i + used)};
        if (length)
            put_changed(&writing, change->kind, c);
        else
            hone_mapped_copy(&change->out, span, i, i + 1);
        i += used;
    }
}

// ---- graphemes ---------------------------------------------------------------------------------

enum { LONG_CLUSTER = 6 }; // bytes; longer ones are looked up character by character

static size_t character_length(const Span *span, size_t at) {
    int bytes = hone_utf8_decode(span->text + at, span->length - at, NULL);
    return bytes ? (size_t)bytes : 1;
}

static size_t cluster_end(const Span *span, size_t at) {
    uint32_t before, c;
    utf8proc_int32_t state = 0;
    size_t end = at + character_length(span, at);
    if (!hone_utf8_decode(span->text + at, span->length - at, &before)) return end;
    while (
        end < span->length && hone_utf8_decode(span->text + end, span->length - end, &c) &&
        !utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c, &state)) {
        before = c;
        end += character_length(span, end);
    }
    return end;
}

// The whole of [from, to) by what the shortest string that it begins with becomes.
static bool put_cluster(Change *change, const Span *span, size_t from, size_t to) {
    const char *bytes;
    size_t length;
    if (!hone_charsmap_shortest(&change->charsmap, span->text + from, to - from, &bytes, &length))
        return false;
    hone_mapped_append(&change->out, bytes, length, hone_span_begin(span, from),
                       hone_span_end(span, to));
    return true;
}

void hone_change_clusters(Change *change, const Span *span) {
    for (size_t i = 0; i < span->length;) {
        size_t end = cluster_end(span, i);
        bool done = end - i < LONG_CLUSTER && put_cluster(change, span, i, end);
        for (; i < end && !done;) {
            size_t after = i + character_length(span, i);
            if (!put_cluster(change, span, i, after))
                hone_mapped_copy(&change->out, span, i, after);
            i = after;
        }
        i = end;
    }
}
