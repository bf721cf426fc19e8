// SPDX-License-Identifier: Apache-2.0
// What Python's str does, byte origins kept.
#include <string.h>

#include "template/space.h"
#include "template/value.h"

size_t hone_text_find(Text text, Text part, size_t from) {
    if (from > text.length) return SIZE_MAX;
    if (part.length == 0) return from;
    if (part.length > text.length - from) return SIZE_MAX;
    const char *found = memmem(text.data + from, text.length - from, part.data, part.length);
    return found ? (size_t)(found - text.data) : SIZE_MAX;
}

// ---- trim --------------------------------------------------------------------------------------

static bool is_trimmed(const char *data, size_t bytes, const Text *set) {
    if (!set) return hone_space_at(data, bytes) > 0;
    for (size_t at = 0; at < set->length;) {
        size_t other = hone_character(set->data + at, set->length - at);
        if (other == bytes && memcmp(set->data + at, data, bytes) == 0) return true;
        at += other;
    }
    return false;
}

hone_status hone_text_trim(Render *render, const Node *node, Text text, Value characters,
                           TrimSide side, Text *out) {
    const Text *set = NULL;
    if (!hone_value_is_missing(characters)) {
        if (characters.kind != VALUE_STRING)
            return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                    "the characters to strip are a %s, not a string",
                                    hone_value_kind(characters));
        set = &characters.text;
    }
    size_t begin = 0, end = text.length, cost = 1 + (set ? set->length : 0);
    while ((side & TRIM_LEFT) && begin < end) {
        size_t bytes = hone_character(text.data + begin, end - begin);
        if (!is_trimmed(text.data + begin, bytes, set)) break;
        begin += bytes;
        RETURN_IF_ERROR(hone_render_charge(render, node, 1 + cost / 64));
    }
    while ((side & TRIM_RIGHT) && end > begin) {
        size_t bytes = hone_character_before(text.data + begin, end - begin);
        if (!is_trimmed(text.data + end - bytes, bytes, set)) break;
        end -= bytes;
        RETURN_IF_ERROR(hone_render_charge(render, node, 1 + cost / 64));
    }
    *out = hone_text_slice(text, begin, end);
    return HONE_OK;
}

// ---- case --------------------------------------------------------------------------------------

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Where a word of the filter title begins: after white space and these.
static bool divides_words(char c) {
    return strchr("-({[<", c) || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20);
}

hone_status hone_text_case(Render *render, const Node *node, Text text, CaseKind kind, Text *out) {
    RETURN_IF_ERROR(hone_render_charge(render, node, 1 + text.length / 64));
    char *data = hone_render_alloc(render, node, text.length + 1);
    if (!data) return render->err->status;
    bool begins = true; // a word, or the text
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if ((unsigned char)c >= 0x80)
            return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED,
                                    "changing the case of letters beyond ASCII is not supported");
        bool to_upper = kind == CASE_UPPER || (kind != CASE_LOWER && begins);
        if (to_upper && c >= 'a' && c <= 'z') c = (char)(c - 'a' + 'A');
        if (!to_upper && c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        data[i] = c;
        begins = kind == CASE_TITLE ? !is_letter(c) : kind == CASE_WORDS && divides_words(c);
    }
    *out = text;
    out->data = data;
    return HONE_OK;
}

// ---- replace and join --------------------------------------------------------------------------

hone_status hone_text_replace(Render *render, const Node *node, Text text, Text old, Text with,
                              int64_t most, Text *out) {
    if (old.length == 0)
        return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED,
                                "replacing an empty string is not supported");
    Builder builder = {0};
    size_t from = 0;
    RETURN_IF_ERROR(hone_render_charge(render, node, 1 + text.length / 64));
    for (int64_t done = 0; most < 0 || done < most; done++) {
        size_t at = hone_text_find(text, old, from);
        if (at == SIZE_MAX) break;
        RETURN_IF_ERROR(hone_builder_text(render, node, &builder, hone_text_slice(text, from, at)));
        RETURN_IF_ERROR(hone_builder_text(render, node, &builder, with));
        RETURN_IF_ERROR(hone_render_charge(render, node, 1));
        from = at + old.length;
    }
    if (from == 0) {
        *out = text;
        return HONE_OK;
    }
    RETURN_IF_ERROR(
        hone_builder_text(render, node, &builder, hone_text_slice(text, from, text.length)));
    *out = hone_builder_done(&builder);
    return HONE_OK;
}

hone_status hone_text_join(Render *render, const Node *node, const List *list, Text separator,
                           Text *out) {
    Builder builder = {0};
    for (int64_t i = 0; i < list->count; i++) {
        RETURN_IF_ERROR(hone_render_charge(render, node, 1));
        if (i > 0) RETURN_IF_ERROR(hone_builder_text(render, node, &builder, separator));
        RETURN_IF_ERROR(hone_builder_value(render, node, &builder, list->items[i]));
    }
    *out = hone_builder_done(&builder);
    return HONE_OK;
}
