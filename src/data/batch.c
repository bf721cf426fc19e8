// SPDX-License-Identifier: Apache-2.0
// Batches without padding, and prompts for generation.
#include <string.h>

#include "data/record.h"

hone_status hone_chat_prompt(const DataOptions *options, const ChatMessage *messages, int64_t count,
                             TokenList *list, HoneError *err) {
    Workshop workshop;
    if (!options->chat_template)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "the model has no chat template: give one with --template FILE, or the "
                         "prompt as it is with --raw");
    hone_status status = hone_workshop_open(&workshop, options, err);
    if (status == HONE_OK)
        status = hone_chat_tokens(&workshop, options, messages, count, true, list, err);
    hone_workshop_close(&workshop);
    return status;
}

static hone_status take_arrays(TokenBatch *batch, Arena *memory, HoneError *err) {
    size_t tokens = (size_t)batch->tokens, entries = (size_t)batch->entries;
    batch->token = hone_arena_calloc(memory, tokens, sizeof *batch->token);
    batch->position = hone_arena_calloc(memory, tokens, sizeof *batch->position);
    batch->begin = hone_arena_calloc(memory, tokens, sizeof *batch->begin);
    batch->end = hone_arena_calloc(memory, tokens, sizeof *batch->end);
    batch->row = hone_arena_calloc(memory, entries, sizeof *batch->row);
    batch->target = hone_arena_calloc(memory, entries, sizeof *batch->target);
    if (batch->token && batch->position && batch->begin && batch->end && batch->row &&
        batch->target)
        return HONE_OK;
    return hone_fail_memory(err, tokens * 16 + entries * 8, "a batch");
}

hone_status hone_batch_pack(const Example *const *examples, int64_t count, Arena *memory,
                            TokenBatch *batch, HoneError *err) {
    *batch = (TokenBatch){.examples = count};
    for (int64_t i = 0; i < count; i++) {
        batch->tokens += examples[i]->count;
        batch->entries += examples[i]->targets;
        if (batch->tokens > INT32_MAX)
            return hone_fail(err, HONE_ERROR_ARGUMENT, "a batch of more than %d tokens", INT32_MAX);
    }
    RETURN_IF_ERROR(take_arrays(batch, memory, err));
    int32_t at = 0;
    int64_t entry = 0;
    for (int64_t i = 0; i < count; i++) {
        const Example *example = examples[i];
        int32_t end = at + (int32_t)example->count;
        for (int32_t k = 0; k < (int32_t)example->count; k++, at++) {
            batch->token[at] = example->token[k];
            batch->position[at] = k;
            batch->begin[at] = at; // key `at` is seen by the queries from itself …
            batch->end[at] = end;  // … to the end of its example
            if (k == 0 || !example->target[k]) continue;
            batch->row[entry] = at - 1;
            batch->target[entry++] = example->token[k];
        }
    }
    return HONE_OK;
}
