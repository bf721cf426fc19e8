// SPDX-License-Identifier: Apache-2.0
// The log-probability of every token of a text, given those before it.
#include <hone/evaluate.h>

#include <math.h>
#include <string.h>

#include "train/run.h"

static hone_status check_tokens(HoneModel *model, const int32_t *tokens, int64_t count,
                                HoneError *err) {
    RETURN_IF_ERROR(hone_need_decoder(model, "it has no next token to measure"));
    if (model->config.encoder_layers > 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s is an encoder-decoder: its tokens depend on a source too",
                         model->name);
    if (count < 2 || count > model->config.context)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%lld tokens, want 2 to the context, %lld",
                         (long long)count, (long long)model->config.context);
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= model->config.vocabulary)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "token %lld is %d, the vocabulary has %lld tokens", (long long)i,
                             tokens[i], (long long)model->config.vocabulary);
    return HONE_OK;
}

static hone_status measure(HoneModel *model, const Example *example, Arena *memory, Tape *tape,
                           float *logprobs) {
    HoneError *err = &model->context->error;
    const LossCall call = {
        .model = model->model, .tape = tape, .by_target = true, .memory = memory, .err = err};
    BatchLoss result;
    RETURN_IF_ERROR(hone_batch_loss(&call, &example, 1, 1.0, &result));
    for (int64_t i = 0; i + 1 < example->count; i++)
        if (!isfinite(result.logprob[i]))
            return hone_fail(err, HONE_ERROR_NUMERIC,
                             "the log-probability of token %lld is %g: the model or an adapter "
                             "holds NaN or infinity, or makes it",
                             (long long)i + 1, (double)result.logprob[i]);
    memcpy(logprobs, result.logprob, (size_t)(example->count - 1) * sizeof *logprobs);
    return HONE_OK;
}

hone_status hone_log_probabilities(HoneModel *model, const int32_t *tokens, int64_t count,
                                   float *logprobs) {
    HoneError *err = hone_begin(model->context);
    RETURN_IF_ERROR(check_tokens(model, tokens, count, err));
    Arena memory = {0};
    Example example = {.count = count, .targets = count - 1};
    example.token = hone_arena_alloc(&memory, (size_t)count * sizeof *example.token);
    example.target = hone_arena_alloc(&memory, (size_t)count);
    Tape *tape = hone_tape_create(&model->context->kernels, (TapeOptions){.gradients = false});
    hone_status status = HONE_OK;
    if (!example.token || !example.target || !tape) {
        status = hone_fail_memory(err, (size_t)count * 5, "log-probabilities");
    } else {
        memcpy(example.token, tokens, (size_t)count * sizeof *tokens);
        memset(example.target, 1, (size_t)count);
        example.target[0] = 0;
        status = measure(model, &example, &memory, tape, logprobs);
    }
    hone_tape_free(tape);
    hone_arena_free(&memory);
    return status;
}
