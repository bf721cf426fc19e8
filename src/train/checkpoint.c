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

// The number in "step-000123.safetensors", -1 for another name.
static int64_t step_of(const char *name) {
    char tail[32] = "";
    long long step;
    if (sscanf(name, "step-%lld%31s", &step, tail) != 2 || step < 0) return -1;
    return strcmp(tail, ".safetensors") == 0 ? step : -1;
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

static char *file_of(const char *folder, int64_t step) {
    char name[64];
    snprintf(name, sizeof name, "step-%06lld.safetensors", (long long)step);
    return hone_path_join(folder, name);
}

typedef struct Cleaning {
    const char *folder;
    int64_t oldest_kept;
} Cleaning;

static void remove_if_older(void *user, const char *name) {
    const Cleaning *cleaning = user;
    int64_t step = step_of(name);
    if (step < 0 || step >= cleaning->oldest_kept) return;
    char *path = hone_path_join(cleaning->folder, name);
    if (path) hone_file_remove(path);
    hone_free(path);
}

// Keep the last two: the one before stays whole while a new one is written.
static void remove_older(const char *folder) {
    int64_t keep[2];
    newest(folder, keep);
    Cleaning cleaning = {folder, keep[1]};
    hone_directory_each(folder, remove_if_older, &cleaning);
}

// A fresh run into the folder of an old one: the old run's checkpoints are not this run's.
void hone_checkpoint_clear(const Run *run) {
    char *folder = folder_of(run);
    Cleaning cleaning = {folder, INT64_MAX};
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

// Of what a run goes on with.
static int64_t checksum(const Parameters *parameters, int64_t step, double loss_first) {
    uint64_t sum = add_to_sum((uint64_t)step, &loss_first, sizeof loss_first);
    sum = add_to_sum(sum, parameters->values, (size_t)parameters->count * sizeof(float));
    for (int i = 0; i < parameters->state.count; i++) {
        const StateBlock *block = &parameters->state.block[i];
        sum = add_to_sum(sum, block->data, hone_dtype_bytes(block->dtype, block->count));
    }
    return (int64_t)sum;
}

hone_status hone_checkpoint_write(Run *run, int64_t steps_done) {
    const Parameters *parameters = &run->parameters;
    int64_t progress[4] = {steps_done, (int64_t)run->fingerprint, run->step_count,
                           checksum(parameters, steps_done, run->loss_first)};
    double losses[1] = {run->loss_first};
    int64_t loss_bits;
    memcpy(&loss_bits, &losses[0], sizeof loss_bits);
    SafeTensorEntry entries[3 + MOST_STATE_BLOCKS] = {
        {"progress", HONE_I64, 1, {4}, progress},
        {"held_out_before", HONE_I64, 1, {1}, &loss_bits},
        {"values", HONE_F32, 1, {parameters->count}, parameters->values},
    };
    int64_t entry_count = 3;
    for (int i = 0; i < parameters->state.count; i++) {
        const StateBlock *block = &parameters->state.block[i];
        entries[entry_count++] =
            (SafeTensorEntry){block->name, block->dtype, 1, {block->count}, block->data};
    }
    char *folder = folder_of(run);
    char *path = folder ? file_of(folder, steps_done) : NULL;
    hone_status status =
        path ? hone_directory_make(folder, run->err) : hone_fail_memory(run->err, 0, "a path");
    if (status == HONE_OK) status = hone_safetensors_write(path, entries, entry_count, run->err);
    if (status == HONE_OK) {
        remove_older(folder);
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

static hone_status restore(Run *run, const SafeTensorsFile *file, const char *path,
                           int64_t *steps_done) {
    const SafeTensor *tensor = hone_safetensors_find(file, "progress");
    const SafeTensor *before = hone_safetensors_find(file, "held_out_before");
    int64_t progress[4];
    if (!tensor || tensor->dtype != HONE_I64 || tensor->bytes != sizeof progress || !before ||
        before->bytes != sizeof(double))
        return hone_fail(run->err, HONE_ERROR_INPUT, "%s: is not a checkpoint of Hone", path);
    memcpy(progress, tensor->data, sizeof progress);
    memcpy(&run->loss_first, before->data, sizeof run->loss_first);
    if ((uint64_t)progress[1] != run->fingerprint)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "%s: the run was started with another model, other data or other options; "
                         "config.yaml beside checkpoint/ holds them",
                         path);
    if (progress[0] < 0 || progress[0] > run->step_count)
        return hone_fail(run->err, HONE_ERROR_INPUT, "%s: step %lld of a run of %lld", path,
                         (long long)progress[0], (long long)run->step_count);
    const Parameters *parameters = &run->parameters;
    const StateBlock values = {"values", HONE_F32, parameters->count, parameters->values};
    RETURN_IF_ERROR(copy_block(run, file, path, &values));
    for (int i = 0; i < parameters->state.count; i++)
        RETURN_IF_ERROR(copy_block(run, file, path, &parameters->state.block[i]));
    if (checksum(parameters, progress[0], run->loss_first) != progress[3])
        return hone_fail(run->err, HONE_ERROR_INPUT,
                         "%s: its checksum is not that of its values: the file was damaged", path);
    *steps_done = progress[0];
    return HONE_OK;
}

static hone_status no_checkpoint(const Run *run) {
    if (!hone_is_directory(run->options.resume))
        return hone_fail(run->err, HONE_ERROR_INPUT, "%s: is not the folder of a run to resume",
                         run->options.resume);
    return hone_fail(run->err, HONE_ERROR_INPUT, "%s: has no checkpoint to resume from",
                     run->options.resume);
}

hone_status hone_checkpoint_check(Run *run) {
    char *folder = hone_path_join(run->options.resume, "checkpoint");
    if (!folder) return hone_fail_memory(run->err, 0, "a path");
    int64_t steps[2];
    newest(folder, steps);
    hone_free(folder);
    return steps[0] >= 0 ? HONE_OK : no_checkpoint(run);
}

// The newest checkpoint that is whole; the one before it when the newest cannot be read.
hone_status hone_checkpoint_resume(Run *run, int64_t *steps_done) {
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
            status = restore(run, &file, path, steps_done);
            hone_safetensors_close(&file);
        }
        hone_free(path);
        if (status == HONE_OK || status == HONE_ERROR_ARGUMENT) break;
    }
    hone_free(folder);
    return status;
}
