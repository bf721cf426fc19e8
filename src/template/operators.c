// SPDX-License-Identifier: Apache-2.0
// Operators, indices, slices and attributes, with Python's meaning.
#include <math.h>
#include <string.h>

#include "template/space.h"
#include "template/value.h"

static hone_status wrong_operands(Render *render, const Node *node, const char *sign, Value left,
                                  Value right) {
    RETURN_IF_ERROR(hone_value_defined(render, node, left));
    RETURN_IF_ERROR(hone_value_defined(render, node, right));
    return hone_render_fail(render, node, HONE_ERROR_INPUT, "'%s' does not work between %s and %s",
                            sign, hone_value_kind(left), hone_value_kind(right));
}

// ---- arithmetic --------------------------------------------------------------------------------

// Python rounds the quotient down, so that the remainder has the divisor's sign.
static bool divide_integers(int64_t left, int64_t right, int64_t *quotient, int64_t *remainder) {
    if (right == -1) {
        *remainder = 0;
        return !__builtin_sub_overflow((int64_t)0, left, quotient);
    }
    *quotient = left / right;
    *remainder = left % right;
    if (*remainder != 0 && (*remainder < 0) != (right < 0)) {
        *remainder += right;
        *quotient -= 1;
    }
    return true;
}

static hone_status integers(Render *render, const Node *node, int64_t left, int64_t right,
                            Value *out) {
    int64_t result = 0, other = 0;
    bool fits = true;
    switch (node->which) {
    case OP_ADD:
        fits = !__builtin_add_overflow(left, right, &result);
        break;
    case OP_SUBTRACT:
        fits = !__builtin_sub_overflow(left, right, &result);
        break;
    case OP_MULTIPLY:
        fits = !__builtin_mul_overflow(left, right, &result);
        break;
    case OP_FLOOR_DIVIDE:
        fits = divide_integers(left, right, &result, &other);
        break;
    default:
        fits = divide_integers(left, right, &other, &result) || right == -1;
        break;
    }
    if (!fits)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "the result does not fit 64 bits");
    *out = hone_value_integer(result);
    return HONE_OK;
}

static double floats(int which, double left, double right) {
    switch (which) {
    case OP_ADD:
        return left + right;
    case OP_SUBTRACT:
        return left - right;
    case OP_MULTIPLY:
        return left * right;
    case OP_DIVIDE:
        return left / right;
    case OP_FLOOR_DIVIDE:
        return floor(left / right);
    default:
        return left - right * floor(left / right);
    }
}

static hone_status arithmetic(Render *render, const Node *node, Value left, Value right,
                              Value *out) {
    bool divides =
        node->which == OP_DIVIDE || node->which == OP_FLOOR_DIVIDE || node->which == OP_REMAINDER;
    if (divides && !hone_value_truth(right))
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "division by zero");
    if (left.kind != VALUE_FLOAT && right.kind != VALUE_FLOAT && node->which != OP_DIVIDE)
        return integers(render, node, left.integer, right.integer, out);
    *out = hone_value_float(floats(node->which, hone_value_number(left), hone_value_number(right)));
    return HONE_OK;
}

static hone_status add_lists(Render *render, const Node *node, Value left, Value right,
                             Value *out) {
    List *list;
    int64_t first = left.list->count;
    RETURN_IF_ERROR(hone_list_make(render, node, first + right.list->count, &list));
    for (int64_t i = 0; i < list->count; i++)
        list->items[i] = i < first ? left.list->items[i] : right.list->items[i - first];
    *out = hone_value_list(list, left.kind == VALUE_TUPLE);
    return hone_list_seal(render, node, list);
}

static bool is_safe(Value value) {
    return value.kind == VALUE_STRING && value.text.safe;
}

static hone_status put_escaped(Render *render, const Node *node, Builder *builder, Value value) {
    static const char *const escapes[128] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&#34;", ['\''] = "&#39;"};
    Text text;
    RETURN_IF_ERROR(hone_value_to_text(render, node, value, &text));
    for (size_t begin = 0, at = 0; at <= text.length; at++) {
        const unsigned char c = at < text.length ? (unsigned char)text.data[at] : 0;
        const char *escape = c < 128 ? escapes[c] : NULL;
        if (at < text.length && !escape) continue;
        RETURN_IF_ERROR(hone_builder_text(render, node, builder, hone_text_slice(text, begin, at)));
        begin = at + 1;
        if (!escape) continue;
        const int32_t from = hone_text_origin(text, at);
        RETURN_IF_ERROR(
            hone_builder_text(render, node, builder, hone_text_of(escape, strlen(escape), from)));
    }
    return HONE_OK;
}

static hone_status concatenate(Render *render, const Node *node, Value left, Value right,
                               Value *out) {
    Builder builder = {0};
    const Value part[2] = {left, right};
    const bool safe = node->which == OP_ADD && (is_safe(left) || is_safe(right));
    for (int i = 0; i < 2; i++)
        RETURN_IF_ERROR((safe && !is_safe(part[i]) ? put_escaped : hone_builder_value)(
            render, node, &builder, part[i]));
    *out = hone_value_text(hone_builder_done(&builder));
    out->text.safe = safe;
    return HONE_OK;
}

static hone_status repeat(Render *render, const Node *node, Text text, int64_t count, Value *out) {
    Builder builder = {0};
    for (int64_t i = 0; text.length > 0 && i < count; i++)
        RETURN_IF_ERROR(hone_builder_text(render, node, &builder, text));
    *out = hone_value_text(hone_builder_done(&builder));
    return HONE_OK;
}

hone_status hone_evaluate_binary(Render *render, const Node *node, Value left, Value right,
                                 Value *out) {
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "~"};
    bool strings = left.kind == VALUE_STRING && right.kind == VALUE_STRING;
    if (node->which == OP_CONCATENATE) return concatenate(render, node, left, right, out);
    if (hone_value_is_number(left) && hone_value_is_number(right))
        return arithmetic(render, node, left, right, out);
    if (node->which == OP_ADD && strings) return concatenate(render, node, left, right, out);
    if (node->which == OP_ADD && left.kind == right.kind &&
        (left.kind == VALUE_LIST || left.kind == VALUE_TUPLE))
        return add_lists(render, node, left, right, out);
    if (node->which == OP_MULTIPLY && left.kind == VALUE_STRING && right.kind == VALUE_INTEGER)
        return repeat(render, node, left.text, right.integer, out);
    if (node->which == OP_MULTIPLY && left.kind == VALUE_INTEGER && right.kind == VALUE_STRING)
        return repeat(render, node, right.text, left.integer, out);
    if (node->which == OP_REMAINDER && left.kind == VALUE_STRING)
        return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED,
                                "formatting a string with %% is not supported");
    return wrong_operands(render, node, signs[node->which], left, right);
}

// ---- comparison --------------------------------------------------------------------------------

static hone_status contains(Render *render, const Node *node, Value part, Value whole,
                            bool *result) {
    *result = false;
    if (whole.kind == VALUE_UNDEFINED) return HONE_OK;
    if (whole.kind == VALUE_STRING && part.kind == VALUE_STRING) {
        RETURN_IF_ERROR(hone_render_charge(render, node, 1 + whole.text.length / 64));
        *result = hone_text_find(whole.text, part.text, 0) != SIZE_MAX;
        return HONE_OK;
    }
    if (whole.kind == VALUE_DICT) {
        Value found;
        RETURN_IF_ERROR(hone_dict_find(render, node, whole.dict, part, &found));
        *result = found.kind != VALUE_MISSING;
        return HONE_OK;
    }
    if (whole.kind != VALUE_LIST && whole.kind != VALUE_TUPLE && whole.kind != VALUE_GENERATOR)
        return wrong_operands(render, node, "in", part, whole);
    for (int64_t i = 0; !*result && i < whole.list->count; i++)
        RETURN_IF_ERROR(hone_value_equal(render, node, part, whole.list->items[i], result));
    return HONE_OK;
}

static int order_of_texts(Text left, Text right) {
    size_t shorter = left.length < right.length ? left.length : right.length;
    int order = shorter ? memcmp(left.data, right.data, shorter) : 0;
    return order ? order : (left.length > right.length) - (left.length < right.length);
}

hone_status hone_evaluate_compare(Render *render, const Node *node, int which, Value left,
                                  Value right, bool *result) {
    static const char *const signs[] = {"<", "<=", ">", ">="};
    bool less = false, greater = false;
    if (which == OP_EQUAL || which == OP_UNEQUAL || which == OP_IN || which == OP_NOT_IN) {
        bool is_in = which == OP_IN || which == OP_NOT_IN;
        RETURN_IF_ERROR(is_in ? contains(render, node, left, right, result)
                              : hone_value_equal(render, node, left, right, result));
        if (which == OP_UNEQUAL || which == OP_NOT_IN) *result = !*result;
        return HONE_OK;
    }
    if (hone_value_is_number(left) && hone_value_is_number(right)) {
        bool exact = left.kind != VALUE_FLOAT && right.kind != VALUE_FLOAT;
        double a = hone_value_number(left), b = hone_value_number(right);
        less = exact ? left.integer < right.integer : a < b;
        greater = exact ? left.integer > right.integer : a > b;
        if (a != a || b != b) {
            *result = false;
            return HONE_OK;
        }
    } else if (left.kind == VALUE_STRING && right.kind == VALUE_STRING) {
        RETURN_IF_ERROR(hone_render_charge(render, node, 1 + left.text.length / 64));
        int order = order_of_texts(left.text, right.text);
        less = order < 0;
        greater = order > 0;
    } else {
        return wrong_operands(render, node, signs[which - OP_LESS], left, right);
    }
    *result = which == OP_LESS         ? less
              : which == OP_LESS_EQUAL ? !greater
              : which == OP_GREATER    ? greater
                                       : !less;
    return HONE_OK;
}

// ---- indices and slices ------------------------------------------------------------------------

static size_t byte_of_character(Text text, int64_t index) {
    size_t at = 0;
    for (; index > 0 && at < text.length; index--)
        at += hone_character(text.data + at, text.length - at);
    return at;
}

hone_status hone_evaluate_index(Render *render, const Node *node, Value value, Value index,
                                Value *out) {
    bool is_list = value.kind == VALUE_LIST || value.kind == VALUE_TUPLE;
    if (!is_list && value.kind != VALUE_STRING) {
        Text name = index.kind == VALUE_STRING ? index.text : hone_text_of("[]", 2, NO_ORIGIN);
        RETURN_IF_ERROR(hone_value_defined(render, node, value));
        if (value.kind == VALUE_DICT) {
            RETURN_IF_ERROR(hone_dict_find(render, node, value.dict, index, out));
            if (out->kind == VALUE_MISSING) *out = hone_value_undefined(name);
            return HONE_OK;
        }
        return hone_evaluate_attribute(render, node, value, name, out);
    }
    if (index.kind != VALUE_INTEGER && index.kind != VALUE_BOOLEAN) {
        RETURN_IF_ERROR(hone_value_defined(render, node, index));
        *out = hone_value_undefined(index.kind == VALUE_STRING ? index.text
                                                               : hone_text_of("[]", 2, NO_ORIGIN));
        return HONE_OK;
    }
    if (!is_list) RETURN_IF_ERROR(hone_render_charge(render, node, 1 + value.text.length / 16));
    int64_t count = is_list ? value.list->count : hone_text_characters(value.text);
    int64_t at = index.integer < 0 ? index.integer + count : index.integer;
    if (at < 0 || at >= count) {
        *out = hone_value_undefined(hone_text_of("an item past the end", 20, NO_ORIGIN));
    } else if (is_list) {
        *out = value.list->items[at];
    } else {
        size_t begin = byte_of_character(value.text, at);
        size_t bytes = hone_character(value.text.data + begin, value.text.length - begin);
        *out = hone_value_text(hone_text_slice(value.text, begin, begin + bytes));
    }
    return HONE_OK;
}

// A bound of a slice, brought into [low, high] as Python does.
static hone_status slice_bound(Render *render, const Node *node, Value value, int64_t count,
                               int64_t low, int64_t high, int64_t missing, int64_t *out) {
    *out = missing;
    if (hone_value_is_missing(value)) return HONE_OK;
    if (value.kind != VALUE_INTEGER && value.kind != VALUE_BOOLEAN)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "the bounds of a slice are integers, this is %s",
                                hone_value_kind(value));
    int64_t at = value.integer < 0 ? value.integer + count : value.integer;
    *out = at < low ? low : at > high ? high : at;
    return HONE_OK;
}

static hone_status slice_text(Render *render, const Node *node, Text text, int64_t start,
                              int64_t stop, int64_t step, Value *out) {
    RETURN_IF_ERROR(hone_render_charge(render, node, 1 + text.length / 16));
    if (step == 1) {
        size_t begin = byte_of_character(text, start);
        Text rest = hone_text_slice(text, begin, text.length);
        size_t length = stop > start ? byte_of_character(rest, stop - start) : 0;
        *out = hone_value_text(hone_text_slice(rest, 0, length));
        return HONE_OK;
    }
    const List *characters;
    Builder builder = {0};
    RETURN_IF_ERROR(hone_value_items(render, node, hone_value_text(text), &characters));
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step)
        RETURN_IF_ERROR(hone_builder_text(render, node, &builder, characters->items[i].text));
    *out = hone_value_text(hone_builder_done(&builder));
    return HONE_OK;
}

hone_status hone_evaluate_slice(Render *render, const Node *node, Value value, const Value bound[3],
                                Value *out) {
    RETURN_IF_ERROR(hone_value_defined(render, node, value));
    bool is_list = value.kind == VALUE_LIST || value.kind == VALUE_TUPLE;
    if (!is_list && value.kind != VALUE_STRING)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s cannot be sliced",
                                hone_value_kind(value));
    if (!is_list) RETURN_IF_ERROR(hone_render_charge(render, node, 1 + value.text.length / 16));
    int64_t count = is_list ? value.list->count : hone_text_characters(value.text);
    int64_t start, stop, step;
    RETURN_IF_ERROR(slice_bound(render, node, bound[2], 0, -count - 1, count + 1, 1, &step));
    if (step == 0)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "the step of a slice is 0");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
    RETURN_IF_ERROR(
        slice_bound(render, node, bound[0], count, low, high, step < 0 ? high : low, &start));
    RETURN_IF_ERROR(
        slice_bound(render, node, bound[1], count, low, high, step < 0 ? low : high, &stop));
    if (!is_list) return slice_text(render, node, value.text, start, stop, step, out);
    List *list;
    RETURN_IF_ERROR(hone_list_make(render, node, 0, &list));
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step)
        RETURN_IF_ERROR(hone_list_append(render, node, list, value.list->items[i]));
    *out = hone_value_list(list, value.kind == VALUE_TUPLE);
    return hone_list_seal(render, node, list);
}

// ---- attributes --------------------------------------------------------------------------------

static bool loop_attribute(const Loop *loop, Text name, Value *out) {
    const List *list = loop->list;
    int64_t at = loop->index, count = list->count;
    Value none = hone_value_undefined(name);
    const struct {
        const char *name;
        Value value;
    } attributes[] = {
        {"index", hone_value_integer(at + 1)},
        {"index0", hone_value_integer(at)},
        {"revindex", hone_value_integer(count - at)},
        {"revindex0", hone_value_integer(count - at - 1)},
        {"first", hone_value_boolean(at == 0)},
        {"last", hone_value_boolean(at == count - 1)},
        {"length", hone_value_integer(count)},
        {"depth", hone_value_integer(1)},
        {"depth0", hone_value_integer(0)},
        {"previtem", at > 0 ? list->items[at - 1] : none},
        {"nextitem", at + 1 < count ? list->items[at + 1] : none},
    };
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        if (!hone_text_equal(name, hone_text_of(attributes[i].name, strlen(attributes[i].name), 0)))
            continue;
        *out = attributes[i].value;
        return true;
    }
    return false;
}

hone_status hone_evaluate_attribute(Render *render, const Node *node, Value value, Text name,
                                    Value *out) {
    RETURN_IF_ERROR(hone_value_defined(render, node, value));
    *out = hone_value_undefined(name);
    if (value.kind == VALUE_LOOP) {
        loop_attribute(value.loop, name, out);
    } else if (value.kind == VALUE_DICT || value.kind == VALUE_NAMESPACE) {
        Value found;
        RETURN_IF_ERROR(hone_dict_find(render, node, value.dict, hone_value_text(name), &found));
        if (found.kind != VALUE_MISSING) *out = found;
    }
    return HONE_OK;
}
