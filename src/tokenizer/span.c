// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/span.h"

#include <string.h>

#include "base/memory.h"

static bool grow(void **array, size_t used, size_t bytes) {
    void *larger = hone_realloc(*array, used, bytes);
    if (larger) *array = larger;
    return larger != NULL;
}

bool hone_mapped_reserve(MappedText *text, size_t more) {
    if (text->failed) return false;
    if (more <= text->capacity - text->length) return true;
    size_t capacity = text->capacity * 2 + 256;
    if (capacity - text->length < more) capacity = text->length + more;
    if (more > UINT32_MAX || text->length + more > UINT32_MAX) {
        text->failed = true; // the places of tokens have 32 bits
        return false;
    }
    void *data = text->data, *begin = text->begin, *end = text->end;
    bool ok = grow(&data, text->length, capacity);
    ok = grow(&begin, text->length * 4, capacity * 4) && ok;
    ok = grow(&end, text->length * 4, capacity * 4) && ok;
    text->failed = !ok;
    text->data = data;
    text->begin = begin;
    text->end = end;
    if (!text->failed) text->capacity = capacity;
    return !text->failed;
}

void hone_mapped_append(MappedText *text, const char *bytes, size_t length, uint32_t begin,
                        uint32_t end) {
    if (!hone_mapped_reserve(text, length)) return;
    for (size_t i = 0; i < length; i++) {
        text->data[text->length] = bytes[i];
        text->begin[text->length] = begin;
        text->end[text->length++] = end;
    }
}

void hone_mapped_copy(MappedText *text, const Span *span, size_t from, size_t to) {
    if (from == to || !hone_mapped_reserve(text, to - from)) return;
    memcpy(text->data + text->length, span->text + from, to - from);
    for (size_t i = from; i < to; i++) {
        text->begin[text->length] = hone_span_begin(span, i);
        text->end[text->length++] = hone_span_end(span, i + 1);
    }
}

void hone_mapped_free(MappedText *text) {
    hone_free(text->data);
    hone_free(text->begin);
    hone_free(text->end);
    *text = (MappedText){0};
}

hone_status hone_mapped_span(const MappedText *text, Span *span, HoneError *err) {
    if (text->failed)
        return hone_fail(err, HONE_ERROR_MEMORY,
                         "no room for a text of more than %zu bytes while it is normalised",
                         text->length);
    *span = (Span){text->data, text->length, 0, text->begin, text->end};
    return HONE_OK;
}
