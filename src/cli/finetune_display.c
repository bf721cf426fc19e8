// SPDX-License-Identifier: Apache-2.0
#include "finetune_display.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "output.h"

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void display_end(Display *display) {
    live_end(&display->live);
}

// ---- the plan ----------------------------------------------------------------------------------

// The first example, what is learnt in green or between ‹ ›. A long one is cut before its first
// target.
static void show_example(const HonePlan *plan) {
    enum { BEFORE = 60, AFTER = 60 };
    const HoneExample *example = plan->example;
    bool colour = use_colour(stderr), inside = false;
    int64_t first = 0;
    while (first < example->count && !example->mask[first]) first++;
    int64_t begin = first > 2 * BEFORE ? first - BEFORE : 0;
    int64_t end = first + AFTER < example->count ? first + AFTER : example->count;
    fprintf(stderr, "\nfirst example (line %d: %lld tokens, %lld in the loss, marked %s)\n",
            example->line, (long long)example->count, (long long)example->targets,
            colour ? "green" : "‹so›");
    if (begin > 0) fprintf(stderr, "… %lld tokens … ", (long long)begin);
    for (int64_t i = begin; i < end; i++) {
        if (example->mask[i] && !inside) fputs(colour ? "\033[32m" : "‹", stderr);
        if (!example->mask[i] && inside) fputs(colour ? "\033[0m" : "›", stderr);
        inside = example->mask[i];
        for (int32_t j = plan->piece_offsets[i]; j < plan->piece_offsets[i + 1]; j++) {
            unsigned char c = (unsigned char)plan->pieces[j];
            fputc((c < 0x20 && c != '\n') || c == 0x7f ? ' ' : c, stderr);
        }
    }
    if (inside) fputs(colour ? "\033[0m" : "›", stderr);
    if (end < example->count)
        fprintf(stderr, " … %lld more tokens", (long long)(example->count - end));
    fputs("\n\n", stderr);
}

// How long the examples are, as bars; how many are cut, or held out and trained on too.
static void show_lengths(const HonePlan *plan) {
    double counts[HONE_LENGTH_BUCKETS], most = 1;
    char text[3 * HONE_LENGTH_BUCKETS + 1];
    for (int i = 0; i < plan->length_buckets; i++) {
        counts[i] = (double)plan->lengths[i];
        if (counts[i] > most) most = counts[i];
    }
    sparkline(counts, plan->length_buckets, 0, most, text);
    fprintf(stderr, "lengths   ");
    for (int i = 0; i < plan->length_buckets; i++)
        fprintf(stderr, "%.*s", 3, plan->lengths[i] ? text + 3 * (ptrdiff_t)i : " ");
    fprintf(stderr, "  1 to %lld tokens, %lld a bar, the highest %.0f example%s\n",
            (long long)(plan->length_width * plan->length_buckets), (long long)plan->length_width,
            most, plural((int64_t)most));
    if (plan->duplicates)
        fprintf(stderr,
                "          %lld held-out example%s trained on too: the held-out loss will look "
                "better than it is\n",
                (long long)plan->duplicates, plan->duplicates == 1 ? " is" : "s are");
}

static void show_plan(const Display *display, const HonePlan *plan) {
    char a[32], b[32], c[32], d[32];
    fprintf(stderr, "model     %s (%s), %.1f M parameters\n", display->model, plan->model_name,
            (double)plan->model_parameters / 1e6);
    fprintf(stderr, "training  %s on %s: %.2f M parameters in %lld tensors\n", plan->method,
            *plan->targets_text ? plan->targets_text : "all weights", (double)plan->trainable / 1e6,
            (long long)plan->trained_tensors);
    fprintf(stderr,
            "data      %lld example%s, %lld held out; %lld token%s, %lld to compute, %lld in the "
            "loss, longest %lld",
            (long long)plan->train_examples, plural(plan->train_examples),
            (long long)plan->eval_examples, (long long)plan->tokens, plural(plan->tokens),
            (long long)plan->tokens_computed, (long long)plan->targets, (long long)plan->longest);
    if (plan->cut) fprintf(stderr, "; %lld cut at --max-length", (long long)plan->cut);
    fputc('\n', stderr);
    show_lengths(plan);
    if (plan->skipped)
        fprintf(stderr, "          %lld bad example%s skipped, the first: %s\n",
                (long long)plan->skipped, plural(plan->skipped), plan->first_skipped);
    if (plan->unended)
        fprintf(stderr,
                "          %lld answer%s no end token after: when to stop is not taught there\n",
                (long long)plan->unended, plan->unended == 1 ? " has" : "s have");
    fprintf(stderr, "steps     %lld (%.3g epochs), ", (long long)plan->steps, plan->epochs);
    if (plan->batch)
        fprintf(stderr, "%lld example%s each", (long long)plan->batch, plural(plan->batch));
    else
        fprintf(stderr, "about %.0f tokens each", plan->step_tokens);
    if (plan->accumulate > 1)
        fprintf(stderr, " in %lld micro-batches", (long long)plan->accumulate);
    fprintf(stderr, "; rate %.3g, %lld step%s of warm-up\n", plan->lr,
            (long long)plan->warmup_steps, plan->warmup_steps == 1 ? "" : "s");
    fprintf(stderr, "memory    about %s: weights %s, training state %s, activations %s\n",
            size_text(plan->memory_bytes, a), size_text(plan->model_bytes, b),
            size_text(plan->state_bytes, c), size_text(plan->activation_bytes, d));
    if (plan->checkpoint_layers || plan->memory_limit)
        fprintf(stderr,
                "          layers made again in backward: %d of %d; micro-batches a step: %lld\n",
                plan->checkpoint_layers, plan->layers, (long long)plan->accumulate);
    if (plan->passes > 1)
        fputs("penalty   of the gradient's norm: each step takes its gradient twice\n", stderr);
    fprintf(stderr, "time      about %s on %d thread%s (%s)\n", time_text(plan->minutes * 60, a),
            plan->threads, plural(plan->threads), plan->isa);
    show_example(plan);
}

static void json_plan(const HonePlan *plan) {
    printf("{\"event\":\"plan\",\"model\":");
    print_json_text(stdout, plan->model_name);
    printf(
        ",\"method\":\"%s\",\"trainable\":%lld,\"examples\":%lld,\"eval_examples\":%lld,"
        "\"skipped\":%lld,\"cut\":%lld,\"unended\":%lld,\"tokens\":%lld,\"tokens_computed\":%lld,"
        "\"targets\":%lld,\"steps\":%lld,\"epochs\":%.9g,\"batch\":%lld,\"batch_tokens\":%lld,"
        "\"lr\":%.9g,\"memory_bytes\":%lld,\"model_bytes\":%lld,\"state_bytes\":%lld,"
        "\"activation_bytes\":%lld,\"accumulate\":%lld,\"checkpoint_layers\":%d,"
        "\"operations\":%.9g,\"minutes\":%.3f,\"threads\":%d,\"isa\":\"%s\"",
        plan->method, (long long)plan->trainable, (long long)plan->train_examples,
        (long long)plan->eval_examples, (long long)plan->skipped, (long long)plan->cut,
        (long long)plan->unended, (long long)plan->tokens, (long long)plan->tokens_computed,
        (long long)plan->targets, (long long)plan->steps, plan->epochs, (long long)plan->batch,
        (long long)plan->batch_tokens, plan->lr, (long long)plan->memory_bytes,
        (long long)plan->model_bytes, (long long)plan->state_bytes,
        (long long)plan->activation_bytes, (long long)plan->accumulate, plan->checkpoint_layers,
        plan->operations, plan->minutes, plan->threads, plan->isa);
    printf(",\"duplicates\":%lld,\"lengths\":{\"width\":%lld,\"counts\":[",
           (long long)plan->duplicates, (long long)plan->length_width);
    for (int i = 0; i < plan->length_buckets; i++)
        printf("%s%lld", i ? "," : "", (long long)plan->lengths[i]);
    printf("]}");
    const HoneExample *example = plan->example;
    printf(",\"first_example\":{\"line\":%d,\"text\":", example->line);
    print_json_text(stdout, example->text);
    printf(",\"tokens\":[");
    for (int64_t i = 0; i < example->count; i++) printf("%s%d", i ? "," : "", example->tokens[i]);
    printf("],\"mask\":[");
    for (int64_t i = 0; i < example->count; i++) printf("%s%d", i ? "," : "", example->mask[i]);
    printf("]}}\n");
}

// ---- while it runs -----------------------------------------------------------------------------

static void show_step(Display *display, const HoneStep *step) {
    char memory[32], left[32];
    Live *live = &display->live;
    const bool redraws = live_possible(), last = step->step == step->steps;
    live_note_step(live, step);
    // Often enough to be read, seldom enough to cost nothing.
    const double pause = redraws ? 0.05 : 10;
    if (!last && live->steps_seen > 1 && now() - display->last_shown < pause) return;
    display->last_shown = now();
    if (redraws) {
        live_draw(live, step);
        return;
    }
    fprintf(stderr,
            "step %lld/%lld  loss %.4f (mean %.4f)  norm %.3g  %.0f tokens/s  %s  %s left\n",
            (long long)step->step, (long long)step->steps, step->loss, live_mean(live),
            step->grad_norm, step->tokens_per_s, size_text(step->rss_bytes, memory),
            time_text(step->seconds_left, left));
}

static void json_step(const HoneStep *step) {
    printf("{\"event\":\"step\",\"step\":%lld,\"loss\":%.9g,\"lr\":%.9g,\"grad_norm\":%.9g,"
           "\"tokens\":%lld,\"tokens_computed\":%lld,\"tokens_per_s\":%.1f,\"seconds\":%.4f,"
           "\"rss_bytes\":%lld,\"rss_anon_bytes\":%lld,\"rss_mapped_bytes\":%lld%s}\n",
           (long long)step->step, step->loss, step->lr, step->grad_norm, (long long)step->tokens,
           (long long)step->tokens_computed, step->tokens_per_s, step->seconds,
           (long long)step->rss_bytes, (long long)step->rss_anon_bytes,
           (long long)step->rss_mapped_bytes, step->skipped ? ",\"skipped\":true" : "");
}

static void show_held_out(Display *display, const HoneHeldOut *eval) {
    live_clear(&display->live);
    display->live.held_out = eval->loss;
    fprintf(stderr, "held out after step %lld: loss %.4f, ", (long long)eval->step, eval->loss);
    if (!isnan(eval->accuracy) && isnan(eval->f1))
        fprintf(stderr, "%.1f %% of the anchors nearest to their own\n", 100 * eval->accuracy);
    else if (!isnan(eval->accuracy))
        fprintf(stderr, "%.1f %% right, F1 %.3f\n", 100 * eval->accuracy, eval->f1);
    else if (isnan(eval->preferred))
        fprintf(stderr, "perplexity %.2f\n", eval->perplexity);
    else
        fprintf(stderr, "%.1f %% of the chosen answers preferred\n", 100 * eval->preferred);
}

// ---- the end -----------------------------------------------------------------------------------

// A path as a shell takes it.
static void put_word(const char *path, const char *end) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:=@%+,";
    const bool quoted = path[strspn(path, plain)] != 0;
    if (quoted) fputc('\'', stderr);
    for (const char *c = path; *c; c++) {
        if (*c == '\'')
            fputs("'\\''", stderr);
        else
            fputc(*c, stderr);
    }
    fputs(end, stderr);
    if (quoted) fputc('\'', stderr);
}

static void show_command(const Display *display, bool adapter) {
    if (display->translates) {
        fputs("try it:\n  echo \"a text\" | hone translate --model ", stderr);
        put_word(display->out, "/model.gguf");
        fputc('\n', stderr);
        return;
    }
    if (display->encodes) {
        fprintf(stderr, "try it:\n  echo \"a text\" | hone %s --model ", display->encodes);
        put_word(adapter ? display->model : display->out, adapter ? "" : "/model");
        if (adapter) {
            fputs(" --adapter ", stderr);
            put_word(display->out, "");
        }
        fputc('\n', stderr);
        return;
    }
    fprintf(stderr, "try it:\n  hone %s --model ", display->chats ? "chat" : "generate");
    put_word(adapter ? display->model : display->out, adapter ? "" : "/model.gguf");
    if (adapter) {
        fputs(" --adapter ", stderr);
        put_word(display->out, "");
    }
    if (display->chats && display->template_path) {
        fputs(" --template ", stderr);
        put_word(display->template_path, "");
    }
    if (!display->chats) {
        fputs(" --raw --prompt ", stderr);
        put_word(*display->prompt ? display->prompt : "The", "");
    }
    fputc('\n', stderr);
}

// By which command what was trained is tried.
static void note_kind(Display *display, const HonePlan *plan) {
    const HoneExample *example = plan->example;
    const size_t length = strlen(example->text);
    const size_t answer = example->answer ? strlen(example->answer) : length;
    display->translates = plan->translates;
    display->chats = 2 * plan->conversations >= plan->train_examples &&
                     (plan->has_template || display->template_path);
    if (answer >= length || length - answer >= sizeof display->prompt) return;
    memcpy(display->prompt, example->text, length - answer);
    for (const char *c = display->prompt; *c; c++)
        if ((unsigned char)*c < 0x20) *display->prompt = '\0'; // of several lines
}

static void show_done(Display *display, const HoneDone *done) {
    char time[32], memory[32];
    display_end(display);
    fprintf(stderr, "\n%s after %lld step%s, %s, peak memory %s\n",
            done->interrupted ? "stopped" : "done", (long long)done->steps, plural(done->steps),
            time_text(done->seconds, time), size_text(done->rss_peak_bytes, memory));
    if (isfinite(done->loss_first) && isfinite(done->loss_last))
        fprintf(stderr, "held-out loss %.4f before, %.4f after\n", done->loss_first,
                done->loss_last);
    fputs("written:\n", stderr);
    bool adapter = false;
    for (int64_t i = 0; i < done->file_count; i++) {
        fprintf(stderr, "  %s\n", done->files[i]);
        adapter = adapter || strstr(done->files[i], "adapter_model.safetensors") != NULL;
    }
    show_command(display, adapter);
}

static void json_done(const HoneDone *done) {
    printf("{\"event\":\"done\",\"steps\":%lld,\"loss_before\":", (long long)done->steps);
    print_json_number(stdout, done->loss_first);
    printf(",\"loss_after\":");
    print_json_number(stdout, done->loss_last);
    printf(",\"seconds\":%.3f,\"rss_peak_bytes\":%lld,\"interrupted\":%s,\"best_step\":%lld,"
           "\"skipped\":%lld,\"files\":[",
           done->seconds, (long long)done->rss_peak_bytes, done->interrupted ? "true" : "false",
           (long long)done->best_step, (long long)done->skipped);
    for (int64_t i = 0; i < done->file_count; i++) {
        if (i) fputc(',', stdout);
        print_json_text(stdout, done->files[i]);
    }
    printf("]}\n");
}

static void json_sample(const HoneSample *sample) {
    printf("{\"event\":\"sample\",\"step\":%lld,\"prompt\":", (long long)sample->step);
    print_json_text(stdout, sample->prompt);
    printf(",\"text\":");
    print_json_text(stdout, sample->text);
    printf("}\n");
}

static void show_sample(Display *display, const HoneSample *sample) {
    live_clear(&display->live);
    fprintf(stderr, "sample after step %lld: ", (long long)sample->step);
    plain_text(stderr, sample->prompt, strlen(sample->prompt));
    plain_text(stderr, sample->text, strlen(sample->text));
    fputc('\n', stderr);
}

static void json_event(const HoneEvent *event) {
    switch (event->kind) {
    case HONE_EVENT_PLAN:
        json_plan(event->as.plan);
        break;
    case HONE_EVENT_STEP:
        json_step(event->as.step);
        break;
    case HONE_EVENT_EVAL:
        printf(
            "{\"event\":\"eval\",\"step\":%lld,\"loss\":%.9g,\"perplexity\":%.9g,\"tokens\":%lld",
            (long long)event->as.eval->step, event->as.eval->loss, event->as.eval->perplexity,
            (long long)event->as.eval->tokens);
        if (!isnan(event->as.eval->preferred))
            printf(",\"preferred\":%.9g", event->as.eval->preferred);
        if (!isnan(event->as.eval->accuracy))
            printf(",\"accuracy\":%.9g", event->as.eval->accuracy);
        if (!isnan(event->as.eval->f1)) printf(",\"f1\":%.9g", event->as.eval->f1);
        printf("}\n");
        break;
    case HONE_EVENT_PROGRESS:
        return;
    case HONE_EVENT_CHECKPOINT:
    case HONE_EVENT_NOTE:
        printf("{\"event\":\"%s\",\"text\":",
               event->kind == HONE_EVENT_NOTE ? "note" : "checkpoint");
        print_json_text(stdout, event->as.text);
        printf("}\n");
        break;
    case HONE_EVENT_SAMPLE:
        json_sample(event->as.sample);
        break;
    case HONE_EVENT_DONE:
        json_done(event->as.done);
        break;
    }
    fflush(stdout);
}

static void show_progress(Display *display, const HoneEvent *event) {
    char text[64];
    snprintf(text, sizeof text, "held out: %lld/%lld examples", (long long)event->as.progress.done,
             (long long)event->as.progress.total);
    if (event->as.progress.done < event->as.progress.total)
        live_text(&display->live, text);
    else
        live_clear(&display->live);
}

bool display_event(void *user, const HoneEvent *event) {
    Display *display = user;
    if (display->json) json_event(event);
    switch (event->kind) {
    case HONE_EVENT_PLAN:
        note_kind(display, event->as.plan);
        if (!display->json) show_plan(display, event->as.plan);
        break;
    case HONE_EVENT_STEP:
        if (!display->json || stderr_is_terminal()) show_step(display, event->as.step);
        break;
    case HONE_EVENT_EVAL:
        if (!display->json) show_held_out(display, event->as.eval);
        break;
    case HONE_EVENT_NOTE:
        if (display->json) break;
        display_end(display);
        fprintf(stderr, "note: %s\n", event->as.text);
        break;
    case HONE_EVENT_SAMPLE:
        if (!display->json) show_sample(display, event->as.sample);
        break;
    case HONE_EVENT_DONE:
        if (!display->json) show_done(display, event->as.done);
        break;
    case HONE_EVENT_PROGRESS:
        if (live_possible() && !display->json) show_progress(display, event);
        break;
    case HONE_EVENT_CHECKPOINT:
        break;
    }
    return !was_interrupted();
}
