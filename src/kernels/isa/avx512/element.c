// SPDX-License-Identifier: Apache-2.0
// Sixteen lanes: AVX-512 F, BW, DQ, VL. The loops are in kernels/element_vector.h.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/element_math.h"

enum { LANES = 16, NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

typedef __m512 Vector;
typedef __m512d Wide;

// The lanes below n.
static inline __mmask16 below(int64_t n) {
    return (__mmask16)((1u << n) - 1u);
}

static inline Vector load(const float *x) {
    return _mm512_loadu_ps(x);
}

static inline void store(float *y, Vector v) {
    _mm512_storeu_ps(y, v);
}

static inline Vector load_part(const float *x, int64_t n) {
    return _mm512_maskz_loadu_ps(below(n), x);
}

static inline void store_part(float *y, Vector v, int64_t n) {
    _mm512_mask_storeu_ps(y, below(n), v);
}

static inline Vector first_lanes(Vector v, int64_t n) {
    return _mm512_maskz_mov_ps(below(n), v);
}

static inline Vector spread(float f) {
    return _mm512_set1_ps(f);
}

static inline Vector negative_size(Vector v) {
    return _mm512_or_ps(v, _mm512_set1_ps(-0.0f));
}

static inline Vector root(Vector v) {
    return _mm512_sqrt_ps(v);
}

static inline Vector larger(Vector a, Vector b) {
    return _mm512_max_ps(a, b);
}

static inline Vector by_sign(Vector g, Vector a, Vector b) {
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(g)), a, b);
}

static inline Vector exponential(Vector x) {
    x = larger(spread(HONE_EXP_LOW), x);
    x = _mm512_min_ps(spread(HONE_EXP_HIGH), x);
    Vector n = _mm512_roundscale_ps(x * spread(HONE_LOG2_E), NEAREST);
    Vector r = _mm512_fnmadd_ps(n, spread(HONE_LN2_HIGH), x);
    r = _mm512_fnmadd_ps(n, spread(HONE_LN2_LOW), r);
    Vector p = _mm512_fmadd_ps(r, spread(HONE_EXP_C6), spread(HONE_EXP_C5));
    p = _mm512_fmadd_ps(r, p, spread(HONE_EXP_C4));
    p = _mm512_fmadd_ps(r, p, spread(HONE_EXP_C3));
    p = _mm512_fmadd_ps(r, p, spread(HONE_EXP_C2));
    p = _mm512_fmadd_ps(r * r, p, r) + spread(1);
    return _mm512_scalef_ps(p, n);
}

static inline Vector swap_neighbours(Vector v) {
    return _mm512_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1));
}

static inline Vector negative_even(Vector v) {
    const __m512i sign = _mm512_set1_epi64(0x80000000);
    return _mm512_xor_ps(v, _mm512_castsi512_ps(sign));
}

static inline Vector double_low(Vector v) {
    const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(lanes, v);
}

static inline Vector double_high(Vector v) {
    const __m512i lanes =
        _mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
    return _mm512_permutexvar_ps(lanes, v);
}

static inline Wide wide_low(Vector v) {
    return _mm512_cvtps_pd(_mm512_castps512_ps256(v));
}

static inline Wide wide_high(Vector v) {
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
}

static inline float sum_lanes(Vector v) {
    __m256 eight = _mm512_castps512_ps256(v) + _mm512_extractf32x8_ps(v, 1);
    __m128 four = _mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1);
    __m128 two = four + _mm_movehl_ps(four, four);
    return _mm_cvtss_f32(two) + _mm_cvtss_f32(_mm_movehdup_ps(two));
}

static inline double sum_wide(Wide w) {
    __m256d four = _mm512_castpd512_pd256(w) + _mm512_extractf64x4_pd(w, 1);
    __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

static inline float largest_lane(Vector v) {
    return _mm512_reduce_max_ps(v);
}

#include "kernels/element_vector.h"

void hone_avx512_element(ElementTable *table) {
    fill_element_table(table);
}
