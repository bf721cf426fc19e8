// SPDX-License-Identifier: Apache-2.0
// Eight lanes: AVX2 with FMA. The loops are in kernels/element_vector.h.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/element_math.h"

enum { LANES = 8, NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

typedef __m256 Vector;
typedef __m256d Wide;

static const int32_t lane_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

// All bits in lanes below n.
static inline __m256i below(int64_t n) {
    return _mm256_loadu_si256((const __m256i *)(lane_masks + LANES - n));
}

static inline Vector load(const float *x) {
    return _mm256_loadu_ps(x);
}

static inline void store(float *y, Vector v) {
    _mm256_storeu_ps(y, v);
}

static inline Vector load_part(const float *x, int64_t n) {
    return _mm256_maskload_ps(x, below(n));
}

static inline void store_part(float *y, Vector v, int64_t n) {
    _mm256_maskstore_ps(y, below(n), v);
}

static inline Vector first_lanes(Vector v, int64_t n) {
    return _mm256_and_ps(v, _mm256_castsi256_ps(below(n)));
}

static inline Vector spread(float f) {
    return _mm256_set1_ps(f);
}

static inline Vector negative_size(Vector v) {
    return _mm256_or_ps(v, _mm256_set1_ps(-0.0f));
}

static inline Vector root(Vector v) {
    return _mm256_sqrt_ps(v);
}

static inline Vector larger(Vector a, Vector b) {
    return _mm256_max_ps(a, b);
}

static inline Vector by_sign(Vector g, Vector a, Vector b) {
    return _mm256_blendv_ps(a, b, g);
}

// 2^k of whole lanes, −126 ≤ k ≤ 127
static inline Vector power_of_two(__m256i k) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23));
}

static inline Vector exponential(Vector x) {
    x = larger(spread(HONE_EXP_LOW), x);
    x = _mm256_min_ps(spread(HONE_EXP_HIGH), x);
    Vector n = _mm256_round_ps(x * spread(HONE_LOG2_E), NEAREST);
    Vector r = _mm256_fnmadd_ps(n, spread(HONE_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, spread(HONE_LN2_LOW), r);
    Vector p = _mm256_fmadd_ps(r, spread(HONE_EXP_C6), spread(HONE_EXP_C5));
    p = _mm256_fmadd_ps(r, p, spread(HONE_EXP_C4));
    p = _mm256_fmadd_ps(r, p, spread(HONE_EXP_C3));
    p = _mm256_fmadd_ps(r, p, spread(HONE_EXP_C2));
    p = _mm256_fmadd_ps(r * r, p, r) + spread(1);
    // Two factors, so that results below the normal range round once, at the end.
    __m256i power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1);
    return p * power_of_two(half) * power_of_two(_mm256_sub_epi32(power, half));
}

static inline Vector swap_neighbours(Vector v) {
    return _mm256_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1));
}

static inline Vector negative_even(Vector v) {
    return _mm256_xor_ps(v, _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0));
}

static inline Vector double_low(Vector v) {
    return _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

static inline Vector double_high(Vector v) {
    return _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
}

static inline Wide wide_low(Vector v) {
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}

static inline Wide wide_high(Vector v) {
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

static inline float sum_lanes(Vector v) {
    __m128 four = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
    __m128 two = four + _mm_movehl_ps(four, four);
    return _mm_cvtss_f32(two) + _mm_cvtss_f32(_mm_movehdup_ps(two));
}

static inline double sum_wide(Wide w) {
    __m128d two = _mm256_castpd256_pd128(w) + _mm256_extractf128_pd(w, 1);
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

static inline float largest_lane(Vector v) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#include "kernels/element_vector.h"

void hone_avx2_element(ElementTable *table) {
    fill_element_table(table);
}
