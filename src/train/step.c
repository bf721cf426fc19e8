// SPDX-License-Identifier: Apache-2.0
// One training step: forward, loss, backward, clip, update; and the loss of held-out examples.
#include "train/contrast.h"
#include "train/preference.h"

#include <math.h>
#include <string.h>

#include "base/system.h"

LossCall hone_run_loss_call(Run *run, Tape *tape) {
    return (LossCall){
        .model = run->model->model, .tape = tape, .memory = &run->batch_memory, .err = run->err};
}

double hone_run_learning_rate(const Run *run, int64_t step) {
    const double pi = 3.14159265358979323846;
    double rate = run->options.lr;
    if (step < run->warmup_steps) return rate * (double)(step + 1) / (double)run->warmup_steps;
    int64_t rest = run->step_count - run->warmup_steps;
    double done = (double)(step - run->warmup_steps) / (double)(rest > 0 ? rest : 1);
    switch (run->options.schedule) {
    case HONE_SCHEDULE_COSINE:
        return rate * 0.5 * (1.0 + cos(pi * done));
    case HONE_SCHEDULE_LINEAR:
        return rate * (1.0 - done);
    case HONE_SCHEDULE_WSD: {
        const double decay = run->options.decay, all = (double)run->step_count;
        const double falls = decay < 1 ? (double)llround(decay * all) : floor(decay);
        const double left = (double)(run->step_count - step);
        return left < falls + 1 ? rate * left / (falls + 1) : rate;
    }
    case HONE_SCHEDULE_INVERSE_SQRT: {
        const double from = run->warmup_steps > 0 ? (double)run->warmup_steps : 1;
        return rate * sqrt(from / (double)(step + 1));
    }
    case HONE_SCHEDULE_CONSTANT:
        break;
    }
    return rate;
}

// One micro-batch: its gradient is added to `gradient`, its loss (already divided by the step's
// targets) returned.
static hone_status micro_batch(Run *run, const StepRange *step, const Example *const *examples,
                               int64_t count, double *loss) {
    const double weight = 1.0 / (double)step->targets;
    LossCall call = hone_run_loss_call(run, run->tape);
    call.z_loss = (float)run->options.z_loss;
    call.smoothing = (float)run->options.label_smoothing;
    BatchTeacher teacher;
    call.teacher = hone_run_teacher(run, &teacher);
    hone_tape_reset(run->tape, true);
    hone_arena_reset(&run->batch_memory);
    if (run->options.router_loss > 0) // each micro-batch's is a part of their mean
        RETURN_IF_ERROR(hone_model_balance_experts(
            run->model->model,
            (float)(run->options.router_loss / (double)hone_micro_batches(run, step)), run->err));
    double start = hone_seconds();
    BatchLoss result = {0};
    if (run->options.examples.task == HONE_TASK_CLASSIFY) {
        RETURN_IF_ERROR(hone_class_loss(&call, examples, count, weight, &result));
    } else if (!hone_loss_has_pairs(run->options.loss)) {
        RETURN_IF_ERROR(hone_batch_loss(&call, examples, count, weight, &result));
    } else {
        PairsLoss pairs;
        const PairWeights weights = {1.0 / (double)step->count, weight};
        RETURN_IF_ERROR(hone_pairs_loss(run, &call, true, examples, count, weights, &pairs));
        result.loss = pairs.loss;
        result.head_seconds = pairs.head_seconds;
    }
    double middle = hone_seconds();
    hone_tape_backward(run->tape);
    run->spent.forward += middle - start - result.head_seconds;
    run->spent.head += result.head_seconds;
    run->spent.backward += hone_seconds() - middle;
    *loss = result.loss + hone_model_router_loss(run->model->model);
    return hone_tape_status(run->tape, run->err);
}

// *suspect: the first micro-batch whose loss is not finite, else 0.
static hone_status gradients(Run *run, const StepRange *step, double *loss, int64_t *suspect) {
    Parameters *parameters = &run->parameters;
    const KernelContext *kc = &run->context->kernels;
    const int64_t parts = hone_micro_batches(run, step);
    *loss = 0;
    *suspect = 0;
    if (run->options.examples.task == HONE_TASK_PAIRS) return hone_contrast_step(run, step, loss);
    for (int64_t part = 0; part < parts; part++) {
        int64_t count;
        const Example *const *examples = hone_micro_batch(run, step, part, &count);
        double partial;
        hone_fill(kc, parameters->count, 0.0f, parameters->gradient);
        RETURN_IF_ERROR(micro_batch(run, step, examples, count, &partial));
        if (isfinite(*loss) && !isfinite(partial)) *suspect = part;
        *loss += partial;
        if (run->options.accumulate > 1) hone_gradient_leaf_done(kc, parameters);
    }
    if (run->options.accumulate > 1) hone_gradient_sum(kc, parameters);
    return HONE_OK;
}

static double gradient_norm(const Run *run) {
    const Parameters *parameters = &run->parameters;
    return sqrt(
        hone_sum_of_squares(&run->context->kernels, parameters->count, parameters->gradient));
}

// ---- the gradient's norm as a part of the loss -------------------------------------------------

int64_t hone_penalty_floats(const Run *run) {
    const HoneFinetuneOptions *options = &run->options;
    const bool penalised = options->gradient_penalty > 0;
    return run->parameters.count * ((penalised || options->log_norms > 0) + penalised);
}

hone_status hone_penalty_allocate(Run *run) {
    Parameters *parameters = &run->parameters;
    const size_t count = (size_t)parameters->count;
    const bool penalised = run->options.gradient_penalty > 0;
    if (!penalised && run->options.log_norms == 0) return HONE_OK;
    parameters->kept_values = hone_calloc(count, sizeof(float));
    if (penalised) parameters->kept_gradient = hone_calloc(count, sizeof(float));
    if (parameters->kept_values && (parameters->kept_gradient || !penalised)) return HONE_OK;
    return hone_fail_memory(run->err, count * sizeof(float), "a copy of what is trained");
}

// The gradient of L + λ·‖g‖, g = ∇L: with u = g/‖g‖ it is g + λ·H·u, and H·u is the difference of
// the gradients at θ + ε·u and θ, over ε (Pearlmutter 1994 for the product; Barrett, Dherin 2021
// and Zhao, Zhang, Hu 2022 for the penalty). ε is 4 parts in 10⁵ of ‖θ‖: the difference of two f32
// gradients keeps three digits, and the curvature's change along it stays below a hundredth. The
// gradient g is there; its norm is given.
static hone_status penalise(Run *run, const StepRange *range, double norm) {
    Parameters *parameters = &run->parameters;
    const KernelContext *kc = &run->context->kernels;
    const int64_t count = parameters->count;
    const size_t bytes = (size_t)count * sizeof(float);
    const double epsilon = 4e-5 * sqrt(hone_sum_of_squares(kc, count, parameters->values));
    if (!(norm > 0) || !isfinite(norm) || !(epsilon > 0)) return HONE_OK;
    memcpy(parameters->kept_gradient, parameters->gradient, bytes);
    memcpy(parameters->kept_values, parameters->values, bytes);
    hone_scaled(kc, count, (float)(epsilon / norm), parameters->gradient, true, parameters->values);
    double unused;
    int64_t part;
    hone_status status = hone_parameters_norms(run); // DoRA's, of the values that were moved
    if (status == HONE_OK) status = gradients(run, range, &unused, &part);
    memcpy(parameters->values, parameters->kept_values, bytes);
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(hone_parameters_norms(run));
    const float lambda = (float)(run->options.gradient_penalty / epsilon);
    hone_scaled(kc, count, lambda, parameters->gradient, false, parameters->gradient);
    hone_scaled(kc, count, 1 - lambda, parameters->kept_gradient, true, parameters->gradient);
    return HONE_OK;
}

static hone_status fail_numbers(Run *run, int64_t step, int64_t part, double loss, double norm) {
    char where[256];
    int64_t count;
    const Example *const *examples = hone_micro_batch(run, &run->steps[step], part, &count);
    hone_diagnose(run, examples, count, where, sizeof where);
    return hone_fail(
        run->err, HONE_ERROR_NUMERIC,
        "step %lld: the loss is %g and the gradient norm %g%s%s; the parameters are as "
        "they were before this step; a lower --lr often helps",
        (long long)step + 1, loss, norm, *where ? "; " : "", where);
}

hone_status hone_run_step(Run *run, int64_t step, StepResult *result) {
    const StepRange *range = &run->steps[step];
    Parameters *parameters = &run->parameters;
    double loss;
    int64_t suspect;
    hone_parameters_draw_dropout(run, step);
    RETURN_IF_ERROR(gradients(run, range, &loss, &suspect));
    double norm = gradient_norm(run);
    if (run->options.gradient_penalty > 0) {
        RETURN_IF_ERROR(penalise(run, range, norm));
        norm = gradient_norm(run);
    }
    if (!isfinite(loss) || !isfinite(norm)) return fail_numbers(run, step, suspect, loss, norm);
    *result = (StepResult){.loss = loss, .grad_norm = norm};
    result->skipped = hone_judge_spike(run, loss, norm);
    if (hone_norms_due(run, step))
        memcpy(parameters->kept_values, parameters->values,
               (size_t)parameters->count * sizeof(float));
    if (result->skipped) return HONE_OK;
    double clip = run->options.clip;
    // As torch.nn.utils.clip_grad_norm_ does, so that runs can be compared.
    double scale = clip > 0 && norm > 0 ? clip / (norm + 1e-6) : 1.0;
    hone_optimizer_update(run, step, (float)(scale < 1 ? scale : 1));
    RETURN_IF_ERROR(hone_parameters_norms(run));
    return HONE_OK;
}

int64_t hone_held_out_batch(const Run *run, int64_t first) {
    int64_t count = 0, tokens = 0;
    for (; first + count < run->held_out_count; count++) {
        const Example *example = run->held_out[first + count];
        tokens += hone_example_length(example);
        if (example->rejected) tokens += hone_example_length(example->rejected);
        if (count > 0 && tokens > run->held_out_tokens) break;
    }
    return count;
}

static hone_status fail_held_out(Run *run, int64_t step, int64_t first, int64_t count,
                                 double loss) {
    char where[256];
    hone_diagnose(run, run->held_out + first, count, where, sizeof where);
    return hone_fail(run->err, HONE_ERROR_NUMERIC, "the held-out loss after step %lld is %g%s%s",
                     (long long)step, loss, *where ? "; " : "", where);
}

// Each example's own loss, for the report.
static void keep_losses(const Run *run, int64_t first, int64_t count, const float *logprob,
                        double *losses) {
    for (int64_t i = first; i < first + count; i++) {
        const int64_t targets = run->held_out[i]->targets;
        double sum = 0;
        for (int64_t t = 0; t < targets; t++) sum -= (double)*logprob++;
        losses[i] = sum / (double)targets;
    }
}

static hone_status held_out_classes(Run *run, const LossCall *call, int64_t first, int64_t count,
                                    double *losses, double *loss) {
    const int64_t labels = run->model->label_count;
    float *logits = hone_arena_calloc(call->memory, (size_t)(count * labels), sizeof *logits);
    double *probability = hone_arena_alloc(call->memory, (size_t)labels * sizeof *probability);
    if (!logits || !probability)
        return hone_fail_memory(run->err, (size_t)(count * labels) * sizeof *logits, "logits");
    RETURN_IF_ERROR(hone_class_logits(call, run->held_out + first, count, logits));
    *loss = 0;
    for (int64_t i = 0; i < count; i++) {
        const int32_t label = run->held_out[first + i]->label;
        const float *z = logits + i * labels;
        const int64_t said = hone_class_softmax(z, labels, probability);
        hone_class_count(&run->classes, label, said);
        losses[first + i] = (double)z[said] - log(probability[said]) - (double)z[label];
        *loss += losses[first + i];
    }
    return HONE_OK;
}

// One held-out batch: what it adds to the sum of losses.
static hone_status held_out_batch(Run *run, int64_t first, int64_t count, double *losses,
                                  double *loss, int64_t *preferred) {
    LossCall call = hone_run_loss_call(run, run->tape);
    hone_tape_reset(run->tape, false);
    hone_arena_reset(&run->batch_memory);
    if (run->options.examples.task == HONE_TASK_CLASSIFY)
        return held_out_classes(run, &call, first, count, losses, loss);
    if (!hone_loss_has_pairs(run->options.loss)) {
        BatchLoss batch;
        call.by_target = true;
        RETURN_IF_ERROR(hone_batch_loss(&call, run->held_out + first, count, 1.0, &batch));
        *loss = batch.loss;
        keep_losses(run, first, count, batch.logprob, losses);
        return HONE_OK;
    }
    // ORPO's two parts have different means; each pair stands for its own.
    *loss = 0;
    for (int64_t i = first; i < first + count; i++) {
        PairsLoss pair;
        const PairWeights weights = {1, 1 / (double)run->held_out[i]->targets};
        hone_arena_reset(&run->batch_memory);
        RETURN_IF_ERROR(hone_pairs_loss(run, &call, false, run->held_out + i, 1, weights, &pair));
        *loss += pair.loss;
        losses[i] = pair.loss;
        *preferred += pair.preferred;
    }
    return HONE_OK;
}

static hone_status held_out_contrast(Run *run, int64_t step, HoneHeldOut *result) {
    const double start = hone_seconds(), none = (double)NAN;
    double *losses = step == 0 ? run->record.before : run->record.after, loss, accuracy;
    RETURN_IF_ERROR(hone_contrast_held_out(run, losses, &loss, &accuracy));
    if (!isfinite(loss)) return fail_held_out(run, step, 0, run->held_out_count, loss);
    *result = (HoneHeldOut){.step = step,
                            .loss = loss,
                            .perplexity = exp(loss),
                            .tokens = run->held_out_count,
                            .preferred = none,
                            .accuracy = accuracy,
                            .f1 = none,
                            .seconds = hone_seconds() - start};
    return HONE_OK;
}

hone_status hone_run_held_out(Run *run, int64_t step, HoneHeldOut *result) {
    if (run->options.examples.task == HONE_TASK_PAIRS) return held_out_contrast(run, step, result);
    double *losses = step == 0 ? run->record.before : run->record.after;
    const bool pairs = hone_loss_has_pairs(run->options.loss);
    double start = hone_seconds(), total = 0;
    int64_t targets = 0, preferred = 0;
    const bool classes = run->options.examples.task == HONE_TASK_CLASSIFY;
    if (classes) hone_class_forget(&run->classes);
    for (int64_t first = 0; first < run->held_out_count;) {
        const int64_t count = hone_held_out_batch(run, first);
        for (int64_t i = 0; i < count; i++) targets += run->held_out[first + i]->targets;
        double loss = 0;
        RETURN_IF_ERROR(held_out_batch(run, first, count, losses, &loss, &preferred));
        if (!isfinite(loss)) return fail_held_out(run, step, first, count, loss);
        total += loss;
        first += count;
        HoneEvent event = {.kind = HONE_EVENT_PROGRESS,
                           .as.progress = {first, run->held_out_count}};
        if (run->sink && !run->sink(run->user, &event)) run->stop = true;
        if (run->stop && first < run->held_out_count) {
            for (int64_t i = 0; i < first; i++) losses[i] = (double)NAN; // of two states otherwise
            return HONE_INTERRUPTED;
        }
    }
    double loss = total / (double)(pairs ? run->held_out_count : targets);
    *result = (HoneHeldOut){
        .step = step,
        .loss = loss,
        .perplexity = exp(loss),
        .tokens = targets,
        .preferred = pairs ? (double)preferred / (double)run->held_out_count : (double)NAN,
        .accuracy = classes ? (double)run->classes.right / (double)targets : (double)NAN,
        .f1 = classes ? hone_class_f1(&run->classes) : (double)NAN,
        .seconds = hone_seconds() - start};
    return HONE_OK;
}
