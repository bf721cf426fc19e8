// SPDX-License-Identifier: Apache-2.0
// AVX-512 on stored rows of blocks of 32: unpackers, the same bits as kernels/dequantise.c, and the
// dot products that a token is decoded with. Sixteen values of four bits are looked up at once.
#include "kernels/isa/avx512/matmul_stored.h"

#include <immintrin.h>
#include <string.h>

enum { BLOCK = 32, LANES = 16, GROUP = 4 };

// A type whose values are d·q [+ m], d and m in f16: where the quants lie, of how many bytes a
// block.
typedef struct Layout {
    int bytes, quants;
    bool has_minimum, is_nibbles;
} Layout;

static const Layout q4_0 = {18, 2, false, true}, q4_1 = {20, 4, true, true},
                    q8_0 = {34, 2, false, false}; // and IQ4_NL as Q4_0

static inline __m512 half_at(const uint8_t *bytes) {
    uint16_t bits;
    memcpy(&bits, bytes, sizeof bits);
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)bits));
}

static inline __m128i load_16(const uint8_t *bytes) {
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

// The quants of a block as f32, elements 0 … 15 and 16 … 31. values: what a nibble stands for.
static inline void quants(const uint8_t *block, Layout type, __m512 values, __m512 q[2]) {
    const uint8_t *from = block + type.quants;
    if (type.is_nibbles) {
        const __m512i nibbles = _mm512_cvtepu8_epi32(load_16(from)); // a look-up reads 4 bits
        q[0] = _mm512_permutexvar_ps(nibbles, values);
        q[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 4), values);
    } else {
        q[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(from)));
        q[1] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(from + LANES)));
    }
}

static inline void unpack(const void *stored, Layout type, __m512 values, float *x, int64_t count) {
    const uint8_t *block = stored;
    for (int64_t i = 0; i < count; i += BLOCK, block += type.bytes) {
        const __m512 d = half_at(block);
        __m512 q[2];
        quants(block, type, values, q);
        for (int h = 0; h < 2; h++) {
            __m512 y = type.has_minimum ? _mm512_fmadd_ps(q[h], d, half_at(block + 2))
                                        : _mm512_mul_ps(q[h], d);
            _mm512_storeu_ps(x + i + LANES * h, y);
        }
    }
}

// Σ (d·q + m)·x = Σ_blocks d·Σ q·x + m·Σ x; a row's bits are the same beside others and alone.
static inline void dot_group(const uint8_t *w, size_t row_bytes, int rows, Layout type,
                             __m512 values, const float *x, int64_t K, float *y) {
    __m512 scaled[GROUP], shifted[GROUP];
    for (int j = 0; j < rows; j++) scaled[j] = shifted[j] = _mm512_setzero_ps();
    for (int64_t k = 0; k < K; k += BLOCK, w += type.bytes) {
        const __m512 x0 = _mm512_loadu_ps(x + k), x1 = _mm512_loadu_ps(x + k + LANES);
        const __m512 sum = _mm512_add_ps(x0, x1);
        for (int j = 0; j < rows; j++) {
            const uint8_t *block = w + (size_t)j * row_bytes;
            __m512 q[2];
            quants(block, type, values, q);
            const __m512 products = _mm512_fmadd_ps(q[1], x1, _mm512_mul_ps(q[0], x0));
            scaled[j] = _mm512_fmadd_ps(half_at(block), products, scaled[j]);
            if (type.has_minimum) shifted[j] = _mm512_fmadd_ps(half_at(block + 2), sum, shifted[j]);
        }
    }
    for (int j = 0; j < rows; j++)
        y[j] = _mm512_reduce_add_ps(_mm512_add_ps(scaled[j], shifted[j]));
}

static inline void dot(const void *stored, size_t row_bytes, int64_t rows, Layout type,
                       __m512 values, const float *x, int64_t K, float *y) {
    const uint8_t *w = stored;
    int64_t j = 0;
    for (; j + GROUP <= rows; j += GROUP)
        dot_group(w + (size_t)j * row_bytes, row_bytes, GROUP, type, values, x, K, y + j);
    for (; j < rows; j++)
        dot_group(w + (size_t)j * row_bytes, row_bytes, 1, type, values, x, K, y + j);
}

// What nibbles stand for.
static inline __m512 from_zero(void) {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

static inline __m512 centred(void) {
    return _mm512_sub_ps(from_zero(), _mm512_set1_ps(8));
}

static inline __m512 iq4_nl(void) {
    const void *values = hone_iq4_values;
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(values)));
}

#define STORED_TYPE(name, type, values)                                                            \
    static void unpack_##name(const void *stored, float *x, int64_t count) {                       \
        unpack(stored, type, values, x, count);                                                    \
    }                                                                                              \
    static void dot_##name(const void *stored, size_t row_bytes, int64_t rows, const float *x,     \
                           int64_t K, float *y) {                                                  \
        dot(stored, row_bytes, rows, type, values, x, K, y);                                       \
    }

STORED_TYPE(q4_0, q4_0, centred())
STORED_TYPE(q4_1, q4_1, from_zero())
STORED_TYPE(q8_0, q8_0, _mm512_setzero_ps())
STORED_TYPE(iq4_nl, q4_0, iq4_nl())

void hone_avx512_matmul_stored(MatmulTable *table) {
    table->unpack[HONE_Q4_0] = unpack_q4_0;
    table->unpack[HONE_Q4_1] = unpack_q4_1;
    table->unpack[HONE_Q8_0] = unpack_q8_0;
    table->unpack[HONE_IQ4_NL] = unpack_iq4_nl;
    table->dot[HONE_Q4_0] = dot_q4_0;
    table->dot[HONE_Q4_1] = dot_q4_1;
    table->dot[HONE_Q8_0] = dot_q8_0;
    table->dot[HONE_IQ4_NL] = dot_iq4_nl;
}
