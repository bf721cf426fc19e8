// SPDX-License-Identifier: Apache-2.0
// The register tile that both products share: sums (rows, 16) of A (rows, K) · B (K, 16), four
// vectors a row. Six rows take 24 of the 32 registers, B four more.
#ifndef HONE_KERNELS_ISA_NEON_TILE_H
#define HONE_KERNELS_ISA_NEON_TILE_H

#include <arm_neon.h>
#include <stdint.h>

enum { TILE_ROWS = 6, TILE_VECTORS = 4 };

typedef float32x4_t TileSums[TILE_ROWS][TILE_VECTORS];

// Element (r,k) of A lies at a[r·row + k·step], row k of B at b + k·ldb. rows is a constant at each
// call.
static inline __attribute__((always_inline)) void tile_sums(int rows, int64_t K, const float *a,
                                                            int64_t row, int64_t step,
                                                            const float *b, int64_t ldb,
                                                            TileSums sums) {
    TileSums s;
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < TILE_VECTORS; n++) s[r][n] = vdupq_n_f32(0);
    for (int64_t k = 0; k < K; k++, a += step, b += ldb) {
        float32x4_t columns[TILE_VECTORS];
#pragma GCC unroll 4
        for (int n = 0; n < TILE_VECTORS; n++) columns[n] = vld1q_f32(b + 4 * n);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            float32x4_t x = vld1q_dup_f32(a + r * row);
#pragma GCC unroll 4
            for (int n = 0; n < TILE_VECTORS; n++) s[r][n] = vfmaq_f32(s[r][n], columns[n], x);
            // No load moves up across this: all six broadcasts at once would spill two sums.
            if (r % 2) __asm__ volatile("" ::: "memory");
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < TILE_VECTORS; n++) sums[r][n] = s[r][n];
}

// Four rows of four, turned.
static inline void transpose_4x4(const float32x4_t x[4], float32x4_t y[4]) {
    float32x4_t a = vzip1q_f32(x[0], x[2]), b = vzip2q_f32(x[0], x[2]);
    float32x4_t c = vzip1q_f32(x[1], x[3]), d = vzip2q_f32(x[1], x[3]);
    y[0] = vzip1q_f32(a, c);
    y[1] = vzip2q_f32(a, c);
    y[2] = vzip1q_f32(b, d);
    y[3] = vzip2q_f32(b, d);
}

#endif
