// SPDX-License-Identifier: Apache-2.0
// Steps and their examples: each once an epoch, from the seed alone, also when those that begin
// alike are brought together.
#include "check.h"
#include "data/examples.h"
#include "train/run.h"

enum { COUNT = 600, LENGTH = 12, TOPICS = 20, SHARED = 8 };

static Example examples[COUNT];
static int32_t token[COUNT][LENGTH];
static uint8_t target[COUNT][LENGTH];
static HoneError err;

// Example i: SHARED tokens of its topic, then its own.
static void make_examples(void) {
    for (int i = 0; i < COUNT; i++) {
        for (int k = 0; k < LENGTH; k++) {
            token[i][k] = k < SHARED ? i % TOPICS : i;
            target[i][k] = k >= LENGTH - 2;
        }
        examples[i] =
            (Example){.token = token[i], .target = target[i], .count = LENGTH, .targets = 2};
    }
}

static void make_order(Run *run, const HoneFinetuneOptions *options) {
    *run = (Run){.err = &err, .options = *options, .train_count = COUNT};
    static const HoneDataSource source = {"data", 1};
    run->options.data = &source;
    run->options.data_count = 1;
    run->train = hone_calloc(COUNT, sizeof *run->train);
    for (int i = 0; i < COUNT; i++) run->train[i] = &examples[i];
    run->source_begin[1] = COUNT;
    if (!CHECK_INT(hone_run_order(run), HONE_OK)) printf("%s\n", err.message);
}

static void free_order(Run *run) {
    hone_free((void *)run->train);
    hone_free((void *)run->order);
    hone_free(run->steps);
    hone_arena_free(&run->batch_memory);
}

static HoneFinetuneOptions standard(void) {
    HoneFinetuneOptions options;
    hone_finetune_defaults(&options);
    options.batch = 8;
    options.epochs = 2;
    options.group_prefixes = true;
    options.seed = 3;
    return options;
}

static const Example *example_of(const Run *run, int64_t step, int64_t i) {
    return run->order[run->steps[step].first + i];
}

// Every example once in each epoch; counts as the examples say.
static void check_epochs(const Run *run, int epochs) {
    int64_t step = 0;
    for (int epoch = 0; epoch < epochs; epoch++) {
        int seen[COUNT] = {0};
        for (int64_t drawn = 0; drawn < COUNT && step < run->step_count; step++) {
            const StepRange *range = &run->steps[step];
            drawn += range->count;
            CHECK_INT(range->tokens, range->count * LENGTH);
            CHECK_INT(range->targets, range->count * 2);
            for (int64_t i = 0; i < range->count; i++) seen[example_of(run, step, i) - examples]++;
        }
        for (int i = 0; i < COUNT; i++) CHECK_INT(seen[i], 1);
    }
    CHECK_INT(step, run->step_count);
}

static int64_t computed(const Run *run) {
    int64_t sum = 0;
    for (int64_t s = 0; s < run->step_count; s++) sum += run->steps[s].computed;
    return sum;
}

// The steps that both have, example by example.
static bool same_order(const Run *a, const Run *b) {
    const int64_t steps = a->step_count < b->step_count ? a->step_count : b->step_count;
    for (int64_t s = 0; s < steps; s++) {
        if (a->steps[s].count != b->steps[s].count) return false;
        for (int64_t i = 0; i < a->steps[s].count; i++)
            if (example_of(a, s, i) != example_of(b, s, i)) return false;
    }
    return true;
}

static void every_example_comes_once_an_epoch(void) {
    for (int form = 0; form < 8; form++) {
        HoneFinetuneOptions options = standard();
        options.group_prefixes = form & 1;
        options.shuffle = form & 2;
        if (form & 4) {
            options.batch = 0;
            options.batch_tokens = 100;
        }
        Run run;
        make_order(&run, &options);
        check_epochs(&run, 2);
        CHECK_NEAR(run.options.epochs, 2, 0, 0);
        free_order(&run);
    }
}

static void the_order_depends_on_the_seed_alone(void) {
    HoneFinetuneOptions options = standard();
    Run a, b, other, first;
    make_order(&a, &options);
    make_order(&b, &options);
    CHECK(same_order(&a, &b));
    options.seed++;
    make_order(&other, &options);
    CHECK(!same_order(&a, &other));
    options.seed--;
    options.steps = 100; // in the middle of the second epoch
    make_order(&first, &options);
    CHECK_INT(first.step_count, 100);
    CHECK(same_order(&a, &first));
    CHECK_NEAR(first.options.epochs, 800.0 / COUNT, 1e-12, 0);
    free_order(&a);
    free_order(&b);
    free_order(&other);
    free_order(&first);
}

static void less_is_computed_where_prefixes_are_grouped(void) {
    HoneFinetuneOptions options = standard();
    Run grouped, plain, alone;
    make_order(&grouped, &options);
    options.group_prefixes = false;
    make_order(&plain, &options);
    options.accumulate = 8;
    make_order(&alone, &options);
    CHECK_INT(computed(&alone), 2 * COUNT * (LENGTH - 1)); // the last token is only predicted
    CHECK(computed(&plain) < computed(&alone));
    CHECK(computed(&grouped) < 3 * computed(&plain) / 4);
    // Steps are mixed: neighbours are not the next in the order of tokens.
    int64_t rising = 0;
    for (int64_t s = 1; s < grouped.step_count; s++)
        rising += example_of(&grouped, s, 0)->token[0] >= example_of(&grouped, s - 1, 0)->token[0];
    CHECK(rising > grouped.step_count / 3 && rising < 2 * grouped.step_count / 3);
    free_order(&grouped);
    free_order(&plain);
    free_order(&alone);
}

int main(void) {
    make_examples();
    RUN(every_example_comes_once_an_epoch);
    RUN(the_order_depends_on_the_seed_alone);
    RUN(less_is_computed_where_prefixes_are_grouped);
    return check_report();
}
