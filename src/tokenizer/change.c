// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/change.h"

#include <string.h>

#include "base/text.h"

static void append_text(MappedText *out, TokenizerText text, uint32_t begin, uint32_t end) {
    hone_mapped_append(out, text.data, text.length, begin, end);
}

static void prepend(Change *change, const Span *span) {
    uint32_t begin = hone_span_begin(span, 0);
    append_text(&change->out, change->put, begin, begin);
    hone_mapped_copy(&change->out, span, 0, span->length);
}

static void lead(Change *change, const Span *span) {
    TokenizerText put = change->put;
    bool there = span->length >= put.length && memcmp(span->text, put.data, put.length) == 0;
    bool wanted = !there && (!change->only_first || hone_span_begin(span, 0) == 0);
    if (wanted)
        prepend(change, span);
    else
        hone_mapped_copy(&change->out, span, 0, span->length);
}

static void strip(Change *change, const Span *span) {
    size_t begin = 0, end = span->length, at = 0, last = 0;
    bool any = false;
    while (at < span->length) {
        uint32_t c = 0;
        int bytes = hone_utf8_decode(span->text + at, span->length - at, &c);
        size_t after = at + (bytes ? (size_t)bytes : 1);
        if (!bytes || !hone_is_space(c)) {
            if (!any) begin = at;
            any = true;
            last = after;
        }
        at = after;
    }
    if (!any) begin = last = span->length;
    if (!change->left) begin = 0;
    if (change->right) end = last;
    if (!any && (change->left || change->right)) begin = end = 0;
    hone_mapped_copy(&change->out, span, begin, end);
}

static hone_status regex(Change *change, const Span *span, HoneError *err) {
    RETURN_IF_ERROR(hone_pretokenizer_start(change->pattern, span->text, span->length, err));
    for (size_t from = 0, begin, end; from < span->length; from = end) {
        RETURN_IF_ERROR(hone_pretokenizer_match(change->pattern, from, &begin, &end, err));
        hone_mapped_copy(&change->out, span, from, begin);
        if (begin == span->length) break;
        append_text(&change->out, change->put, hone_span_begin(span, begin),
                    hone_span_end(span, end));
    }
    return HONE_OK;
}

static void replace(Change *change, const Span *span) {
    TokenizerText find = change->find;
    for (size_t from = 0; from < span->length;) {
        const char *found = memmem(span->text + from, span->length - from, find.data, find.length);
        size_t at = found ? (size_t)(found - span->text) : span->length;
        hone_mapped_copy(&change->out, span, from, at);
        if (!found) break;
        from = at + find.length;
        append_text(&change->out, change->put, hone_span_begin(span, at),
                    hone_span_end(span, from));
    }
}

// Each space becomes `put`, and with `prefix` there is one more before the text; or with `merge`
// there is exactly one before each word, and none elsewhere.
static void spaces(Change *change, const Span *span) {
    uint32_t first = hone_span_begin(span, 0);
    if (change->prefix && !change->merge) append_text(&change->out, change->put, first, first);
    for (size_t i = 0; i < span->length; i++) {
        uint32_t begin = hone_span_begin(span, i), end = hone_span_end(span, i + 1);
        bool space = span->text[i] == ' ';
        if (space && !change->merge) append_text(&change->out, change->put, begin, end);
        if (space) continue;
        if (change->merge && (i == 0 || span->text[i - 1] == ' '))
            append_text(&change->out, change->put, i ? hone_span_begin(span, i - 1) : begin, begin);
        hone_mapped_append(&change->out, span->text + i, 1, begin, end);
    }
}

static void charsmap(Change *change, const Span *span) {
    for (size_t i = 0; i < span->length;) {
        const char *put;
        size_t put_length, used;
        used = hone_charsmap_longest(&change->charsmap, span->text + i, span->length - i, &put,
                                     &put_length);
        if (used) {
            hone_mapped_append(&change->out, put, put_length, hone_span_begin(span, i),
                               hone_span_end(span, i + used));
        } else {
            int bytes = hone_utf8_decode(span->text + i, span->length - i, NULL);
            used = bytes ? (size_t)bytes : 1;
            hone_mapped_copy(&change->out, span, i, i + used);
        }
        i += used;
    }
}

hone_status hone_change_apply(Change *change, Span span, Span *result, HoneError *err) {
    *result = span;
    if (span.length == 0) return HONE_OK;
    change->out.length = 0;
    switch (change->kind) {
    case CHANGE_PREPEND:
        prepend(change, &span);
        break;
    case CHANGE_LEAD:
        lead(change, &span);
        break;
    case CHANGE_REPLACE:
        if (!memmem(span.text, span.length, change->find.data, change->find.length)) return HONE_OK;
        replace(change, &span);
        break;
    case CHANGE_SPACES:
        spaces(change, &span);
        break;
    case CHANGE_CHARSMAP:
        charsmap(change, &span);
        break;
    case CHANGE_BERT:
        hone_change_bert(change, &span);
        break;
    case CHANGE_REGEX:
        RETURN_IF_ERROR(regex(change, &span, err));
        break;
    case CHANGE_STRIP:
        strip(change, &span);
        break;
    case CHANGE_FORM:
        RETURN_IF_ERROR(hone_change_form(change, &span, err));
        break;
    case CHANGE_ACCENTS:
    case CHANGE_LOWER:
    case CHANGE_NMT:
        hone_change_characters(change, &span);
        break;
    case CHANGE_CLUSTERS:
        hone_change_clusters(change, &span);
        break;
    }
    return hone_mapped_span(&change->out, result, err);
}

void hone_change_free(Change *change) {
    hone_mapped_free(&change->out);
    hone_pretokenizer_free(change->pattern);
}
