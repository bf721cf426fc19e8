// SPDX-License-Identifier: Apache-2.0
// One training step: forward, loss, backward, clip, update; and the loss of held-out examples.
#include "train/run.h"

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
    case HONE_SCHEDULE_CONSTANT:
        break;
    }
    return rate;
}

// One micro-batch: its gradient is added to `gradient`, its loss (already divided by the step's
// targets) returned.
static hone_status micro_batch(Run *run, const Example *const *examples, int64_t count,
                               double weight, double *loss) {
    const LossCall call = hone_run_loss_call(run, run->tape);
    hone_tape_reset(run->tape, true);
    hone_arena_reset(&run->batch_memory);
    double start = hone_seconds();
    BatchLoss result;
    RETURN_IF_ERROR(hone_batch_loss(&call, examples, count, weight, &result));
    double middle = hone_seconds();
    hone_tape_backward(run->tape);
    run->spent.forward += middle - start - result.head_seconds;
    run->spent.head += result.head_seconds;
    run->spent.backward += hone_seconds() - middle;
    *loss = result.loss;
    return hone_tape_status(run->tape, run->err);
}

static hone_status gradients(Run *run, const StepRange *step, double *loss) {
    Parameters *parameters = &run->parameters;
    const KernelContext *kc = &run->context->kernels;
    const int64_t parts = hone_micro_batches(run, step);
    double weight = 1.0 / (double)step->targets;
    *loss = 0;
    for (int64_t part = 0; part < parts; part++) {
        int64_t count;
        const Example *const *examples = hone_micro_batch(run, step, part, &count);
        double partial;
        hone_fill(kc, parameters->count, 0.0f, parameters->gradient);
        RETURN_IF_ERROR(micro_batch(run, examples, count, weight, &partial));
        *loss += partial;
        if (run->options.accumulate > 1) hone_gradient_leaf_done(kc, parameters);
    }
    if (run->options.accumulate > 1) hone_gradient_sum(kc, parameters);
    return HONE_OK;
}

hone_status hone_run_step(Run *run, int64_t step, StepResult *result) {
    const StepRange *range = &run->steps[step];
    Parameters *parameters = &run->parameters;
    double loss;
    hone_parameters_draw_dropout(run, step);
    RETURN_IF_ERROR(gradients(run, range, &loss));
    double squares =
        hone_sum_of_squares(&run->context->kernels, parameters->count, parameters->gradient);
    double norm = sqrt(squares);
    if (!isfinite(loss) || !isfinite(norm)) {
        const char *where = hone_parameters_not_finite(parameters);
        return hone_fail(run->err, HONE_ERROR_NUMERIC,
                         "step %lld: the loss is %g and the gradient norm %g%s%s; the parameters "
                         "are as they were before this step; a lower --lr often helps",
                         (long long)step + 1, loss, norm,
                         where ? "; the first gradient that is not finite is " : "",
                         where ? where : "");
    }
    double clip = run->options.clip;
    // As torch.nn.utils.clip_grad_norm_ does, so that runs can be compared.
    double scale = clip > 0 && norm > 0 ? clip / (norm + 1e-6) : 1.0;
    hone_optimizer_update(run, step, (float)(scale < 1 ? scale : 1));
    *result = (StepResult){.loss = loss, .grad_norm = norm};
    return HONE_OK;
}

int64_t hone_held_out_batch(const Run *run, int64_t first) {
    int64_t count = 0, tokens = 0;
    for (; first + count < run->held_out_count; count++) {
        tokens += run->held_out[first + count]->count;
        if (count > 0 && tokens > run->held_out_tokens) break;
    }
    return count;
}

hone_status hone_run_held_out(Run *run, int64_t step, HoneHeldOut *result) {
    const LossCall call = hone_run_loss_call(run, run->tape);
    double start = hone_seconds(), total = 0;
    int64_t targets = 0;
    for (int64_t first = 0; first < run->held_out_count;) {
        const int64_t count = hone_held_out_batch(run, first);
        for (int64_t i = 0; i < count; i++) targets += run->held_out[first + i]->targets;
        hone_tape_reset(run->tape, false);
        hone_arena_reset(&run->batch_memory);
        BatchLoss batch;
        RETURN_IF_ERROR(hone_batch_loss(&call, run->held_out + first, count, 1.0, &batch));
        total += batch.loss;
        first += count;
        HoneEvent event = {.kind = HONE_EVENT_PROGRESS,
                           .as.progress = {first, run->held_out_count}};
        if (run->sink && !run->sink(run->user, &event)) run->stop = true;
        if (run->stop && first < run->held_out_count) return HONE_INTERRUPTED;
    }
    double loss = total / (double)targets;
    if (!isfinite(loss))
        return hone_fail(
            run->err, HONE_ERROR_NUMERIC,
            "the held-out loss after step %lld is %g: the model holds NaN or infinity, "
            "or makes it",
            (long long)step, loss);
    *result = (HoneHeldOut){.step = step,
                            .loss = loss,
                            .perplexity = exp(loss),
                            .tokens = targets,
                            .seconds = hone_seconds() - start};
    return HONE_OK;
}
