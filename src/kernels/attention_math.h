// SPDX-License-Identifier: Apache-2.0
// e^x for x ≤ 0 as attention needs it, the same steps on every level: t = x·log2 e, n = round(t),
// 2^n · polynomial(t − n). Below -87.7 the result is a true zero, so that a masked score
// (-infinity) weighs nothing; NaN stays NaN. Relative error below 2.5e-7 for |x| < 1, growing by
// 6e-8·|x| where there is no fused multiply-add.
#ifndef HONE_KERNELS_ATTENTION_MATH_H
#define HONE_KERNELS_ATTENTION_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

// Adding it rounds to an integer and leaves n + 127 in the low bits: the exponent field of 2^n.
#define EXP_ROUND 12583039.0f // 1.5·2^23 + 127
#define EXP_LOWEST -88.02969f // -127·ln 2: exponent field 0
#define EXP_LOG2_E 1.44269504088896341f
// 2^f on [-½, ½]: among the polynomials that are 1 at 0 and whose relative error is 0 on the
// average, the one whose largest error (1.11e-7) is least. An error of one sign would not cancel in
// a sum of exponentials, and the largest score's, e^0, would have none of it.
#define EXP_C1 0x1.62e41ep-1f
#define EXP_C2 0x1.ebfa0ap-3f
#define EXP_C3 0x1.c6bedcp-5f
#define EXP_C4 0x1.3cd450p-7f
#define EXP_C5 0x1.59485cp-10f

static inline float exp_flushed(float x) {
    x = x < EXP_LOWEST ? EXP_LOWEST : x;
    float rounded = x * EXP_LOG2_E + EXP_ROUND;
    float f = x * EXP_LOG2_E - (rounded - EXP_ROUND);
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    bits <<= 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    float y = EXP_C5;
    y = y * f + EXP_C4;
    y = y * f + EXP_C3;
    y = y * f + EXP_C2;
    y = y * f + EXP_C1;
    y = y * f + 1.0f;
    return y * power;
}

// log x for a normal x > 0, NaN for NaN: x = m·2^n with m in [⅔, 4/3), log m =
// 2·artanh((m−1)/(m+1)). Absolute error below 1e-7·max(1, |n|); without a branch, so that a loop of
// it is vectorised.
static inline float log_positive(float x) {
    int32_t bits, third = 0x3f2aaaab; // ⅔
    memcpy(&bits, &x, sizeof bits);
    int32_t n = (bits - third) >> 23;
    bits -= n * (1 << 23);
    float m;
    memcpy(&m, &bits, sizeof m);
    float t = (m - 1.0f) / (m + 1.0f), t2 = t * t;
    float y = 2.0f / 9.0f;
    y = y * t2 + 2.0f / 7.0f;
    y = y * t2 + 2.0f / 5.0f;
    y = y * t2 + 2.0f / 3.0f;
    y = y * t2 + 2.0f;
    return (float)n * 0.69314718055994531f + y * t + x * 0.0f;
}

#endif
