// SPDX-License-Identifier: Apache-2.0
// What models with biases are made of, and how their tensors are named and visited.
#include <inttypes.h>
#include <stdio.h>

#include "models/family.h"

Weight hone_make_linear(int64_t out, int64_t in) {
    return (Weight){.base = hone_model_tensor(out, in), .bias = hone_model_tensor(out, 0)};
}

Norm hone_make_norm(int64_t C) {
    return (Norm){hone_model_tensor(C, 0), hone_model_tensor(C, 0)};
}

hone_status hone_check_whole_heads(const ModelConfig *config, HoneError *err) {
    if ((int64_t)config->heads * config->head_size == config->channels &&
        config->kv_heads == config->heads)
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%d heads and %d key/value heads of %d do not make the embedding length "
                     "%" PRId64,
                     config->heads, config->kv_heads, config->head_size, config->channels);
}

hone_status hone_visit_part(const PartVisitor *to, const char *name, const char *kind,
                            Tensor *tensor, Weight *weight, const char *target) {
    char full[96], block[32] = "";
    if (to->number >= 0) snprintf(block, sizeof block, "blk.%d.", to->number);
    snprintf(full, sizeof full, "%s%s%s.%s", to->side ? to->side : "", block, name, kind);
    const ParameterVisit visit = {
        .name = full, .tensor = tensor, .weight = weight, .target = target, .layer = to->layer};
    return to->visit(to->user, &visit, to->err);
}

hone_status hone_visit_linear(const PartVisitor *to, const char *name, const char *target,
                              Weight *weight) {
    RETURN_IF_ERROR(hone_visit_part(to, name, "weight", &weight->base, weight, target));
    return hone_visit_part(to, name, "bias", &weight->bias, NULL, NULL);
}

hone_status hone_visit_norm(const PartVisitor *to, const char *name, Norm *norm) {
    RETURN_IF_ERROR(hone_visit_part(to, name, "weight", &norm->gain, NULL, NULL));
    return hone_visit_part(to, name, "bias", &norm->bias, NULL, NULL);
}
