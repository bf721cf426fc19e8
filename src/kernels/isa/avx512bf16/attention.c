// SPDX-License-Identifier: Apache-2.0
// AVX512-BF16: one instruction multiplies sixteen pairs and adds both products to sixteen f32 sums.
// It reads subnormal numbers as 0. Everything else is AVX-512's.
#include <immintrin.h>

#include "kernels/isa/avx512/softmax.h"
#include "kernels/table.h"

// Two neighbours of a row of A, at any address.
typedef struct __attribute__((packed, may_alias)) Pair {
    uint32_t bits;
} Pair;

typedef struct PanelSteps {
    const uint16_t *A;
    int64_t row, A_step, B_step, count;
} PanelSteps;

static inline PanelSteps steps_of(const PairProduct *p) {
    return (PanelSteps){p->A, p->row, 2, 2 * HONE_PANEL, p->pairs};
}

// As assembly, because gcc 12 takes a second instruction to broadcast the pair.
static inline __m512 add_spread(__m512 sum, const uint16_t *a, __m512 b) {
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(b), "m"(*(const Pair *)a));
    return sum;
}

static inline __m512 spread(const uint16_t *a) {
    __m512 pair;
    __asm__("vpbroadcastd %1, %0" : "=v"(pair) : "m"(*(const Pair *)a));
    return pair;
}

static inline __m512 add_product(__m512 sum, __m512 a, __m512 b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

static inline __m512 result(const PairProduct *p, __m512 sum) {
    return _mm512_mul_ps(_mm512_set1_ps(p->factor), sum);
}

static inline __m512 result_added(const PairProduct *p, __m512 sum, __m512 c) {
    return _mm512_fmadd_ps(_mm512_set1_ps(p->factor), sum, c);
}

#define PRODUCT PairProduct
#define ELEMENT uint16_t
#define PRODUCT_NAME product_bf16
#include "kernels/isa/avx512/product.h"

// The order in which two rows of sixteen, one behind the other, are pairs.
static inline __m512i pair_order(void) {
    static const uint16_t interleaved[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                             21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                             11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_loadu_si512(interleaved);
}

// Both rounded, as pairs.
static inline __m512i pairs_of(__m512 even, __m512 odd, __m512i order) {
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even); // the first argument goes high
    return _mm512_permutexvar_epi16(order, both);
}

static void pack_pairs(int64_t rows, const float *X, int64_t ld, uint16_t *pairs) {
    const __m512i order = pair_order();
    for (int64_t r = 0; r < rows; r += 2, X += 2 * ld, pairs += 2 * HONE_PANEL) {
        __m512 even = _mm512_loadu_ps(X);
        __m512 odd = r + 1 < rows ? _mm512_loadu_ps(X + ld) : _mm512_setzero_ps();
        _mm512_storeu_si512(pairs, pairs_of(even, odd, order));
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

static void exponent_bf16(const PanelScores *scores, const float shift[HONE_PANEL],
                          float sum[HONE_PANEL], uint16_t *pairs) {
    const __m512i order = pair_order();
    const __m512 from = _mm512_loadu_ps(shift);
    __m512 total = _mm512_loadu_ps(sum);
    const float *S = scores->S;
    int64_t ld = scores->ld;
    for (int64_t k = 0; k < scores->keys; k += 2, S += 2 * ld, pairs += 2 * HONE_PANEL) {
        __m512 even = hone_avx512_exponential(_mm512_sub_ps(_mm512_loadu_ps(S), from));
        __m512 odd = _mm512_setzero_ps();
        total = _mm512_add_ps(total, even);
        if (k + 1 < scores->keys) {
            odd = hone_avx512_exponential(_mm512_sub_ps(_mm512_loadu_ps(S + ld), from));
            total = _mm512_add_ps(total, odd);
        }
        _mm512_storeu_si512(pairs, pairs_of(even, odd, order));
    }
    _mm512_storeu_ps(sum, total);
}

static void gradient_bf16(const PanelScores *scores, float *dP, const float lse[HONE_PANEL],
                          const float D[HONE_PANEL], uint16_t *P, uint16_t *dS) {
    const __m512 shift = _mm512_loadu_ps(lse), sum = _mm512_loadu_ps(D);
    const bool test = scores->begin;
    const __m512i query = test ? _mm512_loadu_si512(scores->query) : _mm512_setzero_si512();
    const int64_t ld = scores->ld;
    const float *S = scores->S;
    for (int64_t k = 0; k < scores->keys; k++, S += ld, dP += ld, P += ld, dS += ld) {
        __mmask16 mask =
            test ? hone_avx512_seen(query, scores->begin[k], scores->end[k]) : (__mmask16)0xffff;
        __m512 x = _mm512_sub_ps(_mm512_loadu_ps(S), shift);
        __m512 p = hone_avx512_exponential(_mm512_min_ps(_mm512_setzero_ps(), x));
        p = _mm512_maskz_mov_ps(mask, p);
        __m512 ds = _mm512_maskz_mul_ps(mask, p, _mm512_sub_ps(_mm512_loadu_ps(dP), sum));
        _mm512_storeu_ps(dP, ds);
        _mm256_storeu_si256((__m256i *)P, (__m256i)_mm512_cvtneps_pbh(p));
        _mm256_storeu_si256((__m256i *)dS, (__m256i)_mm512_cvtneps_pbh(ds));
    }
}

void hone_avx512bf16_attention(AttentionTable *table) {
    table->product_bf16 = product_bf16;
    table->pack_pairs = pack_pairs;
    table->narrow = narrow;
    table->exponent_bf16 = exponent_bf16;
    table->gradient_bf16 = gradient_bf16;
}
