// SPDX-License-Identifier: Apache-2.0
// The useful work of a step, counted from shapes: what speeds are a share of and minutes are
// estimated from.
#include "train/run.h"

double hone_step_operations(const Run *run, const StepRange *step) {
    const ModelConfig *config = &run->model->config;
    const bool full = run->options.method == HONE_METHOD_FULL;
    const double weight = full ? 6 : 4;
    double linear = 0;
    for (int64_t i = 0; i < run->model->slot_count; i++) {
        const ParameterSlot *slot = &run->model->slots[i];
        if (slot->target && slot->layer >= 0) linear += (double)hone_tensor_count(slot->tensor);
    }
    double head = (double)config->vocabulary * (double)config->channels;
    double adapters = full ? 0 : 6 * (double)run->parameters.count;
    double queries = (double)config->layers * config->heads * config->head_size;
    return (double)step->computed * (weight * linear + adapters) +
           (double)step->rows * weight * head + 14 * queries * (double)step->pairs;
}
