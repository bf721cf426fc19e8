// SPDX-License-Identifier: Apache-2.0
// Which tokens are learnt: first of each byte what it is to the loss, then tokens by their bytes.
#include <string.h>

#include "data/record.h"

// Of a byte of the text.
enum {
    GIVEN,
    CONTENT,
    LEARNT,
    WHOLE
}; // CONTENT: another message's; WHOLE: learnt, to its end token

static int32_t origin_at(const Workshop *workshop, size_t at) {
    int32_t from;
    memcpy(&from, workshop->origin.data + at * sizeof from, sizeof from);
    return from;
}

static hone_status zeros(TextBuffer *buffer, size_t count, const char *what, HoneError *err) {
    static const char nothing[256];
    hone_text_clear(buffer);
    for (size_t left = count + 1; left > 0 && !buffer->failed;) {
        const size_t part = left < sizeof nothing ? left : sizeof nothing;
        hone_text_append(buffer, nothing, part);
        left -= part;
    }
    return buffer->failed ? hone_fail_memory(err, count, what) : HONE_OK;
}

// ---- what is learnt of a conversation's text ---------------------------------------------------

static bool is_learnt(const Record *record, int64_t message, int64_t only) {
    return message >= 0 && strcmp(record->messages[message].role, "assistant") == 0 &&
           record->messages[message].train && (only < 0 || only == message);
}

// An answer of several parts (a thought, calls): what the template writes around and between them,
// the model has to write too.
static bool is_composed(const ChatMessage *message) {
    static const char *const parts[] = {"tool_calls", "reasoning_content", "reasoning", "thinking"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const json_t *part = json_object_get(message->fields, parts[i]);
        if (json_array_size(part) > 0 || json_string_length(part) > 0) return true;
    }
    return false;
}

// Where the answer begins: after what the conversation before it ends in, with the prompt to
// generate; where that is not how the text begins, at the answer's own first byte.
static hone_status answer_begin(Workshop *workshop, const DataOptions *options,
                                const Record *record, int64_t message, size_t first, size_t *begin,
                                HoneError *err) {
    HoneError refused = {0};
    const TemplateInput input = hone_record_input(workshop, options, record, message, true);
    const hone_status status = hone_template_render(
        options->chat_template, &input, &workshop->before, &workshop->before_origin, &refused);
    const size_t length = workshop->before.length;
    *begin = first;
    if (status == HONE_ERROR_MEMORY) return hone_fail(err, status, "%s", refused.message);
    if (status == HONE_OK && length <= first &&
        (length == 0 || memcmp(workshop->before.data, workshop->text.data, length) == 0))
        *begin = length;
    return HONE_OK;
}

static hone_status mark_composed(Workshop *workshop, const DataOptions *options,
                                 const Record *record, int64_t message, HoneError *err) {
    const size_t length = workshop->text.length;
    size_t first = length, last = 0, begin;
    for (size_t at = 0; at < length; at++) {
        if (hone_origin_message(origin_at(workshop, at)) != message) continue;
        if (first == length) first = at;
        last = at;
    }
    if (first == length) return HONE_OK;
    RETURN_IF_ERROR(answer_begin(workshop, options, record, message, first, &begin, err));
    memset(workshop->learnt.data + begin, WHOLE, last + 1 - begin);
    return HONE_OK;
}

static hone_status mark_answers(Workshop *workshop, const DataOptions *options,
                                const Record *record, int64_t only, HoneError *err) {
    for (size_t at = 0; at < workshop->text.length; at++) {
        const int64_t message = hone_origin_message(origin_at(workshop, at));
        if (message >= 0)
            workshop->learnt.data[at] = is_learnt(record, message, only) ? LEARNT : CONTENT;
    }
    for (int64_t i = 0; i < record->count; i++)
        if (is_learnt(record, i, only) && is_composed(&record->messages[i]))
            RETURN_IF_ERROR(mark_composed(workshop, options, record, i, err));
    return HONE_OK;
}

// What {% generation %} blocks printed, unless it holds something of a message that is not learnt.
static void mark_generated(Workshop *workshop, const Record *record, int64_t only) {
    const size_t length = workshop->text.length;
    for (size_t begin = 0, end; begin < length; begin = end + 1) {
        bool learnt = true, of_any = false;
        for (end = begin; end < length && hone_origin_generated(origin_at(workshop, end)); end++) {
            const int64_t message = hone_origin_message(origin_at(workshop, end));
            of_any |= message >= 0;
            learnt &= message < 0 || is_learnt(record, message, only);
        }
        if (end > begin && learnt && (of_any || only < 0))
            memset(workshop->learnt.data + begin, LEARNT, end - begin);
    }
}

// ---- tokens ------------------------------------------------------------------------------------

// The highest of its bytes' marks. A token of no bytes, as a BOS put in front, is given.
static int mark_of(const Workshop *workshop, int64_t token) {
    int mark = GIVEN;
    for (uint32_t at = workshop->tokens.begin[token]; at < workshop->tokens.end[token]; at++)
        if (workshop->learnt.data[at] > mark) mark = workshop->learnt.data[at];
    return mark;
}

// The tokens learnt, and after each piece of an answer the first end token; what stands before that
// too, where the answer is one whole.
static void mask_answers(const DataOptions *options, const Workshop *workshop, char *target) {
    int open = GIVEN; // the mark of an answer that has ended, while its end token has not come yet
    int64_t ended = 0;
    for (int64_t i = 0; i < workshop->tokens.count; i++) {
        const int mark = mark_of(workshop, i);
        if (mark >= LEARNT) {
            target[i] = 1;
            open = mark;
            ended = i + 1;
        } else if (mark == CONTENT) {
            open = GIVEN;
        } else if (open != GIVEN &&
                   hone_token_ends(options->tokenizer, workshop->tokens.tokens[i])) {
            memset(target + (open == WHOLE ? ended : i), 1,
                   (size_t)(i + 1 - (open == WHOLE ? ended : i)));
            open = GIVEN;
        }
    }
}

static void mask_generated(const Workshop *workshop, char *target) {
    for (int64_t i = 0; i < workshop->tokens.count; i++) target[i] = mark_of(workshop, i) == LEARNT;
}

// All but what came from messages of weight 0.
static hone_status mask_all(Workshop *workshop, const DataOptions *options, const Record *record,
                            char *target, HoneError *err) {
    memset(target, 1, (size_t)workshop->tokens.count);
    if (record->kind != RECORD_CHAT) return HONE_OK;
    RETURN_IF_ERROR(zeros(&workshop->learnt, workshop->text.length, "the loss mask", err));
    for (size_t at = 0; at < workshop->text.length; at++) {
        const int64_t message = hone_origin_message(origin_at(workshop, at));
        if (message >= 0 && !record->messages[message].train) workshop->learnt.data[at] = CONTENT;
    }
    for (int64_t i = 0; i < record->count; i++)
        if (!record->messages[i].train && is_composed(&record->messages[i]))
            RETURN_IF_ERROR(mark_composed(workshop, options, record, i, err));
    for (int64_t i = 0; i < workshop->tokens.count; i++)
        if (mark_of(workshop, i) != GIVEN) target[i] = 0;
    return HONE_OK;
}

static void mask_completion(const Workshop *workshop, size_t boundary, char *target) {
    for (int64_t i = 0; i < workshop->tokens.count; i++) // EOS has no bytes: it lies at the end
        target[i] = workshop->tokens.end[i] > boundary;
}

hone_status hone_mask_make(Workshop *workshop, const DataOptions *options, const Record *record,
                           int64_t last, size_t boundary, HoneError *err) {
    const size_t tokens = (size_t)workshop->tokens.count;
    RETURN_IF_ERROR(zeros(&workshop->targets, tokens, "the loss mask", err));
    char *target = workshop->targets.data;
    if (options->loss_on == LOSS_ALL || record->kind == RECORD_TEXT)
        return mask_all(workshop, options, record, target, err);
    if (record->kind == RECORD_COMPLETION) {
        mask_completion(workshop, boundary, target);
        return HONE_OK;
    }
    if (options->loss_on == LOSS_COMPLETION && last < 0) return HONE_OK;
    const int64_t only = options->loss_on == LOSS_COMPLETION ? last : -1;
    RETURN_IF_ERROR(zeros(&workshop->learnt, workshop->text.length, "the loss mask", err));
    if (hone_template_generates(options->chat_template)) {
        mark_generated(workshop, record, only);
        mask_generated(workshop, target);
        return HONE_OK;
    }
    RETURN_IF_ERROR(mark_answers(workshop, options, record, only, err));
    mask_answers(options, workshop, target);
    return HONE_OK;
}

hone_status hone_mask_content(Workshop *workshop, HoneError *err) {
    const size_t length = workshop->text.length;
    RETURN_IF_ERROR(zeros(&workshop->learnt, length, "a prompt", err));
    for (size_t at = 0; at < length; at++)
        workshop->learnt.data[at] = hone_origin_message(origin_at(workshop, at)) >= 0;
    return HONE_OK;
}
