// SPDX-License-Identifier: Apache-2.0
// A chat template, rendered for one conversation.
#include <string.h>

#include "base/error.h"
#include "fuzz.h"
#include "template/template.h"

// clang-format off
#define TOOLS "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": " \
    "{\"properties\": {\"x\": {\"type\": \"integer\", \"enum\": [1, 2.5, null]}}}}}]"
#define CALL "{\"role\": \"assistant\", \"reasoning_content\": \"y\", " \
    "\"content\": [{\"type\": \"text\", \"text\": \"<think>x</think>Yo\"}], " \
    "\"tool_calls\": [{\"id\": \"c\", \"function\": {\"name\": \"f\", " \
    "\"arguments\": {\"x\": [1, true]}}}]}"
// clang-format on

// A call and a thought; made once, for the process.
static const json_t *made(const char *text, json_t **kept) {
    if (!*kept) *kept = json_loads(text, 0, NULL);
    return *kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_t *call, *tools;
    const ChatMessage messages[] = {{"system", "Be <b> brief.", true, NULL},
                                    {"user", " Hi \xc3\xa9\xff\n", true, NULL},
                                    {"assistant", NULL, true, made(CALL, &call)},
                                    {"user", "", false, NULL}};
    ChatTemplate *parsed = NULL;
    TextBuffer text = {0}, origin = {0};
    HoneError err = {0};
    if (hone_template_parse("t", (const char *)data, size, &parsed, &err) != HONE_OK) return 0;
    TemplateInput input = {.messages = messages,
                           .count = 4,
                           .add_generation_prompt = size % 2,
                           .bos_token = "<s>",
                           .eos_token = "</s>",
                           .tools = size % 3 ? NULL : made(TOOLS, &tools)};
    if (hone_template_render(parsed, &input, &text, &origin, &err) == HONE_OK) {
        if (origin.length != text.length * sizeof(int32_t)) __builtin_trap();
        for (size_t i = 0; i < text.length; i++) {
            int32_t from;
            memcpy(&from, origin.data + i * sizeof from, sizeof from);
            from = hone_origin_message(from);
            if (from < -1 || from >= 4) __builtin_trap();
        }
        fuzz_touch(text.data, text.length);
    }
    hone_text_free(&text);
    hone_text_free(&origin);
    hone_template_free(parsed);
    return 0;
}
