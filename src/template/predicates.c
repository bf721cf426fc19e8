// SPDX-License-Identifier: Apache-2.0
// Tests: what may follow `is`, and what selectattr and its kin name in a string.
#include <string.h>

#include "template/value.h"

typedef enum TestKind {
    TEST_DEFINED,
    TEST_UNDEFINED,
    TEST_NONE,
    TEST_STRING,
    TEST_NUMBER,
    TEST_INTEGER,
    TEST_FLOAT,
    TEST_BOOLEAN,
    TEST_TRUE,
    TEST_FALSE,
    TEST_MAPPING,
    TEST_ITERABLE,
    TEST_SEQUENCE,
    TEST_CALLABLE,
    TEST_ODD,
    TEST_EVEN,
    TEST_DIVISIBLE,
    TEST_COMPARE, // with the operator beside it
} TestKind;

typedef struct Test {
    Signature signature;
    TestKind kind;
    OperatorKind operator_kind;
} Test;

static const Test tests[] = {
    {{"defined", {0}, 0}, TEST_DEFINED, 0},
    {{"undefined", {0}, 0}, TEST_UNDEFINED, 0},
    {{"none", {0}, 0}, TEST_NONE, 0},
    {{"string", {0}, 0}, TEST_STRING, 0},
    {{"number", {0}, 0}, TEST_NUMBER, 0},
    {{"integer", {0}, 0}, TEST_INTEGER, 0},
    {{"float", {0}, 0}, TEST_FLOAT, 0},
    {{"boolean", {0}, 0}, TEST_BOOLEAN, 0},
    {{"true", {0}, 0}, TEST_TRUE, 0},
    {{"false", {0}, 0}, TEST_FALSE, 0},
    {{"mapping", {0}, 0}, TEST_MAPPING, 0},
    {{"iterable", {0}, 0}, TEST_ITERABLE, 0},
    {{"sequence", {0}, 0}, TEST_SEQUENCE, 0},
    {{"callable", {0}, 0}, TEST_CALLABLE, 0},
    {{"odd", {0}, 0}, TEST_ODD, 0},
    {{"even", {0}, 0}, TEST_EVEN, 0},
    {{"divisibleby", {"num"}, 1}, TEST_DIVISIBLE, 0},
    {{"in", {"seq"}, 1}, TEST_COMPARE, OP_IN},
    {{"equalto", {"other"}, 1}, TEST_COMPARE, OP_EQUAL},
    {{"eq", {"other"}, 1}, TEST_COMPARE, OP_EQUAL},
    {{"==", {"other"}, 1}, TEST_COMPARE, OP_EQUAL},
    {{"ne", {"other"}, 1}, TEST_COMPARE, OP_UNEQUAL},
    {{"!=", {"other"}, 1}, TEST_COMPARE, OP_UNEQUAL},
    {{"lt", {"other"}, 1}, TEST_COMPARE, OP_LESS},
    {{"lessthan", {"other"}, 1}, TEST_COMPARE, OP_LESS},
    {{"<", {"other"}, 1}, TEST_COMPARE, OP_LESS},
    {{"le", {"other"}, 1}, TEST_COMPARE, OP_LESS_EQUAL},
    {{"<=", {"other"}, 1}, TEST_COMPARE, OP_LESS_EQUAL},
    {{"gt", {"other"}, 1}, TEST_COMPARE, OP_GREATER},
    {{"greaterthan", {"other"}, 1}, TEST_COMPARE, OP_GREATER},
    {{">", {"other"}, 1}, TEST_COMPARE, OP_GREATER},
    {{"ge", {"other"}, 1}, TEST_COMPARE, OP_GREATER_EQUAL},
    {{">=", {"other"}, 1}, TEST_COMPARE, OP_GREATER_EQUAL},
};

int hone_test_find(const char *name) {
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strcmp(tests[i].signature.name, name) == 0) return (int)i;
    return -1;
}

const Signature *hone_test_signature(int which) {
    return &tests[which].signature;
}

// value % divisor as Python has it is 0 exactly when C's is.
static hone_status divides(Render *render, const Node *node, Value value, Value divisor,
                           int64_t remainder, bool *result) {
    bool integers = (value.kind == VALUE_INTEGER || value.kind == VALUE_BOOLEAN) &&
                    (divisor.kind == VALUE_INTEGER || divisor.kind == VALUE_BOOLEAN);
    if (!integers || divisor.integer == 0)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "test '%s' needs integers, and not a division by 0",
                                node->text ? node->text : "divisibleby");
    bool even = divisor.integer == -1 || value.integer % divisor.integer == 0;
    *result = even == (remainder == 0);
    return HONE_OK;
}

hone_status hone_test_run(Render *render, const Node *node, int which, Value input, Value argument,
                          bool *result) {
    const Test *test = &tests[which];
    ValueKind kind = input.kind;
    bool is_list = kind == VALUE_LIST || kind == VALUE_TUPLE;
    bool is_walkable = is_list || kind == VALUE_STRING || kind == VALUE_DICT;
    switch (test->kind) {
    case TEST_DEFINED:
        *result = kind != VALUE_UNDEFINED;
        return HONE_OK;
    case TEST_UNDEFINED:
        *result = kind == VALUE_UNDEFINED;
        return HONE_OK;
    case TEST_NONE:
        *result = kind == VALUE_NONE;
        return HONE_OK;
    case TEST_STRING:
        *result = kind == VALUE_STRING;
        return HONE_OK;
    case TEST_NUMBER:
        *result = hone_value_is_number(input);
        return HONE_OK;
    case TEST_INTEGER:
        *result = kind == VALUE_INTEGER;
        return HONE_OK;
    case TEST_FLOAT:
        *result = kind == VALUE_FLOAT;
        return HONE_OK;
    case TEST_BOOLEAN:
        *result = kind == VALUE_BOOLEAN;
        return HONE_OK;
    case TEST_TRUE:
    case TEST_FALSE:
        *result = kind == VALUE_BOOLEAN && (input.integer != 0) == (test->kind == TEST_TRUE);
        return HONE_OK;
    case TEST_MAPPING:
        *result = kind == VALUE_DICT;
        return HONE_OK;
    case TEST_ITERABLE:
    case TEST_SEQUENCE: // an undefined value counts as an empty one
        *result = is_walkable || kind == VALUE_UNDEFINED;
        return HONE_OK;
    case TEST_CALLABLE:
        *result = kind == VALUE_FUNCTION;
        return HONE_OK;
    case TEST_ODD:
    case TEST_EVEN:
        return divides(render, node, input, hone_value_integer(2), test->kind == TEST_ODD, result);
    case TEST_DIVISIBLE:
        return divides(render, node, input, argument, 0, result);
    case TEST_COMPARE:
        return hone_evaluate_compare(render, node, (int)test->operator_kind, input, argument,
                                     result);
    }
    return HONE_OK;
}
