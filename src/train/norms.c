// SPDX-License-Identifier: Apache-2.0
// Where gradients vanish or explode: of each layer the norm of its gradient and of its update.
#include <math.h>
#include <string.h>

#include "train/run.h"

// What lies before the layers, each of them, and what lies behind.
static int64_t group_of(const Run *run, const Trainable *item) {
    const int layer = item->slot->layer;
    if (layer >= 0) return 1 + layer;
    const bool embeds = strstr(item->name, "_embd") != NULL; // of tokens, of positions
    return embeds ? 0 : 1 + run->model->config.layers;
}

bool hone_norms_due(const Run *run, int64_t step) {
    const int64_t every = run->options.log_norms;
    return every > 0 && (step % every == 0 || step + 1 == run->step_count);
}

// The gradient's are there without being asked for, at most 200 times a run: report.html draws
// them.
static bool gradients_due(const Run *run, int64_t step) {
    enum { MEASURED_STEPS = 200 };
    const int64_t every = (run->step_count + MEASURED_STEPS - 1) / MEASURED_STEPS;
    return hone_norms_due(run, step) || step % every == 0 || step + 1 == run->step_count;
}

static void put_list(TextBuffer *text, const char *name, const double *squares,
                     const int64_t *values, int64_t count) {
    hone_text_printf(text, ",\"%s\":[", name);
    bool first = true;
    for (int64_t i = 0; i < count; i++) {
        if (values[i] == 0) continue;
        hone_text_printf(text, "%s%.6g", first ? "" : ",", sqrt(squares[i]));
        first = false;
    }
    hone_text_puts(text, "]");
}

static void put_names(TextBuffer *text, const int64_t *values, int64_t count) {
    hone_text_puts(text, ",\"layers\":[");
    bool first = true;
    for (int64_t i = 0; i < count; i++) {
        if (values[i] == 0) continue;
        if (!first) hone_text_puts(text, ",");
        first = false;
        if (i > 0 && i + 1 < count)
            hone_text_printf(text, "\"%lld\"", (long long)(i - 1));
        else
            hone_text_puts(text, i == 0 ? "\"embedding\"" : "\"output\"");
    }
    hone_text_puts(text, "]");
}

hone_status hone_norms_text(Run *run, int64_t step, TextBuffer *text) {
    Parameters *parameters = &run->parameters;
    const KernelContext *kc = &run->context->kernels;
    const bool updates = hone_norms_due(run, step);
    if (!gradients_due(run, step)) return HONE_OK;
    const int64_t groups = run->model->config.layers + 2;
    hone_arena_reset(&run->batch_memory);
    double *gradient = hone_arena_calloc(&run->batch_memory, (size_t)groups, sizeof *gradient);
    double *update = hone_arena_calloc(&run->batch_memory, (size_t)groups, sizeof *update);
    int64_t *values = hone_arena_calloc(&run->batch_memory, (size_t)groups, sizeof *values);
    if (!gradient || !update || !values)
        return hone_fail_memory(run->err, (size_t)groups * 24, "the norms of layers");
    if (updates)
        hone_scaled(kc, parameters->count, -1, parameters->values, true, parameters->kept_values);
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        const int64_t group = group_of(run, item), first = item->offset;
        gradient[group] += hone_sum_of_squares(kc, item->count, parameters->gradient + first);
        if (updates)
            update[group] += hone_sum_of_squares(kc, item->count, parameters->kept_values + first);
        values[group] += item->count;
    }
    put_names(text, values, groups);
    put_list(text, "layer_grad_norm", gradient, values, groups);
    if (updates) put_list(text, "layer_update_norm", update, values, groups);
    return HONE_OK;
}
