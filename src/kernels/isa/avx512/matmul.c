// SPDX-License-Identifier: Apache-2.0
// AVX-512: a register tile of 12 rows by 32 columns; what is neither here nor in
// matmul_stored.c and matmul_plain.c is AVX2's.
#include <immintrin.h>

#include "kernels/isa/avx512/matmul_stored.h"
#include "kernels/isa/avx512/transpose.h"
#include "kernels/peak_work.h"
#include "kernels/table.h"

enum { ROWS = 12, COLUMNS = 32 };

static inline void update(float *c, __m512 sum, __m512 alpha, bool accumulate) {
    if (accumulate)
        _mm512_storeu_ps(c, _mm512_fmadd_ps(alpha, sum, _mm512_loadu_ps(c)));
    else
        _mm512_storeu_ps(c, _mm512_mul_ps(alpha, sum));
}

// C (12, 16·vectors): with two, 24 sums, 2 of B and 1 of A take 27 of the 32 registers.
static inline __attribute__((always_inline)) void multiply(const MatmulTile *tile, int vectors) {
    const int64_t row = tile->a_row, a_step = tile->a_step, b_step = tile->b_step;
    const float *a[4], *b = tile->B; // rows 0, 3, 6 and 9: two more are reached by addressing
    for (int i = 0; i < 4; i++) a[i] = tile->A + 3 * i * row;
    __m512 sum[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        _mm_prefetch((const char *)(tile->C + r * tile->ldc), _MM_HINT_T0);
        _mm_prefetch((const char *)(tile->C + r * tile->ldc + 16 * vectors - 1), _MM_HINT_T0);
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < tile->K; k++, b += b_step) {
        __m512 b0 = _mm512_loadu_ps(b), b1 = vectors > 1 ? _mm512_loadu_ps(b + 16) : b0;
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            __m512 value = _mm512_set1_ps(a[r / 3][r % 3 * row]);
            sum[r][0] = _mm512_fmadd_ps(value, b0, sum[r][0]);
            if (vectors > 1) sum[r][1] = _mm512_fmadd_ps(value, b1, sum[r][1]);
            if (r % 3 == 2) a[r / 3] += a_step;
        }
    }
    const __m512 alpha = _mm512_set1_ps(tile->alpha);
    const bool accumulate = tile->accumulate;
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        float *c = tile->C + r * tile->ldc;
        update(c, sum[r][0], alpha, accumulate);
        if (vectors > 1) update(c + 16, sum[r][1], alpha, accumulate);
    }
}

static void tile_12x32(const MatmulTile *tile) {
    multiply(tile, 2);
}

static void tile_12x16(const MatmulTile *tile) {
    multiply(tile, 1);
}

// out (K,width) ← x (width,K) `stride` floats apart, four rows of x and sixteen of K at a time.
static inline void transpose(const float *x, int64_t stride, int64_t K, int width, float *out) {
    int64_t k = 0;
    for (; k + 16 <= K; k += 16) {
        for (int j = 0; j < width; j += 4) {
            __m512 rows[4];
            for (int i = 0; i < 4; i++) rows[i] = _mm512_loadu_ps(x + (j + i) * stride + k);
            store_transposed(rows, width, out + k * width + j);
        }
    }
    for (; k < K; k++)
        for (int j = 0; j < width; j++) out[k * width + j] = x[j * stride + k];
}

static void pack_12_rows(const float *A, int64_t lda, int64_t K, float *slab) {
    transpose(A, lda, K, ROWS, slab);
}

static void pack_32_columns(const float *x, int64_t stride, int64_t K, float *panel) {
    transpose(x, stride, K, COLUMNS, panel);
}

HONE_PEAK_WORK(peak_work, "vfmadd231ps", "zmm", 16)

void hone_avx512_matmul(MatmulTable *table) {
    table->rows = ROWS;
    table->columns = COLUMNS;
    table->peak_work = peak_work;
    table->tile = tile_12x32;
    table->half_tile = tile_12x16;
    table->pack_rows = pack_12_rows;
    table->pack_columns = pack_32_columns;
    hone_avx512_matmul_stored(table);
    hone_avx512_matmul_plain(table);
}
