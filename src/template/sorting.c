// SPDX-License-Identifier: Apache-2.0
// Filters that compare items: sort, dictsort, min, max, unique. Strings without regard to case
// unless case_sensitive says so, as in Jinja.
#include <string.h>

#include "template/value.h"

// What an item is compared by.
static hone_status key_of(Render *render, const Node *node, Value item, Value sensitive,
                          Value *key) {
    *key = item;
    if (item.kind != VALUE_STRING || hone_value_truth(sensitive)) return HONE_OK;
    return hone_text_case(render, node, item.text, CASE_LOWER, &key->text);
}

static hone_status make_keys(Render *render, const Node *node, const List *items, Value attribute,
                             Value sensitive, Value **keys) {
    *keys = hone_render_alloc(render, node, (size_t)items->count * sizeof **keys + 1);
    if (!*keys) return render->err->status;
    for (int64_t i = 0; i < items->count; i++) {
        Value item = items->items[i];
        if (attribute.kind == VALUE_STRING)
            RETURN_IF_ERROR(hone_value_path(render, node, item, attribute.text, &item));
        RETURN_IF_ERROR(hone_value_defined(render, node, item));
        RETURN_IF_ERROR(key_of(render, node, item, sensitive, &(*keys)[i]));
    }
    return HONE_OK;
}

// By insertion, equal ones in the order they came in; the bound on steps keeps it short.
static hone_status sort_by(Render *render, const Node *node, List *list, Value *keys,
                           bool reverse) {
    for (int64_t i = 1; i < list->count; i++) {
        const Value item = list->items[i], key = keys[i];
        int64_t at = i;
        for (; at > 0; at--) {
            bool moves;
            RETURN_IF_ERROR(hone_render_charge(render, node, 1));
            RETURN_IF_ERROR(hone_evaluate_compare(render, node, reverse ? OP_GREATER : OP_LESS, key,
                                                  keys[at - 1], &moves));
            if (!moves) break;
            list->items[at] = list->items[at - 1];
            keys[at] = keys[at - 1];
        }
        list->items[at] = item;
        keys[at] = key;
    }
    return HONE_OK;
}

static hone_status copy_items(Render *render, const Node *node, Value input, List **list) {
    const List *items;
    RETURN_IF_ERROR(hone_value_items(render, node, input, &items));
    RETURN_IF_ERROR(hone_list_make(render, node, items->count, list));
    if (items->count)
        memcpy((*list)->items, items->items, (size_t)items->count * sizeof *items->items);
    return hone_list_seal(render, node, *list);
}

// reverse, case_sensitive, attribute
hone_status hone_filter_sort(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out) {
    List *list;
    Value *keys;
    RETURN_IF_ERROR(copy_items(render, node, input, &list));
    RETURN_IF_ERROR(make_keys(render, node, list, argument[2], argument[1], &keys));
    *out = hone_value_list(list, false);
    return sort_by(render, node, list, keys, hone_value_truth(argument[0]));
}

// case_sensitive, by, reverse
hone_status hone_filter_dictsort(Render *render, const Node *node, Value input,
                                 const Value argument[PARAMETER_LIMIT], Value *out) {
    Value *keys;
    const Text by =
        argument[1].kind == VALUE_STRING ? argument[1].text : hone_text_of("key", 3, NO_ORIGIN);
    const bool by_value = hone_text_equal(by, hone_text_of("value", 5, NO_ORIGIN));
    RETURN_IF_ERROR(hone_value_defined(render, node, input));
    if (input.kind != VALUE_DICT)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s has no items",
                                hone_value_kind(input));
    if (!by_value && !hone_text_equal(by, hone_text_of("key", 3, NO_ORIGIN)))
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "dictsort goes by 'key' or by 'value'");
    RETURN_IF_ERROR(hone_dict_list(render, node, input.dict, 'i', out));
    keys = hone_render_alloc(render, node, (size_t)out->list->count * sizeof *keys + 1);
    if (!keys) return render->err->status;
    for (int64_t i = 0; i < out->list->count; i++)
        RETURN_IF_ERROR(
            key_of(render, node, out->list->items[i].list->items[by_value], argument[0], &keys[i]));
    return sort_by(render, node, out->list, keys, hone_value_truth(argument[2]));
}

// case_sensitive, attribute: the first that no other is beyond
static hone_status extreme(Render *render, const Node *node, Value input,
                           const Value argument[PARAMETER_LIMIT], OperatorKind beyond, Value *out) {
    const List *items;
    Value *keys;
    int64_t best = 0;
    RETURN_IF_ERROR(hone_value_items(render, node, input, &items));
    *out = hone_value_undefined(hone_text_of("an item of an empty list", 24, NO_ORIGIN));
    if (items->count == 0) return HONE_OK;
    RETURN_IF_ERROR(make_keys(render, node, items, argument[1], argument[0], &keys));
    for (int64_t i = 1; i < items->count; i++) {
        bool better;
        RETURN_IF_ERROR(hone_evaluate_compare(render, node, beyond, keys[i], keys[best], &better));
        if (better) best = i;
    }
    *out = items->items[best];
    return HONE_OK;
}

hone_status hone_filter_min(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    return extreme(render, node, input, argument, OP_LESS, out);
}

hone_status hone_filter_max(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out) {
    return extreme(render, node, input, argument, OP_GREATER, out);
}

// case_sensitive, attribute: the first of those that are equal
hone_status hone_filter_unique(Render *render, const Node *node, Value input,
                               const Value argument[PARAMETER_LIMIT], Value *out) {
    const List *items;
    List *list;
    Value *keys;
    int64_t kept = 0;
    RETURN_IF_ERROR(hone_value_items(render, node, input, &items));
    RETURN_IF_ERROR(make_keys(render, node, items, argument[1], argument[0], &keys));
    RETURN_IF_ERROR(hone_list_make(render, node, 0, &list));
    for (int64_t i = 0; i < items->count; i++) {
        bool same = false;
        for (int64_t k = 0; k < kept && !same; k++)
            RETURN_IF_ERROR(hone_value_equal(render, node, keys[i], keys[k], &same));
        if (same) continue;
        keys[kept++] = keys[i];
        RETURN_IF_ERROR(hone_list_append(render, node, list, items->items[i]));
    }
    *out = hone_value_generator(list);
    return hone_list_seal(render, node, list);
}
