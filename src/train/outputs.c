// SPDX-License-Identifier: Apache-2.0
// What a run leaves behind: the adapter in both forms or the model, and every option as resolved.
#include <hone/embed.h>

#include "io/hf_write.h"
#include "io/tokenizer_file.h"
#include "train/develop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

hone_status hone_run_add_file(Run *run, const char *name) {
    if (run->file_count == 10) return HONE_OK;
    char *path = hone_path_join(run->options.out, name);
    if (!path) return hone_fail_memory(run->err, strlen(name), "a path");
    run->files[run->file_count++] = path;
    return HONE_OK;
}

// The trained values as pairs, of which there are at most item_count; returns how many.
static int64_t make_pairs(const Parameters *parameters, AdapterPair *pairs) {
    int64_t count = 0;
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        if (item->part != PART_A) continue;
        const Adapter *adapter = hone_trained_adapter(item);
        AdapterPair *pair = &pairs[count++];
        *pair = (AdapterPair){.rank = (int)adapter->A.shape[0],
                              .in = adapter->A.shape[1],
                              .out = adapter->B.shape[0],
                              .scale = adapter->scale,
                              .A = adapter->A.data,
                              .B = adapter->B.data,
                              .magnitude = adapter->magnitude.data};
        memcpy(pair->name, item->slot->name, sizeof pair->name);
    }
    return count;
}

// For llama.cpp, or a word about why not; an older run's file would be taken for this one's.
static hone_status write_gguf_adapter(Run *run, const AdapterBase *base, const AdapterPair *pairs,
                                      int64_t count) {
    const char *obstacle = hone_adapter_gguf_obstacle(base, &run->adapter, pairs, count);
    char *path = hone_path_join(run->options.out, "adapter.gguf"), note[256];
    hone_status status = HONE_OK;
    if (!path)
        status = hone_fail_memory(run->err, 0, "a path");
    else if (!obstacle)
        status = hone_adapter_gguf_write(path, base, &run->adapter, pairs, count, run->err);
    else if (run->replaces)
        hone_file_remove(path);
    hone_free(path);
    RETURN_IF_ERROR(status);
    if (!obstacle) return hone_run_add_file(run, "adapter.gguf");
    snprintf(note, sizeof note, "adapter.gguf is not written: %s", obstacle);
    hone_run_note(run, note);
    return HONE_OK;
}

static hone_status write_labels(Run *run) {
    char *path = hone_path_join(run->options.out, "labels.json");
    if (!path) return hone_fail_memory(run->err, 0, "a path");
    hone_status status = hone_labels_save(run->model, path, run->err);
    hone_free(path);
    RETURN_IF_ERROR(status);
    return hone_run_add_file(run, "labels.json");
}

static hone_status write_adapter(Run *run) {
    const size_t most = (size_t)run->parameters.item_count;
    AdapterPair *pairs = hone_calloc(most, sizeof *pairs);
    AdapterWhole *whole = hone_calloc(most, sizeof *whole);
    if (!pairs || !whole) {
        hone_free(pairs);
        hone_free(whole);
        return hone_fail_memory(run->err, most * sizeof *pairs, "the adapter");
    }
    run->adapter.whole = whole;
    run->adapter.whole_count = 0;
    if (run->options.examples.task == HONE_TASK_CLASSIFY) run->adapter.task = "SEQ_CLS";
    if (run->options.examples.task == HONE_TASK_PAIRS) run->adapter.task = "FEATURE_EXTRACTION";
    for (size_t i = 0; i < most; i++) {
        const Trainable *item = &run->parameters.items[i];
        if (item->part == PART_WHOLE)
            whole[run->adapter.whole_count++] = hone_slot_whole(item->slot);
    }
    const int64_t count = make_pairs(&run->parameters, pairs);
    AdapterBase base = hone_model_adapter_base(run->model);
    base.bare = run->options.examples.task == HONE_TASK_PAIRS;
    hone_status status =
        hone_peft_write(run->options.out, &base, &run->adapter, pairs, count, run->err);
    if (status == HONE_OK) status = hone_run_add_file(run, "adapter_model.safetensors");
    if (status == HONE_OK) status = hone_run_add_file(run, "adapter_config.json");
    if (status == HONE_OK && run->options.examples.task == HONE_TASK_CLASSIFY)
        status = write_labels(run);
    if (status == HONE_OK) status = write_gguf_adapter(run, &base, pairs, count);
    run->adapter.whole = NULL;
    run->adapter.whole_count = 0;
    hone_free(whole);
    hone_free(pairs);
    return status;
}

// What the replaced run left and this one does not write would look like this one's.
static void remove_stale(Run *run) {
    static const char *const adapter[] = {"adapter_model.safetensors", "adapter_config.json",
                                          "adapter.gguf", "labels.json"};
    static const char *const model[] = {"model.gguf"};
    bool lora = run->options.method != HONE_METHOD_FULL;
    const char *const *names = lora ? model : adapter;
    for (int i = 0; i < (lora ? 1 : 4); i++) {
        char *path = hone_path_join(run->options.out, names[i]);
        if (path && !(run->options.model && hone_same_file(path, run->options.model)))
            hone_file_remove(path);
        hone_free(path);
    }
}

// ---- an encoder's folder -----------------------------------------------------------------------

typedef struct Foreign {
    char name[64]; // a file that a run does not write there; empty: none
} Foreign;

static void find_foreign(void *user, const char *name) {
    Foreign *foreign = user;
    if (!hone_hf_is_written(name)) snprintf(foreign->name, sizeof foreign->name, "%s", name);
}

hone_status hone_check_model_folder(Run *run) {
    Foreign foreign = {""};
    if (!run->options.out) return HONE_OK;
    char *path = hone_path_join(run->options.out, "model");
    if (!path) return hone_fail_memory(run->err, 0, "a path");
    hone_status status = HONE_OK;
    hone_directory_each(path, find_foreign, &foreign);
    if (hone_is_file(path))
        status = hone_fail(run->err, HONE_ERROR_ARGUMENT,
                           "%s: is a file; the model's folder would be there", path);
    else if (hone_same_file(path, run->model->path))
        status = hone_fail(run->err, HONE_ERROR_ARGUMENT,
                           "%s: is the model that is read, and would be written: give another "
                           "--out",
                           path);
    else if (*foreign.name)
        status = hone_fail(run->err, HONE_ERROR_ARGUMENT,
                           "%s: holds %s, which is no model's file: give another --out", path,
                           foreign.name);
    hone_free(path);
    return status;
}

// What sentence-transformers needs to make the vectors that the model was trained for.
static hone_status write_modules(Run *run, const char *folder) {
    HoneEmbedOptions options = {HONE_POOLING_AUTO, HONE_NORMALIZE_AUTO, 0};
    hone_embed_options(run->model, &options);
    return hone_hf_write_sentence(folder, run->model->config.channels, (int)options.pooling,
                                  options.normalize == HONE_NORMALIZE_ON, options.max_length,
                                  run->err);
}

static hone_status write_folder(Run *run) {
    char *path = hone_path_join(run->options.out, "model");
    if (!path) return hone_fail_memory(run->err, 0, "a path");
    hone_hf_remove_settings(path); // an earlier run's: check_model_folder saw nothing else there
    char *weights = hone_path_join(path, "model.safetensors");
    if (weights) hone_file_remove(weights);
    hone_free(weights);
    HoneMerged merged;
    hone_status status = hone_merge_hf(run->model, run->options.type, path, NULL, NULL, &merged);
    if (status == HONE_OK && run->options.examples.task == HONE_TASK_PAIRS)
        status = write_modules(run, path);
    hone_free(path);
    RETURN_IF_ERROR(status);
    return hone_run_add_file(run, "model");
}

hone_status hone_outputs_write(Run *run) {
    if (run->replaces) remove_stale(run);
    if (run->options.method != HONE_METHOD_FULL) return write_adapter(run);
    if (hone_model_is_encoder(run->model->model)) return write_folder(run);
    char *path = hone_path_join(run->options.out, "model.gguf");
    if (!path) return hone_fail_memory(run->err, 0, "a path");
    HoneMerged merged;
    hone_status status =
        hone_model_write(run->model, run->options.type, false, path, NULL, NULL, &merged);
    hone_free(path);
    RETURN_IF_ERROR(status);
    return hone_run_add_file(run, "model.gguf");
}

// ---- metrics.jsonl -----------------------------------------------------------------------------

// The number after "step": in a line of length bytes; -1 without one.
static int64_t step_in(const char *line, size_t length) {
    static const char key[] = "\"step\"";
    for (size_t i = 0; i + sizeof key <= length; i++) {
        if (memcmp(line + i, key, sizeof key - 1) != 0) continue;
        const char *value = line + i + sizeof key - 1;
        value += strspn(value, " ");
        if (*value == ':') return strtoll(value + 1, NULL, 10);
    }
    return -1;
}

// What of an earlier run's lines stays: a process that was killed has written steps that no
// checkpoint holds, and perhaps half a line; a run that was whole measures its last loss again.
static int64_t bytes_to_keep(const Run *run, const char *text, int64_t steps_done, bool *measured) {
    const char *line = text;
    *measured = false;
    for (const char *end; (end = strchr(line, '\n')); line = end + 1) {
        size_t length = (size_t)(end - line);
        int64_t step = step_in(line, length);
        const char *eval = strstr(line, "\"eval\"");
        bool is_eval = eval && eval < end;
        if (step > steps_done || (is_eval && step == run->step_count)) break;
        *measured = *measured || (is_eval && step == steps_done);
    }
    return line - text;
}

// The lines of the run that is resumed, in the file that goes on.
static hone_status keep_lines(Run *run, const char *path, int64_t steps_done, int64_t *keep) {
    char *from = hone_path_join(run->options.resume, "metrics.jsonl"), *text = NULL;
    if (!from) return hone_fail_memory(run->err, 0, "a path");
    bool measured = false;
    hone_status status = HONE_OK;
    if (hone_is_file(from)) status = hone_file_read(from, &text, NULL, run->err);
    if (status == HONE_OK && text) {
        *keep = bytes_to_keep(run, text, steps_done, &measured);
        if (!hone_same_file(from, path))
            status = hone_file_write(path, text, (size_t)*keep, run->err);
    }
    run->eval_pending = !measured && steps_done > 0 && steps_done < run->step_count &&
                        steps_done % run->options.eval_every == 0;
    hone_free(text);
    hone_free(from);
    return status;
}

hone_status hone_metrics_open(Run *run, int64_t steps_done) {
    char *path = hone_path_join(run->options.out, "metrics.jsonl");
    if (!path) return hone_fail_memory(run->err, 0, "a path");
    hone_status status = HONE_OK;
    int64_t keep = 0;
    if (run->options.resume) status = keep_lines(run, path, steps_done, &keep);
    if (status == HONE_OK) status = hone_log_open(&run->metrics, path, keep, run->err);
    hone_free(path);
    RETURN_IF_ERROR(status);
    run->metrics_open = true;
    return hone_run_add_file(run, "metrics.jsonl");
}

// ---- config.yaml -------------------------------------------------------------------------------

// JSON strings are YAML strings.
static void put_text(TextBuffer *text, const char *name, const char *value) {
    if (!value) return;
    hone_text_printf(text, "%s: ", name);
    hone_text_json(text, value, strlen(value));
    hone_text_puts(text, "\n");
}

static void put_integer(TextBuffer *text, const char *name, int64_t value) {
    hone_text_printf(text, "%s: %lld\n", name, (long long)value);
}

static void put_real(TextBuffer *text, const char *name, double value) {
    hone_text_printf(text, "%s: %.17g\n", name, value);
}

static void put_data(TextBuffer *text, const HoneFinetuneOptions *options) {
    hone_text_puts(text, "data:\n");
    for (int64_t s = 0; s < options->data_count; s++) {
        hone_text_puts(text, "  - ");
        TextBuffer entry = {0};
        hone_text_puts(&entry, options->data[s].path);
        if (options->data[s].weight < 1 || options->data[s].weight > 1)
            hone_text_printf(&entry, ":%.17g", options->data[s].weight);
        hone_text_json(text, entry.data, entry.length);
        hone_text_puts(text, "\n");
        text->failed = text->failed || entry.failed;
        hone_text_free(&entry);
    }
}

static void put_schedule(TextBuffer *text, const HoneFinetuneOptions *options) {
    static const char *const schedules[] = {"cosine", "linear", "constant", "wsd", "inverse-sqrt"};
    static const char *const optimizers[] = {"adamw", "adamw8bit", "adafactor", "sgd", "muon"};
    put_integer(text, "steps", options->steps);
    if (options->batch > 0)
        put_integer(text, "batch", options->batch);
    else
        put_integer(text, "batch-tokens", options->batch_tokens);
    put_integer(text, "accumulate", options->accumulate);
    put_integer(text, "checkpoint-layers", options->checkpoint_layers);
    if (options->memory) put_integer(text, "memory", options->memory);
    put_real(text, "lr", options->lr);
    put_text(text, "optimizer", optimizers[options->optimizer]);
    put_text(text, "schedule", schedules[options->schedule]);
    put_real(text, "warmup", options->warmup);
    if (options->loss == HONE_LOSS_DISTILL) {
        put_text(text, "loss", "distill");
        put_text(text, "teacher", options->teacher);
        put_real(text, "temperature", options->temperature);
        put_real(text, "teacher-share", options->teacher_share);
    } else if (options->loss != HONE_LOSS_TOKENS) {
        put_text(text, "loss", options->loss == HONE_LOSS_DPO ? "dpo" : "orpo");
        put_real(text, "beta", options->beta);
    }
    if (options->schedule == HONE_SCHEDULE_WSD) put_real(text, "decay", options->decay);
    if (options->optimizer == HONE_MUON) put_real(text, "momentum", options->momentum);
    if (options->z_loss > 0) put_real(text, "z-loss", options->z_loss);
    if (options->label_smoothing > 0) put_real(text, "label-smoothing", options->label_smoothing);
    if (options->router_loss > 0) put_real(text, "router-loss", options->router_loss);
    if (options->gradient_penalty > 0)
        put_real(text, "gradient-penalty", options->gradient_penalty);
    if (options->log_norms > 0) put_integer(text, "log-norms", options->log_norms);
    put_text(text, "sample", options->sample);
    put_real(text, "weight-decay", options->weight_decay);
    put_real(text, "clip", options->clip);
    put_real(text, "beta1", options->beta1);
    put_real(text, "beta2", options->beta2);
    put_real(text, "eps", options->eps);
    put_text(text, "shuffle", options->shuffle ? "on" : "off");
    if (options->group_prefixes) put_text(text, "group-prefixes", "on");
    put_integer(text, "seed", (int64_t)options->seed);
    put_integer(text, "eval-every", options->eval_every);
    put_text(text, "checkpoint-every", options->checkpoint_every);
    if (options->keep_best) put_text(text, "keep", "best");
    if (options->patience > 0) put_integer(text, "patience", options->patience);
    if (options->skip_spikes > 0) put_real(text, "skip-spikes", options->skip_spikes);
}

static void put_date(TextBuffer *text, int64_t now) {
    const time_t seconds = (time_t)now;
    struct tm date;
    char spelled[32];
    if (now == 0 || !gmtime_r(&seconds, &date)) return;
    strftime(spelled, sizeof spelled, "%Y-%m-%d", &date);
    put_text(text, "date", spelled);
}

// Kinds that tokenizer.json is not written for are in model.gguf all the same.
static hone_status write_vocabulary(Run *run) {
    HoneError unsupported = {0};
    hone_status status = hone_tokenizer_file_write(&run->vocabulary, run->options.out,
                                                   run->model->config.context, &unsupported);
    if (status == HONE_OK) status = hone_run_add_file(run, "tokenizer.json");
    if (status == HONE_OK) return hone_run_add_file(run, "tokenizer_config.json");
    return status == HONE_ERROR_UNSUPPORTED
               ? HONE_OK
               : hone_fail(run->err, status, "%s", unsupported.message);
}

// Labels that hold a comma are those of the data, which have no list.
static void put_task(TextBuffer *text, const HoneFinetuneOptions *options) {
    const HoneDataOptions *examples = &options->examples;
    TextBuffer list = {0};
    bool fine = examples->label_count > 0;
    if (examples->task == HONE_TASK_PAIRS) put_text(text, "task", "embed");
    if (examples->task != HONE_TASK_CLASSIFY) return;
    put_text(text, "task", "classify");
    for (int64_t i = 0; i < examples->label_count; i++) {
        fine = fine && !strchr(examples->labels[i], ',');
        hone_text_printf(&list, "%s%s", i ? "," : "", examples->labels[i]);
    }
    if (fine && list.data) put_text(text, "labels", list.data);
    text->failed = text->failed || list.failed;
    hone_text_free(&list);
}

void hone_config_text(const Run *run, TextBuffer *text) {
    static const char *const methods[] = {"lora", "full", "dora"};
    static const char *const losses[] = {"auto", "assistant", "completion", "all"};
    const HoneFinetuneOptions *options = &run->options;
    if (run->develop)
        hone_develop_config(run, text);
    else
        put_text(text, "model", options->model);
    put_data(text, options);
    put_text(text, "eval-data", options->eval_data);
    if (!options->eval_data) put_real(text, "eval-split", options->eval_split);
    if (!run->develop) put_text(text, "method", methods[options->method]);
    if (options->method != HONE_METHOD_FULL) {
        put_text(text, "adapter", options->adapter);
        put_integer(text, "rank", options->rank);
        put_real(text, "alpha", options->alpha);
        if (options->dropout > 0) put_real(text, "dropout", options->dropout);
        put_text(text, "targets", options->targets);
        if (options->layers > 0) put_integer(text, "layers", options->layers);
        if (options->rslora) put_text(text, "rslora", "on");
        put_text(text, "save-modules", options->save_modules);
    } else {
        put_text(text, "type", options->type);
        if (options->dropout > 0) put_real(text, "dropout", options->dropout);
    }
    put_task(text, options);
    put_integer(text, "max-length", options->examples.max_length);
    if (options->examples.stride > 0) put_integer(text, "stride", options->examples.stride);
    if (!run->develop) {
        put_text(text, "loss-on", losses[options->examples.loss_on]);
        put_text(text, "on-bad-example", options->examples.skip_bad ? "skip" : "stop");
    }
    if (options->examples.no_eos) put_text(text, "no-eos", "on");
    put_text(text, "template", options->template_path);
    put_date(text, options->examples.now);
    put_schedule(text, options);
    put_text(text, "precision", options->precision);
    put_text(text, "isa", hone_context_isa(run->context));
}

hone_status hone_config_write(Run *run) {
    TextBuffer text = {0};
    hone_text_printf(&text,
                     "# Every option as resolved. hone %s --config FILE --out DIR repeats the "
                     "run.\n",
                     run->develop ? "train" : "finetune");
    hone_config_text(run, &text);
    char *path = hone_path_join(run->options.out, "config.yaml");
    hone_status status = text.failed || !path
                             ? hone_fail_memory(run->err, text.length, "config.yaml")
                             : hone_file_write(path, text.data, text.length, run->err);
    hone_free(path);
    hone_text_free(&text);
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(hone_run_add_file(run, "config.yaml"));
    return run->develop ? write_vocabulary(run) : HONE_OK;
}
