// SPDX-License-Identifier: Apache-2.0
// Expressions, by precedence from the loosest: condition, or, and, not, comparison, + -, ~, * / //
// %, sign, then what follows a value: attributes, indices, calls, filters and tests.
#include <string.h>

#include "template/syntax.h"

static bool is_operator(const Parser *parser, const char *text) {
    return hone_parse_is(parser, LEX_OPERATOR, text);
}

static bool take_operator(Parser *parser, const char *text) {
    return hone_parse_take(parser, LEX_OPERATOR, text);
}

// A node with up to two operands, both parsed; NULL when one of them failed.
static Node *join(Parser *parser, NodeKind kind, Place place, Node *left, Node *right) {
    if (!left || parser->err->status != HONE_OK) return NULL;
    Node *node = hone_parse_new(parser, kind, place);
    if (!node) return NULL;
    node->left = left;
    node->right = right;
    if (!hone_parse_adopt(parser, node, left) || !hone_parse_adopt(parser, node, right))
        return NULL;
    return node;
}

// ---- calls -------------------------------------------------------------------------------------

// Put an argument into the slot of its name or place.
static bool bind_argument(Parser *parser, Node *call, const Signature *signature, const char *what,
                          const Lexeme *keyword, int position, Node *value, Place place) {
    int slot = keyword ? -1 : position;
    for (int i = 0; keyword && i < PARAMETER_LIMIT; i++)
        if (signature->parameter[i] && strcmp(signature->parameter[i], keyword->text) == 0)
            slot = i;
    if (slot < 0 && keyword) {
        hone_parse_fail(parser, place, HONE_ERROR_UNSUPPORTED,
                        "argument '%s' of %s '%s' is not supported", keyword->text, what,
                        signature->name);
        return false;
    }
    if (slot >= PARAMETER_LIMIT || !signature->parameter[slot] || call->argument[slot]) {
        hone_parse_fail(parser, place, HONE_ERROR_UNSUPPORTED,
                        "%s '%s' does not take this argument", what, signature->name);
        return false;
    }
    call->argument[slot] = value;
    return hone_parse_adopt(parser, call, value);
}

static bool check_required(Parser *parser, Node *call, const Signature *signature,
                           const char *what) {
    for (int i = 0; i < signature->required; i++) {
        if (call->argument[i]) continue;
        hone_parse_fail(parser, call->place, HONE_ERROR_INPUT, "%s '%s' needs its argument '%s'",
                        what, signature->name, signature->parameter[i]);
        return false;
    }
    return true;
}

// ( a, b, c=d ) after its opening bracket. Keyword arguments of a function that takes any of them
// (signature without parameters but the first, "…" as the second) go to call->items.
static bool parse_arguments(Parser *parser, Node *call, const Signature *signature,
                            const char *what) {
    bool any_keyword = signature->parameter[1] && strcmp(signature->parameter[1], "…") == 0;
    Node **end = &call->items;
    for (int position = 0; !take_operator(parser, ")"); position++) {
        if (position > 0 && !hone_parse_expect(parser, LEX_OPERATOR, ",")) return false;
        if (position > 0 && take_operator(parser, ")")) break;
        Place place = parser->at->place;
        const Lexeme *keyword = NULL;
        if (hone_parse_is(parser, LEX_NAME, NULL) && parser->at->next->kind == LEX_OPERATOR &&
            strcmp(parser->at->next->text, "=") == 0) {
            keyword = parser->at;
            parser->at = keyword->next->next;
        } else if (is_operator(parser, "*") || is_operator(parser, "**")) {
            hone_parse_fail(parser, place, HONE_ERROR_UNSUPPORTED,
                            "unpacking arguments with '%s' is not supported", parser->at->text);
            return false;
        }
        Node *value = hone_parse_expression(parser, true);
        if (!value) return false;
        if (keyword && any_keyword) {
            value->keyword = keyword->text;
            *end = value;
            end = &value->next;
            if (!hone_parse_adopt(parser, call, value)) return false;
        } else if (!bind_argument(parser, call, signature, what, keyword,
                                  any_keyword && position > 0 ? PARAMETER_LIMIT : position, value,
                                  place)) {
            return false;
        }
    }
    return check_required(parser, call, signature, what);
}

// Whether the template has a macro of this name anywhere: one may call another below it.
static bool is_macro(const Parser *parser, const char *name) {
    for (const Lexeme *at = parser->first; at->kind != LEX_END; at = at->next)
        if (at->kind == LEX_BLOCK_BEGIN && at->next->kind == LEX_NAME &&
            strcmp(at->next->text, "macro") == 0 && at->next->next->kind == LEX_NAME &&
            strcmp(at->next->next->text, name) == 0)
            return true;
    return false;
}

// a, b, c=d ) after the opening bracket, as they stand: bound when the call runs.
static bool parse_free_arguments(Parser *parser, Node *call) {
    Node **end = &call->items;
    bool keywords = false;
    while (!take_operator(parser, ")")) {
        if (call->items && !hone_parse_expect(parser, LEX_OPERATOR, ",")) return false;
        if (call->items && take_operator(parser, ")")) break;
        const Lexeme *at = parser->at;
        const char *keyword = NULL;
        if (at->kind == LEX_NAME && at->next->kind == LEX_OPERATOR &&
            strcmp(at->next->text, "=") == 0) {
            keyword = at->text;
            parser->at = at->next->next;
        } else if (keywords) {
            hone_parse_fail(parser, at->place, HONE_ERROR_INPUT,
                            "an argument without a name after one with a name");
            return false;
        }
        keywords |= keyword != NULL;
        Node *value = hone_parse_expression(parser, true);
        if (!value || !hone_parse_adopt(parser, call, value)) return false;
        value->keyword = keyword;
        *end = value;
        end = &value->next;
    }
    return true;
}

static Node *parse_invocation(Parser *parser, Node *callee) {
    Node *call = join(parser, NODE_INVOKE, callee->place, callee, NULL);
    if (!call) return NULL;
    call->text = callee->text;
    parser->at = parser->at->next;
    return parse_free_arguments(parser, call) ? call : NULL;
}

// A name that is not there, with its arguments. A branch that is never taken may use it, as in
// Jinja.
static Node *parse_unknown(Parser *parser, UnknownKind which, const char *name, Place place) {
    Node *node = hone_parse_new(parser, NODE_UNKNOWN, place);
    if (!node) return NULL;
    node->which = (int)which;
    node->text = name;
    return !take_operator(parser, "(") || parse_free_arguments(parser, node) ? node : NULL;
}

// value ( … ): a macro, a function, or a method of a value.
static Node *parse_call(Parser *parser, Node *callee) {
    Place place = callee->place;
    if (callee->kind == NODE_NAME && is_macro(parser, callee->text))
        return parse_invocation(parser, callee);
    bool is_method = callee->kind == NODE_ATTRIBUTE;
    if (!is_method && callee->kind != NODE_NAME)
        return hone_parse_fail(parser, parser->at->place, HONE_ERROR_UNSUPPORTED,
                               "only functions and methods can be called");
    const char *what = is_method ? "method" : "function";
    int which = is_method ? hone_method_find(callee->text) : hone_function_find(callee->text);
    if (which < 0)
        return parse_unknown(parser, is_method ? UNKNOWN_METHOD : UNKNOWN_FUNCTION, callee->text,
                             place);
    Node *call = hone_parse_new(parser, is_method ? NODE_METHOD : NODE_CALL, place);
    if (!call) return NULL;
    call->which = which;
    parser->is_dated |= !is_method && strcmp(callee->text, "strftime_now") == 0;
    call->text = callee->text;
    call->length = callee->length;
    call->left = is_method ? callee->left : NULL;
    if (!hone_parse_adopt(parser, call, call->left)) return NULL;
    parser->at = parser->at->next;
    const Signature *signature =
        is_method ? hone_method_signature(which) : hone_function_signature(which);
    return parse_arguments(parser, call, signature, what) ? call : NULL;
}

// ---- filters and tests -------------------------------------------------------------------------

// select, reject, selectattr and rejectattr name a test in a string; map names a filter or an
// attribute.
static bool bind_name(Parser *parser, Node *filter) {
    const Signature *signature = hone_filter_signature(filter->which);
    for (int i = 0; i < PARAMETER_LIMIT && signature->parameter[i]; i++) {
        const Node *name = filter->argument[i];
        bool is_test = strcmp(signature->parameter[i], "test") == 0;
        bool is_filter = strcmp(signature->parameter[i], "filter") == 0;
        if (!name || (!is_test && !is_filter)) continue;
        const char *text = name->kind == NODE_STRING ? name->text : "(not a string)";
        filter->test = is_test ? hone_test_find(text) : hone_filter_find(text);
        if (is_filter && filter->test >= 0 && hone_filter_signature(filter->test)->required > 0)
            filter->test = -1;
        if (filter->test >= 0) continue;
        hone_parse_fail(parser, name->place, HONE_ERROR_UNSUPPORTED,
                        "%s '%s' is not supported here", is_test ? "test" : "filter", text);
        return false;
    }
    return true;
}

static Node *parse_filter(Parser *parser, Node *input) {
    const Lexeme *name = parser->at;
    if (!hone_parse_expect(parser, LEX_NAME, NULL)) return NULL;
    int which = hone_filter_find(name->text);
    if (is_operator(parser, "."))
        return hone_parse_fail(parser, name->place, HONE_ERROR_UNSUPPORTED,
                               "filter '%s.…' is not supported", name->text);
    if (which < 0) return parse_unknown(parser, UNKNOWN_FILTER, name->text, name->place);
    Node *node = join(parser, NODE_FILTER, name->place, input, NULL);
    if (!node) return NULL;
    node->which = which;
    node->text = name->text;
    const Signature *signature = hone_filter_signature(which);
    if (take_operator(parser, "(")) {
        if (!parse_arguments(parser, node, signature, "filter")) return NULL;
    } else if (!check_required(parser, node, signature, "filter")) {
        return NULL;
    }
    return bind_name(parser, node) ? node : NULL;
}

Node *hone_parse_filters(Parser *parser, Node *input) {
    Node *node = parse_filter(parser, input);
    while (node && take_operator(parser, "|")) node = parse_filter(parser, node);
    return node;
}

static Node *parse_postfix(Parser *parser, Node *node);
static Node *parse_primary(Parser *parser);

static Node *parse_test(Parser *parser, Node *input) {
    bool negated = hone_parse_take(parser, LEX_NAME, "not");
    const Lexeme *name = parser->at;
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    if (!hone_parse_expect(parser, LEX_NAME, NULL)) return NULL;
    int which = hone_test_find(name->text);
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (strcmp(name->text, signs[i]) == 0) which = -1; // spelled only inside selectattr
    if (which < 0) return parse_unknown(parser, UNKNOWN_TEST, name->text, name->place);
    Node *node = join(parser, NODE_TEST, name->place, input, NULL);
    if (!node) return NULL;
    node->which = which;
    node->text = name->text;
    node->negated = negated;
    const Signature *signature = hone_test_signature(which);
    if (take_operator(parser, "("))
        return parse_arguments(parser, node, signature, "test") ? node : NULL;
    if (signature->parameter[0]) { // "is divisibleby 3"
        Node *value = parse_primary(parser);
        if (value) value = parse_postfix(parser, value);
        if (!value || !hone_parse_adopt(parser, node, value)) return NULL;
        node->argument[0] = value;
    }
    return node;
}

// ---- values ------------------------------------------------------------------------------------

// Items up to `closing`, which has been opened; pairs for a dict.
static bool parse_items(Parser *parser, Node *owner, const char *closing, bool pairs) {
    Node **end = &owner->items;
    for (bool first = true; !take_operator(parser, closing); first = false) {
        if (!first && !hone_parse_expect(parser, LEX_OPERATOR, ",")) return false;
        if (!first && take_operator(parser, closing)) break;
        for (int part = 0; part < (pairs ? 2 : 1); part++) {
            if (part == 1 && !hone_parse_expect(parser, LEX_OPERATOR, ":")) return false;
            Node *item = hone_parse_expression(parser, true);
            if (!item || !hone_parse_adopt(parser, owner, item)) return false;
            *end = item;
            end = &item->next;
        }
    }
    return true;
}

static Node *parse_name(Parser *parser) {
    const Lexeme *name = parser->at;
    static const char *const words[] = {"and", "or", "not", "in", "is", "if", "else", "elif"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(name->text, words[i]) == 0)
            return hone_parse_fail(parser, name->place, HONE_ERROR_INPUT,
                                   "expected a value, found '%s'", name->text);
    static const char *const special[] = {"varargs", "kwargs", "caller"};
    for (size_t i = 0; parser->macros > 0 && i < sizeof special / sizeof *special; i++)
        if (strcmp(name->text, special[i]) == 0)
            return hone_parse_fail(parser, name->place, HONE_ERROR_UNSUPPORTED,
                                   "'%s' in a macro is not supported", name->text);
    bool is_true = strcmp(name->text, "true") == 0 || strcmp(name->text, "True") == 0;
    bool is_false = strcmp(name->text, "false") == 0 || strcmp(name->text, "False") == 0;
    bool is_none = strcmp(name->text, "none") == 0 || strcmp(name->text, "None") == 0;
    parser->at = name->next;
    Node *node = hone_parse_new(parser,
                                is_true || is_false ? NODE_BOOLEAN
                                : is_none           ? NODE_NONE
                                                    : NODE_NAME,
                                name->place);
    if (!node) return NULL;
    node->integer = is_true;
    node->text = name->text;
    node->length = name->length;
    if (strcmp(name->text, "loop") == 0) parser->saw_loop = true;
    return node;
}

// Strings that follow each other are one string.
static Node *parse_string(Parser *parser) {
    Node *node = hone_parse_new(parser, NODE_STRING, parser->at->place);
    if (!node) return NULL;
    size_t length = 0;
    const Lexeme *first = parser->at;
    for (const Lexeme *part = first; part->kind == LEX_STRING; part = part->next)
        length += part->length;
    char *text = hone_arena_alloc(parser->arena, length + 1);
    if (!text) {
        hone_fail_memory(parser->err, length, "a chat template");
        return NULL;
    }
    node->text = text;
    node->length = length;
    for (; parser->at->kind == LEX_STRING; parser->at = parser->at->next) {
        memcpy(text, parser->at->text, parser->at->length);
        text += parser->at->length;
    }
    *text = '\0';
    return node;
}

// ( … ): a value in brackets, or a tuple.
static Node *parse_bracket(Parser *parser, Place place) {
    if (take_operator(parser, ")")) return hone_parse_new(parser, NODE_TUPLE, place);
    Node *node = hone_parse_tuple(parser, true);
    if (!node || !hone_parse_expect(parser, LEX_OPERATOR, ")")) return NULL;
    return node;
}

static Node *parse_value(Parser *parser) {
    const Lexeme *at = parser->at;
    Node *node = NULL;
    if (at->kind == LEX_NAME) return parse_name(parser);
    if (at->kind == LEX_STRING) return parse_string(parser);
    if (at->kind == LEX_INTEGER || at->kind == LEX_FLOAT) {
        node = hone_parse_new(parser, at->kind == LEX_FLOAT ? NODE_FLOAT : NODE_INTEGER, at->place);
        if (!node) return NULL;
        node->integer = at->integer;
        node->number = at->number;
        parser->at = at->next;
        return node;
    }
    if (take_operator(parser, "(")) return parse_bracket(parser, at->place);
    if (is_operator(parser, "[") || is_operator(parser, "{")) {
        bool dict = at->text[0] == '{';
        parser->at = at->next;
        node = hone_parse_new(parser, dict ? NODE_DICT : NODE_LIST, at->place);
        return node && parse_items(parser, node, dict ? "}" : "]", dict) ? node : NULL;
    }
    return hone_parse_fail(parser, at->place, HONE_ERROR_INPUT, "expected a value, found %s",
                           hone_parse_found(parser));
}

static Node *parse_primary(Parser *parser) {
    if (!hone_parse_enter(parser)) return NULL;
    Node *node = parse_value(parser);
    parser->nesting--;
    return node;
}

// [ index ], or [ start : stop : step ], after the opening bracket.
static Node *parse_subscript(Parser *parser, Node *value, Place place) {
    Node *node = join(parser, NODE_INDEX, place, value, NULL);
    if (!node) return NULL;
    int part = 0;
    while (!take_operator(parser, "]")) {
        if (part < 2 && take_operator(parser, ":")) {
            node->kind = NODE_SLICE;
            part++;
            continue;
        }
        if (node->argument[part])
            return hone_parse_fail(parser, parser->at->place, HONE_ERROR_INPUT,
                                   "expected ], found %s", hone_parse_found(parser));
        node->argument[part] = hone_parse_expression(parser, true);
        if (!node->argument[part] || !hone_parse_adopt(parser, node, node->argument[part]))
            return NULL;
    }
    if (node->kind == NODE_INDEX) {
        node->right = node->argument[0];
        node->argument[0] = NULL;
        if (!node->right)
            return hone_parse_fail(parser, place, HONE_ERROR_INPUT, "an index is missing in []");
    }
    return node;
}

static Node *parse_postfix(Parser *parser, Node *node) {
    while (node) {
        Place place = parser->at->place;
        if (take_operator(parser, ".")) {
            const Lexeme *name = parser->at;
            bool is_index = name->kind == LEX_INTEGER; // items.0
            if (!is_index && !hone_parse_expect(parser, LEX_NAME, NULL)) return NULL;
            node = join(parser, is_index ? NODE_INDEX : NODE_ATTRIBUTE, name->place, node, NULL);
            if (!node) return NULL;
            node->text = name->text;
            node->length = name->length;
            if (is_index && !(node->right = parse_primary(parser))) return NULL;
        } else if (take_operator(parser, "[")) {
            node = parse_subscript(parser, node, place);
        } else if (is_operator(parser, "(")) {
            node = parse_call(parser, node);
        } else {
            break;
        }
    }
    return node;
}

static Node *parse_filters(Parser *parser, Node *node) {
    while (node) {
        if (take_operator(parser, "|"))
            node = parse_filter(parser, node);
        else if (hone_parse_take(parser, LEX_NAME, "is"))
            node = parse_test(parser, node);
        else if (is_operator(parser, "("))
            node = parse_call(parser, node);
        else
            break;
    }
    return node;
}

// ---- operators ---------------------------------------------------------------------------------

static Node *parse_sign(Parser *parser, bool with_filters) {
    if (!hone_parse_enter(parser)) return NULL;
    Place place = parser->at->place;
    Node *node = NULL;
    if (take_operator(parser, "-"))
        node = join(parser, NODE_NEGATE, place, parse_sign(parser, false), NULL);
    else if (take_operator(parser, "+"))
        node = join(parser, NODE_POSITIVE, place, parse_sign(parser, false), NULL);
    else
        node = parse_primary(parser);
    node = parse_postfix(parser, node);
    if (with_filters) node = parse_filters(parser, node);
    parser->nesting--;
    if (node && is_operator(parser, "**"))
        return hone_parse_fail(parser, parser->at->place, HONE_ERROR_UNSUPPORTED,
                               "operator '**' is not supported");
    return node;
}

typedef struct OperatorName {
    const char *text;
    OperatorKind which;
    int level; // 0: + -, 1: ~, 2: * / // %
} OperatorName;

static const OperatorName arithmetic[] = {
    {"+", OP_ADD, 0},       {"-", OP_SUBTRACT, 0}, {"~", OP_CONCATENATE, 1},
    {"*", OP_MULTIPLY, 2},  {"/", OP_DIVIDE, 2},   {"//", OP_FLOOR_DIVIDE, 2},
    {"%", OP_REMAINDER, 2},
};

static Node *parse_arithmetic(Parser *parser, int level) {
    if (level == 3) return parse_sign(parser, true);
    Node *node = parse_arithmetic(parser, level + 1);
    while (node) {
        Place place = parser->at->place;
        const OperatorName *found = NULL;
        for (size_t i = 0; i < sizeof arithmetic / sizeof *arithmetic; i++)
            if (arithmetic[i].level == level && is_operator(parser, arithmetic[i].text))
                found = &arithmetic[i];
        if (!found) break;
        parser->at = parser->at->next;
        node = join(parser, NODE_BINARY, place, node, parse_arithmetic(parser, level + 1));
        if (node) node->which = found->which;
    }
    return node;
}

static bool take_comparison(Parser *parser, OperatorKind *which) {
    static const OperatorName comparisons[] = {
        {"==", OP_EQUAL, 0},      {"!=", OP_UNEQUAL, 0}, {"<", OP_LESS, 0},
        {"<=", OP_LESS_EQUAL, 0}, {">", OP_GREATER, 0},  {">=", OP_GREATER_EQUAL, 0},
    };
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
        *which = comparisons[i].which;
        if (take_operator(parser, comparisons[i].text)) return true;
    }
    *which = OP_IN;
    if (hone_parse_take(parser, LEX_NAME, "in")) return true;
    *which = OP_NOT_IN;
    if (!hone_parse_is(parser, LEX_NAME, "not") || parser->at->next->kind != LEX_NAME ||
        strcmp(parser->at->next->text, "in") != 0)
        return false;
    parser->at = parser->at->next->next;
    return true;
}

// a < b < c is (a < b) and (b < c): nothing in a template has side effects, so b may be read twice.
static Node *parse_comparison(Parser *parser) {
    Node *left = parse_arithmetic(parser, 0), *chain = NULL;
    OperatorKind which;
    for (Place place = parser->at->place; left && take_comparison(parser, &which);
         place = parser->at->place) {
        Node *right = parse_arithmetic(parser, 0);
        Node *one = join(parser, NODE_COMPARE, place, left, right);
        if (!one) return NULL;
        one->which = which;
        chain = chain ? join(parser, NODE_AND, place, chain, one) : one;
        if (!chain) return NULL;
        left = right;
    }
    return chain ? chain : left;
}

static Node *parse_not(Parser *parser) {
    Place place = parser->at->place;
    if (!hone_parse_take(parser, LEX_NAME, "not")) return parse_comparison(parser);
    if (!hone_parse_enter(parser)) return NULL;
    Node *node = join(parser, NODE_NOT, place, parse_not(parser), NULL);
    parser->nesting--;
    return node;
}

static Node *parse_and(Parser *parser) {
    Node *node = parse_not(parser);
    for (Place place = parser->at->place; node && hone_parse_take(parser, LEX_NAME, "and");
         place = parser->at->place)
        node = join(parser, NODE_AND, place, node, parse_not(parser));
    return node;
}

static Node *parse_or(Parser *parser) {
    Node *node = parse_and(parser);
    for (Place place = parser->at->place; node && hone_parse_take(parser, LEX_NAME, "or");
         place = parser->at->place)
        node = join(parser, NODE_OR, place, node, parse_and(parser));
    return node;
}

Node *hone_parse_expression(Parser *parser, bool with_condition) {
    if (!hone_parse_enter(parser)) return NULL;
    Node *node = parse_or(parser);
    while (node && with_condition) {
        Place place = parser->at->place;
        if (!hone_parse_take(parser, LEX_NAME, "if")) break;
        node = join(parser, NODE_CONDITION, place, node, parse_or(parser));
        if (node && hone_parse_take(parser, LEX_NAME, "else")) {
            node->third = hone_parse_expression(parser, true);
            if (!node->third || !hone_parse_adopt(parser, node, node->third)) node = NULL;
        }
    }
    parser->nesting--;
    return node;
}

Node *hone_parse_tuple(Parser *parser, bool with_condition) {
    Place place = parser->at->place;
    Node *first = hone_parse_expression(parser, with_condition);
    if (!first || !is_operator(parser, ",")) return first;
    Node *tuple = hone_parse_new(parser, NODE_TUPLE, place);
    if (!tuple || !hone_parse_adopt(parser, tuple, first)) return NULL;
    tuple->items = first;
    Node **end = &first->next;
    while (take_operator(parser, ",")) {
        bool ends = parser->at->kind == LEX_PRINT_END || parser->at->kind == LEX_BLOCK_END ||
                    is_operator(parser, ")");
        if (ends) break;
        Node *item = hone_parse_expression(parser, with_condition);
        if (!item || !hone_parse_adopt(parser, tuple, item)) return NULL;
        *end = item;
        end = &item->next;
    }
    return tuple;
}
