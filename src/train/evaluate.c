// SPDX-License-Identifier: Apache-2.0
// Evaluation of a model on examples: losses in packed batches, then, when asked for, ranked choices
// and greedy answers on each prompt's cache.
#include <math.h>
#include <string.h>

#include "base/system.h"
#include "train/choices.h"
#include "train/run.h"

enum { BATCH_TOKENS = 2048 };

typedef struct Evaluating {
    HoneModel *model;
    HoneError *err;
    const HoneEvaluateOptions *options;
    HoneEvaluatedSink sink;
    void *user;
    const Example *examples;
    int64_t count;
    HoneGenerator *generator; // with generate or choices
    Arena memory, example_memory;
    int64_t targets, right, exact, chosen, answered;
    double loss;
} Evaluating;

// ---- one example -------------------------------------------------------------------------------

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// Equal but for white space around.
static bool same_answer(const char *a, const char *b) {
    size_t a_length = strlen(a), b_length = strlen(b);
    while (a_length && is_space(a[a_length - 1])) a_length--;
    while (b_length && is_space(b[b_length - 1])) b_length--;
    while (a_length && is_space(*a)) a++, a_length--;
    while (b_length && is_space(*b)) b++, b_length--;
    return a_length == b_length && memcmp(a, b, a_length) == 0;
}

static const char *prompt_text(Evaluating *evaluating, const Example *example) {
    TextBuffer text = {0};
    for (int64_t i = 0; i < example->prompt; i++) {
        TokenizerText piece =
            hone_token_bytes(evaluating->model->tokenizer, example->token[i], true);
        hone_text_append(&text, piece.data, piece.length);
    }
    char *copy =
        hone_arena_strndup(&evaluating->example_memory, text.data ? text.data : "", text.length);
    hone_text_free(&text);
    return copy;
}

static hone_status rank(Evaluating *evaluating, const Example *example, HoneEvaluated *report) {
    const HoneEvaluateOptions *options = evaluating->options;
    double *scores = hone_arena_calloc(&evaluating->example_memory, (size_t)options->choice_count,
                                       sizeof *scores);
    if (!scores) return hone_fail_memory(evaluating->err, 0, "the choices");
    RETURN_IF_ERROR(hone_score_choices(evaluating->generator, example, options->choices,
                                       options->choice_count, &evaluating->example_memory, scores));
    report->choice = 0;
    for (int64_t c = 1; c < options->choice_count; c++)
        if (scores[c] > scores[report->choice]) report->choice = c;
    report->choice_scores = scores;
    report->choice_right = same_answer(options->choices[report->choice], example->answer);
    evaluating->chosen += report->choice_right;
    return HONE_OK;
}

static hone_status answer(Evaluating *evaluating, const Example *example, HoneEvaluated *report) {
    int64_t most = evaluating->options->max_tokens > 0 ? evaluating->options->max_tokens : 64;
    HoneSampling sampling = {.max_tokens = most};
    HoneGenerated result;
    RETURN_IF_ERROR(hone_generate_tokens(evaluating->generator, example->token, example->prompt,
                                         &sampling, NULL, NULL, &result));
    report->generated =
        hone_arena_strndup(&evaluating->example_memory, result.text, strlen(result.text));
    hone_free(result.text);
    hone_free(result.tokens);
    if (!report->generated) return hone_fail_memory(evaluating->err, 0, "an answer");
    report->exact = same_answer(report->generated, example->answer);
    evaluating->exact += report->exact;
    return HONE_OK;
}

// targets: this example's part of the batch's results.
static hone_status report_example(Evaluating *evaluating, int64_t index, const float *logprob) {
    const Example *example = &evaluating->examples[index];
    const HoneEvaluateOptions *options = evaluating->options;
    hone_arena_reset(&evaluating->example_memory);
    HoneEvaluated report = {.index = index,
                            .line = example->line,
                            .targets = example->targets,
                            .answer = example->answer,
                            .choice = -1};
    double sum = 0;
    for (int64_t i = 0; i < example->targets; i++) sum -= (double)logprob[i];
    report.loss = sum / (double)example->targets;
    if (options->logprobs) {
        int32_t *tokens =
            hone_arena_alloc(&evaluating->example_memory, (size_t)example->targets * 4);
        if (!tokens) return hone_fail_memory(evaluating->err, 0, "log-probabilities");
        for (int64_t i = 0, used = 0; i < example->count; i++)
            if (example->target[i]) tokens[used++] = example->token[i];
        report.tokens = tokens;
        report.logprobs = logprob;
    }
    if ((options->generate || options->choice_count > 0) && example->answer) {
        evaluating->answered++;
        report.prompt = prompt_text(evaluating, example);
        hone_status status = HONE_OK;
        if (options->choice_count > 0) status = rank(evaluating, example, &report);
        if (status == HONE_OK && options->generate) status = answer(evaluating, example, &report);
        if (status != HONE_OK) {
            hone_fail_in(evaluating->err, "the example of line %d", example->line);
            return status;
        }
    }
    if (evaluating->sink && !evaluating->sink(evaluating->user, &report))
        return hone_fail(evaluating->err, HONE_INTERRUPTED, "stopped after %lld of %lld examples",
                         (long long)index + 1, (long long)evaluating->count);
    return HONE_OK;
}

// ---- losses ------------------------------------------------------------------------------------

static void count_results(Evaluating *evaluating, int64_t targets, const BatchLoss *result) {
    evaluating->loss += result->loss;
    evaluating->targets += targets;
    for (int64_t t = 0; t < targets; t++) evaluating->right += result->correct[t];
}

static hone_status evaluate_batch(Evaluating *evaluating, Tape *tape, int64_t first,
                                  int64_t count) {
    const Example **batch = hone_arena_alloc(&evaluating->memory, (size_t)count * sizeof *batch);
    int64_t targets = 0;
    if (!batch) return hone_fail_memory(evaluating->err, (size_t)count * 8, "a batch");
    for (int64_t i = 0; i < count; i++) {
        batch[i] = &evaluating->examples[first + i];
        targets += batch[i]->targets;
    }
    const LossCall call = {.model = evaluating->model->model,
                           .tape = tape,
                           .by_target = true,
                           .memory = &evaluating->memory,
                           .err = evaluating->err};
    BatchLoss result;
    hone_tape_reset(tape, false);
    RETURN_IF_ERROR(hone_batch_loss(&call, batch, count, 1.0, &result));
    count_results(evaluating, targets, &result);
    for (int64_t i = 0, used = 0; i < count; i++) {
        RETURN_IF_ERROR(report_example(evaluating, first + i, result.logprob + used));
        used += batch[i]->targets;
    }
    return HONE_OK;
}

// The prompt is going to be computed anyway, to rank and to answer: its cache then gives the loss
// of what follows too. Possible when nothing inside the prompt is a target.
static bool loss_follows_prompt(const Example *example) {
    if (!example->answer || example->prompt < 1) return false;
    for (int64_t i = 0; i < example->prompt; i++)
        if (example->target[i]) return false;
    return true;
}

static hone_status evaluate_on_cache(Evaluating *evaluating, int64_t index) {
    const Example *example = &evaluating->examples[index];
    HoneGenerator *generator = evaluating->generator;
    const int64_t held = example->prompt - 1;
    RETURN_IF_ERROR(hone_generator_reserve(generator, example->count, evaluating->err));
    RETURN_IF_ERROR(
        hone_generator_feed(generator, example->token, example->prompt, evaluating->err));
    hone_cache_truncate(generator->cache, held);
    const Example rest = {.token = example->token + held,
                          .target = example->target + held,
                          .count = example->count - held,
                          .targets = example->targets};
    const Example *const batch[] = {&rest};
    BatchLoss result;
    RETURN_IF_ERROR(hone_generator_loss(generator, batch, 1, &evaluating->memory, &result));
    count_results(evaluating, example->targets, &result);
    return report_example(evaluating, index, result.logprob);
}

static hone_status evaluate_all(Evaluating *evaluating, Tape *tape) {
    for (int64_t first = 0; first < evaluating->count;) {
        int64_t count = 0, tokens = 0;
        hone_arena_reset(&evaluating->memory);
        if (evaluating->generator && loss_follows_prompt(&evaluating->examples[first])) {
            RETURN_IF_ERROR(evaluate_on_cache(evaluating, first++));
            continue;
        }
        while (first + count < evaluating->count) {
            int64_t length = evaluating->examples[first + count].count;
            if (count > 0 && (evaluating->generator || tokens + length > BATCH_TOKENS)) break;
            tokens += length;
            count++;
        }
        RETURN_IF_ERROR(evaluate_batch(evaluating, tape, first, count));
        first += count;
    }
    return HONE_OK;
}

static hone_status run_evaluation(Evaluating *evaluating) {
    const HoneEvaluateOptions *options = evaluating->options;
    HoneModel *model = evaluating->model;
    if (options->generate || options->choice_count > 0)
        RETURN_IF_ERROR(hone_generator_create(model, &evaluating->generator));
    Tape *tape = hone_tape_create(&model->context->kernels, (TapeOptions){.gradients = false});
    if (!tape) return hone_fail_memory(evaluating->err, sizeof(void *), "the tape");
    hone_status status = evaluate_all(evaluating, tape);
    hone_tape_free(tape);
    if (status == HONE_OK && evaluating->answered == 0 &&
        (options->generate || options->choice_count > 0))
        status = hone_fail(evaluating->err, HONE_ERROR_INPUT,
                           "no example has an answer to compare with: choices and generation need "
                           "messages, prompt and completion, or instruction and output");
    return status;
}

hone_status hone_evaluate(HoneModel *model, const HoneData *data,
                          const HoneEvaluateOptions *options, HoneEvaluatedSink sink, void *user,
                          HoneEvaluation *result) {
    HoneError *err = hone_begin(model->context);
    double start = hone_seconds();
    int64_t count = data->set.count;
    if (options->limit > 0 && options->limit < count) count = options->limit;
    if (options->choices && options->choice_count < 2)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%lld choices, want at least 2",
                         (long long)options->choice_count);
    Evaluating evaluating = {.model = model,
                             .err = err,
                             .options = options,
                             .sink = sink,
                             .user = user,
                             .examples = data->set.examples,
                             .count = count};
    hone_status status = run_evaluation(&evaluating);
    hone_generator_free(evaluating.generator);
    hone_arena_free(&evaluating.memory);
    hone_arena_free(&evaluating.example_memory);
    RETURN_IF_ERROR(status);
    double targets = (double)evaluating.targets, answered = (double)evaluating.answered;
    double loss = evaluating.loss / targets;
    if (!isfinite(loss))
        return hone_fail(
            err, HONE_ERROR_NUMERIC,
            "the loss is %g: the model or an adapter holds NaN or infinity, or makes it", loss);
    *result = (HoneEvaluation){
        .loss = loss,
        .perplexity = exp(loss),
        .accuracy = (double)evaluating.right / targets,
        .tokens = evaluating.targets,
        .examples = count,
        .exact_match = options->generate ? (double)evaluating.exact / answered : -1,
        .choice_accuracy = options->choice_count > 0 ? (double)evaluating.chosen / answered : -1,
        .seconds = hone_seconds() - start};
    return HONE_OK;
}
