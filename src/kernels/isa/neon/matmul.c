// SPDX-License-Identifier: Apache-2.0
// NEON, which every 64-bit Arm has: a register tile of 6 rows by 16 columns and its packing.
// Unpackers are the generic ones.
#include <string.h>

#include "kernels/isa/neon/tile.h"
#include "kernels/table.h"

enum { ROWS = TILE_ROWS, COLUMNS = 4 * TILE_VECTORS };

static void tile_6x16(const MatmulTile *tile) {
    TileSums sums;
    // With neighbouring rows the compiler reads them by constant offsets.
    if (tile->a_row == 1)
        tile_sums(ROWS, tile->K, tile->A, 1, tile->a_step, tile->B, tile->b_step, sums);
    else
        tile_sums(ROWS, tile->K, tile->A, tile->a_row, 1, tile->B, tile->b_step, sums);
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < TILE_VECTORS; n++) {
            float *c = tile->C + r * tile->ldc + 4 * n;
            float32x4_t y = vmulq_n_f32(sums[r][n], tile->alpha);
            if (tile->accumulate) y = vfmaq_n_f32(vld1q_f32(c), sums[r][n], tile->alpha);
            vst1q_f32(c, y);
        }
}

static void pack_6_rows(const float *A, int64_t lda, int64_t K, float *slab) {
    int64_t k = 0;
    for (; k + 4 <= K; k += 4) {
        float32x4_t x[4], y[4];
        for (int r = 0; r < 4; r++) x[r] = vld1q_f32(A + r * lda + k);
        transpose_4x4(x, y);
        float32x4_t fifth = vld1q_f32(A + 4 * lda + k), sixth = vld1q_f32(A + 5 * lda + k);
        float32x4_t low = vzip1q_f32(fifth, sixth), high = vzip2q_f32(fifth, sixth);
        const float32x2_t last[4] = {vget_low_f32(low), vget_high_f32(low), vget_low_f32(high),
                                     vget_high_f32(high)};
        for (int i = 0; i < 4; i++) {
            vst1q_f32(slab + (k + i) * ROWS, y[i]);
            vst1_f32(slab + (k + i) * ROWS + 4, last[i]);
        }
    }
    for (; k < K; k++)
        for (int r = 0; r < ROWS; r++) slab[k * ROWS + r] = A[r * lda + k];
}

static void pack_16_columns(const float *x, int64_t stride, int64_t K, float *panel) {
    int64_t k = 0;
    for (; k + 4 <= K; k += 4)
        for (int j = 0; j < COLUMNS; j += 4) {
            float32x4_t rows[4], out[4];
            for (int i = 0; i < 4; i++) rows[i] = vld1q_f32(x + (j + i) * stride + k);
            transpose_4x4(rows, out);
            for (int i = 0; i < 4; i++) vst1q_f32(panel + (k + i) * COLUMNS + j, out[i]);
        }
    for (; k < K; k++)
        for (int j = 0; j < COLUMNS; j++) panel[k * COLUMNS + j] = x[j * stride + k];
}

static void dot_f32(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                    float *y) {
    for (int64_t j = 0; j < rows; j++) {
        const float *w =
            (const float *)(const void *)((const char *)stored + (size_t)j * row_bytes);
        float32x4_t sum[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
        int64_t k = 0;
        for (; k + 16 <= K; k += 16)
            for (int i = 0; i < 4; i++)
                sum[i] = vfmaq_f32(sum[i], vld1q_f32(w + k + 4 * i), vld1q_f32(x + k + 4 * i));
        float rest = 0;
        for (; k < K; k++) rest += w[k] * x[k];
        y[j] = vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3]))) + rest;
    }
}

// Twenty-four independent sums: enough for four units of a latency of four, and two of six.
// clang-format off
#define FMA(n) "fmla v" n ".4s, v30.4s, v31.4s\n\t"
static double peak_work(int64_t steps) {
    int64_t left = steps;
    __asm__ volatile(
        "movi v30.4s, #0\n\tmovi v31.4s, #0\n1:\n\t"
        FMA("0") FMA("1") FMA("2") FMA("3") FMA("4") FMA("5") FMA("6") FMA("7")
        FMA("8") FMA("9") FMA("10") FMA("11") FMA("12") FMA("13") FMA("14") FMA("15")
        FMA("16") FMA("17") FMA("18") FMA("19") FMA("20") FMA("21") FMA("22") FMA("23")
        "subs %0, %0, #1\n\tb.ne 1b\n\t"
        : "+r"(left)
        :
        : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
          "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v30",
          "v31");
    return (double)steps * 24 * 4 * 2;
}
// clang-format on

void hone_neon_matmul(MatmulTable *table) {
    table->rows = ROWS;
    table->columns = COLUMNS;
    table->peak_work = peak_work;
    table->tile = tile_6x16;
    table->pack_rows = pack_6_rows;
    table->pack_columns = pack_16_columns;
    table->pair_rows = NULL; // no such instructions
    table->pack_pairs = NULL;
    table->tile_bf16 = NULL;
    table->dot[HONE_F32] = dot_f32;
}
