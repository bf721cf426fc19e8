// SPDX-License-Identifier: Apache-2.0
// What is trained: adapters beside the stored weights, or f32 masters in their place.
#include "train/run.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hub/cache.h"
#include "tensor/dora.h"

static hone_status add_trainable(Run *run, TrainedPart part, Tensor *tensor, ParameterSlot *slot,
                                 bool decays) {
    static const char *const suffix[] = {"", ".lora_a", ".lora_b", ".lora_magnitude"};
    Parameters *parameters = &run->parameters;
    if (parameters->item_count == parameters->item_capacity) {
        int64_t capacity = parameters->item_capacity ? parameters->item_capacity * 2 : 256;
        Trainable *grown =
            hone_realloc(parameters->items, (size_t)parameters->item_count * sizeof *grown,
                         (size_t)capacity * sizeof *grown);
        if (!grown)
            return hone_fail_memory(run->err, (size_t)capacity * sizeof *grown, "parameters");
        parameters->items = grown;
        parameters->item_capacity = capacity;
    }
    Trainable *item = &parameters->items[parameters->item_count++];
    *item = (Trainable){.tensor = tensor,
                        .slot = slot,
                        .part = part,
                        .offset = parameters->count,
                        .count = hone_tensor_count(tensor),
                        .decays = decays};
    snprintf(item->name, sizeof item->name, "%s%s", slot->name, suffix[part]);
    parameters->count += item->count;
    return HONE_OK;
}

static hone_status allocate_floats(Run *run, float **block, int64_t count, const char *what) {
    *block = hone_calloc((size_t)count, sizeof(float));
    return *block ? HONE_OK : hone_fail_memory(run->err, (size_t)count * sizeof(float), what);
}

// ---- LoRA --------------------------------------------------------------------------------------

// A word for what the matrix is, its own name, or, within the layers, a pattern of names.
static bool entry_names(const char *entry, const ParameterSlot *slot) {
    if (!slot->target) return false;
    if (strcmp(entry, slot->target) == 0 || strcmp(entry, slot->name) == 0) return true;
    return slot->layer >= 0 && strpbrk(entry, "*?[") && fnmatch(entry, slot->name, 0) == 0;
}

// Is this slot one of the targets? *matched is set for each entry that names something known.
static hone_status slot_is_target(Run *run, const ParameterSlot *slot, bool *chosen) {
    const char *list = run->options.targets;
    *chosen = false;
    while (*list) {
        size_t length = strcspn(list, ",");
        char entry[128];
        if (length >= sizeof entry)
            return hone_fail(run->err, HONE_ERROR_ARGUMENT, "--targets: an entry of %zu characters",
                             length);
        memcpy(entry, list, length);
        entry[length] = '\0';
        list += length + (list[length] == ',');
        const bool all = strcmp(entry, "all-linear") == 0 && slot->layer >= 0 && slot->target &&
                         strcmp(slot->target, "router") != 0;
        if (all || entry_names(entry, slot)) *chosen = true;
    }
    return HONE_OK;
}

static hone_status unknown_target(Run *run, const char *entry) {
    TextBuffer words = {0};
    for (int64_t i = 0; i < run->model->slot_count; i++) { // those of the first layer
        const ParameterSlot *slot = &run->model->slots[i];
        const char *last = i > 0 ? run->model->slots[i - 1].target : NULL; // of many experts, one
        if (slot->target && slot->layer == 0 && !(last && strcmp(last, slot->target) == 0))
            hone_text_printf(&words, "%s%s", words.length ? "," : "", slot->target);
    }
    hone_status status =
        hone_fail(run->err, HONE_ERROR_ARGUMENT,
                  "--targets: \"%s\" is neither all-linear, nor one of %s,embed,head, nor a "
                  "pattern of tensor "
                  "names that matches a layer's matrix",
                  entry, words.failed || !words.data ? "the layer's matrices" : words.data);
    hone_text_free(&words);
    return status;
}

// Every entry must be a known word or match a matrix: a misspelt target is not left untrained in
// silence.
static hone_status check_targets(Run *run) {
    const char *list = run->options.targets;
    if (strcmp(list, "all-linear") == 0) return HONE_OK;
    if (!*list) return hone_fail(run->err, HONE_ERROR_ARGUMENT, "--targets: the list is empty");
    while (*list) {
        size_t length = strcspn(list, ",");
        char entry[128];
        snprintf(entry, sizeof entry, "%.*s", (int)length, list);
        list += length + (list[length] == ',');
        bool found = strcmp(entry, "all-linear") == 0;
        const ParameterSlot *slot;
        for (int64_t i = 0; (slot = hone_adaptable_slot(run->model, i)) && !found; i++)
            found = entry_names(entry, slot);
        if (!found) return unknown_target(run, entry);
    }
    return HONE_OK;
}

static Tensor matrix(int64_t rows, int64_t columns) {
    return (Tensor){.dtype = HONE_F32, .rank = 2, .shape = {rows, columns}, .requires_grad = true};
}

static hone_status add_magnitude(Run *run, ParameterSlot *slot, Adapter *adapter) {
    const int64_t out = slot->tensor->shape[0];
    if (strcmp(slot->target, "embed") == 0)
        return hone_fail(run->err, HONE_ERROR_UNSUPPORTED,
                         "--method dora cannot adapt the embedding: leave embed out of --targets, "
                         "or use lora");
    Arena *memory = &run->model->memory;
    double *squares = hone_arena_alloc(memory, (size_t)out * sizeof *squares);
    adapter->gain = hone_arena_alloc(memory, (size_t)out * sizeof *adapter->gain);
    adapter->inverse_norm = hone_arena_alloc(memory, (size_t)out * sizeof *adapter->inverse_norm);
    if (!squares || !adapter->gain || !adapter->inverse_norm)
        return hone_fail_memory(run->err, (size_t)out * sizeof *squares, slot->name);
    hone_row_squares(&run->context->kernels, slot->tensor, squares);
    adapter->magnitude =
        (Tensor){.dtype = HONE_F32, .rank = 1, .shape = {out}, .requires_grad = true};
    RETURN_IF_ERROR(add_trainable(run, PART_MAGNITUDE, &adapter->magnitude, slot, false));
    run->parameters.items[run->parameters.item_count - 1].squares = squares;
    return HONE_OK;
}

static hone_status new_adapter(Run *run, ParameterSlot *slot, int64_t rank, float scale) {
    const int64_t *shape = slot->tensor->shape;
    if (rank > shape[0] && rank > shape[1])
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--rank %lld is more than both sides of %s (%lld, %lld)", (long long)rank,
                         slot->name, (long long)shape[0], (long long)shape[1]);
    Adapter adapter = {.A = matrix(rank, shape[1]), .B = matrix(shape[0], rank), .scale = scale};
    Adapter *added;
    RETURN_IF_ERROR(hone_slot_add_adapter(run->model, slot, adapter, &added));
    RETURN_IF_ERROR(add_trainable(run, PART_A, &added->A, slot, true));
    RETURN_IF_ERROR(add_trainable(run, PART_B, &added->B, slot, true));
    return run->options.method == HONE_METHOD_DORA ? add_magnitude(run, slot, added) : HONE_OK;
}

Adapter *hone_trained_adapter(const Trainable *item) {
    const ParameterSlot *slot = item->slot;
    return item->part == PART_WHOLE ? NULL : &slot->weight->adapters[slot->adapters - 1];
}

hone_status hone_parameters_norms(Run *run) {
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const Trainable *item = &run->parameters.items[i];
        if (item->part != PART_MAGNITUDE) continue;
        const Adapter *adapter = hone_trained_adapter(item);
        const Tensor *W = item->slot->tensor;
        float *norms = adapter->inverse_norm;
        const float *magnitude = adapter->magnitude.data;
        RETURN_IF_ERROR(hone_adapted_norms(&run->context->kernels, W, item->squares, &adapter->A,
                                           &adapter->B, adapter->scale, norms, run->err));
        for (int64_t row = 0; row < W->shape[0]; row++) {
            if (!(norms[row] > 0) || !isfinite(norms[row]))
                return hone_fail(run->err, HONE_ERROR_NUMERIC,
                                 "%s: row %lld with its adapter has the norm %g: DoRA has no "
                                 "direction for it",
                                 item->slot->name, (long long)row, (double)norms[row]);
            adapter->gain[row] = magnitude[row] / norms[row];
            norms[row] = 1 / norms[row];
        }
        if (run->memory.releases)
            hone_file_drop(&run->model->file.map, W->data, hone_tensor_bytes(W));
    }
    return HONE_OK;
}

static void bind_values(Parameters *parameters) {
    for (int64_t i = 0; i < parameters->item_count; i++) {
        Trainable *item = &parameters->items[i];
        Tensor *tensor = item->tensor;
        float *values = parameters->values + item->offset;
        if (item->part == PART_WHOLE)
            hone_dequantise((int)tensor->dtype, tensor->data, values, item->count);
        tensor->dtype = HONE_F32;
        tensor->data = values;
        tensor->requires_grad = true;
    }
}

static hone_status add_whole(Run *run, ParameterSlot *slot) {
    hone_slot_part(run->model, slot);
    return add_trainable(run, PART_WHOLE, slot->tensor, slot, slot->weight != NULL);
}

// A uniform in ±1/√in, for an embedding normal, B zero, a magnitude the row's own norm: the adapted
// model starts as the base (Hu et al. 2021; PEFT's choice).
static void draw_initial(Run *run) {
    Parameters *parameters = &run->parameters;
    for (int64_t i = 0; i < parameters->item_count; i++) {
        const Trainable *A = &parameters->items[i];
        float *values = parameters->values + A->offset;
        for (int64_t j = 0; A->part == PART_MAGNITUDE && j < A->count; j++)
            values[j] = (float)sqrt(A->squares[j]);
        if (A->part != PART_A) continue;
        float bound = 1.0f / sqrtf((float)A->tensor->shape[1]);
        RandomStream stream = hone_random_stream(run->options.seed, RANDOM_INITIAL, (uint64_t)i);
        const bool looked_up = strcmp(A->slot->target, "embed") == 0;
        for (int64_t j = 0; j < A->count; j++)
            values[j] = looked_up ? hone_random_normal(&stream)
                                  : bound * (2.0f * hone_random_uniform(&stream) - 1.0f);
    }
}

static hone_status fresh_adapters(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    if (options->rank == 0) options->rank = 16;
    if (!(options->alpha > 0)) options->alpha = 32;
    RETURN_IF_ERROR(check_targets(run));
    RETURN_IF_ERROR(hone_check_saved(run));
    double root = options->rslora ? sqrt((double)options->rank) : (double)options->rank;
    int first_layer = options->layers > 0 ? run->model->config.layers - options->layers : 0;
    ParameterSlot *slot;
    for (int64_t i = 0; (slot = hone_adaptable_slot(run->model, i)); i++) {
        bool chosen = false;
        if (slot->target && (slot->layer >= first_layer || slot->layer < 0) &&
            !hone_slot_is_saved(run, slot))
            RETURN_IF_ERROR(slot_is_target(run, slot, &chosen));
        if (chosen)
            RETURN_IF_ERROR(new_adapter(run, slot, options->rank, (float)(options->alpha / root)));
    }
    if (run->parameters.item_count == 0)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT, "the targets select nothing to adapt");
    for (int64_t i = 0; (slot = hone_adaptable_slot(run->model, i)); i++)
        if (hone_slot_is_saved(run, slot)) RETURN_IF_ERROR(add_whole(run, slot));
    RETURN_IF_ERROR(
        allocate_floats(run, &run->parameters.values, run->parameters.count, "the adapter"));
    bind_values(&run->parameters);
    draw_initial(run);
    run->adapter = (AdapterSettings){.rank = options->rank,
                                     .alpha = (float)options->alpha,
                                     .dropout = (float)options->dropout,
                                     .rslora = options->rslora};
    return HONE_OK;
}

// What was asked for beside an adapter must be what the adapter has.
static hone_status check_agrees(const Run *run, const AdapterPair *pair) {
    const HoneFinetuneOptions *options = &run->options;
    double root = options->rslora ? sqrt((double)pair->rank) : (double)pair->rank;
    double alpha = (double)pair->scale * root;
    if (options->rank > 0 && options->rank != pair->rank)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "%s: has rank %d, --rank is %d: an adapter keeps its rank",
                         options->adapter, pair->rank, options->rank);
    if (options->alpha > 0 && fabs(options->alpha - alpha) > 1e-4 * alpha)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "%s: scales by %g, which is an alpha of %g, --alpha is %g: an adapter "
                         "keeps its scale",
                         options->adapter, (double)pair->scale, alpha, options->alpha);
    return HONE_OK;
}

// Continue from an adapter: its rank, scale and targets are taken over.
static hone_status continued_adapters(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    AdapterBase base = hone_model_adapter_base(run->model);
    AdapterFile file;
    char *found;
    RETURN_IF_ERROR(hone_hub_resolve(options->adapter, &found, run->err));
    hone_status status = hone_adapter_read(found, &base, &file, run->err);
    hone_free(found);
    RETURN_IF_ERROR(status);
    status = check_agrees(run, &file.pairs[0]);
    if (status == HONE_OK && options->method == HONE_METHOD_DORA && !file.pairs[0].magnitude)
        status = hone_fail(run->err, HONE_ERROR_ARGUMENT,
                           "%s: is a LoRA: --method dora cannot go on from it", options->adapter);
    if (file.pairs[0].magnitude) options->method = HONE_METHOD_DORA; // all of a file are, or none
    for (int64_t i = 0; i < file.count && status == HONE_OK; i++) {
        const AdapterPair *pair = &file.pairs[i];
        ParameterSlot *slot = hone_model_slot(run->model, pair->name);
        if (!slot || !slot->weight || slot->tensor->shape[0] != pair->out ||
            slot->tensor->shape[1] != pair->in)
            status = hone_fail(run->err, HONE_ERROR_INPUT,
                               "%s: adapts %s (%lld, %lld), which the model %s does not have",
                               options->adapter, pair->name, (long long)pair->out,
                               (long long)pair->in, run->model->path);
        else
            status = new_adapter(run, slot, pair->rank, pair->scale);
    }
    for (int64_t i = 0; i < file.whole_count && status == HONE_OK; i++) {
        status = hone_check_whole(run->model, options->adapter, &file.whole[i]);
        if (status == HONE_OK)
            status = add_whole(run, hone_model_slot(run->model, file.whole[i].name));
    }
    if (status == HONE_OK)
        status =
            allocate_floats(run, &run->parameters.values, run->parameters.count, "the adapter");
    if (status == HONE_OK) {
        bind_values(&run->parameters);
        int64_t pair = -1, whole = 0;
        for (int64_t i = 0; i < run->parameters.item_count; i++) {
            const Trainable *item = &run->parameters.items[i];
            pair += item->part == PART_A;
            const AdapterPair *from = &file.pairs[pair];
            const float *values = item->part == PART_WHOLE ? file.whole[whole++].values : NULL;
            const float *const parts[] = {values, from->A, from->B, from->magnitude};
            memcpy(item->tensor->data, parts[item->part], (size_t)item->count * sizeof(float));
        }
        options->rank = file.pairs[0].rank;
        options->alpha = (double)file.pairs[0].scale * options->rank;
        options->rslora = false; // the scale is what it was; alpha/rank says the same
        run->adapter = (AdapterSettings){.rank = options->rank,
                                         .alpha = (float)options->alpha,
                                         .dropout = (float)options->dropout};
    }
    hone_adapter_close(&file);
    return status;
}

// Parted from the embedding a T5's head would no longer have its logits scaled.
static hone_status check_scaled_head(const Run *run) {
    const ModelConfig *config = &run->model->config;
    if (strcmp(config->architecture, "t5") != 0 || !config->tied_head) return HONE_OK;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const char *target = run->parameters.items[i].slot->target;
        if (target && (strcmp(target, "embed") == 0 || strcmp(target, "head") == 0))
            return hone_fail(run->err, HONE_ERROR_UNSUPPORTED,
                             "%s: the head is the embedding and its logits are scaled; an adapter "
                             "of %s would part them",
                             run->model->name, target);
    }
    return HONE_OK;
}

hone_status hone_parameters_lora(Run *run) {
    if (strcmp(run->model->config.architecture, "transformer") == 0)
        return hone_fail(run->err, HONE_ERROR_UNSUPPORTED,
                         "%s is a transformer of 2017, whose matrices have no names that an "
                         "adapter's files could say: --method full",
                         run->model->name);
    RETURN_IF_ERROR(run->options.adapter ? continued_adapters(run) : fresh_adapters(run));
    RETURN_IF_ERROR(check_scaled_head(run));
    for (int64_t i = 0; i < run->parameters.item_count; i++)
        if (run->options.loss == HONE_LOSS_DPO && run->parameters.items[i].part == PART_WHOLE)
            return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                             "--loss dpo measures the base beside the adapter, which %s, trained "
                             "whole, is no longer; --loss orpo needs no such reference",
                             run->parameters.items[i].name);
    hone_parameters_draw_dropout(run, 0); // memory is planned before the first step
    return hone_parameters_norms(run);
}

void hone_parameters_draw_dropout(Run *run, int64_t step) {
    uint32_t words[4];
    hone_philox(run->options.seed, RANDOM_DROPOUT, (uint64_t)step, 0, words);
    if (run->options.method == HONE_METHOD_FULL) {
        const Dropout dropout = {(float)run->options.dropout, (uint64_t)words[0] << 32 | words[1]};
        hone_model_drop(run->model->model, dropout);
        return;
    }
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const Trainable *item = &run->parameters.items[i];
        if (item->part != PART_A) continue;
        Adapter *adapter = hone_trained_adapter(item);
        adapter->dropout = (float)run->options.dropout;
        adapter->dropout_place = (uint32_t)i;
        adapter->dropout_key = (uint64_t)words[0] << 32 | words[1];
    }
}

// ---- full --------------------------------------------------------------------------------------

hone_status hone_parameters_full(Run *run) {
    HoneModel *model = run->model;
    for (int64_t i = 0; i < model->slot_count; i++) {
        ParameterSlot *slot = &model->slots[i];
        RETURN_IF_ERROR(add_trainable(run, PART_WHOLE, slot->tensor, slot, slot->weight != NULL));
    }
    Parameters *parameters = &run->parameters;
    RETURN_IF_ERROR(
        allocate_floats(run, &parameters->values, parameters->count, "the f32 weights"));
    for (int64_t i = 0; i < parameters->item_count; i++) {
        Trainable *item = &parameters->items[i];
        Tensor *tensor = item->tensor;
        float *values = parameters->values + item->offset;
        hone_dequantise(tensor->dtype, tensor->data, values, item->count);
        hone_file_drop(&model->file.map, tensor->data, hone_tensor_bytes(tensor));
        tensor->dtype = HONE_F32;
        tensor->data = values;
        tensor->requires_grad = true;
    }
    hone_parameters_draw_dropout(run, 0); // memory is planned before the first step
    return HONE_OK;
}

// ---- state -------------------------------------------------------------------------------------

hone_status hone_parameters_allocate_state(Run *run) {
    Parameters *parameters = &run->parameters;
    int64_t count = parameters->count;
    RETURN_IF_ERROR(allocate_floats(run, &parameters->gradient, count, "the gradients"));
    RETURN_IF_ERROR(hone_optimizer_allocate(run));
    RETURN_IF_ERROR(hone_penalty_allocate(run));
    int64_t leaves = run->options.accumulate;
    for (int level = 0; leaves > 1 && level < 32 && ((int64_t)1 << level) <= leaves; level++)
        RETURN_IF_ERROR(
            allocate_floats(run, &parameters->partial[level], count, "a partial gradient"));
    for (int64_t i = 0; i < parameters->item_count; i++) {
        Trainable *item = &parameters->items[i];
        item->tensor->grad = parameters->gradient + item->offset;
    }
    return HONE_OK;
}

void hone_parameters_free_state(Parameters *parameters) {
    for (int64_t i = 0; parameters->gradient && i < parameters->item_count; i++)
        parameters->items[i].tensor->grad = NULL;
    hone_free(parameters->gradient);
    hone_free(parameters->kept_gradient);
    hone_optimizer_free(&parameters->state);
    for (int level = 0; level < 32; level++) hone_free(parameters->partial[level]);
    parameters->gradient = parameters->kept_gradient = NULL;
    memset(parameters->partial, 0, sizeof parameters->partial);
}

void hone_parameters_free(Parameters *parameters) {
    hone_parameters_free_state(parameters);
    hone_free(parameters->items);
    hone_free(parameters->values);
    hone_free(parameters->kept_values);
    *parameters = (Parameters){0};
}

// The leaf's gradient lies in `gradient`. Carry it up the counter: a full level is added to and
// emptied, until an empty one takes the sum. Which sums are formed depends on leaf numbers alone.
void hone_gradient_leaf_done(const KernelContext *kc, Parameters *parameters) {
    int level = 0;
    while (parameters->partial_full[level]) {
        hone_accumulate(kc, parameters->count, parameters->partial[level], parameters->gradient);
        parameters->partial_full[level] = false;
        level++;
    }
    memcpy(parameters->partial[level], parameters->gradient,
           (size_t)parameters->count * sizeof(float));
    parameters->partial_full[level] = true;
}

void hone_gradient_sum(const KernelContext *kc, Parameters *parameters) {
    hone_fill(kc, parameters->count, 0.0f, parameters->gradient);
    for (int level = 0; level < 32; level++) {
        if (!parameters->partial_full[level]) continue;
        hone_accumulate(kc, parameters->count, parameters->partial[level], parameters->gradient);
        parameters->partial_full[level] = false;
    }
}

const char *hone_parameters_not_finite(const Parameters *parameters) {
    for (int64_t i = 0; parameters->gradient && i < parameters->item_count; i++) {
        const Trainable *item = &parameters->items[i];
        const float *gradient = parameters->gradient + item->offset;
        for (int64_t j = 0; j < item->count; j++)
            if (!isfinite(gradient[j])) return item->name;
    }
    return NULL;
}
