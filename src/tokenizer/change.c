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

static hone_status charsmap(Change *change, const Span *span) {
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
    return HONE_OK;
}

hone_status hone_change_apply(Change *change, Span span, Span *result, HoneError *err) {
    *result = span;
    if (span.length == 0) return HONE_OK;
    change->out.length = 0;
    switch (change->kind) {
    case CHANGE_PREPEND:
        prepend(change, &span);
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
    }
    return hone_mapped_span(&change->out, result, err);
}

void hone_change_free(Change *change) {
    hone_mapped_free(&change->out);
}
