// SPDX-License-Identifier: Apache-2.0
// Kinds of records and their checks.
#include "data/record.h"

#include <stdio.h>
#include <string.h>

static const char *kind_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_NULL:
        return "null";
    default:
        return "true or false";
    }
}

static bool has(const json_t *record, const char *key) {
    return json_object_get(record, key) != NULL;
}

// A list or object with something in it: data that would be lost if it were ignored.
static bool holds(const json_t *record, const char *key) {
    const json_t *value = json_object_get(record, key);
    return json_array_size(value) > 0 || json_object_size(value) > 0;
}

static hone_status read_string(const json_t *record, const char *key, const char **string,
                               HoneError *err) {
    const json_t *value = json_object_get(record, key);
    if (!value) return hone_fail(err, HONE_ERROR_INPUT, "'%s' is missing", key);
    if (!json_is_string(value))
        return hone_fail(err, HONE_ERROR_INPUT, "'%s' is %s, not a string", key, kind_of(value));
    *string = json_string_value(value);
    return HONE_OK;
}

// ---- roles -------------------------------------------------------------------------------------

// Whether the template prints what this role says: asked of the template, not of its text.
static bool prints_role(const DataOptions *options, const char *role, const json_t *call,
                        const json_t *answer) {
    const bool first = strcmp(role, "system") == 0 || strcmp(role, "developer") == 0;
    const ChatMessage asked = {role, "c", true, answer}, user = {"user", "a", true, NULL};
    const ChatMessage assistant = {"assistant", "b", true, call};
    const ChatMessage messages[3] = {first ? asked : user, first ? user : assistant,
                                     first ? assistant : asked};
    const TemplateInput input = {
        .messages = messages, .count = 3, .bos_token = "", .eos_token = ""};
    TextBuffer text = {0}, origin = {0};
    HoneError ignored = {0};
    bool found = false;
    if (hone_template_render(options->chat_template, &input, &text, &origin, &ignored) == HONE_OK)
        for (size_t i = 0; i < text.length && !found; i++) {
            int32_t from;
            memcpy(&from, origin.data + i * sizeof from, sizeof from);
            found = hone_origin_message(from) == (first ? 0 : 2);
        }
    hone_text_free(&text);
    hone_text_free(&origin);
    return found;
}

// Some templates take a tool's answer only where a call went before.
static bool template_prints(const DataOptions *options, const char *role) {
    if (prints_role(options, role, NULL, NULL)) return true;
    if (strcmp(role, "tool") != 0) return false;
    json_t *call = json_pack("{s:s,s:s,s:[{s:s,s:s,s:{s:s,s:{}}}]}", "role", "assistant", "content",
                             "", "tool_calls", "id", "call00000", "type", "function", "function",
                             "name", "f", "arguments");
    json_t *answer = json_pack("{s:s,s:s,s:s,s:s}", "role", "tool", "content", "c", "name", "f",
                               "tool_call_id", "call00000");
    const bool found = call && answer && prints_role(options, role, call, answer);
    json_decref(call);
    json_decref(answer);
    return found;
}

static hone_status check_role(const DataOptions *options, const char *role, size_t number,
                              HoneError *err) {
    if (strcmp(role, "system") == 0 || strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0)
        return HONE_OK;
    hone_memory_watch();
    const bool known = strcmp(role, "tool") == 0 || strcmp(role, "developer") == 0;
    if (known && template_prints(options, role)) return HONE_OK;
    if (known && hone_memory_lacked()) return hone_fail_memory(err, sizeof(json_t), "a message");
    return hone_fail(err, HONE_ERROR_INPUT,
                     "message %zu has the role '%.*s', which does not exist here; the roles are "
                     "%suser, assistant%s",
                     number, hone_excerpt(role), role,
                     template_prints(options, "system") ? "system, " : "",
                     template_prints(options, "tool") ? ", tool" : "");
}

// The names that `conversations` uses.
static const char *role_of_speaker(const char *from) {
    static const char *const names[][2] = {
        {"human", "user"},        {"user", "user"},           {"gpt", "assistant"},
        {"chatgpt", "assistant"}, {"assistant", "assistant"}, {"model", "assistant"},
        {"system", "system"},     {"tool", "tool"},           {"observation", "tool"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(from, names[i][0]) == 0) return names[i][1];
    return NULL;
}

// ---- messages ----------------------------------------------------------------------------------

static hone_status read_weight(const json_t *message, bool *train, HoneError *err) {
    const json_t *weight = json_object_get(message, "weight");
    *train = true;
    if (!weight || json_is_null(weight)) return HONE_OK;
    double value = json_is_number(weight) ? json_number_value(weight) : -1;
    *train = value > 0.5;
    if ((value >= 0 && value <= 0) || (value >= 1 && value <= 1)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "'weight' is neither 0 nor 1");
}

// A list of parts {"type": "text", "text": …}.
static hone_status check_parts(const json_t *parts, HoneError *err) {
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        if (type && strcmp(type, "text") == 0 && json_is_string(json_object_get(part, "text")))
            continue;
        if (type && strcmp(type, "text") != 0)
            return hone_fail(
                err, HONE_ERROR_UNSUPPORTED,
                "part %zu of 'content' is of the type '%.*s': text alone can be learnt", i + 1,
                hone_excerpt(type), type);
        return hone_fail(err, HONE_ERROR_INPUT,
                         "part %zu of 'content' is not {\"type\": \"text\", \"text\": a string}",
                         i + 1);
    }
    return HONE_OK;
}

static hone_status check_calls(const json_t *calls, HoneError *err) {
    if (calls && !json_is_null(calls) && !json_is_array(calls))
        return hone_fail(err, HONE_ERROR_INPUT, "'tool_calls' is %s, not a list", kind_of(calls));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i),
                     *function = json_object_get(call, "function");
        if (!json_is_string(json_object_get(function ? function : call, "name")))
            return hone_fail(err, HONE_ERROR_INPUT,
                             "call %zu of 'tool_calls' has no \"name\" that is a string", i + 1);
    }
    return HONE_OK;
}

// What goes to the template as it stands; NULL where role and content are all there is.
static const json_t *fields_of(const json_t *message) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)message, key, value) {
        const bool plain = strcmp(key, "role") == 0 || strcmp(key, "weight") == 0 ||
                           (strcmp(key, "content") == 0 && json_is_string(value));
        if (!plain) return message;
    }
    return NULL;
}

static hone_status read_message(const json_t *message, ChatMessage *out, HoneError *err) {
    const json_t *content = json_object_get(message, "content");
    RETURN_IF_ERROR(read_string(message, "role", &out->role, err));
    RETURN_IF_ERROR(check_calls(json_object_get(message, "tool_calls"), err));
    RETURN_IF_ERROR(read_weight(message, &out->train, err));
    out->fields = fields_of(message);
    if (json_is_array(content)) return check_parts(content, err);
    if (json_array_size(json_object_get(message, "tool_calls")) > 0 &&
        (!content || json_is_null(content)))
        return HONE_OK;
    return read_string(message, "content", &out->content, err);
}

static hone_status read_speaker(const json_t *message, ChatMessage *out, HoneError *err) {
    if (holds(message, "tool_calls"))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "'tool_calls' can stand in 'messages' only, not in 'conversations'");
    RETURN_IF_ERROR(read_string(message, "from", &out->role, err));
    RETURN_IF_ERROR(read_string(message, "value", &out->content, err));
    RETURN_IF_ERROR(read_weight(message, &out->train, err));
    const char *role = role_of_speaker(out->role);
    if (!role)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "it is from '%.*s', who does not exist; there are human, gpt, system, "
                         "tool",
                         hone_excerpt(out->role), out->role);
    out->role = role;
    return HONE_OK;
}

// 'tools', a list or a string that holds one as JSON, and 'chat_template_kwargs'.
static hone_status read_tools(const json_t *record, Record *out, HoneError *err) {
    const json_t *tools = json_object_get(record, "tools");
    const json_t *extra = json_object_get(record, "chat_template_kwargs");
    json_error_t fault = {0};
    if (json_is_string(tools)) {
        hone_memory_watch();
        tools = out->read = json_loads(json_string_value(tools), JSON_DECODE_ANY, &fault);
        if (!tools && hone_memory_lacked()) return hone_fail_memory(err, sizeof(json_t), "'tools'");
        if (!tools)
            return hone_fail(err, HONE_ERROR_INPUT, "'tools' is a string that is not JSON: %s",
                             fault.text);
    }
    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return hone_fail(err, HONE_ERROR_INPUT, "'tools' is %s, not a list", kind_of(tools));
    if (extra && !json_is_null(extra) && !json_is_object(extra))
        return hone_fail(err, HONE_ERROR_INPUT, "'chat_template_kwargs' is %s, not an object",
                         kind_of(extra));
    out->tools = json_array_size(tools) > 0 ? tools : NULL;
    out->extra = json_is_object(extra) ? extra : NULL;
    return HONE_OK;
}

static hone_status read_messages(const json_t *record, const char *key, const DataOptions *options,
                                 Arena *arena, Record *out, HoneError *err) {
    const json_t *list = json_object_get(record, key);
    const bool speakers = strcmp(key, "messages") != 0;
    size_t count = json_array_size(list);
    if (!json_is_array(list))
        return hone_fail(err, HONE_ERROR_INPUT, "'%s' is %s, not a list", key, kind_of(list));
    if (count == 0) return hone_fail(err, HONE_ERROR_INPUT, "'%s' is empty", key);
    RETURN_IF_ERROR(read_tools(record, out, err));
    out->kind = RECORD_CHAT;
    out->count = (int64_t)count;
    out->messages = hone_arena_calloc(arena, count, sizeof *out->messages);
    if (!out->messages) return hone_fail_memory(err, count * sizeof *out->messages, "messages");
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(list, i);
        hone_status status = HONE_OK;
        if (!json_is_object(message))
            status = hone_fail(err, HONE_ERROR_INPUT, "it is %s, not an object", kind_of(message));
        else
            status = (speakers ? read_speaker : read_message)(message, &out->messages[i], err);
        if (status != HONE_OK) {
            hone_fail_in(err, "message %zu", i + 1);
            return status;
        }
        RETURN_IF_ERROR(check_role(options, out->messages[i].role, i + 1, err));
    }
    return HONE_OK;
}

void hone_record_done(Record *record) {
    json_decref(record->read);
    record->read = NULL;
}

// ---- other kinds -------------------------------------------------------------------------------

// instruction, and the input below it; `end` follows both.
static hone_status join_instruction(const char *instruction, const char *input, const char *end,
                                    Arena *arena, const char **prompt, HoneError *err) {
    size_t length = strlen(instruction) + strlen(input) + strlen(end) + 3;
    char *joined = hone_arena_alloc(arena, length);
    if (!joined) return hone_fail_memory(err, length, "an instruction");
    snprintf(joined, length, "%s%s%s%s", instruction, input[0] ? "\n\n" : "", input, end);
    *prompt = joined;
    return HONE_OK;
}

// A conversation of two messages when the model has a chat template, else prompt and completion.
static hone_status read_instruction(const json_t *record, const DataOptions *options, Arena *arena,
                                    Record *out, HoneError *err) {
    const char *instruction = "", *output = "", *input = "", *prompt = "";
    const json_t *more = json_object_get(record, "input");
    RETURN_IF_ERROR(read_string(record, "instruction", &instruction, err));
    RETURN_IF_ERROR(read_string(record, "output", &output, err));
    if (more && !json_is_null(more)) RETURN_IF_ERROR(read_string(record, "input", &input, err));
    const bool plain = options->translates || !options->chat_template;
    const char *end = options->translates || !plain ? "" : "\n\n";
    RETURN_IF_ERROR(join_instruction(instruction, input, end, arena, &prompt, err));
    if (plain) {
        *out = (Record){.kind = options->translates ? RECORD_TRANSLATION : RECORD_COMPLETION,
                        .prompt = prompt,
                        .completion = output};
        return HONE_OK;
    }
    ChatMessage *messages = hone_arena_calloc(arena, 2, sizeof *messages);
    if (!messages) return hone_fail_memory(err, 2 * sizeof *messages, "messages");
    messages[0] = (ChatMessage){"user", prompt, true, NULL};
    messages[1] = (ChatMessage){"assistant", output, true, NULL};
    *out = (Record){.kind = RECORD_CHAT, .messages = messages, .count = 2};
    return HONE_OK;
}

static hone_status unknown_kind(const json_t *record, const DataOptions *options, HoneError *err) {
    char keys[200] = "";
    size_t used = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)record, key, value) {
        int wrote = snprintf(keys + used, sizeof keys - used, "%s'%s'", used ? ", " : "", key);
        if (wrote < 0 || (size_t)wrote >= sizeof keys - used) break;
        used += (size_t)wrote;
    }
    if (options->translates)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the keys of this record (%s) are none that an encoder-decoder learns "
                         "from: source, target; prompt, completion; instruction, output",
                         keys[0] ? keys : "none");
    return hone_fail(err, HONE_ERROR_INPUT,
                     "the keys of this record (%s) are none of: messages; conversations; prompt, "
                     "completion; instruction, output; text",
                     keys[0] ? keys : "none");
}

// The two texts of an encoder-decoder's record.
static hone_status read_translation(const json_t *record, const DataOptions *options, Arena *arena,
                                    Record *out, HoneError *err) {
    const bool named = has(record, "source") && has(record, "target");
    out->kind = RECORD_TRANSLATION;
    out->completion = "";
    if (options->sources_only) {
        const char *const keys[] = {"source", "prompt", "instruction"};
        const char *input = "";
        int key = 0;
        while (key < 3 && !has(record, keys[key])) key++;
        if (key == 3) return unknown_kind(record, options, err);
        RETURN_IF_ERROR(read_string(record, keys[key], &out->prompt, err));
        if (key < 2 || !has(record, "input")) return HONE_OK;
        RETURN_IF_ERROR(read_string(record, "input", &input, err));
        return join_instruction(out->prompt, input, "", arena, &out->prompt, err);
    }
    if (named || (has(record, "prompt") && has(record, "completion"))) {
        RETURN_IF_ERROR(read_string(record, named ? "source" : "prompt", &out->prompt, err));
        return read_string(record, named ? "target" : "completion", &out->completion, err);
    }
    if (has(record, "instruction") && has(record, "output"))
        return read_instruction(record, options, arena, out, err);
    return unknown_kind(record, options, err);
}

hone_status hone_record_read(const json_t *value, const DataOptions *options, Arena *arena,
                             Record *record, HoneError *err) {
    *record = (Record){0};
    if (!json_is_object(value))
        return hone_fail(err, HONE_ERROR_INPUT, "this record is %s, not an object", kind_of(value));
    if (options->translates) return read_translation(value, options, arena, record, err);
    bool messages = has(value, "messages");
    if (messages || has(value, "conversations")) {
        if (!options->chat_template)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "chat messages need a chat template, and the model has none: give "
                             "one with --template FILE");
        return read_messages(value, messages ? "messages" : "conversations", options, arena, record,
                             err);
    }
    if (has(value, "prompt") && has(value, "completion")) {
        record->kind = RECORD_COMPLETION;
        RETURN_IF_ERROR(read_string(value, "prompt", &record->prompt, err));
        return read_string(value, "completion", &record->completion, err);
    }
    if (has(value, "instruction") && has(value, "output"))
        return read_instruction(value, options, arena, record, err);
    if (!has(value, "text")) return unknown_kind(value, options, err);
    record->kind = RECORD_TEXT;
    return read_string(value, "text", &record->prompt, err);
}

// ---- pairs -------------------------------------------------------------------------------------

static json_t *messages_of(const json_t *prompt, const json_t *answer) {
    json_t *messages = json_array();
    if (messages && json_is_array(prompt)) json_array_extend(messages, (json_t *)(uintptr_t)prompt);
    if (messages) json_array_extend(messages, (json_t *)(uintptr_t)answer);
    return messages;
}

json_t *hone_pair_answer(const json_t *pair, const char *answer, HoneError *err) {
    static const char *const copied[] = {"tools", "chat_template_kwargs"};
    const json_t *prompt = json_object_get(pair, "prompt");
    json_t *given = json_object_get(pair, answer), *record = NULL;
    if (!json_is_object(pair)) {
        hone_fail(err, HONE_ERROR_INPUT, "this record is %s, not an object", kind_of(pair));
        return NULL;
    }
    if (json_is_string(given) && json_is_string(prompt))
        record = json_pack("{s:O,s:O}", "prompt", prompt, "completion", given);
    else if (json_is_array(given) && (!prompt || json_is_array(prompt)))
        record = json_pack("{s:o}", "messages", messages_of(prompt, given));
    else
        hone_fail(err, HONE_ERROR_INPUT,
                  "a pair has 'prompt', 'chosen' and 'rejected', all texts or all lists of "
                  "messages; '%s' is %s and 'prompt' %s",
                  answer, given ? kind_of(given) : "missing", prompt ? kind_of(prompt) : "missing");
    if (!record && err->status == HONE_OK) hone_fail_memory(err, sizeof *record, "a pair");
    for (int i = 0; record && i < 2; i++) {
        json_t *value = json_object_get(pair, copied[i]);
        if (value) json_object_set(record, copied[i], value);
    }
    return record;
}
