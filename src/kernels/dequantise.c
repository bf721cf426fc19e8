// SPDX-License-Identifier: Apache-2.0
// Portable unpackers, one a type. Each value is exact in f32 up to the last addition (a scale has
// 11 bits, a sub-scale at most 7, a quant at most 5 and a sign; IQ4_XS has 11, 5 and 7), so a fused
// multiply-add gives the same bits as a product and a sum: every level unpacks to equal bits.
#include "base/half.h"
#include "kernels/kernels.h"
#include "kernels/matmul_table.h"

enum { SMALL = 32, LARGE = 256 }; // elements a block: the simple types, the K-quants

static inline float half_at(const uint8_t *bytes) {
    return hone_f16_to_f32((uint16_t)(bytes[0] | bytes[1] << 8));
}

static inline uint32_t word_at(const uint8_t *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void unpack_f32(const void *stored, float *x, int64_t count) {
    memcpy(x, stored, (size_t)count * sizeof *x);
}

static void unpack_f16(const void *stored, float *x, int64_t count) {
    const uint8_t *bytes = stored;
    for (int64_t i = 0; i < count; i++) x[i] = half_at(bytes + 2 * i);
}

static void unpack_bf16(const void *stored, float *x, int64_t count) {
    const uint8_t *bytes = stored;
    for (int64_t i = 0; i < count; i++)
        x[i] = hone_bf16_to_f32((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
}

// Byte j holds element j in its low nibble and element j+16 in its high one; bit j of `fifth` is
// the fifth bit of element j.
static inline void quants_32(const uint8_t *nibbles, uint32_t fifth, int q[SMALL]) {
    for (int j = 0; j < 16; j++) {
        q[j] = (nibbles[j] & 15) | (int)(fifth >> j & 1) << 4;
        q[j + 16] = nibbles[j] >> 4 | (int)(fifth >> (j + 16) & 1) << 4;
    }
}

static inline void centred(const uint8_t *block, const uint8_t *nibbles, uint32_t fifth, int zero,
                           float *x) {
    int q[SMALL];
    float scale = half_at(block);
    quants_32(nibbles, fifth, q);
    for (int j = 0; j < SMALL; j++) x[j] = (float)(q[j] - zero) * scale;
}

static inline void shifted(const uint8_t *block, const uint8_t *nibbles, uint32_t fifth, float *x) {
    int q[SMALL];
    float scale = half_at(block), minimum = half_at(block + 2);
    quants_32(nibbles, fifth, q);
    for (int j = 0; j < SMALL; j++) x[j] = (float)q[j] * scale + minimum;
}

static void unpack_q4_0(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 18) centred(block, block + 2, 0, 8, x + i);
}

static void unpack_q4_1(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 20) shifted(block, block + 4, 0, x + i);
}

static void unpack_q5_0(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 22)
        centred(block, block + 6, word_at(block + 2), 16, x + i);
}

static void unpack_q5_1(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 24)
        shifted(block, block + 8, word_at(block + 4), x + i);
}

static void unpack_q8_0(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 34) {
        float scale = half_at(block);
        for (int j = 0; j < SMALL; j++) x[i + j] = (float)(int8_t)block[2 + j] * scale;
    }
}

void hone_k_scales(const uint8_t *packed, uint8_t scale[8], uint8_t minimum[8]) {
    for (int j = 0; j < 4; j++) {
        scale[j] = packed[j] & 63;
        minimum[j] = packed[j + 4] & 63;
        scale[j + 4] = (uint8_t)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
        minimum[j + 4] = (uint8_t)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
    }
}

// 256 elements of Q4_K (fifth NULL) or Q5_K: 8 sub-blocks of 32, two to each 32 bytes of quants.
static void k_block(const uint8_t *block, const uint8_t *fifth, const uint8_t *quants, float *x) {
    uint8_t scale[8], minimum[8];
    hone_k_scales(block + 4, scale, minimum);
    float d = half_at(block), dmin = half_at(block + 2);
    for (int sub = 0; sub < 8; sub++) {
        float scaled = d * (float)scale[sub], lowest = dmin * (float)minimum[sub];
        for (int j = 0; j < 32; j++) {
            int q = quants[32 * (sub / 2) + j] >> 4 * (sub & 1) & 15;
            if (fifth) q |= (fifth[j] >> sub & 1) << 4;
            x[32 * sub + j] = (float)q * scaled - lowest;
        }
    }
}

static void unpack_q4_k(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 144)
        k_block(block, NULL, block + 16, x + i);
}

static void unpack_q5_k(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 176)
        k_block(block, block + 16, block + 48, x + i);
}

// 128 elements: four groups of 32 share 64 bytes of low nibbles and 32 bytes of upper bit pairs.
static inline void q6_half(const uint8_t *low, const uint8_t *upper, const uint8_t *scales, float d,
                           float *x) {
    for (int group = 0; group < 4; group++) {
        for (int l = 0; l < 32; l++) {
            int q = low[l + 32 * (group & 1)] >> 4 * (group >> 1) & 15;
            q |= (upper[l] >> 2 * group & 3) << 4;
            float scale = d * (float)(int8_t)scales[2 * group + l / 16];
            x[32 * group + l] = (float)(q - 32) * scale;
        }
    }
}

static void unpack_q6_k(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 210) {
        float d = half_at(block + 208);
        q6_half(block, block + 128, block + 192, d, x + i);
        q6_half(block + 64, block + 160, block + 200, d, x + i + 128);
    }
}

// ---- types of 2 and 3 bits ---------------------------------------------------------------------

// 128 elements: four groups of 32 share 32 bytes, 2 bits each; 16 elements a scale.
static void unpack_q2_k(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 84) {
        const float d = half_at(block + 80), dmin = half_at(block + 82);
        for (int part = 0; part < 16; part++) {
            const uint8_t *quants = block + 16 + 32 * (part / 8) + 16 * (part & 1);
            const float scale = d * (float)(block[part] & 15);
            const float lowest = dmin * (float)(block[part] >> 4);
            for (int j = 0; j < 16; j++)
                x[i + 16 * part + j] =
                    (float)(quants[j] >> 2 * (part % 8 / 2) & 3) * scale - lowest;
        }
    }
}

void hone_q3_scales(const uint8_t *packed, int8_t scale[16]) {
    for (int j = 0; j < 16; j++) {
        const int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
        scale[j] = (int8_t)((low | (packed[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32);
    }
}

// As Q2_K, a third bit apart: where it is 0, 4 less. Bit g of byte l is that of element 32·g + l.
static void unpack_q3_k(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 110) {
        const float d = half_at(block + 108);
        int8_t scales[16];
        hone_q3_scales(block + 96, scales);
        for (int part = 0; part < 16; part++) {
            const uint8_t *quants = block + 32 + 32 * (part / 8) + 16 * (part & 1);
            const uint8_t *third = block + 16 * (part & 1);
            const float scale = d * (float)scales[part];
            for (int j = 0; j < 16; j++) {
                const int q = quants[j] >> 2 * (part % 8 / 2) & 3;
                x[i + 16 * part + j] = (float)(q - (third[j] >> part / 2 & 1 ? 0 : 4)) * scale;
            }
        }
    }
}

// ---- types whose nibbles are looked up ---------------------------------------------------------

const int8_t hone_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};
const int8_t hone_fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static inline void looked_up(const int8_t values[16], const uint8_t *nibbles, float scale,
                             float *x) {
    for (int j = 0; j < 16; j++) {
        x[j] = (float)values[nibbles[j] & 15] * scale;
        x[j + 16] = (float)values[nibbles[j] >> 4] * scale;
    }
}

static void unpack_iq4_nl(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 18)
        looked_up(hone_iq4_values, block + 2, half_at(block), x + i);
}

int hone_iq4_xs_scale(const uint8_t *block, int part) {
    const int high = (block[2] | block[3] << 8) >> 2 * part & 3;
    return ((block[4 + part / 2] >> 4 * (part & 1) & 15) | high << 4) - 32;
}

static void unpack_iq4_xs(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 136)
        for (int part = 0; part < 8; part++)
            looked_up(hone_iq4_values, block + 8 + 16 * part,
                      half_at(block) * (float)hone_iq4_xs_scale(block, part), x + i + 32 * part);
}

float hone_mxfp4_scale(uint8_t exponent) {
    return hone_bits_to_f32(exponent < 2 ? UINT32_C(0x200000) << exponent
                                         : (uint32_t)(exponent - 1) << 23);
}

static void unpack_mxfp4(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 17)
        looked_up(hone_fp4_values, block + 1, hone_mxfp4_scale(block[0]), x + i);
}

UnpackRow hone_unpack_generic(int dtype) {
    static const UnpackRow rows[HONE_DTYPE_LIMIT] = {
        [HONE_F32] = unpack_f32,     [HONE_F16] = unpack_f16,       [HONE_BF16] = unpack_bf16,
        [HONE_Q4_0] = unpack_q4_0,   [HONE_Q4_1] = unpack_q4_1,     [HONE_Q5_0] = unpack_q5_0,
        [HONE_Q5_1] = unpack_q5_1,   [HONE_Q8_0] = unpack_q8_0,     [HONE_Q4_K] = unpack_q4_k,
        [HONE_Q5_K] = unpack_q5_k,   [HONE_Q6_K] = unpack_q6_k,     [HONE_Q2_K] = unpack_q2_k,
        [HONE_Q3_K] = unpack_q3_k,   [HONE_IQ4_NL] = unpack_iq4_nl, [HONE_IQ4_XS] = unpack_iq4_xs,
        [HONE_MXFP4] = unpack_mxfp4,
    };
    return dtype >= 0 && dtype < HONE_DTYPE_LIMIT ? rows[dtype] : NULL;
}

void hone_dequantise(int dtype, const void *stored, float *x, int64_t count) {
    hone_unpack_generic(dtype)(stored, x, count);
}
