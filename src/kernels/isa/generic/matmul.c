// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels on vectors of four floats, which every 64-bit processor has.
#include "base/half.h"
#include "kernels/table.h"

#include <string.h>

enum { ROWS = 4, COLUMNS = 8 };

typedef float Vec4 __attribute__((vector_size(16)));

static inline Vec4 load(const float *x) {
    Vec4 v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline void update(float *c, Vec4 sum, const MatmulTile *tile) {
    sum *= tile->alpha;
    if (tile->accumulate) sum += load(c);
    memcpy(c, &sum, sizeof sum);
}

static void tile_4x8(const MatmulTile *tile) {
    const float *a = tile->A, *b = tile->B;
    const int64_t row = tile->a_row;
    Vec4 sum[ROWS][2] = {{{0}}};
    for (int64_t k = 0; k < tile->K; k++, a += tile->a_step, b += tile->b_step) {
        Vec4 b0 = load(b), b1 = load(b + 4);
        for (int r = 0; r < ROWS; r++) {
            sum[r][0] += a[r * row] * b0;
            sum[r][1] += a[r * row] * b1;
        }
    }
    for (int r = 0; r < ROWS; r++) {
        update(tile->C + r * tile->ldc, sum[r][0], tile);
        update(tile->C + r * tile->ldc + 4, sum[r][1], tile);
    }
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void pair_rows(float *x, int64_t K, int64_t width) {
    for (int64_t k = 0; k < K; k += 2)
        for (int64_t j = 0; j < width; j++) {
            const uint32_t first = hone_f32_to_bf16(x[k * width + j]);
            const uint32_t second = k + 1 < K ? hone_f32_to_bf16(x[(k + 1) * width + j]) : 0;
            x[k / 2 * width + j] = float_of(second << 16 | first);
        }
}

static void pack_pairs(const float *x, int64_t stride, int64_t K, int64_t width, float *pairs) {
    for (int64_t k = 0; k < K; k += 2, pairs += width)
        for (int64_t j = 0; j < width; j++) {
            const uint32_t first = hone_f32_to_bf16(x[j * stride + k]);
            const uint32_t second = k + 1 < K ? hone_f32_to_bf16(x[j * stride + k + 1]) : 0;
            pairs[j] = float_of(second << 16 | first);
        }
}

// Products and sums in f32, of values that bf16 holds: what the instructions of other levels do,
// not as fast.
static void tile_4x8_bf16(const MatmulTile *tile) {
    float sum[ROWS][COLUMNS] = {{0}};
    for (int64_t k = 0; k < tile->K; k++)
        for (int r = 0; r < ROWS; r++) {
            const uint32_t a = bits_of(tile->A[r * tile->a_row + k * tile->a_step]);
            for (int c = 0; c < COLUMNS; c++) {
                const uint32_t b = bits_of(tile->B[k * tile->b_step + c]);
                sum[r][c] += float_of(a << 16) * float_of(b << 16) +
                             float_of(a & 0xffff0000u) * float_of(b & 0xffff0000u);
            }
        }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            float *to = tile->C + r * tile->ldc + c;
            *to = (tile->accumulate ? *to : 0) + tile->alpha * sum[r][c];
        }
}

static void pack_4_rows(const float *A, int64_t lda, int64_t K, float *slab) {
    for (int64_t k = 0; k < K; k++)
        for (int r = 0; r < ROWS; r++) slab[k * ROWS + r] = A[r * lda + k];
}

static void pack_8_columns(const float *x, int64_t stride, int64_t K, float *panel) {
    for (int64_t k = 0; k < K; k++)
        for (int j = 0; j < COLUMNS; j++) panel[k * COLUMNS + j] = x[j * stride + k];
}

static void dot_f32(const void *stored, size_t row_bytes, int64_t rows, const float *x, int64_t K,
                    float *y) {
    for (int64_t j = 0; j < rows; j++) {
        const float *w =
            (const float *)(const void *)((const char *)stored + (size_t)j * row_bytes);
        Vec4 sum[4] = {{0}};
        int64_t k = 0;
        for (; k + 16 <= K; k += 16)
            for (int i = 0; i < 4; i++) sum[i] += load(w + k + 4 * i) * load(x + k + 4 * i);
        Vec4 total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        float rest = 0;
        for (; k < K; k++) rest += w[k] * x[k];
        y[j] = ((total[0] + total[1]) + (total[2] + total[3])) + rest;
    }
}

// Eight independent sums of four: a product and a sum each, where there is no fused instruction.
static double peak_work(int64_t steps) {
    typedef float Four __attribute__((vector_size(16)));
    Four sums[8] = {{0}}, x = {1, 1, 1, 1};
    for (int64_t i = 0; i < steps; i++) {
        for (int n = 0; n < 8; n++) sums[n] = sums[n] * x + x;
        __asm__ volatile("" : "+m"(x)); // every turn counts
    }
    Four total = {0};
    for (int n = 0; n < 8; n++) total += sums[n];
    __asm__ volatile("" : : "m"(total));
    return (double)steps * 8 * 4 * 2;
}

void hone_generic_matmul(MatmulTable *table) {
    table->rows = ROWS;
    table->columns = COLUMNS;
    table->peak_work = peak_work;
    table->tile = tile_4x8;
    table->half_tile = NULL;
    table->pack_rows = pack_4_rows;
    table->pack_columns = pack_8_columns;
    table->pair_rows = pair_rows;
    table->pack_pairs = pack_pairs;
    table->tile_bf16 = tile_4x8_bf16;
    for (int dtype = 0; dtype < HONE_DTYPE_LIMIT; dtype++) {
        table->unpack[dtype] = hone_unpack_generic(dtype);
        table->dot[dtype] = 0;
    }
    table->dot[HONE_F32] = dot_f32;
}
