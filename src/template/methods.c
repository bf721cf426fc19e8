// SPDX-License-Identifier: Apache-2.0
// Methods of strings, lists and dicts.
#include <string.h>

#include "template/space.h"
#include "template/value.h"

typedef hone_status (*MethodFunction)(Render *render, const Node *node, Value receiver,
                                      const Value argument[PARAMETER_LIMIT], Value *out);

typedef struct Method {
    Signature signature;
    ValueKind receiver; // VALUE_STRING, VALUE_DICT or VALUE_LIST
    MethodFunction run;
} Method;

static hone_status need_string(Render *render, const Node *node, Value value, Text *text) {
    RETURN_IF_ERROR(hone_value_defined(render, node, value));
    if (value.kind != VALUE_STRING)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "method '%s' needs a string, this is a %s", node->text,
                                hone_value_kind(value));
    *text = value.text;
    return HONE_OK;
}

static hone_status need_count(Render *render, const Node *node, Value value, int64_t *count) {
    *count = -1;
    if (hone_value_is_missing(value)) return HONE_OK;
    if (value.kind != VALUE_INTEGER && value.kind != VALUE_BOOLEAN)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "method '%s' needs an integer, this is a %s", node->text,
                                hone_value_kind(value));
    *count = value.integer;
    return HONE_OK;
}

// ---- strings -----------------------------------------------------------------------------------

static hone_status strip(Render *render, const Node *node, Value receiver,
                         const Value argument[PARAMETER_LIMIT], Value *out) {
    TrimSide side = node->text[0] == 'l'   ? TRIM_LEFT
                    : node->text[0] == 'r' ? TRIM_RIGHT
                                           : TRIM_BOTH;
    out->kind = VALUE_STRING;
    return hone_text_trim(render, node, receiver.text, argument[0], side, &out->text);
}

static hone_status change_case(Render *render, const Node *node, Value receiver,
                               const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    CaseKind kind = node->text[0] == 'u'   ? CASE_UPPER
                    : node->text[0] == 'l' ? CASE_LOWER
                    : node->text[0] == 'c' ? CASE_CAPITAL
                                           : CASE_TITLE;
    out->kind = VALUE_STRING;
    return hone_text_case(render, node, receiver.text, kind, &out->text);
}

static hone_status begins_or_ends(Render *render, const Node *node, Value receiver,
                                  const Value argument[PARAMETER_LIMIT], Value *out) {
    bool at_end = node->text[0] == 'e', found = false;
    Text text = receiver.text;
    Value only = argument[0];
    List single = {.items = &only, .count = 1, .depth = 1};
    const List *parts = argument[0].kind == VALUE_TUPLE ? argument[0].list : &single;
    for (int64_t i = 0; i < parts->count && !found; i++) {
        Text part;
        RETURN_IF_ERROR(need_string(render, node, parts->items[i], &part));
        RETURN_IF_ERROR(hone_render_charge(render, node, 1 + part.length / 64));
        if (part.length > text.length) continue;
        size_t at = at_end ? text.length - part.length : 0;
        found = hone_text_equal(hone_text_slice(text, at, at + part.length), part);
    }
    *out = hone_value_boolean(found);
    return HONE_OK;
}

static hone_status replace(Render *render, const Node *node, Value receiver,
                           const Value argument[PARAMETER_LIMIT], Value *out) {
    Text old, with;
    int64_t most;
    RETURN_IF_ERROR(need_string(render, node, argument[0], &old));
    RETURN_IF_ERROR(need_string(render, node, argument[1], &with));
    RETURN_IF_ERROR(need_count(render, node, argument[2], &most));
    out->kind = VALUE_STRING;
    return hone_text_replace(render, node, receiver.text, old, with, most, &out->text);
}

static hone_status join(Render *render, const Node *node, Value receiver,
                        const Value argument[PARAMETER_LIMIT], Value *out) {
    const List *list;
    RETURN_IF_ERROR(hone_value_items(render, node, argument[0], &list));
    for (int64_t i = 0; i < list->count; i++) {
        Text part;
        RETURN_IF_ERROR(need_string(render, node, list->items[i], &part));
    }
    out->kind = VALUE_STRING;
    return hone_text_join(render, node, list, receiver.text, &out->text);
}

static hone_status find(Render *render, const Node *node, Value receiver,
                        const Value argument[PARAMETER_LIMIT], Value *out) {
    Text part, text = receiver.text;
    RETURN_IF_ERROR(need_string(render, node, argument[0], &part));
    RETURN_IF_ERROR(hone_render_charge(render, node, 1 + text.length / 64));
    bool counts = node->text[0] == 'c';
    size_t at = hone_text_find(text, part, 0);
    if (!counts) {
        int64_t index = -1;
        if (at != SIZE_MAX) index = hone_text_characters(hone_text_slice(text, 0, at));
        *out = hone_value_integer(index);
        return HONE_OK;
    }
    int64_t count = part.length == 0 ? hone_text_characters(text) + 1 : 0;
    for (; part.length > 0 && at != SIZE_MAX; count++)
        at = hone_text_find(text, part, at + part.length);
    *out = hone_value_integer(count);
    return HONE_OK;
}

static hone_status remove_affix(Render *render, const Node *node, Value receiver,
                                const Value argument[PARAMETER_LIMIT], Value *out) {
    Text part;
    RETURN_IF_ERROR(need_string(render, node, argument[0], &part));
    bool prefix = strcmp(node->text, "removeprefix") == 0;
    size_t length = receiver.text.length;
    *out = receiver;
    if (part.length > length) return HONE_OK;
    Text head = hone_text_slice(receiver.text, 0, prefix ? part.length : length - part.length);
    Text tail = hone_text_slice(receiver.text, head.length, length);
    if (hone_text_equal(prefix ? head : tail, part)) out->text = prefix ? tail : head;
    return HONE_OK;
}

// ---- split -------------------------------------------------------------------------------------

static hone_status put_piece(Render *render, const Node *node, List *list, Text text, size_t begin,
                             size_t end) {
    return hone_list_append(render, node, list, hone_value_text(hone_text_slice(text, begin, end)));
}

// Between runs of white space, which also goes at both ends; the last piece that `most` allows
// keeps its end.
static hone_status split_words(Render *render, const Node *node, Text text, int64_t most,
                               List *list) {
    for (size_t at = 0;;) {
        for (int bytes; (bytes = hone_space_at(text.data + at, text.length - at)) > 0;)
            at += (size_t)bytes;
        size_t begin = at;
        if (begin >= text.length) return HONE_OK;
        if (most >= 0 && list->count == most) at = text.length;
        while (at < text.length && !hone_space_at(text.data + at, text.length - at))
            at += hone_character(text.data + at, text.length - at);
        RETURN_IF_ERROR(put_piece(render, node, list, text, begin, at));
    }
}

static hone_status split_at(Render *render, const Node *node, Text text, Text separator,
                            int64_t most, List *list) {
    size_t from = 0;
    while (most < 0 || list->count < most) {
        size_t at = hone_text_find(text, separator, from);
        if (at == SIZE_MAX) break;
        RETURN_IF_ERROR(put_piece(render, node, list, text, from, at));
        from = at + separator.length;
    }
    return put_piece(render, node, list, text, from, text.length);
}

// From the right: the pieces are found last first, then turned round.
static hone_status split_at_right(Render *render, const Node *node, Text text, Text separator,
                                  int64_t most, List *list) {
    size_t end = text.length, length = separator.length;
    for (size_t at = end; at >= length && (most < 0 || list->count < most);) {
        if (text.data[at - length] == separator.data[0]) {
            RETURN_IF_ERROR(hone_render_charge(render, node, 1 + length / 64));
            if (memcmp(text.data + at - length, separator.data, length) == 0) {
                RETURN_IF_ERROR(put_piece(render, node, list, text, at, end));
                end = at -= length;
                continue;
            }
        }
        at--;
    }
    RETURN_IF_ERROR(put_piece(render, node, list, text, 0, end));
    for (int64_t i = 0; i < list->count / 2; i++) {
        Value other = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = list->items[i];
        list->items[i] = other;
    }
    return HONE_OK;
}

static hone_status split(Render *render, const Node *node, Value receiver,
                         const Value argument[PARAMETER_LIMIT], Value *out) {
    List *list;
    int64_t most;
    bool words = hone_value_is_missing(argument[0]), right = node->text[0] == 'r';
    Text separator = {0};
    RETURN_IF_ERROR(need_count(render, node, argument[1], &most));
    RETURN_IF_ERROR(hone_list_make(render, node, 0, &list));
    RETURN_IF_ERROR(hone_render_charge(render, node, 1 + receiver.text.length / 64));
    *out = hone_value_list(list, false);
    if (!words) RETURN_IF_ERROR(need_string(render, node, argument[0], &separator));
    if (words && right)
        return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED,
                                "method 'rsplit' without a separator is not supported");
    if (!words && separator.length == 0)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "the separator is empty");
    if (words) return split_words(render, node, receiver.text, most, list);
    if (right) return split_at_right(render, node, receiver.text, separator, most, list);
    return split_at(render, node, receiver.text, separator, most, list);
}

// ---- format ------------------------------------------------------------------------------------

// {} and {0}, {{ and }}: no names, widths or conversions.
static hone_status format(Render *render, const Node *node, Value receiver,
                          const Value argument[PARAMETER_LIMIT], Value *out) {
    const Text text = receiver.text;
    Builder builder = {0};
    int next = 0;
    for (size_t at = 0; at < text.length;) {
        size_t begin = at;
        while (at < text.length && text.data[at] != '{' && text.data[at] != '}') at++;
        RETURN_IF_ERROR(
            hone_builder_text(render, node, &builder, hone_text_slice(text, begin, at)));
        if (at == text.length) break;
        if (at + 1 < text.length && text.data[at + 1] == text.data[at]) {
            RETURN_IF_ERROR(
                hone_builder_text(render, node, &builder, hone_text_slice(text, at, at + 1)));
            at += 2;
            continue;
        }
        const char digit = at + 1 < text.length ? text.data[at + 1] : '\0';
        const bool numbered = digit >= '0' && digit < '0' + PARAMETER_LIMIT;
        const size_t close = at + 1 + numbered;
        const int which = numbered ? digit - '0' : next++;
        if (text.data[at] == '}' || close >= text.length || text.data[close] != '}')
            return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED,
                                    "method 'format' has {} and {0} to {%d} only",
                                    PARAMETER_LIMIT - 1);
        if (which >= PARAMETER_LIMIT || argument[which].kind == VALUE_MISSING)
            return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                    "method 'format' has no argument for {%d}", which);
        RETURN_IF_ERROR(hone_builder_value(render, node, &builder, argument[which]));
        at = close + 1;
    }
    *out = hone_value_text(hone_builder_done(&builder));
    return HONE_OK;
}

// ---- dicts -------------------------------------------------------------------------------------

static hone_status get(Render *render, const Node *node, Value receiver,
                       const Value argument[PARAMETER_LIMIT], Value *out) {
    RETURN_IF_ERROR(hone_dict_find(render, node, receiver.dict, argument[0], out));
    if (out->kind == VALUE_MISSING)
        *out = argument[1].kind == VALUE_MISSING ? hone_value_none() : argument[1];
    return HONE_OK;
}

static hone_status items(Render *render, const Node *node, Value receiver,
                         const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    return hone_dict_list(render, node, receiver.dict, node->text[0], out);
}

// ---- what the sandbox refuses -----------------------------------------------------------------

static hone_status change(Render *render, const Node *node, Value receiver,
                          const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument, (void)out;
    return hone_render_fail(render, node, HONE_ERROR_INPUT,
                            "'%s' would change a %s: templates run in a sandbox that refuses it",
                            node->text, hone_value_kind(receiver));
}

// ---- the table ---------------------------------------------------------------------------------

static const Method methods[] = {
    {{"strip", {"chars"}, 0}, VALUE_STRING, strip},
    {{"lstrip", {"chars"}, 0}, VALUE_STRING, strip},
    {{"rstrip", {"chars"}, 0}, VALUE_STRING, strip},
    {{"upper", {0}, 0}, VALUE_STRING, change_case},
    {{"lower", {0}, 0}, VALUE_STRING, change_case},
    {{"title", {0}, 0}, VALUE_STRING, change_case},
    {{"capitalize", {0}, 0}, VALUE_STRING, change_case},
    {{"startswith", {"prefix"}, 1}, VALUE_STRING, begins_or_ends},
    {{"endswith", {"suffix"}, 1}, VALUE_STRING, begins_or_ends},
    {{"replace", {"old", "new", "count"}, 2}, VALUE_STRING, replace},
    {{"join", {"iterable"}, 1}, VALUE_STRING, join},
    {{"split", {"sep", "maxsplit"}, 0}, VALUE_STRING, split},
    {{"rsplit", {"sep", "maxsplit"}, 0}, VALUE_STRING, split},
    {{"find", {"sub"}, 1}, VALUE_STRING, find},
    {{"count", {"sub"}, 1}, VALUE_STRING, find},
    {{"removeprefix", {"prefix"}, 1}, VALUE_STRING, remove_affix},
    {{"removesuffix", {"suffix"}, 1}, VALUE_STRING, remove_affix},
    {{"format", {"first", "second", "third", "fourth"}, 0}, VALUE_STRING, format},
    {{"append", {"object"}, 1}, VALUE_LIST, change},
    {{"extend", {"iterable"}, 1}, VALUE_LIST, change},
    {{"insert", {"index", "object"}, 2}, VALUE_LIST, change},
    {{"remove", {"value"}, 1}, VALUE_LIST, change},
    {{"pop", {"index"}, 0}, VALUE_LIST, change},
    {{"update", {"other"}, 1}, VALUE_DICT, change},
    {{"get", {"key", "default"}, 1}, VALUE_DICT, get},
    {{"items", {0}, 0}, VALUE_DICT, items},
    {{"keys", {0}, 0}, VALUE_DICT, items},
    {{"values", {0}, 0}, VALUE_DICT, items},
};

int hone_method_find(const char *name) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i].signature.name, name) == 0) return (int)i;
    return -1;
}

const Signature *hone_method_signature(int which) {
    return &methods[which].signature;
}

bool hone_method_is_of(int which, ValueKind receiver) {
    return which >= 0 && methods[which].receiver == receiver;
}

hone_status hone_method_run(Render *render, const Node *node, Value receiver,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    const Method *method = &methods[node->which];
    RETURN_IF_ERROR(hone_value_defined(render, node, receiver));
    if (receiver.kind != method->receiver)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s has no method '%s'",
                                hone_value_kind(receiver), node->text);
    return method->run(render, node, receiver, argument, out);
}
