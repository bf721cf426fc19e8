// SPDX-License-Identifier: Apache-2.0
// What the softmax's loops of the levels from AVX-512 on share.
#ifndef HONE_KERNELS_ISA_AVX512_SOFTMAX_H
#define HONE_KERNELS_ISA_AVX512_SOFTMAX_H

#include <immintrin.h>

#include "kernels/attention_math.h"

// e^x for x ≤ 0 of sixteen, to the same tolerance as exp_flushed, in five multiply-adds instead of
// its eight: where two products' multiply-adds are done a cycle, these are what the softmax costs.
// t = 32·x·log2 e = 32·k + j + f, with |f| ≤ ½: 2^k · 2^(j/32) · 2^(f/32). The middle factor is
// looked up by the low five bits of t rounded (Tang 1989), and for the last a parabola is enough:
// it is 1 at 0, its largest error is 7e-8, and its mean error takes the table's roundings back. The
// entries are the bits of 2^(j/32), less j·2^18, which t's bits, moved to the exponent, add.
enum { HONE_EXP_PARTS = 32 };
static const uint32_t hone_avx512_powers[HONE_EXP_PARTS] = {
    0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a, 0x3f79c3d3, 0x3f78f4f0,
    0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043, 0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6,
    0x3f7504f3, 0x3f74fbaf, 0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
    0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba, 0x3f7d257d, 0x3f7e83b3,
};

static inline __m512 hone_avx512_exponential(__m512 x) {
    const __m512i low = _mm512_loadu_si512(hone_avx512_powers);
    const __m512i high = _mm512_loadu_si512(hone_avx512_powers + HONE_EXP_PARTS / 2);
    const __m512 round = _mm512_set1_ps(0x1.8p23f);
    const __m512 log2_e = _mm512_set1_ps(HONE_EXP_PARTS * EXP_LOG2_E);
    // Below -126·ln 2, 2^k is no normal number; NaN is not below.
    __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33654f), _CMP_NLT_UQ);
    __m512 rounded = _mm512_fmadd_ps(x, log2_e, round);
    __m512 f = _mm512_fmsub_ps(x, log2_e, _mm512_sub_ps(rounded, round));
    __m512i t = _mm512_castps_si512(rounded);
    __m512i power =
        _mm512_add_epi32(_mm512_slli_epi32(t, 18), _mm512_permutex2var_epi32(low, t, high));
    __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(0x1.ebbcf8p-13f), f, _mm512_set1_ps(0x1.62e5a2p-6f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_maskz_mul_ps(normal, y, _mm512_castsi512_ps(power));
}

// The lanes whose query sees the key.
static inline __mmask16 hone_avx512_seen(__m512i query, int32_t begin, int32_t end) {
    __mmask16 begun = _mm512_cmpge_epi32_mask(query, _mm512_set1_epi32(begin));
    return _mm512_mask_cmplt_epi32_mask(begun, query, _mm512_set1_epi32(end));
}

#endif
