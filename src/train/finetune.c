// SPDX-License-Identifier: Apache-2.0
// The fine-tuning run from options to files.
#include <hone/embed.h>

#include "train/develop.h"
#include "train/recipe.h"
#include "train/record.h"
#include "train/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/system.h"

void hone_finetune_defaults(HoneFinetuneOptions *options) {
    *options = (HoneFinetuneOptions){.eval_split = 0.05,
                                     .targets = "all-linear",
                                     .epochs = 1,
                                     .accumulate = 1,
                                     .warmup = 0.03,
                                     .beta = 0.1,
                                     .temperature = 2,
                                     .teacher_share = 0.5,
                                     .decay = 0.2,
                                     .momentum = 0.95,
                                     .clip = 1,
                                     .beta1 = 0.9,
                                     .beta2 = 0.999,
                                     .eps = 1e-8,
                                     .shuffle = true,
                                     .precision = "auto",
                                     .checkpoint_every = "5m"};
}

// ---- options -----------------------------------------------------------------------------------

// Fail unless low ≤ value ≤ high (NaN fails).
static hone_status in_range(HoneError *err, const char *name, double value, double low,
                            double high) {
    if (value >= low && value <= high) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s is %.10g, want %.10g to %.10g", name, value, low,
                     high);
}

// 0 is "as it comes", what an option of the command is not given for.
static hone_status up_to(HoneError *err, const char *name, int64_t value, int64_t most) {
    return value == 0 ? HONE_OK : in_range(err, name, (double)value, 1, (double)most);
}

static hone_status above_zero(HoneError *err, const char *name, double value, double most) {
    if (value >= 0 && value <= most) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s is %.10g, want above 0, at most %.10g", name,
                     value, most);
}

// A difference of two gradients that are rounded to bf16 would be noise.
static hone_status check_penalty(const HoneFinetuneOptions *options, HoneError *err) {
    if (options->gradient_penalty <= 0 || strcmp(options->precision, "bf16") != 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "--gradient-penalty takes the difference of two gradients, which --precision "
                     "bf16 does not leave exact enough; give --precision f32");
}

static hone_status check_numbers(const HoneFinetuneOptions *options, HoneError *err) {
    RETURN_IF_ERROR(in_range(err, "--eval-split", options->eval_split, 0, 1e9));
    if (options->method != HONE_METHOD_FULL && !options->adapter) {
        RETURN_IF_ERROR(up_to(err, "--rank", options->rank, 4096));
        RETURN_IF_ERROR(above_zero(err, "--alpha", options->alpha, 1e6));
    }
    RETURN_IF_ERROR(up_to(err, "--layers", options->layers, 4096));
    if (options->steps == 0) RETURN_IF_ERROR(in_range(err, "--epochs", options->epochs, 1e-6, 1e6));
    RETURN_IF_ERROR(up_to(err, "--steps", options->steps, 10000000));
    RETURN_IF_ERROR(up_to(err, "--batch", options->batch, 1000000));
    RETURN_IF_ERROR(up_to(err, "--batch-tokens", options->batch_tokens, 100000000));
    RETURN_IF_ERROR(in_range(err, "--accumulate", (double)options->accumulate, 1, 1e6));
    RETURN_IF_ERROR(in_range(err, "--checkpoint-layers", options->checkpoint_layers, -1, 65536));
    RETURN_IF_ERROR(up_to(err, "--memory", options->memory, INT64_MAX));
    RETURN_IF_ERROR(above_zero(err, "--lr", options->lr, 100));
    RETURN_IF_ERROR(in_range(err, "--warmup", options->warmup, 0, 1e9));
    RETURN_IF_ERROR(in_range(err, "--beta", options->beta, 1e-9, 1e6));
    RETURN_IF_ERROR(in_range(err, "--temperature", options->temperature, 1e-3, 1e3));
    RETURN_IF_ERROR(in_range(err, "--teacher-share", options->teacher_share, 0, 1));
    RETURN_IF_ERROR(in_range(err, "--decay", options->decay, 0, 1e9));
    RETURN_IF_ERROR(in_range(err, "--momentum", options->momentum, 0, 0.999999));
    RETURN_IF_ERROR(in_range(err, "--z-loss", options->z_loss, 0, 1e3));
    RETURN_IF_ERROR(in_range(err, "--label-smoothing", options->label_smoothing, 0, 0.999));
    RETURN_IF_ERROR(in_range(err, "--router-loss", options->router_loss, 0, 1e6));
    RETURN_IF_ERROR(in_range(err, "--gradient-penalty", options->gradient_penalty, 0, 1e6));
    RETURN_IF_ERROR(up_to(err, "--log-norms", options->log_norms, 1000000000));
    RETURN_IF_ERROR(in_range(err, "--weight-decay", options->weight_decay, 0, 100));
    RETURN_IF_ERROR(in_range(err, "--clip", options->clip, 0, 1e9));
    RETURN_IF_ERROR(in_range(err, "--beta1", options->beta1, 0, 0.999999));
    RETURN_IF_ERROR(in_range(err, "--beta2", options->beta2, 0, 0.9999999));
    RETURN_IF_ERROR(in_range(err, "--eps", options->eps, 1e-30, 1));
    RETURN_IF_ERROR(up_to(err, "--patience", options->patience, 1000000000));
    RETURN_IF_ERROR(in_range(err, "--skip-spikes", options->skip_spikes, 0, 1e9));
    RETURN_IF_ERROR(up_to(err, "--eval-every", options->eval_every, 1000000000));
    for (int64_t s = 0; s < options->data_count; s++)
        RETURN_IF_ERROR(in_range(err, "a data file's weight", options->data[s].weight, 1e-6, 1000));
    return HONE_OK;
}

// Held-out examples of one would be training examples of the other.
static hone_status check_data_apart(const HoneFinetuneOptions *options, HoneError *err) {
    for (int64_t a = 0; a < options->data_count; a++)
        for (int64_t b = 0; b < a; b++)
            if (hone_same_file(options->data[a].path, options->data[b].path))
                return hone_fail(err, HONE_ERROR_ARGUMENT,
                                 "%s: is given twice as --data; %s:2 reads it twice as often",
                                 options->data[a].path, options->data[a].path);
    return HONE_OK;
}

static hone_status check_options(const HoneFinetuneOptions *options, bool has_model,
                                 HoneError *err) {
    if (!options->model && !has_model)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "no model was given: --model");
    if (options->data_count < 1 || options->data_count > 64)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%lld data files, want 1…64: --data",
                         (long long)options->data_count);
    RETURN_IF_ERROR(check_data_apart(options, err));
    if (!options->out && !options->dry_run)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "no folder for the results: --out");
    if (options->out && !*options->out)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "--out is empty: name a folder");
    const bool drops = options->dropout >= 0x1p-9 && options->dropout < 1; // a half of 1/256
    if (!drops && !(options->dropout == 0))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "--dropout is %g, want 0, or a share below 1 of at least 1/512",
                         options->dropout);
    static const char *const precisions[] = {"auto", "f32", "bf16"};
    bool known = false;
    for (int i = 0; i < 3; i++) known = known || strcmp(options->precision, precisions[i]) == 0;
    if (!known)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "--precision is \"%s\"; it can be auto, f32 or bf16", options->precision);
    const Recipe *recipe;
    if (options->type)
        RETURN_IF_ERROR(hone_recipe_find(options->type, NULL, "--type", &recipe, err));
    if (options->method == HONE_METHOD_FULL && options->adapter)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "full fine-tuning cannot begin from an adapter: merge it first");
    if (options->batch > 0 && options->batch_tokens > 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "give --batch or --batch-tokens, not both");
    RETURN_IF_ERROR(check_penalty(options, err));
    if (options->loss == HONE_LOSS_DISTILL && (!options->teacher || !*options->teacher))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "--loss distill needs a --teacher");
    if (options->label_smoothing > 0 && hone_loss_has_pairs(options->loss))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "--label-smoothing is of the loss of tokens, not of pairs");
    if (options->loss == HONE_LOSS_DPO && options->method == HONE_METHOD_FULL)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "--loss dpo compares the model with itself without its adapter, which "
                         "--method full does not have; --loss orpo needs no such reference");
    return check_numbers(options, err);
}

// "5m" is minutes, "100" is steps.
static hone_status checkpoint_interval(Run *run) {
    const char *text = run->options.checkpoint_every;
    char *end;
    double value = strtod(text, &end);
    bool minutes = strcmp(end, "m") == 0;
    if (end == text || !(value > 0) || value > 1e9 || (*end && !minutes))
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--checkpoint-every is \"%s\", want steps (100) or minutes (5m)", text);
    run->checkpoint_seconds = minutes ? value * 60 : 0;
    run->checkpoint_steps = minutes ? 0 : (int64_t)(value < 1 ? 1 : value);
    return HONE_OK;
}

// ---- events ------------------------------------------------------------------------------------

static void send(Run *run, HoneEvent event) {
    if (run->sink && !run->sink(run->user, &event)) run->stop = true;
}

void hone_run_note(Run *run, const char *text) {
    send(run, (HoneEvent){.kind = HONE_EVENT_NOTE, .as.text = text});
}

static hone_status log_step(Run *run, const HoneStep *step) {
    TextBuffer line = {0};
    hone_text_printf(
        &line,
        "{\"event\":\"step\",\"step\":%lld,\"loss\":%.9g,\"lr\":%.9g,\"grad_norm\":%.9g,"
        "\"tokens\":%lld,\"tokens_computed\":%lld,\"tokens_per_s\":%.1f,\"seconds\":%.4f,"
        "\"rss_bytes\":%lld,\"rss_anon_bytes\":%lld,\"rss_mapped_bytes\":%lld",
        (long long)step->step, step->loss, step->lr, step->grad_norm, (long long)step->tokens,
        (long long)step->tokens_computed, step->tokens_per_s, step->seconds,
        (long long)step->rss_bytes, (long long)step->rss_anon_bytes,
        (long long)step->rss_mapped_bytes);
    hone_status status = hone_norms_text(run, step->step - 1, &line);
    hone_text_puts(&line, step->skipped ? ",\"skipped\":true}" : "}");
    if (status == HONE_OK && line.failed)
        status = hone_fail_memory(run->err, line.length, "a line of metrics.jsonl");
    if (status == HONE_OK) status = hone_log_line(&run->metrics, line.data, run->err);
    hone_text_free(&line);
    return status;
}

static hone_status log_held_out(Run *run, const HoneHeldOut *result) {
    char line[256];
    snprintf(line, sizeof line,
             "{\"event\":\"eval\",\"step\":%lld,\"loss\":%.9g,\"perplexity\":%.9g,\"tokens\":%lld",
             (long long)result->step, result->loss, result->perplexity, (long long)result->tokens);
    const size_t used = strlen(line), left = sizeof line - used;
    if (!isnan(result->accuracy) && isnan(result->f1))
        snprintf(line + used, left, ",\"accuracy\":%.9g}", result->accuracy);
    else if (!isnan(result->accuracy))
        snprintf(line + used, left, ",\"accuracy\":%.9g,\"f1\":%.9g}", result->accuracy,
                 result->f1);
    else if (isnan(result->preferred))
        snprintf(line + used, left, "}");
    else
        snprintf(line + used, left, ",\"preferred\":%.9g}", result->preferred);
    return hone_log_line(&run->metrics, line, run->err);
}

// Stopped on the way: no loss, and run->stop is set.
static hone_status held_out(Run *run, int64_t step, double *loss) {
    RETURN_IF_ERROR(hone_run_sample(run, step));
    if (run->held_out_count == 0) return HONE_OK;
    HoneHeldOut result;
    hone_status status = hone_run_held_out(run, step, &result);
    if (status == HONE_INTERRUPTED) return HONE_OK;
    RETURN_IF_ERROR(status);
    *loss = result.loss;
    RETURN_IF_ERROR(log_held_out(run, &result));
    send(run, (HoneEvent){.kind = HONE_EVENT_EVAL, .as.eval = &result});
    return hone_judge_held_out(run, step, result.loss);
}

// ---- the run -----------------------------------------------------------------------------------

hone_status hone_run_precision(Run *run) {
    run->kernels = run->context->kernels;
    if (strcmp(run->options.precision, "bf16") != 0) return HONE_OK;
    if (!hone_kernel_has_bf16(run->kernels.table))
        return hone_fail(run->err, HONE_ERROR_UNSUPPORTED,
                         "--precision bf16: the kernel level \"%s\" has no bf16 arithmetic; "
                         "processors with AVX512-BF16 have",
                         hone_kernel_table_name(run->kernels.table));
    run->kernels.bf16 = true;
    return HONE_OK;
}

// A template that asks for the date gets the same one to the run's end, when it is resumed too.
static void fix_date(Run *run) {
    enum { DAY = 24 * 60 * 60 };
    int64_t *now = &run->options.examples.now;
    if (*now != 0 || !run->model->chat_template ||
        !hone_template_is_dated(run->model->chat_template))
        return;
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    time_t seconds = fixed && *fixed ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    struct tm here;
    if (!(fixed && *fixed) && localtime_r(&seconds, &here)) seconds = timegm(&here);
    *now =
        (int64_t)seconds - (int64_t)seconds % DAY + DAY / 2; // noon: its date is the same all over
}

// What an encoder's run is told of, and what it cannot do.
static hone_status check_task(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    const HoneModel *model = run->model;
    const bool encoder = hone_model_is_encoder(model->model);
    if (!options->type) options->type = encoder ? "f32" : "f16";
    if (options->labels && options->examples.task != HONE_TASK_CLASSIFY)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT, "--labels are those of --task classify");
    if (options->examples.task == HONE_TASK_NONE) return HONE_OK;
    RETURN_IF_ERROR(hone_need_encoder(run->model));
    if (options->loss != HONE_LOSS_TOKENS)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--loss dpo, orpo and distill are not for an encoder's --task");
    if (options->sample)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--sample continues a text, which an encoder does not");
    if (options->group_prefixes)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--group-prefixes: an encoder's texts share no beginning");
    if (options->examples.task == HONE_TASK_PAIRS && options->examples.max_length == 0) {
        HoneEmbedOptions embed = {HONE_POOLING_AUTO, HONE_NORMALIZE_AUTO, 0};
        hone_embed_options(model, &embed);
        options->examples.max_length = embed.max_length;
    }
    if (options->method != HONE_METHOD_FULL) return HONE_OK;
    if (!model->file.hugging_face)
        return hone_fail(run->err, HONE_ERROR_UNSUPPORTED,
                         "%s: --method full of an encoder begins from a Hugging Face folder, "
                         "since it writes one; --method lora takes this file",
                         model->name);
    return hone_check_model_folder(run);
}

static hone_status prepare(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    RETURN_IF_ERROR(checkpoint_interval(run));
    RETURN_IF_ERROR(hone_run_precision(run));
    if (options->out && !options->dry_run) RETURN_IF_ERROR(hone_place_check(run));
    if (options->resume) RETURN_IF_ERROR(hone_checkpoint_check(run));
    RETURN_IF_ERROR(run->develop ? hone_develop_model(run)
                                 : hone_model_load(run->context, options->model, &run->model));
    RETURN_IF_ERROR(check_task(run));
    if (options->template_path)
        RETURN_IF_ERROR(hone_model_set_template(run->model, options->template_path));
    if (options->router_loss > 0 && run->model->config.experts == 0)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--router-loss is for mixtures of experts; %s has none",
                         run->model->path ? run->model->path : "the new model");
    if (options->router_loss > 0) // before memory is counted: more rows go through the last layer
        RETURN_IF_ERROR(hone_model_balance_experts(run->model->model, 0, run->err));
    RETURN_IF_ERROR(hone_run_load_teacher(run));
    fix_date(run);
    RETURN_IF_ERROR(hone_run_read_data(run));
    RETURN_IF_ERROR(hone_judge_check(run));
    RETURN_IF_ERROR(hone_run_order(run));
    if (options->lr <= 0) options->lr = options->method == HONE_METHOD_FULL ? 2e-5 : 2e-4;
    if (options->eval_every <= 0) {
        options->eval_every = (run->step_count + 3) / 4;
        if (options->eval_every < 10) options->eval_every = run->step_count;
    }
    if (options->examples.max_length == 0)
        options->examples.max_length =
            hone_model_data_options(run->model, &options->examples).max_length;
    RETURN_IF_ERROR(options->method == HONE_METHOD_FULL ? hone_parameters_full(run)
                                                        : hone_parameters_lora(run));
    if (run->parameters.count == 0)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT, "the targets select nothing to train");
    for (int64_t i = 0; i < run->parameters.item_count; i++)
        run->parameters.items[i].tensor->requires_grad = true;
    RETURN_IF_ERROR(hone_run_choose_memory(run));
    RETURN_IF_ERROR(hone_identity_make(run));
    const FileMap *map = run->memory.releases ? &run->model->file.map : NULL;
    run->tape = hone_tape_create(&run->kernels, (TapeOptions){.gradients = true, .release = map});
    if (!run->tape) return hone_fail_memory(run->err, sizeof(void *), "the tape");
    hone_tape_reserve(run->tape, (size_t)run->memory.activations);
    return HONE_OK;
}

// Refuse before the first step what would not fit: a run that the kernel kills loses more.
static hone_status check_memory(Run *run, const HonePlan *plan) {
    int64_t available = hone_memory_available();
    int64_t growth = plan->memory_bytes - hone_resident_bytes();
    if (available <= 0 || growth <= available) return HONE_OK;
    return hone_fail(run->err, HONE_ERROR_MEMORY,
                     "the run needs about %lld MiB more, the machine has %lld MiB free; --memory "
                     "%lldM makes it fit if anything does, a smaller --batch or --max-length helps",
                     (long long)growth >> 20, (long long)available >> 20,
                     (long long)(hone_resident_bytes() + available) >> 20);
}

static hone_status open_outputs(Run *run, int64_t done) {
    RETURN_IF_ERROR(hone_directory_make(run->options.out, run->err));
    if (!run->lock) // it was not there before
        RETURN_IF_ERROR(hone_directory_lock(run->options.out, &run->lock, run->err));
    if (!run->options.resume) hone_checkpoint_clear(run);
    RETURN_IF_ERROR(hone_config_write(run));
    RETURN_IF_ERROR(hone_metrics_open(run, done));
    return hone_record_write(run, RUN_RUNNING, NULL);
}

// What a person looks at afterwards: run.json and the page that is made of it.
static hone_status write_report(Run *run, const HoneDone *done) {
    RETURN_IF_ERROR(hone_record_write(run, done->interrupted ? RUN_INTERRUPTED : RUN_DONE, done));
    char *page = hone_path_join(run->options.out, "report.html");
    const char *folder = run->options.out;
    hone_status status = page ? hone_report(run->context, &folder, 1, page)
                              : hone_fail_memory(run->err, 0, "a path");
    hone_free(page);
    return status;
}

// Before the first step: the loss as it is, and only then the folder.
static hone_status begin(Run *run) {
    HoneHeldOut before;
    bool measured = run->held_out_count > 0;
    if (measured) {
        hone_status status = hone_run_held_out(run, 0, &before);
        if (status != HONE_INTERRUPTED) RETURN_IF_ERROR(status);
        if (status == HONE_OK) send(run, (HoneEvent){.kind = HONE_EVENT_EVAL, .as.eval = &before});
    }
    if (run->stop)
        return hone_fail(run->err, HONE_INTERRUPTED,
                         "stopped before the first step; nothing was written");
    RETURN_IF_ERROR(open_outputs(run, 0));
    if (!measured) return HONE_OK;
    run->progress.loss_first = before.loss;
    return log_held_out(run, &before);
}

static bool checkpoint_due(const Run *run, int64_t done) {
    if (run->checkpoint_steps > 0) return done % run->checkpoint_steps == 0;
    return hone_seconds() - run->checkpoint_last >= run->checkpoint_seconds;
}

static hone_status one_step(Run *run, int64_t index, double *seconds_total, int64_t first) {
    double start = hone_seconds();
    StepResult result;
    RETURN_IF_ERROR(hone_run_step(run, index, &result));
    double seconds = hone_seconds() - start;
    *seconds_total += seconds;
    double mean = *seconds_total / (double)(index - first + 1);
    const StepRange *range = &run->steps[index];
    HoneStep step = {.step = index + 1,
                     .steps = run->step_count,
                     .loss = result.loss,
                     .lr = hone_run_learning_rate(run, index),
                     .grad_norm = result.grad_norm,
                     .skipped = result.skipped,
                     .tokens = range->tokens,
                     .tokens_computed = range->computed,
                     .tokens_per_s = (double)range->tokens / seconds,
                     .seconds = seconds,
                     .seconds_left = mean * (double)(run->step_count - index - 1),
                     .epoch = (double)(index + 1) / (double)run->epoch_steps};
    run->record.train_seconds = *seconds_total;
    step.rss_bytes = hone_resident_parts(&step.rss_anon_bytes, &step.rss_mapped_bytes);
    RETURN_IF_ERROR(log_step(run, &step));
    send(run, (HoneEvent){.kind = HONE_EVENT_STEP, .as.step = &step});
    return HONE_OK;
}

// Train from the step that was reached on; returns with run->stop set when it was asked to stop.
static hone_status train(Run *run) {
    double seconds = 0;
    int64_t *done = &run->progress.steps;
    const int64_t first = *done;
    run->checkpoint_last = hone_seconds();
    while (*done < run->step_count && !run->stop && !hone_judge_enough(run)) {
        RETURN_IF_ERROR(one_step(run, *done, &seconds, first));
        (*done)++;
        if (*done < run->step_count && !run->stop && *done % run->options.eval_every == 0) {
            double loss;
            RETURN_IF_ERROR(held_out(run, *done, &loss));
        }
        const bool enough = *done == run->step_count || hone_judge_enough(run);
        if (run->stop || (!enough && checkpoint_due(run, *done))) {
            RETURN_IF_ERROR(hone_checkpoint_write(run));
            run->checkpoint_last = hone_seconds();
        }
    }
    return HONE_OK;
}

static hone_status finish(Run *run) {
    const int64_t done = run->progress.steps;
    const bool early = done < run->step_count && hone_judge_enough(run);
    const bool interrupted = done < run->step_count && !early;
    if (early) run->loss_last = run->progress.held_out_loss;
    if (done == run->step_count) RETURN_IF_ERROR(held_out(run, done, &run->loss_last));
    if (!interrupted) {
        RETURN_IF_ERROR(hone_checkpoint_write(run));
        RETURN_IF_ERROR(hone_judge_finish(run));
    }
    hone_tape_free(run->tape); // the outputs, and the base that answers, take their place
    run->tape = NULL;
    hone_parameters_free_state(&run->parameters);
    RETURN_IF_ERROR(hone_outputs_write(run));
    if (!interrupted) hone_record_answer(run);
    RETURN_IF_ERROR(hone_run_add_file(run, "run.json"));
    RETURN_IF_ERROR(hone_run_add_file(run, "report.html"));
    HoneDone result = {.steps = done,
                       .loss_first = run->progress.loss_first,
                       .loss_last = run->loss_last,
                       .seconds = hone_seconds() - run->started,
                       .rss_peak_bytes = hone_resident_peak(),
                       .files = (const char *const *)run->files,
                       .file_count = run->file_count,
                       .interrupted = interrupted,
                       .best_step = run->progress.best_step,
                       .skipped = run->progress.skipped};
    RETURN_IF_ERROR(write_report(run, &result));
    send(run, (HoneEvent){.kind = HONE_EVENT_DONE, .as.done = &result});
    if (interrupted)
        return hone_fail(
            run->err, HONE_INTERRUPTED,
            "stopped after step %lld of %lld; the weights as they are and a checkpoint are "
            "in %s; hone %s --resume %s goes on",
            (long long)done, (long long)run->step_count, run->options.out,
            run->develop ? "train" : "finetune", run->options.out);
    return HONE_OK;
}

static hone_status execute(Run *run) {
    RETURN_IF_ERROR(prepare(run));
    HonePlan plan;
    HoneExample shown;
    RETURN_IF_ERROR(hone_run_plan(run, &plan));
    RETURN_IF_ERROR(hone_plan_preview(run, &plan, &shown));
    RETURN_IF_ERROR(check_memory(run, &plan));
    run->record.plan = &plan;
    if (!run->options.dry_run) RETURN_IF_ERROR(hone_record_begin(run));
    if (run->options.resume) {
        RETURN_IF_ERROR(hone_parameters_allocate_state(run));
        RETURN_IF_ERROR(hone_checkpoint_resume(run));
    }
    send(run, (HoneEvent){.kind = HONE_EVENT_PLAN, .as.plan = &plan});
    if (run->options.out && !run->options.resume) hone_place_note(run);
    if (run->develop && !hone_develop_translates(run->develop))
        RETURN_IF_ERROR(hone_corpus_note(run));
    if (run->options.dry_run) return HONE_OK;
    if (run->options.resume) {
        RETURN_IF_ERROR(open_outputs(run, run->progress.steps));
        RETURN_IF_ERROR(hone_checkpoint_carry_best(run));
        double unused;
        if (run->eval_pending) RETURN_IF_ERROR(held_out(run, run->progress.steps, &unused));
        // As it would be had the run not been stopped before that loss.
        if (run->eval_pending && !run->stop) RETURN_IF_ERROR(hone_checkpoint_write(run));
    } else {
        RETURN_IF_ERROR(hone_parameters_allocate_state(run));
        RETURN_IF_ERROR(begin(run));
    }
    RETURN_IF_ERROR(train(run));
    return finish(run);
}

void hone_run_free(Run *run) {
    if (run->metrics_open) hone_log_close(&run->metrics);
    hone_tape_free(run->tape);
    hone_parameters_free(&run->parameters);
    for (int64_t s = 0; s < 64; s++) hone_data_free(run->data[s]);
    hone_data_free(run->eval_data);
    hone_free((void *)run->train);
    hone_free((void *)run->held_out);
    hone_free((void *)run->order);
    hone_free(run->steps);
    hone_text_free(&run->identity);
    hone_record_free(&run->record);
    hone_arena_free(&run->batch_memory);
    for (int64_t i = 0; i < run->file_count; i++) hone_free(run->files[i]);
    hone_model_free(run->model);
    hone_model_free(run->teacher);
    hone_gguf_close(&run->vocabulary);
    hone_directory_unlock(run->lock);
    hone_free(run);
}

hone_status hone_run_start(HoneContext *context, const HoneFinetuneOptions *options,
                           const HoneTrainOptions *develop, HoneEventSink sink, void *user) {
    HoneError *err = hone_begin(context);
    RETURN_IF_ERROR(check_options(options, develop != NULL, err));
    if (develop) RETURN_IF_ERROR(hone_develop_check(develop, err));
    Run *run = hone_calloc(1, sizeof *run);
    if (!run) return hone_fail_memory(err, sizeof *run, "the run");
    run->context = context;
    run->err = err;
    run->options = *options;
    run->options.examples.pairs = hone_loss_has_pairs(options->loss);
    run->develop = develop;
    run->sink = sink;
    run->user = user;
    run->started = hone_seconds();
    run->progress.loss_first = run->loss_last = (double)NAN;
    hone_status status = execute(run);
    hone_run_free(run);
    return status;
}

hone_status hone_finetune(HoneContext *context, const HoneFinetuneOptions *options,
                          HoneEventSink sink, void *user) {
    return hone_run_start(context, options, NULL, sink, user);
}

hone_status hone_train(HoneContext *context, const HoneTrainOptions *options, HoneEventSink sink,
                       void *user) {
    HoneFinetuneOptions run = options->run;
    run.method = HONE_METHOD_FULL;
    run.model = run.adapter = NULL;
    return hone_run_start(context, &run, options, sink, user);
}
