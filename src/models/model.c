// SPDX-License-Identifier: Apache-2.0
#include "models/family.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const ModelFamily *const families[] = {&hone_llama, &hone_gpt2};
enum { FAMILIES = sizeof families / sizeof *families };

// ---- making ------------------------------------------------------------------------------------

static hone_status find_family(const char *architecture, const ModelFamily **family,
                               HoneError *err) {
    char known[256] = "";
    size_t used = 0;
    for (int i = 0; i < FAMILIES; i++) {
        if (strcmp(families[i]->architecture, architecture) == 0) {
            *family = families[i];
            return HONE_OK;
        }
        int length = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                              families[i]->architecture);
        if (length > 0 && used + (size_t)length < sizeof known) used += (size_t)length;
    }
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "the architecture \"%s\" is not supported; supported: %s", architecture,
                     known);
}

static hone_status in_range(const char *what, int64_t value, int64_t least, int64_t most,
                            HoneError *err) {
    if (value >= least && value <= most) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s is %" PRId64 ", which is not between %" PRId64 " and %" PRId64, what,
                     value, least, most);
}

static hone_status check_config(const ModelConfig *config, HoneError *err) {
    RETURN_IF_ERROR(in_range("the number of layers", config->layers, 1, 1 << 16, err));
    RETURN_IF_ERROR(in_range("the number of heads", config->heads, 1, 1 << 16, err));
    RETURN_IF_ERROR(
        in_range("the number of key/value heads", config->kv_heads, 1, config->heads, err));
    RETURN_IF_ERROR(in_range("the head size", config->head_size, 1, 256, err));
    RETURN_IF_ERROR(in_range("the rotary size", config->rotary, 0, config->head_size, err));
    RETURN_IF_ERROR(in_range("the embedding length", config->channels, 1, 1 << 24, err));
    RETURN_IF_ERROR(in_range("the feed-forward length", config->feed_forward, 1, 1 << 24, err));
    RETURN_IF_ERROR(in_range("the vocabulary size", config->vocabulary, 1, 1 << 30, err));
    RETURN_IF_ERROR(in_range("the context length", config->context, 1, 1 << 30, err));
    if (config->heads % config->kv_heads)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%d heads cannot share %d key/value heads: not a multiple", config->heads,
                         config->kv_heads);
    if (config->rotary % 2)
        return hone_fail(err, HONE_ERROR_INPUT, "the rotary size is %d, which is odd",
                         config->rotary);
    if (!(config->norm_eps > 0) || !isfinite(config->norm_eps))
        return hone_fail(err, HONE_ERROR_INPUT, "the norm's epsilon is %g, which is not positive",
                         (double)config->norm_eps);
    if (config->rotary > 0 && (!(config->rope_base > 0) || !isfinite(config->rope_base)))
        return hone_fail(err, HONE_ERROR_INPUT, "the rotary base is %g, which is not positive",
                         (double)config->rope_base);
    return HONE_OK;
}

// frequency[j] = 1 / base^(2j/rotary)
static hone_status make_frequencies(Model *model, HoneError *err) {
    int pairs = model->config.rotary / 2;
    model->frequency = hone_arena_calloc(&model->arena, (size_t)pairs + 1, sizeof(float));
    if (!model->frequency) return hone_fail_memory(err, (size_t)pairs * 4, "rotary frequencies");
    // In float and in this order, as in the programs that trained the published models: another
    // rounding turns far positions by another angle.
    for (int j = 0; j < pairs; j++) {
        float exponent = (float)(2 * j) / (float)model->config.rotary;
        model->frequency[j] = 1.0f / (float)pow((double)model->config.rope_base, (double)exponent);
    }
    return HONE_OK;
}

static hone_status make_checkpoint_flags(Model *model, HoneError *err) {
    const size_t layers = (size_t)model->config.layers;
    model->checkpoint = hone_arena_calloc(&model->arena, layers, sizeof *model->checkpoint);
    return model->checkpoint ? HONE_OK : hone_fail_memory(err, layers, "a model");
}

hone_status hone_model_make(const ModelConfig *config, Model **model, HoneError *err) {
    *model = NULL;
    const ModelFamily *family = NULL;
    RETURN_IF_ERROR(find_family(config->architecture, &family, err));
    RETURN_IF_ERROR(check_config(config, err));
    Model *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a model");
    made->config = *config;
    made->config.architecture = family->architecture;
    made->family = family;
    hone_status status = make_frequencies(made, err);
    if (status == HONE_OK) status = make_checkpoint_flags(made, err);
    if (status == HONE_OK) status = family->make(made, err);
    if (status != HONE_OK) {
        hone_model_destroy(made);
        return status;
    }
    *model = made;
    return HONE_OK;
}

void hone_model_destroy(Model *model) {
    if (!model) return;
    hone_arena_free(&model->arena);
    hone_free(model);
}

void hone_model_set_rope_factors(Model *model, const float *factors) {
    for (int j = 0; j < model->config.rotary / 2; j++) model->frequency[j] /= factors[j];
}

const ModelConfig *hone_model_config(const Model *model) {
    return &model->config;
}

// ---- parameters --------------------------------------------------------------------------------

Tensor hone_model_tensor(int64_t rows, int64_t columns) {
    return (Tensor){.dtype = HONE_F32, .rank = columns ? 2 : 1, .shape = {rows, columns}};
}

static hone_status visit_one(ParameterVisitor visitor, void *user, const char *name, int layer,
                             const ParameterVisit *visit, HoneError *err) {
    char full[96];
    if (layer >= 0)
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    else
        snprintf(full, sizeof full, "%s", name);
    ParameterVisit named = *visit;
    named.name = full;
    named.layer = layer;
    return visitor(user, &named, err);
}

hone_status hone_visit_tensor(ParameterVisitor visitor, void *user, const char *name, int layer,
                              Tensor *tensor, HoneError *err) {
    return visit_one(visitor, user, name, layer, &(ParameterVisit){.tensor = tensor}, err);
}

hone_status hone_visit_weight(ParameterVisitor visitor, void *user, const char *name, int layer,
                              const char *target, Weight *weight, HoneError *err) {
    const ParameterVisit visit = {.tensor = &weight->base, .weight = weight, .target = target};
    return visit_one(visitor, user, name, layer, &visit, err);
}

hone_status hone_model_visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    return model->family->visit(model, visitor, user, err);
}

Weight *hone_model_head(Model *model) {
    return model->family->head(model);
}

// ---- forward -----------------------------------------------------------------------------------

Tensor *hone_run_batch(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    if (batch->tokens < 1 || batch->rows < 1 || batch->rows > batch->tokens)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "%" PRId64 " rows are wanted of a batch of %" PRId64 " tokens",
                                batch->rows, batch->tokens);
    return model->family->forward(model, tape, batch, cache);
}

Tensor *hone_model_forward(Model *model, Tape *tape, const ModelBatch *batch) {
    return hone_run_batch(model, tape, batch, NULL);
}

void hone_model_checkpoint(Model *model, int layer, bool on) {
    model->checkpoint[layer] = on;
}

Tensor *hone_run_layer(const Model *model, Tape *tape, int layer, TapeSegment *run,
                       const void *arguments, size_t bytes, Tensor *x) {
    if (model->checkpoint[layer]) return hone_checkpoint(tape, run, arguments, bytes, x);
    return run(tape, arguments, x);
}

static int64_t keys_of(const ModelBatch *batch, const KeyValueCache *cache) {
    return batch->tokens + (cache ? cache->length : 0);
}

LayerRows hone_all_rows(const ModelBatch *batch, const KeyValueCache *cache) {
    return (LayerRows){.rows = batch->tokens,
                       .position = batch->position,
                       .query_position = batch->position,
                       .path = batch->path,
                       .query_path = batch->path,
                       .visible = {.queries = batch->tokens,
                                   .keys = keys_of(batch, cache),
                                   .begin = batch->begin,
                                   .end = batch->end}};
}

// How many of the rising rows lie before `token`.
static int32_t rows_before(const int32_t *row, int64_t rows, int32_t token) {
    int64_t low = 0, high = rows;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (row[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return (int32_t)low;
}

LayerRows hone_chosen_rows(Tape *tape, const ModelBatch *batch, const KeyValueCache *cache) {
    LayerRows all = hone_all_rows(batch, cache);
    if (!batch->row && batch->rows == batch->tokens) return all;
    int64_t keys = all.visible.keys;
    int32_t *position = hone_tape_host(tape, batch->rows, sizeof *position);
    int32_t *begin = hone_tape_host(tape, keys, sizeof *begin);
    int32_t *end = hone_tape_host(tape, keys, sizeof *end);
    uint64_t *path = batch->path ? hone_tape_host(tape, batch->rows, sizeof *path) : NULL;
    if (position && begin && end && (path || !batch->path) && !hone_tape_dry(tape)) {
        for (int64_t i = 0; i < batch->rows; i++) position[i] = batch->position[batch->row[i]];
        for (int64_t i = 0; i < batch->rows && path; i++) path[i] = batch->path[batch->row[i]];
        for (int64_t j = 0; j < keys && batch->begin; j++) {
            begin[j] = rows_before(batch->row, batch->rows, batch->begin[j]);
            end[j] = rows_before(batch->row, batch->rows, batch->end[j]);
        }
    }
    LayerRows chosen = all;
    chosen.row = batch->row;
    chosen.rows = batch->rows;
    chosen.query_position = position;
    chosen.query_path = path;
    chosen.visible.queries = batch->rows;
    chosen.visible.begin = batch->begin ? begin : NULL;
    chosen.visible.end = batch->begin ? end : NULL;
    return chosen;
}

Tensor *hone_layer_rows(Tape *tape, const LayerRows *rows, Tensor *x) {
    if (!x || rows->rows == x->shape[0]) return x;
    return hone_select_rows(tape, x, rows->row, rows->rows);
}
