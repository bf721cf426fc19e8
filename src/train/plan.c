// SPDX-License-Identifier: Apache-2.0
// What a run will take, known before its first step: tokens, memory (by a dry tape), minutes (by a
// measured product), and the first example with its mask.
#include "train/run.h"

#include <math.h>
#include <string.h>

#include "base/system.h"

// Peak of the activations of one step, by the same code over a tape that touches nothing.
static hone_status dry_peak(Run *run, Tape *dry, const StepRange *step, int64_t *peak) {
    const LossCall call = hone_run_loss_call(run, dry);
    for (int64_t part = 0; part < hone_micro_batches(run, step); part++) {
        int64_t count;
        const Example *const *examples = hone_micro_batch(run, step, part, &count);
        hone_tape_reset(dry, true);
        hone_arena_reset(&run->batch_memory);
        BatchLoss unused;
        RETURN_IF_ERROR(hone_batch_loss(&call, examples, count, 1.0, &unused));
        hone_tape_backward(dry);
        RETURN_IF_ERROR(hone_tape_status(dry, run->err));
    }
    int64_t bytes = (int64_t)hone_tape_peak(dry);
    if (bytes > *peak) *peak = bytes;
    return HONE_OK;
}

// The heap only grows, so its peak is near that of the step that computes the most tokens; the
// first step and the one with the most rows of logits are tried too, since fragments depend on the
// order.
static hone_status activation_bytes(Run *run, int64_t *bytes) {
    const StepRange *longest = &run->steps[0], *richest = &run->steps[0];
    for (int64_t s = 1; s < run->step_count; s++) {
        if (run->steps[s].computed > longest->computed) longest = &run->steps[s];
        if (run->steps[s].rows > richest->rows) richest = &run->steps[s];
    }
    Tape *dry =
        hone_tape_create(&run->context->kernels, (TapeOptions){.gradients = true, .dry = true});
    if (!dry) return hone_fail_memory(run->err, sizeof(void *), "the plan");
    *bytes = 0;
    hone_status status = dry_peak(run, dry, &run->steps[0], bytes);
    if (status == HONE_OK) status = dry_peak(run, dry, richest, bytes);
    if (status == HONE_OK) status = dry_peak(run, dry, longest, bytes);
    hone_tape_free(dry);
    return status;
}

// GF/s of a forward product with one of the model's own matrices, the best of three.
static double measured_speed(Run *run) {
    enum { ROWS = 256 };
    const Tensor *weight = NULL;
    for (int64_t i = 0; i < run->model->slot_count && !weight; i++)
        if (run->model->slots[i].target && run->model->slots[i].layer == 0 &&
            strcmp(run->model->slots[i].target, "gate") == 0)
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
    const KernelContext *kc = &run->context->kernels;
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
    *shown = (HoneExample){.text = first->text ? first->text : "",
                           .tokens = first->token,
                           .mask = first->target,
                           .count = first->count,
                           .targets = first->targets,
                           .answer = first->answer,
                           .line = first->line,
                           .cut = first->cut};
    TextBuffer pieces = {0};
    int32_t *offsets =
        hone_arena_alloc(&run->model->memory, ((size_t)first->count + 1) * sizeof *offsets);
    if (!offsets) return hone_fail_memory(run->err, (size_t)first->count * 4, "the preview");
    for (int64_t i = 0; i < first->count; i++) {
        TokenizerText piece = hone_token_bytes(run->model->tokenizer, first->token[i], true);
        offsets[i] = (int32_t)pieces.length;
        hone_text_append(&pieces, piece.data, piece.length);
    }
    offsets[first->count] = (int32_t)pieces.length;
    char *copy = pieces.failed ? NULL
                               : hone_arena_strndup(&run->model->memory,
                                                    pieces.data ? pieces.data : "", pieces.length);
    hone_text_free(&pieces);
    if (!copy) return hone_fail_memory(run->err, (size_t)first->count, "the preview");
    plan->example = shown;
    plan->piece_offsets = offsets;
    plan->pieces = copy;
    return HONE_OK;
}

static bool lacks_an_end(const Run *run, const Example *example) {
    int64_t last = example->count - 1;
    while (last > 0 && !example->target[last]) last--;
    return example->answer && !example->cut &&
           !hone_token_ends(run->model->tokenizer, example->token[last]);
}

static void count_data(const Run *run, HonePlan *plan) {
    for (int64_t i = 0; i < run->train_count; i++) {
        const Example *example = run->train[i];
        plan->tokens += example->count;
        plan->targets += example->targets;
        plan->cut += example->cut;
        plan->unended += lacks_an_end(run, example);
        if (example->count > plan->longest) plan->longest = example->count;
    }
    // Of an epoch on average: each has its own order.
    double read = 0, computed = 0;
    for (int64_t s = 0; s < run->step_count; s++) {
        read += (double)run->steps[s].tokens;
        computed += (double)run->steps[s].computed;
    }
    plan->tokens_computed = llround((double)plan->tokens * computed / read);
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
    bool full = options->method == HONE_METHOD_FULL;
    *plan = (HonePlan){.model_name = info.name,
                       .method = full ? "full" : "lora",
                       .model_parameters = info.parameters,
                       .trainable = run->parameters.count,
                       .trained_tensors = run->parameters.item_count,
                       .train_examples = run->train_count,
                       .eval_examples = run->held_out_count,
                       .steps = run->step_count,
                       .batch = options->batch,
                       .batch_tokens = options->batch_tokens,
                       .accumulate = options->accumulate,
                       .epochs = options->epochs,
                       .lr = options->lr,
                       .warmup_steps = run->warmup_steps,
                       .isa = hone_context_isa(run->context),
                       .threads = hone_context_threads(run->context),
                       .targets_text = targets_text(run)};
    count_data(run, plan);
    for (int64_t s = 0; s < run->step_count; s++)
        plan->step_tokens += (double)run->steps[s].tokens / (double)run->step_count;
    RETURN_IF_ERROR(activation_bytes(run, &plan->activation_bytes));
    int64_t weights = 0;
    for (int64_t i = 0; i < run->model->slot_count; i++)
        weights += (int64_t)hone_tensor_bytes(run->model->slots[i].tensor);
    int64_t blocks = 4; // values, gradient, two moments
    for (int64_t k = 1; options->accumulate > 1 && k <= options->accumulate; k *= 2) blocks++;
    plan->model_bytes = full ? 0 : weights;
    plan->state_bytes = blocks * run->parameters.count * 4;
    // The values block is already resident, and part of what was measured.
    plan->memory_bytes = hone_resident_bytes() + plan->model_bytes + plan->activation_bytes +
                         plan->state_bytes - run->parameters.count * 4;
    double speed = measured_speed(run) * share_of_product;
    double operations = 0;
    for (int64_t s = 0; s < run->step_count; s++)
        operations += hone_step_operations(run, &run->steps[s]);
    plan->minutes = speed > 0 ? operations / speed / 60 : 0;
    return HONE_OK;
}
