// SPDX-License-Identifier: Apache-2.0
// Unicode's normalisation forms (UAX 15), with the place that each character came from: characters
// are decomposed one by one, marks are put in their order, and what composes is one stretch.
#include <stdlib.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/text.h"
#include "tokenizer/change.h"

typedef struct Placed {
    utf8proc_int32_t c;
    uint32_t begin, end;
    int class; // canonical combining class; 0: a starter
    size_t order;
} Placed;

typedef struct Stretch {
    Placed *items;
    size_t count, capacity;
    utf8proc_int32_t starter; // what all of it composes to, if all are starters; else -1
} Stretch;

static hone_status add(Stretch *stretch, Placed item, HoneError *err) {
    if (stretch->count == stretch->capacity) {
        size_t old = stretch->capacity * sizeof item, bytes = old ? old * 2 : 64 * sizeof item;
        Placed *larger = hone_realloc(stretch->items, old, bytes);
        if (!larger) return hone_fail_memory(err, bytes, "a text that is normalised");
        stretch->items = larger;
        stretch->capacity = bytes / sizeof item;
    }
    stretch->items[stretch->count++] = item;
    return HONE_OK;
}

static void write_character(Change *change, Placed item) {
    char bytes[4];
    int length = hone_utf8_encode((uint32_t)item.c, bytes);
    hone_mapped_append(&change->out, bytes, (size_t)length, item.begin, item.end);
}

// The one character that two compose to; -1: none.
static utf8proc_int32_t composed(utf8proc_int32_t first, utf8proc_int32_t second) {
    utf8proc_int32_t pair[3] = {first, second};
    utf8proc_ssize_t count = utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return count == 1 ? pair[0] : -1;
}

// A mark composes with the starter unless one of its class or a higher one stands between; a
// starter, when nothing does.
static void compose(Stretch *stretch) {
    size_t kept = 0, starter = SIZE_MAX;
    int last = -1; // the highest class that stands between; -1: nothing does
    for (size_t i = 0; i < stretch->count; i++) {
        Placed item = stretch->items[i];
        bool near = starter != SIZE_MAX && last < item.class;
        utf8proc_int32_t c = near ? composed(stretch->items[starter].c, item.c) : -1;
        if (c >= 0) {
            Placed *into = &stretch->items[starter];
            into->c = c;
            if (item.begin < into->begin) into->begin = item.begin;
            if (item.end > into->end) into->end = item.end;
            continue;
        }
        stretch->items[kept] = item;
        if (item.class == 0) {
            starter = kept;
            last = -1;
        } else {
            last = item.class;
        }
        kept++;
    }
    stretch->count = kept;
}

static int by_class(const void *left, const void *right) {
    const Placed *a = left, *b = right;
    if (a->class != b->class) return a->class < b->class ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

static void sort_marks(Stretch *stretch) {
    for (size_t begin = 0, end; begin < stretch->count; begin = end + 1) {
        for (end = begin; end < stretch->count && stretch->items[end].class; end++)
            stretch->items[end].order = end;
        if (end - begin > 1)
            qsort(stretch->items + begin, end - begin, sizeof *stretch->items, by_class);
    }
}

static void write_stretch(Change *change, Stretch *stretch) {
    sort_marks(stretch);
    if (change->compose) compose(stretch);
    for (size_t i = 0; i < stretch->count; i++) write_character(change, stretch->items[i]);
    stretch->count = 0;
}

// Before a starter that cannot compose with what stands before it a stretch ends.
static hone_status add_part(Change *change, Stretch *stretch, Placed item, HoneError *err) {
    utf8proc_int32_t starter = -1;
    if (item.class == 0 && stretch->count > 0) {
        if (change->compose && item.c >= 0x300 && stretch->starter >= 0)
            starter = composed(stretch->starter, item.c);
        if (starter < 0) write_stretch(change, stretch);
    }
    if (item.class == 0 && stretch->count == 0) starter = item.c;
    stretch->starter = starter;
    return add(stretch, item, err);
}

static hone_status add_character(Change *change, Stretch *stretch, uint32_t c, uint32_t begin,
                                 uint32_t end, HoneError *err) {
    utf8proc_int32_t parts[32];
    int last = 0;
    utf8proc_option_t options = UTF8PROC_DECOMPOSE | (change->compatible ? UTF8PROC_COMPAT : 0);
    utf8proc_ssize_t count =
        utf8proc_decompose_char((utf8proc_int32_t)c, parts, 32, options, &last);
    if (count < 0 || count > 32) {
        parts[0] = (utf8proc_int32_t)c;
        count = 1;
    }
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        int class = utf8proc_get_property(parts[i])->combining_class;
        RETURN_IF_ERROR(add_part(change, stretch, (Placed){parts[i], begin, end, class, 0}, err));
    }
    return HONE_OK;
}

hone_status hone_change_form(Change *change, const Span *span, HoneError *err) {
    Stretch stretch = {0};
    hone_status status = HONE_OK;
    for (size_t i = 0; status == HONE_OK && i < span->length;) {
        size_t plain = i; // characters of one byte that nothing follows but such
        while (plain + 1 < span->length && (unsigned char)span->text[plain] < 0x80 &&
               (unsigned char)span->text[plain + 1] < 0x80)
            plain++;
        if (plain > i) {
            write_stretch(change, &stretch);
            hone_mapped_copy(&change->out, span, i, plain);
            i = plain;
        }
        uint32_t c;
        int length = hone_utf8_decode(span->text + i, span->length - i, &c);
        size_t used = length ? (size_t)length : 1;
        if (length) {
            status = add_character(change, &stretch, c, hone_span_begin(span, i),
                                   hone_span_end(span, i + used), err);
        } else {
            write_stretch(change, &stretch);
            hone_mapped_copy(&change->out, span, i, i + 1);
        }
        i += used;
    }
    if (status == HONE_OK) write_stretch(change, &stretch);
    hone_free(stretch.items);
    return status;
}
