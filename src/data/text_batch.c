// SPDX-License-Identifier: Apache-2.0
// Encoders' batches: texts side by side.
#include <inttypes.h>
#include <string.h>

#include "data/data.h"

static hone_status take_arrays(TextBatch *batch, Arena *memory, HoneError *err) {
    const size_t tokens = (size_t)batch->tokens, texts = (size_t)batch->texts;
    batch->token = hone_arena_calloc(memory, 5 * tokens + texts + 1, sizeof *batch->token);
    batch->path = hone_arena_calloc(memory, tokens + 1, sizeof *batch->path);
    if (!batch->token || !batch->path)
        return hone_fail_memory(err, tokens * (5 * sizeof *batch->token + 8), "a batch");
    batch->position = batch->token + tokens;
    batch->begin = batch->position + tokens;
    batch->end = batch->begin + tokens;
    batch->type = batch->end + tokens;
    batch->first = batch->type + tokens;
    return HONE_OK;
}

// Every hidden state depends on all of the example's tokens.
static void put_example(TextBatch *batch, const Example *example, int32_t at) {
    const int64_t count = example->count;
    const int64_t second = example->second > 0 ? example->second : count;
    uint64_t whole = 0;
    for (int64_t i = 0; i < count; i++) whole = hone_token_hash(whole, example->token[i]);
    memcpy(batch->token + at, example->token, (size_t)count * sizeof *batch->token);
    for (int64_t i = 0; i < count; i++) {
        batch->position[at + i] = (int32_t)i;
        batch->begin[at + i] = at;
        batch->end[at + i] = at + (int32_t)count;
        batch->type[at + i] = i >= second;
        batch->path[at + i] = hone_token_hash(whole, (int32_t)i);
    }
}

hone_status hone_texts_pack(const Example *const *examples, int64_t count, Arena *memory,
                            TextBatch *batch, HoneError *err) {
    *batch = (TextBatch){.texts = count};
    for (int64_t i = 0; i < count; i++) batch->tokens += examples[i]->count;
    if (batch->tokens > INT32_MAX)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "a batch of more than %" PRId32 " tokens",
                         INT32_MAX);
    RETURN_IF_ERROR(take_arrays(batch, memory, err));
    int32_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        batch->first[i] = at;
        put_example(batch, examples[i], at);
        at += (int32_t)examples[i]->count;
    }
    batch->first[count] = at;
    return HONE_OK;
}
