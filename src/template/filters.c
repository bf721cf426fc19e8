// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "template/space.h"
#include "template/value.h"

typedef hone_status (*FilterFunction)(Render *render, const Node *node, Value input,
                                      const Value argument[PARAMETER_LIMIT], Value *out);

typedef struct Filter {
    Signature signature;
    FilterFunction run;
} Filter;

// ---- text --------------------------------------------------------------------------------------

static hone_status to_text(Render *render, const Node *node, Value value, Text *text) {
    return hone_value_to_text(render, node, value, text);
}

static hone_status run_string(Render *render, const Node *node, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    out->kind = VALUE_STRING;
    return to_text(render, node, input, &out->text);
}

static hone_status run_safe(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    RETURN_IF_ERROR(run_string(render, node, input, argument, out));
    out->text.safe = true;
    return HONE_OK;
}

static hone_status run_trim(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    Text text;
    RETURN_IF_ERROR(to_text(render, node, input, &text));
    out->kind = VALUE_STRING;
    return hone_text_trim(render, node, text, argument[0], TRIM_BOTH, &out->text);
}

static hone_status change_case(Render *render, const Node *node, Value input, CaseKind kind,
                               Value *out) {
    Text text;
    RETURN_IF_ERROR(to_text(render, node, input, &text));
    out->kind = VALUE_STRING;
    return hone_text_case(render, node, text, kind, &out->text);
}

static hone_status run_upper(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    return change_case(render, node, input, CASE_UPPER, out);
}

static hone_status run_lower(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    return change_case(render, node, input, CASE_LOWER, out);
}

static hone_status run_title(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    return change_case(render, node, input, CASE_WORDS, out);
}

static hone_status run_capitalize(Render *render, const Node *node, Value input,
                                  const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    return change_case(render, node, input, CASE_CAPITAL, out);
}

static hone_status run_replace(Render *render, const Node *node, Value input,
                               const Value argument[PARAMETER_LIMIT], Value *out) {
    Text text, old, with;
    RETURN_IF_ERROR(to_text(render, node, input, &text));
    RETURN_IF_ERROR(to_text(render, node, argument[0], &old));
    RETURN_IF_ERROR(to_text(render, node, argument[1], &with));
    int64_t most = argument[2].kind == VALUE_INTEGER ? argument[2].integer : -1;
    out->kind = VALUE_STRING;
    return hone_text_replace(render, node, text, old, with, most, &out->text);
}

// Every line but the first, and empty ones, further in by `width` spaces or by a string.
static hone_status run_indent(Render *render, const Node *node, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    static const char spaces[] = "                                                                ";
    Text margin = hone_text_of(spaces, 4, NO_ORIGIN), text;
    Builder builder = {0};
    const bool first = hone_value_truth(argument[1]), blank = hone_value_truth(argument[2]);
    RETURN_IF_ERROR(hone_value_defined(render, node, input));
    RETURN_IF_ERROR(to_text(render, node, input, &text));
    if (argument[0].kind == VALUE_STRING)
        margin = argument[0].text;
    else if (argument[0].kind == VALUE_INTEGER && argument[0].integer < (int64_t)sizeof spaces)
        margin.length = argument[0].integer > 0 ? (size_t)argument[0].integer : 0;
    else if (argument[0].kind != VALUE_MISSING)
        return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED,
                                "indent's width is a string or an integer up to 64");
    for (size_t begin = 0; begin <= text.length;) {
        size_t end = hone_text_find(text, hone_text_of("\n", 1, NO_ORIGIN), begin);
        if (end == SIZE_MAX) end = text.length;
        if (begin > 0) RETURN_IF_ERROR(hone_builder_puts(render, node, &builder, "\n", 0));
        if (begin == 0 ? first : blank || end > begin)
            RETURN_IF_ERROR(hone_builder_text(render, node, &builder, margin));
        RETURN_IF_ERROR(
            hone_builder_text(render, node, &builder, hone_text_slice(text, begin, end)));
        begin = end + 1;
    }
    *out = hone_value_text(hone_builder_done(&builder));
    return HONE_OK;
}

static hone_status run_tojson(Render *render, const Node *node, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    Builder builder = {0};
    bool lines = argument[1].kind == VALUE_INTEGER;
    JsonStyle style = {.indent = lines ? argument[1].integer : -1,
                       .item = hone_text_of(lines ? "," : ", ", lines ? 1 : 2, NO_ORIGIN),
                       .key = hone_text_of(": ", 2, NO_ORIGIN),
                       .ascii = hone_value_truth(argument[0])};
    if (lines && style.indent < 0) style.indent = 0;
    if (style.indent > 64 || (!lines && !hone_value_is_missing(argument[1])))
        return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED,
                                "tojson's indent is an integer up to 64");
    const List *pair =
        argument[2].kind == VALUE_TUPLE || argument[2].kind == VALUE_LIST ? argument[2].list : NULL;
    if (pair && pair->count == 2 && pair->items[0].kind == VALUE_STRING &&
        pair->items[1].kind == VALUE_STRING) {
        style.item = pair->items[0].text;
        style.key = pair->items[1].text;
    } else if (!hone_value_is_missing(argument[2])) {
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "tojson's separators are two strings");
    }
    RETURN_IF_ERROR(hone_value_defined(render, node, input));
    RETURN_IF_ERROR(hone_builder_json(render, node, &builder, input, &style, 0));
    *out = hone_value_text(hone_builder_done(&builder));
    return HONE_OK;
}

// ---- numbers -----------------------------------------------------------------------------------

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// The number that a whole string spells in plain decimal; false when it is none.
static bool read_number(Text text, double *number, bool *is_integer) {
    size_t end = hone_space_before(text.data, text.length), begin = 0;
    for (int bytes; (bytes = hone_space_at(text.data + begin, end - begin)) > 0;)
        begin += (size_t)bytes;
    char copy[64], *stop;
    if (begin >= end || end - begin >= sizeof copy) return false;
    memcpy(copy, text.data + begin, end - begin);
    copy[end - begin] = '\0';
    *is_integer = true;
    for (const char *c = copy; *c; c++) {
        bool sign = (*c == '-' || *c == '+') && c == copy;
        if (!is_digit(*c) && !sign) *is_integer = false;
        if (!is_digit(*c) && !strchr("+-.eE", *c)) return false; // no names, no hexadecimal
    }
    *number = strtod(copy, &stop);
    return *stop == '\0';
}

static bool fits_integer(double number) {
    return number >= -0x1p63 && number < 0x1p63;
}

static hone_status run_int(Render *render, const Node *node, Value input,
                           const Value argument[PARAMETER_LIMIT], Value *out) {
    double number = 0;
    bool is_integer = false;
    *out = argument[0].kind == VALUE_MISSING ? hone_value_integer(0) : argument[0];
    RETURN_IF_ERROR(hone_value_defined(render, node, input));
    if (input.kind == VALUE_INTEGER || input.kind == VALUE_BOOLEAN) {
        *out = hone_value_integer(input.integer);
    } else if (input.kind == VALUE_STRING && read_number(input.text, &number, &is_integer)) {
        char *end;
        char copy[64] = {0};
        Text text = input.text;
        RETURN_IF_ERROR(hone_text_trim(render, node, text, hone_value_none(), TRIM_BOTH, &text));
        memcpy(copy, text.data, text.length);
        if (!fits_integer(number))
            return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                    "this number does not fit 64 bits");
        *out = hone_value_integer(is_integer ? strtoll(copy, &end, 10) : (int64_t)number);
    } else if (input.kind == VALUE_FLOAT && fits_integer(input.number)) {
        *out = hone_value_integer((int64_t)input.number);
    }
    return HONE_OK;
}

static hone_status run_float(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out) {
    double number = 0;
    bool is_integer;
    *out = argument[0].kind == VALUE_MISSING ? hone_value_float(0) : argument[0];
    RETURN_IF_ERROR(hone_value_defined(render, node, input));
    if (hone_value_is_number(input))
        *out = hone_value_float(hone_value_number(input));
    else if (input.kind == VALUE_STRING && read_number(input.text, &number, &is_integer))
        *out = hone_value_float(number);
    return HONE_OK;
}

static hone_status run_abs(Render *render, const Node *node, Value input,
                           const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    RETURN_IF_ERROR(hone_value_defined(render, node, input));
    if (!hone_value_is_number(input) || (input.kind != VALUE_FLOAT && input.integer == INT64_MIN))
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s has no absolute value",
                                hone_value_kind(input));
    if (input.kind == VALUE_FLOAT)
        *out = hone_value_float(fabs(input.number));
    else
        *out = hone_value_integer(input.integer < 0 ? -input.integer : input.integer);
    return HONE_OK;
}

// ---- any value ---------------------------------------------------------------------------------

static hone_status run_default(Render *render, const Node *node, Value input,
                               const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)render;
    (void)node;
    bool replaced = input.kind == VALUE_UNDEFINED ||
                    (hone_value_truth(argument[1]) && !hone_value_truth(input));
    *out = !replaced                           ? input
           : argument[0].kind == VALUE_MISSING ? hone_value_string("")
                                               : argument[0];
    return HONE_OK;
}

static hone_status run_length(Render *render, const Node *node, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    int64_t length = 0;
    if (input.kind == VALUE_STRING) {
        RETURN_IF_ERROR(hone_render_charge(render, node, 1 + input.text.length / 16));
        length = hone_text_characters(input.text);
    } else if (input.kind == VALUE_LIST || input.kind == VALUE_TUPLE) {
        length = input.list->count;
    } else if (input.kind == VALUE_DICT) {
        length = input.dict->count;
    } else if (input.kind != VALUE_UNDEFINED) {
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s has no length",
                                hone_value_kind(input));
    }
    *out = hone_value_integer(length);
    return HONE_OK;
}

// ---- lists -------------------------------------------------------------------------------------

static hone_status run_list(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    const List *items;
    List *list;
    RETURN_IF_ERROR(hone_value_items(render, node, input, &items));
    RETURN_IF_ERROR(hone_list_make(render, node, items->count, &list));
    if (items->count) memcpy(list->items, items->items, (size_t)items->count * sizeof *list->items);
    *out = hone_value_list(list, false);
    return hone_list_seal(render, node, list);
}

static hone_status run_reverse(Render *render, const Node *node, Value input,
                               const Value argument[PARAMETER_LIMIT], Value *out) {
    Value backwards[3] = {{.kind = VALUE_MISSING}, {.kind = VALUE_MISSING}, hone_value_integer(-1)};
    const bool is_text = input.kind == VALUE_STRING;
    if (!is_text) RETURN_IF_ERROR(run_list(render, node, input, argument, &input));
    RETURN_IF_ERROR(hone_evaluate_slice(render, node, input, backwards, out));
    if (!is_text) out->kind = VALUE_GENERATOR;
    return HONE_OK;
}

// What map, select and their kin read: nothing is as good as an empty list.
static hone_status items_or_none(Render *render, const Node *node, Value input,
                                 const List **items) {
    if (hone_value_truth(input)) return hone_value_items(render, node, input, items);
    return hone_value_items(render, node, hone_value_undefined((Text){0}), items);
}

static hone_status end_of(Render *render, const Node *node, Value input, bool last, Value *out) {
    const List *items;
    RETURN_IF_ERROR(hone_value_items(render, node, input, &items));
    *out = hone_value_undefined(hone_text_of("an item of an empty list", 24, NO_ORIGIN));
    if (items->count) *out = items->items[last ? items->count - 1 : 0];
    return HONE_OK;
}

static hone_status run_first(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    return end_of(render, node, input, false, out);
}

static hone_status run_last(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    (void)argument;
    return end_of(render, node, input, true, out);
}

static hone_status run_items(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out) {
    List *list;
    (void)argument;
    if (input.kind == VALUE_DICT) {
        RETURN_IF_ERROR(hone_dict_list(render, node, input.dict, 'i', out));
        out->kind = VALUE_GENERATOR;
        return HONE_OK;
    }
    if (input.kind != VALUE_UNDEFINED)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s has no items",
                                hone_value_kind(input));
    RETURN_IF_ERROR(hone_list_make(render, node, 0, &list));
    *out = hone_value_generator(list);
    return HONE_OK;
}

hone_status hone_value_path(Render *render, const Node *node, Value item, Text path, Value *out) {
    *out = item;
    for (size_t at = 0; at <= path.length;) {
        size_t dot = hone_text_find(path, hone_text_of(".", 1, NO_ORIGIN), at);
        if (dot == SIZE_MAX) dot = path.length;
        Text name = hone_text_slice(path, at, dot);
        RETURN_IF_ERROR(hone_evaluate_index(render, node, *out, hone_value_text(name), out));
        at = dot + 1;
    }
    return HONE_OK;
}

static hone_status run_join(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    const List *items;
    Text separator = hone_text_of("", 0, NO_ORIGIN);
    RETURN_IF_ERROR(hone_value_items(render, node, input, &items));
    if (argument[0].kind != VALUE_MISSING)
        RETURN_IF_ERROR(to_text(render, node, argument[0], &separator));
    if (argument[1].kind == VALUE_STRING) {
        List *read;
        RETURN_IF_ERROR(hone_list_make(render, node, items->count, &read));
        for (int64_t i = 0; i < items->count; i++)
            RETURN_IF_ERROR(
                hone_value_path(render, node, items->items[i], argument[1].text, &read->items[i]));
        items = read;
    }
    out->kind = VALUE_STRING;
    return hone_text_join(render, node, items, separator, &out->text);
}

static hone_status run_map(Render *render, const Node *node, Value input,
                           const Value argument[PARAMETER_LIMIT], Value *out) {
    const List *items;
    List *list;
    static const Value none[PARAMETER_LIMIT]; // VALUE_MISSING
    bool by_attribute = argument[1].kind == VALUE_STRING;
    if (by_attribute == (node->test >= 0))
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "filter 'map' needs either attribute= or a filter's name");
    RETURN_IF_ERROR(items_or_none(render, node, input, &items));
    RETURN_IF_ERROR(hone_list_make(render, node, items->count, &list));
    for (int64_t i = 0; i < items->count; i++) {
        Value *item = &list->items[i];
        if (by_attribute)
            RETURN_IF_ERROR(hone_value_path(render, node, items->items[i], argument[1].text, item));
        else
            RETURN_IF_ERROR(
                hone_filter_apply(render, node, node->test, items->items[i], none, item));
        if (item->kind == VALUE_UNDEFINED && argument[2].kind != VALUE_MISSING) *item = argument[2];
    }
    *out = hone_value_generator(list);
    return hone_list_seal(render, node, list);
}

// Items that pass a test (or have truth), themselves or by an attribute of theirs.
static hone_status pick(Render *render, const Node *node, Value input, const Value *attribute,
                        Value operand, bool wanted, Value *out) {
    const List *items;
    List *list;
    if (attribute && attribute->kind != VALUE_STRING)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "an attribute's name is a string");
    RETURN_IF_ERROR(items_or_none(render, node, input, &items));
    RETURN_IF_ERROR(hone_list_make(render, node, 0, &list));
    for (int64_t i = 0; i < items->count; i++) {
        Value value = items->items[i];
        if (attribute)
            RETURN_IF_ERROR(hone_value_path(render, node, value, attribute->text, &value));
        bool passed = hone_value_truth(value);
        if (node->test >= 0)
            RETURN_IF_ERROR(hone_test_run(render, node, node->test, value, operand, &passed));
        if (passed == wanted)
            RETURN_IF_ERROR(hone_list_append(render, node, list, items->items[i]));
    }
    *out = hone_value_generator(list);
    return hone_list_seal(render, node, list);
}

static hone_status run_select(Render *render, const Node *node, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    return pick(render, node, input, NULL, argument[1], true, out);
}

static hone_status run_reject(Render *render, const Node *node, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    return pick(render, node, input, NULL, argument[1], false, out);
}

static hone_status run_selectattr(Render *render, const Node *node, Value input,
                                  const Value argument[PARAMETER_LIMIT], Value *out) {
    return pick(render, node, input, &argument[0], argument[2], true, out);
}

static hone_status run_rejectattr(Render *render, const Node *node, Value input,
                                  const Value argument[PARAMETER_LIMIT], Value *out) {
    return pick(render, node, input, &argument[0], argument[2], false, out);
}

// ---- the table ---------------------------------------------------------------------------------

static const Filter filters[] = {
    {{"trim", {"chars"}, 0}, run_trim},
    {{"upper", {0}, 0}, run_upper},
    {{"lower", {0}, 0}, run_lower},
    {{"title", {0}, 0}, run_title},
    {{"capitalize", {0}, 0}, run_capitalize},
    {{"replace", {"old", "new", "count"}, 2}, run_replace},
    {{"string", {0}, 0}, run_string},
    {{"safe", {0}, 0}, run_safe},
    {{"tojson", {"ensure_ascii", "indent", "separators"}, 0}, run_tojson},
    {{"indent", {"width", "first", "blank"}, 0}, run_indent},
    {{"sort", {"reverse", "case_sensitive", "attribute"}, 0}, hone_filter_sort},
    {{"dictsort", {"case_sensitive", "by", "reverse"}, 0}, hone_filter_dictsort},
    {{"min", {"case_sensitive", "attribute"}, 0}, hone_filter_min},
    {{"max", {"case_sensitive", "attribute"}, 0}, hone_filter_max},
    {{"unique", {"case_sensitive", "attribute"}, 0}, hone_filter_unique},
    {{"int", {"default"}, 0}, run_int},
    {{"float", {"default"}, 0}, run_float},
    {{"abs", {0}, 0}, run_abs},
    {{"default", {"default_value", "boolean"}, 0}, run_default},
    {{"d", {"default_value", "boolean"}, 0}, run_default},
    {{"length", {0}, 0}, run_length},
    {{"count", {0}, 0}, run_length},
    {{"list", {0}, 0}, run_list},
    {{"reverse", {0}, 0}, run_reverse},
    {{"first", {0}, 0}, run_first},
    {{"last", {0}, 0}, run_last},
    {{"items", {0}, 0}, run_items},
    {{"join", {"d", "attribute"}, 0}, run_join},
    {{"map", {"filter", "attribute", "default"}, 0}, run_map},
    {{"select", {"test", "value"}, 0}, run_select},
    {{"reject", {"test", "value"}, 0}, run_reject},
    {{"selectattr", {"attribute", "test", "value"}, 1}, run_selectattr},
    {{"rejectattr", {"attribute", "test", "value"}, 1}, run_rejectattr},
};

int hone_filter_find(const char *name) {
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strcmp(filters[i].signature.name, name) == 0) return (int)i;
    return -1;
}

const Signature *hone_filter_signature(int which) {
    return &filters[which].signature;
}

hone_status hone_filter_apply(Render *render, const Node *node, int which, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    RETURN_IF_ERROR(hone_render_charge(render, node, 1));
    return filters[which].run(render, node, input, argument, out);
}

hone_status hone_filter_run(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    return hone_filter_apply(render, node, node->which, input, argument, out);
}
