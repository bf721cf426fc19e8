// SPDX-License-Identifier: Apache-2.0
#include "models/family.h"

static Weight linear(int64_t out, int64_t in) {
    return (Weight){.base = hone_model_tensor(out, in), .bias = hone_model_tensor(out, 0)};
}

hone_status hone_heads_make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels;
    if (config->labels < 0 || config->labels > 1 << 20)
        return hone_fail(err, HONE_ERROR_INPUT, "%lld labels are not between 0 and %d",
                         (long long)config->labels, 1 << 20);
    EncoderHeads *heads = model->heads = hone_arena_calloc(&model->arena, 1, sizeof *heads);
    if (!heads) return hone_fail_memory(err, sizeof *heads, "a model");
    if (config->pooler) heads->pooler = linear(C, C);
    if (config->labels > 0) heads->classifier = linear(config->labels, C);
    if (!config->mask_head) return HONE_OK;
    heads->mask_dense = linear(C, C);
    heads->mask_gain = heads->mask_norm_bias = hone_model_tensor(C, 0);
    heads->mask_bias = hone_model_tensor(config->vocabulary, 0);
    return HONE_OK;
}

static hone_status visit_linear(ParameterVisitor visitor, void *user, const char *name,
                                const char *bias, const char *target, Weight *weight,
                                HoneError *err) {
    if (weight->base.rank == 0) return HONE_OK;
    RETURN_IF_ERROR(hone_visit_weight(visitor, user, name, -1, target, weight, err));
    return hone_visit_tensor(visitor, user, bias, -1, &weight->bias, err);
}

hone_status hone_heads_visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    EncoderHeads *heads = model->heads;
    RETURN_IF_ERROR(
        visit_linear(visitor, user, "cls.weight", "cls.bias", "pooler", &heads->pooler, err));
    RETURN_IF_ERROR(visit_linear(visitor, user, "cls.output.weight", "cls.output.bias",
                                 "classifier", &heads->classifier, err));
    if (!model->config.mask_head) return HONE_OK;
    RETURN_IF_ERROR(visit_linear(visitor, user, "mask.dense.weight", "mask.dense.bias", "mask",
                                 &heads->mask_dense, err));
    RETURN_IF_ERROR(
        hone_visit_tensor(visitor, user, "mask.norm.weight", -1, &heads->mask_gain, err));
    RETURN_IF_ERROR(
        hone_visit_tensor(visitor, user, "mask.norm.bias", -1, &heads->mask_norm_bias, err));
    return hone_visit_tensor(visitor, user, "mask.bias", -1, &heads->mask_bias, err);
}
