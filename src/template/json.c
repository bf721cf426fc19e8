// SPDX-License-Identifier: Apache-2.0
// The filter tojson, as transformers defines it: Python's json.dumps(value, ensure_ascii=False).
#include <stdio.h>

#include "template/space.h"
#include "template/value.h"

static hone_status put_unicode_escape(Render *render, const Node *node, Builder *builder,
                                      uint32_t code, int32_t from) {
    char out[16];
    int length;
    if (code < 0x10000)
        length = snprintf(out, sizeof out, "\\u%04x", (unsigned)code);
    else
        length = snprintf(out, sizeof out, "\\u%04x\\u%04x",
                          (unsigned)(0xd800 + ((code - 0x10000) >> 10)),
                          (unsigned)(0xdc00 + ((code - 0x10000) & 0x3ff)));
    return hone_builder_text(render, node, builder, hone_text_of(out, (size_t)length, from));
}

static hone_status put_string(Render *render, const Node *node, Builder *builder, Text text,
                              bool ascii, int32_t owner) {
    static const char *const short_escapes[0x20] = {
        ['\b'] = "\\b", ['\f'] = "\\f", ['\n'] = "\\n", ['\r'] = "\\r", ['\t'] = "\\t",
    };
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, "\"", owner));
    for (size_t at = 0; at < text.length;) {
        size_t bytes = hone_character(text.data + at, text.length - at);
        int32_t from = hone_text_origin(text, at);
        uint32_t code = 0;
        if (!hone_utf8_decode(text.data + at, bytes, &code)) code = 0xfffd;
        if (code == '"' || code == '\\') {
            const char *out = code == '"' ? "\\\"" : "\\\\";
            RETURN_IF_ERROR(hone_builder_text(render, node, builder, hone_text_of(out, 2, from)));
        } else if (code < 0x20 && short_escapes[code]) {
            RETURN_IF_ERROR(hone_builder_text(render, node, builder,
                                              hone_text_of(short_escapes[code], 2, from)));
        } else if (code < 0x20 || (ascii && code > 0x7e)) {
            RETURN_IF_ERROR(put_unicode_escape(render, node, builder, code, from));
        } else {
            RETURN_IF_ERROR(
                hone_builder_text(render, node, builder, hone_text_slice(text, at, at + bytes)));
        }
        at += bytes;
    }
    return hone_builder_puts(render, node, builder, "\"", owner);
}

static hone_status put_line(Render *render, const Node *node, Builder *builder,
                            const JsonStyle *style, int level, int32_t owner) {
    if (style->indent < 0) return HONE_OK;
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, "\n", owner));
    for (int64_t i = 0; i < style->indent * level; i++)
        RETURN_IF_ERROR(hone_builder_puts(render, node, builder, " ", owner));
    return HONE_OK;
}

// A key that is not a string is spelled as one.
static hone_status put_key(Render *render, const Node *node, Builder *builder, Value key,
                           const JsonStyle *style) {
    const int32_t owner = key.owner;
    if (key.kind == VALUE_STRING)
        return put_string(render, node, builder, key.text, style->ascii, owner);
    if (key.kind != VALUE_NONE && !hone_value_is_number(key))
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s cannot be a key in JSON",
                                hone_value_kind(key));
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, "\"", owner));
    RETURN_IF_ERROR(hone_builder_json(render, node, builder, key, style, 0));
    return hone_builder_puts(render, node, builder, "\"", owner);
}

static Text owned(Text separator, int32_t owner) {
    return hone_text_of(separator.data, separator.length, owner - 1);
}

static hone_status put_array(Render *render, const Node *node, Builder *builder, Value value,
                             const JsonStyle *style, int level) {
    const List *list = value.list;
    const int32_t owner = value.owner;
    if (list->count == 0) return hone_builder_puts(render, node, builder, "[]", owner);
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, "[", owner));
    for (int64_t i = 0; i < list->count; i++) {
        if (i > 0)
            RETURN_IF_ERROR(hone_builder_text(render, node, builder, owned(style->item, owner)));
        RETURN_IF_ERROR(put_line(render, node, builder, style, level + 1, owner));
        RETURN_IF_ERROR(hone_builder_json(render, node, builder, list->items[i], style, level + 1));
    }
    RETURN_IF_ERROR(put_line(render, node, builder, style, level, owner));
    return hone_builder_puts(render, node, builder, "]", owner);
}

static hone_status put_object(Render *render, const Node *node, Builder *builder, Value value,
                              const JsonStyle *style, int level) {
    const Dict *dict = value.dict;
    const int32_t owner = value.owner;
    if (dict->count == 0) return hone_builder_puts(render, node, builder, "{}", owner);
    RETURN_IF_ERROR(hone_builder_puts(render, node, builder, "{", owner));
    for (int64_t i = 0; i < dict->count; i++) {
        if (i > 0)
            RETURN_IF_ERROR(hone_builder_text(render, node, builder, owned(style->item, owner)));
        RETURN_IF_ERROR(put_line(render, node, builder, style, level + 1, owner));
        RETURN_IF_ERROR(put_key(render, node, builder, dict->entries[i].key, style));
        RETURN_IF_ERROR(hone_builder_text(render, node, builder, owned(style->key, owner)));
        RETURN_IF_ERROR(
            hone_builder_json(render, node, builder, dict->entries[i].value, style, level + 1));
    }
    RETURN_IF_ERROR(put_line(render, node, builder, style, level, owner));
    return hone_builder_puts(render, node, builder, "}", owner);
}

hone_status hone_builder_json(Render *render, const Node *node, Builder *builder, Value value,
                              const JsonStyle *style, int level) {
    switch (value.kind) {
    case VALUE_NONE:
        return hone_builder_puts(render, node, builder, "null", value.owner);
    case VALUE_BOOLEAN:
        return hone_builder_puts(render, node, builder, value.integer ? "true" : "false",
                                 value.owner);
    case VALUE_INTEGER:
        return hone_builder_value(render, node, builder, value);
    case VALUE_FLOAT:
        if (value.number != value.number)
            return hone_builder_puts(render, node, builder, "NaN", value.owner);
        if (value.number - value.number != 0)
            return hone_builder_puts(render, node, builder,
                                     value.number < 0 ? "-Infinity" : "Infinity", value.owner);
        return hone_builder_value(render, node, builder, value);
    case VALUE_STRING:
        return put_string(render, node, builder, value.text, style->ascii, value.owner);
    case VALUE_LIST:
    case VALUE_TUPLE:
        return put_array(render, node, builder, value, style, level);
    case VALUE_DICT:
        return put_object(render, node, builder, value, style, level);
    default:
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "JSON cannot hold a value that is %s", hone_value_kind(value));
    }
}
