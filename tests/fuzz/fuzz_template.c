// SPDX-License-Identifier: Apache-2.0
// A chat template, rendered for one conversation.
#include <string.h>

#include "base/error.h"
#include "fuzz.h"
#include "template/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ChatMessage messages[] = {{"system", "Be <b> brief.", true},
                                           {"user", " Hi \xc3\xa9\xff\n", true},
                                           {"assistant", "<think>x</think>\n\nYo", true},
                                           {"user", "", false}};
    ChatTemplate *parsed = NULL;
    TextBuffer text = {0}, origin = {0};
    HoneError err = {0};
    if (hone_template_parse("t", (const char *)data, size, &parsed, &err) != HONE_OK) return 0;
    TemplateInput input = {messages, 4, size % 2, "<s>", "</s>"};
    if (hone_template_render(parsed, &input, &text, &origin, &err) == HONE_OK) {
        if (origin.length != text.length * sizeof(int32_t)) __builtin_trap();
        for (size_t i = 0; i < text.length; i++) {
            int32_t from;
            memcpy(&from, origin.data + i * sizeof from, sizeof from);
            if (from < -1 || from >= 4) __builtin_trap();
        }
        fuzz_touch(text.data, text.length);
    }
    hone_text_free(&text);
    hone_text_free(&origin);
    hone_template_free(parsed);
    return 0;
}
