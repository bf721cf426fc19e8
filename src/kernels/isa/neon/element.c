// SPDX-License-Identifier: Apache-2.0
// Four lanes: NEON. The loops are in kernels/element_vector.h.
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "kernels/element_math.h"

enum { LANES = 4 };

typedef float32x4_t Vector;
typedef float64x2_t Wide;

static inline Vector load(const float *x) {
    return vld1q_f32(x);
}

static inline void store(float *y, Vector v) {
    vst1q_f32(y, v);
}

static inline Vector load_part(const float *x, int64_t n) {
    float lanes[LANES] = {0};
    memcpy(lanes, x, (size_t)n * sizeof *lanes);
    return vld1q_f32(lanes);
}

static inline void store_part(float *y, Vector v, int64_t n) {
    float lanes[LANES];
    vst1q_f32(lanes, v);
    memcpy(y, lanes, (size_t)n * sizeof *lanes);
}

static inline Vector first_lanes(Vector v, int64_t n) {
    static const int32_t number[LANES] = {0, 1, 2, 3};
    uint32x4_t kept = vcltq_s32(vld1q_s32(number), vdupq_n_s32((int32_t)n));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), kept));
}

static inline Vector spread(float f) {
    return vdupq_n_f32(f);
}

static inline Vector negative_size(Vector v) {
    return vnegq_f32(vabsq_f32(v));
}

static inline Vector root(Vector v) {
    return vsqrtq_f32(v);
}

static inline Vector larger(Vector a, Vector b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static inline Vector by_sign(Vector g, Vector a, Vector b) {
    int32x4_t sign = vshrq_n_s32(vreinterpretq_s32_f32(g), 31);
    return vbslq_f32(vreinterpretq_u32_s32(sign), b, a);
}

// 2^k of whole lanes, −126 ≤ k ≤ 127
static inline Vector power_of_two(int32x4_t k) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(k, vdupq_n_s32(127)), 23));
}

static inline Vector exponential(Vector x) {
    const Vector highest = spread(HONE_EXP_HIGH);
    x = larger(spread(HONE_EXP_LOW), x);
    x = vbslq_f32(vcltq_f32(highest, x), highest, x);
    Vector n = vrndnq_f32(x * spread(HONE_LOG2_E));
    Vector r = vfmsq_f32(x, n, spread(HONE_LN2_HIGH));
    r = vfmsq_f32(r, n, spread(HONE_LN2_LOW));
    Vector p = vfmaq_f32(spread(HONE_EXP_C5), r, spread(HONE_EXP_C6));
    p = vfmaq_f32(spread(HONE_EXP_C4), r, p);
    p = vfmaq_f32(spread(HONE_EXP_C3), r, p);
    p = vfmaq_f32(spread(HONE_EXP_C2), r, p);
    p = vfmaq_f32(r, r * r, p) + spread(1);
    // Two factors, so that results below the normal range round once, at the end.
    int32x4_t power = vcvtnq_s32_f32(n), half = vshrq_n_s32(power, 1);
    return p * power_of_two(half) * power_of_two(vsubq_s32(power, half));
}

static inline Vector swap_neighbours(Vector v) {
    return vrev64q_f32(v);
}

static inline Vector negative_even(Vector v) {
    static const uint32_t signs[LANES] = {0x80000000u, 0, 0x80000000u, 0};
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), vld1q_u32(signs)));
}

static inline Vector double_low(Vector v) {
    return vzip1q_f32(v, v);
}

static inline Vector double_high(Vector v) {
    return vzip2q_f32(v, v);
}

static inline Wide wide_low(Vector v) {
    return vcvt_f64_f32(vget_low_f32(v));
}

static inline Wide wide_high(Vector v) {
    return vcvt_high_f64_f32(v);
}

static inline float sum_lanes(Vector v) {
    float32x2_t two = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline double sum_wide(Wide w) {
    return vgetq_lane_f64(w, 0) + vgetq_lane_f64(w, 1);
}

static inline float largest_lane(Vector v) {
    return vmaxnmvq_f32(v);
}

#include "kernels/element_vector.h"

void hone_neon_element(ElementTable *table) {
    fill_element_table(table);
}
