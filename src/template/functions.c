// SPDX-License-Identifier: Apache-2.0
// Functions: what transformers puts into the environment, and range.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "template/value.h"

enum { FUNCTION_RAISE, FUNCTION_RANGE, FUNCTION_NAMESPACE, FUNCTION_DICT, FUNCTION_NOW };

// "…": keyword arguments of any name
static const Signature functions[] = {
    [FUNCTION_RAISE] = {"raise_exception", {"message"}, 1},
    [FUNCTION_RANGE] = {"range", {"start", "stop", "step"}, 1},
    [FUNCTION_NAMESPACE] = {"namespace", {"mapping", "…"}, 0},
    [FUNCTION_DICT] = {"dict", {"mapping", "…"}, 0},
    [FUNCTION_NOW] = {"strftime_now", {"format"}, 1},
};

int hone_function_find(const char *name) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, name) == 0) return (int)i;
    return -1;
}

const Signature *hone_function_signature(int which) {
    return &functions[which];
}

static hone_status raise(Render *render, const Node *node, Value message) {
    Text text;
    RETURN_IF_ERROR(hone_value_to_text(render, node, message, &text));
    int length = text.length < 400 ? (int)text.length : 400;
    return hone_render_fail(render, node, HONE_ERROR_INPUT,
                            "the template refuses this conversation: %.*s", length, text.data);
}

static hone_status range(Render *render, const Node *node, const Value argument[PARAMETER_LIMIT],
                         Value *out) {
    int64_t bound[3] = {0, 0, 1};
    for (int i = 0; i < 3; i++) {
        if (argument[i].kind == VALUE_MISSING) continue;
        if (argument[i].kind != VALUE_INTEGER && argument[i].kind != VALUE_BOOLEAN)
            return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                    "range() takes integers, this is %s",
                                    hone_value_kind(argument[i]));
        bound[i] = argument[i].integer;
    }
    int64_t start = bound[0], stop = bound[1], step = bound[2];
    if (argument[1].kind == VALUE_MISSING) {
        stop = start;
        start = 0;
    }
    if (step == 0)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "range() with a step of 0");
    List *list;
    RETURN_IF_ERROR(hone_list_make(render, node, 0, &list));
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (list->count == RANGE_LIMIT)
            return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                    "range() with more than %d items", (int)RANGE_LIMIT);
        RETURN_IF_ERROR(hone_list_append(render, node, list, hone_value_integer(i)));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    *out = hone_value_list(list, false);
    return HONE_OK;
}

static hone_status make_dict(Render *render, const Node *node, Value mapping, Value *out) {
    Dict *dict;
    RETURN_IF_ERROR(hone_dict_make(render, node, &dict));
    if (mapping.kind != VALUE_MISSING) {
        if (mapping.kind != VALUE_DICT)
            return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                    "%s() takes a dict or names, this is %s", node->text,
                                    hone_value_kind(mapping));
        for (int64_t i = 0; i < mapping.dict->count; i++)
            RETURN_IF_ERROR(hone_dict_put(render, node, dict, mapping.dict->entries[i].key,
                                          mapping.dict->entries[i].value));
    }
    for (const Node *item = node->items; item; item = item->next) {
        Value value;
        RETURN_IF_ERROR(hone_jinja_evaluate(render, item, &value));
        RETURN_IF_ERROR(hone_dict_put(render, item, dict, hone_value_string(item->keyword), value));
    }
    ValueKind kind = node->which == FUNCTION_NAMESPACE ? VALUE_NAMESPACE : VALUE_DICT;
    *out = (Value){.kind = kind, .dict = dict};
    return HONE_OK;
}

// The moment that was given, or that SOURCE_DATE_EPOCH names (reproducible-builds.org), in UTC;
// else now, here.
static bool now(const Render *render, struct tm *moment) {
    const time_t given = (time_t)render->now;
    if (given != 0) return gmtime_r(&given, moment) != NULL;
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    char *end;
    time_t seconds = fixed && *fixed ? (time_t)strtoll(fixed, &end, 10) : time(NULL);
    return fixed && *fixed ? *end == '\0' && gmtime_r(&seconds, moment)
                           : localtime_r(&seconds, moment) != NULL;
}

static hone_status strftime_now(Render *render, const Node *node, Value format, Value *out) {
    enum { LONGEST = 255 };
    struct tm moment;
    char copy[LONGEST + 1];
    if (format.kind != VALUE_STRING || format.text.length > LONGEST)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "strftime_now takes a string of up to %d bytes", (int)LONGEST);
    if (!now(render, &moment))
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "SOURCE_DATE_EPOCH is no number of seconds");
    memcpy(copy, format.text.data, format.text.length);
    copy[format.text.length] = '\0';
    char *text = hone_render_alloc(render, node, 8 * LONGEST);
    if (!text) return render->err->status;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                     \
    "-Wformat-nonliteral" // the template's: strftime bounds what it makes
    const size_t length = copy[0] ? strftime(text, 8 * LONGEST, copy, &moment) : 0;
#pragma GCC diagnostic pop
    *out = hone_value_text(hone_text_of(text, length, NO_ORIGIN));
    return HONE_OK;
}

hone_status hone_function_run(Render *render, const Node *node,
                              const Value argument[PARAMETER_LIMIT], Value *out) {
    if (node->which == FUNCTION_RAISE) return raise(render, node, argument[0]);
    if (node->which == FUNCTION_RANGE) return range(render, node, argument, out);
    if (node->which == FUNCTION_NOW) return strftime_now(render, node, argument[0], out);
    return make_dict(render, node, argument[0], out);
}
