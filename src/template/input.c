// SPDX-License-Identifier: Apache-2.0
// What a template starts with: the conversation and its variables, JSON as Jinja's values.
#include <string.h>

#include "template/value.h"

static hone_status from_json(Render *render, const Node *node, const json_t *json, int32_t from,
                             int depth, Value *out);

static Text text_of(const json_t *string, int32_t from) {
    return hone_text_of(json_string_value(string), json_string_length(string), from);
}

static hone_status from_array(Render *render, const Node *node, const json_t *json, int32_t from,
                              int depth, Value *out) {
    List *list;
    const size_t count = json_array_size(json);
    RETURN_IF_ERROR(hone_list_make(render, node, (int64_t)count, &list));
    for (size_t i = 0; i < count; i++)
        RETURN_IF_ERROR(
            from_json(render, node, json_array_get(json, i), from, depth, &list->items[i]));
    *out = hone_value_list(list, false);
    return hone_list_seal(render, node, list);
}

static hone_status from_object(Render *render, const Node *node, const json_t *json, int32_t from,
                               int depth, Value *out) {
    Dict *dict;
    const char *key;
    size_t length;
    json_t *value;
    RETURN_IF_ERROR(hone_dict_make(render, node, &dict));
    json_object_keylen_foreach((json_t *)(uintptr_t)json, key, length, value) {
        Value made;
        RETURN_IF_ERROR(from_json(render, node, value, from, depth, &made));
        Value name = hone_value_text(hone_text_of(key, length, from));
        name.owner = from + 1;
        RETURN_IF_ERROR(hone_dict_put(render, node, dict, name, made));
    }
    *out = (Value){.kind = VALUE_DICT, .dict = dict};
    return HONE_OK;
}

// All of it comes from `from`.
static hone_status from_json(Render *render, const Node *node, const json_t *json, int32_t from,
                             int depth, Value *out) {
    RETURN_IF_ERROR(hone_render_charge(render, node, 1));
    if (depth == VALUE_LIMIT)
        return hone_render_fail(render, node, HONE_ERROR_INPUT,
                                "lists or objects are nested more than %d levels deep",
                                (int)VALUE_LIMIT);
    hone_status status = HONE_OK;
    if (json_is_object(json))
        status = from_object(render, node, json, from, depth + 1, out);
    else if (json_is_array(json))
        status = from_array(render, node, json, from, depth + 1, out);
    else if (json_is_string(json))
        *out = hone_value_text(text_of(json, from));
    else if (json_is_integer(json))
        *out = hone_value_integer(json_integer_value(json));
    else if (json_is_real(json))
        *out = hone_value_float(json_real_value(json));
    else
        *out = json_is_null(json) ? hone_value_none() : hone_value_boolean(json_is_true(json));
    if (depth > 0 || !json_is_string(json))
        out->owner = from + 1; // content's quotes are not its own
    return status;
}

// What the model writes; the rest of a message is given.
static bool is_written(const char *key) {
    static const char *const written[] = {"content", "reasoning_content", "reasoning", "thinking",
                                          "tool_calls"};
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        if (strcmp(written[i], key) == 0) return true;
    return false;
}

static hone_status put(Render *render, const Node *node, Dict *dict, const char *key, Value value) {
    return hone_dict_put(render, node, dict, hone_value_string(key), value);
}

// As transformers does: a thought by any of its names is there as reasoning_content and thinking.
static const json_t *reasoning_of(const json_t *fields) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(fields, names[i]);
        if (value && !json_is_null(value)) return value;
    }
    return NULL;
}

static hone_status put_json(Render *render, const Node *node, Dict *dict, const char *key,
                            const json_t *json, int32_t from) {
    Value made;
    RETURN_IF_ERROR(from_json(render, node, json, from, 0, &made));
    return put(render, node, dict, key, made);
}

static hone_status put_fields(Render *render, const Node *node, const ChatMessage *message,
                              int64_t index, Dict *dict) {
    const char *key;
    json_t *value;
    const json_t *thought = reasoning_of(message->fields);
    if (thought) RETURN_IF_ERROR(put_json(render, node, dict, "thinking", thought, (int32_t)index));
    json_object_foreach((json_t *)(uintptr_t)message->fields, key, value) {
        const int32_t from = is_written(key) ? (int32_t)index : NO_ORIGIN;
        // weight is ours alone; what a table's column leaves empty is not there, as in
        // transformers.
        if (strcmp(key, "weight") == 0 || json_is_null(value)) continue;
        RETURN_IF_ERROR(put_json(render, node, dict, key, value, from));
    }
    if (!thought) return HONE_OK;
    return put_json(render, node, dict, "reasoning_content", thought, (int32_t)index);
}

static hone_status put_message(Render *render, const Node *node, const ChatMessage *message,
                               int64_t index, Value *out) {
    Dict *dict;
    RETURN_IF_ERROR(hone_dict_make(render, node, &dict));
    *out = (Value){.kind = VALUE_DICT, .dict = dict};
    if (message->fields) return put_fields(render, node, message, index, dict);
    const size_t length = strlen(message->content);
    const Text content = hone_text_of(message->content, length, (int32_t)index);
    RETURN_IF_ERROR(put(render, node, dict, "role", hone_value_string(message->role)));
    return put(render, node, dict, "content", hone_value_text(content));
}

static hone_status set_json(Render *render, const Node *node, const char *name,
                            const json_t *json) {
    Value value = hone_value_none();
    if (json) RETURN_IF_ERROR(from_json(render, node, json, NO_ORIGIN, 0, &value));
    return hone_render_name(render, node, name, value);
}

hone_status hone_render_globals(Render *render, const Node *node, const TemplateInput *input) {
    List *messages;
    const char *name;
    json_t *value;
    if (input->count > INT32_MAX - 3)
        return hone_render_fail(render, node, HONE_ERROR_INPUT, "too many messages");
    json_object_foreach((json_t *)(uintptr_t)input->extra, name, value)
        RETURN_IF_ERROR(set_json(render, node, name, value));
    RETURN_IF_ERROR(hone_list_make(render, node, input->count, &messages));
    for (int64_t i = 0; i < input->count; i++)
        RETURN_IF_ERROR(put_message(render, node, &input->messages[i], i, &messages->items[i]));
    RETURN_IF_ERROR(hone_list_seal(render, node, messages));
    RETURN_IF_ERROR(hone_render_name(render, node, "messages", hone_value_list(messages, false)));
    RETURN_IF_ERROR(hone_render_name(render, node, "add_generation_prompt",
                                     hone_value_boolean(input->add_generation_prompt)));
    if (input->bos_token)
        RETURN_IF_ERROR(
            hone_render_name(render, node, "bos_token", hone_value_string(input->bos_token)));
    if (input->eos_token)
        RETURN_IF_ERROR(
            hone_render_name(render, node, "eos_token", hone_value_string(input->eos_token)));
    RETURN_IF_ERROR(set_json(render, node, "tools", input->tools));
    return set_json(render, node, "documents", input->documents);
}
