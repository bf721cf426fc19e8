// SPDX-License-Identifier: Apache-2.0
// The loss of a batch as a trie is that of its examples one by one: loss, every target's
// log-probability, every gradient. f32 rounds differently where tiles begin elsewhere: 1e-5.
#include "train/loss.h"

#include "data/examples.h"
#include "models/tiny.h"

static const double near = 1e-5;

typedef struct Outcome {
    double loss;
    int64_t count, targets;
    float *gradient; // one after the other
    float logprob[MOST_WORDS * WORD_LETTERS];
    uint8_t correct[MOST_WORDS * WORD_LETTERS];
} Outcome;

static Tiny tiny;
static bool drops;
static Tape *tape;
static Arena memory;
static Words words;

// Add what the examples first … first+count-1 give, as one batch.
static void run(int64_t first, int64_t count, KeyValueCache *cache, Outcome *outcome) {
    HoneError err = {0};
    const LossCall call = {.model = tiny.model,
                           .tape = tape,
                           .cache = cache,
                           .by_target = true,
                           .memory = &memory,
                           .err = &err};
    BatchLoss result = {0};
    hone_arena_reset(&memory);
    hone_tape_reset(tape, !cache);
    const hone_status status = hone_batch_loss(&call, words.list + first, count, 0.125, &result);
    if (!CHECK_INT(status, HONE_OK)) printf("%s\n", err.message);
    if (!cache) CHECK_INT(hone_tape_backward(tape), HONE_OK);
    outcome->loss += result.loss;
    for (int64_t i = first, k = 0; i < first + count && status == HONE_OK; i++)
        for (int64_t t = 0; t < words.example[i].targets; t++, k++) {
            outcome->logprob[outcome->targets] = result.logprob[k];
            outcome->correct[outcome->targets++] = result.correct[k];
        }
}

static double length(const float *values, int64_t count) {
    double squares = 0;
    for (int64_t i = 0; i < count; i++) squares += (double)values[i] * (double)values[i];
    return sqrt(squares);
}

static void compare(void) {
    Outcome together = {0}, apart = {0};
    tiny_zero_gradients(&tiny);
    run(0, words.count, NULL, &together);
    together.gradient = tiny_gradients(&tiny, &together.count);
    tiny_zero_gradients(&tiny);
    for (int64_t i = 0; i < words.count; i++)
        if (words.example[i].targets > 0) run(i, 1, NULL, &apart);
    apart.gradient = tiny_gradients(&tiny, &apart.count);
    CHECK_NEAR(together.loss, apart.loss, near, 0);
    CHECK_INT(together.targets, apart.targets);
    CHECK_CLOSE(together.logprob, apart.logprob, apart.targets, near, near);
    CHECK(memcmp(together.correct, apart.correct, (size_t)apart.targets) == 0);
    const double all = length(apart.gradient, apart.count);
    CHECK(all > 0);
    int64_t at = 0;
    for (int p = 0; p < tiny.trained_count; p++) {
        const int64_t count = hone_tensor_count(tiny.trained[p]);
        float *got = together.gradient + at, *want = apart.gradient + at;
        const double size = length(want, count);
        for (int64_t i = 0; i < count; i++) got[i] -= want[i];
        // Behind a single key, gradients of queries and keys are 0 but for roundings.
        if (!CHECK(length(got, count) <= near * size + 1e-7 * all))
            printf("%s: off by %.3g of %.3g\n", tiny.trained_name[p], length(got, count), size);
        at += count;
    }
    hone_free(together.gradient);
    hone_free(apart.gradient);
}

#define COMPARE(...) compare_words((const char *const[]){__VA_ARGS__, NULL})
static void compare_words(const char *const *list) {
    words = (Words){0};
    for (; *list; list++) words_add(&words, *list);
    compare();
}

static void a_shared_beginning(void) {
    COMPARE("abcdefgHIJ", "abcdefgKLM", "abcdeNO", "pqRS");
}

static void several_next_tokens(void) {
    COMPARE("abC", "abD", "abE", "abD");
}

static void masks_that_differ_on_what_is_shared(void) {
    COMPARE("abCdEf", "aBcdeF", "abcdeFGH", "ABCDEFGH");
}

static void an_example_that_begins_another(void) {
    COMPARE("aBCDEF", "aB", "aBCD");
}

static void equal_examples(void) {
    COMPARE("abcDE", "abcDE", "abcDE");
}

static void examples_of_one_token_or_one_target(void) {
    COMPARE("a", "aB", "cD", "aE", "abc");
}

static void any_examples(void) {
    RandomStream random = hone_random_stream(2, RANDOM_TEST, 0);
    for (int i = 0; i < 25; i++) {
        words_random(&words, 2 + (int)hone_random_below(&random, MOST_WORDS - 2), &random);
        words_add(&words, "abC");
        if (words.count > MOST_WORDS) words.count = MOST_WORDS;
        compare();
    }
}

// What a cache holds need not be in the batch.
static void behind_a_cache(void) {
    static const int32_t prompt[] = {7, 3, 19, 4};
    enum { HELD = 4 };
    HoneError err = {0};
    KeyValueCache *cache;
    words = (Words){0};
    words_add(&words, "hdteaBC");
    words_add(&words, "hdteaBDE");
    words_add(&words, "hdtexYZ");
    Outcome whole = {0}, behind = {0};
    run(0, words.count, NULL, &whole);
    CHECK_INT(hone_cache_create(tiny.model, 64, &cache, &err), HONE_OK);
    hone_tape_reset(tape, false);
    CHECK_INT(hone_model_decode(tiny.model, tape, cache, prompt, HELD, NULL, &err), HONE_OK);
    for (int64_t i = 0; i < words.count; i++) {
        words.example[i].token += HELD;
        words.example[i].target += HELD;
        words.example[i].count -= HELD;
    }
    run(0, words.count, cache, &behind);
    CHECK_INT(hone_cache_length(cache), HELD);
    CHECK_NEAR(behind.loss, whole.loss, near, 0);
    CHECK_INT(behind.targets, whole.targets);
    CHECK_CLOSE(behind.logprob, whole.logprob, whole.targets, near, near);
    hone_cache_free(cache);
}

static void run_all(void) {
    tape = tiny_tape(NULL, (TapeOptions){.gradients = true});
    RUN(a_shared_beginning);
    RUN(several_next_tokens);
    RUN(masks_that_differ_on_what_is_shared);
    RUN(an_example_that_begins_another);
    RUN(equal_examples);
    RUN(examples_of_one_token_or_one_target);
    RUN(any_examples);
    if (!drops) RUN(behind_a_cache); // which evaluation alone uses, without dropout
    hone_tape_free(tape);
    tiny_free(&tiny);
}

int main(void) {
    tiny_make(&tiny, &tiny_config);
    tiny_train_all(&tiny);
    run_all();
    ModelConfig untied = tiny_config;
    untied.tied_head = false;
    tiny_make(&tiny, &untied);
    tiny_adapt(&tiny, 3, 0.4f);
    run_all();
    tiny_make(&tiny, &untied);
    tiny_adapt(&tiny, 3, 0.4f);
    tiny_drop(&tiny);
    drops = true;
    run_all();
    hone_arena_free(&memory);
    return check_report();
}
