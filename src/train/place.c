// SPDX-License-Identifier: Apache-2.0
// The folder of a run before it begins: what stands there, and whether the run can be written.
#include "train/run.h"

static bool holds(const Run *run, const char *name) {
    char *path = hone_path_join(run->options.out, name);
    bool there = path && (hone_is_file(path) || hone_is_directory(path));
    hone_free(path);
    return there;
}

// A run that stands in the folder already is replaced: two hours of somebody's work, perhaps.
void hone_place_note(Run *run) {
    run->replaces =
        holds(run, "config.yaml") || holds(run, "metrics.jsonl") || holds(run, "checkpoint");
    if (!run->replaces) return;
    TextBuffer text = {0};
    hone_text_printf(&text, "%s holds a run already, which this one %s", run->options.out,
                     run->options.dry_run ? "would replace" : "replaces");
    HoneEvent event = {.kind = HONE_EVENT_NOTE, .as.text = text.data};
    if (!text.failed && run->sink && !run->sink(run->user, &event)) run->stop = true;
    hone_text_free(&text);
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
    RETURN_IF_ERROR(hone_directory_check(options->out, run->err));
    // Two runs in one folder would remove each other's checkpoints.
    if (hone_is_directory(options->out))
        RETURN_IF_ERROR(hone_directory_lock(options->out, &run->lock, run->err));
    hone_status status = HONE_OK;
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
