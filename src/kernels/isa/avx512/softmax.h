// SPDX-License-Identifier: Apache-2.0
// What the softmax's loops of the levels from AVX-512 on share.
#ifndef HONE_KERNELS_ISA_AVX512_SOFTMAX_H
#define HONE_KERNELS_ISA_AVX512_SOFTMAX_H

#include <immintrin.h>

#include "kernels/attention_math.h"

// exp_flushed of sixteen. The operand order of maximum and minimum lets NaN through.
static inline __m512 hone_avx512_exponential(__m512 x) {
    const __m512 round = _mm512_set1_ps(EXP_ROUND), log2_e = _mm512_set1_ps(EXP_LOG2_E);
    x = _mm512_max_ps(_mm512_set1_ps(EXP_LOWEST), x);
    __m512 rounded = _mm512_fmadd_ps(x, log2_e, round);
    __m512 f = _mm512_fmsub_ps(x, log2_e, _mm512_sub_ps(rounded, round));
    __m512 power = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(rounded), 23));
    __m512 y = _mm512_set1_ps(EXP_C5);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(EXP_C4));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(EXP_C3));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(EXP_C2));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(EXP_C1));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_mul_ps(y, power);
}

// The lanes whose query sees the key.
static inline __mmask16 hone_avx512_seen(__m512i query, int32_t begin, int32_t end) {
    __mmask16 begun = _mm512_cmpge_epi32_mask(query, _mm512_set1_epi32(begin));
    return _mm512_mask_cmplt_epi32_mask(begun, query, _mm512_set1_epi32(end));
}

#endif
