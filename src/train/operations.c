// SPDX-License-Identifier: Apache-2.0
// The useful work of a step, counted from shapes: what speeds are a share of and minutes are
// estimated from.
#include <string.h>

#include "train/run.h"

// Of the rows, those that meet the matrix: all, or an expert's share.
static double share_of(const HoneModel *model, const char *name) {
    char stacked[GGUF_NAME];
    int expert;
    const ModelConfig *config = &model->config;
    return hone_gguf_expert(name, stacked, &expert)
               ? (double)config->experts_used / (double)config->experts
               : 1;
}

// 6 a trained value of an adapter and row that meets it. In looking an embedding's rows up only A
// is multiplied.
static double adapter_operations(const Run *run, const StepRange *step) {
    double total = 0;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const Trainable *item = &run->parameters.items[i];
        const char *target = item->slot->target;
        if (item->part == PART_WHOLE && run->options.method != HONE_METHOD_FULL && target &&
            strcmp(target, "embed") != 0) // 2 more than a frozen one's
            total += 2 * (double)item->count *
                     (double)(strcmp(target, "head") == 0 ? step->rows : step->computed) *
                     share_of(run->model, item->slot->name);
        const bool matrix = item->part == PART_A || item->part == PART_B;
        if (!matrix || (strcmp(target, "embed") == 0 && item->part == PART_B)) continue;
        const int64_t rows = strcmp(target, "head") == 0 ? step->rows : step->computed;
        total += 6 * (double)item->count * (double)rows * share_of(run->model, item->slot->name);
    }
    return total;
}

// Meets source tokens: an encoder's matrices, and those that read its output.
static bool meets_source(const ParameterSlot *slot) {
    return strncmp(slot->name, "enc.", 4) == 0 || strstr(slot->name, ".cross_attn_k.") ||
           strstr(slot->name, ".cross_attn_v.");
}

// Of a forward pass alone: 2 a weight, 4 a channel of the queries.
static double forward_operations(const HoneModel *model, const StepRange *step) {
    const ModelConfig *config = &model->config;
    double linear = 0;
    for (int64_t i = 0; i < model->slot_count; i++) {
        const ParameterSlot *slot = &model->slots[i];
        if (slot->target && slot->layer >= 0)
            linear += (double)hone_tensor_count(slot->tensor) * share_of(model, slot->name);
    }
    const double head = (double)config->vocabulary * (double)config->channels;
    const double queries = (double)config->layers * config->heads * config->head_size;
    return 2 * ((double)step->computed * linear + (double)step->rows * head) +
           4 * queries * (double)step->pairs;
}

double hone_reference_operations(const Run *run, const StepRange *step) {
    const ModelConfig *config = &run->model->config;
    const double head =
        2 * (double)step->rows * (double)config->vocabulary * (double)config->channels;
    switch (run->options.loss) {
    case HONE_LOSS_DPO:
        return forward_operations(run->model, step) + head;
    case HONE_LOSS_ORPO:
        return head;
    case HONE_LOSS_DISTILL:
        return forward_operations(run->teacher, step);
    case HONE_LOSS_TOKENS:
        break;
    }
    return 0;
}

// Of what stands on the last hidden states, a row.
static double head_values(const Run *run) {
    const ModelConfig *config = &run->model->config;
    const double C = (double)config->channels;
    if (run->options.examples.task == HONE_TASK_PAIRS) return 0;
    return run->options.examples.task == HONE_TASK_CLASSIFY
               ? C * ((config->pooler ? C : 0) + (double)config->labels)
               : C * (double)config->vocabulary;
}

double hone_step_operations(const Run *run, const StepRange *step) {
    const ModelConfig *config = &run->model->config;
    const bool full = run->options.method == HONE_METHOD_FULL;
    const double weight = full ? 6 : 4;
    double linear = 0, of_sources = 0;
    for (int64_t i = 0; i < run->model->slot_count; i++) {
        const ParameterSlot *slot = &run->model->slots[i];
        if (slot->target && slot->layer >= 0)
            *(meets_source(slot) ? &of_sources : &linear) +=
                (double)hone_tensor_count(slot->tensor) * share_of(run->model, slot->name);
    }
    const double head = head_values(run);
    const double queries = (double)config->heads * config->head_size;
    const int encoder = config->encoder_layers, decoder = config->layers - encoder;
    const double pairs = encoder * (double)step->source_pairs +
                         decoder * ((double)step->pairs + (double)step->cross_pairs);
    return (double)(step->computed - step->sources) * weight * linear +
           (double)step->sources * weight * of_sources + adapter_operations(run, step) +
           (double)step->rows * weight * head + 14 * queries * pairs;
}
