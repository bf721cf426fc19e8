// SPDX-License-Identifier: Apache-2.0
// The nearest codes of the dynamic map of 8-bit moments (adamw8.c), in plain C that compilers
// vectorise at each level's width: the decade by six comparisons, the place in it by arithmetic.
#ifndef HONE_KERNELS_ELEMENT_CODES_H
#define HONE_KERNELS_ELEMENT_CODES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

// Which magnitude of the map is nearest to s, 0 … 1. Comparisons are added up where choices would
// read better: compilers make branches of those.
static inline __attribute__((always_inline)) int32_t code_rank(const AdamW8Map *map, float s) {
    const float *first = map->first;
    const int32_t c1 = s >= first[1], c2 = s >= first[2], c3 = s >= first[3], c4 = s >= first[4],
                  c5 = s >= first[5], c6 = s >= first[6];
    // 10^(6 − decade), and 2^decade parts
    const int32_t tenfold =
        1000000 - 900000 * c1 - 90000 * c2 - 9000 * c3 - 900 * c4 - 90 * c5 - 9 * c6;
    const int32_t parts = map->parts * (1 + c1 + 2 * c2 + 4 * c3 + 8 * c4 + 16 * c5 + 32 * c6);
    int32_t place = (int32_t)((s * (float)tenfold - 0.1f) * (1 / 0.9f) * (float)parts);
    place = place < 0 ? 0 : place; // nearer to the decade's first than to what is below it
    place = place < parts ? place : parts - 1;
    int32_t rank = parts - map->parts + 1 + place;
    rank = s >= first[0] ? rank : 0;
    return s >= map->last ? map->magnitudes : rank;
}

// |x| / largest; rounding may take it beyond 1.
static inline float code_size(float x, float inverse) {
    const float ratio = fabsf(x) * inverse;
    return ratio < 1 ? ratio : 1;
}

// Of a map with signs or without, whose values then are none below 0. Negative codes lack 1.
static void nearest_codes(const AdamW8Map *map, int64_t n, const float *restrict x, float inverse,
                          uint8_t *restrict code) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        const int32_t minus = -(int32_t)(bits >> 31), most = map->magnitudes + minus;
        int32_t rank = code_rank(map, code_size(x[i], inverse));
        rank = rank < most ? rank : most;
        code[i] = (uint8_t)(map->zero + ((rank ^ minus) - minus));
    }
}

static void decode_values(const AdamW8Map *map, int64_t n, const uint8_t *code, float scale,
                          float *restrict x) {
    for (int64_t i = 0; i < n; i++) x[i] = map->value[code[i]] * scale;
}

#define HONE_CODE_LOOPS .nearest_codes = nearest_codes, .decode_values = decode_values

#endif
