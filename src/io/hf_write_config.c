// SPDX-License-Identifier: Apache-2.0
// config.json of a model that is in a GGUF file.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/hf_parts.h"
#include "io/hf_write_parts.h"

// ---- positions ---------------------------------------------------------------------------------

// Llama 3.1's scaled positions from their factors (hone_hf_rope_factors); *scaled false: plain.
// Of its four numbers three are the same in all that were published.
static hone_status positions_of(const GgufFile *file, const HfModel *model, HfConfig *config,
                                HoneError *err) {
    const GgufTensor *stored = hone_gguf_tensor(file, "rope_freqs.weight");
    *config = (HfConfig){.head_size = model->head_size, .base = model->rope_base};
    if (model->rotary != model->head_size && !strstr("gpt2 phi3", model->architecture))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: positions turn %lld of %lld channels, which config.json cannot say",
                         file->map.path, (long long)model->rotary, (long long)model->head_size);
    if (!stored) return HONE_OK;
    const int64_t half = model->head_size / 2;
    float *made = hone_alloc((size_t)half * sizeof *made + 1);
    if (!made) return hone_fail_memory(err, (size_t)half * sizeof *made, stored->name);
    const float *given = stored->data;
    bool same = false;
    if (stored->dtype == HONE_F32 && stored->rank == 1 && stored->shape[0] == half && half > 0) {
        config->scaled = true;
        config->low = 1;
        config->high = 4;
        config->factor = (double)given[half - 1];
        for (config->original = 16; config->original <= 1 << 24 && !same; config->original *= 2) {
            hone_hf_rope_factors(config, made);
            same = true;
            for (int64_t i = 0; i < half && same; i++)
                same = fabsf(made[i] - given[i]) <= 1e-5f * made[i];
            if (same) break;
        }
    }
    hone_free(made);
    if (same) return HONE_OK;
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: rope_freqs.weight scales positions in a way that config.json has no "
                     "words for",
                     file->map.path);
}

// ---- config.json -------------------------------------------------------------------------------

const char *hone_hf_dtype_word(int dtype) {
    return dtype == HONE_F32 ? "float32" : dtype == HONE_F16 ? "float16" : "bfloat16";
}

// The shortest decimals that a float comes back from: 1e-05, not 9.99999975e-06; 10000.0.
void hone_hf_write_real(TextBuffer *json, const char *indent, const char *key, double value) {
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if ((float)strtod(text, NULL) == (float)value) break;
    }
    if (value == floor(value) && fabs(value) < 1e15) snprintf(text, sizeof text, "%.1f", value);
    hone_text_printf(json, ",\n%s\"%s\": %s%s", indent, key, text,
                     strpbrk(text, ".e") ? "" : ".0"); // transformers wants a float
}

static void put_int(TextBuffer *json, const char *key, int64_t value) {
    hone_text_printf(json, ",\n  \"%s\": %lld", key, (long long)value);
}

static void put_role(TextBuffer *json, const char *key, int64_t id) {
    if (id >= 0) put_int(json, key, id);
}

static void put_bool(TextBuffer *json, const char *key, bool value) {
    hone_text_printf(json, ",\n  \"%s\": %s", key, value ? "true" : "false");
}

// A number, or null for 0.
static void put_optional(TextBuffer *json, const char *key, double value) {
    if (value > 0)
        hone_hf_write_real(json, "  ", key, value);
    else
        hone_text_printf(json, ",\n  \"%s\": null", key);
}

static bool is_one_of(const HfModel *model, const char *architectures) {
    return strstr(architectures, model->architecture) != NULL;
}

static void put_list(TextBuffer *json, const char *key, const GgufTensor *tensor) {
    const float *values = tensor->data;
    hone_text_printf(json, ",\n    \"%s\": [", key);
    for (int64_t i = 0; i < tensor->shape[0]; i++)
        hone_text_printf(json, "%s%.9g", i ? ", " : "", (double)values[i]);
    hone_text_puts(json, "]");
}

static void put_scaling(TextBuffer *json, const GgufFile *file, const HfModel *model,
                        const HfConfig *positions) {
    const GgufTensor *brief = hone_gguf_tensor(file, "rope_factors_short.weight");
    const GgufTensor *far = hone_gguf_tensor(file, "rope_factors_long.weight");
    const char *type = positions->scaled ? "llama3"
                       : brief           ? "longrope"
                       : model->yarn     ? "yarn"
                                         : "linear";
    hone_hf_write_real(json, "  ", "rope_theta", model->rope_base);
    if (!positions->scaled && !brief && !(model->rope_factor > 0)) {
        hone_text_puts(json, ",\n  \"rope_scaling\": null");
        return;
    }
    hone_text_printf(json, ",\n  \"rope_scaling\": {\n    \"rope_type\": \"%s\"", type);
    if (brief && far) {
        put_list(json, "short_factor", brief);
        put_list(json, "long_factor", far);
        hone_hf_write_real(json, "    ", "attention_factor", model->rope_magnitude);
    } else {
        hone_hf_write_real(json, "    ", "factor",
                           positions->scaled ? positions->factor : model->rope_factor);
    }
    if (positions->scaled) {
        hone_hf_write_real(json, "    ", "low_freq_factor", positions->low);
        hone_hf_write_real(json, "    ", "high_freq_factor", positions->high);
    }
    if (model->yarn) {
        hone_hf_write_real(json, "    ", "beta_fast", model->beta_fast);
        hone_hf_write_real(json, "    ", "beta_slow", model->beta_slow);
        hone_hf_write_real(json, "    ", "attention_factor", model->rope_magnitude);
    }
    const double original = positions->scaled ? positions->original : model->original;
    if (positions->scaled || brief || model->yarn)
        hone_text_printf(json, ",\n    \"original_max_position_embeddings\": %lld",
                         (long long)original);
    hone_text_puts(json, "\n  }");
}

static void put_layers(TextBuffer *json, const HfModel *model) {
    if (is_one_of(model, "smollm3 qwen2 qwen3 qwen3moe"))
        put_bool(json, "use_sliding_window", model->window > 0);
    if (is_one_of(model, "gemma2 gemma3") || model->window > 0)
        put_int(json, "sliding_window", model->window > 0 ? model->window : model->context);
    else if (is_one_of(model, "phi3 smollm3"))
        hone_text_puts(json, ",\n  \"sliding_window\": null");
    if (model->window > 0 && is_one_of(model, "smollm3 qwen2 qwen3 gemma2 gemma3")) {
        hone_text_puts(json, ",\n  \"layer_types\": [");
        for (int64_t i = 0; i < model->layers; i++)
            hone_text_printf(json, "%s\"%s_attention\"", i ? ", " : "",
                             model->slides[i] ? "sliding" : "full");
        hone_text_puts(json, "]");
    }
    if (!is_one_of(model, "smollm3")) return;
    hone_text_puts(json, ",\n  \"no_rope_layers\": [");
    for (int64_t i = 0; i < model->layers; i++)
        hone_text_printf(json, "%s%d", i ? ", " : "", !model->turns || model->turns[i]);
    hone_text_puts(json, "]");
}

static void put_experts(TextBuffer *json, const HfModel *model) {
    if (model->experts == 0) return;
    put_int(json, "num_experts", model->experts);
    put_int(json, "num_experts_per_tok", model->experts_used);
    put_bool(json, "norm_topk_prob", model->experts_normalised);
    if (!is_one_of(model, "qwen3moe")) return;
    put_int(json, "moe_intermediate_size", model->expert_size);
    put_int(json, "decoder_sparse_step", 1);
    hone_text_puts(json, ",\n  \"mlp_only_layers\": [");
    const char *comma = "";
    for (int64_t i = 0; i < model->layers && model->sparse; i++)
        if (!model->sparse[i]) {
            hone_text_printf(json, "%s%lld", comma, (long long)i);
            comma = ", ";
        }
    hone_text_puts(json, "]");
}

static void put_numbers(TextBuffer *json, const HfModel *model) {
    const double usual = 1 / sqrt((double)model->head_size);
    const double scale = model->attention_scale > 0 ? model->attention_scale : usual;
    if (is_one_of(model, "granite")) {
        const double e = model->embedding_scale, r = model->residual_scale, s = model->logit_scale;
        hone_hf_write_real(json, "  ", "embedding_multiplier", e > 0 ? e : 1);
        hone_hf_write_real(json, "  ", "residual_multiplier", r > 0 ? r : 1);
        hone_hf_write_real(json, "  ", "attention_multiplier", scale);
        hone_hf_write_real(json, "  ", "logits_scaling", s > 0 ? 1 / s : 1);
    }
    if (!is_one_of(model, "gemma2 gemma3")) return;
    put_int(json, "query_pre_attn_scalar", llround(1 / (scale * scale)));
    put_optional(json, "attn_logit_softcapping", model->attention_softcap);
    put_optional(json, "final_logit_softcapping", model->logit_softcap);
    if (model->sliding_base > 0)
        hone_hf_write_real(json, "  ", "rope_local_base_freq", model->sliding_base);
}

static void put_decoder(TextBuffer *json, const GgufFile *file, const HfModel *model,
                        const HfConfig *positions) {
    const HfFamily *family = hone_hf_family_of(model->architecture);
    const bool mistral = strcmp(model->architecture, "llama") == 0 && model->window > 0;
    hone_text_printf(json, "{\n  \"architectures\": [\n    \"%s\"\n  ],\n  \"model_type\": \"%s\"",
                     mistral ? "MistralForCausalLM" : family->class_name,
                     mistral ? "mistral" : family->model_type);
    if (!mistral && !is_one_of(model, "phi3 qwen2"))
        put_bool(json, "attention_bias", model->qkv_bias);
    if (!mistral && is_one_of(model, "llama granite smollm3"))
        put_bool(json, "mlp_bias", model->feed_forward_bias);
    hone_text_puts(json, family->gemma ? ",\n  \"hidden_activation\": \"gelu_pytorch_tanh\""
                                       : ",\n  \"hidden_act\": \"silu\"");
    put_int(json, "hidden_size", model->width);
    const bool small = is_one_of(model, "olmoe"); // it has no other feed-forward
    put_int(json, "intermediate_size", small ? model->expert_size : model->feed_forward);
    put_int(json, "num_hidden_layers", model->layers);
    put_int(json, "num_attention_heads", model->heads);
    put_int(json, "num_key_value_heads", model->kv_heads);
    if (!is_one_of(model, "granite") || model->head_size * model->heads != model->width)
        put_int(json, "head_dim", model->head_size);
    put_int(json, "max_position_embeddings", model->context);
    if (is_one_of(model, "phi3") && model->rotary != model->head_size)
        hone_hf_write_real(json, "  ", "partial_rotary_factor",
                           (double)model->rotary / (double)model->head_size);
    if (is_one_of(model, "phi3") && model->original > 0)
        put_int(json, "original_max_position_embeddings", (int64_t)model->original);
    hone_hf_write_real(json, "  ", "rms_norm_eps", model->norm_eps);
    put_layers(json, model);
    put_numbers(json, model);
    put_experts(json, model);
    put_scaling(json, file, model, positions);
}

// transformers wants a whole number for Gemma's scale of the scores.
static hone_status check_scale(const GgufFile *file, const HfModel *model, HoneError *err) {
    const double scale = model->attention_scale, scalar = 1 / (scale * scale);
    if (scale == 0 || !is_one_of(model, "gemma2 gemma3") ||
        fabs(scalar - (double)llround(scalar)) <= 1e-5 * scalar)
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: scores are scaled by %g, which is 1/√n of no whole n: config.json has no "
                     "words for it",
                     file->map.path, scale);
}

// Qwen's mixtures have a window in every layer, or none.
static hone_status check_windows(const GgufFile *file, const HfModel *model, HoneError *err) {
    if (strcmp(model->architecture, "qwen3moe") != 0 || model->window == 0) return HONE_OK;
    for (int64_t i = 0; i < model->layers; i++)
        if (!model->slides[i])
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: layer %lld has no window and others have: config.json of a "
                             "qwen3moe model has no words for it",
                             file->map.path, (long long)i);
    return HONE_OK;
}

// Biases that transformers' families do not have in this mixture would be lost.
static hone_status check_biases(const GgufFile *file, const HfModel *model, HoneError *err) {
    const bool mistral = strcmp(model->architecture, "llama") == 0 && model->window > 0;
    const bool qwen = strcmp(model->architecture, "qwen2") == 0;
    const bool attention = !qwen && !mistral && !is_one_of(model, "phi3 gpt2");
    const bool feed = !mistral && is_one_of(model, "llama granite smollm3");
    if (strcmp(model->architecture, "gpt2") == 0 ||
        (model->output_bias == (attention && model->qkv_bias) &&
         (attention || model->qkv_bias == qwen) && (feed || !model->feed_forward_bias)))
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: has biases that config.json of a %s model has no words for",
                     file->map.path, model->architecture);
}

static void put_gpt2(TextBuffer *json, const HfModel *model) {
    hone_text_puts(json, "{\n  \"architectures\": [\n    \"GPT2LMHeadModel\"\n  ],\n"
                         "  \"model_type\": \"gpt2\",\n  \"activation_function\": \"gelu_new\"");
    put_int(json, "n_embd", model->width);
    put_int(json, "n_inner", model->feed_forward);
    put_int(json, "n_layer", model->layers);
    put_int(json, "n_head", model->heads);
    put_int(json, "n_positions", model->context);
    hone_hf_write_real(json, "  ", "layer_norm_epsilon", model->norm_eps);
}

hone_status hone_hf_make_config(const GgufFile *file, const HfModel *model, TextBuffer *json,
                                HoneError *err) {
    HfConfig positions;
    HfRoles roles;
    RETURN_IF_ERROR(positions_of(file, model, &positions, err));
    RETURN_IF_ERROR(check_biases(file, model, err));
    RETURN_IF_ERROR(check_scale(file, model, err));
    RETURN_IF_ERROR(check_windows(file, model, err));
    hone_hf_roles(file, &roles);
    if (strcmp(model->architecture, "gpt2") == 0)
        put_gpt2(json, model);
    else
        put_decoder(json, file, model, &positions);
    put_int(json, "vocab_size", model->vocabulary);
    put_role(json, "bos_token_id", roles.bos);
    put_role(json, "eos_token_id", roles.eos);
    put_role(json, "pad_token_id", roles.padding);
    hone_text_printf(json,
                     ",\n  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n"
                     "  \"use_cache\": true\n}\n",
                     model->tied ? "true" : "false", hone_hf_dtype_word(model->dtype));
    return HONE_OK;
}
