// SPDX-License-Identifier: Apache-2.0
// Renders conversations for tests/interop/test_template.py.
//   usage: template_tool TEMPLATE_FILE <conversations.jsonl
// Each line of stdin is {"messages": [{"role", "content", …}], "add_generation_prompt",
// "bos_token", "eos_token", "tools", "documents", "extra": {name: value}}; each line of stdout
// {"text", "origin"} or {"error"}. A template that does not parse gives one {"error"} and status 2.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "template/template.h"

static void print_error(const char *message) {
    TextBuffer line = {0};
    hone_text_json(&line, message, strlen(message));
    printf("{\"error\": %s}\n", line.data);
    hone_text_free(&line);
}

static void print_result(const TextBuffer *text, const TextBuffer *origin) {
    TextBuffer line = {0};
    hone_text_json(&line, text->data ? text->data : "", text->length);
    printf("{\"text\": %s, \"origin\": [", line.data);
    for (size_t i = 0; i < origin->length / sizeof(int32_t); i++) {
        int32_t from;
        memcpy(&from, origin->data + i * sizeof from, sizeof from);
        printf("%s%d", i ? ", " : "", from);
    }
    printf("]}\n");
    hone_text_free(&line);
}

static void render_line(const ChatTemplate *parsed, const char *line) {
    HoneError err = {0};
    json_error_t problem;
    json_t *root = json_loads(line, 0, &problem);
    json_t *list = json_object_get(root, "messages");
    size_t count = json_array_size(list);
    if (!root) {
        print_error(problem.text);
        return;
    }
    ChatMessage *messages = hone_calloc(count + 1, sizeof *messages);
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(list, i);
        messages[i].role = json_string_value(json_object_get(message, "role"));
        messages[i].content = json_string_value(json_object_get(message, "content"));
        messages[i].train = true;
        messages[i].fields = message;
    }
    TemplateInput input = {.messages = messages,
                           .count = (int64_t)count,
                           .add_generation_prompt =
                               json_is_true(json_object_get(root, "add_generation_prompt")),
                           .bos_token = json_string_value(json_object_get(root, "bos_token")),
                           .eos_token = json_string_value(json_object_get(root, "eos_token")),
                           .tools = json_object_get(root, "tools"),
                           .documents = json_object_get(root, "documents"),
                           .extra = json_object_get(root, "extra")};
    TextBuffer text = {0}, origin = {0};
    if (hone_template_render(parsed, &input, &text, &origin, &err) == HONE_OK)
        print_result(&text, &origin);
    else
        print_error(err.message);
    hone_text_free(&text);
    hone_text_free(&origin);
    hone_free(messages);
    json_decref(root);
}

int main(int argc, char **argv) {
    HoneError err = {0};
    char *source = NULL, *line = NULL;
    size_t length = 0, room = 0;
    ChatTemplate *parsed = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: template_tool TEMPLATE_FILE\n");
        return 2;
    }
    hone_status status = hone_file_read(argv[1], &source, &length, &err);
    if (status == HONE_OK)
        status = hone_template_parse("chat template", source, length, &parsed, &err);
    if (status != HONE_OK)
        print_error(err.message);
    else
        while (getline(&line, &room, stdin) > 0) render_line(parsed, line);
    hone_template_free(parsed);
    hone_free(source);
    free(line);
    return status == HONE_OK ? 0 : 2;
}
