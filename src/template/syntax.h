// SPDX-License-Identifier: Apache-2.0
// Chat templates, first half: source text → lexemes → a tree. Everything lives in the template's
// arena.
#ifndef HONE_TEMPLATE_SYNTAX_H
#define HONE_TEMPLATE_SYNTAX_H

#include "base/error.h"
#include "base/memory.h"

enum {
    SOURCE_LIMIT = 4 << 20, // bytes of a template
    NESTING_LIMIT = 100,    // brackets, operators and blocks inside each other, while parsing
    TREE_LIMIT = 500,       // depth of the tree: a + b + c + … is deep without being nested
    PARAMETER_LIMIT = 4,    // of a filter, test, method or function
};

typedef struct Place {
    int line, column; // from 1; columns count characters
} Place;

typedef enum LexKind {
    LEX_DATA,
    LEX_BLOCK_BEGIN,
    LEX_BLOCK_END,
    LEX_PRINT_BEGIN,
    LEX_PRINT_END,
    LEX_NAME,
    LEX_STRING, // text is the decoded string
    LEX_INTEGER,
    LEX_FLOAT,
    LEX_OPERATOR, // text is its spelling
    LEX_END,
} LexKind;

typedef struct Lexeme {
    LexKind kind;
    Place place;
    const char *text; // NUL-terminated
    size_t length;
    int64_t integer;
    double number;
    struct Lexeme *next;
} Lexeme;

// The whole template. White space is handled as transformers sets Jinja up: trim_blocks and
// lstrip_blocks on, keep_trailing_newline off.
hone_status hone_template_lex(const char *name, const char *source, size_t length, Arena *arena,
                              Lexeme **first, HoneError *err);

typedef enum NodeKind {
    // statements
    NODE_DATA,         // text
    NODE_PRINT,        // left
    NODE_IF,           // items: NODE_BRANCH (left: condition, body); otherwise
    NODE_BRANCH,       //
    NODE_FOR,          // target, left: the iterable, right: the filter or NULL, body, otherwise
    NODE_SET,          // target = left
    NODE_SET_BLOCK,    // target = what the body prints
    NODE_MACRO,        // text; items: parameters, names with their default in left; body
    NODE_GENERATION,   // body: what the model writes, whatever it came from
    NODE_FILTER_BLOCK, // left: filters over NODE_CAPTURED, body
    NODE_BREAK,
    NODE_CONTINUE,
    // expressions
    NODE_STRING, // text
    NODE_INTEGER,
    NODE_FLOAT,
    NODE_BOOLEAN, // integer
    NODE_NONE,
    NODE_NAME,      // text
    NODE_LIST,      // items
    NODE_TUPLE,     // items
    NODE_DICT,      // items: key, value, key, value, …
    NODE_ATTRIBUTE, // left . text
    NODE_INDEX,     // left [ right ]
    NODE_SLICE,     // left [ argument 0 : 1 : 2 ]
    NODE_CALL,      // text ( argument ), or ( items: keyword arguments )
    NODE_INVOKE,    // left: a macro's name ( items: arguments, those with a keyword last )
    NODE_UNKNOWN,   // a text of kind `which` that is not there: refused when it is used
    NODE_CAPTURED,  // what the filter block around it holds
    NODE_METHOD,    // left . text ( argument )
    NODE_FILTER,    // left | text ( argument )
    NODE_TEST,      // left is text ( argument ); negated
    NODE_NEGATE,
    NODE_POSITIVE,
    NODE_NOT,
    NODE_AND,
    NODE_OR,
    NODE_BINARY,    // left which right: arithmetic and ~
    NODE_COMPARE,   // left which right
    NODE_CONDITION, // left if right else third
} NodeKind;

typedef enum UnknownKind {
    UNKNOWN_FUNCTION,
    UNKNOWN_METHOD,
    UNKNOWN_FILTER,
    UNKNOWN_TEST
} UnknownKind;

typedef enum OperatorKind {
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR_DIVIDE,
    OP_REMAINDER,
    OP_CONCATENATE,
    OP_EQUAL,
    OP_UNEQUAL,
    OP_LESS,
    OP_LESS_EQUAL,
    OP_GREATER,
    OP_GREATER_EQUAL,
    OP_IN,
    OP_NOT_IN,
} OperatorKind;

typedef struct Node {
    NodeKind kind;
    Place place;
    int depth; // of the tree below
    int which; // OperatorKind, or the number of the filter, test, method or function
    int test;  // select, reject and their kin: the number of the test, -1: truth
    bool negated;
    bool uses_loop; // for: the body mentions `loop`
    const char *text;
    size_t length;
    const char *keyword; // keyword argument's name
    int64_t integer;
    double number;
    struct Node *left, *right, *third, *target;
    struct Node *argument[PARAMETER_LIMIT];
    struct Node *items, *body, *otherwise;
    struct Node *next; // in the list that holds this node
} Node;

// A callable's parameters. Calls are bound to them while parsing, so that what is not there is
// refused before anything is rendered.
typedef struct Signature {
    const char *name;
    const char *parameter[PARAMETER_LIMIT];
    int required;
} Signature;

// What exists (filters.c, predicates.c, methods.c, functions.c): -1 when there is no such name.
int hone_filter_find(const char *name);
int hone_test_find(const char *name);
int hone_method_find(const char *name);
int hone_function_find(const char *name);
const Signature *hone_filter_signature(int which);
const Signature *hone_test_signature(int which);
const Signature *hone_method_signature(int which);
const Signature *hone_function_signature(int which);

// ---- the parser's own parts --------------------------------------------------------------------

typedef struct Parser {
    const char *name;
    Arena *arena;
    HoneError *err;
    const Lexeme *first, *at;
    int nesting;
    int loops;      // for loops around this place, for break and continue
    int macros;     // macros around it
    bool generates; // there is a generation block
    bool is_dated;  // the time is asked for
    bool saw_loop;  // the name `loop` was read since this was cleared
} Parser;

// All of these return NULL (or false) after recording an error in parser->err.
Node *hone_template_parse_statements(Parser *parser);
Node *hone_parse_expression(Parser *parser, bool with_condition);
Node *hone_parse_tuple(Parser *parser, bool with_condition); // a, b → a tuple; a alone is itself
Node *hone_parse_filters(Parser *parser, Node *input);       // name | name … over input
Node *hone_parse_new(Parser *parser, NodeKind kind, Place place);
bool hone_parse_adopt(Parser *parser, Node *parent, const Node *child); // child may be NULL
bool hone_parse_enter(Parser *parser); // one level deeper; parser->nesting-- leaves it
Node *hone_parse_fail(Parser *parser, Place place, hone_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool hone_parse_is(const Parser *parser, LexKind kind, const char *text);
bool hone_parse_take(Parser *parser, LexKind kind, const char *text); // and steps over it
bool hone_parse_expect(Parser *parser, LexKind kind, const char *text);
// What stands at the parser's place, for messages: "'foo'", "end of the template", …
const char *hone_parse_found(const Parser *parser);

#endif
