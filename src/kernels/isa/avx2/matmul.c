// SPDX-License-Identifier: Apache-2.0
// AVX2 micro-kernels: a register tile of 6 rows by 16 columns, its packing, and dot products.
#include <immintrin.h>

#include "kernels/isa/avx2/matmul_unpack.h"
#include "kernels/peak_work.h"
#include "kernels/table.h"

enum { ROWS = 6, COLUMNS = 16 };

static inline void update(float *c, __m256 sum, __m256 alpha, bool accumulate) {
    if (accumulate)
        _mm256_storeu_ps(c, _mm256_fmadd_ps(alpha, sum, _mm256_loadu_ps(c)));
    else
        _mm256_storeu_ps(c, _mm256_mul_ps(alpha, sum));
}

#define CLEAR(register) "vxorps %[" #register "], %[" #register "], %[" #register "]\n\t"
#define ROW(address, left, right)                                                                  \
    "vbroadcastss " address ", %[t]\n\t"                                                           \
    "vfmadd231ps %[b0], %[t], %[" #left "]\n\t"                                                    \
    "vfmadd231ps %[b1], %[t], %[" #right "]\n\t"

// 12 sums, 2 of B and 1 of A: 15 of the 16 registers. In assembly because the speed hangs on the
// order of the instructions, and compilers reload, move and spill in such a loop.
static void tile_6x16(const MatmulTile *tile) {
    const char *a = (const char *)tile->A, *b = (const char *)tile->B;
    const int64_t row = tile->a_row * 4, a_step = tile->a_step * 4, b_step = tile->b_step * 4;
    const char *d = a + 3 * row; // row 3
    int64_t k = tile->K, ldc = tile->ldc;
    float *c = tile->C;
    for (int r = 0; r < ROWS; r++) {
        _mm_prefetch((const char *)(c + r * ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(c + r * ldc + COLUMNS - 1), _MM_HINT_T0);
    }
    __m256 c00, c01, c10, c11, c20, c21, c30, c31, c40, c41, c50, c51, b0, b1, t;
    // clang-format off
    __asm__ volatile(
        CLEAR(c00) CLEAR(c01) CLEAR(c10) CLEAR(c11) CLEAR(c20) CLEAR(c21)
        CLEAR(c30) CLEAR(c31) CLEAR(c40) CLEAR(c41) CLEAR(c50) CLEAR(c51)
        ".p2align 5\n"
        "1:\n\t"
        "vmovups (%[b]), %[b0]\n\t"
        "vmovups 32(%[b]), %[b1]\n\t"
        ROW("(%[a])", c00, c01)
        ROW("(%[a],%[row])", c10, c11)
        ROW("(%[a],%[row],2)", c20, c21)
        "add %[a_step], %[a]\n\t"
        "add %[b_step], %[b]\n\t"
        ROW("(%[d])", c30, c31)
        ROW("(%[d],%[row])", c40, c41)
        ROW("(%[d],%[row],2)", c50, c51)
        "add %[a_step], %[d]\n\t"
        "dec %[k]\n\t"
        "jnz 1b\n\t"
        : [a] "+r"(a), [d] "+r"(d), [b] "+r"(b), [k] "+r"(k), [c00] "=&x"(c00), [c01] "=&x"(c01),
          [c10] "=&x"(c10), [c11] "=&x"(c11), [c20] "=&x"(c20), [c21] "=&x"(c21), [c30] "=&x"(c30),
          [c31] "=&x"(c31), [c40] "=&x"(c40), [c41] "=&x"(c41), [c50] "=&x"(c50), [c51] "=&x"(c51),
          [b0] "=&x"(b0), [b1] "=&x"(b1), [t] "=&x"(t)
        : [row] "r"(row), [a_step] "r"(a_step), [b_step] "r"(b_step)
        : "memory", "cc");
    // clang-format on
    const __m256 alpha = _mm256_set1_ps(tile->alpha);
    const bool accumulate = tile->accumulate;
    update(c, c00, alpha, accumulate);
    update(c + 8, c01, alpha, accumulate);
    update(c + ldc, c10, alpha, accumulate);
    update(c + ldc + 8, c11, alpha, accumulate);
    update(c + 2 * ldc, c20, alpha, accumulate);
    update(c + 2 * ldc + 8, c21, alpha, accumulate);
    update(c + 3 * ldc, c30, alpha, accumulate);
    update(c + 3 * ldc + 8, c31, alpha, accumulate);
    update(c + 4 * ldc, c40, alpha, accumulate);
    update(c + 4 * ldc + 8, c41, alpha, accumulate);
    update(c + 5 * ldc, c50, alpha, accumulate);
    update(c + 5 * ldc + 8, c51, alpha, accumulate);
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

HONE_PEAK_WORK(peak_work, "ymm", 8)

void hone_avx2_matmul(MatmulTable *table) {
    table->rows = ROWS;
    table->columns = COLUMNS;
    table->peak_work = peak_work;
    table->tile = tile_6x16;
    table->pack_rows = pack_6_rows;
    table->pack_columns = pack_16_columns;
    hone_avx2_matmul_unpack(table);
    hone_avx2_matmul_dot(table);
}
