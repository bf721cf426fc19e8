// SPDX-License-Identifier: Apache-2.0
// A macro's run: arguments bound as Python binds them, the body in a scope of its own.
#include <string.h>

#include "template/value.h"

// A scope for the parameters; the caller's is restored afterwards.
static hone_status bind(Render *render, const Node *call, const Node *macro, Value value[],
                        int64_t count) {
    int64_t at = 0;
    for (const Node *item = call->items; item; item = item->next) {
        int64_t slot = at++;
        if (item->keyword) {
            slot = 0;
            const Node *name = macro->items;
            for (; name && strcmp(name->text, item->keyword) != 0; name = name->next) slot++;
        }
        if (slot >= count)
            return hone_render_fail(render, call, HONE_ERROR_INPUT,
                                    "macro '%s' does not take %s%s%s", macro->text,
                                    item->keyword ? "'" : "so many arguments",
                                    item->keyword ? item->keyword : "", item->keyword ? "'" : "");
        if (value[slot].kind != VALUE_MISSING)
            return hone_render_fail(render, call, HONE_ERROR_INPUT,
                                    "macro '%s': '%s' is given twice", macro->text, item->keyword);
        RETURN_IF_ERROR(hone_jinja_evaluate(render, item, &value[slot]));
    }
    return HONE_OK;
}

// Defaults see the parameters before them.
static hone_status set_parameters(Render *render, const Node *macro, const Value value[]) {
    int64_t at = 0;
    for (const Node *name = macro->items; name; name = name->next) {
        Value given = value[at++];
        if (given.kind == VALUE_MISSING && name->left)
            RETURN_IF_ERROR(hone_jinja_evaluate(render, name->left, &given));
        else if (given.kind == VALUE_MISSING)
            given = hone_value_undefined(hone_text_of(name->text, name->length, NO_ORIGIN));
        RETURN_IF_ERROR(hone_render_name(render, name, name->text, given));
    }
    return HONE_OK;
}

hone_status hone_macro_run(Render *render, const Node *node, Value *out) {
    Value callee;
    Scope *caller = render->scope;
    List *list;
    int64_t count = 0;
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &callee));
    RETURN_IF_ERROR(hone_value_defined(render, node, callee));
    if (callee.kind != VALUE_MACRO)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "'%s' is a %s, not a macro",
                                node->text, hone_value_kind(callee));
    const Node *macro = callee.macro->node;
    for (const Node *name = macro->items; name; name = name->next) count++;
    RETURN_IF_ERROR(hone_list_make(render, node, count, &list));
    RETURN_IF_ERROR(bind(render, node, macro, list->items, count));
    if (!hone_scope_enter(render, node, callee.macro->scope)) return render->err->status;
    RETURN_IF_ERROR(set_parameters(render, macro, list->items));
    out->kind = VALUE_STRING;
    RETURN_IF_ERROR(hone_render_capture(render, node, macro->body, &out->text));
    render->scope = caller;
    return HONE_OK;
}
