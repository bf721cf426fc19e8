// SPDX-License-Identifier: Apache-2.0
#include "train/record.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXTS_KEPT = 100, TEXT_BYTES = 6000, PREVIEW_TOKENS = 1500 };

// ---- what is kept ------------------------------------------------------------------------------

// The losses before the first step, as the run that is resumed measured them.
static void read_before(Run *run) {
    char *path = hone_path_join(run->options.resume, "run.json");
    json_t *record = path ? json_load_file(path, 0, NULL) : NULL;
    const json_t *list = json_object_get(record, "held_out");
    for (int64_t i = 0; i < run->held_out_count; i++) {
        const json_t *entry = json_array_get(list, (size_t)i);
        const json_t *before = json_object_get(entry, "before");
        const json_t *after = json_object_get(entry, "after"); // of a run that was at its end
        const bool same =
            json_integer_value(json_object_get(entry, "line")) == run->held_out[i]->line;
        if (json_is_number(before) && same) run->record.before[i] = json_number_value(before);
        if (json_is_number(after) && same) run->record.after[i] = json_number_value(after);
    }
    const json_t *started = json_object_get(record, "started");
    if (json_is_string(started) && strlen(json_string_value(started)) < sizeof run->record.started)
        strcpy(run->record.started, json_string_value(started));
    json_decref(record);
    hone_free(path);
}

hone_status hone_record_begin(Run *run) {
    RunRecord *record = &run->record;
    const size_t count = (size_t)run->held_out_count + 1;
    time_t now = time(NULL);
    struct tm utc;
    record->before = hone_alloc(count * sizeof *record->before);
    record->after = hone_alloc(count * sizeof *record->after);
    if (!record->before || !record->after)
        return hone_fail_memory(run->err, count * 16, "the held-out losses");
    for (size_t i = 0; i < count; i++) record->before[i] = record->after[i] = (double)NAN;
    if (gmtime_r(&now, &utc))
        strftime(record->started, sizeof record->started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (run->options.resume) read_before(run);
    return HONE_OK;
}

// ---- its parts ---------------------------------------------------------------------------------

// 0: nothing is there, also for lack of memory.
static char last_of(const TextBuffer *text) {
    return text->length ? text->data[text->length - 1] : '\0';
}

static void put_name(TextBuffer *text, const char *name) {
    const char last = last_of(text);
    hone_text_printf(text, "%s\"%s\":", last == '{' || last == '[' ? "" : ",", name);
}

static void put_number(TextBuffer *text, const char *name, double value) {
    put_name(text, name);
    if (isfinite(value))
        hone_text_printf(text, "%.12g", value);
    else
        hone_text_puts(text, "null");
}

static void put_bytes(TextBuffer *text, const char *name, const char *value, size_t length) {
    put_name(text, name);
    if (value)
        hone_text_json(text, value, length);
    else
        hone_text_puts(text, "null");
}

static void put_text(TextBuffer *text, const char *name, const char *value) {
    put_bytes(text, name, value, value ? strlen(value) : 0);
}

static void put_environment(TextBuffer *text, const Run *run) {
    HoneMachine machine;
    hone_machine(&machine);
    put_name(text, "environment");
    hone_text_puts(text, "{");
    put_text(text, "version", hone_version());
    put_text(text, "processor", machine.processor);
    put_text(text, "system", machine.system);
    put_text(text, "compiler", machine.compiler);
    put_text(text, "isa", hone_context_isa(run->context));
    put_number(text, "threads", hone_context_threads(run->context));
    put_number(text, "cores", machine.cores);
    put_number(text, "memory_bytes", (double)machine.memory_bytes);
    hone_text_puts(text, "}");
}

static void put_plan(TextBuffer *text, const Run *run, const HonePlan *plan) {
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"model_parameters", (double)plan->model_parameters},
        {"trainable", (double)plan->trainable},
        {"trained_tensors", (double)plan->trained_tensors},
        {"train_examples", (double)plan->train_examples},
        {"eval_examples", (double)plan->eval_examples},
        {"skipped", (double)plan->skipped},
        {"cut", (double)plan->cut},
        {"unended", (double)plan->unended},
        {"duplicates", (double)plan->duplicates},
        {"tokens", (double)plan->tokens},
        {"tokens_computed", (double)plan->tokens_computed},
        {"targets", (double)plan->targets},
        {"longest", (double)plan->longest},
        {"max_length", (double)run->options.examples.max_length},
        {"steps", (double)plan->steps},
        {"epochs", plan->epochs},
        {"step_tokens", plan->step_tokens},
        {"accumulate", (double)plan->accumulate},
        {"layers", plan->layers},
        {"checkpoint_layers", plan->checkpoint_layers},
        {"lr", plan->lr},
        {"minutes", plan->minutes},
        {"operations", plan->operations},
        {"memory_bytes", (double)plan->memory_bytes},
        {"model_bytes", (double)plan->model_bytes},
        {"state_bytes", (double)plan->state_bytes},
        {"activation_bytes", (double)plan->activation_bytes},
    };
    put_name(text, "plan");
    hone_text_puts(text, "{");
    put_text(text, "command", run->develop ? "train" : "finetune");
    put_text(text, "model", run->options.model);
    put_text(text, "model_name", plan->model_name);
    put_text(text, "method", plan->method);
    put_text(text, "targets_text", plan->targets_text);
    put_text(text, "first_skipped", plan->first_skipped);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        put_number(text, numbers[i].name, numbers[i].value);
    hone_text_puts(text, "}");
    put_name(text, "lengths");
    hone_text_printf(text, "{\"width\":%lld,\"counts\":[", (long long)plan->length_width);
    for (int i = 0; i < plan->length_buckets; i++)
        hone_text_printf(text, "%s%lld", i ? "," : "", (long long)plan->lengths[i]);
    hone_text_puts(text, "]}");
}

static void put_source(TextBuffer *text, const char *path, int64_t examples, double weight,
                       bool held_out) {
    if (last_of(text) == '}') hone_text_puts(text, ",");
    hone_text_puts(text, "{");
    put_text(text, "path", path);
    put_number(text, "examples", (double)examples);
    put_number(text, "weight", weight);
    hone_text_printf(text, ",\"held_out\":%s}", held_out ? "true" : "false");
}

static void put_sources(TextBuffer *text, const Run *run) {
    const HoneFinetuneOptions *options = &run->options;
    put_name(text, "sources");
    hone_text_puts(text, "[");
    for (int64_t s = 0; s < options->data_count; s++)
        put_source(text, options->data[s].path, run->data[s]->set.count, options->data[s].weight,
                   false);
    if (run->eval_data) put_source(text, options->eval_data, run->eval_data->set.count, 1, true);
    hone_text_puts(text, "]");
}

// The first example as pieces of what is learnt and what is not.
static void put_first_example(TextBuffer *text, const HonePlan *plan) {
    const HoneExample *example = plan->example;
    const int64_t shown = example->count < PREVIEW_TOKENS ? example->count : PREVIEW_TOKENS;
    put_name(text, "first_example");
    hone_text_puts(text, "{");
    put_number(text, "line", example->line);
    put_number(text, "more", (double)(example->count - shown));
    put_name(text, "pieces");
    hone_text_puts(text, "[");
    for (int64_t begin = 0, end; begin < shown; begin = end) {
        for (end = begin; end < shown && example->mask[end] == example->mask[begin];) end++;
        hone_text_puts(text, begin ? ",[" : "[");
        hone_text_json(text, plan->pieces + plan->piece_offsets[begin],
                       (size_t)(plan->piece_offsets[end] - plan->piece_offsets[begin]));
        hone_text_printf(text, ",%d]", example->mask[begin]);
    }
    hone_text_puts(text, "]}");
}

// ---- held-out examples -------------------------------------------------------------------------

typedef struct Loss {
    double loss;
    int64_t index;
} Loss;

static int higher_first(const void *left, const void *right) {
    const Loss *a = left, *b = right;
    if (a->loss > b->loss || a->loss < b->loss) return a->loss > b->loss ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

// Tokens begin … end − 1 as text.
static void put_tokens(TextBuffer *text, const char *name, const Run *run, const Example *example,
                       int64_t begin, int64_t end) {
    TextBuffer words = {0};
    for (int64_t t = begin; t < end && words.length < TEXT_BYTES; t++) {
        TokenizerText piece = hone_token_bytes(run->model->tokenizer, example->token[t], true);
        hone_text_append(&words, piece.data, piece.length);
    }
    text->failed |= words.failed; // not shorter, but none
    put_bytes(text, name, words.data ? words.data : "", words.length);
    hone_text_free(&words);
}

static size_t kept_bytes(const char *text) {
    size_t length = strlen(text);
    if (length <= TEXT_BYTES) return length;
    for (length = TEXT_BYTES; length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80;) length--;
    return length;
}

// All losses; the texts of the worst only, so that the page does not hold the data again.
static hone_status put_held_out(TextBuffer *text, const Run *run) {
    const RunRecord *record = &run->record;
    const int64_t count = run->held_out_count;
    Loss *order = hone_alloc(((size_t)count + 1) * sizeof *order);
    bool *worst = hone_calloc((size_t)count + 1, sizeof *worst);
    if (order && worst) {
        for (int64_t i = 0; i < count; i++) {
            const double loss = isfinite(record->after[i]) ? record->after[i] : record->before[i];
            order[i] = (Loss){isfinite(loss) ? loss : -1, i};
        }
        qsort(order, (size_t)count, sizeof *order, higher_first);
        for (int64_t i = 0; i < count && i < TEXTS_KEPT; i++) worst[order[i].index] = true;
        put_name(text, "held_out");
        hone_text_puts(text, "[");
        for (int64_t i = 0; i < count; i++) {
            const Example *example = run->held_out[i];
            hone_text_printf(text, "%s{\"line\":%d,\"targets\":%lld", i ? "," : "", example->line,
                             (long long)example->targets);
            put_number(text, "before", record->before[i]);
            put_number(text, "after", record->after[i]);
            if (worst[i] && example->text)
                put_bytes(text, "text", example->text, kept_bytes(example->text));
            else if (worst[i]) // windows of a corpus
                put_tokens(text, "text", run, example, 0, example->count);
            if (worst[i] && example->answer)
                put_bytes(text, "answer", example->answer, kept_bytes(example->answer));
            hone_text_puts(text, "}");
        }
        hone_text_puts(text, "]");
    }
    const bool failed = !order || !worst;
    hone_free(order);
    hone_free(worst);
    return failed ? hone_fail_memory(run->err, (size_t)count * sizeof *order, "the record")
                  : HONE_OK;
}

static void put_samples(TextBuffer *text, const Run *run) {
    put_name(text, "samples");
    hone_text_puts(text, "[");
    for (int i = 0; i < run->record.sample_count; i++) {
        const RecordSample *sample = &run->record.samples[i];
        const Example *example = sample->example;
        hone_text_printf(text, "%s{\"line\":%d", i ? "," : "", example->line);
        put_tokens(text, "prompt", run, example, 0, sample->prompt);
        if (example->answer)
            put_text(text, "answer", example->answer);
        else // plain text: how it goes on
            put_tokens(text, "answer", run, example, sample->prompt,
                       sample->prompt + RECORD_TOKENS < example->count
                           ? sample->prompt + RECORD_TOKENS
                           : example->count);
        put_text(text, "before", sample->before);
        put_text(text, "after", sample->after);
        hone_text_printf(text, ",\"before_ended\":%s,\"after_ended\":%s}",
                         sample->before_ended ? "true" : "false",
                         sample->after_ended ? "true" : "false");
    }
    hone_text_puts(text, "]");
}

static void put_done(TextBuffer *text, const Run *run, const HoneDone *done) {
    put_name(text, "done");
    hone_text_puts(text, "{");
    put_number(text, "steps", (double)done->steps);
    put_number(text, "kept_step",
               (double)(run->options.keep_best && done->best_step ? done->best_step : done->steps));
    put_number(text, "loss_before", done->loss_first);
    put_number(text, "loss_after", done->loss_last);
    put_number(text, "seconds", done->seconds);
    put_number(text, "train_seconds", run->record.train_seconds);
    put_number(text, "rss_peak_bytes", (double)done->rss_peak_bytes);
    hone_text_puts(text, "}");
}

hone_status hone_record_write(Run *run, RunState state, const HoneDone *done) {
    static const char *const states[] = {"running", "done", "interrupted"};
    TextBuffer text = {0};
    hone_text_puts(&text, "{");
    put_text(&text, "state", states[state]);
    put_text(&text, "started", run->record.started);
    put_environment(&text, run);
    put_plan(&text, run, run->record.plan);
    put_sources(&text, run);
    put_first_example(&text, run->record.plan);
    hone_status status = put_held_out(&text, run);
    put_samples(&text, run);
    if (done) put_done(&text, run, done);
    hone_text_puts(&text, "}\n");
    char *path = hone_path_join(run->options.out, "run.json");
    if (status == HONE_OK)
        status = text.failed || !path ? hone_fail_memory(run->err, text.length, "run.json")
                                      : hone_file_write(path, text.data, text.length, run->err);
    hone_free(path);
    hone_text_free(&text);
    return status;
}
