// SPDX-License-Identifier: Apache-2.0
// Rendering, tokenising and the loss mask.
#include <stdio.h>
#include <string.h>

#include "data/record.h"

// ---- the workshop ------------------------------------------------------------------------------

static hone_status spell(const Tokenizer *tokenizer, int32_t token, char **spelling,
                         HoneError *err) {
    *spelling = NULL;
    if (token < 0) return HONE_OK;
    TokenizerText bytes = hone_token_bytes(tokenizer, token, true);
    *spelling = hone_strndup(bytes.data, bytes.length);
    return *spelling ? HONE_OK : hone_fail_memory(err, bytes.length, "a token's spelling");
}

hone_status hone_workshop_open(Workshop *workshop, const DataOptions *options, HoneError *err) {
    *workshop = (Workshop){0};
    const Tokenizer *tokenizer = options->tokenizer;
    RETURN_IF_ERROR(spell(tokenizer, hone_tokenizer_bos(tokenizer), &workshop->bos, err));
    return spell(tokenizer, hone_tokenizer_eos(tokenizer), &workshop->eos, err);
}

void hone_workshop_close(Workshop *workshop) {
    hone_text_free(&workshop->text);
    hone_text_free(&workshop->origin);
    hone_text_free(&workshop->before);
    hone_text_free(&workshop->before_origin);
    hone_text_free(&workshop->learnt);
    hone_text_free(&workshop->targets);
    hone_token_list_free(&workshop->tokens);
    hone_token_list_free(&workshop->prompt);
    hone_free(workshop->bos);
    hone_free(workshop->eos);
}

// ---- the example in a message ------------------------------------------------------------------

enum { SHOWN = 120, SHOWN_TEXT = 6 * SHOWN + 16 };

// Its beginning or its end, quoted, whole characters.
static const char *shown(const char *text, size_t length, bool end, char out[SHOWN_TEXT]) {
    size_t from = end && length > SHOWN ? length - SHOWN : 0;
    size_t to = !end && length > SHOWN ? SHOWN : length;
    while (from > 0 && from < to && ((unsigned char)text[from] & 0xc0) == 0x80) from++;
    while (to < length && to > from && ((unsigned char)text[to] & 0xc0) == 0x80) to--;
    TextBuffer quoted = {0};
    if (from > 0) hone_text_puts(&quoted, "…");
    hone_text_json(&quoted, text ? text + from : "", to - from);
    if (to < length) hone_text_puts(&quoted, "…");
    snprintf(out, SHOWN_TEXT, "%s", quoted.failed ? "" : quoted.data);
    hone_text_free(&quoted);
    return out;
}

// ---- tokens ------------------------------------------------------------------------------------

// Room for one token more at `at`; bytes [offset, offset) of the text are its own: none.
static hone_status insert_token(TokenList *list, int64_t at, int32_t token, uint32_t offset,
                                HoneError *err) {
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity ? list->capacity * 2 : 64;
        size_t old = (size_t)list->count * 4, bytes = (size_t)capacity * 4;
        int32_t *tokens = hone_realloc(list->tokens, old, bytes);
        if (tokens) list->tokens = tokens;
        uint32_t *begin = tokens ? hone_realloc(list->begin, old, bytes) : NULL;
        if (begin) list->begin = begin;
        uint32_t *end = begin ? hone_realloc(list->end, old, bytes) : NULL;
        if (!end) return hone_fail_memory(err, bytes, "tokens");
        list->end = end;
        list->capacity = capacity;
    }
    size_t after = (size_t)(list->count - at);
    memmove(list->tokens + at + 1, list->tokens + at, after * sizeof *list->tokens);
    memmove(list->begin + at + 1, list->begin + at, after * sizeof *list->begin);
    memmove(list->end + at + 1, list->end + at, after * sizeof *list->end);
    list->tokens[at] = token;
    list->begin[at] = list->end[at] = offset;
    list->count++;
    return HONE_OK;
}

// The whole text in one go, special tokens included, but none in what `content` marks (NULL:
// nothing). BOS goes in front when the tokeniser wants it and the text does not bring it.
static hone_status tokenize(const DataOptions *options, const char *text, size_t length,
                            const uint8_t *content, TokenList *list, HoneError *err) {
    list->count = 0;
    if (length > TEXT_LIMIT)
        return hone_fail(err, HONE_ERROR_INPUT, "the text has %zu bytes, more than %d", length,
                         (int)TEXT_LIMIT);
    RETURN_IF_ERROR(hone_tokenize_chat(options->tokenizer, text, length, content, list, err));
    int32_t bos = hone_tokenizer_bos(options->tokenizer);
    if (bos < 0) return HONE_OK;
    if (list->count >= 2 && list->tokens[0] == bos && list->tokens[1] == bos) {
        char example[SHOWN_TEXT];
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the text begins with BOS twice: the template adds it, so the content "
                         "must not; it reads %s",
                         shown(text, length, false, example));
    }
    if (!hone_tokenizer_adds_bos(options->tokenizer)) return HONE_OK;
    if (list->count > 0 && list->tokens[0] == bos) return HONE_OK;
    return insert_token(list, 0, bos, 0, err);
}

static hone_status append_eos(const DataOptions *options, size_t length, TokenList *list,
                              const char *advice, HoneError *err) {
    int32_t eos = hone_tokenizer_eos(options->tokenizer);
    if (eos < 0)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the tokenizer has no EOS token to end this example with%s", advice);
    if (list->count > 0 && list->tokens[list->count - 1] == eos) return HONE_OK;
    return insert_token(list, list->count, eos, (uint32_t)length, err);
}

TemplateInput hone_record_input(const Workshop *workshop, const DataOptions *options,
                                const Record *record, int64_t count, bool generation) {
    return (TemplateInput){.messages = record->messages,
                           .count = count,
                           .add_generation_prompt = generation,
                           .bos_token = workshop->bos,
                           .eos_token = workshop->eos,
                           .tools = record->tools,
                           .extra = record->extra,
                           .now = options->now};
}

static hone_status render(Workshop *workshop, const DataOptions *options, const Record *record,
                          int64_t count, bool generation, HoneError *err) {
    const TemplateInput input = hone_record_input(workshop, options, record, count, generation);
    return hone_template_render(options->chat_template, &input, &workshop->text, &workshop->origin,
                                err);
}

// Render and tokenise the first `count` messages, with BOS as the tokeniser wants it.
static hone_status chat_tokens(Workshop *workshop, const DataOptions *options, const Record *record,
                               int64_t count, bool generation, TokenList *list, HoneError *err) {
    RETURN_IF_ERROR(render(workshop, options, record, count, generation, err));
    const char *text = workshop->text.data ? workshop->text.data : "";
    return tokenize(options, text, workshop->text.length, NULL, list, err);
}

// The same for a conversation with somebody: what the messages say is content.
static hone_status prompt_tokens(Workshop *workshop, const DataOptions *options,
                                 const Record *record, TokenList *list, HoneError *err) {
    RETURN_IF_ERROR(render(workshop, options, record, record->count, true, err));
    RETURN_IF_ERROR(hone_mask_content(workshop, err));
    const char *text = workshop->text.data ? workshop->text.data : "";
    const uint8_t *content = (const void *)workshop->learnt.data;
    return tokenize(options, text, workshop->text.length, content, list, err);
}

// ---- one example -------------------------------------------------------------------------------

static hone_status no_target(const Workshop *workshop, const Record *record, const Example *example,
                             int64_t whole, HoneError *err) {
    char text[SHOWN_TEXT];
    bool answers = false, trained = false;
    for (int64_t i = 0; i < record->count; i++) {
        bool is_answer = strcmp(record->messages[i].role, "assistant") == 0;
        answers |= is_answer;
        trained |= is_answer && record->messages[i].train;
    }
    if (example->cut)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "no target is left after cutting %lld tokens to %lld (the prompt has "
                         "%lld): give a longer --max-length or shorten the prompt",
                         (long long)whole, (long long)example->count, (long long)example->prompt);
    const char *why = record->kind != RECORD_CHAT ? "there is nothing to predict"
                      : !answers                  ? "there is no assistant message"
                      : !trained                  ? "every assistant message has weight 0"
                                                  : "the answers are empty, or the chat template "
                                                    "does not print them";
    return hone_fail(err, HONE_ERROR_INPUT, "no token to learn: %s; it reads %s", why,
                     shown(workshop->text.data, workshop->text.length, false, text));
}

// Copy what the workshop holds into the arena, cut to the longest length.
static hone_status keep_example(Workshop *workshop, const DataOptions *options,
                                const Record *record, Arena *arena, Example *example,
                                HoneError *err) {
    int64_t whole = workshop->tokens.count;
    int64_t count = whole < options->max_length ? whole : options->max_length;
    char *target = workshop->targets.data;
    example->count = count;
    example->cut = count < whole;
    target[0] = 0; // nothing predicts the first token
    for (int64_t i = 0; i < count; i++) example->targets += target[i];
    if (example->targets == 0) return no_target(workshop, record, example, whole, err);
    if (example->prompt > count) example->prompt = count;
    example->token = hone_arena_alloc(arena, (size_t)count * sizeof *example->token);
    example->target = hone_arena_alloc(arena, (size_t)count);
    if (!example->token || !example->target)
        return hone_fail_memory(err, (size_t)count * 5, "an example");
    memcpy(example->token, workshop->tokens.tokens, (size_t)count * sizeof *example->token);
    memcpy(example->target, target, (size_t)count);
    return HONE_OK;
}

static hone_status keep_texts(const DataOptions *options, const char *text, size_t length,
                              const char *answer, Arena *arena, Example *example, HoneError *err) {
    if (options->keep_text) example->text = hone_arena_strndup(arena, text, length);
    if (answer) example->answer = hone_arena_strndup(arena, answer, strlen(answer));
    example->answer_length = answer ? (int64_t)strlen(answer) : 0;
    if ((options->keep_text && !example->text) || (answer && !example->answer))
        return hone_fail_memory(err, length, "an example's text");
    return HONE_OK;
}

static int64_t common_prefix(const TokenList *a, const TokenList *b) {
    int64_t shorter = a->count < b->count ? a->count : b->count, same = 0;
    while (same < shorter && a->tokens[same] == b->tokens[same]) same++;
    return same;
}

// Tokens before the last answer. A template may refuse the conversation without it (nothing was
// said yet); then the answer's own first token tells.
static hone_status measure_prompt(Workshop *workshop, const DataOptions *options,
                                  const Record *record, int64_t last, Example *example,
                                  HoneError *err) {
    HoneError refused = {0};
    int64_t first = workshop->tokens.count;
    for (int64_t i = 0; i < first; i++)
        for (uint32_t at = workshop->tokens.begin[i]; at < workshop->tokens.end[i]; at++) {
            int32_t from;
            memcpy(&from, workshop->origin.data + at * sizeof from, sizeof from);
            if (hone_origin_message(from) == last) first = i;
        }
    example->prompt = first;
    hone_status status =
        chat_tokens(workshop, options, record, last, true, &workshop->prompt, &refused);
    if (status == HONE_OK)
        example->prompt = common_prefix(&workshop->tokens, &workshop->prompt);
    else if (status == HONE_ERROR_MEMORY)
        return hone_fail(err, status, "%s", refused.message);
    return HONE_OK;
}

// Of an answer that no token ends, the model would learn to go on and on.
static hone_status check_end(const Workshop *workshop, const DataOptions *options, HoneError *err) {
    const char *target = workshop->targets.data;
    int64_t last = workshop->tokens.count - 1;
    while (last > 0 && !target[last]) last--;
    if (options->no_eos || last == 0) return HONE_OK;
    for (int64_t i = last; i < workshop->tokens.count; i++)
        if (hone_token_ends(options->tokenizer, workshop->tokens.tokens[i])) return HONE_OK;
    char text[SHOWN_TEXT];
    return hone_fail(err, HONE_ERROR_INPUT,
                     "the chat template puts no end token behind the last answer, so the model "
                     "would not learn to stop (--no-eos accepts that; --template FILE gives "
                     "another); it ends %s",
                     shown(workshop->text.data, workshop->text.length, true, text));
}

static const char *function_name(const json_t *item) {
    const json_t *function = json_object_get(item, "function");
    return json_string_value(json_object_get(function ? function : item, "name"));
}

static hone_status check_name(const Workshop *workshop, const json_t *item, const char *what,
                              HoneError *err) {
    const char *name = function_name(item);
    if (!name || strstr(workshop->text.data ? workshop->text.data : "", name)) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "the chat template does not print '%s' ('%.*s'), which would be lost: give a "
                     "template that does with --template FILE",
                     what, hone_excerpt(name), name);
}

// What the template passes over would be lost without a word.
static hone_status check_printed(const Workshop *workshop, const Record *record, HoneError *err) {
    RETURN_IF_ERROR(check_name(workshop, json_array_get(record->tools, 0), "tools", err));
    for (int64_t i = 0; i < record->count; i++) {
        const json_t *calls = json_object_get(record->messages[i].fields, "tool_calls");
        for (size_t c = 0; c < json_array_size(calls); c++)
            RETURN_IF_ERROR(check_name(workshop, json_array_get(calls, c), "tool_calls", err));
    }
    return HONE_OK;
}

static hone_status make_chat(Workshop *workshop, const DataOptions *options, const Record *record,
                             Arena *arena, Example *example, HoneError *err) {
    int64_t last = record->count - 1;
    while (last >= 0 && strcmp(record->messages[last].role, "assistant") != 0) last--;
    RETURN_IF_ERROR(
        chat_tokens(workshop, options, record, record->count, false, &workshop->tokens, err));
    RETURN_IF_ERROR(check_printed(workshop, record, err));
    RETURN_IF_ERROR(hone_mask_make(workshop, options, record, last, 0, err));
    const char *answer = last >= 0 ? record->messages[last].content : NULL;
    if (last >= 0) RETURN_IF_ERROR(check_end(workshop, options, err));
    RETURN_IF_ERROR(keep_texts(options, workshop->text.data ? workshop->text.data : "",
                               workshop->text.length, answer, arena, example, err));
    example->prompt = workshop->tokens.count;
    example->chat = true;
    if (last >= 0) // renders again: text and origin of the whole are gone after this
        RETURN_IF_ERROR(measure_prompt(workshop, options, record, last, example, err));
    return keep_example(workshop, options, record, arena, example, err);
}

static hone_status make_completion(Workshop *workshop, const DataOptions *options,
                                   const Record *record, Arena *arena, Example *example,
                                   HoneError *err) {
    TextBuffer *text = &workshop->text;
    size_t boundary = strlen(record->prompt);
    if (record->completion[0] == '\0')
        return hone_fail(err, HONE_ERROR_INPUT, "the answer is empty");
    hone_text_clear(text);
    hone_text_append(text, record->prompt, boundary);
    hone_text_puts(text, record->completion);
    if (text->failed) return hone_fail_memory(err, boundary, "an example's text");
    RETURN_IF_ERROR(tokenize(options, record->prompt, boundary, NULL, &workshop->prompt, err));
    RETURN_IF_ERROR(tokenize(options, text->data, text->length, NULL, &workshop->tokens, err));
    RETURN_IF_ERROR(append_eos(options, text->length, &workshop->tokens, "", err));
    RETURN_IF_ERROR(hone_mask_make(workshop, options, record, -1, boundary, err));
    example->prompt = common_prefix(&workshop->tokens, &workshop->prompt);
    RETURN_IF_ERROR(
        keep_texts(options, text->data, text->length, record->completion, arena, example, err));
    return keep_example(workshop, options, record, arena, example, err);
}

static hone_status make_text(Workshop *workshop, const DataOptions *options, const Record *record,
                             Arena *arena, Example *example, HoneError *err) {
    size_t length = strlen(record->prompt);
    if (options->loss_on == LOSS_ASSISTANT || options->loss_on == LOSS_COMPLETION)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "a 'text' record has no %s to learn: use --loss-on all",
                         options->loss_on == LOSS_ASSISTANT ? "assistant message" : "completion");
    if (length == 0) return hone_fail(err, HONE_ERROR_INPUT, "'text' is empty");
    RETURN_IF_ERROR(tokenize(options, record->prompt, length, NULL, &workshop->tokens, err));
    if (!options->no_eos)
        RETURN_IF_ERROR(append_eos(options, length, &workshop->tokens, ": use --no-eos", err));
    RETURN_IF_ERROR(hone_mask_make(workshop, options, record, -1, 0, err));
    RETURN_IF_ERROR(keep_texts(options, record->prompt, length, NULL, arena, example, err));
    return keep_example(workshop, options, record, arena, example, err);
}

hone_status hone_example_make(Workshop *workshop, const DataOptions *options, const Record *record,
                              Arena *arena, Example *example, HoneError *err) {
    *example = (Example){0};
    switch (record->kind) {
    case RECORD_CHAT:
        return make_chat(workshop, options, record, arena, example, err);
    case RECORD_COMPLETION:
        return make_completion(workshop, options, record, arena, example, err);
    case RECORD_TRANSLATION:
        return hone_translation_make(workshop, options, record, arena, example, err);
    default:
        return make_text(workshop, options, record, arena, example, err);
    }
}

hone_status hone_chat_prompt(const DataOptions *options, const ChatMessage *messages, int64_t count,
                             TokenList *list, HoneError *err) {
    Workshop workshop;
    const Record record = {.messages = (ChatMessage *)(uintptr_t)messages, .count = count};
    if (!options->chat_template)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "the model has no chat template: give one with --template FILE, or the "
                         "prompt as it is with --raw");
    hone_status status = hone_workshop_open(&workshop, options, err);
    if (status == HONE_OK) status = prompt_tokens(&workshop, options, &record, list, err);
    hone_workshop_close(&workshop);
    return status;
}
