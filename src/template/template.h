// SPDX-License-Identifier: Apache-2.0
// Chat templates: a Jinja interpreter for the subset that published templates use, refusing the
// rest by name with line and column. It tracks where every output byte came from, so that the loss
// mask needs no knowledge of any template.
#ifndef HONE_TEMPLATE_TEMPLATE_H
#define HONE_TEMPLATE_TEMPLATE_H

#include "base/error.h"
#include "base/text.h"

typedef struct ChatMessage {
    const char *role, *content; // NUL-terminated UTF-8, borrowed
    bool train;                 // false: weight 0, never a target
} ChatMessage;

typedef struct ChatTemplate ChatTemplate;

// Parse. name is for messages ("MODEL.gguf: chat template"). Bounded depth. Copied.
hone_status hone_template_parse(const char *name, const char *source, size_t length,
                                ChatTemplate **parsed, HoneError *err);
void hone_template_free(ChatTemplate *parsed);

typedef struct TemplateInput {
    const ChatMessage *messages;
    int64_t count;
    bool add_generation_prompt;
    const char *bos_token, *eos_token; // spellings; NULL: undefined
} TemplateInput;

// origin[i]: which message's *content* output byte i came from (0 … count-1), or -1 for the
// template's own text, roles and everything else. text and origin are cleared first; origin holds
// int32. raise_exception and running out of the step or size bound are HONE_ERROR_INPUT.
hone_status hone_template_render(const ChatTemplate *parsed, const TemplateInput *input,
                                 TextBuffer *text, TextBuffer *origin, HoneError *err);

#endif
