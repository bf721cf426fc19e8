// SPDX-License-Identifier: Apache-2.0
// A record of two texts as an encoder-decoder reads it: the source's tokens and EOS; the start, the
// target's tokens and EOS. Each begins with no BOS; all of the target is learnt.
#include <string.h>

#include "data/record.h"

static hone_status tokenize(const DataOptions *options, const char *what, const char *text,
                            TokenList *list, HoneError *err) {
    const size_t length = strlen(text);
    list->count = 0;
    if (length == 0) return hone_fail(err, HONE_ERROR_INPUT, "the %s is empty", what);
    if (length > TEXT_LIMIT)
        return hone_fail(err, HONE_ERROR_INPUT, "the %s has %zu bytes, more than %d", what, length,
                         (int)TEXT_LIMIT);
    return hone_tokenize_append(options->tokenizer, text, length, true, list, err);
}

// How many of a text's tokens stay where `room` is left for them.
static int64_t kept(const TokenList *list, int64_t room, bool *cut) {
    if (list->count <= room) return list->count;
    *cut = true;
    return room;
}

hone_status hone_translation_make(Workshop *workshop, const DataOptions *options,
                                  const Record *record, Arena *arena, Example *example,
                                  HoneError *err) {
    const int32_t eos = hone_tokenizer_eos(options->tokenizer);
    const TokenList *source = &workshop->prompt, *target = &workshop->tokens;
    if (eos < 0)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the tokenizer has no EOS token to end a text with");
    RETURN_IF_ERROR(tokenize(options, "source", record->prompt, &workshop->prompt, err));
    RETURN_IF_ERROR(tokenize(options, "target", record->completion, &workshop->tokens, err));
    const int64_t before = kept(source, options->max_length - 1, &example->cut);
    // A target that is cut has no end: nothing may teach to stop there.
    const int64_t room = options->max_length - 1;
    const bool ends = !options->no_eos && target->count < room;
    const int64_t after = kept(target, room, &example->cut);
    if (!ends && !options->no_eos) example->cut = true;
    example->source_count = before + 1;
    example->count = 1 + after + ends;
    example->targets = after + ends;
    example->prompt = 1;
    const size_t all = (size_t)hone_example_length(example);
    int32_t *tokens = hone_arena_alloc(arena, all * sizeof *tokens);
    uint8_t *learnt = hone_arena_calloc(arena, all, 1);
    if (!tokens || !learnt) return hone_fail_memory(err, all * 5, "an example");
    memcpy(tokens, source->tokens, (size_t)before * sizeof *tokens);
    tokens[before] = eos;
    example->token = tokens + example->source_count;
    example->target = learnt + example->source_count;
    example->token[0] = options->start;
    memcpy(example->token + 1, target->tokens, (size_t)after * sizeof *tokens);
    if (ends) example->token[1 + after] = eos;
    memset(example->target + 1, 1, (size_t)example->targets);
    const size_t length = strlen(record->completion);
    if (options->keep_text) {
        example->text = hone_arena_strndup(arena, record->prompt, strlen(record->prompt));
        example->answer = hone_arena_strndup(arena, record->completion, length);
        example->answer_length = (int64_t)length;
        if (!example->text || !example->answer)
            return hone_fail_memory(err, length, "an example's text");
    }
    return HONE_OK;
}
