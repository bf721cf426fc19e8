// SPDX-License-Identifier: Apache-2.0
// Chat templates: a Jinja interpreter for the subset that published templates use, refusing the
// rest by name with line and column. It tracks where every output byte came from, so that the loss
// mask needs no knowledge of any template.
#ifndef HONE_TEMPLATE_TEMPLATE_H
#define HONE_TEMPLATE_TEMPLATE_H

#include <jansson.h>

#include "base/error.h"
#include "base/text.h"

// Borrowed. fields: the whole message, with tool calls, reasoning, a name …; its strings are what
// the template sees, content's place included. NULL: role and content alone.
typedef struct ChatMessage {
    const char *role, *content; // NUL-terminated UTF-8; content NULL: none, or in parts (fields)
    bool train;                 // false: weight 0, never a target
    const json_t *fields;
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
    const json_t *tools, *documents;   // lists; NULL: none
    const json_t *extra;               // an object: more variables; NULL: none
    int64_t now; // of strftime_now: seconds since 1970, UTC; 0: SOURCE_DATE_EPOCH, else now, here
} TemplateInput;

// Where a byte came from: the content, reasoning or tool calls of message 0 … count-1, or -1 for
// the template's own text, roles and everything else. What a {% generation %} block printed is
// marked besides: -3 - origin.
static inline bool hone_origin_generated(int32_t origin) {
    return origin <= -2;
}
static inline int32_t hone_origin_message(int32_t origin) {
    return origin <= -2 ? -3 - origin : origin;
}
bool hone_template_generates(const ChatTemplate *parsed); // has such blocks
bool hone_template_is_dated(const ChatTemplate *parsed);  // calls strftime_now

// origin[i], int32, of output byte i. Both are cleared first. raise_exception and running out of
// the step or size bound are HONE_ERROR_INPUT.
hone_status hone_template_render(const ChatTemplate *parsed, const TemplateInput *input,
                                 TextBuffer *text, TextBuffer *origin, HoneError *err);

#endif
