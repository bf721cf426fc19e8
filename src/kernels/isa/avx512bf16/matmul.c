// SPDX-License-Identifier: Apache-2.0
// AVX512-BF16: AVX-512's tile of 12 rows by 32 columns on pairs of bf16 values. One instruction
// multiplies sixteen pairs and adds both products to sixteen f32 sums; it reads subnormal numbers
// as 0. Everything else is AVX-512's.
#include <immintrin.h>
#include <string.h>

#include "kernels/isa/avx512/transpose.h"
#include "kernels/peak_work.h"
#include "kernels/table.h"

enum { ROWS = 12, COLUMNS = 32, LANES = 16 };

// The pair at a in all lanes. As assembly, because gcc 12 takes two instructions.
static inline __m512i spread_pair(const float *a) {
    __m512i pairs;
    __asm__("vpbroadcastd %1, %0" : "=v"(pairs) : "m"(*a));
    return pairs;
}

static inline __m512 add_pairs(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

static inline void update(float *c, __m512 sum, __m512 alpha, bool accumulate) {
    if (accumulate)
        _mm512_storeu_ps(c, _mm512_fmadd_ps(alpha, sum, _mm512_loadu_ps(c)));
    else
        _mm512_storeu_ps(c, _mm512_mul_ps(alpha, sum));
}

// 24 sums, 2 of B and 1 of A, which is always packed.
static void tile_12x32_bf16(const MatmulTile *tile) {
    const float *a = tile->A, *b = tile->B;
    const int64_t a_step = tile->a_step, b_step = tile->b_step;
    __m512 sum[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        _mm_prefetch((const char *)(tile->C + r * tile->ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(tile->C + r * tile->ldc + COLUMNS - 1), _MM_HINT_T0);
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < tile->K; k++, a += a_step, b += b_step) {
        const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            const __m512i pairs = spread_pair(a + r);
            sum[r][0] = add_pairs(sum[r][0], pairs, b0);
            sum[r][1] = add_pairs(sum[r][1], pairs, b1);
        }
    }
    const __m512 alpha = _mm512_set1_ps(tile->alpha);
    const bool accumulate = tile->accumulate;
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        float *c = tile->C + r * tile->ldc;
        update(c, sum[r][0], alpha, accumulate);
        update(c + LANES, sum[r][1], alpha, accumulate);
    }
}

// Sixteen columns of two rows at a time; a width that is no multiple of it ends in a part of them.
// Rows of pairs are written where rows were read before.
static void pair_rows(float *x, int64_t K, int64_t width) {
    static const uint16_t interleaved[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                             21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                             11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_loadu_si512(interleaved);
    for (int64_t k = 0; k < K; k += 2)
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t left = width - j;
            const __mmask16 mask = left < LANES ? (__mmask16)((1u << left) - 1) : 0xffff;
            const float *from = x + k * width + j;
            const __m512 even = _mm512_maskz_loadu_ps(mask, from);
            const __m512 odd =
                k + 1 < K ? _mm512_maskz_loadu_ps(mask, from + width) : _mm512_setzero_ps();
            const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even); // the first goes high
            const __m512i pairs = _mm512_permutexvar_epi16(order, both);
            _mm512_mask_storeu_epi32(x + k / 2 * width + j, mask, pairs);
        }
}

// Sixteen pairs of a row: of elements beyond `left`, zeros.
static inline __m512 load_pairs(const float *x, int64_t left) {
    const uint32_t mask = left < 2 * LANES ? (1u << left) - 1 : 0xffffffff;
    const __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x);
    const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> LANES), x + LANES);
    return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low)); // the first goes high
}

static void pack_pairs(const float *x, int64_t stride, int64_t K, int64_t width, float *pairs) {
    float last[LANES * COLUMNS]; // of fewer than sixteen pairs
    for (int64_t k = 0; k < K; k += 2 * LANES, pairs += LANES * width) {
        float *to = k + 2 * LANES <= K ? pairs : last;
        for (int64_t j = 0; j < width; j += 4) {
            __m512 rows[4];
            for (int64_t i = 0; i < 4; i++) rows[i] = load_pairs(x + (j + i) * stride + k, K - k);
            store_transposed(rows, width, to + j);
        }
        if (to == last) memcpy(pairs, last, (size_t)((K - k + 1) / 2 * width) * sizeof *pairs);
    }
}

HONE_PEAK_WORK(peak_work, "vdpbf16ps", "zmm", 32)

void hone_avx512bf16_matmul(MatmulTable *table) {
    table->peak_work_bf16 = peak_work;
    table->pair_rows = pair_rows;
    table->pack_pairs = pack_pairs;
    table->tile_bf16 = tile_12x32_bf16;
}
