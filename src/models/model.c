// SPDX-License-Identifier: Apache-2.0
#include "models/family.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const ModelFamily *const others[] = {&hone_gpt2, &hone_bert, &hone_transformer, &hone_t5};
enum { OTHERS = sizeof others / sizeof *others, FAMILIES = HONE_DECODERS + OTHERS };

static const ModelFamily *family_at(int i) {
    return i < HONE_DECODERS ? &hone_decoders[i] : others[i - HONE_DECODERS];
}

// ---- making ------------------------------------------------------------------------------------

static hone_status find_family(const char *architecture, const ModelFamily **family,
                               HoneError *err) {
    char known[256] = "";
    size_t used = 0;
    for (int i = 0; i < FAMILIES; i++) {
        if (strcmp(family_at(i)->architecture, architecture) == 0) {
            *family = family_at(i);
            return HONE_OK;
        }
        int length = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                              family_at(i)->architecture);
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

// Numbers of a few families, 0 where there is none.
static hone_status check_numbers(const ModelConfig *config, HoneError *err) {
    const struct {
        const char *what;
        float value;
    } numbers[] = {{"the scale of the embedding", config->embedding_scale},
                   {"the scale of what a layer adds", config->residual_scale},
                   {"the scale of the scores", config->attention_scale},
                   {"the scale of the logits", config->logit_scale},
                   {"the soft-cap of the scores", config->attention_softcap},
                   {"the soft-cap of the logits", config->logit_softcap},
                   {"the rotary base of sliding layers", config->rope_base_sliding},
                   {"the magnitude of rotary positions", config->rope_magnitude},
                   {"the factor of rotary positions", config->rope_scaling.factor}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(numbers[i].value >= 0) || !isfinite(numbers[i].value))
            return hone_fail(err, HONE_ERROR_INPUT, "%s is %g, which is no number from 0 up",
                             numbers[i].what, (double)numbers[i].value);
    if (config->window < 0 || (config->window > 0 && !config->slides))
        return hone_fail(err, HONE_ERROR_INPUT, "the window is %d, which no layer can have",
                         config->window);
    const RopeScaling *scaling = &config->rope_scaling;
    if (scaling->factor > 0 && scaling->yarn &&
        !(scaling->original > 0 && scaling->beta_slow > 0 && scaling->beta_fast > 0))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "YaRN's positions have an original context of %g and betas of %g and %g: "
                         "all must be above 0",
                         (double)scaling->original, (double)scaling->beta_fast,
                         (double)scaling->beta_slow);
    return HONE_OK;
}

static hone_status check_config(const ModelConfig *config, HoneError *err) {
    RETURN_IF_ERROR(in_range("the number of layers", config->layers, 1, 1 << 16, err));
    RETURN_IF_ERROR(in_range("the number of encoder layers", config->encoder_layers, 0,
                             config->layers - 1, err));
    RETURN_IF_ERROR(in_range("the number of heads", config->heads, 1, 1 << 16, err));
    RETURN_IF_ERROR(
        in_range("the number of key/value heads", config->kv_heads, 1, config->heads, err));
    RETURN_IF_ERROR(in_range("the head size", config->head_size, 1, 256, err));
    RETURN_IF_ERROR(in_range("the rotary size", config->rotary, 0, config->head_size, err));
    RETURN_IF_ERROR(in_range("the embedding length", config->channels, 1, 1 << 24, err));
    RETURN_IF_ERROR(in_range("the feed-forward length", config->feed_forward, 1, 1 << 24, err));
    if (config->experts != 0) {
        RETURN_IF_ERROR(in_range("the number of experts", config->experts, 1, 1 << 16, err));
        RETURN_IF_ERROR(in_range("the number of experts that a token uses", config->experts_used, 1,
                                 config->experts, err));
        RETURN_IF_ERROR(in_range("the experts' feed-forward length", config->expert_feed_forward, 1,
                                 1 << 24, err));
    }
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
    return check_numbers(config, err);
}

// What is read after the caller's arrays may be gone.
static hone_status copy_flags(Model *model, const bool **flags, HoneError *err) {
    const size_t layers = (size_t)model->config.layers;
    if (!*flags) return HONE_OK;
    bool *copy = hone_arena_calloc(&model->arena, layers, sizeof *copy);
    if (!copy) return hone_fail_memory(err, layers, "a model");
    memcpy(copy, *flags, layers * sizeof *copy);
    *flags = copy;
    return HONE_OK;
}

static hone_status make_checkpoint_flags(Model *model, HoneError *err) {
    const size_t layers = (size_t)model->config.layers;
    model->checkpoint = hone_arena_calloc(&model->arena, layers, sizeof *model->checkpoint);
    return model->checkpoint ? HONE_OK : hone_fail_memory(err, layers, "a model");
}

hone_status hone_model_supported(const char *architecture, HoneError *err) {
    const ModelFamily *family;
    return find_family(architecture, &family, err);
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
    hone_status status = copy_flags(made, &made->config.slides, err);
    if (status == HONE_OK) status = copy_flags(made, &made->config.turns, err);
    if (status == HONE_OK) status = copy_flags(made, &made->config.sparse, err);
    if (status == HONE_OK) status = hone_make_rotations(made, err);
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

bool hone_model_is_encoder(const Model *model) {
    return model->family->encoder;
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
    Weight *head = model->family->head(model);
    if (!model->config.tied_head) return head;
    if (model->head_apart) return &model->tied_head;
    Weight as_now = *head; // with its gradient
    as_now.adapters = model->tied_head.adapters;
    as_now.adapter_count = model->tied_head.adapter_count;
    as_now.gain = model->tied_head.gain;
    model->tied_head = as_now;
    return &model->tied_head;
}

void hone_model_part_head(Model *model) {
    hone_model_head(model);
    model->head_apart = true;
}

// ---- forward -----------------------------------------------------------------------------------

Tensor *hone_run_batch(Model *model, Tape *tape, const ModelBatch *batch, KeyValueCache *cache) {
    if (batch->tokens < 1 || batch->rows < 1 || batch->rows > batch->tokens)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "%" PRId64 " rows are wanted of a batch of %" PRId64 " tokens",
                                batch->rows, batch->tokens);
    if ((batch->source.tokens > 0) != (model->config.encoder_layers > 0))
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "a batch of %" PRId64 " source tokens for %d encoder layers",
                                batch->source.tokens, model->config.encoder_layers);
    if (cache && model->family->encoder)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "%s is an encoder: it has no keys and values to go on from",
                                model->config.architecture);
    return model->family->forward(model, tape, batch, cache);
}

Tensor *hone_model_forward(Model *model, Tape *tape, const ModelBatch *batch) {
    return hone_run_batch(model, tape, batch, NULL);
}

void hone_model_checkpoint(Model *model, int layer, bool on) {
    model->checkpoint[layer] = on;
}

void hone_model_drop(Model *model, Dropout dropout) {
    model->dropout = dropout;
}

Tensor *hone_run_layer(const Model *model, Tape *tape, int layer, TapeSegment *run,
                       const void *arguments, size_t bytes, Tensor *x) {
    Tensor *y = model->checkpoint[layer] ? hone_checkpoint(tape, run, arguments, bytes, x)
                                         : run(tape, arguments, x);
    hone_tape_look(tape, layer, y);
    return y;
}
