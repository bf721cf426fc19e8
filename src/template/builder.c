// SPDX-License-Identifier: Apache-2.0
// Text being put together, and values as text the way Python spells them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "template/space.h"
#include "template/value.h"

Text hone_text_of(const char *data, size_t length, int32_t from) {
    return (Text){.data = data, .length = length, .from = from};
}

Text hone_text_slice(Text text, size_t begin, size_t end) {
    return (Text){.data = text.data + begin,
                  .length = end - begin,
                  .origin = text.origin ? text.origin + begin : NULL,
                  .from = text.from};
}

int32_t hone_text_origin(Text text, size_t at) {
    return text.origin ? text.origin[at] : text.from;
}

int64_t hone_text_characters(Text text) {
    int64_t count = 0;
    for (size_t at = 0; at < text.length; count++)
        at += hone_character(text.data + at, text.length - at);
    return count;
}

// ---- builder -----------------------------------------------------------------------------------

static hone_status grow(Render *render, const Node *node, Builder *builder, size_t need) {
    size_t capacity = builder->capacity ? builder->capacity * 2 : 64;
    if (capacity < need) capacity = need;
    char *data = hone_render_alloc(render, node, capacity);
    if (!data) return render->err->status;
    if (builder->length) memcpy(data, builder->data, builder->length);
    if (builder->origin) {
        int32_t *origin = hone_render_alloc(render, node, capacity * sizeof *origin);
        if (!origin) return render->err->status;
        memcpy(origin, builder->origin, builder->length * sizeof *origin);
        builder->origin = origin;
    }
    builder->data = data;
    builder->capacity = capacity;
    return HONE_OK;
}

// From here on each byte has an origin of its own.
static hone_status split_origin(Render *render, const Node *node, Builder *builder) {
    builder->origin = hone_render_alloc(render, node, builder->capacity * sizeof *builder->origin);
    if (!builder->origin) return render->err->status;
    for (size_t i = 0; i < builder->length; i++) builder->origin[i] = builder->from;
    return HONE_OK;
}

hone_status hone_builder_text(Render *render, const Node *node, Builder *builder, Text text) {
    if (text.length == 0) return HONE_OK;
    RETURN_IF_ERROR(hone_render_charge(render, node, 1 + text.length / 64));
    if (text.length > OUTPUT_LIMIT - builder->length)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "the template makes more than %d MiB of text",
                                (int)OUTPUT_LIMIT >> 20);
    size_t need = builder->length + text.length;
    if (need > builder->capacity) RETURN_IF_ERROR(grow(render, node, builder, need));
    if (builder->length == 0 && !text.origin) builder->from = text.from;
    if (!builder->origin && (text.origin || text.from != builder->from))
        RETURN_IF_ERROR(split_origin(render, node, builder));
    memcpy(builder->data + builder->length, text.data, text.length);
    for (size_t i = 0; builder->origin && i < text.length; i++)
        builder->origin[builder->length + i] = hone_text_origin(text, i);
    builder->length = need;
    return HONE_OK;
}

hone_status hone_builder_puts(Render *render, const Node *node, Builder *builder,
                              const char *string, int32_t owner) {
    return hone_builder_text(render, node, builder,
                             hone_text_of(string, strlen(string), owner - 1));
}

Text hone_builder_done(const Builder *builder) {
    return (Text){.data = builder->data ? builder->data : "",
                  .length = builder->length,
                  .origin = builder->origin,
                  .from = builder->length ? builder->from : NO_ORIGIN};
}

// ---- values as text ----------------------------------------------------------------------------

// The shortest digits that read back as the same number; an exponent outside 1e-4 … 1e16.
static void spell_float(double number, char out[40]) {
    if (number != number || number - number != 0) {
        snprintf(out, 40, "%s", number != number ? "nan" : number < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 1;
    char digits[40];
    for (; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision - 1, number);
        double back = strtod(digits, NULL);
        if (back <= number && back >= number) break;
    }
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - 1 - exponent;
        snprintf(out, 40, "%.*f", decimals > 1 ? decimals : 1, number);
        return;
    }
    char *mark = strchr(digits, 'e');
    snprintf(out, 40, "%.*se%c%02d", (int)(mark - digits), digits, exponent < 0 ? '-' : '+',
             abs(exponent));
}

// Characters that repr() escapes: controls, separators, formats, private use, surrogates.
static bool needs_escape(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code <= 0xa0) || code == 0xad || code == 0x1680 ||
           code == 0x180e || (code >= 0x2000 && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202f) || (code >= 0x205f && code <= 0x206f) ||
           code == 0x3000 || (code >= 0xe000 && code <= 0xf8ff) || code == 0xfeff ||
           (code >= 0xfff0 && code <= 0xfffb) || (code & 0xfffe) == 0xfffe || code >= 0xe0000;
}

static hone_status put_escape(Render *render, const Node *node, Builder *builder, uint32_t code,
                              int32_t from) {
    char out[16];
    int length;
    if (code == '\n' || code == '\r' || code == '\t')
        length = snprintf(out, sizeof out, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
    else if (code < 0x100)
        length = snprintf(out, sizeof out, "\\x%02x", (unsigned)code);
    else
        length = snprintf(out, sizeof out, code < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)code);
    return hone_builder_text(render, node, builder, hone_text_of(out, (size_t)length, from));
}

static hone_status put_quoted(Render *render, const Node *node, Builder *builder, Text text,
                              int32_t owner) {
    bool has_single = text.length && memchr(text.data, '\'', text.length);
    bool has_double = text.length && memchr(text.data, '"', text.length);
    const char *quote = has_single && !has_double ? "\"" : "'";
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, quote, owner));
    for (size_t at = 0; at < text.length;) {
        uint32_t code = 0;
        size_t bytes = hone_character(text.data + at, text.length - at);
        if (!hone_utf8_decode(text.data + at, bytes, &code)) code = 0xfffd;
        int32_t from = hone_text_origin(text, at);
        if (code == '\\' || code == (uint32_t)*quote)
            RETURN_IF_ERROR(hone_builder_text(render, node, builder, hone_text_of("\\", 1, from)));
        if (needs_escape(code))
            RETURN_IF_ERROR(put_escape(render, node, builder, code, from));
        else
            RETURN_IF_ERROR(
                hone_builder_text(render, node, builder, hone_text_slice(text, at, at + bytes)));
        at += bytes;
    }
    return hone_builder_puts(render, node, builder, quote, owner);
}

static hone_status put_repr(Render *render, const Node *node, Builder *builder, Value value) {
    if (value.kind == VALUE_STRING)
        return put_quoted(render, node, builder, value.text, value.owner);
    if (value.kind == VALUE_UNDEFINED)
        return hone_builder_puts(render, node, builder, "Undefined", 0);
    return hone_builder_value(render, node, builder, value);
}

static hone_status put_list(Render *render, const Node *node, Builder *builder, Value value) {
    const List *list = value.list;
    const bool tuple = value.kind == VALUE_TUPLE;
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, tuple ? "(" : "[", value.owner));
    for (int64_t i = 0; i < list->count; i++) {
        if (i > 0) RETURN_IF_ERROR(hone_builder_puts(render, node, builder, ", ", value.owner));
        RETURN_IF_ERROR(put_repr(render, node, builder, list->items[i]));
    }
    if (tuple && list->count == 1)
        RETURN_IF_ERROR(hone_builder_puts(render, node, builder, ",", value.owner));
    return hone_builder_puts(render, node, builder, tuple ? ")" : "]", value.owner);
}

static hone_status put_dict(Render *render, const Node *node, Builder *builder, Value value) {
    const Dict *dict = value.dict;
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, "{", value.owner));
    for (int64_t i = 0; i < dict->count; i++) {
        if (i > 0) RETURN_IF_ERROR(hone_builder_puts(render, node, builder, ", ", value.owner));
        RETURN_IF_ERROR(put_repr(render, node, builder, dict->entries[i].key));
        RETURN_IF_ERROR(hone_builder_puts(render, node, builder, ": ", value.owner));
        RETURN_IF_ERROR(put_repr(render, node, builder, dict->entries[i].value));
    }
    return hone_builder_puts(render, node, builder, "}", value.owner);
}

hone_status hone_builder_value(Render *render, const Node *node, Builder *builder, Value value) {
    char number[40];
    switch (value.kind) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
        return HONE_OK;
    case VALUE_NONE:
        return hone_builder_puts(render, node, builder, "None", value.owner);
    case VALUE_BOOLEAN:
        return hone_builder_puts(render, node, builder, value.integer ? "True" : "False",
                                 value.owner);
    case VALUE_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)value.integer);
        return hone_builder_puts(render, node, builder, number, value.owner);
    case VALUE_FLOAT:
        spell_float(value.number, number);
        return hone_builder_puts(render, node, builder, number, value.owner);
    case VALUE_STRING:
        return hone_builder_text(render, node, builder, value.text);
    case VALUE_LIST:
    case VALUE_TUPLE:
        return put_list(render, node, builder, value);
    case VALUE_DICT:
        return put_dict(render, node, builder, value);
    case VALUE_GENERATOR:
    case VALUE_NAMESPACE:
    case VALUE_LOOP:
    case VALUE_FUNCTION:
    case VALUE_MACRO:
        break;
    }
    return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s cannot be printed",
                            hone_value_kind(value));
}

hone_status hone_value_to_text(Render *render, const Node *node, Value value, Text *text) {
    if (value.kind == VALUE_STRING) {
        *text = value.text;
        return HONE_OK;
    }
    Builder builder = {0};
    RETURN_IF_ERROR(hone_builder_value(render, node, &builder, value));
    *text = hone_builder_done(&builder);
    return HONE_OK;
}
