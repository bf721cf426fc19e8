// SPDX-License-Identifier: Apache-2.0
// AVX2 dot products with stored rows: a token is decoded with these.
#include "kernels/isa/avx2/matmul_unpack.h"

#include <immintrin.h>
#include <string.h>

#include "base/half.h"

static inline float sum_of(__m256 v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float half_at(const uint8_t *bytes) {
    uint16_t bits;
    memcpy(&bits, bytes, sizeof bits);
    return _cvtsh_ss(bits);
}

typedef enum PlainType { PLAIN_F32, PLAIN_F16, PLAIN_BF16 } PlainType;

// Eight elements from the k-th of a row of plain numbers.
static inline __m256 eight_at(const char *row, int64_t k, PlainType type) {
    if (type == PLAIN_F32) return _mm256_loadu_ps((const float *)(const void *)row + k);
    __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)(row + 2 * k));
    if (type == PLAIN_F16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

static inline float one_at(const char *row, int64_t k, PlainType type) {
    if (type == PLAIN_F32) return ((const float *)(const void *)row)[k];
    const uint8_t *bytes = (const uint8_t *)row + 2 * k;
    if (type == PLAIN_F16) return half_at(bytes);
    return hone_bf16_to_f32((uint16_t)(bytes[0] | bytes[1] << 8));
}

// Two sums a row whether four rows go together or one, so that a row's bits are the same.
static inline void dot_rows(const char *w, size_t row_bytes, int rows, PlainType type,
                            const float *x, int64_t K, float *y) {
    __m256 sum[4][2];
    for (int j = 0; j < rows; j++) sum[j][0] = sum[j][1] = _mm256_setzero_ps();
    int64_t k = 0;
    for (; k + 16 <= K; k += 16) {
        __m256 x0 = _mm256_loadu_ps(x + k), x1 = _mm256_loadu_ps(x + k + 8);
        for (int j = 0; j < rows; j++) {
            const char *row = w + (size_t)j * row_bytes;
            sum[j][0] = _mm256_fmadd_ps(eight_at(row, k, type), x0, sum[j][0]);
            sum[j][1] = _mm256_fmadd_ps(eight_at(row, k + 8, type), x1, sum[j][1]);
        }
    }
    for (int j = 0; j < rows; j++) {
        float rest = 0;
        for (int64_t i = k; i < K; i++) rest += one_at(w + (size_t)j * row_bytes, i, type) * x[i];
        y[j] = sum_of(_mm256_add_ps(sum[j][0], sum[j][1])) + rest;
    }
}

static inline void dot_plain(const void *stored, size_t row_bytes, int64_t rows, PlainType type,
                             const float *x, int64_t K, float *y) {
    const char *w = stored;
    int64_t j = 0;
    for (; j + 4 <= rows; j += 4)
        dot_rows(w + (size_t)j * row_bytes, row_bytes, 4, type, x, K, y + j);
    for (; j < rows; j++) dot_rows(w + (size_t)j * row_bytes, row_bytes, 1, type, x, K, y + j);
}

static void dot_f32(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                    float *y) {
    dot_plain(stored, row_bytes, rows, PLAIN_F32, x, K, y);
}

static void dot_f16(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                    float *y) {
    dot_plain(stored, row_bytes, rows, PLAIN_F16, x, K, y);
}

static void dot_bf16(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                     float *y) {
    dot_plain(stored, row_bytes, rows, PLAIN_BF16, x, K, y);
}

// The 32 products of one block of nibbles with x, as eight sums.
static inline __m256 nibble_products(const uint8_t *nibbles, const float *x) {
    const __m256i low = _mm256_set1_epi32(15);
    __m256i a = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)nibbles));
    __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(nibbles + 8)));
    __m256 sum = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_and_si256(a, low)), _mm256_loadu_ps(x));
    __m256 more =
        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_and_si256(b, low)), _mm256_loadu_ps(x + 8));
    sum =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(a, 4)), _mm256_loadu_ps(x + 16), sum);
    more =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(b, 4)), _mm256_loadu_ps(x + 24), more);
    return _mm256_add_ps(sum, more);
}

static inline __m256 sum_of_32(const float *x) {
    __m256 left = _mm256_add_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8));
    __m256 right = _mm256_add_ps(_mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24));
    return _mm256_add_ps(left, right);
}

// Σ (d·q + m)·x = Σ_blocks d·Σ q·x + m·Σ x for up to four rows.
static inline void rows_q4_1(const uint8_t *block, size_t row_bytes, int rows, const float *x,
                             int64_t K, float *y) {
    __m256 scaled[4], shifted[4];
    for (int j = 0; j < rows; j++) scaled[j] = shifted[j] = _mm256_setzero_ps();
    for (int64_t k = 0; k < K; k += 32, block += 20) {
        __m256 sum = sum_of_32(x + k);
        for (int j = 0; j < rows; j++) {
            const uint8_t *b = block + (size_t)j * row_bytes;
            __m128 pair = _mm_cvtph_ps(_mm_loadu_si32(b)); // d, m
            __m256 d = _mm256_broadcastss_ps(pair);
            __m256 m = _mm256_broadcastss_ps(_mm_movehdup_ps(pair));
            scaled[j] = _mm256_fmadd_ps(d, nibble_products(b + 4, x + k), scaled[j]);
            shifted[j] = _mm256_fmadd_ps(m, sum, shifted[j]);
        }
    }
    for (int j = 0; j < rows; j++) y[j] = sum_of(_mm256_add_ps(scaled[j], shifted[j]));
}

static void dot_q4_1(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                     float *y) {
    const uint8_t *w = stored;
    int64_t j = 0;
    for (; j + 4 <= rows; j += 4) rows_q4_1(w + (size_t)j * row_bytes, row_bytes, 4, x, K, y + j);
    for (; j < rows; j++) rows_q4_1(w + (size_t)j * row_bytes, row_bytes, 1, x, K, y + j);
}

// Σ d·(q − 8)·x = Σ_blocks d·(Σ q·x − 8·Σ x) for up to four rows.
static inline void rows_q4_0(const uint8_t *block, size_t row_bytes, int rows, const float *x,
                             int64_t K, float *y) {
    const __m256 eight = _mm256_set1_ps(8);
    __m256 total[4];
    for (int j = 0; j < rows; j++) total[j] = _mm256_setzero_ps();
    for (int64_t k = 0; k < K; k += 32, block += 18) {
        __m256 sum = sum_of_32(x + k);
        for (int j = 0; j < rows; j++) {
            const uint8_t *b = block + (size_t)j * row_bytes;
            __m256 products = _mm256_fnmadd_ps(eight, sum, nibble_products(b + 2, x + k));
            total[j] = _mm256_fmadd_ps(_mm256_set1_ps(half_at(b)), products, total[j]);
        }
    }
    for (int j = 0; j < rows; j++) y[j] = sum_of(total[j]);
}

static void dot_q4_0(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                     float *y) {
    const uint8_t *w = stored;
    int64_t j = 0;
    for (; j + 4 <= rows; j += 4) rows_q4_0(w + (size_t)j * row_bytes, row_bytes, 4, x, K, y + j);
    for (; j < rows; j++) rows_q4_0(w + (size_t)j * row_bytes, row_bytes, 1, x, K, y + j);
}

static inline __m256 bytes_as_floats(const uint8_t *bytes) {
    __m128i packed = _mm_loadl_epi64((const __m128i *)(const void *)bytes);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(packed));
}

static void dot_q8_0(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                     float *y) {
    for (int64_t j = 0; j < rows; j++) {
        const uint8_t *block = (const uint8_t *)stored + (size_t)j * row_bytes;
        __m256 total = _mm256_setzero_ps();
        for (int64_t k = 0; k < K; k += 32, block += 34) {
            __m256 sum = _mm256_mul_ps(bytes_as_floats(block + 2), _mm256_loadu_ps(x + k));
            __m256 more = _mm256_mul_ps(bytes_as_floats(block + 10), _mm256_loadu_ps(x + k + 8));
            sum = _mm256_fmadd_ps(bytes_as_floats(block + 18), _mm256_loadu_ps(x + k + 16), sum);
            more = _mm256_fmadd_ps(bytes_as_floats(block + 26), _mm256_loadu_ps(x + k + 24), more);
            total =
                _mm256_fmadd_ps(_mm256_set1_ps(half_at(block)), _mm256_add_ps(sum, more), total);
        }
        y[j] = sum_of(total);
    }
}

void hone_avx2_matmul_dot(MatmulTable *table) {
    table->dot[HONE_F32] = dot_f32;
    table->dot[HONE_F16] = dot_f16;
    table->dot[HONE_BF16] = dot_bf16;
    table->dot[HONE_Q4_0] = dot_q4_0;
    table->dot[HONE_Q4_1] = dot_q4_1;
    table->dot[HONE_Q8_0] = dot_q8_0;
}
