// SPDX-License-Identifier: Apache-2.0
// The speed of training steps: the run that fine-tuning makes, on random tokens.
#include <string.h>

#include "base/quantile.h"
#include "base/system.h"
#include "train/run.h"

enum {
    LEAST_STEPS = 3, // unless they take
    LONG = 10,       // times as long as was asked for
    MOST_STEPS = 4096,
    MOST_PEAKS = 64, // before a step
    MOST_TOKENS = 1 << 24,
};

// ---- options -----------------------------------------------------------------------------------

static hone_status check_options(const HoneTrainingOptions *options, HoneError *err) {
    const struct {
        const char *name;
        int64_t value, least, most;
    } numbers[] = {{"--batch", options->batch, 1, MOST_TOKENS},
                   {"--length", options->length, 2, MOST_TOKENS},
                   {"--rank", options->method == HONE_METHOD_LORA ? options->rank : 1, 1, 4096},
                   {"--accumulate", options->accumulate, 1, options->batch}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value < numbers[i].least || numbers[i].value > numbers[i].most)
            return hone_fail(err, HONE_ERROR_ARGUMENT, "%s is %lld, want %lld to %lld",
                             numbers[i].name, (long long)numbers[i].value,
                             (long long)numbers[i].least, (long long)numbers[i].most);
    if (options->batch > MOST_TOKENS / options->length)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "a step of %lld × %lld tokens: at most %d are measured",
                         (long long)options->batch, (long long)options->length, MOST_TOKENS);
    return HONE_OK;
}

static hone_status open_model(Run *run, const HoneTrainingOptions *options) {
    if (options->model) {
        RETURN_IF_ERROR(hone_model_load(run->context, options->model, &run->model));
        RETURN_IF_ERROR(hone_need_decoder(run->model, "its training is not measured here"));
        if (options->length > run->model->config.context)
            return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                             "--length is %lld, the model's context is %lld",
                             (long long)options->length, (long long)run->model->config.context);
        return HONE_OK;
    }
    int dtype = hone_dtype_from_name(options->type);
    if (!hone_dtype_is_weight(dtype))
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--type \"%s\": supported: f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k "
                         "q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4",
                         options->type);
    return hone_model_random(run->context, &options->shape, dtype, options->seed, &run->model);
}

// ---- the step ----------------------------------------------------------------------------------

// Random tokens. The examples' first ones differ, as far as there are words, so that no two share
// a beginning.
static hone_status make_examples(Run *run, Arena *memory) {
    const HoneFinetuneOptions *options = &run->options;
    const int64_t length = options->examples.max_length, V = run->model->config.vocabulary;
    run->order = hone_calloc((size_t)options->batch, sizeof *run->order);
    run->steps = hone_calloc(MOST_STEPS + 1, sizeof *run->steps);
    Example *examples = hone_arena_calloc(memory, (size_t)options->batch, sizeof *examples);
    if (!run->order || !run->steps || !examples)
        return hone_fail_memory(run->err, (size_t)options->batch * sizeof *examples, "examples");
    RandomStream stream = hone_random_stream(options->seed, RANDOM_SAMPLE, 0);
    for (int64_t i = 0; i < options->batch; i++) {
        Example *example = &examples[i];
        example->token = hone_arena_alloc(memory, (size_t)length * sizeof *example->token);
        example->target = hone_arena_alloc(memory, (size_t)length);
        if (!example->token || !example->target)
            return hone_fail_memory(run->err, (size_t)length * 5, "an example");
        memset(example->target, 1, (size_t)length);
        example->target[0] = 0;
        example->count = length;
        example->targets = length - 1;
        for (int64_t k = 0; k < length; k++)
            example->token[k] = (int32_t)hone_random_below(&stream, (uint64_t)V);
        example->token[0] = (int32_t)(i % V);
        run->order[i] = example;
    }
    run->order_count = options->batch;
    StepRange step = {.count = options->batch,
                      .tokens = options->batch * length,
                      .targets = options->batch * (length - 1)};
    RETURN_IF_ERROR(hone_step_count(run, &step));
    for (int64_t s = 0; s <= MOST_STEPS; s++) run->steps[s] = step;
    return HONE_OK;
}

static hone_status check_room(const Run *run, const char *what, double bytes) {
    const double available = (double)hone_memory_available();
    if (available <= 0 || bytes <= available) return HONE_OK;
    return hone_fail(run->err, HONE_ERROR_MEMORY, "%s take %.0f MiB, the machine has %.0f MiB free",
                     what, bytes / 1048576, available / 1048576);
}

// What is trained, with its gradient and two moments.
static hone_status make_parameters(Run *run) {
    const bool full = run->options.method == HONE_METHOD_FULL;
    double count = 0;
    for (int64_t i = 0; i < run->model->slot_count; i++) {
        const ParameterSlot *slot = &run->model->slots[i];
        const int64_t *shape = slot->tensor->shape;
        if (full)
            count += (double)hone_tensor_count(slot->tensor);
        else if (slot->target && slot->layer >= 0)
            count += (double)run->options.rank * (double)(shape[0] + shape[1]);
    }
    RETURN_IF_ERROR(
        check_room(run, "the trained parameters and their state", 4 * sizeof(float) * count));
    return full ? hone_parameters_full(run) : hone_parameters_lora(run);
}

static hone_status prepare(Run *run, const HoneTrainingOptions *options, Arena *memory) {
    RETURN_IF_ERROR(hone_run_precision(run));
    RETURN_IF_ERROR(open_model(run, options));
    RETURN_IF_ERROR(make_examples(run, memory));
    RETURN_IF_ERROR(make_parameters(run));
    run->step_count = MOST_STEPS + 1;
    for (int64_t i = 0; i < run->parameters.item_count; i++)
        run->parameters.items[i].tensor->requires_grad = true;
    RETURN_IF_ERROR(hone_run_choose_memory(run));
    HonePlan plan;
    RETURN_IF_ERROR(hone_run_plan(run, &plan));
    double state = (double)(plan.state_bytes - run->parameters.count * (int64_t)sizeof(float));
    RETURN_IF_ERROR(check_room(run, "gradients, moments and activations",
                               state + (double)plan.activation_bytes));
    run->tape = hone_tape_create(&run->kernels, (TapeOptions){.gradients = true});
    if (!run->tape) return hone_fail_memory(run->err, sizeof(void *), "the tape");
    hone_tape_reserve(run->tape, (size_t)run->memory.activations);
    return hone_parameters_allocate_state(run);
}

// ---- measuring ---------------------------------------------------------------------------------

typedef struct StepTimes {
    double step[MOST_STEPS], forward[MOST_STEPS], head[MOST_STEPS], backward[MOST_STEPS];
    double update[MOST_STEPS], peak[MOST_STEPS];
    int64_t count;
} StepTimes;

// The median of the peaks in a hundredth of a step's time, so that a neighbour who comes and goes
// weighs the same on both.
static double peak_before(const Run *run, double step_seconds) {
    double peaks[MOST_PEAKS], end = hone_seconds() + step_seconds / 100;
    int64_t count = 0;
    do peaks[count++] = hone_kernel_peak(&run->kernels, run->kernels.bf16, 1);
    while (count < MOST_PEAKS && hone_seconds() < end);
    return hone_quantile(peaks, count, 0.5);
}

static hone_status measure(Run *run, double seconds, StepTimes *times) {
    double begun = 0, step = 0;
    for (int64_t i = -1; i < MOST_STEPS; i++) { // the first warms up
        double now = hone_seconds();
        if (i == 0) begun = now;
        if (i >= LEAST_STEPS && now > begun + seconds) break;
        if (i >= 1 && now > begun + LONG * seconds) break;
        double peak = peak_before(run, step);
        StepResult result;
        run->spent = (PhaseSeconds){0};
        double start = hone_seconds();
        RETURN_IF_ERROR(hone_run_step(run, i + 1, &result));
        step = hone_seconds() - start;
        if (i < 0) continue;
        times->peak[i] = peak;
        times->step[i] = step;
        times->forward[i] = run->spent.forward;
        times->head[i] = run->spent.head;
        times->backward[i] = run->spent.backward;
        times->update[i] = step - run->spent.forward - run->spent.head - run->spent.backward;
        times->count = i + 1;
    }
    return HONE_OK;
}

static void conclude(const Run *run, StepTimes *times, HoneTrainingSpeed *speed) {
    const int64_t count = times->count;
    *speed = (HoneTrainingSpeed){.step_seconds = hone_quantile(times->step, count, 0.5),
                                 .step_seconds_p10 = hone_quantile(times->step, count, 0.1),
                                 .forward_seconds = hone_quantile(times->forward, count, 0.5),
                                 .head_seconds = hone_quantile(times->head, count, 0.5),
                                 .backward_seconds = hone_quantile(times->backward, count, 0.5),
                                 .update_seconds = hone_quantile(times->update, count, 0.5),
                                 .operations = hone_step_operations(run, &run->steps[0]),
                                 .peak_flops = hone_quantile(times->peak, count, 0.5),
                                 .tokens = run->steps[0].tokens,
                                 .targets = run->steps[0].targets,
                                 .steps = count,
                                 .parameters = hone_model_parameters(run->model),
                                 .trainable = run->parameters.count,
                                 .rss_bytes = hone_resident_peak()};
}

hone_status hone_bench_training(HoneContext *context, const HoneTrainingOptions *options,
                                double seconds, HoneTrainingSpeed *speed) {
    HoneError *err = hone_begin(context);
    *speed = (HoneTrainingSpeed){0};
    RETURN_IF_ERROR(check_options(options, err));
    Run *run = hone_calloc(1, sizeof *run);
    StepTimes *times = hone_calloc(1, sizeof *times);
    if (!run || !times) {
        hone_free(run);
        hone_free(times);
        return hone_fail_memory(err, sizeof *run + sizeof *times, "the run");
    }
    run->context = context;
    run->err = err;
    hone_finetune_defaults(&run->options);
    run->options.method = options->method;
    run->options.optimizer = options->optimizer;
    run->options.precision = options->bf16 ? "bf16" : "f32";
    run->options.rank = (int)options->rank;
    run->options.batch = options->batch;
    run->options.accumulate = options->accumulate;
    run->options.examples.max_length = options->length;
    run->options.seed = options->seed;
    run->options.schedule = HONE_SCHEDULE_CONSTANT;
    run->options.lr = options->method == HONE_METHOD_FULL ? 1e-5 : 1e-4;
    Arena memory = {0};
    hone_status status = prepare(run, options, &memory);
    if (status == HONE_OK) status = measure(run, seconds, times);
    if (status == HONE_OK) conclude(run, times, speed);
    hone_run_free(run);
    hone_arena_free(&memory);
    hone_free(times);
    return status;
}
