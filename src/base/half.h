// SPDX-License-Identifier: Apache-2.0
// 16-bit floats as bits: IEEE half and bfloat16, rounding to nearest even.
#ifndef HONE_BASE_HALF_H
#define HONE_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float hone_bits_to_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t hone_f32_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float hone_bf16_to_f32(uint16_t bits) {
    return hone_bits_to_f32((uint32_t)bits << 16);
}

static inline uint16_t hone_f32_to_bf16(float value) {
    uint32_t bits = hone_f32_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40); // quiet NaN
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static inline float hone_f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) // infinity, NaN
        return hone_bits_to_f32(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude < 0x0400u) { // subnormal: an integer times 2^-24, exact in f32
        float value = (float)magnitude * 0x1p-24f;
        return sign ? -value : value;
    }
    return hone_bits_to_f32(sign | ((magnitude << 13) + (112u << 23)));
}

static inline uint16_t hone_f32_to_f16(float value) {
    uint32_t bits = hone_f32_to_bits(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (bits >> 13 & 0x3ffu));
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); // 65520 and above round to infinity
    if (bits < 0x38800000u) { // below 2^-14: adding ½ leaves the rounded integer in the low bits
        float shifted = hone_bits_to_f32(bits) + 0.5f;
        return (uint16_t)(sign | (hone_f32_to_bits(shifted) - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1);
    return (uint16_t)(sign | ((bits - (112u << 23)) >> 13));
}

#endif
