// SPDX-License-Identifier: Apache-2.0
#include "models/family.h"

hone_status hone_heads_make(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels;
    if (config->labels < 0 || config->labels > 1 << 20)
        return hone_fail(err, HONE_ERROR_INPUT, "%lld labels are not between 0 and %d",
                         (long long)config->labels, 1 << 20);
    EncoderHeads *heads = model->heads = hone_arena_calloc(&model->arena, 1, sizeof *heads);
    if (!heads) return hone_fail_memory(err, sizeof *heads, "a model");
    if (config->pooler) heads->pooler = hone_make_linear(C, C);
    if (config->labels > 0) heads->classifier = hone_make_linear(config->labels, C);
    if (!config->mask_head) return HONE_OK;
    heads->mask_dense = hone_make_linear(C, C);
    heads->mask_norm = hone_make_norm(C);
    heads->mask_bias = hone_model_tensor(config->vocabulary, 0);
    return HONE_OK;
}

hone_status hone_heads_visit(Model *model, ParameterVisitor visitor, void *user, HoneError *err) {
    EncoderHeads *heads = model->heads;
    const ModelConfig *config = &model->config;
    const PartVisitor to = {visitor, user, NULL, -1, -1, err};
    if (config->pooler) RETURN_IF_ERROR(hone_visit_linear(&to, "cls", "pooler", &heads->pooler));
    if (config->labels > 0)
        RETURN_IF_ERROR(hone_visit_linear(&to, "cls.output", "classifier", &heads->classifier));
    if (!config->mask_head) return HONE_OK;
    RETURN_IF_ERROR(hone_visit_linear(&to, "mask.dense", "mask", &heads->mask_dense));
    RETURN_IF_ERROR(hone_visit_norm(&to, "mask.norm", &heads->mask_norm));
    return hone_visit_part(&to, "mask", "bias", &heads->mask_bias, NULL, NULL);
}

// tanh(x) is the soft-cap of 1.
Tensor *hone_model_pool(Model *model, Tape *tape, Tensor *x, const uint64_t *path) {
    if (model->config.pooler)
        x = hone_softcap(tape, 1, hone_linear(tape, &model->heads->pooler, x, path));
    const uint32_t place = 2 * (uint32_t)model->config.layers + 1; // behind the layers'
    return hone_dropout(tape, model->dropout, place, path, x);
}

Weight *hone_model_classifier(Model *model) {
    return &model->heads->classifier;
}
