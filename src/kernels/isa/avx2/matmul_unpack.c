// SPDX-License-Identifier: Apache-2.0
// AVX2 unpackers: the same bits as kernels/dequantise.c, where their exactness is explained.
#include "kernels/isa/avx2/matmul_unpack.h"

#include <immintrin.h>
#include <string.h>

#include "base/half.h"

enum { SMALL = 32, LARGE = 256 }; // elements a block: the simple types, the K-quants

static inline float half_at(const uint8_t *bytes) {
    uint16_t bits;
    memcpy(&bits, bytes, sizeof bits);
    return _cvtsh_ss(bits);
}

static inline __m256i load_32(const uint8_t *bytes) {
    return _mm256_loadu_si256((const __m256i *)(const void *)bytes);
}

// Eight of 32 signed bytes as f32: those from byte 8·part.
static inline __m256 eight(__m256i bytes, int part) {
    __m128i half = part & 2 ? _mm256_extracti128_si256(bytes, 1) : _mm256_castsi256_si128(bytes);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(part & 1 ? _mm_srli_si128(half, 8) : half));
}

static inline void store_scaled(__m256i quants, __m256 scale, float *x) {
    for (int part = 0; part < 4; part++)
        _mm256_storeu_ps(x + 8 * part, _mm256_mul_ps(eight(quants, part), scale));
}

static inline void store_shifted(__m256i quants, __m256 scale, __m256 minimum, float *x) {
    for (int part = 0; part < 4; part++)
        _mm256_storeu_ps(x + 8 * part, _mm256_fmadd_ps(eight(quants, part), scale, minimum));
}

// 16 bytes of nibbles as 32 bytes: the low ones, then the high ones.
static inline __m256i nibbles(const uint8_t *bytes) {
    __m128i packed = _mm_loadu_si128((const __m128i *)(const void *)bytes);
    __m256i both =
        _mm256_inserti128_si256(_mm256_castsi128_si256(packed), _mm_srli_epi16(packed, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

// Bit j of the four bytes as 0 or 16 in byte j.
static inline __m256i fifth_bits(const uint8_t *bytes) {
    int32_t word;
    memcpy(&word, bytes, sizeof word);
    const __m256i source = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                            2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(word), source);
    __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
    return _mm256_and_si256(is_set, _mm256_set1_epi8(16));
}

static void unpack_f16(const void *stored, float *x, int64_t count) {
    const uint8_t *bytes = stored;
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)(bytes + 2 * i));
        _mm256_storeu_ps(x + i, _mm256_cvtph_ps(halves));
    }
    for (; i < count; i++) x[i] = half_at(bytes + 2 * i);
}

static void unpack_bf16(const void *stored, float *x, int64_t count) {
    const uint8_t *bytes = stored;
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)(bytes + 2 * i));
        __m256i words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
        _mm256_storeu_ps(x + i, _mm256_castsi256_ps(words));
    }
    for (; i < count; i++)
        x[i] = hone_bf16_to_f32((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
}

static void unpack_q4_0(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 18) {
        __m256i quants = _mm256_sub_epi8(nibbles(block + 2), _mm256_set1_epi8(8));
        store_scaled(quants, _mm256_set1_ps(half_at(block)), x + i);
    }
}

static void unpack_q4_1(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 20)
        store_shifted(nibbles(block + 4), _mm256_set1_ps(half_at(block)),
                      _mm256_set1_ps(half_at(block + 2)), x + i);
}

static void unpack_q5_0(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 22) {
        __m256i quants = _mm256_or_si256(nibbles(block + 6), fifth_bits(block + 2));
        quants = _mm256_sub_epi8(quants, _mm256_set1_epi8(16));
        store_scaled(quants, _mm256_set1_ps(half_at(block)), x + i);
    }
}

static void unpack_q5_1(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 24) {
        __m256i quants = _mm256_or_si256(nibbles(block + 8), fifth_bits(block + 4));
        store_shifted(quants, _mm256_set1_ps(half_at(block)), _mm256_set1_ps(half_at(block + 2)),
                      x + i);
    }
}

static void unpack_q8_0(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 34)
        store_scaled(load_32(block + 2), _mm256_set1_ps(half_at(block)), x + i);
}

// 256 elements of Q4_K (fifth NULL) or Q5_K.
static inline void k_block(const uint8_t *block, const uint8_t *fifth, const uint8_t *quants,
                           float *x) {
    uint8_t scale[8], minimum[8];
    hone_k_scales(block + 4, scale, minimum);
    float d = half_at(block), dmin = half_at(block + 2);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i upper = fifth ? load_32(fifth) : _mm256_setzero_si256();
    for (int sub = 0; sub < 8; sub++) {
        __m256i q = load_32(quants + 32 * (sub / 2));
        q = _mm256_and_si256(sub & 1 ? _mm256_srli_epi16(q, 4) : q, low);
        if (fifth) {
            const __m256i bit = _mm256_set1_epi8((char)(1 << sub));
            __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(upper, bit), bit);
            q = _mm256_or_si256(q, _mm256_and_si256(is_set, _mm256_set1_epi8(16)));
        }
        store_shifted(q, _mm256_set1_ps(d * (float)scale[sub]),
                      _mm256_set1_ps(-(dmin * (float)minimum[sub])), x + 32 * sub);
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

// 128 elements in four groups of 32, each with two scales.
static inline void q6_half(const uint8_t *low, const uint8_t *upper, const uint8_t *scales, float d,
                           float *x) {
    const __m256i pairs = load_32(upper), pair = _mm256_set1_epi8(0x30);
    __m256i high[4];
    high[0] = _mm256_and_si256(_mm256_slli_epi16(pairs, 4), pair);
    high[1] = _mm256_and_si256(_mm256_slli_epi16(pairs, 2), pair);
    high[2] = _mm256_and_si256(pairs, pair);
    high[3] = _mm256_and_si256(_mm256_srli_epi16(pairs, 2), pair);
    for (int group = 0; group < 4; group++) {
        __m256i q = load_32(low + 32 * (group & 1));
        q = _mm256_and_si256(group & 2 ? _mm256_srli_epi16(q, 4) : q, _mm256_set1_epi8(15));
        q = _mm256_sub_epi8(_mm256_or_si256(q, high[group]), _mm256_set1_epi8(32));
        for (int part = 0; part < 4; part++) {
            float scale = d * (float)(int8_t)scales[2 * group + part / 2];
            _mm256_storeu_ps(x + 32 * group + 8 * part,
                             _mm256_mul_ps(eight(q, part), _mm256_set1_ps(scale)));
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

// 32 quants of 16 elements a scale each.
static inline void store_halves(__m256i quants, const float scale[2], const float minimum[2],
                                float *x) {
    for (int part = 0; part < 4; part++)
        _mm256_storeu_ps(x + 8 * part,
                         _mm256_fmadd_ps(eight(quants, part), _mm256_set1_ps(scale[part / 2]),
                                         _mm256_set1_ps(minimum[part / 2])));
}

// Two bits of each byte, those from bit 2·group.
static inline __m256i two_bits(__m256i bytes, int group) {
    return _mm256_and_si256(_mm256_srli_epi16(bytes, 2 * group), _mm256_set1_epi8(3));
}

static void unpack_q2_k(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 84) {
        const float d = half_at(block + 80), dmin = half_at(block + 82);
        for (int group = 0; group < 8; group++) {
            const uint8_t *s = block + 2 * group;
            const float scale[2] = {d * (float)(s[0] & 15), d * (float)(s[1] & 15)};
            const float lowest[2] = {-(dmin * (float)(s[0] >> 4)), -(dmin * (float)(s[1] >> 4))};
            store_halves(two_bits(load_32(block + 16 + 32 * (group / 4)), group % 4), scale, lowest,
                         x + i + 32 * group);
        }
    }
}

static void unpack_q3_k(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 110) {
        const float d = half_at(block + 108);
        const __m256i third = load_32(block);
        int8_t scales[16];
        hone_q3_scales(block + 96, scales);
        for (int group = 0; group < 8; group++) {
            const __m256i bit = _mm256_set1_epi8((char)(1 << group));
            const __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(third, bit), bit);
            __m256i q = two_bits(load_32(block + 32 + 32 * (group / 4)), group % 4);
            q = _mm256_sub_epi8(q, _mm256_andnot_si256(is_set, _mm256_set1_epi8(4)));
            for (int part = 0; part < 4; part++) {
                const float scale = d * (float)scales[2 * group + part / 2];
                _mm256_storeu_ps(x + i + 32 * group + 8 * part,
                                 _mm256_mul_ps(eight(q, part), _mm256_set1_ps(scale)));
            }
        }
    }
}

static inline __m256i looked_up(const int8_t values[16], const uint8_t *packed) {
    const __m128i table = _mm_loadu_si128((const __m128i *)(const void *)values);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles(packed));
}

static void unpack_iq4_nl(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 18)
        store_scaled(looked_up(hone_iq4_values, block + 2), _mm256_set1_ps(half_at(block)), x + i);
}

static void unpack_iq4_xs(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += LARGE, block += 136) {
        const float d = half_at(block);
        for (int part = 0; part < 8; part++)
            store_scaled(looked_up(hone_iq4_values, block + 8 + 16 * part),
                         _mm256_set1_ps(d * (float)hone_iq4_xs_scale(block, part)),
                         x + i + 32 * part);
    }
}

static void unpack_mxfp4(const void *stored, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += SMALL, block += 17)
        store_scaled(looked_up(hone_fp4_values, block + 1),
                     _mm256_set1_ps(hone_mxfp4_scale(block[0])), x + i);
}

void hone_avx2_matmul_unpack(MatmulTable *table) {
    table->unpack[HONE_F16] = unpack_f16;
    table->unpack[HONE_BF16] = unpack_bf16;
    table->unpack[HONE_Q4_0] = unpack_q4_0;
    table->unpack[HONE_Q4_1] = unpack_q4_1;
    table->unpack[HONE_Q5_0] = unpack_q5_0;
    table->unpack[HONE_Q5_1] = unpack_q5_1;
    table->unpack[HONE_Q8_0] = unpack_q8_0;
    table->unpack[HONE_Q4_K] = unpack_q4_k;
    table->unpack[HONE_Q5_K] = unpack_q5_k;
    table->unpack[HONE_Q6_K] = unpack_q6_k;
    table->unpack[HONE_Q2_K] = unpack_q2_k;
    table->unpack[HONE_Q3_K] = unpack_q3_k;
    table->unpack[HONE_IQ4_NL] = unpack_iq4_nl;
    table->unpack[HONE_IQ4_XS] = unpack_iq4_xs;
    table->unpack[HONE_MXFP4] = unpack_mxfp4;
}
