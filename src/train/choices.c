// SPDX-License-Identifier: Apache-2.0
#include "train/choices.h"

#include <string.h>

// The token list of the example's text with its answer replaced by `choice`, up to and with the
// first end token at or after the choice's end.
static hone_status choice_tokens(const HoneModel *model, const Example *example, size_t place,
                                 const char *choice, TokenList *list, HoneError *err) {
    TextBuffer text = {0};
    size_t answer = (size_t)example->answer_length, length = strlen(example->text);
    hone_text_append(&text, example->text, place);
    hone_text_puts(&text, choice);
    size_t choice_end = text.length;
    hone_text_append(&text, example->text + place + answer, length - place - answer);
    list->count = 0;
    hone_status status = text.failed ? hone_fail_memory(err, length, "a choice")
                                     : hone_tokenize_append(model->tokenizer, text.data,
                                                            text.length, true, list, err);
    hone_text_free(&text);
    RETURN_IF_ERROR(status);
    int64_t keep = 0; // through the token that holds the choice's last byte
    while (keep < list->count && list->begin[keep] < choice_end) keep++;
    if (keep < list->count && hone_token_ends(model->tokenizer, list->tokens[keep])) keep++;
    list->count = keep;
    return HONE_OK;
}

// Where the answer lies in the text: the last occurrence is the last answer's.
static bool find_answer(const Example *example, size_t *place) {
    if (!example->text || !example->answer || example->answer_length <= 0) return false;
    size_t length = strlen(example->text), wanted = (size_t)example->answer_length;
    if (wanted > length) return false;
    for (size_t at = length - wanted + 1; at-- > 0;)
        if (memcmp(example->text + at, example->answer, wanted) == 0) {
            *place = at;
            return true;
        }
    return false;
}

// All choices' tokens, each list in the arena, and how many leading tokens all share with the
// prompt.
static hone_status tokenize_choices(HoneGenerator *generator, const Example *example,
                                    const char *const *choices, int64_t count, Arena *memory,
                                    TokenList *lists, int64_t *shared) {
    HoneError *err = &generator->model->context->error;
    size_t place;
    if (!find_answer(example, &place))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "line %d: has no answer in whose place choices could be ranked",
                         example->line);
    TokenList list = {0};
    hone_status status = HONE_OK;
    // The example may begin with a BOS that its text does not spell.
    int64_t extra = 0;
    *shared = example->prompt;
    for (int64_t c = 0; c < count && status == HONE_OK; c++) {
        status = choice_tokens(generator->model, example, place, choices[c], &list, err);
        if (status != HONE_OK) break;
        if (list.count > 0 && list.tokens[0] != example->token[0] &&
            example->token[0] == hone_tokenizer_bos(generator->model->tokenizer))
            extra = 1;
        int64_t length = list.count + extra;
        lists[c] =
            (TokenList){.tokens = hone_arena_alloc(memory, (size_t)length * 4), .count = length};
        if (!lists[c].tokens) {
            status = hone_fail_memory(err, (size_t)length * 4, "a choice");
            break;
        }
        if (extra) lists[c].tokens[0] = example->token[0];
        memcpy(lists[c].tokens + extra, list.tokens, (size_t)list.count * 4);
        int64_t same = 0;
        while (same < *shared && same < length && lists[c].tokens[same] == example->token[same])
            same++;
        *shared = same;
    }
    hone_token_list_free(&list);
    return status;
}

// The choices as examples of a batch behind a cache that lacks the last shared token: they begin
// with it, and all that follows is a target.
static hone_status as_examples(const TokenList *lists, int64_t count, int64_t shared, Arena *memory,
                               const Example ***batch, HoneError *err) {
    int64_t longest = 0;
    for (int64_t c = 0; c < count; c++)
        if (lists[c].count > longest) longest = lists[c].count;
    Example *examples = hone_arena_calloc(memory, (size_t)count, sizeof *examples);
    uint8_t *all = hone_arena_alloc(memory, (size_t)longest);
    *batch = hone_arena_calloc(memory, (size_t)count, sizeof **batch);
    if (!examples || !all || !*batch)
        return hone_fail_memory(err, (size_t)count * sizeof *examples, "the choices");
    memset(all, 1, (size_t)longest);
    for (int64_t c = 0; c < count; c++) {
        examples[c] = (Example){.token = lists[c].tokens + shared - 1,
                                .target = all,
                                .count = lists[c].count - shared + 1,
                                .targets = lists[c].count - shared};
        (*batch)[c] = &examples[c];
    }
    return HONE_OK;
}

hone_status hone_score_choices(HoneGenerator *generator, const Example *example,
                               const char *const *choices, int64_t count, Arena *memory,
                               double *scores) {
    HoneError *err = &generator->model->context->error;
    TokenList *lists = hone_arena_calloc(memory, (size_t)count, sizeof *lists);
    if (!lists) return hone_fail_memory(err, (size_t)count * sizeof *lists, "the choices");
    int64_t shared = 0, total = 0;
    RETURN_IF_ERROR(tokenize_choices(generator, example, choices, count, memory, lists, &shared));
    if (shared < 1)
        return hone_fail(err, HONE_ERROR_INPUT, "line %d: the prompt is empty", example->line);
    const Example **batch;
    RETURN_IF_ERROR(as_examples(lists, count, shared, memory, &batch, err));
    for (int64_t c = 0; c < count; c++) total += batch[c]->targets;
    RETURN_IF_ERROR(hone_generator_reserve(generator, example->count + total + 1, err));
    RETURN_IF_ERROR(hone_generator_feed(generator, example->token, shared, err));
    hone_cache_truncate(generator->cache, shared - 1);
    BatchLoss result = {0};
    if (total > 0) RETURN_IF_ERROR(hone_generator_loss(generator, batch, count, memory, &result));
    for (int64_t c = 0, used = 0; c < count; c++) {
        scores[c] = 0;
        for (int64_t i = 0; i < batch[c]->targets; i++) scores[c] += (double)result.logprob[used++];
    }
    return HONE_OK;
}
