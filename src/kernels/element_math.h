// SPDX-License-Identifier: Apache-2.0
// exp and the sine and cosine of rotary angles, in plain C that compilers can vectorise. The
// polynomials are minimax fits of our own (Remez); their errors stand beside them.
#ifndef HONE_KERNELS_ELEMENT_MATH_H
#define HONE_KERNELS_ELEMENT_MATH_H

#include <stdint.h>
#include <string.h>

#include "base/half.h"

// exp(x) = 2^n · exp(r), n = round(x / ln 2), |r| ≤ ln 2 / 2.
#define HONE_EXP_LOW (-104.0f) // exp is 0 below
#define HONE_EXP_HIGH 89.0f    // and infinity above
#define HONE_LOG2_E 1.44269504f
#define HONE_LN2_HIGH 0x1.62ep-1f // 12 bits: its product with n is exact
#define HONE_LN2_LOW 0x1.0bfbe8p-15f
// exp(r) ≈ 1 + r + r²·(c2 + c3·r + c4·r² + c5·r³ + c6·r⁴), relative error 3.1e-9
#define HONE_EXP_C2 0.499999934125f
#define HONE_EXP_C3 0.166665201078f
#define HONE_EXP_C4 0.0416683942109f
#define HONE_EXP_C5 0.00836878041118f
#define HONE_EXP_C6 0.00138144670593f

// Within 1 ulp or so; 0 and infinity where they belong, NaN comes through.
static inline float hone_exp(float x) {
    x = x < HONE_EXP_LOW ? HONE_EXP_LOW : x;
    x = x > HONE_EXP_HIGH ? HONE_EXP_HIGH : x;
    const float magic = 0x1.8p23f; // adding it rounds to an integer, which the low bits then hold
    float shifted = x * HONE_LOG2_E + magic;
    float n = shifted - magic;
    float r = x - n * HONE_LN2_HIGH;
    r = r - n * HONE_LN2_LOW;
    float p = HONE_EXP_C5 + r * HONE_EXP_C6;
    p = HONE_EXP_C4 + r * p;
    p = HONE_EXP_C3 + r * p;
    p = HONE_EXP_C2 + r * p;
    p = r + r * r * p;
    p = 1.0f + p;
    // 2^n in two factors, so that results below the normal range round once, at the end.
    int32_t power = (int32_t)(hone_f32_to_bits(shifted) & 0x1ffu);
    power = (power ^ 0x100) - 0x100; // the sign of nine bits
    int32_t half = (int32_t)((uint32_t)(power + 256) >> 1) - 128;
    float low = hone_bits_to_f32((uint32_t)(half + 127) << 23);
    float high = hone_bits_to_f32((uint32_t)(power - half + 127) << 23);
    return p * low * high;
}

// σ(g) and 1 − σ(g), both accurate for either sign: with z = e^−|g|, 1/(1+z) and z/(1+z).
static inline void hone_sigmoid(float g, float *sigma, float *rest) {
    float z = hone_exp(g < 0 ? g : -g);
    float large = 1.0f / (1.0f + z), small = z / (1.0f + z);
    *sigma = g < 0 ? small : large;
    *rest = g < 0 ? large : small;
}

// gelu(x) = x·σ(2u), u = √(2/π)·(x + 0.044715·x³) (Hendrycks, Gimpel 2016, with tanh).
// Returns σ(2u); *slope is gelu's derivative σ + x·σ·(1 − σ)·2u'. Beyond ±30 σ is 0 or 1: x taken
// no further keeps infinity out of the slope.
#define HONE_GELU_SCALE 1.59576912161f // 2·√(2/π)
#define HONE_GELU_CUBE 0.044715f
#define HONE_GELU_FAR 30.0f
static inline float hone_gelu_sigma(float x, float *slope) {
    const float v = x < -HONE_GELU_FAR ? -HONE_GELU_FAR : x > HONE_GELU_FAR ? HONE_GELU_FAR : x;
    float sigma, rest, v2 = v * v;
    hone_sigmoid(HONE_GELU_SCALE * v * (1 + HONE_GELU_CUBE * v2), &sigma, &rest);
    *slope = sigma * (1 + v * rest * (HONE_GELU_SCALE * (1 + 3 * HONE_GELU_CUBE * v2)));
    return sigma;
}

// gelu(x) = x·Φ(x) (Hendrycks, Gimpel 2016): returns Φ(x), the normal distribution; *slope is the
// derivative Φ + x·φ. With u = |x| and t = 1/(1 + 0.3·u), Φ(−u) = e^(−u²/2)·t·(c1 + c2·t + … +
// c8·t⁷), the form of Abramowitz and Stegun's 7.1.26 fitted to a relative error of 1.5e-7.
#define HONE_ERF_STEP 0.3f
#define HONE_ERF_C1 0.119629293358f
#define HONE_ERF_C2 0.120754043285f
#define HONE_ERF_C3 0.0999129236392f
#define HONE_ERF_C4 0.128563592674f
#define HONE_ERF_C5 -0.0536875536183f
#define HONE_ERF_C6 0.206357989478f
#define HONE_ERF_C7 -0.157205836543f
#define HONE_ERF_C8 0.0356754751965f
#define HONE_NORMAL_DENSITY 0.398942280401f // 1/√(2π)
static inline float hone_gelu_normal(float x, float *slope) {
    const float v = x < -HONE_GELU_FAR ? -HONE_GELU_FAR : x > HONE_GELU_FAR ? HONE_GELU_FAR : x;
    const float bell = hone_exp(-0.5f * v * v), t = 1 / (1 + HONE_ERF_STEP * (v < 0 ? -v : v));
    float p = HONE_ERF_C8 * t + HONE_ERF_C7;
    p = p * t + HONE_ERF_C6;
    p = p * t + HONE_ERF_C5;
    p = p * t + HONE_ERF_C4;
    p = p * t + HONE_ERF_C3;
    p = p * t + HONE_ERF_C2;
    p = p * t + HONE_ERF_C1;
    const float tail = bell * (p * t), normal = v < 0 ? tail : 1 - tail;
    *slope = normal + HONE_NORMAL_DENSITY * v * bell;
    return normal;
}

// tanh x = x + x³·(c0 + c1·x² + …) near 0 (Cephes' tanhf), where 1 − z below would cancel; else
// ±(1 − z)/(1 + z) with z = e^−2|x|. Within 3 units in the last place; NaN comes through.
#define HONE_TANH_NEAR 0.625f
#define HONE_TANH_C0 -3.33332819422e-1f
#define HONE_TANH_C1 1.33314422036e-1f
#define HONE_TANH_C2 -5.37397155531e-2f
#define HONE_TANH_C3 2.06390887954e-2f
#define HONE_TANH_C4 -5.70498872745e-3f

static inline float hone_tanh(float x) {
    float size = x < 0 ? -x : x, x2 = x * x;
    float z = hone_exp(-2 * size), far = (1 - z) / (1 + z);
    float y = HONE_TANH_C4 * x2 + HONE_TANH_C3;
    y = y * x2 + HONE_TANH_C2;
    y = y * x2 + HONE_TANH_C1;
    y = y * x2 + HONE_TANH_C0;
    float near = x + x * x2 * y;
    return size < HONE_TANH_NEAR ? near : x < 0 ? -far : far;
}

// π/2 in two parts: the first has 21 bits, so its product with a quadrant number is exact.
#define HONE_HALF_PI_HIGH 0x1.921fbp+0
#define HONE_HALF_PI_LOW 0x1.5110b4611a626p-22

// cosine and sine of position · frequency. The product is rounded to float, as it was in the
// programs that trained the published models: at position 1000 that moves an angle by up to 3e-5,
// which must be the same 3e-5. Its reduction to a quadrant is in double, the polynomials
// (|r| ≤ π/4, errors 1e-10 and 4e-9) in float.
static inline void hone_rotary_angle(double position, float frequency, float *cosine, float *sine) {
    const double magic = 0x1.8p52;
    double angle = (double)((float)position * frequency);
    double shifted = angle * 0.63661977236758134 + magic, quadrants = shifted - magic;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    uint32_t quadrant = (uint32_t)bits;
    double reduced = angle - quadrants * HONE_HALF_PI_HIGH;
    float r = (float)(reduced - quadrants * HONE_HALF_PI_LOW), u = r * r;
    float s = -0.000195172346948f * u + 0.00833217768649f;
    s = r + r * u * (s * u - 0.166666549367f);
    float c = 2.44383794626e-5f * u - 0.00138873669099f;
    c = 1.0f - 0.5f * u + u * u * (c * u + 0.0416666468546f);
    float even = quadrant & 1 ? s : c, odd = quadrant & 1 ? c : s;
    *cosine = (quadrant + 1) & 2 ? -even : even;
    *sine = quadrant & 2 ? -odd : odd;
}

#endif
