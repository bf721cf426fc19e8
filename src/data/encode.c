// SPDX-License-Identifier: Apache-2.0
// From a record to an encoder's example: a text, or two, between the tokens that frame it, and what
// the task wants to be known of it.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/record.h"

// ---- what a record holds -----------------------------------------------------------------------

// The text under this key; value itself where it has no keys. An embedding of nothing is one, a
// class of nothing is a mistake in the data.
static hone_status find_text(const DataOptions *options, const json_t *value, const char *key,
                             const json_t **found, HoneError *err) {
    const json_t *text = json_is_object(value) ? json_object_get(value, key) : value;
    *found = text;
    if (!text) return hone_fail(err, HONE_ERROR_INPUT, "'%s' is missing", key);
    if (!json_is_string(text)) return hone_fail(err, HONE_ERROR_INPUT, "'%s' is not a string", key);
    const size_t length = json_string_length(text);
    if (length > TEXT_LIMIT)
        return hone_fail(err, HONE_ERROR_INPUT, "'%s' is longer than %d bytes", key, TEXT_LIMIT);
    if (options->task == TASK_EMBED) return HONE_OK;
    if (length == 0) return hone_fail(err, HONE_ERROR_INPUT, "'%s' is empty", key);
    if (memchr(json_string_value(text), '\0', length))
        return hone_fail(err, HONE_ERROR_INPUT, "'%s' holds the character \\u0000", key);
    return HONE_OK;
}

// NULL: none is given.
static hone_status find_second(const DataOptions *options, const json_t *value,
                               const json_t **second, HoneError *err) {
    *second = NULL;
    if (options->task != TASK_CLASSIFY || !json_is_object(value)) return HONE_OK;
    const json_t *pair = json_object_get(value, "text_pair");
    if (!pair || json_is_null(pair)) return HONE_OK;
    return find_text(options, value, "text_pair", second, err);
}

// ---- labels ------------------------------------------------------------------------------------

enum { LONGEST_LABEL = 200 };

static hone_status unknown_label(const DataOptions *options, const char *name, HoneError *err) {
    char list[160] = "";
    size_t used = 0;
    for (int64_t i = 0; i < options->label_count && used < sizeof list - 48; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%.40s", i ? ", " : "",
                                 options->labels[i]);
    return hone_fail(err, HONE_ERROR_INPUT,
                     "the label \"%s\" is none of the %" PRId64 ": %s%s (--labels names others)",
                     name, options->label_count, list, used >= sizeof list - 48 ? ", …" : "");
}

static hone_status read_label(const DataOptions *options, const json_t *value, Arena *arena,
                              Example *example, HoneError *err) {
    const json_t *label = json_is_object(value) ? json_object_get(value, "label") : NULL;
    char number[32];
    const char *name = json_string_value(label);
    example->label = -1;
    if (!label || json_is_null(label)) {
        if (options->unlabelled) return HONE_OK;
        return hone_fail(err, HONE_ERROR_INPUT, "'label' is missing");
    }
    if (json_is_integer(label)) {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(label));
        name = number;
    }
    if (!name) return hone_fail(err, HONE_ERROR_INPUT, "'label' is no text and no whole number");
    if (!*name) return hone_fail(err, HONE_ERROR_INPUT, "'label' is empty");
    if (strlen(name) > LONGEST_LABEL ||
        (name != number && json_string_length(label) != strlen(name)))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "'label' is longer than %d bytes, or holds the character \\u0000",
                         LONGEST_LABEL);
    for (int64_t i = 0; i < options->label_count && example->label < 0; i++)
        if (strcmp(options->labels[i], name) == 0) example->label = (int32_t)i;
    if (example->label < 0 && options->labels) {
        char *end;
        const long long place = strtoll(name, &end, 10);
        if (*end || end == name || place < 0 || place >= options->label_count)
            return unknown_label(options, name, err);
        example->label = (int32_t)place;
        name = options->labels[place];
    }
    example->answer = hone_arena_strndup(arena, name, strlen(name));
    example->answer_length = (int64_t)strlen(name);
    return example->answer ? HONE_OK : hone_fail_memory(err, strlen(name), "a label");
}

// ---- tokens ------------------------------------------------------------------------------------

// What of two texts of a and b tokens stays where `most` are left for both: the longer one gives
// way first, down to the other's length, then both; of an odd number the longer one keeps one more.
static void share_room(int64_t most, int64_t *a, int64_t *b) {
    if (*a + *b <= most) return;
    int64_t *shorter = *a > *b ? b : a, *longer = *a > *b ? a : b;
    if (*shorter > most / 2) *shorter = most / 2;
    *longer = most - *shorter;
}

typedef struct Frame {
    int32_t first, last;
    bool begins, ends;
} Frame;

static Frame frame_of(const Tokenizer *tokenizer) {
    const int32_t first = hone_tokenizer_bos(tokenizer), last = hone_tokenizer_eos(tokenizer);
    return (Frame){.first = first,
                   .last = last,
                   .begins = hone_tokenizer_adds_bos(tokenizer) && first >= 0,
                   .ends = hone_tokenizer_adds_eos(tokenizer) && last >= 0};
}

static void put_tokens(Example *example, const int32_t *tokens, int64_t count, const Frame *frame) {
    if (count > 0) memcpy(example->token + example->count, tokens, (size_t)count * sizeof *tokens);
    example->count += count;
    if (frame->ends) example->token[example->count++] = frame->last;
}

// [first] text [last], or [first] text [last] second [last]: as many of the texts' tokens as the
// longest length leaves room for. Control tokens that are spelled out in a text are that token, as
// Hugging Face's tokenisers have it.
static hone_status frame_texts(Workshop *workshop, const DataOptions *options, const json_t *text,
                               const json_t *second, Arena *arena, Example *example,
                               HoneError *err) {
    TokenList *list = &workshop->tokens;
    const Frame frame = frame_of(options->tokenizer);
    const int64_t framing = frame.begins + frame.ends * (second ? 2 : 1);
    const int64_t most = options->max_length > framing ? options->max_length - framing : 0;
    list->count = 0;
    RETURN_IF_ERROR(hone_tokenize_append(options->tokenizer, json_string_value(text),
                                         json_string_length(text), true, list, err));
    const int64_t whole = list->count;
    if (second)
        RETURN_IF_ERROR(hone_tokenize_append(options->tokenizer, json_string_value(second),
                                             json_string_length(second), true, list, err));
    int64_t kept = whole, after = list->count - whole;
    share_room(most, &kept, &after);
    example->cut = kept + after < list->count;
    if (kept + after + framing < 1)
        return hone_fail(err, HONE_ERROR_INPUT, "the text has no token, and nothing frames it");
    example->token = hone_arena_alloc(arena, (size_t)(kept + after + 3) * sizeof *list->tokens);
    if (!example->token) return hone_fail_memory(err, (size_t)list->count * 4, "an example");
    if (frame.begins) example->token[example->count++] = frame.first;
    put_tokens(example, list->tokens, kept, &frame);
    if (!second) return HONE_OK;
    example->second = example->count;
    put_tokens(example, list->tokens + whole, after, &frame);
    return HONE_OK;
}

// ---- the whole ---------------------------------------------------------------------------------

static hone_status make_text(Workshop *workshop, const DataOptions *options, const json_t *text,
                             const json_t *second, Arena *arena, Example *example, HoneError *err) {
    RETURN_IF_ERROR(frame_texts(workshop, options, text, second, arena, example, err));
    example->target = hone_arena_calloc(arena, (size_t)example->count, 1);
    if (options->keep_text)
        example->text =
            hone_arena_strndup(arena, json_string_value(text), json_string_length(text));
    if (example->target && (example->text || !options->keep_text)) return HONE_OK;
    return hone_fail_memory(err, json_string_length(text), "an example");
}

static hone_status make_pair(Workshop *workshop, const DataOptions *options, const json_t *value,
                             Arena *arena, Example *example, HoneError *err) {
    const json_t *anchor, *positive;
    if (!json_is_object(value))
        return hone_fail(err, HONE_ERROR_INPUT, "no record of 'anchor' and 'positive'");
    RETURN_IF_ERROR(find_text(options, value, "anchor", &anchor, err));
    RETURN_IF_ERROR(find_text(options, value, "positive", &positive, err));
    Example *other = hone_arena_calloc(arena, 1, sizeof *other);
    if (!other) return hone_fail_memory(err, sizeof *other, "a pair");
    *other = (Example){.label = -1};
    RETURN_IF_ERROR(make_text(workshop, options, anchor, NULL, arena, example, err));
    RETURN_IF_ERROR(make_text(workshop, options, positive, NULL, arena, other, err));
    example->cut = example->cut || other->cut;
    example->rejected = other;
    example->targets = 1;
    return HONE_OK;
}

hone_status hone_encoder_example(Workshop *workshop, const DataOptions *options,
                                 const json_t *value, Arena *arena, Example *example,
                                 HoneError *err) {
    const json_t *text, *second;
    *example = (Example){.label = -1};
    if (options->task == TASK_PAIRS)
        return make_pair(workshop, options, value, arena, example, err);
    RETURN_IF_ERROR(find_text(options, value, "text", &text, err));
    RETURN_IF_ERROR(find_second(options, value, &second, err));
    if (options->task == TASK_CLASSIFY) {
        RETURN_IF_ERROR(read_label(options, value, arena, example, err));
        example->targets = example->answer != NULL;
    }
    return make_text(workshop, options, text, second, arena, example, err);
}
