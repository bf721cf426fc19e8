// SPDX-License-Identifier: Apache-2.0
// What config.json says of a mixture of experts.
#include <string.h>

#include "base/memory.h"
#include "io/hf_config.h"

// Of Qwen 3's layers those in mlp_only_layers have none, and those whose number from 1 is no
// multiple of decoder_sparse_step.
static hone_status read_sparse(const ConfigReading *reading, int64_t layers, bool *sparse) {
    const json_t *dense = json_object_get(reading->root, "mlp_only_layers");
    int64_t step;
    bool all = true, any = false;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "decoder_sparse_step", 1, &step));
    if (dense && !json_is_null(dense) && !json_is_array(dense))
        return hone_hf_refuse(reading, "mlp_only_layers", "an array of numbers is wanted");
    for (int64_t i = 0; i < layers; i++) sparse[i] = (i + 1) % step == 0;
    for (size_t i = 0; i < json_array_size(dense); i++) {
        const json_t *item = json_array_get(dense, i);
        const int64_t layer = json_integer_value(item);
        if (!json_is_integer(item))
            return hone_hf_refuse(reading, "mlp_only_layers", "an array of numbers is wanted");
        if (layer >= 0 && layer < layers) sparse[layer] = false;
    }
    for (int64_t i = 0; i < layers; i++) {
        all = all && sparse[i];
        any = any || sparse[i];
    }
    if (!any)
        return hone_hf_refuse(reading, "mlp_only_layers", "no layer is left that has experts");
    if (!all) hone_hf_put_flags(reading, "expert_layers", sparse, layers);
    return HONE_OK;
}

hone_status hone_hf_read_experts(const ConfigReading *reading, int64_t layers) {
    const bool qwen = strcmp(reading->family->architecture, "qwen3moe") == 0;
    const char *key =
        json_object_get(reading->root, "num_experts") ? "num_experts" : "num_local_experts";
    const json_t *clip = json_object_get(reading->root, "clip_qkv");
    int64_t experts, used;
    RETURN_IF_ERROR(hone_hf_read_count(reading, key, reading->family->experts, &experts));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_experts_per_tok", 8, &used));
    if (experts > GGUF_EXPERTS) return hone_hf_refuse(reading, key, "at most 1024 are computed");
    if (used > experts)
        return hone_hf_refuse(reading, "num_experts_per_tok", "there are not so many experts");
    if (!qwen && clip && !json_is_null(clip))
        return hone_hf_refuse(reading, "clip_qkv", "it is not computed");
    hone_hf_put_count(reading, "expert_count", experts);
    hone_hf_put_count(reading, "expert_used_count", used);
    const bool normalised = hone_hf_flag(reading, "norm_topk_prob", false);
    if (normalised != qwen) hone_hf_put_flag(reading, "expert_weights_norm", normalised);
    if (!qwen) return HONE_OK;
    int64_t size;
    RETURN_IF_ERROR(
        hone_hf_read_count(reading, "moe_intermediate_size", reading->family->expert_size, &size));
    hone_hf_put_count(reading, "expert_feed_forward_length", size);
    bool *sparse = hone_calloc((size_t)layers, sizeof *sparse);
    if (!sparse) return hone_fail_memory(reading->err, (size_t)layers, "layers");
    const hone_status status = read_sparse(reading, layers, sparse);
    hone_free(sparse);
    return status;
}
