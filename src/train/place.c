// SPDX-License-Identifier: Apache-2.0
// The folder of a run before it begins: what stands there, and whether the run can be written.
#include <jansson.h>
#include <string.h>

#include "train/run.h"

static bool holds(const Run *run, const char *name) {
    char *path = hone_path_join(run->options.out, name);
    bool there = path && (hone_is_file(path) || hone_is_directory(path));
    hone_free(path);
    return there;
}

// ---- a run that stands there already -----------------------------------------------------------

// By its run.json; a run whose state cannot be read is none that is known to be whole.
static bool is_done(const char *folder) {
    char *path = hone_path_join(folder, "run.json");
    json_t *record = path ? json_load_file(path, 0, NULL) : NULL;
    const char *state = json_string_value(json_object_get(record, "state"));
    const bool done = state && strcmp(state, "done") == 0;
    json_decref(record);
    hone_free(path);
    return done;
}

static int64_t unfinished_step(const char *folder) {
    const int64_t step = hone_checkpoint_newest(folder);
    return step >= 0 && !is_done(folder) ? step : -1;
}

int64_t hone_unfinished_step(const char *folder) {
    HoneError ignored = {0};
    int lock = 0;
    if (!hone_is_directory(folder) || hone_directory_lock(folder, &lock, &ignored) != HONE_OK)
        return -1;
    const int64_t step = unfinished_step(folder);
    hone_directory_unlock(lock);
    return step;
}

// Hours of somebody's work, perhaps: a run that could go on is replaced only by who says so.
static hone_status check_unfinished(const Run *run) {
    const char *out = run->options.out;
    const int64_t step = run->options.overwrite ? -1 : unfinished_step(out);
    if (step < 0) return HONE_OK;
    return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                     "%s: holds a run that did not come to its end, saved at step %lld; hone %s "
                     "--resume %s goes on with it, --overwrite begins anew in its place",
                     out, (long long)step, run->develop ? "train" : "finetune", out);
}

// One that is at its end, or has saved nothing, is replaced with a word.
void hone_place_note(Run *run) {
    const char *out = run->options.out;
    run->replaces =
        holds(run, "config.yaml") || holds(run, "metrics.jsonl") || holds(run, "checkpoint");
    if (!run->replaces) return;
    const int64_t step =
        run->options.dry_run && !run->options.overwrite ? unfinished_step(out) : -1;
    TextBuffer text = {0};
    if (step >= 0)
        hone_text_printf(&text,
                         "%s holds a run that did not come to its end, saved at step %lld: this "
                         "one would be refused without --overwrite",
                         out, (long long)step);
    else
        hone_text_printf(&text, "%s holds a run already, which this one %s", out,
                         run->options.dry_run ? "would replace" : "replaces");
    if (!text.failed) hone_run_note(run, text.data);
    hone_text_free(&text);
}

// ---- what a run would write into ---------------------------------------------------------------

// Whether `path`, which may not be there yet, is `folder` or lies below it.
static bool is_inside(const char *path, const char *folder) {
    char at[4096], above[4096];
    char *nearest = hone_directory_nearest(path);
    int length = nearest ? snprintf(at, sizeof at, "%s", nearest) : -1;
    hone_free(nearest);
    if (length <= 0 || length >= (int)sizeof at) return false;
    for (;;) {
        if (hone_same_file(at, folder)) return true;
        length = snprintf(above, sizeof above, "%s/..", at);
        if (length >= (int)sizeof above || hone_same_file(at, above)) return false;
        strcpy(at, above);
    }
}

// A corpus's folder is read whole: what a run leaves in it would be learnt the next time.
static hone_status check_corpus(const Run *run) {
    const HoneFinetuneOptions *options = &run->options;
    for (int64_t s = 0; run->develop && s < options->data_count; s++) {
        const char *data = options->data[s].path;
        if (hone_is_directory(data) && is_inside(options->out, data))
            return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                             "%s: lies in the corpus %s, whose files are all read; give --out a "
                             "folder outside",
                             options->out, data);
    }
    return HONE_OK;
}

// The files of a run can be written: none is a folder, the folders are none of files; and none is
// what the run is made from.
hone_status hone_place_check(Run *run) {
    static const char *const names[] = {"adapter_model.safetensors",
                                        "adapter_config.json",
                                        "adapter.gguf",
                                        "model.gguf",
                                        "config.yaml",
                                        "metrics.jsonl",
                                        "tokenizer.json",
                                        "tokenizer_config.json"};
    const HoneFinetuneOptions *options = &run->options;
    RETURN_IF_ERROR(check_corpus(run));
    RETURN_IF_ERROR(hone_directory_check(options->out, run->err));
    // Two runs in one folder would remove each other's checkpoints.
    if (hone_is_directory(options->out))
        RETURN_IF_ERROR(hone_directory_lock(options->out, &run->lock, run->err));
    hone_status status = options->resume ? HONE_OK : check_unfinished(run);
    for (size_t i = 0; i < sizeof names / sizeof *names && status == HONE_OK; i++) {
        char *path = hone_path_join(options->out, names[i]);
        if (!path) return hone_fail_memory(run->err, 0, "a path");
        if (hone_is_directory(path))
            status = hone_fail(run->err, HONE_ERROR_IO, "%s: is a folder, a file is wanted", path);
        else if (options->model && options->method == HONE_METHOD_FULL &&
                 hone_same_file(path, options->model))
            status = hone_fail(run->err, HONE_ERROR_ARGUMENT,
                               "%s: is the model that would be trained; give --out another folder",
                               path);
        hone_free(path);
    }
    char *checkpoint = hone_path_join(options->out, "checkpoint");
    if (!checkpoint) return hone_fail_memory(run->err, 0, "a path");
    if (status == HONE_OK) status = hone_directory_check(checkpoint, run->err);
    hone_free(checkpoint);
    if (status == HONE_OK && options->resume && !hone_same_file(options->resume, options->out) &&
        holds(run, "config.yaml"))
        status = hone_fail(run->err, HONE_ERROR_ARGUMENT,
                           "%s: holds another run than %s, which is resumed; give --out a new "
                           "folder, or none",
                           options->out, options->resume);
    return status;
}
