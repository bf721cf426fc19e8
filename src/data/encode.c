// SPDX-License-Identifier: Apache-2.0
// From a record to an encoder's example: a text between the tokens that frame it.
#include <string.h>

#include "data/record.h"

// The text's tokens, as many as leave room for those that frame it, and these. Control tokens that
// are spelled out in the text are that token, as Hugging Face's tokenisers have it.
static hone_status frame(Workshop *workshop, const DataOptions *options, const json_t *text,
                         Arena *arena, Example *example, HoneError *err) {
    Tokenizer *tokenizer = options->tokenizer;
    TokenList *list = &workshop->tokens;
    const int32_t first = hone_tokenizer_bos(tokenizer), last = hone_tokenizer_eos(tokenizer);
    const bool begins = hone_tokenizer_adds_bos(tokenizer) && first >= 0;
    const bool ends = hone_tokenizer_adds_eos(tokenizer) && last >= 0;
    const int64_t most = options->max_length - begins - ends;
    list->count = 0;
    RETURN_IF_ERROR(hone_tokenize_append(tokenizer, json_string_value(text),
                                         json_string_length(text), true, list, err));
    example->cut = list->count > most;
    const int64_t kept = example->cut ? most : list->count;
    if (kept + begins + ends < 1)
        return hone_fail(err, HONE_ERROR_INPUT, "the text has no token, and nothing frames it");
    int32_t *token = hone_arena_alloc(arena, (size_t)(kept + 2) * sizeof *token);
    if (!token) return hone_fail_memory(err, (size_t)kept * sizeof *token, "an example");
    example->token = token;
    if (begins) token[example->count++] = first;
    if (kept > 0) memcpy(token + example->count, list->tokens, (size_t)kept * sizeof *token);
    example->count += kept;
    if (ends) token[example->count++] = last;
    return HONE_OK;
}

hone_status hone_encoder_example(Workshop *workshop, const DataOptions *options,
                                 const json_t *value, Arena *arena, Example *example,
                                 HoneError *err) {
    const json_t *text = json_is_object(value) ? json_object_get(value, "text") : value;
    *example = (Example){0};
    if (!text) return hone_fail(err, HONE_ERROR_INPUT, "'text' is missing");
    if (!json_is_string(text)) return hone_fail(err, HONE_ERROR_INPUT, "'text' is not a string");
    if (json_string_length(text) > TEXT_LIMIT)
        return hone_fail(err, HONE_ERROR_INPUT, "'text' is longer than %d bytes", TEXT_LIMIT);
    RETURN_IF_ERROR(frame(workshop, options, text, arena, example, err));
    example->target = hone_arena_calloc(arena, (size_t)example->count, 1);
    if (options->keep_text)
        example->text =
            hone_arena_strndup(arena, json_string_value(text), json_string_length(text));
    if (example->target && (example->text || !options->keep_text)) return HONE_OK;
    return hone_fail_memory(err, json_string_length(text), "an example");
}
