// SPDX-License-Identifier: Apache-2.0
// What a run will take, known before its first step: tokens, memory (memory.c), minutes (by a
// measured product), and the first example with its mask.
#include "train/run.h"

#include <math.h>
#include <string.h>

#include "base/system.h"

// GF/s of a forward product with one of the model's own matrices, the best of three.
static double measured_speed(Run *run) {
    enum { ROWS = 256 };
    const Tensor *weight = NULL;
    for (int64_t i = 0; i < run->model->slot_count && !weight; i++)
        if (run->model->slots[i].target && run->model->slots[i].layer == 0 &&
            strcmp(run->model->slots[i].target, "up") == 0)
            weight = run->model->slots[i].tensor;
    if (!weight) return 0;
    int64_t N = weight->shape[0], K = weight->shape[1];
    float *A = hone_calloc((size_t)(ROWS * K), sizeof *A), *C = hone_alloc((size_t)(ROWS * N) * 4);
    MatmulArgs args = {.M = ROWS,
                       .N = N,
                       .K = K,
                       .A = A,
                       .lda = K,
                       .B = weight->data,
                       .b_type = weight->dtype,
                       .ldb = K,
                       .b_transposed = true,
                       .C = C,
                       .ldc = N,
                       .alpha = 1};
    const KernelContext *kc = &run->kernels;
    void *scratch = hone_alloc(hone_matmul_scratch(kc, &args));
    double best = 0;
    for (int run_number = 0; A && C && scratch && run_number < 3; run_number++) {
        double start = hone_seconds();
        hone_matmul(kc, &args, scratch);
        double speed = 2.0 * ROWS * (double)(N * K) / (hone_seconds() - start);
        if (speed > best) best = speed;
    }
    hone_free(A);
    hone_free(C);
    hone_free(scratch);
    return best;
}

// The first example of the run, token by token.
hone_status hone_plan_preview(Run *run, HonePlan *plan, HoneExample *shown) {
    const Example *first = run->order[run->steps[0].first];
    const int64_t count = hone_example_length(first);
    const int32_t *tokens = first->token - first->source_count;
    *shown = (HoneExample){.text = first->text ? first->text : "",
                           .tokens = tokens,
                           .mask = first->target - first->source_count,
                           .count = count,
                           .targets = first->targets,
                           .answer = first->answer,
                           .line = first->line,
                           .cut = first->cut};
    TextBuffer pieces = {0};
    int32_t *offsets = hone_arena_alloc(&run->model->memory, ((size_t)count + 1) * sizeof *offsets);
    if (!offsets) return hone_fail_memory(run->err, (size_t)count * 4, "the preview");
    for (int64_t i = 0; i < count; i++) {
        TokenizerText piece = hone_token_bytes(run->model->tokenizer, tokens[i], true);
        offsets[i] = (int32_t)pieces.length;
        hone_text_append(&pieces, piece.data, piece.length);
    }
    offsets[count] = (int32_t)pieces.length;
    char *copy = pieces.failed ? NULL
                               : hone_arena_strndup(&run->model->memory,
                                                    pieces.data ? pieces.data : "", pieces.length);
    hone_text_free(&pieces);
    if (!copy) return hone_fail_memory(run->err, (size_t)count, "the preview");
    plan->example = shown;
    plan->piece_offsets = offsets;
    plan->pieces = copy;
    return HONE_OK;
}

static bool lacks_an_end(const Run *run, const Example *example) {
    int64_t last = example->count - 1;
    while (last > 0 && !example->target[last]) last--;
    return run->options.examples.task == HONE_TASK_NONE && example->answer && !example->cut &&
           !hone_token_ends(run->model->tokenizer, example->token[last]);
}

static void count_data(const Run *run, HonePlan *plan) {
    for (int64_t i = 0; i < run->train_count; i++) {
        const Example *example = run->train[i];
        plan->tokens += hone_example_length(example);
        if (example->rejected) plan->tokens += example->rejected->count;
        plan->targets += example->targets;
        plan->cut += example->cut;
        plan->conversations += example->chat;
        plan->unended += lacks_an_end(run, example);
        const int64_t length = hone_example_length(example);
        if (length > plan->longest) plan->longest = length;
    }
    // Of an epoch on average: each has its own order.
    double read = 0, computed = 0;
    for (int64_t s = 0; s < run->step_count; s++) {
        read += (double)run->steps[s].tokens;
        computed += (double)run->steps[s].computed;
    }
    plan->tokens_computed = llround((double)plan->tokens * computed / read);
    plan->translates = run->model->config.encoder_layers > 0;
    plan->has_template = run->model->chat_template && !run->options.template_path;
    plan->first_skipped = "";
    for (int64_t s = 0; s < run->options.data_count; s++) {
        plan->skipped += run->data[s]->set.skipped;
        if (run->data[s]->set.skipped && !*plan->first_skipped)
            plan->first_skipped = run->data[s]->set.first_bad;
    }
}

// Which matrices of the layers are trained, as the options name them.
static const char *targets_text(Run *run) {
    TextBuffer text = {0};
    const char *seen[16];
    int seen_count = 0;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const char *target = run->parameters.items[i].slot->target;
        bool known = !target;
        for (int j = 0; j < seen_count && !known; j++) known = strcmp(seen[j], target) == 0;
        if (known || seen_count == 16) continue;
        seen[seen_count++] = target;
        hone_text_printf(&text, "%s%s", text.length ? "," : "", target);
    }
    char *copy = hone_arena_strndup(&run->model->memory, text.data ? text.data : "", text.length);
    hone_text_free(&text);
    return copy ? copy : "";
}

hone_status hone_run_plan(Run *run, HonePlan *plan) {
    static const double share_of_product = 0.75; // norms, loss and AdamW beside products
    const HoneFinetuneOptions *options = &run->options;
    HoneModelInfo info;
    hone_model_info(run->model, &info);
    static const char *const methods[] = {"lora", "full", "dora"};
    *plan = (HonePlan){.model_name = info.name,
                       .method = methods[options->method],
                       .model_parameters = info.parameters,
                       .trainable = run->parameters.count,
                       .trained_tensors = run->parameters.item_count,
                       .train_examples = run->train_count,
                       .eval_examples = run->held_out_count,
                       .steps = run->step_count,
                       .batch = options->batch,
                       .batch_tokens = options->batch_tokens,
                       .accumulate = options->accumulate,
                       .layers = run->model->config.layers,
                       .checkpoint_layers = options->checkpoint_layers,
                       .epochs = options->epochs,
                       .lr = options->lr,
                       .warmup_steps = run->warmup_steps,
                       .isa = hone_context_isa(run->context),
                       .threads = hone_context_threads(run->context),
                       .targets_text = targets_text(run)};
    count_data(run, plan);
    RETURN_IF_ERROR(hone_plan_survey(run, plan));
    for (int64_t s = 0; s < run->step_count; s++)
        plan->step_tokens += (double)run->steps[s].tokens / (double)run->step_count;
    plan->memory_limit = options->memory;
    plan->model_bytes = run->memory.model;
    plan->state_bytes = run->memory.values + run->memory.state;
    plan->activation_bytes = run->memory.activations;
    plan->memory_bytes = run->memory.total;
    double speed = measured_speed(run) * share_of_product;
    double beside = 0;
    for (int64_t s = 0; s < run->step_count; s++) {
        plan->operations += hone_step_operations(run, &run->steps[s]);
        beside += hone_reference_operations(run, &run->steps[s]);
    }
    plan->passes = options->gradient_penalty > 0 ? 2 : 1;
    plan->minutes = speed > 0 ? plan->passes * (plan->operations + beside) / speed / 60 : 0;
    return HONE_OK;
}
