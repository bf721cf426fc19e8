// SPDX-License-Identifier: Apache-2.0
// Where a number that is not finite comes from: the weights as they are stored, the trained values,
// a layer's output, a gradient. Looked for only once a loss or a gradient norm has shown it.
#include "train/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int64_t first_not_finite(const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i])) return i;
    return -1;
}

// The first row of a stored tensor that holds such a number, and the number; -1: none, or no memory
// to look.
static int64_t bad_row(const Tensor *tensor, float *value) {
    const int64_t columns = tensor->shape[tensor->rank - 1];
    const int64_t rows = hone_tensor_count(tensor) / columns;
    const size_t row_bytes = hone_dtype_bytes((int)tensor->dtype, columns);
    float *values = hone_alloc((size_t)columns * sizeof *values);
    int64_t found = -1;
    for (int64_t row = 0; values && row < rows && found < 0; row++) {
        hone_dequantise((int)tensor->dtype, (const char *)tensor->data + (size_t)row * row_bytes,
                        values, columns);
        const int64_t at = first_not_finite(values, columns);
        if (at < 0) continue;
        *value = values[at];
        found = row;
    }
    hone_free(values);
    return found;
}

// A trained tensor is told of as such: it may be an adapter's.
static bool tell_trained(const Run *run, char *text, size_t size) {
    const Parameters *parameters = &run->parameters;
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        const float *values = parameters->values + item->offset;
        const int64_t at = first_not_finite(values, item->count);
        if (at < 0) continue;
        snprintf(text, size, "%s, which is trained, holds %g at value %lld", item->name,
                 (double)values[at], (long long)at);
        return true;
    }
    return false;
}

static bool tell_stored(const Run *run, char *text, size_t size) {
    for (int64_t i = 0; i < run->model->slot_count; i++) {
        const ParameterSlot *slot = &run->model->slots[i];
        float value = 0;
        const int64_t row = slot->tensor->data ? bad_row(slot->tensor, &value) : -1;
        if (row < 0) continue;
        snprintf(text, size, "%s of %s holds %g in row %lld", slot->name, run->model->path,
                 (double)value, (long long)row);
        return true;
    }
    return false;
}

// Run forward again and look at what each layer gives.
static bool tell_layer(Run *run, const Example *const *examples, int64_t count, char *text,
                       size_t size) {
    if (count == 0 || run->options.examples.task == HONE_TASK_PAIRS) return false;
    const LossCall call = hone_run_loss_call(run, run->tape);
    BatchLoss result;
    hone_tape_reset(run->tape, false);
    hone_arena_reset(&run->batch_memory);
    hone_tape_watch(run->tape, true);
    const bool classes = run->options.examples.task == HONE_TASK_CLASSIFY;
    const hone_status status = classes ? hone_class_loss(&call, examples, count, 1, &result)
                                       : hone_batch_loss(&call, examples, count, 1, &result);
    const int64_t layer = hone_tape_not_finite(run->tape);
    hone_tape_watch(run->tape, false);
    if (status != HONE_OK || layer < 0) return false;
    snprintf(text, size,
             "all weights are finite, and the output of layer %lld (blk.%lld) is not", // of 0 …
             (long long)layer, (long long)layer);
    return true;
}

void hone_diagnose(Run *run, const Example *const *examples, int64_t count, char *text,
                   size_t size) {
    text[0] = '\0';
    if (tell_trained(run, text, size) || tell_stored(run, text, size) ||
        tell_layer(run, examples, count, text, size))
        return;
    const char *gradient = hone_parameters_not_finite(&run->parameters);
    if (gradient)
        snprintf(text, size, "all weights and layers are finite, the gradient of %s is not",
                 gradient);
}
