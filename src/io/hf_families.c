// SPDX-License-Identifier: Apache-2.0
// What config.json says of the families that Hone computes.
#include <math.h>
#include <string.h>

#include "io/hf_config.h"

// A number above 0, or null or missing: none, 0.
static hone_status read_optional(const ConfigReading *reading, const char *key, double missing,
                                 double *value) {
    const json_t *found = json_object_get(reading->root, key);
    *value = found ? 0 : missing;
    if (!found || json_is_null(found)) return HONE_OK;
    return hone_hf_read_real(reading, reading->root, key, -1, value);
}

static hone_status check_activation(const ConfigReading *reading) {
    const bool gemma = reading->family->gemma;
    const char *key = gemma ? "hidden_activation" : "hidden_act";
    if (hone_hf_text_is(reading, key, gemma ? "gelu_pytorch_tanh" : "silu")) return HONE_OK;
    if (gemma && json_is_null(json_object_get(reading->root, key))) return HONE_OK;
    return hone_hf_refuse(reading, key,
                          gemma ? "only gelu_pytorch_tanh is computed" : "only silu is computed");
}

static hone_status read_granite(const ConfigReading *reading) {
    static const struct {
        const char *key, *suffix;
    } numbers[] = {{"embedding_multiplier", "embedding_scale"},
                   {"residual_multiplier", "residual_scale"},
                   {"attention_multiplier", "attention.scale"},
                   {"logits_scaling", "logit_scale"}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value;
        RETURN_IF_ERROR(hone_hf_read_real(reading, reading->root, numbers[i].key, 1, &value));
        hone_hf_put_real(reading, numbers[i].suffix, value);
    }
    return HONE_OK;
}

static hone_status read_gemma(const ConfigReading *reading, const HfConfig *config) {
    const bool second = strcmp(reading->family->architecture, "gemma2") == 0;
    double scalar, attention, logits;
    RETURN_IF_ERROR(
        hone_hf_read_real(reading, reading->root, "query_pre_attn_scalar", 256, &scalar));
    RETURN_IF_ERROR(read_optional(reading, "attn_logit_softcapping", second ? 50 : 0, &attention));
    RETURN_IF_ERROR(read_optional(reading, "final_logit_softcapping", second ? 30 : 0, &logits));
    if (hone_hf_flag(reading, "use_bidirectional_attention", false))
        return hone_hf_refuse(reading, "use_bidirectional_attention", "it is not computed");
    // Else GGUF's readers take the head size, but for the largest models.
    if (scalar != (double)config->head_size || config->layers == 46 || config->layers == 62)
        hone_hf_put_real(reading, "attention.scale", 1 / sqrt(scalar));
    if (second || attention > 0) hone_hf_put_real(reading, "attn_logit_softcapping", attention);
    if (second || logits > 0) hone_hf_put_real(reading, "final_logit_softcapping", logits);
    return HONE_OK;
}

// Whether the families that may have biases say so; Qwen 2 has those of q, k and v, and says
// nothing.
static void read_biases(const ConfigReading *reading, HfConfig *config) {
    const char *architecture = reading->family->architecture;
    const bool phi = strcmp(architecture, "phi3") == 0, qwen = strcmp(architecture, "qwen2") == 0;
    const bool attention = !phi && !qwen && hone_hf_flag(reading, "attention_bias", false);
    config->qkv_bias = qwen || attention;
    config->output_bias = attention;
    config->feed_forward_bias = !phi && !qwen && hone_hf_flag(reading, "mlp_bias", false);
}

hone_status hone_hf_read_decoder(const ConfigReading *reading, HfConfig *config) {
    const HfFamily *family = reading->family;
    int64_t width, feed, context;
    double eps;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_hidden_layers", -1, &config->layers));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "hidden_size", -1, &width));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "intermediate_size", -1, &feed));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_attention_heads", -1, &config->heads));
    const json_t *shared = json_object_get(reading->root, "num_key_value_heads");
    const bool own = json_is_null(shared) || family->kv_heads == 0;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "num_key_value_heads",
                                       own ? config->heads : family->kv_heads, &config->kv_heads));
    const int64_t size = family->head_size ? family->head_size : width / config->heads;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "head_dim", size, &config->head_size));
    RETURN_IF_ERROR(
        hone_hf_read_count(reading, "max_position_embeddings", family->context, &context));
    RETURN_IF_ERROR(hone_hf_read_real(reading, reading->root, "rms_norm_eps", family->eps, &eps));
    RETURN_IF_ERROR(check_activation(reading));
    read_biases(reading, config);
    RETURN_IF_ERROR(hone_hf_read_positions(reading, context, config));
    hone_hf_put_sizes(reading, config, context, width, feed);
    hone_hf_put_count(reading, "attention.head_count_kv", config->kv_heads);
    hone_hf_put_count(reading, "attention.key_length", config->head_size);
    hone_hf_put_count(reading, "attention.value_length", config->head_size);
    hone_hf_put_count(reading, "rope.dimension_count", config->rotary);
    hone_hf_put_real(reading, "rope.freq_base", config->base);
    hone_hf_put_real(reading, "attention.layer_norm_rms_epsilon", eps);
    hone_hf_put_count(reading, "vocab_size", config->vocabulary);
    if (strcmp(family->architecture, "granite") == 0) RETURN_IF_ERROR(read_granite(reading));
    if (family->gemma) RETURN_IF_ERROR(read_gemma(reading, config));
    RETURN_IF_ERROR(hone_hf_read_layers(reading, config));
    return family->experts ? hone_hf_read_experts(reading, config->layers) : HONE_OK;
}

hone_status hone_hf_read_gpt2(const ConfigReading *reading, HfConfig *config) {
    int64_t width, feed, context;
    double eps;
    RETURN_IF_ERROR(hone_hf_read_count(reading, "n_layer", -1, &config->layers));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "n_embd", -1, &width));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "n_inner", 4 * width, &feed));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "n_head", -1, &config->heads));
    RETURN_IF_ERROR(hone_hf_read_count(reading, "n_positions", 1024, &context));
    RETURN_IF_ERROR(hone_hf_read_real(reading, reading->root, "layer_norm_epsilon", 1e-5, &eps));
    config->kv_heads = config->heads;
    if (!hone_hf_text_is(reading, "activation_function", "gelu_new") &&
        !hone_hf_text_is(reading, "activation_function", "gelu_pytorch_tanh"))
        return hone_hf_refuse(reading, "activation_function", "only gelu_new is computed");
    if (!hone_hf_flag(reading, "scale_attn_weights", true))
        return hone_hf_refuse(reading, "scale_attn_weights", "only scaled scores are computed");
    if (hone_hf_flag(reading, "scale_attn_by_inverse_layer_idx", false))
        return hone_hf_refuse(reading, "scale_attn_by_inverse_layer_idx", "it is not computed");
    hone_hf_put_sizes(reading, config, context, width, feed);
    hone_hf_put_real(reading, "attention.layer_norm_epsilon", eps);
    return HONE_OK;
}
