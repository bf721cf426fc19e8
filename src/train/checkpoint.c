// SPDX-License-Identifier: Apache-2.0
// Checkpoints: the trained values, the optimiser's state and the step, in one safetensors file that
// appears whole or not at all. The order of the data and the schedule follow from the options, so
// nothing else is needed to go on.
#include "train/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

static char *folder_of(const Run *run) {
    return hone_path_join(run->options.out, "checkpoint");
}

// The number in "step-000123.safetensors", or "best-…", -1 for another name.
static int64_t number_in(const char *name, const char *kind) {
    char tail[32] = "";
    long long step;
    if (strncmp(name, kind, 5) != 0 || sscanf(name + 5, "%lld%31s", &step, tail) != 2 || step < 0)
        return -1;
    return strcmp(tail, ".safetensors") == 0 ? step : -1;
}

static int64_t step_of(const char *name) {
    return number_in(name, "step-");
}

static void note_step(void *user, const char *name) {
    int64_t *steps = user, step = step_of(name);
    if (step > steps[0]) {
        steps[1] = steps[0];
        steps[0] = step;
    } else if (step > steps[1]) {
        steps[1] = step;
    }
}

// The two highest steps there are; -1 for none.
static void newest(const char *folder, int64_t steps[2]) {
    steps[0] = steps[1] = -1;
    hone_directory_each(folder, note_step, steps);
}

static char *named_file(const char *folder, const char *kind, int64_t step) {
    char name[64];
    snprintf(name, sizeof name, "%s%06lld.safetensors", kind, (long long)step);
    return folder ? hone_path_join(folder, name) : NULL;
}

static char *file_of(const char *folder, int64_t step) {
    return named_file(folder, "step-", step);
}

typedef struct Cleaning {
    const char *folder;
    int64_t oldest_kept;
    int64_t best_kept; // -1: none
} Cleaning;

// What a run that ended in the middle of a checkpoint left of it goes too.
static bool is_half(const char *name) {
    const char *end = strrchr(name, '.');
    const bool ours = strncmp(name, "step-", 5) == 0 || strncmp(name, "best-", 5) == 0;
    return ours && end && strcmp(end, ".tmp") == 0;
}

static void remove_if_older(void *user, const char *name) {
    const Cleaning *cleaning = user;
    const int64_t step = step_of(name), best = number_in(name, "best-");
    const bool old = step >= 0 && step < cleaning->oldest_kept;
    const bool beaten = best >= 0 && best != cleaning->best_kept;
    if (!is_half(name) && !old && !beaten) return;
    char path[4096]; // no memory is asked for: what is not removed now would stay
    const int length = snprintf(path, sizeof path, "%s/%s", cleaning->folder, name);
    if (length > 0 && length < (int)sizeof path) hone_file_remove(path);
}

// Keep the last two: the one before stays whole while a new one is written. Of the best only the
// last: who goes on from the checkpoint before comes to it again.
static void remove_older(const Run *run, const char *folder) {
    int64_t keep[2];
    newest(folder, keep);
    Cleaning cleaning = {folder, keep[1], run->progress.best_step};
    hone_directory_each(folder, remove_if_older, &cleaning);
}

// A fresh run into the folder of an old one: the old run's checkpoints are not this run's.
void hone_checkpoint_clear(const Run *run) {
    char *folder = folder_of(run);
    Cleaning cleaning = {folder, INT64_MAX, -1};
    if (folder) hone_directory_each(folder, remove_if_older, &cleaning);
    hone_free(folder);
}

// Any changed bit changes it: each step is one to one in the sum before it.
static uint64_t add_to_sum(uint64_t sum, const void *bytes, size_t length) {
    const uint64_t odd = 0x9E3779B97F4A7C15u;
    const unsigned char *at = bytes;
    for (; length > 0;) {
        uint64_t word = 0;
        const size_t part = length < sizeof word ? length : sizeof word;
        memcpy(&word, at, part);
        sum = (sum ^ word) * odd;
        sum ^= sum >> 32;
        at += part;
        length -= part;
    }
    return sum;
}

// Of a tensor under its name; those of a file are added up in any order.
static uint64_t sum_of(const char *name, const void *bytes, size_t length) {
    return add_to_sum(add_to_sum(length, name, strlen(name)), bytes, length);
}

// The progress in whole numbers, and after it the sum of everything in the file.
enum { PROGRESS = sizeof(Progress) / sizeof(int64_t) };

// The progress, what run it is, the values and, of a checkpoint, the optimiser's state.
static hone_status write_file(const Run *run, const char *path, bool with_state) {
    const Parameters *parameters = &run->parameters;
    int64_t numbers[PROGRESS + 1];
    SafeTensorEntry entries[3 + MOST_STATE_BLOCKS] = {
        {"progress", HONE_I64, 1, {PROGRESS + 1}, numbers},
        {"run", HONE_I8, 1, {(int64_t)run->identity.length}, run->identity.data},
        {"values", HONE_F32, 1, {parameters->count}, parameters->values},
    };
    int64_t entry_count = 3;
    for (int i = 0; with_state && i < parameters->state.count; i++) {
        const StateBlock *block = &parameters->state.block[i];
        entries[entry_count++] =
            (SafeTensorEntry){block->name, block->dtype, 1, {block->count}, block->data};
    }
    memcpy(numbers, &run->progress, sizeof run->progress);
    uint64_t sum = sum_of("progress", numbers, sizeof run->progress);
    for (int i = 1; i < entry_count; i++)
        sum += sum_of(entries[i].name, entries[i].data,
                      hone_dtype_bytes(entries[i].dtype, entries[i].shape[0]));
    numbers[PROGRESS] = (int64_t)sum;
    return hone_safetensors_write(path, entries, entry_count, run->err);
}

hone_status hone_checkpoint_write(Run *run) {
    // A run that goes on from here writes the steps before it no second time.
    RETURN_IF_ERROR(hone_log_sync(&run->metrics, run->err));
    char *folder = folder_of(run);
    char *path = folder ? file_of(folder, run->progress.steps) : NULL;
    hone_status status =
        path ? hone_directory_make(folder, run->err) : hone_fail_memory(run->err, 0, "a path");
    if (status == HONE_OK) status = write_file(run, path, true);
    if (status == HONE_OK) {
        remove_older(run, folder);
        HoneEvent event = {.kind = HONE_EVENT_CHECKPOINT, .as.text = path};
        if (run->sink && !run->sink(run->user, &event)) run->stop = true;
    }
    hone_free(path);
    hone_free(folder);
    return status;
}

static hone_status copy_block(Run *run, const SafeTensorsFile *file, const char *path,
                              const StateBlock *block) {
    const SafeTensor *tensor = hone_safetensors_find(file, block->name);
    if (!tensor || tensor->dtype != block->dtype || tensor->rank != 1 ||
        tensor->shape[0] != block->count)
        return hone_fail(run->err, HONE_ERROR_INPUT,
                         "%s: %s is not %lld %s values: it belongs to another run", path,
                         block->name, (long long)block->count, hone_dtype_name(block->dtype));
    memcpy(block->data, tensor->data, tensor->bytes);
    return HONE_OK;
}

// Whether the checkpoint is this run's.
static hone_status same_run(const Run *run, const SafeTensor *stored, const char *path) {
    TextBuffer told = {0};
    hone_identity_compare(run, stored->data, stored->bytes, &told);
    hone_status status = told.failed ? hone_fail_memory(run->err, told.length, path) : HONE_OK;
    if (status == HONE_OK && told.length > 0)
        status = hone_fail(run->err, HONE_ERROR_ARGUMENT,
                           "%s: is of another run: %s; without other options --resume takes those "
                           "of config.yaml, --resume-changed goes on all the same",
                           path, told.data);
    hone_text_free(&told);
    return status;
}

// What the file says of the run, once every bit in it is known to be as it was written.
static hone_status read_progress(Run *run, const SafeTensorsFile *file, const char *path,
                                 Progress *read) {
    const SafeTensor *progress = hone_safetensors_find(file, "progress");
    int64_t numbers[PROGRESS + 1];
    if (!progress || progress->dtype != HONE_I64 || progress->bytes != sizeof numbers ||
        !hone_safetensors_find(file, "run"))
        return hone_fail(run->err, HONE_ERROR_INPUT,
                         "%s: is not a checkpoint, or one of another version of Hone", path);
    memcpy(numbers, progress->data, sizeof numbers);
    uint64_t sum = sum_of("progress", numbers, sizeof run->progress);
    for (int64_t i = 0; i < file->count; i++) {
        const SafeTensor *tensor = &file->tensors[i];
        if (tensor != progress) sum += sum_of(tensor->name, tensor->data, tensor->bytes);
    }
    if (sum != (uint64_t)numbers[PROGRESS])
        return hone_fail(run->err, HONE_ERROR_INPUT,
                         "%s: its checksum is not that of its values: the file was damaged", path);
    memcpy(read, numbers, sizeof *read);
    return HONE_OK;
}

static hone_status restore(Run *run, const SafeTensorsFile *file, const char *path) {
    const Parameters *parameters = &run->parameters;
    RETURN_IF_ERROR(read_progress(run, file, path, &run->progress));
    if (!run->options.resume_changed)
        RETURN_IF_ERROR(same_run(run, hone_safetensors_find(file, "run"), path));
    if (run->progress.steps < 0 || run->progress.steps > run->step_count)
        return hone_fail(run->err, HONE_ERROR_INPUT, "%s: step %lld of a run of %lld", path,
                         (long long)run->progress.steps, (long long)run->step_count);
    const StateBlock values = {"values", HONE_F32, parameters->count, parameters->values};
    RETURN_IF_ERROR(copy_block(run, file, path, &values));
    for (int i = 0; i < parameters->state.count; i++)
        RETURN_IF_ERROR(copy_block(run, file, path, &parameters->state.block[i]));
    return hone_parameters_norms(run);
}

static hone_status no_checkpoint(const Run *run) {
    if (!hone_is_directory(run->options.resume))
        return hone_fail(run->err, HONE_ERROR_INPUT, "%s: is not the folder of a run to resume",
                         run->options.resume);
    return hone_fail(run->err, HONE_ERROR_INPUT, "%s: has no checkpoint to resume from",
                     run->options.resume);
}

int64_t hone_checkpoint_newest(const char *run_folder) {
    char folder[4096]; // no memory is asked for: without an answer a run would be lost
    int64_t steps[2] = {-1, -1};
    const int length = snprintf(folder, sizeof folder, "%s/checkpoint", run_folder);
    if (length > 0 && length < (int)sizeof folder) newest(folder, steps);
    return steps[0];
}

hone_status hone_checkpoint_check(Run *run) {
    return hone_checkpoint_newest(run->options.resume) >= 0 ? HONE_OK : no_checkpoint(run);
}

// The newest checkpoint that is whole; the one before it when the newest cannot be read.
hone_status hone_checkpoint_resume(Run *run) {
    char *folder = hone_path_join(run->options.resume, "checkpoint");
    if (!folder) return hone_fail_memory(run->err, 0, "a path");
    int64_t steps[2];
    newest(folder, steps);
    hone_status status = steps[0] < 0 ? no_checkpoint(run) : HONE_OK;
    for (int i = 0; i < 2 && steps[i] >= 0; i++) {
        char *path = file_of(folder, steps[i]);
        SafeTensorsFile file;
        hone_error_clear(run->err);
        status = path ? hone_safetensors_open(path, &file, run->err)
                      : hone_fail_memory(run->err, 0, "a path");
        if (status == HONE_OK) {
            status = restore(run, &file, path);
            hone_safetensors_close(&file);
        }
        hone_free(path);
        if (status == HONE_OK || status == HONE_ERROR_ARGUMENT) break;
    }
    hone_free(folder);
    return status;
}

// ---- the best ----------------------------------------------------------------------------------

static char *best_file(const Run *run, const char *run_folder, int64_t step) {
    char *folder = hone_path_join(run_folder, "checkpoint");
    char *path = folder ? named_file(folder, "best-", step) : NULL;
    hone_free(folder);
    if (!path) hone_fail_memory(run->err, 0, "a path");
    return path;
}

hone_status hone_checkpoint_write_best(Run *run) {
    char *folder = folder_of(run);
    char *path = best_file(run, run->options.out, run->progress.best_step);
    hone_status status = folder && path ? hone_directory_make(folder, run->err)
                                        : hone_fail_memory(run->err, 0, "a path");
    if (status == HONE_OK) status = write_file(run, path, false);
    hone_free(path);
    hone_free(folder);
    return status;
}

hone_status hone_checkpoint_take_best(Run *run) {
    const int64_t best = run->progress.best_step;
    char *path = best_file(run, run->options.out, best);
    if (!path) return HONE_ERROR_MEMORY;
    SafeTensorsFile file;
    Progress progress;
    const StateBlock values = {"values", HONE_F32, run->parameters.count, run->parameters.values};
    hone_status status = hone_safetensors_open(path, &file, run->err);
    if (status == HONE_OK) {
        status = read_progress(run, &file, path, &progress);
        if (status == HONE_OK && progress.steps != best)
            status = hone_fail(run->err, HONE_ERROR_INPUT, "%s: holds step %lld, want %lld", path,
                               (long long)progress.steps, (long long)best);
        if (status == HONE_OK) status = copy_block(run, &file, path, &values);
        hone_safetensors_close(&file);
    }
    if (status != HONE_OK)
        hone_fail_in(run->err, "the best weights cannot be read, --resume with --keep last writes "
                               "the last ones");
    hone_free(path);
    return status;
}

hone_status hone_checkpoint_carry_best(Run *run) {
    const int64_t best = run->progress.best_step;
    if (!run->options.keep_best || best == 0) return HONE_OK;
    char *from = best_file(run, run->options.resume, best), *folder = folder_of(run);
    char *to = best_file(run, run->options.out, best), *bytes = NULL;
    size_t length = 0;
    hone_status status = from && to && folder ? HONE_OK : hone_fail_memory(run->err, 0, "a path");
    if (status == HONE_OK && !hone_is_file(to) && hone_is_file(from)) {
        status = hone_file_read(from, &bytes, &length, run->err);
        if (status == HONE_OK) status = hone_directory_make(folder, run->err);
        if (status == HONE_OK) status = hone_file_write(to, bytes, length, run->err);
    }
    hone_free(bytes);
    hone_free(folder);
    hone_free(to);
    hone_free(from);
    return status;
}
