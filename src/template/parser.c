// SPDX-License-Identifier: Apache-2.0
// Statements: everything between {% and %}.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "template/syntax.h"

Node *hone_parse_fail(Parser *parser, Place place, hone_status status, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    hone_fail(parser->err, status, "%s line %d column %d: %s", parser->name, place.line,
              place.column, message);
    return NULL;
}

const char *hone_parse_found(const Parser *parser) {
    switch (parser->at->kind) {
    case LEX_END:
        return "the end of the template";
    case LEX_DATA:
        return "text";
    case LEX_STRING:
        return "a string";
    default:
        return parser->at->text;
    }
}

Node *hone_parse_new(Parser *parser, NodeKind kind, Place place) {
    Node *node = hone_arena_calloc(parser->arena, 1, sizeof *node);
    if (!node) {
        hone_fail_memory(parser->err, sizeof *node, "a chat template");
        return NULL;
    }
    node->kind = kind;
    node->place = place;
    node->depth = 1;
    node->test = -1;
    return node;
}

bool hone_parse_adopt(Parser *parser, Node *parent, const Node *child) {
    if (child && child->depth >= parent->depth) parent->depth = child->depth + 1;
    if (parent->depth <= TREE_LIMIT) return true;
    hone_parse_fail(parser, parent->place, HONE_ERROR_INPUT,
                    "this expression or block is more than %d levels deep", TREE_LIMIT);
    return false;
}

bool hone_parse_enter(Parser *parser) {
    if (parser->nesting++ < NESTING_LIMIT) return true;
    hone_parse_fail(parser, parser->at->place, HONE_ERROR_INPUT, "nested more than %d levels deep",
                    NESTING_LIMIT);
    return false;
}

bool hone_parse_is(const Parser *parser, LexKind kind, const char *text) {
    return parser->at->kind == kind && (!text || strcmp(parser->at->text, text) == 0);
}

bool hone_parse_take(Parser *parser, LexKind kind, const char *text) {
    if (!hone_parse_is(parser, kind, text)) return false;
    parser->at = parser->at->next;
    return true;
}

bool hone_parse_expect(Parser *parser, LexKind kind, const char *text) {
    if (hone_parse_take(parser, kind, text)) return true;
    hone_parse_fail(parser, parser->at->place, HONE_ERROR_INPUT, "expected %s, found %s",
                    text                    ? text
                    : kind == LEX_NAME      ? "a name"
                    : kind == LEX_BLOCK_END ? "%}"
                                            : "}}",
                    hone_parse_found(parser));
    return false;
}

// ---- targets of set and for --------------------------------------------------------------------

// name, or name.attribute when with_attribute (of a namespace).
static Node *parse_target_name(Parser *parser, bool with_attribute) {
    const Lexeme *name = parser->at;
    if (!hone_parse_expect(parser, LEX_NAME, NULL)) return NULL;
    static const char *const reserved[] = {"true", "True", "false", "False", "none",
                                           "None", "and",  "or",    "not",   "in",
                                           "is",   "if",   "else",  "loop"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strcmp(name->text, reserved[i]) == 0)
            return hone_parse_fail(parser, name->place, HONE_ERROR_INPUT, "'%s' cannot be set",
                                   name->text);
    Node *node = hone_parse_new(parser, NODE_NAME, name->place);
    if (!node) return NULL;
    node->text = name->text;
    node->length = name->length;
    if (!with_attribute || !hone_parse_take(parser, LEX_OPERATOR, ".")) return node;
    const Lexeme *attribute = parser->at;
    if (!hone_parse_expect(parser, LEX_NAME, NULL)) return NULL;
    if (attribute->text[0] == '_')
        return hone_parse_fail(parser, attribute->place, HONE_ERROR_INPUT,
                               "an attribute cannot begin with an underscore: '%s'",
                               attribute->text);
    Node *whole = hone_parse_new(parser, NODE_ATTRIBUTE, name->place);
    if (!whole) return NULL;
    whole->left = node;
    whole->text = attribute->text;
    whole->length = attribute->length;
    return whole;
}

// a, or a, b, …: a tuple.
static Node *parse_target(Parser *parser, bool with_attribute) {
    bool bracket = hone_parse_take(parser, LEX_OPERATOR, "(");
    Node *first = parse_target_name(parser, with_attribute);
    if (!first) return NULL;
    if (hone_parse_is(parser, LEX_OPERATOR, ",")) {
        Node *tuple = hone_parse_new(parser, NODE_TUPLE, first->place);
        if (!tuple) return NULL;
        Node **end = &tuple->items;
        *end = first;
        end = &first->next;
        while (hone_parse_take(parser, LEX_OPERATOR, ",")) {
            if (!hone_parse_is(parser, LEX_NAME, NULL) || hone_parse_is(parser, LEX_NAME, "in"))
                break;
            Node *item = parse_target_name(parser, with_attribute);
            if (!item) return NULL;
            *end = item;
            end = &item->next;
        }
        first = tuple;
    }
    if (bracket && !hone_parse_expect(parser, LEX_OPERATOR, ")")) return NULL;
    return first;
}

// ---- blocks ------------------------------------------------------------------------------------

static bool at_block(const Parser *parser, const char *name) {
    return parser->at->kind == LEX_BLOCK_BEGIN && parser->at->next->kind == LEX_NAME &&
           strcmp(parser->at->next->text, name) == 0;
}

// Step over {% name.
static void take_block(Parser *parser) {
    parser->at = parser->at->next->next;
}

// The statements up to a tag named by one of `ends`, which is left to the caller.
static bool parse_body(Parser *parser, Node *owner, Place opened, Node **body,
                       const char *const *ends) {
    if (!hone_parse_expect(parser, LEX_BLOCK_END, NULL)) return false;
    if (!hone_parse_enter(parser)) return false;
    *body = hone_template_parse_statements(parser);
    parser->nesting--;
    if (parser->err->status != HONE_OK) return false;
    for (const Node *node = *body; node; node = node->next)
        if (!hone_parse_adopt(parser, owner, node)) return false;
    for (; *ends; ends++)
        if (at_block(parser, *ends)) return true;
    if (parser->at->kind == LEX_BLOCK_BEGIN)
        hone_parse_fail(parser, parser->at->place, HONE_ERROR_INPUT,
                        "tag '%s' does not belong to the block opened on line %d",
                        parser->at->next->text, opened.line);
    else
        hone_parse_fail(parser, opened, HONE_ERROR_INPUT, "this block has no end");
    return false;
}

static Node *parse_if(Parser *parser, Place place) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    Node *whole = hone_parse_new(parser, NODE_IF, place);
    if (!whole) return NULL;
    Node **end = &whole->items;
    for (;;) {
        Node *branch = hone_parse_new(parser, NODE_BRANCH, parser->at->place);
        if (!branch) return NULL;
        branch->left = hone_parse_tuple(parser, false);
        if (!branch->left || !hone_parse_adopt(parser, branch, branch->left)) return NULL;
        if (!parse_body(parser, branch, place, &branch->body, ends)) return NULL;
        if (!hone_parse_adopt(parser, whole, branch)) return NULL;
        *end = branch;
        end = &branch->next;
        if (!at_block(parser, "elif")) break;
        take_block(parser);
    }
    if (at_block(parser, "else")) {
        take_block(parser);
        if (!parse_body(parser, whole, place, &whole->otherwise, ends + 2)) return NULL;
    }
    take_block(parser);
    return hone_parse_expect(parser, LEX_BLOCK_END, NULL) ? whole : NULL;
}

static Node *parse_for(Parser *parser, Place place) {
    static const char *const ends[] = {"else", "endfor", NULL};
    Node *node = hone_parse_new(parser, NODE_FOR, place);
    if (!node) return NULL;
    node->target = parse_target(parser, false);
    if (!node->target || !hone_parse_expect(parser, LEX_NAME, "in")) return NULL;
    node->left = hone_parse_tuple(parser, false);
    if (!node->left || !hone_parse_adopt(parser, node, node->left)) return NULL;
    if (hone_parse_take(parser, LEX_NAME, "if")) {
        node->right = hone_parse_expression(parser, true);
        if (!node->right || !hone_parse_adopt(parser, node, node->right)) return NULL;
    }
    if (hone_parse_is(parser, LEX_NAME, "recursive"))
        return hone_parse_fail(parser, parser->at->place, HONE_ERROR_UNSUPPORTED,
                               "'recursive' loops are not supported");
    bool outer = parser->saw_loop;
    parser->saw_loop = false;
    parser->loops++;
    if (!parse_body(parser, node, place, &node->body, ends)) return NULL;
    parser->loops--;
    node->uses_loop = parser->saw_loop;
    parser->saw_loop |= outer;
    if (at_block(parser, "else")) {
        take_block(parser);
        if (!parse_body(parser, node, place, &node->otherwise, ends + 1)) return NULL;
    }
    take_block(parser);
    return hone_parse_expect(parser, LEX_BLOCK_END, NULL) ? node : NULL;
}

static Node *parse_set(Parser *parser, Place place) {
    static const char *const ends[] = {"endset", NULL};
    Node *node = hone_parse_new(parser, NODE_SET, place);
    if (!node) return NULL;
    node->target = parse_target(parser, true);
    if (!node->target) return NULL;
    if (hone_parse_take(parser, LEX_OPERATOR, "=")) {
        node->left = hone_parse_tuple(parser, true);
        if (!node->left || !hone_parse_adopt(parser, node, node->left)) return NULL;
    } else {
        if (hone_parse_is(parser, LEX_OPERATOR, "|"))
            return hone_parse_fail(parser, parser->at->place, HONE_ERROR_UNSUPPORTED,
                                   "a filter on a {%% set %%} block is not supported");
        if (node->target->kind == NODE_TUPLE)
            return hone_parse_fail(parser, parser->at->place, HONE_ERROR_INPUT,
                                   "expected =, found %s", hone_parse_found(parser));
        node->kind = NODE_SET_BLOCK;
        int loops = parser->loops;
        parser->loops = 0; // break would leave the text half set
        if (!parse_body(parser, node, place, &node->body, ends)) return NULL;
        parser->loops = loops;
        take_block(parser);
    }
    return hone_parse_expect(parser, LEX_BLOCK_END, NULL) ? node : NULL;
}

// ---- macros, generation, filter ----------------------------------------------------------------

// ( a, b=1 ), brackets included.
static bool parse_parameters(Parser *parser, Node *macro) {
    if (!hone_parse_expect(parser, LEX_OPERATOR, "(")) return false;
    Node **end = &macro->items;
    bool with_default = false;
    while (!hone_parse_take(parser, LEX_OPERATOR, ")")) {
        if (macro->items && !hone_parse_expect(parser, LEX_OPERATOR, ",")) return false;
        Node *name = parse_target_name(parser, false);
        if (!name) return false;
        if (hone_parse_take(parser, LEX_OPERATOR, "=")) {
            with_default = true;
            name->left = hone_parse_expression(parser, true);
            if (!name->left || !hone_parse_adopt(parser, name, name->left)) return false;
        } else if (with_default) {
            hone_parse_fail(parser, name->place, HONE_ERROR_INPUT,
                            "parameter '%s' without a default after one that has it", name->text);
            return false;
        }
        if (!hone_parse_adopt(parser, macro, name)) return false;
        *end = name;
        end = &name->next;
    }
    return true;
}

// A body of its own: loops around it cannot be left from within.
static bool parse_closed_body(Parser *parser, Node *owner, const char *end) {
    const char *const ends[] = {end, NULL};
    const int loops = parser->loops;
    const bool saw_loop = parser->saw_loop;
    parser->loops = 0;
    if (!parse_body(parser, owner, owner->place, &owner->body, ends)) return false;
    parser->loops = loops;
    parser->saw_loop |= saw_loop;
    take_block(parser);
    return hone_parse_expect(parser, LEX_BLOCK_END, NULL);
}

static Node *parse_macro(Parser *parser, Place place) {
    Node *node = hone_parse_new(parser, NODE_MACRO, place);
    if (!node) return NULL;
    const Node *name = parse_target_name(parser, false);
    if (!name) return NULL;
    node->text = name->text;
    node->length = name->length;
    if (!parse_parameters(parser, node)) return NULL;
    parser->macros++;
    if (!parse_closed_body(parser, node, "endmacro")) return NULL;
    parser->macros--;
    return node;
}

static Node *parse_generation(Parser *parser, Place place) {
    Node *node = hone_parse_new(parser, NODE_GENERATION, place);
    parser->generates = true;
    return node && parse_closed_body(parser, node, "endgeneration") ? node : NULL;
}

static Node *parse_filter_block(Parser *parser, Place place) {
    Node *node = hone_parse_new(parser, NODE_FILTER_BLOCK, place);
    Node *captured = node ? hone_parse_new(parser, NODE_CAPTURED, place) : NULL;
    if (!captured) return NULL;
    node->left = hone_parse_filters(parser, captured);
    if (!node->left || !hone_parse_adopt(parser, node, node->left)) return NULL;
    return parse_closed_body(parser, node, "endfilter") ? node : NULL;
}

static Node *parse_leave(Parser *parser, NodeKind kind, Place place) {
    if (parser->loops == 0)
        return hone_parse_fail(parser, place, HONE_ERROR_INPUT, "'%s' outside of a loop",
                               kind == NODE_BREAK ? "break" : "continue");
    Node *node = hone_parse_new(parser, kind, place);
    return node && hone_parse_expect(parser, LEX_BLOCK_END, NULL) ? node : NULL;
}

static Node *parse_tag(Parser *parser) {
    parser->at = parser->at->next;
    const Lexeme *name = parser->at;
    if (!hone_parse_expect(parser, LEX_NAME, NULL)) return NULL;
    if (strcmp(name->text, "if") == 0) return parse_if(parser, name->place);
    if (strcmp(name->text, "for") == 0) return parse_for(parser, name->place);
    if (strcmp(name->text, "set") == 0) return parse_set(parser, name->place);
    if (strcmp(name->text, "macro") == 0) return parse_macro(parser, name->place);
    if (strcmp(name->text, "generation") == 0) return parse_generation(parser, name->place);
    if (strcmp(name->text, "filter") == 0) return parse_filter_block(parser, name->place);
    if (strcmp(name->text, "break") == 0) return parse_leave(parser, NODE_BREAK, name->place);
    if (strcmp(name->text, "continue") == 0) return parse_leave(parser, NODE_CONTINUE, name->place);
    return hone_parse_fail(parser, name->place, HONE_ERROR_UNSUPPORTED, "tag '%s' is not supported",
                           name->text);
}

static Node *parse_statement(Parser *parser) {
    const Lexeme *at = parser->at;
    if (at->kind == LEX_DATA) {
        Node *node = hone_parse_new(parser, NODE_DATA, at->place);
        if (!node) return NULL;
        node->text = at->text;
        node->length = at->length;
        parser->at = at->next;
        return node;
    }
    if (at->kind == LEX_BLOCK_BEGIN) return parse_tag(parser);
    parser->at = at->next;
    Node *node = hone_parse_new(parser, NODE_PRINT, at->place);
    if (!node) return NULL;
    node->left = hone_parse_tuple(parser, true);
    if (!node->left || !hone_parse_adopt(parser, node, node->left)) return NULL;
    return hone_parse_expect(parser, LEX_PRINT_END, NULL) ? node : NULL;
}

// Tags that end or divide a block belong to whoever opened it.
static bool at_divider(const Parser *parser) {
    static const char *const dividers[] = {"elif",   "else",     "endif",         "endfor",
                                           "endset", "endmacro", "endgeneration", "endfilter"};
    for (size_t i = 0; i < sizeof dividers / sizeof *dividers; i++)
        if (at_block(parser, dividers[i])) return true;
    return false;
}

// NULL is also an empty body: parser->err tells.
Node *hone_template_parse_statements(Parser *parser) {
    Node *first = NULL, **end = &first;
    while (parser->at->kind != LEX_END && !at_divider(parser)) {
        Node *node = parse_statement(parser);
        if (!node) return NULL;
        *end = node;
        end = &node->next;
    }
    return first;
}
