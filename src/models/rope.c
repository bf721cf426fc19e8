// SPDX-License-Identifier: Apache-2.0
// Frequencies of rotary positions (Su et al. 2021), and what stretches them to longer texts.
#include "models/family.h"

#include <math.h>

// The pair that makes `turns` full turns over the original context.
static double pair_of(const ModelConfig *config, float base, double turns) {
    return (double)config->rotary *
           log((double)config->rope_scaling.original / (turns * 2 * M_PI)) /
           (2 * log((double)base));
}

// YaRN (Peng et al. 2023): how much of frequency j is divided, from 0 to 1. Pairs that turn often
// over the original context stay, those that turn less than once are divided.
static float divided_part(const ModelConfig *config, float base, int j) {
    double low = floor(pair_of(config, base, (double)config->rope_scaling.beta_fast));
    double high = ceil(pair_of(config, base, (double)config->rope_scaling.beta_slow));
    low = low > 0 ? low : 0;
    high = high < config->rotary - 1 ? high : config->rotary - 1;
    if (high - low < 0.001) high = low + 0.001;
    const double part = ((double)j - low) / (high - low);
    return (float)(part < 0 ? 0 : part > 1 ? 1 : part);
}

// frequency[j] = 1 / base^(2j/rotary), and scaled
static float *frequencies(Model *model, float base, bool scaled) {
    const ModelConfig *config = &model->config;
    const int pairs = config->rotary / 2;
    float *frequency = hone_arena_calloc(&model->arena, (size_t)pairs + 1, sizeof(float));
    // In float and in this order, as in the programs that trained the published models: another
    // rounding turns far positions by another angle.
    for (int j = 0; j < pairs && frequency; j++) {
        const float exponent = (float)(2 * j) / (float)config->rotary;
        const float plain = 1.0f / (float)pow((double)base, (double)exponent);
        const float factor = config->rope_scaling.factor;
        float part = 0;
        if (scaled && factor > 0)
            part = config->rope_scaling.yarn ? divided_part(config, base, j) : 1;
        frequency[j] = part > 0 ? plain / factor * part + plain * (1 - part) : plain;
    }
    return frequency;
}

hone_status hone_make_rotations(Model *model, HoneError *err) {
    const ModelConfig *config = &model->config;
    const Rotation rotation = {.rotary = config->rotary,
                               .interleaved = config->rope_interleaved,
                               .frequency = frequencies(model, config->rope_base, true),
                               .magnitude = config->rope_magnitude};
    model->rotation[0] = model->rotation[1] = rotation;
    if (config->rope_base_sliding > 0) {
        model->rotation[1].frequency = frequencies(model, config->rope_base_sliding, false);
        model->rotation[1].magnitude = 0;
    }
    if (model->rotation[0].frequency && model->rotation[1].frequency) return HONE_OK;
    return hone_fail_memory(err, (size_t)config->rotary * 2, "rotary frequencies");
}

const Rotation *hone_layer_rotation(const Model *model, int layer) {
    const ModelConfig *config = &model->config;
    if (config->turns && !config->turns[layer]) return NULL;
    return &model->rotation[config->window > 0 && config->slides[layer]];
}

void hone_model_set_rope_factors(Model *model, const float *factors) {
    float *frequency = (float *)(uintptr_t)model->rotation[0].frequency;
    for (int j = 0; j < model->config.rotary / 2; j++) frequency[j] /= factors[j];
}
