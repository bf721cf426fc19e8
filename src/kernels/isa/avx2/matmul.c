// SPDX-License-Identifier: Apache-2.0
// AVX2 micro-kernels: a register tile of 6 rows by 16 columns, its packing, and dot products.
#include <immintrin.h>

#include "kernels/isa/avx2/matmul_unpack.h"
#include "kernels/isa/avx2/tile.h"
#include "kernels/peak_work.h"
#include "kernels/table.h"

enum { ROWS = 6, COLUMNS = 16 };

// C = [C +] alpha · the sums, a row at a time.
// clang-format off
#define ADD_ROW(low, high)                                                                         \
    "vfmadd213ps (%[c]), %%ymm12, %%ymm" low "\n\t"                                                \
    "vfmadd213ps 32(%[c]), %%ymm12, %%ymm" high "\n\t"                                             \
    STORE_ROW(low, high)
#define SCALE_ROW(low, high)                                                                       \
    "vmulps %%ymm12, %%ymm" low ", %%ymm" low "\n\t"                                               \
    "vmulps %%ymm12, %%ymm" high ", %%ymm" high "\n\t"                                             \
    STORE_ROW(low, high)
#define STORE_ROW(low, high)                                                                       \
    "vmovups %%ymm" low ", (%[c])\n\t"                                                             \
    "vmovups %%ymm" high ", 32(%[c])\n\t"                                                          \
    "add %[ldc], %[c]\n\t"

#define TILE(A, WAYS, way)                                                                         \
    __asm__ volatile(                                                                              \
        TILE_ROWS_6(TILE_CLEAR)                                                                    \
        TILE_LOOP(TILE_STEP_6, A, A##_ADVANCE)                                                     \
        "vbroadcastss %[alpha], %%ymm12\n\t"                                                       \
        "cmpb $0, %[accumulate]\n\t"                                                               \
        "je 7f\n\t"                                                                                \
        TILE_ROWS_6(ADD_ROW)                                                                       \
        "jmp 8f\n"                                                                                 \
        "7:\n\t"                                                                                   \
        TILE_ROWS_6(SCALE_ROW)                                                                     \
        "8:\n\t"                                                                                   \
        : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [fours] "+r"(fours), [ones] "+r"(ones)            \
        : WAYS(way), TILE_B_WAYS(tile->b_step * bytes), [ldc] "rm"(tile->ldc * bytes),             \
          [alpha] "m"(tile->alpha), [accumulate] "m"(tile->accumulate)                             \
        : TILE_CLOBBERS)
// clang-format on

static void tile_6x16(const MatmulTile *tile) {
    const int64_t bytes = sizeof(float);
    const float *a = tile->A, *b = tile->B;
    float *c = tile->C;
    int64_t fours = tile->K / 4, ones = tile->K % 4;
    for (int r = 0; r < ROWS; r++) {
        _mm_prefetch((const char *)(c + r * tile->ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(c + r * tile->ldc + COLUMNS - 1), _MM_HINT_T0);
    }
    if (tile->a_row == 1)
        TILE(A_IN_STEPS, A_IN_STEPS_WAYS, tile->a_step * bytes);
    else
        TILE(A_IN_ROWS, A_IN_ROWS_WAYS, tile->a_row * bytes);
}

// y[i] holds element i of each of the eight x.
static inline void transpose_8x8(const __m256 x[8], __m256 y[8]) {
    __m256 pair[8], quad[8];
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
        quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
        quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
        quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        y[i] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20);
        y[i + 4] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31);
    }
}

// Each row of eight is stored over the last two floats of the one before; the last eight rows go
// one by one, as the memory behind the slab belongs to another thread.
static void pack_6_rows(const float *A, int64_t lda, int64_t K, float *slab) {
    int64_t k = 0;
    for (; k + 8 < K; k += 8) {
        __m256 x[8], y[8];
        for (int r = 0; r < ROWS; r++) x[r] = _mm256_loadu_ps(A + r * lda + k);
        x[6] = x[7] = _mm256_setzero_ps();
        transpose_8x8(x, y);
        for (int i = 0; i < 8; i++) _mm256_storeu_ps(slab + (k + i) * ROWS, y[i]);
    }
    for (; k < K; k++)
        for (int r = 0; r < ROWS; r++) slab[k * ROWS + r] = A[r * lda + k];
}

static void pack_16_columns(const float *x, int64_t stride, int64_t K, float *panel) {
    int64_t k = 0;
    for (; k + 8 <= K; k += 8) {
        for (int half = 0; half < COLUMNS; half += 8) {
            __m256 rows[8], out[8];
            for (int j = 0; j < 8; j++) rows[j] = _mm256_loadu_ps(x + (half + j) * stride + k);
            transpose_8x8(rows, out);
            for (int i = 0; i < 8; i++) _mm256_storeu_ps(panel + (k + i) * COLUMNS + half, out[i]);
        }
    }
    for (; k < K; k++)
        for (int j = 0; j < COLUMNS; j++) panel[k * COLUMNS + j] = x[j * stride + k];
}

HONE_PEAK_WORK(peak_work, "vfmadd231ps", "ymm", 8)

void hone_avx2_matmul(MatmulTable *table) {
    table->rows = ROWS;
    table->columns = COLUMNS;
    table->peak_work = peak_work;
    table->tile = tile_6x16;
    table->pack_rows = pack_6_rows;
    table->pack_columns = pack_16_columns;
    table->pair_rows = NULL; // no such instructions
    table->pack_pairs = NULL;
    table->tile_bf16 = NULL;
    hone_avx2_matmul_unpack(table);
    hone_avx2_matmul_dot(table);
}
