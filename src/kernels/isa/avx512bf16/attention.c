// SPDX-License-Identifier: Apache-2.0
// AVX512-BF16: one instruction multiplies sixteen pairs and adds both products to sixteen f32 sums.
// It reads subnormal numbers as 0. Everything else is AVX-512's.
#include <immintrin.h>

#include "kernels/table.h"

enum { MOST_ROWS = 16 };

// Two neighbours of a row of A, at any address.
typedef struct __attribute__((packed, may_alias)) Pair {
    uint32_t bits;
} Pair;

// sum += the pair, in all lanes, times b. As assembly, because gcc 12 takes a second instruction to
// broadcast the pair.
static inline __m512 add_pair(__m512 sum, __m512i b, const uint16_t *a) {
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(b), "m"(*(const Pair *)a));
    return sum;
}

// Rows [m, m + rows) of C: a sum for each, and pairs broadcast straight from memory. rows is a
// constant at each call.
static inline __attribute__((always_inline)) void tile(int rows, const PairProduct *p, int64_t m) {
    __m512 sums[MOST_ROWS];
    const uint16_t
        *fours[MOST_ROWS / 4]; // every fourth row: the three after it are a short way off
    const uint16_t *B = p->B;
    const int64_t row = p->row, pairs = p->pairs;
    for (int r = 0; r < rows; r++) sums[r] = _mm512_setzero_ps();
    for (int r = 0; r < rows; r += 4) fours[r / 4] = p->A + (m + r) * row;
    for (int64_t k = 0; k < pairs; k++, B += 2 * HONE_PANEL) {
        __m512i b = _mm512_loadu_si512(B);
        for (int r = 0; r < rows; r++) sums[r] = add_pair(sums[r], b, fours[r / 4] + r % 4 * row);
        for (int r = 0; r < rows; r += 4) fours[r / 4] += 2;
    }
    const __m512 factor = _mm512_set1_ps(p->factor);
    const int64_t ldc = p->ldc;
    float *C = p->C + m * ldc;
    for (int r = 0; r < rows; r++) {
        if (p->accumulate)
            sums[r] = _mm512_fmadd_ps(factor, sums[r], _mm512_loadu_ps(C + r * ldc));
        else
            sums[r] = _mm512_mul_ps(factor, sums[r]);
        _mm512_storeu_ps(C + r * ldc, sums[r]);
    }
    if (!p->highest) return;
    __m512 most = _mm512_loadu_ps(p->highest);
    for (int r = 0; r < rows; r++) most = _mm512_max_ps(sums[r], most); // NaN is no maximum
    _mm512_storeu_ps(p->highest, most);
}

static void product_bf16(const PairProduct *p) {
    int64_t m = 0;
    for (; p->M - m >= 16; m += 16) tile(16, p, m);
    for (; p->M - m >= 8; m += 8) tile(8, p, m);
    for (; p->M - m >= 4; m += 4) tile(4, p, m);
    switch (p->M - m) {
    case 1:
        tile(1, p, m);
        break;
    case 2:
        tile(2, p, m);
        break;
    case 3:
        tile(3, p, m);
        break;
    default:
        break;
    }
}

static void pack_pairs(int64_t rows, const float *X, int64_t ld, uint16_t *pairs) {
    static const uint16_t interleaved[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                             21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                             11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_loadu_si512(interleaved);
    for (int64_t r = 0; r < rows; r += 2, X += 2 * ld, pairs += 2 * HONE_PANEL) {
        __m512 even = _mm512_loadu_ps(X);
        __m512 odd = r + 1 < rows ? _mm512_loadu_ps(X + ld) : _mm512_setzero_ps();
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even); // the first argument goes high
        _mm512_storeu_si512(pairs, _mm512_permutexvar_epi16(order, both));
    }
}

static void narrow(int64_t rows, int64_t columns, const float *X, int64_t ld, uint16_t *Y,
                   int64_t to_ld) {
    const int64_t whole = columns / HONE_PANEL * HONE_PANEL;
    const __mmask16 rest = (__mmask16)((1u << (columns - whole)) - 1);
    for (int64_t r = 0; r < rows; r++, X += ld, Y += to_ld) {
        for (int64_t c = 0; c < whole; c += HONE_PANEL)
            _mm256_storeu_si256((__m256i *)(Y + c),
                                (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(X + c)));
        if (rest)
            _mm256_mask_storeu_epi16(
                Y + whole, rest,
                (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(rest, X + whole)));
    }
}

void hone_avx512bf16_attention(AttentionTable *table) {
    table->product_bf16 = product_bf16;
    table->pack_pairs = pack_pairs;
    table->narrow = narrow;
}
