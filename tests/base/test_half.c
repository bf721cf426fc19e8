// SPDX-License-Identifier: Apache-2.0
// 16-bit floats: every one of the 65,536, and every rounding boundary between two of them.
#include "base/half.h"
#include "check.h"

// The value of a half by its definition: 1 sign, 5 exponent and 10 fraction bits.
static double half_value(uint32_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 0    ? ldexp(fraction, -24)
                  : exponent == 31 ? (double)(fraction ? NAN : INFINITY)
                                   : ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

static void every_half_widens_exactly(void) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        double want = half_value(bits);
        float got = hone_f16_to_f32((uint16_t)bits);
        if (isnan(want))
            CHECK(isnan(got));
        else
            CHECK((double)got == want && (signbit(got) != 0) == (bits >> 15 != 0));
    }
}

static void every_half_comes_back(void) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t back = hone_f32_to_f16(hone_f16_to_f32((uint16_t)bits));
        if (isnan(half_value(bits)))
            CHECK_INT(back, bits | 0x200); // quiet, with its sign and payload
        else
            CHECK_INT(back, bits);
    }
}

// Rounding is monotonic, so these cases between neighbours decide all floats.
static void halves_round_to_nearest_even(void) {
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        // The neighbour above the largest half stands for infinity: 2^16.
        double low = half_value(bits), high = bits + 1 < 0x7c00 ? half_value(bits + 1) : 65536;
        float middle = (float)((low + high) / 2); // exact: one more bit
        uint32_t even = bits & 1 ? bits + 1 : bits;
        CHECK_INT(hone_f32_to_f16(middle), even);
        CHECK_INT(hone_f32_to_f16(-middle), even | 0x8000);
        CHECK_INT(hone_f32_to_f16(nextafterf(middle, 0)), bits);
        CHECK_INT(hone_f32_to_f16(nextafterf(middle, INFINITY)), bits + 1);
        CHECK_INT(hone_f32_to_f16(-nextafterf(middle, INFINITY)), (bits + 1) | 0x8000);
    }
    CHECK_INT(hone_f32_to_f16(3.4e38f), 0x7c00);
    CHECK_INT(hone_f32_to_f16(-INFINITY), 0xfc00);
    CHECK_INT(hone_f32_to_f16(0x1p-149f), 0);
    CHECK_INT(hone_f32_to_f16(-0x1p-149f), 0x8000);
}

static void every_nan_stays_nan(void) {
    for (uint32_t i = 0; i < 1 << 16; i++) {
        uint32_t fraction = 1 + i * 127; // up to 2^23
        for (uint32_t sign = 0; sign <= 1; sign++) {
            float nan = hone_bits_to_f32(sign << 31 | 0x7f800000u | fraction);
            uint16_t half = hone_f32_to_f16(nan), brain = hone_f32_to_bf16(nan);
            CHECK((half & 0x7fff) > 0x7c00 && half >> 15 == sign);
            CHECK((brain & 0x7fff) > 0x7f80 && brain >> 15 == sign);
        }
    }
}

static void every_bf16_comes_back(void) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float wide = hone_bf16_to_f32((uint16_t)bits);
        CHECK_INT(hone_f32_to_bits(wide), bits << 16);
        CHECK_INT(hone_f32_to_bf16(wide), isnan(wide) ? bits | 0x40 : bits);
    }
}

static void bf16_rounds_to_nearest_even(void) {
    for (uint32_t bits = 0; bits < 0x7f80; bits++) {
        uint32_t middle = bits << 16 | 0x8000, even = bits & 1 ? bits + 1 : bits;
        for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
            CHECK_INT(hone_f32_to_bf16(hone_bits_to_f32(sign << 16 | middle)), sign | even);
            CHECK_INT(hone_f32_to_bf16(hone_bits_to_f32(sign << 16 | (middle - 1))), sign | bits);
            CHECK_INT(hone_f32_to_bf16(hone_bits_to_f32(sign << 16 | (middle + 1))),
                      sign | (bits + 1));
        }
    }
}

int main(void) {
    RUN(every_half_widens_exactly);
    RUN(every_half_comes_back);
    RUN(halves_round_to_nearest_even);
    RUN(every_nan_stays_nan);
    RUN(every_bf16_comes_back);
    RUN(bf16_rounds_to_nearest_even);
    return check_report();
}
