// SPDX-License-Identifier: Apache-2.0
// Stored elements one by one, each straight from the description of its block.
#include <math.h>

#include "kernels/matmul_reference.h"

static double half_value(const uint8_t *bytes) {
    int bits = bytes[0] | bytes[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
    double sign = bits >> 15 ? -1 : 1;
    if (exponent == 31) return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static double float_value(uint32_t bits) {
    int exponent = (int)(bits >> 23 & 255);
    uint32_t fraction = bits & 0x7fffff;
    double sign = bits >> 31 ? -1 : 1;
    if (exponent == 255) return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -149);
    return sign * ldexp(0x800000 + fraction, exponent - 150);
}

static int bit(const uint8_t *bytes, int index) {
    return bytes[index / 8] >> index % 8 & 1;
}

static int nibble(const uint8_t *bytes, int element) {
    return element < 16 ? bytes[element] & 15 : bytes[element - 16] >> 4;
}

// Element e of a Q4_K (fifth NULL) or Q5_K block.
static double k_element(const uint8_t *block, const uint8_t *fifth, const uint8_t *quants, int e) {
    const uint8_t *s = block + 4;
    int j = e / 32, byte = quants[32 * (j / 2) + e % 32];
    int q = j % 2 ? byte >> 4 : byte & 15;
    if (fifth) q += 16 * (fifth[e % 32] >> j & 1);
    int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
    return half_value(block) * scale * q - half_value(block + 2) * minimum;
}

static double q6_element(const uint8_t *block, int e) {
    int half = e / 128, group = e % 128 / 32, l = e % 32;
    const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
    int byte = low[l + 32 * (group % 2)];
    int q = (group < 2 ? byte & 15 : byte >> 4) | (high[l] >> 2 * group & 3) << 4;
    int scale = (int8_t)block[192 + 8 * half + 2 * group + l / 16];
    return half_value(block + 208) * scale * (q - 32);
}

static double q2_element(const uint8_t *block, int e) {
    int q = block[16 + e / 128 * 32 + e % 32] >> 2 * (e % 128 / 32) & 3, scale = block[e / 16];
    return half_value(block + 80) * (scale % 16) * q - half_value(block + 82) * (scale / 16);
}

static double q3_element(const uint8_t *block, int e) {
    const uint8_t *s = block + 96;
    int q = block[32 + e / 128 * 32 + e % 32] >> 2 * (e % 128 / 32) & 3, j = e / 16;
    if (!(block[e % 32] >> e / 32 & 1)) q -= 4;
    int low = s[j % 8] >> (j < 8 ? 0 : 4) & 15, high = s[8 + j % 4] >> j / 4 * 2 & 3;
    return half_value(block + 108) * (low + 16 * high - 32) * q;
}

// The non-linear 4-bit values of ggml.
static int iq4_value(int nibble_value) {
    static const int values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
    return values[nibble_value];
}

static double iq4_xs_element(const uint8_t *block, int e) {
    int j = e / 32, low = block[4 + j / 2] >> j % 2 * 4 & 15;
    int high = (block[2] + 256 * block[3]) >> 2 * j & 3;
    return half_value(block) * (low + 16 * high - 32) *
           iq4_value(nibble(block + 8 + 16 * j, e % 32));
}

// FP4: a sign, two bits of exponent, one of fraction; a shared power of two (OCP MX, E8M0).
// −0 is stored, +0 is read, as in ggml.
static double mxfp4_element(const uint8_t *block, int e) {
    int bits = nibble(block + 1, e), exponent = bits >> 1 & 3, fraction = bits & 1;
    double size = exponent ? ldexp(2 + fraction, exponent - 2) : fraction / 2.0;
    return ldexp(bits & 8 ? 0 - size : size, block[0] - 127);
}

double hone_reference_element(int dtype, const void *stored, int64_t index) {
    const DtypeInfo *info = hone_dtype_info(dtype);
    const uint8_t *b = (const uint8_t *)stored + index / info->block * info->block_bytes;
    int e = (int)(index % info->block);
    switch (dtype) {
    case HONE_F32:
        return float_value(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
                           (uint32_t)b[3] << 24);
    case HONE_F16:
        return half_value(b);
    case HONE_BF16:
        return float_value((uint32_t)b[0] << 16 | (uint32_t)b[1] << 24);
    case HONE_Q4_0:
        return half_value(b) * (nibble(b + 2, e) - 8);
    case HONE_Q4_1:
        return half_value(b) * nibble(b + 4, e) + half_value(b + 2);
    case HONE_Q5_0:
        return half_value(b) * (nibble(b + 6, e) + 16 * bit(b + 2, e) - 16);
    case HONE_Q5_1:
        return half_value(b) * (nibble(b + 8, e) + 16 * bit(b + 4, e)) + half_value(b + 2);
    case HONE_Q8_0:
        return half_value(b) * (int8_t)b[2 + e];
    case HONE_Q4_K:
        return k_element(b, NULL, b + 16, e);
    case HONE_Q5_K:
        return k_element(b, b + 16, b + 48, e);
    case HONE_Q6_K:
        return q6_element(b, e);
    case HONE_Q2_K:
        return q2_element(b, e);
    case HONE_Q3_K:
        return q3_element(b, e);
    case HONE_IQ4_NL:
        return half_value(b) * iq4_value(nibble(b + 2, e));
    case HONE_IQ4_XS:
        return iq4_xs_element(b, e);
    case HONE_MXFP4:
        return mxfp4_element(b, e);
    default:
        return (double)NAN;
    }
}
