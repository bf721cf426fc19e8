// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "template/value.h"

static hone_status evaluate_name(Render *render, const Node *node, Value *out) {
    for (const Scope *scope = render->scope; scope; scope = scope->outer)
        for (const Variable *variable = scope->variables; variable; variable = variable->next)
            if (strcmp(variable->name, node->text) == 0) {
                *out = variable->value;
                return HONE_OK;
            }
    Text name = hone_text_of(node->text, node->length, NO_ORIGIN);
    *out = hone_value_undefined(name);
    if (hone_function_find(node->text) >= 0) *out = (Value){.kind = VALUE_FUNCTION, .text = name};
    return HONE_OK;
}

static hone_status evaluate_list(Render *render, const Node *node, Value *out) {
    List *list;
    int64_t count = 0;
    for (const Node *item = node->items; item; item = item->next) count++;
    RETURN_IF_ERROR(hone_list_make(render, node, count, &list));
    Value *slot = list->items;
    for (const Node *item = node->items; item; item = item->next)
        RETURN_IF_ERROR(hone_jinja_evaluate(render, item, slot++));
    *out = hone_value_list(list, node->kind == NODE_TUPLE);
    return hone_list_seal(render, node, list);
}

static hone_status evaluate_dict(Render *render, const Node *node, Value *out) {
    Dict *dict;
    RETURN_IF_ERROR(hone_dict_make(render, node, &dict));
    for (const Node *key = node->items; key; key = key->next->next) {
        Value key_value, value;
        RETURN_IF_ERROR(hone_jinja_evaluate(render, key, &key_value));
        RETURN_IF_ERROR(hone_jinja_evaluate(render, key->next, &value));
        RETURN_IF_ERROR(hone_dict_put(render, key, dict, key_value, value));
    }
    *out = (Value){.kind = VALUE_DICT, .dict = dict};
    return HONE_OK;
}

static hone_status evaluate_sign(Render *render, const Node *node, Value *out) {
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, out));
    RETURN_IF_ERROR(hone_value_defined(render, node, *out));
    if (!hone_value_is_number(*out))
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "a %s has no sign",
                                hone_value_kind(*out));
    if (out->kind == VALUE_BOOLEAN) out->kind = VALUE_INTEGER;
    if (node->kind == NODE_POSITIVE) return HONE_OK;
    if (out->kind == VALUE_FLOAT)
        out->number = -out->number;
    else if (__builtin_sub_overflow((int64_t)0, out->integer, &out->integer))
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "the result does not fit 64 bits");
    return HONE_OK;
}

// and, or: the operand that decides, not a boolean.
static hone_status evaluate_logic(Render *render, const Node *node, Value *out) {
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, out));
    if (hone_value_truth(*out) != (node->kind == NODE_AND)) return HONE_OK;
    return hone_jinja_evaluate(render, node->right, out);
}

static hone_status evaluate_operator(Render *render, const Node *node, Value *out) {
    Value left, right;
    bool result;
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &left));
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->right, &right));
    if (node->kind == NODE_BINARY) return hone_evaluate_binary(render, node, left, right, out);
    if (node->kind == NODE_INDEX) return hone_evaluate_index(render, node, left, right, out);
    RETURN_IF_ERROR(hone_evaluate_compare(render, node, node->which, left, right, &result));
    *out = hone_value_boolean(result);
    return HONE_OK;
}

static hone_status evaluate_condition(Render *render, const Node *node, Value *out) {
    Value condition;
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->right, &condition));
    if (hone_value_truth(condition)) return hone_jinja_evaluate(render, node->left, out);
    if (node->third) return hone_jinja_evaluate(render, node->third, out);
    *out = hone_value_undefined(hone_text_of("the value of an if without else", 31, NO_ORIGIN));
    return HONE_OK;
}

// In Jinja a dict's own methods hide keys of the same name; without a call they are no text.
static hone_status evaluate_attribute(Render *render, const Node *node, Value *out) {
    Value value;
    Text name = hone_text_of(node->text, node->length, NO_ORIGIN);
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &value));
    if ((value.kind == VALUE_DICT || value.kind == VALUE_STRING) &&
        hone_method_is_of(hone_method_find(node->text), value.kind)) {
        *out = (Value){.kind = VALUE_FUNCTION, .text = name};
        return HONE_OK;
    }
    return hone_evaluate_attribute(render, node, value, name, out);
}

hone_status hone_evaluate_arguments(Render *render, const Node *node,
                                    Value argument[PARAMETER_LIMIT]) {
    for (int i = 0; i < PARAMETER_LIMIT; i++) {
        argument[i] = (Value){.kind = VALUE_MISSING};
        if (node->argument[i])
            RETURN_IF_ERROR(hone_jinja_evaluate(render, node->argument[i], &argument[i]));
    }
    return HONE_OK;
}

static hone_status evaluate_call(Render *render, const Node *node, Value *out) {
    Value input = hone_value_none(), argument[PARAMETER_LIMIT];
    bool result;
    if (node->left) RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &input));
    RETURN_IF_ERROR(hone_evaluate_arguments(render, node, argument));
    switch (node->kind) {
    case NODE_FILTER:
        return hone_filter_run(render, node, input, argument, out);
    case NODE_METHOD:
        return hone_method_run(render, node, input, argument, out);
    case NODE_SLICE:
        return hone_evaluate_slice(render, node, input, argument, out);
    case NODE_TEST:
        RETURN_IF_ERROR(hone_test_run(render, node, node->which, input, argument[0], &result));
        *out = hone_value_boolean(result != node->negated);
        return HONE_OK;
    default:
        return hone_function_run(render, node, argument, out);
    }
}

static hone_status evaluate_unknown(Render *render, const Node *node) {
    static const char *const kinds[] = {"function", "method", "filter", "test"};
    return hone_render_fail(render, node, HONE_ERROR_UNSUPPORTED, "%s '%s' is not supported",
                            kinds[node->which], node->text);
}

static hone_status evaluate(Render *render, const Node *node, Value *out) {
    switch (node->kind) {
    case NODE_STRING:
        *out = hone_value_text(hone_text_of(node->text, node->length, NO_ORIGIN));
        return HONE_OK;
    case NODE_INTEGER:
        *out = hone_value_integer(node->integer);
        return HONE_OK;
    case NODE_FLOAT:
        *out = hone_value_float(node->number);
        return HONE_OK;
    case NODE_BOOLEAN:
        *out = hone_value_boolean(node->integer != 0);
        return HONE_OK;
    case NODE_NAME:
        return evaluate_name(render, node, out);
    case NODE_LIST:
    case NODE_TUPLE:
        return evaluate_list(render, node, out);
    case NODE_DICT:
        return evaluate_dict(render, node, out);
    case NODE_ATTRIBUTE:
        return evaluate_attribute(render, node, out);
    case NODE_BINARY:
    case NODE_COMPARE:
    case NODE_INDEX:
        return evaluate_operator(render, node, out);
    case NODE_NEGATE:
    case NODE_POSITIVE:
        return evaluate_sign(render, node, out);
    case NODE_NOT:
        RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, out));
        *out = hone_value_boolean(!hone_value_truth(*out));
        return HONE_OK;
    case NODE_AND:
    case NODE_OR:
        return evaluate_logic(render, node, out);
    case NODE_CONDITION:
        return evaluate_condition(render, node, out);
    case NODE_CALL:
    case NODE_METHOD:
    case NODE_FILTER:
    case NODE_TEST:
    case NODE_SLICE:
        return evaluate_call(render, node, out);
    case NODE_INVOKE:
        return hone_macro_run(render, node, out);
    case NODE_UNKNOWN:
        return evaluate_unknown(render, node);
    case NODE_CAPTURED:
        *out = hone_value_text(render->captured);
        return HONE_OK;
    default: // none; the parser makes no statement here
        *out = hone_value_none();
        return HONE_OK;
    }
}

hone_status hone_jinja_evaluate(Render *render, const Node *node, Value *out) {
    RETURN_IF_ERROR(hone_render_charge(render, node, 1));
    RETURN_IF_ERROR(hone_render_enter(render, node));
    const hone_status status = evaluate(render, node, out);
    render->depth--;
    return status;
}
