// SPDX-License-Identifier: Apache-2.0
// Rotary positions in config.json: transformers 5 has rope_parameters, for some families one set of
// full_attention and one of sliding_attention; 4 has rope_theta and rope_scaling, and Gemma 3's
// rope_local_base_freq.
#include <math.h>
#include <string.h>

#include "io/hf_config.h"

static const char *type_of(const json_t *rope) {
    const json_t *type = json_object_get(rope, "rope_type");
    const char *name = json_string_value(type ? type : json_object_get(rope, "type"));
    return name ? name : json_is_object(rope) && json_object_get(rope, "factor") ? "" : "default";
}

static hone_status read_llama3(const ConfigReading *reading, const json_t *rope, HfConfig *config) {
    config->scaled = true;
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "factor", -1, &config->factor));
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "low_freq_factor", -1, &config->low));
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "high_freq_factor", -1, &config->high));
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "original_max_position_embeddings", -1,
                                      &config->original));
    if (config->high > config->low) return HONE_OK;
    return hone_fail(reading->err, HONE_ERROR_INPUT,
                     "%s/config.json: high_freq_factor %g is not above low_freq_factor %g",
                     reading->folder, config->high, config->low);
}

static hone_status read_yarn(const ConfigReading *reading, const json_t *rope, double factor) {
    double original, fast, slow, magnitude;
    const double usual = factor > 1 ? 1 + 0.1 * log(factor) : 1;
    RETURN_IF_ERROR(
        hone_hf_read_real(reading, rope, "original_max_position_embeddings", -1, &original));
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "beta_fast", 32, &fast));
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "beta_slow", 1, &slow));
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "attention_factor", usual, &magnitude));
    static const char *const others[] = {"mscale", "mscale_all_dim"};
    for (int i = 0; i < 2; i++)
        if (json_is_number(json_object_get(rope, others[i])))
            return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED,
                             "%s/config.json: YaRN's \"%s\" is not computed", reading->folder,
                             others[i]);
    if (json_is_false(json_object_get(rope, "truncate")))
        return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED,
                         "%s/config.json: YaRN's \"truncate\" is false: only true is computed",
                         reading->folder);
    hone_hf_put_count(reading, "rope.scaling.original_context_length", (int64_t)original);
    hone_hf_put_real(reading, "rope.scaling.yarn_beta_fast", fast);
    hone_hf_put_real(reading, "rope.scaling.yarn_beta_slow", slow);
    if (magnitude != usual)
        hone_hf_put_real(reading, "rope.scaling.yarn_attn_factor", magnitude / usual);
    return HONE_OK;
}

// A list of rotary/2 numbers above 0.
static hone_status read_list(const ConfigReading *reading, const json_t *rope, const char *key,
                             int64_t count, const json_t **list) {
    *list = json_object_get(rope, key);
    bool fits = json_is_array(*list) && (int64_t)json_array_size(*list) == count;
    for (int64_t i = 0; i < count && fits; i++)
        fits = json_number_value(json_array_get(*list, (size_t)i)) > 0;
    if (fits) return HONE_OK;
    return hone_fail(reading->err, HONE_ERROR_INPUT,
                     "%s/config.json: \"%s\" is no list of %lld numbers above 0", reading->folder,
                     key, (long long)count);
}

// LongRoPE (Ding et al. 2024): up to the original context the short factors.
static hone_status read_longrope(const ConfigReading *reading, const json_t *rope, int64_t context,
                                 HfConfig *config) {
    double original, factor, magnitude;
    const json_t *holder =
        json_object_get(rope, "original_max_position_embeddings") ? rope : reading->root;
    RETURN_IF_ERROR(hone_hf_read_real(reading, holder, "original_max_position_embeddings",
                                      (double)reading->family->context, &original));
    RETURN_IF_ERROR(
        hone_hf_read_real(reading, rope, "factor", (double)context / original, &factor));
    const double usual = factor > 1 ? sqrt(1 + log(factor) / log(original)) : 1;
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "attention_factor", usual, &magnitude));
    RETURN_IF_ERROR(
        read_list(reading, rope, "short_factor", config->rotary / 2, &config->short_factors));
    RETURN_IF_ERROR(
        read_list(reading, rope, "long_factor", config->rotary / 2, &config->long_factors));
    hone_hf_put_text(reading, "rope.scaling.type", "longrope");
    hone_hf_put_count(reading, "rope.scaling.original_context_length", (int64_t)original);
    hone_hf_put_real(reading, "rope.scaling.attn_factor", magnitude);
    return HONE_OK;
}

static hone_status read_scaling(const ConfigReading *reading, const json_t *rope, int64_t context,
                                HfConfig *config) {
    const char *type = type_of(rope);
    const bool phi = strcmp(reading->family->architecture, "phi3") == 0;
    double factor;
    // Dynamic scaling begins beyond the context, which Hone does not leave.
    if (strcmp(type, "default") == 0 || strcmp(type, "dynamic") == 0) return HONE_OK;
    if (strcmp(type, "llama3") == 0 && !phi) return read_llama3(reading, rope, config);
    if (strcmp(type, "longrope") == 0 ||
        (phi && (strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0)))
        return read_longrope(reading, rope, context, config);
    if (strcmp(type, "linear") != 0 && strcmp(type, "yarn") != 0)
        return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED,
                         "%s/config.json: positions of rope_type \"%.40s\" are not computed; "
                         "supported: default, linear, dynamic, yarn, llama3, longrope",
                         reading->folder, type);
    RETURN_IF_ERROR(hone_hf_read_real(reading, rope, "factor", -1, &factor));
    hone_hf_put_text(reading, "rope.scaling.type", type);
    hone_hf_put_real(reading, "rope.scaling.factor", factor);
    return strcmp(type, "yarn") == 0 ? read_yarn(reading, rope, factor) : HONE_OK;
}

static hone_status read_rotary(const ConfigReading *reading, const json_t *rope, HfConfig *config) {
    const json_t *holder = json_object_get(rope, "partial_rotary_factor") ? rope : reading->root;
    double part;
    RETURN_IF_ERROR(hone_hf_read_real(reading, holder, "partial_rotary_factor", 1, &part));
    config->rotary = (int64_t)(part * (double)config->head_size);
    if (part == 1 || strcmp(reading->family->architecture, "phi3") == 0) return HONE_OK;
    return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED,
                     "%s/config.json: \"partial_rotary_factor\" is %g: only whole heads turn",
                     reading->folder, part);
}

// Of the layers that slide, in a family that has another base for them.
static hone_status read_sliding(const ConfigReading *reading, const json_t *sliding) {
    double base;
    if (reading->family->sliding_base == 0) return HONE_OK;
    if (sliding && strcmp(type_of(sliding), "default") != 0)
        return hone_fail(reading->err, HONE_ERROR_UNSUPPORTED,
                         "%s/config.json: positions of rope_type \"%.40s\" are not computed in "
                         "sliding layers",
                         reading->folder, type_of(sliding));
    RETURN_IF_ERROR(hone_hf_read_real(reading, sliding ? sliding : reading->root,
                                      sliding ? "rope_theta" : "rope_local_base_freq",
                                      reading->family->sliding_base, &base));
    hone_hf_put_real(reading, "rope.freq_base_swa", base);
    return HONE_OK;
}

hone_status hone_hf_read_positions(const ConfigReading *reading, int64_t context,
                                   HfConfig *config) {
    const json_t *rope = json_object_get(reading->root, "rope_parameters");
    if (!json_is_object(rope)) rope = json_object_get(reading->root, "rope_scaling");
    const json_t *sliding = json_object_get(rope, "sliding_attention");
    if (json_object_get(rope, "full_attention")) rope = json_object_get(rope, "full_attention");
    const json_t *holder = json_object_get(rope, "rope_theta") ? rope : reading->root;
    const double base = reading->family->base > 0 ? reading->family->base : 10000;
    RETURN_IF_ERROR(hone_hf_read_real(reading, holder, "rope_theta", base, &config->base));
    RETURN_IF_ERROR(read_rotary(reading, rope, config));
    RETURN_IF_ERROR(read_sliding(reading, sliding));
    return read_scaling(reading, rope, context, config);
}

void hone_hf_rope_factors(const HfConfig *config, float *values) {
    const int64_t half = config->head_size / 2;
    for (int64_t i = 0; i < half; i++) {
        const double wavelength =
            2 * M_PI * pow(config->base, 2 * (double)i / (double)config->head_size);
        double smooth =
            (config->original / wavelength - config->low) / (config->high - config->low);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        values[i] = (float)(1 / ((1 - smooth) / config->factor + smooth));
    }
}
