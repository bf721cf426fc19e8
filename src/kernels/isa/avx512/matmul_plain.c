// SPDX-License-Identifier: Apache-2.0
// AVX-512 dot products with rows of F16 and BF16: what a token is decoded with where the weights
// are not quantised. Rows of F32, which memory bounds, are no faster in wider registers than
// AVX2's.
#include <immintrin.h>

#include "kernels/isa/avx512/matmul_stored.h"

enum { LANES = 16, GROUP = 4 };

typedef enum PlainType { PLAIN_F16, PLAIN_BF16 } PlainType;

// Sixteen elements of a row from the k-th on; those outside of the mask are 0 and are not read.
static inline __m512 elements(const char *row, int64_t k, PlainType type, __mmask16 mask) {
    const __m256i halves = _mm256_maskz_loadu_epi16(mask, row + 2 * k);
    if (type == PLAIN_F16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// Two sums a row whether four rows go together or one, so that a row's bits are the same.
static inline void dot_group(const char *w, size_t row_bytes, int rows, PlainType type,
                             const float *x, int64_t K, float *y) {
    __m512 sum[GROUP][2];
    for (int j = 0; j < rows; j++) sum[j][0] = sum[j][1] = _mm512_setzero_ps();
    int64_t k = 0;
    for (; k + 2 * LANES <= K; k += 2 * LANES) {
        const __m512 x0 = _mm512_loadu_ps(x + k), x1 = _mm512_loadu_ps(x + k + LANES);
        for (int j = 0; j < rows; j++) {
            const char *row = w + (size_t)j * row_bytes;
            sum[j][0] = _mm512_fmadd_ps(elements(row, k, type, 0xffff), x0, sum[j][0]);
            sum[j][1] = _mm512_fmadd_ps(elements(row, k + LANES, type, 0xffff), x1, sum[j][1]);
        }
    }
    for (; k < K; k += LANES) {
        const __mmask16 mask = K - k < LANES ? (__mmask16)((1u << (K - k)) - 1) : 0xffff;
        const __m512 rest = _mm512_maskz_loadu_ps(mask, x + k);
        for (int j = 0; j < rows; j++)
            sum[j][0] = _mm512_fmadd_ps(elements(w + (size_t)j * row_bytes, k, type, mask), rest,
                                        sum[j][0]);
    }
    for (int j = 0; j < rows; j++) y[j] = _mm512_reduce_add_ps(_mm512_add_ps(sum[j][0], sum[j][1]));
}

static inline void dot(const void *stored, size_t row_bytes, int64_t rows, PlainType type,
                       const float *x, int64_t K, float *y) {
    const char *w = stored;
    int64_t j = 0;
    for (; j + GROUP <= rows; j += GROUP)
        dot_group(w + (size_t)j * row_bytes, row_bytes, GROUP, type, x, K, y + j);
    for (; j < rows; j++) dot_group(w + (size_t)j * row_bytes, row_bytes, 1, type, x, K, y + j);
}

static void dot_f16(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                    float *y) {
    dot(stored, row_bytes, rows, PLAIN_F16, x, K, y);
}

static void dot_bf16(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                     float *y) {
    dot(stored, row_bytes, rows, PLAIN_BF16, x, K, y);
}

void hone_avx512_matmul_plain(MatmulTable *table) {
    table->dot[HONE_F16] = dot_f16;
    table->dot[HONE_BF16] = dot_bf16;
}
