// SPDX-License-Identifier: Apache-2.0
// Random stored blocks of every weight type, with finite scales.
#ifndef HONE_TESTS_KERNELS_QUANT_SUPPORT_H
#define HONE_TESTS_KERNELS_QUANT_SUPPORT_H

#include <math.h>

#include "base/dtype.h"
#include "base/half.h"
#include "base/random.h"

static const int weight_types[] = {
    HONE_F32,  HONE_F16,  HONE_BF16, HONE_Q4_0, HONE_Q4_1, HONE_Q5_0,   HONE_Q5_1,   HONE_Q8_0,
    HONE_Q4_K, HONE_Q5_K, HONE_Q6_K, HONE_Q2_K, HONE_Q3_K, HONE_IQ4_NL, HONE_IQ4_XS, HONE_MXFP4};
enum { WEIGHT_TYPES = sizeof weight_types / sizeof *weight_types };

static inline float random_value(RandomStream *random) {
    return hone_random_uniform(random) * 2 - 1;
}

static inline void put_half(uint8_t *bytes, uint16_t bits) {
    bytes[0] = (uint8_t)bits;
    bytes[1] = (uint8_t)(bits >> 8);
}

// One block: random quants, and scales (f16) that `scale` gives.
static inline void fill_block(RandomStream *random, int dtype, float scale, uint8_t *block) {
    const DtypeInfo *info = hone_dtype_info(dtype);
    for (int i = 0; i < info->block_bytes; i++) block[i] = (uint8_t)hone_random_u32(random);
    float value = random_value(random) * scale, second = random_value(random) * scale;
    if (dtype == HONE_F32) memcpy(block, &value, sizeof value);
    if (dtype == HONE_F16) put_half(block, hone_f32_to_f16(value));
    if (dtype == HONE_BF16) put_half(block, hone_f32_to_bf16(value));
    if (!info->is_quantised) return;
    if (dtype == HONE_MXFP4) { // a power of two
        block[0] = (uint8_t)(127 + ilogbf(scale) - (int)hone_random_below(random, 8));
        return;
    }
    const int at = dtype == HONE_Q6_K   ? 208
                   : dtype == HONE_Q3_K ? 108
                   : dtype == HONE_Q2_K ? 80
                                        : 0;
    put_half(block + at, hone_f32_to_f16(value / 16));
    bool has_minimum = dtype == HONE_Q4_1 || dtype == HONE_Q5_1 || dtype == HONE_Q4_K ||
                       dtype == HONE_Q5_K || dtype == HONE_Q2_K;
    if (has_minimum) put_half(block + at + 2, hone_f32_to_f16(second / 16));
}

#endif
