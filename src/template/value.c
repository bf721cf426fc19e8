// SPDX-License-Identifier: Apache-2.0
#include "template/value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "template/space.h"

// ---- bounds and errors -------------------------------------------------------------------------

hone_status hone_render_fail(Render *render, const Node *node, hone_status status,
                             const char *format, ...) {
    char message[700];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return hone_fail(render->err, status, "%s line %d column %d: %s", render->parsed->name,
                     node->place.line, node->place.column, message);
}

hone_status hone_render_charge(Render *render, const Node *node, size_t steps) {
    if (steps > STEP_LIMIT || (render->steps += (int64_t)steps) > STEP_LIMIT)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "the template takes more than %d steps for this conversation",
                                (int)STEP_LIMIT);
    return HONE_OK;
}

void *hone_render_alloc(Render *render, const Node *node, size_t bytes) {
    if (bytes > MEMORY_LIMIT || (render->bytes += bytes) > MEMORY_LIMIT) {
        hone_render_fail(render, node, HONE_ERROR_INPUT,
                         "the template takes more than %d MiB for this conversation",
                         (int)MEMORY_LIMIT >> 20);
        return NULL;
    }
    void *block = hone_arena_calloc(&render->arena, 1, bytes);
    if (!block) hone_fail_memory(render->err, bytes, "rendering a chat template");
    return block;
}

// ---- values ------------------------------------------------------------------------------------

Value hone_value_none(void) {
    return (Value){.kind = VALUE_NONE};
}

Value hone_value_boolean(bool value) {
    return (Value){.kind = VALUE_BOOLEAN, .integer = value};
}

Value hone_value_integer(int64_t value) {
    return (Value){.kind = VALUE_INTEGER, .integer = value};
}

Value hone_value_float(double value) {
    return (Value){.kind = VALUE_FLOAT, .number = value};
}

Value hone_value_text(Text text) {
    return (Value){.kind = VALUE_STRING, .text = text};
}

Value hone_value_string(const char *string) {
    return hone_value_text(hone_text_of(string, strlen(string), NO_ORIGIN));
}

Value hone_value_undefined(Text name) {
    return (Value){.kind = VALUE_UNDEFINED, .text = name};
}

Value hone_value_list(List *list, bool tuple) {
    return (Value){.kind = tuple ? VALUE_TUPLE : VALUE_LIST, .list = list};
}

Value hone_value_generator(List *list) {
    return (Value){.kind = VALUE_GENERATOR, .list = list};
}

const char *hone_value_kind(Value value) {
    switch (value.kind) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
        return "undefined";
    case VALUE_NONE:
        return "none";
    case VALUE_BOOLEAN:
        return "bool";
    case VALUE_INTEGER:
        return "int";
    case VALUE_FLOAT:
        return "float";
    case VALUE_STRING:
        return "str";
    case VALUE_LIST:
        return "list";
    case VALUE_TUPLE:
        return "tuple";
    case VALUE_GENERATOR:
        return "generator";
    case VALUE_DICT:
        return "dict";
    case VALUE_NAMESPACE:
        return "namespace";
    case VALUE_LOOP:
        return "loop";
    case VALUE_FUNCTION:
        return "function";
    case VALUE_MACRO:
        return "macro";
    }
    return "unknown";
}

bool hone_value_truth(Value value) {
    switch (value.kind) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOLEAN:
    case VALUE_INTEGER:
        return value.integer != 0;
    case VALUE_FLOAT:
        return value.number < 0 || value.number > 0 || value.number != value.number;
    case VALUE_STRING:
        return value.text.length > 0;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return value.list->count > 0;
    case VALUE_DICT:
        return value.dict->count > 0;
    case VALUE_GENERATOR:
    case VALUE_NAMESPACE:
    case VALUE_LOOP:
    case VALUE_FUNCTION:
    case VALUE_MACRO:
        return true;
    }
    return false;
}

bool hone_value_is_number(Value value) {
    return value.kind == VALUE_BOOLEAN || value.kind == VALUE_INTEGER || value.kind == VALUE_FLOAT;
}

double hone_value_number(Value value) {
    return value.kind == VALUE_FLOAT ? value.number : (double)value.integer;
}

bool hone_value_is_missing(Value value) {
    return value.kind == VALUE_MISSING || value.kind == VALUE_NONE;
}

hone_status hone_value_defined(Render *render, const Node *node, Value value) {
    if (value.kind != VALUE_UNDEFINED) return HONE_OK;
    int length = value.text.length < 100 ? (int)value.text.length : 100;
    return hone_render_fail(render, node, HONE_ERROR_INPUT, "'%.*s' is undefined", length,
                            value.text.data);
}

// ---- equality ----------------------------------------------------------------------------------

bool hone_text_equal(Text left, Text right) {
    return left.length == right.length &&
           (left.length == 0 || memcmp(left.data, right.data, left.length) == 0);
}

static hone_status equal_lists(Render *render, const Node *node, const List *left,
                               const List *right, bool *result) {
    *result = left->count == right->count;
    for (int64_t i = 0; *result && i < left->count; i++)
        RETURN_IF_ERROR(hone_value_equal(render, node, left->items[i], right->items[i], result));
    return HONE_OK;
}

static hone_status equal_dicts(Render *render, const Node *node, const Dict *left,
                               const Dict *right, bool *result) {
    *result = left->count == right->count;
    for (int64_t i = 0; *result && i < left->count; i++) {
        Value other;
        RETURN_IF_ERROR(hone_dict_find(render, node, right, left->entries[i].key, &other));
        *result = other.kind != VALUE_MISSING;
        if (*result)
            RETURN_IF_ERROR(hone_value_equal(render, node, left->entries[i].value, other, result));
    }
    return HONE_OK;
}

hone_status hone_value_equal(Render *render, const Node *node, Value left, Value right,
                             bool *result) {
    size_t steps = left.kind == VALUE_STRING ? 1 + left.text.length / 64 : 1;
    RETURN_IF_ERROR(hone_render_charge(render, node, steps));
    *result = false;
    if (hone_value_is_number(left) && hone_value_is_number(right)) {
        if (left.kind == VALUE_FLOAT || right.kind == VALUE_FLOAT) {
            double a = hone_value_number(left), b = hone_value_number(right);
            *result = a <= b && a >= b;
        } else {
            *result = left.integer == right.integer;
        }
        return HONE_OK;
    }
    if (left.kind != right.kind) return HONE_OK;
    switch (left.kind) {
    case VALUE_STRING:
        *result = hone_text_equal(left.text, right.text);
        return HONE_OK;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return equal_lists(render, node, left.list, right.list, result);
    case VALUE_DICT:
        return equal_dicts(render, node, left.dict, right.dict, result);
    case VALUE_GENERATOR:
        *result = left.list == right.list;
        return HONE_OK;
    case VALUE_NAMESPACE:
        *result = left.dict == right.dict;
        return HONE_OK;
    case VALUE_MACRO:
        *result = left.macro == right.macro;
        return HONE_OK;
    case VALUE_LOOP:
        *result = left.loop == right.loop;
        return HONE_OK;
    case VALUE_FUNCTION:
        *result = hone_text_equal(left.text, right.text);
        return HONE_OK;
    default:
        *result = true; // none, undefined
        return HONE_OK;
    }
}

// ---- lists and dicts ---------------------------------------------------------------------------

static int depth_of(Value value) {
    if (value.kind == VALUE_LIST || value.kind == VALUE_TUPLE || value.kind == VALUE_GENERATOR)
        return value.list->depth;
    // Nothing walks into a namespace, so that what it holds later cannot make a circle.
    return value.kind == VALUE_DICT ? value.dict->depth : 0;
}

static hone_status check_depth(Render *render, const Node *node, int depth) {
    if (depth <= VALUE_LIMIT) return HONE_OK;
    return hone_render_fail(render, node, HONE_ERROR_INPUT,
                            "lists or dicts are nested more than %d levels deep", VALUE_LIMIT);
}

hone_status hone_list_make(Render *render, const Node *node, int64_t count, List **list) {
    size_t bytes;
    RETURN_IF_ERROR(hone_render_charge(render, node, (size_t)count));
    if (!hone_size_product((size_t)count, sizeof(Value), &bytes)) bytes = SIZE_MAX;
    *list = hone_render_alloc(render, node, sizeof **list);
    if (!*list) return render->err->status;
    (*list)->items = hone_render_alloc(render, node, bytes);
    if (!(*list)->items) return render->err->status;
    (*list)->count = (*list)->capacity = count;
    (*list)->depth = 1;
    return HONE_OK;
}

hone_status hone_list_append(Render *render, const Node *node, List *list, Value value) {
    RETURN_IF_ERROR(hone_render_charge(render, node, 1));
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity ? list->capacity * 2 : 4;
        Value *grown = hone_render_alloc(render, node, (size_t)capacity * sizeof *grown);
        if (!grown) return render->err->status;
        if (list->count) memcpy(grown, list->items, (size_t)list->count * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = value;
    return HONE_OK;
}

hone_status hone_list_seal(Render *render, const Node *node, List *list) {
    for (int64_t i = 0; i < list->count; i++) {
        int depth = depth_of(list->items[i]) + 1;
        if (depth > list->depth) list->depth = depth;
    }
    return check_depth(render, node, list->depth);
}

hone_status hone_dict_make(Render *render, const Node *node, Dict **dict) {
    *dict = hone_render_alloc(render, node, sizeof **dict);
    if (!*dict) return render->err->status;
    (*dict)->depth = 1;
    return HONE_OK;
}

static hone_status find_entry(Render *render, const Node *node, const Dict *dict, Value key,
                              DictEntry **entry) {
    *entry = NULL;
    if (key.kind == VALUE_LIST || key.kind == VALUE_DICT)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s cannot be a key",
                                hone_value_kind(key));
    for (int64_t i = 0; i < dict->count && !*entry; i++) {
        bool same;
        RETURN_IF_ERROR(hone_value_equal(render, node, dict->entries[i].key, key, &same));
        if (same) *entry = &dict->entries[i];
    }
    return HONE_OK;
}

hone_status hone_dict_put(Render *render, const Node *node, Dict *dict, Value key, Value value) {
    DictEntry *entry;
    RETURN_IF_ERROR(find_entry(render, node, dict, key, &entry));
    if (!entry) {
        if (dict->count == dict->capacity) {
            int64_t capacity = dict->capacity ? dict->capacity * 2 : 4;
            DictEntry *grown =
                hone_render_alloc(render, node, (size_t)capacity * sizeof *dict->entries);
            if (!grown) return render->err->status;
            if (dict->count)
                memcpy(grown, dict->entries, (size_t)dict->count * sizeof *dict->entries);
            dict->entries = grown;
            dict->capacity = capacity;
        }
        entry = &dict->entries[dict->count++];
        entry->key = key;
    }
    entry->value = value;
    int depth = depth_of(value) + 1, key_depth = depth_of(key) + 1;
    if (depth > dict->depth) dict->depth = depth;
    if (key_depth > dict->depth) dict->depth = key_depth;
    return check_depth(render, node, dict->depth);
}

hone_status hone_dict_find(Render *render, const Node *node, const Dict *dict, Value key,
                           Value *found) {
    DictEntry *entry;
    RETURN_IF_ERROR(find_entry(render, node, dict, key, &entry));
    *found = entry ? entry->value : (Value){.kind = VALUE_MISSING};
    return HONE_OK;
}

hone_status hone_dict_list(Render *render, const Node *node, const Dict *dict, char what,
                           Value *out) {
    List *list, *pair;
    RETURN_IF_ERROR(hone_list_make(render, node, dict->count, &list));
    for (int64_t i = 0; i < dict->count; i++) {
        const DictEntry *entry = &dict->entries[i];
        list->items[i] = what == 'k' ? entry->key : entry->value;
        if (what != 'i') continue;
        RETURN_IF_ERROR(hone_list_make(render, node, 2, &pair));
        pair->items[0] = entry->key;
        pair->items[1] = entry->value;
        RETURN_IF_ERROR(hone_list_seal(render, node, pair));
        list->items[i] = hone_value_list(pair, true);
    }
    *out = hone_value_list(list, false);
    return hone_list_seal(render, node, list);
}

hone_status hone_value_items(Render *render, const Node *node, Value value, const List **list) {
    List *made = NULL;
    Value keys;
    switch (value.kind) {
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_GENERATOR:
        *list = value.list;
        return HONE_OK;
    case VALUE_UNDEFINED:
        RETURN_IF_ERROR(hone_list_make(render, node, 0, &made));
        break;
    case VALUE_DICT:
        RETURN_IF_ERROR(hone_dict_list(render, node, value.dict, 'k', &keys));
        *list = keys.list;
        return HONE_OK;
    case VALUE_STRING: {
        Text rest = value.text;
        RETURN_IF_ERROR(hone_list_make(render, node, hone_text_characters(rest), &made));
        for (int64_t i = 0; i < made->count; i++) {
            size_t bytes = hone_character(rest.data, rest.length);
            made->items[i] = hone_value_text(hone_text_slice(rest, 0, bytes));
            rest = hone_text_slice(rest, bytes, rest.length);
        }
        break;
    }
    default:
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s cannot be iterated over",
                                hone_value_kind(value));
    }
    *list = made;
    return hone_list_seal(render, node, made);
}
