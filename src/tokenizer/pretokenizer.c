// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

// ---- making and freeing ------------------------------------------------------------------------

struct PreTokenizer {
    const char *name, *pattern;
    CutBehaviour behaviour;
    pcre2_general_context *general;
    pcre2_compile_context *compile;
    pcre2_match_context *match;
    pcre2_code *code;
    pcre2_match_data *data;
    bool compiled_to_machine_code;
    const char *text; // valid UTF-8: the caller's, or `repaired`
    size_t length;
    char *repaired;
    size_t repaired_capacity;
    size_t match_begin, match_end; // the match that was found last
};

static void *take(PCRE2_SIZE bytes, void *unused) {
    (void)unused;
    return hone_alloc(bytes);
}

static void give(void *block, void *unused) {
    (void)unused;
    hone_free(block);
}

void hone_pretokenizer_free(PreTokenizer *pre) {
    if (!pre) return;
    pcre2_match_data_free(pre->data);
    pcre2_code_free(pre->code);
    pcre2_match_context_free(pre->match);
    pcre2_compile_context_free(pre->compile);
    pcre2_general_context_free(pre->general);
    hone_free(pre->repaired);
    hone_free(pre);
}

static hone_status compile(PreTokenizer *pre, HoneError *err) {
    pre->general = pcre2_general_context_create(take, give, NULL);
    pre->compile = pcre2_compile_context_create(pre->general);
    pre->match = pcre2_match_context_create(pre->general);
    if (!pre->general || !pre->compile || !pre->match)
        return hone_fail_memory(err, 4096, "a pre-tokeniser");
    int error;
    PCRE2_SIZE place;
    pre->code = pcre2_compile((PCRE2_SPTR)pre->pattern, PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &place, pre->compile);
    if (!pre->code && error == PCRE2_ERROR_HEAP_FAILED)
        return hone_fail_memory(err, 4096, "a pre-tokeniser");
    if (!pre->code) {
        PCRE2_UCHAR message[128] = "";
        pcre2_get_error_message(error, message, sizeof message);
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "pre-tokeniser %s: this PCRE2 refuses the pattern at %zu: %s", pre->name,
                         (size_t)place, (const char *)message);
    }
    // Without machine code (another processor, a hardened system) matching is interpreted.
    pre->compiled_to_machine_code = pcre2_jit_compile(pre->code, PCRE2_JIT_COMPLETE) == 0;
    pre->data = pcre2_match_data_create(1, pre->general);
    return pre->data ? HONE_OK : hone_fail_memory(err, 128, "a pre-tokeniser");
}

hone_status hone_pretokenizer_create(const char *name, const char *pattern, CutBehaviour behaviour,
                                     PreTokenizer **pre, HoneError *err) {
    *pre = NULL;
    PreTokenizer *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a pre-tokeniser");
    made->name = name;
    made->pattern = pattern;
    made->behaviour = behaviour;
    hone_status status = compile(made, err);
    if (status != HONE_OK) {
        hone_pretokenizer_free(made);
        return status;
    }
    *pre = made;
    return HONE_OK;
}

// ---- cutting -----------------------------------------------------------------------------------

// The first place at or after `from` that is not UTF-8; `length` when there is none.
static size_t find_invalid(const char *text, size_t length, size_t from) {
    size_t i = from;
    while (i < length) {
        uint64_t eight;
        if (length - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        int bytes = hone_utf8_decode(text + i, length - i, NULL);
        if (bytes == 0) return i;
        i += (size_t)bytes;
    }
    return length;
}

// A copy of the same length in which each byte that is not UTF-8 is a symbol of one byte. What
// others put there, U+FFFD, is a symbol too, so that the pieces are the same.
static hone_status repair(PreTokenizer *pre, size_t invalid, HoneError *err) {
    if (pre->length > pre->repaired_capacity) {
        char *larger = hone_alloc(pre->length);
        if (!larger) return hone_fail_memory(err, pre->length, "a copy of the text");
        hone_free(pre->repaired);
        pre->repaired = larger;
        pre->repaired_capacity = pre->length;
    }
    memcpy(pre->repaired, pre->text, pre->length);
    while (invalid < pre->length) {
        pre->repaired[invalid] = '#';
        invalid = find_invalid(pre->text, pre->length, invalid + 1);
    }
    pre->text = pre->repaired;
    return HONE_OK;
}

hone_status hone_pretokenizer_start(PreTokenizer *pre, const char *text, size_t length,
                                    HoneError *err) {
    pre->text = text;
    pre->length = length;
    pre->match_begin = pre->match_end = 0;
    // One backtracking step a character is what a run of spaces costs; far more is a bad pattern.
    uint64_t limit = 10000000 + 8 * (uint64_t)length;
    pcre2_set_match_limit(pre->match, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    size_t invalid = find_invalid(text, length, 0);
    return invalid < length ? repair(pre, invalid, err) : HONE_OK;
}

// The first match at or after `from`; at the end of the text when there is none.
static hone_status find_match(PreTokenizer *pre, size_t from, HoneError *err) {
    PCRE2_SPTR text = (PCRE2_SPTR)pre->text;
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    if (pre->compiled_to_machine_code)
        found = pcre2_jit_match(pre->code, text, pre->length, from, PCRE2_NOTEMPTY, pre->data,
                                pre->match);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found =
            pcre2_match(pre->code, text, pre->length, from,
                        PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, pre->data, pre->match);
    if (found == PCRE2_ERROR_NOMATCH) {
        pre->match_begin = pre->match_end = pre->length;
        return HONE_OK;
    }
    if (found == PCRE2_ERROR_NOMEMORY) return hone_fail_memory(err, pre->length, "a pre-token");
    if (found < 0) {
        PCRE2_UCHAR message[128] = "";
        pcre2_get_error_message(found, message, sizeof message);
        return hone_fail(err, HONE_ERROR_UNSUPPORTED, "pre-tokeniser %s: byte %zu of %zu: %s",
                         pre->name, from, pre->length, (const char *)message);
    }
    const PCRE2_SIZE *match = pcre2_get_ovector_pointer(pre->data);
    pre->match_begin = match[0];
    pre->match_end = match[1];
    return HONE_OK;
}

// A match, or what lies before one; empty only at the end of the text.
typedef struct Stretch {
    size_t begin, end;
    bool is_match;
} Stretch;

static hone_status stretch_at(PreTokenizer *pre, size_t from, Stretch *stretch, HoneError *err) {
    if (pre->match_end <= from) RETURN_IF_ERROR(find_match(pre, from, err));
    if (pre->match_begin > from)
        *stretch = (Stretch){from, pre->match_begin, false};
    else
        *stretch = (Stretch){from, pre->match_end, true};
    return HONE_OK;
}

// Whether a stretch and the one that follows it are one piece.
static bool is_joined(CutBehaviour behaviour, Stretch before, Stretch after) {
    switch (behaviour) {
    case CUT_PREVIOUS:
        return !before.is_match && after.is_match;
    case CUT_NEXT:
        return before.is_match && !after.is_match;
    case CUT_RUNS:
        return before.is_match && after.is_match;
    default:
        return false;
    }
}

hone_status hone_pretokenizer_next(PreTokenizer *pre, size_t *begin, size_t *end, HoneError *err) {
    Stretch stretch, after;
    CutBehaviour behaviour = pre->behaviour;
    RETURN_IF_ERROR(stretch_at(pre, *end, &stretch, err));
    while (stretch.end < pre->length &&
           (stretch.is_match ? behaviour == CUT_GAPS : behaviour == CUT_MATCHES))
        RETURN_IF_ERROR(stretch_at(pre, stretch.end, &stretch, err));
    if (stretch.is_match ? behaviour == CUT_GAPS : behaviour == CUT_MATCHES)
        stretch.begin = stretch.end;
    while (behaviour >= CUT_PREVIOUS && stretch.end < pre->length) {
        RETURN_IF_ERROR(stretch_at(pre, stretch.end, &after, err));
        if (!is_joined(behaviour, stretch, after)) break;
        stretch = (Stretch){stretch.begin, after.end, after.is_match};
    }
    *begin = stretch.begin;
    *end = stretch.end;
    return HONE_OK;
}

hone_status hone_pretokenizer_match(PreTokenizer *pre, size_t from, size_t *begin, size_t *end,
                                    HoneError *err) {
    RETURN_IF_ERROR(find_match(pre, from, err));
    *begin = pre->match_begin;
    *end = pre->match_end;
    return HONE_OK;
}
