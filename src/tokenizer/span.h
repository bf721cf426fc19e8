// SPDX-License-Identifier: Apache-2.0
// A piece of text on its way to tokens, which knows what bytes of the caller's text it came from.
#ifndef HONE_TOKENIZER_SPAN_H
#define HONE_TOKENIZER_SPAN_H

#include "base/error.h"

// Byte i stands for [begin[i], end[i]) of the caller's text; without arrays it is its byte
// place + i.
typedef struct Span {
    const char *text;
    size_t length, place;
    const uint32_t *begin, *end;
} Span;

static inline Span hone_span_part(Span span, size_t from, size_t to) {
    span.text += from;
    span.length = to - from;
    span.place += from;
    if (span.begin) {
        span.begin += from;
        span.end += from;
    }
    return span;
}

// Where the bytes [from, to) of a span begin and end in the caller's text; from < to.
static inline uint32_t hone_span_begin(const Span *span, size_t from) {
    return span->begin ? span->begin[from] : (uint32_t)(span->place + from);
}

static inline uint32_t hone_span_end(const Span *span, size_t to) {
    return span->end ? span->end[to - 1] : (uint32_t)(span->place + to);
}

// A text that is being written, with its origins. Zero-initialise to create; `failed` is sticky.
typedef struct MappedText {
    char *data;
    uint32_t *begin, *end;
    size_t length, capacity;
    bool failed;
} MappedText;

// Room for `more` bytes; false: out of memory, or longer than a text may be.
bool hone_mapped_reserve(MappedText *text, size_t more);
void hone_mapped_append(MappedText *text, const char *bytes, size_t length, uint32_t begin,
                        uint32_t end);
// A part of a span as it is.
void hone_mapped_copy(MappedText *text, const Span *span, size_t from, size_t to);
void hone_mapped_free(MappedText *text);
// The whole as a span; HONE_ERROR_MEMORY or HONE_ERROR_UNSUPPORTED when something failed.
hone_status hone_mapped_span(const MappedText *text, Span *span, HoneError *err);

#endif
