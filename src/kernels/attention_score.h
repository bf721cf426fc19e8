// SPDX-License-Identifier: Apache-2.0
// What happens to a tile of scores between the products: soft-cap, ALiBi, masks, dropout. Plain
// loops over the lanes of a panel; every level compiles them with its own instructions and hands
// them out by hone_score_functions. Included by the levels' attention.c alone.
#ifndef HONE_KERNELS_ATTENTION_SCORE_H
#define HONE_KERNELS_ATTENTION_SCORE_H

#include "kernels/attention_math.h"
#include "kernels/attention_table.h"
#include "kernels/element_math.h"

// tanh as element_math.h has it, with this pass's e^x.
static inline float score_tanh(float x) {
    float size = fabsf(x), square = x * x;
    float near = HONE_TANH_C4;
    near = near * square + HONE_TANH_C3;
    near = near * square + HONE_TANH_C2;
    near = near * square + HONE_TANH_C1;
    near = near * square + HONE_TANH_C0;
    near = near * square * x + x;
    float e = exp_flushed(-2.0f * size);
    float far = copysignf((1.0f - e) / (1.0f + e), x);
    return size < HONE_TANH_NEAR ? near : far;
}

static void score_softcap(int64_t keys, float *S, int64_t ld, float cap) {
    const float inverse = 1.0f / cap;
    for (int64_t k = 0; k < keys; k++, S += ld)
        for (int n = 0; n < HONE_PANEL; n++) S[n] = cap * score_tanh(S[n] * inverse);
}

static void score_softcap_gradient(int64_t keys, float *dS, int64_t ld, const float *T, float cap) {
    const float inverse = 1.0f / cap;
    for (int64_t k = 0; k < keys; k++, dS += ld, T += HONE_PANEL)
        for (int n = 0; n < HONE_PANEL; n++) {
            float tangent = T[n] * inverse, gradient = dS[n] * (1.0f - tangent * tangent);
            dS[n] = dS[n] == 0 ? 0 : gradient; // a hidden pair's T may be NaN
        }
}

static void score_distance(int64_t keys, float *S, int64_t ld, const float slope[HONE_PANEL],
                           const float position[HONE_PANEL], int64_t first) {
    for (int64_t k = 0; k < keys; k++, S += ld) {
        const float key = (float)(first + k);
        for (int n = 0; n < HONE_PANEL; n++) S[n] -= slope[n] * fabsf(position[n] - key);
    }
}

static void score_mask(int64_t keys, float *S, int64_t ld, const float *M, uint16_t *visible) {
    for (int64_t k = 0; k < keys; k++, S += ld, M += HONE_PANEL) {
        uint32_t bits = 0;
        for (int n = 0; n < HONE_PANEL; n++) {
            S[n] = M[n] == -INFINITY ? -INFINITY : S[n] + M[n];
            bits |= (M[n] == -INFINITY ? 0u : 1u) << n;
        }
        if (visible) visible[k] = (uint16_t)bits;
    }
}

static void score_select(int64_t keys, float *X, int64_t ld, const uint16_t *bits, float factor) {
    for (int64_t k = 0; k < keys; k++, X += ld) {
        const uint32_t row = bits[k];
        for (int n = 0; n < HONE_PANEL; n++) X[n] = row >> n & 1 ? X[n] * factor : 0.0f;
    }
}

// Philox 4×32-10 as base/random.h has it, for SCORE_KEYS counters side by side.
enum { SCORE_KEYS = 16 };

static void score_keep(const DropoutCounter *counter, int64_t first, int64_t keys, uint16_t *bits) {
    for (int64_t k = 0; k < keys; k += SCORE_KEYS) {
        uint32_t c0[SCORE_KEYS], c1[SCORE_KEYS], c2[SCORE_KEYS], c3[SCORE_KEYS];
        uint32_t k0 = (uint32_t)counter->key, k1 = (uint32_t)(counter->key >> 32);
        for (int n = 0; n < SCORE_KEYS; n++) {
            c0[n] = (uint32_t)(first + k + n);
            c1[n] = counter->block;
            c2[n] = (uint32_t)counter->head;
            c3[n] = (uint32_t)(counter->head >> 32);
        }
        for (int round = 0; round < 10; round++) {
            for (int n = 0; n < SCORE_KEYS; n++) {
                uint64_t p0 = (uint64_t)0xD2511F53u * c0[n], p1 = (uint64_t)0xCD9E8D57u * c2[n];
                c0[n] = (uint32_t)(p1 >> 32) ^ c1[n] ^ k0;
                c2[n] = (uint32_t)(p0 >> 32) ^ c3[n] ^ k1;
                c1[n] = (uint32_t)p1;
                c3[n] = (uint32_t)p0;
            }
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        const uint32_t *words[4] = {c0, c1, c2, c3};
        uint32_t rows[SCORE_KEYS] = {0};
        for (int w = 0; w < 4; w++)
            for (int byte = 0; byte < 4; byte++)
                for (int n = 0; n < SCORE_KEYS; n++) {
                    uint32_t kept = (words[w][n] >> (8 * byte) & 255u) >= counter->threshold;
                    rows[n] |= kept << (4 * w + byte);
                }
        for (int n = 0; n < SCORE_KEYS && k + n < keys; n++) bits[k + n] = (uint16_t)rows[n];
    }
}

static bool score_finite(int64_t size, const float *x) {
    const uint32_t exponent = 0x7f800000u;
    uint32_t infinite = 0;
    for (int64_t c = 0; c < size; c++) {
        uint32_t bits;
        memcpy(&bits, x + c, sizeof bits);
        infinite |= (bits & exponent) == exponent;
    }
    return !infinite;
}

// No reassociation is left to the compiler.
static float score_dot(int64_t size, const float *x, const float *y) {
    float sums[8] = {0};
    int64_t c = 0;
    for (; c + 8 <= size; c += 8)
        for (int n = 0; n < 8; n++) sums[n] += x[c + n] * y[c + n];
    for (; c < size; c++) sums[c % 8] += x[c] * y[c];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) +
           ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

static inline void hone_score_functions(AttentionTable *table) {
    table->finite = score_finite;
    table->dot = score_dot;
    table->softcap = score_softcap;
    table->softcap_gradient = score_softcap_gradient;
    table->distance = score_distance;
    table->mask = score_mask;
    table->select = score_select;
    table->keep = score_keep;
}

#endif
