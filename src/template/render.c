// SPDX-License-Identifier: Apache-2.0
// Statements, and the public interface.
#include <string.h>

#include "template/value.h"

// ---- scopes ------------------------------------------------------------------------------------

hone_status hone_render_enter(Render *render, const Node *node) {
    if (++render->depth <= DEPTH_LIMIT) return HONE_OK;
    return hone_render_fail(render, node, HONE_ERROR_INPUT,
                            "macros call each other more than %d levels deep", (int)DEPTH_LIMIT);
}

Scope *hone_scope_enter(Render *render, const Node *node, Scope *outer) {
    Scope *scope = hone_render_alloc(render, node, sizeof *scope);
    if (!scope) return NULL;
    *scope = (Scope){.outer = outer};
    render->scope = scope;
    return scope;
}

// ---- variables ---------------------------------------------------------------------------------

hone_status hone_render_name(Render *render, const Node *node, const char *name, Value value) {
    for (Variable *variable = render->scope->variables; variable; variable = variable->next)
        if (strcmp(variable->name, name) == 0) {
            variable->value = value;
            return HONE_OK;
        }
    Variable *variable = hone_render_alloc(render, node, sizeof *variable);
    if (!variable) return render->err->status;
    *variable = (Variable){.name = name, .value = value, .next = render->scope->variables};
    render->scope->variables = variable;
    return HONE_OK;
}

static hone_status set_attribute(Render *render, const Node *target, Value value) {
    Value owner;
    RETURN_IF_ERROR(hone_jinja_evaluate(render, target->left, &owner));
    if (owner.kind != VALUE_NAMESPACE)
        return hone_render_fail(render, target, HONE_ERROR_INPUT,
                                "only a namespace's attributes can be set, this is %s",
                                hone_value_kind(owner));
    Text name = hone_text_of(target->text, target->length, NO_ORIGIN);
    return hone_dict_put(render, target, owner.dict, hone_value_text(name), value);
}

hone_status hone_render_assign(Render *render, const Node *target, Value value) {
    if (target->kind == NODE_NAME) return hone_render_name(render, target, target->text, value);
    if (target->kind == NODE_ATTRIBUTE) return set_attribute(render, target, value);
    const List *list;
    int64_t names = 0, at = 0;
    for (const Node *item = target->items; item; item = item->next) names++;
    RETURN_IF_ERROR(hone_value_items(render, target, value, &list));
    if (list->count != names)
        return hone_render_fail(render, target, HONE_ERROR_INPUT, "%lld values for %lld names",
                                (long long)list->count, (long long)names);
    for (const Node *item = target->items; item; item = item->next)
        RETURN_IF_ERROR(hone_render_assign(render, item, list->items[at++]));
    return HONE_OK;
}

// ---- loops -------------------------------------------------------------------------------------

// Whether the loop's filter takes this item, with the target set as it says.
static hone_status passes(Render *render, const Node *node, Value item, bool *taken) {
    Scope *outer = render->scope;
    Value result = hone_value_boolean(true);
    if (node->right) {
        if (!hone_scope_enter(render, node, outer)) return render->err->status;
        RETURN_IF_ERROR(hone_render_assign(render, node->target, item));
        RETURN_IF_ERROR(hone_jinja_evaluate(render, node->right, &result));
        render->scope = outer;
    }
    *taken = hone_value_truth(result);
    return HONE_OK;
}

static hone_status run_once(Render *render, const Node *node, Value item, Loop *loop) {
    Scope *outer = render->scope;
    if (!hone_scope_enter(render, node, outer)) return render->err->status;
    RETURN_IF_ERROR(hone_render_assign(render, node->target, item));
    if (node->uses_loop)
        RETURN_IF_ERROR(
            hone_render_name(render, node, "loop", (Value){.kind = VALUE_LOOP, .loop = loop}));
    RETURN_IF_ERROR(hone_render_body(render, node->body));
    render->scope = outer;
    return HONE_OK;
}

// Without `loop` in the body the filter is asked item by item, between the bodies, as Jinja does:
// it may read what they set. With it the length must be known, so the filter runs first.
static hone_status filtered(Render *render, const Node *node, const List *all, const List **kept) {
    *kept = all;
    if (!node->right || !node->uses_loop) return HONE_OK;
    List *list;
    RETURN_IF_ERROR(hone_list_make(render, node, 0, &list));
    for (int64_t i = 0; i < all->count; i++) {
        bool taken;
        RETURN_IF_ERROR(passes(render, node, all->items[i], &taken));
        if (taken) RETURN_IF_ERROR(hone_list_append(render, node, list, all->items[i]));
    }
    *kept = list;
    return HONE_OK;
}

static hone_status render_for(Render *render, const Node *node) {
    Value iterable;
    const List *all, *list;
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &iterable));
    RETURN_IF_ERROR(hone_value_items(render, node, iterable, &all));
    RETURN_IF_ERROR(filtered(render, node, all, &list));
    Loop *loop = hone_render_alloc(render, node, sizeof *loop);
    if (!loop) return render->err->status;
    bool ran = false;
    loop->list = list;
    for (; loop->index < list->count; loop->index++) {
        bool taken = true;
        RETURN_IF_ERROR(hone_render_charge(render, node, 1));
        if (!node->uses_loop)
            RETURN_IF_ERROR(passes(render, node, list->items[loop->index], &taken));
        if (!taken) continue;
        ran = true;
        RETURN_IF_ERROR(run_once(render, node, list->items[loop->index], loop));
        Flow flow = render->flow;
        render->flow = FLOW_ON;
        if (flow == FLOW_BREAK) break;
    }
    if (ran || !node->otherwise) return HONE_OK;
    Scope *outer = render->scope;
    if (!hone_scope_enter(render, node, outer)) return render->err->status;
    RETURN_IF_ERROR(hone_render_body(render, node->otherwise));
    render->scope = outer;
    return HONE_OK;
}

// ---- other statements --------------------------------------------------------------------------

static hone_status render_if(Render *render, const Node *node) {
    for (const Node *branch = node->items; branch; branch = branch->next) {
        Value condition;
        RETURN_IF_ERROR(hone_jinja_evaluate(render, branch->left, &condition));
        if (hone_value_truth(condition)) return hone_render_body(render, branch->body);
    }
    return hone_render_body(render, node->otherwise);
}

hone_status hone_render_capture(Render *render, const Node *node, const Node *body, Text *text) {
    Builder captured = {0}, *output = render->output;
    Scope *outer = render->scope;
    if (!hone_scope_enter(render, node, outer)) return render->err->status;
    render->output = &captured;
    RETURN_IF_ERROR(hone_render_body(render, body));
    render->output = output;
    render->scope = outer;
    *text = hone_builder_done(&captured);
    return HONE_OK;
}

static hone_status render_set_block(Render *render, const Node *node) {
    Text text;
    RETURN_IF_ERROR(hone_render_capture(render, node, node->body, &text));
    return hone_render_assign(render, node->target, hone_value_text(text));
}

static hone_status render_filter_block(Render *render, const Node *node) {
    Text outer = render->captured, text;
    Value value;
    RETURN_IF_ERROR(hone_render_capture(render, node, node->body, &text));
    render->captured = text;
    RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &value));
    render->captured = outer;
    return hone_builder_value(render, node, render->output, value);
}

// What the block prints, each byte marked as generated.
static hone_status render_generation(Render *render, const Node *node) {
    Text text;
    RETURN_IF_ERROR(hone_render_capture(render, node, node->body, &text));
    int32_t *origin = hone_render_alloc(render, node, text.length * sizeof *origin + 1);
    if (!origin) return render->err->status;
    for (size_t i = 0; i < text.length; i++) {
        const int32_t from = hone_text_origin(text, i);
        origin[i] = hone_origin_generated(from) ? from : -3 - from;
    }
    text.origin = origin;
    return hone_builder_text(render, node, render->output, text);
}

static hone_status define_macro(Render *render, const Node *node) {
    Macro *macro = hone_render_alloc(render, node, sizeof *macro);
    if (!macro) return render->err->status;
    *macro = (Macro){.node = node, .scope = render->scope};
    return hone_render_name(render, node, node->text, (Value){.kind = VALUE_MACRO, .macro = macro});
}

static hone_status render_statement(Render *render, const Node *node) {
    Value value;
    RETURN_IF_ERROR(hone_render_charge(render, node, 1));
    switch (node->kind) {
    case NODE_DATA:
        return hone_builder_text(render, node, render->output,
                                 hone_text_of(node->text, node->length, NO_ORIGIN));
    case NODE_PRINT:
        RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &value));
        return hone_builder_value(render, node, render->output, value);
    case NODE_IF:
        return render_if(render, node);
    case NODE_FOR:
        return render_for(render, node);
    case NODE_SET:
        RETURN_IF_ERROR(hone_jinja_evaluate(render, node->left, &value));
        return hone_render_assign(render, node->target, value);
    case NODE_SET_BLOCK:
        return render_set_block(render, node);
    case NODE_MACRO:
        return define_macro(render, node);
    case NODE_GENERATION:
        return render_generation(render, node);
    case NODE_FILTER_BLOCK:
        return render_filter_block(render, node);
    default:
        render->flow = node->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return HONE_OK;
    }
}

hone_status hone_render_body(Render *render, const Node *body) {
    if (!body) return HONE_OK;
    RETURN_IF_ERROR(hone_render_enter(render, body));
    for (const Node *node = body; node && render->flow == FLOW_ON; node = node->next)
        RETURN_IF_ERROR(render_statement(render, node));
    render->depth--;
    return HONE_OK;
}

// ---- the public interface ----------------------------------------------------------------------

hone_status hone_template_parse(const char *name, const char *source, size_t length,
                                ChatTemplate **parsed, HoneError *err) {
    HoneError own = {0}; // the parser reads its error back
    Lexeme *first;
    *parsed = NULL;
    ChatTemplate *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a chat template");
    made->name = hone_arena_strndup(&made->arena, name, strlen(name));
    hone_status status = made->name ? HONE_OK : hone_fail_memory(&own, 64, "a chat template");
    if (status == HONE_OK)
        status = hone_template_lex(made->name, source, length, &made->arena, &first, &own);
    if (status == HONE_OK) {
        Parser parser = {
            .name = made->name, .arena = &made->arena, .err = &own, .first = first, .at = first};
        made->body = hone_template_parse_statements(&parser);
        if (own.status == HONE_OK && parser.at->kind != LEX_END)
            hone_parse_fail(&parser, parser.at->place, HONE_ERROR_INPUT,
                            "tag '%s' does not belong to any block", parser.at->next->text);
        made->generates = parser.generates;
        made->is_dated = parser.is_dated;
        status = own.status;
    }
    if (status != HONE_OK) {
        hone_template_free(made);
        return hone_fail(err, status, "%s", own.message);
    }
    *parsed = made;
    return HONE_OK;
}

bool hone_template_generates(const ChatTemplate *parsed) {
    return parsed->generates;
}

bool hone_template_is_dated(const ChatTemplate *parsed) {
    return parsed->is_dated;
}

void hone_template_free(ChatTemplate *parsed) {
    if (!parsed) return;
    hone_arena_free(&parsed->arena);
    hone_free(parsed);
}

static hone_status put_result(const Builder *output, TextBuffer *text, TextBuffer *origin,
                              HoneError *err) {
    Text whole = hone_builder_done(output);
    hone_text_append(text, whole.data, whole.length);
    for (size_t i = 0; i < whole.length; i++) {
        int32_t from = hone_text_origin(whole, i);
        hone_text_append(origin, &from, sizeof from);
    }
    if (text->failed || origin->failed)
        return hone_fail_memory(err, whole.length * 5, "a rendered conversation");
    return HONE_OK;
}

hone_status hone_template_render(const ChatTemplate *parsed, const TemplateInput *input,
                                 TextBuffer *text, TextBuffer *origin, HoneError *err) {
    HoneError own = {0};
    Builder output = {0};
    Node whole = {.place = {1, 1}}; // where a failure outside of every statement is
    Render render = {.parsed = parsed, .err = &own, .output = &output, .now = input->now};
    hone_text_clear(text);
    hone_text_clear(origin);
    Scope scope = {0};
    render.scope = &scope;
    hone_status status = hone_render_globals(&render, &whole, input);
    if (status == HONE_OK) status = hone_render_body(&render, parsed->body);
    if (status == HONE_OK) status = put_result(&output, text, origin, &own);
    hone_arena_free(&render.arena);
    return status == HONE_OK ? HONE_OK : hone_fail(err, status, "%s", own.message);
}
