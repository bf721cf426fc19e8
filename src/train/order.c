// SPDX-License-Identifier: Apache-2.0
// Which examples, in which order, cut into which steps: all fixed before the first step, from the
// data and the seed alone.
#include "train/develop.h"

#include <math.h>
#include <string.h>

enum { MOST_EXAMPLES = 100000000 }; // in all epochs together: the order is kept in memory
enum { MOST_HELD_OUT = 200, DEFAULT_STEP_TOKENS = 4096, LEAST_EPOCH_STEPS = 100, LEAST_BATCH = 4 };
enum { GROUP_STEPS = 16 }; // examples that begin alike are brought together within so many steps

static hone_status allocate(Run *run, const Example ***list, int64_t count, const char *what) {
    *list = hone_calloc((size_t)(count ? count : 1), sizeof **list);
    return *list ? HONE_OK : hone_fail_memory(run->err, (size_t)count * sizeof **list, what);
}

// ---- held-out data -----------------------------------------------------------------------------

// Take the held-out examples out of the training list: a random choice that keeps both orders.
static hone_status split_held_out(Run *run) {
    double split = run->options.eval_split;
    int64_t total = run->train_count;
    int64_t want = split < 1 ? llround(split * (double)total) : (int64_t)split;
    if (split < 1 && want > MOST_HELD_OUT) want = MOST_HELD_OUT;
    if (split >= 1 && want >= total)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--eval-split is %lld examples, the data has %lld", (long long)want,
                         (long long)total);
    if (want == 0) return HONE_OK;
    int64_t *index = hone_alloc((size_t)total * sizeof *index);
    uint8_t *held = hone_calloc((size_t)total, 1);
    if (!index || !held || allocate(run, &run->held_out, want, "held-out examples") != HONE_OK) {
        hone_free(index);
        hone_free(held);
        return hone_fail_memory(run->err, (size_t)total * sizeof *index, "the held-out split");
    }
    for (int64_t i = 0; i < total; i++) index[i] = i;
    RandomStream stream = hone_random_stream(run->options.seed, RANDOM_SPLIT, 0);
    hone_random_shuffle(&stream, index, total);
    for (int64_t i = 0; i < want; i++) held[index[i]] = 1;
    int64_t kept = 0, source = 0;
    for (int64_t i = 0; i < total; i++) {
        while (source < run->options.data_count && run->source_begin[source] == i)
            run->source_begin[source++] = kept;
        if (held[i])
            run->held_out[run->held_out_count++] = run->train[i];
        else
            run->train[kept++] = run->train[i];
    }
    while (source <= run->options.data_count) run->source_begin[source++] = kept;
    run->train_count = kept;
    hone_free(index);
    hone_free(held);
    return HONE_OK;
}

static hone_status read_examples(Run *run, const char *path, HoneData **data) {
    const HoneFinetuneOptions *options = &run->options;
    const bool corpus = run->develop && run->model->config.encoder_layers == 0;
    return corpus ? hone_corpus_read(run->model, path, &options->examples, options->out, data)
                  : hone_data_read(run->model, path, &options->examples, data);
}

hone_status hone_run_read_data(Run *run) {
    const HoneFinetuneOptions *options = &run->options;
    HoneDataInfo info;
    int64_t total = 0;
    RETURN_IF_ERROR(hone_run_given_labels(run));
    for (int64_t s = 0; s < options->data_count; s++) {
        RETURN_IF_ERROR(read_examples(run, options->data[s].path, &run->data[s]));
        hone_data_info(run->data[s], &info);
        total += info.examples;
    }
    RETURN_IF_ERROR(allocate(run, &run->train, total, "examples"));
    for (int64_t s = 0; s < options->data_count; s++) {
        const Dataset *set = &run->data[s]->set;
        run->source_begin[s] = run->train_count;
        for (int64_t i = 0; i < set->count; i++) run->train[run->train_count++] = &set->examples[i];
    }
    run->source_begin[options->data_count] = run->train_count;
    RETURN_IF_ERROR(hone_run_take_labels(run));
    if (!options->eval_data) return split_held_out(run);
    RETURN_IF_ERROR(read_examples(run, options->eval_data, &run->eval_data));
    const Dataset *set = &run->eval_data->set;
    RETURN_IF_ERROR(allocate(run, &run->held_out, set->count, "held-out examples"));
    for (int64_t i = 0; i < set->count; i++) run->held_out[i] = &set->examples[i];
    run->held_out_count = set->count;
    return HONE_OK;
}

// ---- order -------------------------------------------------------------------------------------

// How many examples of a source an epoch draws.
static int64_t drawn(const Run *run, int64_t source) {
    int64_t count = run->source_begin[source + 1] - run->source_begin[source];
    return llround(run->options.data[source].weight * (double)count);
}

static int64_t epoch_length(const Run *run) {
    int64_t total = 0;
    for (int64_t s = 0; s < run->options.data_count; s++) total += drawn(run, s);
    return total;
}

// One epoch's examples: each source whole as often as its weight says, a fraction of it drawn by
// lot (the first `rest` of a shuffled list); then all shuffled together. scratch: one source's
// examples.
static void draw_epoch(const Run *run, int64_t epoch, int64_t *index, int64_t *scratch) {
    int64_t used = 0;
    for (int64_t s = 0; s < run->options.data_count; s++) {
        int64_t begin = run->source_begin[s], count = run->source_begin[s + 1] - begin;
        int64_t want = drawn(run, s), whole = count ? want / count * count : 0;
        for (int64_t i = 0; i < whole; i++) index[used++] = begin + i % count;
        for (int64_t i = 0; i < count; i++) scratch[i] = begin + i;
        RandomStream stream =
            hone_random_stream(run->options.seed, RANDOM_SPLIT, (uint64_t)(1 + epoch * 64 + s));
        if (run->options.shuffle) hone_random_shuffle(&stream, scratch, count);
        for (int64_t i = whole; i < want; i++) index[used++] = scratch[i - whole];
    }
    if (run->options.shuffle) {
        RandomStream stream =
            hone_random_stream(run->options.seed, RANDOM_SHUFFLE, (uint64_t)epoch);
        hone_random_shuffle(&stream, index, used);
    }
}

// ---- steps -------------------------------------------------------------------------------------

// Both answers of a pair are read.
static int64_t tokens_of(const Example *example) {
    const Example *rejected = example->rejected;
    return hone_example_length(example) + (rejected ? hone_example_length(rejected) : 0);
}

// The step that begins at `first` and does not pass `end`.
static StepRange cut_step(const Run *run, int64_t first, int64_t end) {
    const HoneFinetuneOptions *options = &run->options;
    StepRange step = {.first = first};
    while (first + step.count < end) {
        const Example *example = run->order[first + step.count];
        if (options->batch > 0 && step.count == options->batch) break;
        if (options->batch == 0 && step.count >= LEAST_BATCH &&
            step.tokens + tokens_of(example) > options->batch_tokens)
            break;
        step.count++;
        step.tokens += tokens_of(example);
        step.targets += example->targets;
    }
    return step;
}

// Within each window of GROUP_STEPS steps, the examples of the order from `begin` on by their
// tokens.
static hone_status group_prefixes(Run *run, int64_t begin) {
    while (begin < run->order_count) {
        int64_t end = begin;
        for (int i = 0; i < GROUP_STEPS && end < run->order_count; i++)
            end += cut_step(run, end, run->order_count).count;
        hone_arena_reset(&run->batch_memory);
        RETURN_IF_ERROR(
            hone_examples_sort(run->order + begin, end - begin, &run->batch_memory, run->err));
        begin = end;
    }
    return HONE_OK;
}

// Neighbouring steps have come from one sorted window: mix them with the others of their epoch.
static hone_status shuffle_steps(Run *run, int64_t epoch, int64_t begin) {
    const int64_t count = run->step_count - begin;
    hone_arena_reset(&run->batch_memory);
    int64_t *index = hone_arena_alloc(&run->batch_memory, (size_t)count * sizeof *index);
    StepRange *steps = hone_arena_alloc(&run->batch_memory, (size_t)count * sizeof *steps);
    if (!index || !steps)
        return hone_fail_memory(run->err, (size_t)count * sizeof *steps, "the steps");
    for (int64_t i = 0; i < count; i++) index[i] = i;
    RandomStream stream = hone_random_stream(run->options.seed, RANDOM_STEPS, (uint64_t)epoch);
    hone_random_shuffle(&stream, index, count);
    for (int64_t i = 0; i < count; i++) steps[i] = run->steps[begin + index[i]];
    memcpy(run->steps + begin, steps, (size_t)count * sizeof *steps);
    return HONE_OK;
}

// The order from `begin` on, cut into steps.
static hone_status append_steps(Run *run, int64_t begin, int64_t *capacity) {
    for (int64_t first = begin; first < run->order_count;) {
        if (run->step_count == *capacity) {
            int64_t larger = *capacity ? *capacity * 2 : 256;
            StepRange *steps = hone_realloc(run->steps, (size_t)run->step_count * sizeof *steps,
                                            (size_t)larger * sizeof *steps);
            if (!steps)
                return hone_fail_memory(run->err, (size_t)larger * sizeof *steps, "the steps");
            run->steps = steps;
            *capacity = larger;
        }
        StepRange step = cut_step(run, first, run->order_count);
        run->steps[run->step_count++] = step;
        first += step.count;
    }
    return HONE_OK;
}

static hone_status append_epoch(Run *run, int64_t epoch, int64_t length, int64_t *capacity) {
    size_t indices = (size_t)(epoch_length(run) + run->train_count);
    int64_t *index = hone_alloc(indices * sizeof *index);
    if (!index) return hone_fail_memory(run->err, indices * sizeof *index, "the order");
    if (run->order_count + length > run->order_capacity) {
        int64_t larger = 2 * run->order_capacity + length;
        const Example **grown =
            hone_realloc((void *)run->order, (size_t)run->order_count * sizeof *grown,
                         (size_t)larger * sizeof *grown);
        if (!grown) {
            hone_free(index);
            return hone_fail_memory(run->err, (size_t)larger * sizeof *grown, "the order");
        }
        run->order = grown;
        run->order_capacity = larger;
    }
    draw_epoch(run, epoch, index, index + epoch_length(run));
    int64_t begin = run->order_count;
    for (int64_t i = 0; i < length; i++) run->order[begin + i] = run->train[index[i]];
    run->order_count += length;
    hone_free(index);
    const int64_t first_step = run->step_count;
    if (run->options.group_prefixes) RETURN_IF_ERROR(group_prefixes(run, begin));
    RETURN_IF_ERROR(append_steps(run, begin, capacity));
    if (!run->options.group_prefixes || !run->options.shuffle) return HONE_OK;
    return shuffle_steps(run, epoch, first_step);
}

int64_t hone_micro_batches(const Run *run, const StepRange *step) {
    return run->options.accumulate < step->count ? run->options.accumulate : step->count;
}

const Example *const *hone_micro_batch(const Run *run, const StepRange *step, int64_t part,
                                       int64_t *count) {
    int64_t parts = hone_micro_batches(run, step);
    int64_t begin = step->count * part / parts, end = step->count * (part + 1) / parts;
    *count = end - begin;
    return run->order + step->first + begin;
}

// Texts of an encoder lie side by side: nothing of them is shared.
static void count_texts(StepRange *step, int64_t part, const Example *const *examples,
                        int64_t count) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < count; i++) {
        tokens += examples[i]->count;
        step->pairs += examples[i]->count * examples[i]->count;
    }
    step->computed += tokens;
    step->rows += count;
    if (tokens > step->most_tokens) {
        step->most_tokens = tokens;
        step->tokens_part = part;
    }
    if (count > step->most_rows) {
        step->most_rows = count;
        step->rows_part = part;
    }
}

// What is left to compute where examples of a micro-batch begin alike.
hone_status hone_step_count(Run *run, StepRange *step) {
    *step = (StepRange){.first = step->first,
                        .count = step->count,
                        .tokens = step->tokens,
                        .targets = step->targets};
    for (int64_t part = 0; part < hone_micro_batches(run, step); part++) {
        int64_t count;
        const Example *const *examples = hone_micro_batch(run, step, part, &count);
        TokenBatch batch;
        if (run->options.examples.task != HONE_TASK_NONE) {
            hone_arena_reset(&run->batch_memory);
            RETURN_IF_ERROR(
                hone_pairs_list(examples, count, &run->batch_memory, &examples, &count, run->err));
            count_texts(step, part, examples, count);
            continue;
        }
        hone_arena_reset(&run->batch_memory);
        RETURN_IF_ERROR(
            hone_pairs_list(examples, count, &run->batch_memory, &examples, &count, run->err));
        RETURN_IF_ERROR(hone_batch_pack(examples, count, &run->batch_memory, &batch, run->err));
        const TokenSources *source = &batch.source;
        const int64_t computed = batch.tokens + source->tokens;
        step->computed += computed;
        step->sources += source->tokens;
        step->rows += batch.rows;
        if (computed > step->most_tokens) {
            step->most_tokens = computed;
            step->tokens_part = part;
        }
        if (batch.rows > step->most_rows) {
            step->most_rows = batch.rows;
            step->rows_part = part;
        }
        for (int64_t t = 0; t < batch.tokens; t++) step->pairs += batch.end[t] - batch.begin[t];
        for (int64_t s = 0; s < source->tokens; s++) {
            step->source_pairs += source->end[s] - source->begin[s];
            step->cross_pairs += source->seen_end[s] - source->seen_begin[s];
        }
    }
    return HONE_OK;
}

// 4096 tokens a step, fewer when an epoch would have under 100 steps.
static void resolve_batch(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    if (options->batch > 0 || options->batch_tokens > 0) return;
    int64_t tokens = 0;
    for (int64_t i = 0; i < run->train_count; i++) tokens += tokens_of(run->train[i]);
    int64_t share = tokens / LEAST_EPOCH_STEPS;
    options->batch_tokens =
        share < DEFAULT_STEP_TOKENS ? (share > 0 ? share : 1) : DEFAULT_STEP_TOKENS;
}

hone_status hone_run_order(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    resolve_batch(run);
    int64_t length = epoch_length(run), capacity = 0;
    if (length == 0)
        return hone_fail(run->err, HONE_ERROR_INPUT,
                         "no training example is left after holding out %lld",
                         (long long)run->held_out_count);
    double wanted = options->epochs * (double)length;
    if (options->steps == 0 && !(wanted < MOST_EXAMPLES))
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "epochs is %g: that is %.3g examples, at most %d are possible",
                         options->epochs, wanted, MOST_EXAMPLES);
    int64_t left = options->steps > 0 ? INT64_MAX : llround(wanted);
    if (left < 1) left = 1;
    for (int64_t epoch = 0; left > 0; epoch++) {
        if (options->steps > 0 && run->step_count >= options->steps) break;
        int64_t part = left < length ? left : length;
        if (run->order_count + part > MOST_EXAMPLES)
            return hone_fail(run->err, HONE_ERROR_ARGUMENT, "%lld steps need more than %d examples",
                             (long long)options->steps, MOST_EXAMPLES);
        RETURN_IF_ERROR(append_epoch(run, epoch, part, &capacity));
        if (epoch == 0) run->epoch_steps = run->step_count;
        if (left != INT64_MAX) left -= part;
    }
    if (options->steps > 0) run->step_count = options->steps;
    options->steps = run->step_count;
    int64_t used = 0;
    for (int64_t s = 0; s < run->step_count; s++) used += run->steps[s].count;
    options->epochs = (double)used / (double)length;
    double warmup = options->warmup;
    run->warmup_steps = warmup <= 0  ? 0
                        : warmup < 1 ? llround(warmup * (double)run->step_count)
                                     : (int64_t)warmup;
    if (warmup > 0 && run->warmup_steps < 1) run->warmup_steps = 1;
    if (run->warmup_steps > run->step_count) run->warmup_steps = run->step_count;
    for (int64_t s = 0; s < run->step_count; s++)
        RETURN_IF_ERROR(hone_step_count(run, &run->steps[s]));
    return HONE_OK;
}
