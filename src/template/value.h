// SPDX-License-Identifier: Apache-2.0
// Chat templates, second half: values and the evaluator. Everything made while rendering lives in
// the render's arena.
#ifndef HONE_TEMPLATE_VALUE_H
#define HONE_TEMPLATE_VALUE_H

#include "template/syntax.h"
#include "template/template.h"

enum {
    STEP_LIMIT = 10 * 1000 * 1000, // operations, and 64 bytes of text count as one
    OUTPUT_LIMIT = 64 << 20,       // bytes
    MEMORY_LIMIT = 256 << 20,      // bytes
    VALUE_LIMIT = 50,              // lists and dicts inside each other
    DEPTH_LIMIT = 2000,            // expressions and blocks inside each other, through macros
    RANGE_LIMIT = 100000,          // items of range(), as in Jinja's sandbox
    NO_ORIGIN = -1,
};

struct ChatTemplate {
    char *name;
    Node *body;
    bool generates; // has a generation block
    bool is_dated;  // calls strftime_now
    Arena arena;
};

// A string that knows where each byte came from: message origin[i], or `from` for all of it when
// origin is NULL. Not NUL-terminated.
typedef struct Text {
    const char *data;
    size_t length;
    const int32_t *origin;
    int32_t from;
    bool safe; // Jinja's Markup: what + joins to it is escaped as HTML
} Text;

typedef enum ValueKind {
    VALUE_MISSING,   // an argument that was not given
    VALUE_UNDEFINED, // text: the name that was looked up
    VALUE_NONE,
    VALUE_BOOLEAN,
    VALUE_INTEGER,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_GENERATOR, // list: what filters yield; true, without a length, no value of JSON's
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_LOOP,
    VALUE_FUNCTION, // text: its name
    VALUE_MACRO,
} ValueKind;

typedef struct Value {
    ValueKind kind;
    int32_t
        owner; // 1 + the message whose JSON it is: what is printed of it comes from there; 0: none
    union {
        int64_t integer; // and boolean
        double number;
        Text text;
        struct List *list;
        struct Dict *dict;
        struct Loop *loop;
        struct Macro *macro;
    };
} Value;

typedef struct List {
    Value *items;
    int64_t count, capacity;
    int depth;
} List;

typedef struct DictEntry {
    Value key, value;
} DictEntry;

// In order of insertion. Only a namespace changes after it was made.
typedef struct Dict {
    DictEntry *entries;
    int64_t count, capacity;
    int depth;
} Dict;

typedef struct Loop {
    const List *list;
    int64_t index; // from 0
} Loop;

typedef struct Variable {
    const char *name;
    Value value;
    struct Variable *next;
} Variable;

// In the arena: a macro keeps the one it was defined in.
typedef struct Scope {
    Variable *variables;
    struct Scope *outer;
} Scope;

typedef struct Macro {
    const Node *node;
    Scope *scope; // its names are looked up here, when it runs
} Macro;

// Text being put together, with its origins (kept only once they differ).
typedef struct Builder {
    char *data;
    int32_t *origin;
    size_t length, capacity;
    int32_t from;
} Builder;

typedef enum Flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } Flow;

typedef struct Render {
    const ChatTemplate *parsed;
    HoneError *err;
    Arena arena;
    size_t bytes;
    int64_t now; // TemplateInput's
    int64_t steps;
    int depth;
    Scope *scope;
    Builder *output;
    Text captured; // of the filter block
    Flow flow;
} Render;

// ---- the render --------------------------------------------------------------------------------

// "NAME line L column C: …"
hone_status hone_render_fail(Render *render, const Node *node, hone_status status,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));
hone_status hone_render_charge(Render *render, const Node *node, size_t steps);
// NULL after recording an error.
void *hone_render_alloc(Render *render, const Node *node, size_t bytes);
hone_status hone_render_body(Render *render, const Node *body);
// One level deeper until render->depth--.
hone_status hone_render_enter(Render *render, const Node *node);
// A scope within the present one, until hone_scope_leave. NULL after recording an error.
Scope *hone_scope_enter(Render *render, const Node *node, Scope *outer);
hone_status hone_render_name(Render *render, const Node *node, const char *name, Value value);
// What the body prints, in a scope of its own within `outer`.
hone_status hone_render_capture(Render *render, const Node *node, const Node *body, Text *text);
hone_status hone_macro_run(Render *render, const Node *node, Value *out);
// messages, tools and the other variables that a template starts with.
hone_status hone_render_globals(Render *render, const Node *node, const TemplateInput *input);
hone_status hone_jinja_evaluate(Render *render, const Node *node, Value *out);
hone_status hone_evaluate_arguments(Render *render, const Node *node,
                                    Value argument[PARAMETER_LIMIT]);
hone_status hone_render_assign(Render *render, const Node *target, Value value);
hone_status hone_evaluate_binary(Render *render, const Node *node, Value left, Value right,
                                 Value *out);
hone_status hone_evaluate_compare(Render *render, const Node *node, int which, Value left,
                                  Value right, bool *result);
hone_status hone_evaluate_index(Render *render, const Node *node, Value value, Value index,
                                Value *out);
hone_status hone_evaluate_slice(Render *render, const Node *node, Value value, const Value bound[3],
                                Value *out);
hone_status hone_evaluate_attribute(Render *render, const Node *node, Value value, Text name,
                                    Value *out);

// ---- calls -------------------------------------------------------------------------------------

hone_status hone_filter_run(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out);
hone_status hone_filter_apply(Render *render, const Node *node, int which, Value input,
                              const Value argument[PARAMETER_LIMIT], Value *out);
hone_status hone_test_run(Render *render, const Node *node, int which, Value input, Value argument,
                          bool *result);
hone_status hone_method_run(Render *render, const Node *node, Value receiver,
                            const Value argument[PARAMETER_LIMIT], Value *out);
bool hone_method_is_of(int which, ValueKind receiver);
hone_status hone_function_run(Render *render, const Node *node,
                              const Value argument[PARAMETER_LIMIT], Value *out);

// sorting.c
hone_status hone_filter_sort(Render *render, const Node *node, Value input,
                             const Value argument[PARAMETER_LIMIT], Value *out);
hone_status hone_filter_dictsort(Render *render, const Node *node, Value input,
                                 const Value argument[PARAMETER_LIMIT], Value *out);
hone_status hone_filter_min(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out);
hone_status hone_filter_max(Render *render, const Node *node, Value input,
                            const Value argument[PARAMETER_LIMIT], Value *out);
hone_status hone_filter_unique(Render *render, const Node *node, Value input,
                               const Value argument[PARAMETER_LIMIT], Value *out);
// item.a.b for the attribute "a.b"
hone_status hone_value_path(Render *render, const Node *node, Value item, Text path, Value *out);

// ---- values ------------------------------------------------------------------------------------

Value hone_value_none(void);
Value hone_value_boolean(bool value);
Value hone_value_integer(int64_t value);
Value hone_value_float(double value);
Value hone_value_text(Text text);
Value hone_value_string(const char *string); // borrowed; the template's own
Value hone_value_undefined(Text name);
Text hone_text_of(const char *data, size_t length, int32_t from);
const char *hone_value_kind(Value value); // Python's name of the type
bool hone_value_truth(Value value);
bool hone_value_is_number(Value value); // boolean, integer or float
double hone_value_number(Value value);
bool hone_value_is_missing(Value value); // not given, or none
bool hone_text_equal(Text left, Text right);
hone_status hone_value_equal(Render *render, const Node *node, Value left, Value right,
                             bool *result);
// An undefined value where a defined one is needed: "'name' is undefined".
hone_status hone_value_defined(Render *render, const Node *node, Value value);

// A list of `count` items, zeroed (each VALUE_MISSING). Call hone_list_seal when it is filled.
hone_status hone_list_make(Render *render, const Node *node, int64_t count, List **list);
hone_status hone_list_append(Render *render, const Node *node, List *list, Value value);
hone_status hone_list_seal(Render *render, const Node *node, List *list);
Value hone_value_list(List *list, bool tuple);
Value hone_value_generator(List *list);
hone_status hone_dict_make(Render *render, const Node *node, Dict **dict);
hone_status hone_dict_put(Render *render, const Node *node, Dict *dict, Value key, Value value);
hone_status hone_dict_find(Render *render, const Node *node, const Dict *dict, Value key,
                           Value *found); // VALUE_MISSING when it is not there
// The entries of a dict as a list: 'i' (key, value) tuples, 'k' keys, 'v' values.
hone_status hone_dict_list(Render *render, const Node *node, const Dict *dict, char what,
                           Value *out);
// What a for loop would see.
hone_status hone_value_items(Render *render, const Node *node, Value value, const List **list);

// ---- text --------------------------------------------------------------------------------------

// str(value), as Python spells it.
hone_status hone_value_to_text(Render *render, const Node *node, Value value, Text *text);
hone_status hone_builder_text(Render *render, const Node *node, Builder *builder, Text text);
hone_status hone_builder_puts(Render *render, const Node *node, Builder *builder,
                              const char *string, int32_t owner); // 0: the template's own
hone_status hone_builder_value(Render *render, const Node *node, Builder *builder, Value value);
Text hone_builder_done(const Builder *builder);
Text hone_text_slice(Text text, size_t begin, size_t end);
int32_t hone_text_origin(Text text, size_t at);
int64_t hone_text_characters(Text text);

typedef struct JsonStyle {
    int64_t indent; // -1: one line
    Text item, key; // separators
    bool ascii;
} JsonStyle;
hone_status hone_builder_json(Render *render, const Node *node, Builder *builder, Value value,
                              const JsonStyle *style, int level);

// ---- string functions that filters and methods share -------------------------------------------

typedef enum TrimSide { TRIM_LEFT = 1, TRIM_RIGHT = 2, TRIM_BOTH = 3 } TrimSide;
// characters: a string, or missing for white space.
hone_status hone_text_trim(Render *render, const Node *node, Text text, Value characters,
                           TrimSide side, Text *out);
typedef enum CaseKind { CASE_UPPER, CASE_LOWER, CASE_CAPITAL, CASE_TITLE, CASE_WORDS } CaseKind;
hone_status hone_text_case(Render *render, const Node *node, Text text, CaseKind kind, Text *out);
hone_status hone_text_replace(Render *render, const Node *node, Text text, Text old, Text with,
                              int64_t most, Text *out); // most < 0: all
hone_status hone_text_join(Render *render, const Node *node, const List *list, Text separator,
                           Text *out);
size_t hone_text_find(Text text, Text part, size_t from); // SIZE_MAX: not there

#endif
